"""Identify the contrast phases of studies: DICOM files or a table of series in, one answer a study out."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtinet.config import PHASES
from mtinet.dicom.contained import zips_closed
from mtinet.dicom.series import SeriesInfo
from mtinet.errors import UnusableError, UserError
from mtinet.imaging.phases import Identification, identify, identify_files
from mtinet.progress import Advance
from mtinet.results import Finding

SCHEMA = 1
"""Version of the JSON that ``mtinet phases`` writes."""

_TIME = re.compile(r"(\d\d?):(\d\d)(?::(\d\d(?:\.\d+)?))?|(\d\d?)(\d\d)(\d\d(?:\.\d+)?)")
_TIME_BELOW = (24.0, 60.0, 61.0)
"""Hours, minutes and seconds are below; a leap second is the 61st."""

_NEEDED = ("StudyKey", "SeriesInstanceUID", "SeriesDescription", "NumberOfInstances")


@dataclass(frozen=True)
class IdentifiedStudy:
    """The series of a study, and the phases found among them."""

    study_key: str
    series: tuple[SeriesInfo, ...]
    identification: Identification


@zips_closed()
def identify_phases(
    source: Path,
    use_pixels: bool = True,
    on_read: Advance | None = None,
    on_progress: Advance | None = None,
) -> tuple[list[IdentifiedStudy], list[Finding]]:
    """Identify the phases of every study in DICOM files or in a table of series.

    Parameters
    ----------
    source : Path
        A folder or zip of DICOM files, or a CSV with a row a series.
    use_pixels : bool
        Also look at the images, where there are any.
    on_read, on_progress : callable, optional
        Called with what is done and the total of it: files read, studies identified.

    Returns
    -------
    studies : list of IdentifiedStudy
        In the order of their keys.
    findings : list of Finding
        What could not be read.

    Raises
    ------
    UserError
        The source cannot be read; the message names the repair.
    """
    if source.suffix.lower() == ".csv":
        identified, by_key = identify, read_series_table(source)
        findings: list[Finding] = []
    else:
        identified = identify_files
        by_key, findings = _read_dicom(source, on_read)
    found = []
    for number, key in enumerate(sorted(by_key), start=1):
        found.append(IdentifiedStudy(key, tuple(by_key[key]), identified(by_key[key], use_pixels)))
        if on_progress is not None:
            on_progress(number, len(by_key))
    return found, findings


def read_series_table(path: Path) -> dict[str, list[SeriesInfo]]:
    """Series by study key from a CSV; every cell is text, so numbers keep their zeros.

    Raises
    ------
    UserError
        No such file, not a table, a column is absent, a count is not a whole number, or a time is none.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; correct the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnusableError(f"{path} is not a CSV in UTF-8 ({error}); save it again as such") from None
    absent = [column for column in _NEEDED if not rows or column not in rows[0]]
    if absent:
        raise UnusableError(f"{path} lacks the column {', '.join(absent)}, or has no row; add them")
    studies: dict[str, list[SeriesInfo]] = {}
    for line, row in enumerate(rows, start=2):
        cells = {name: (cell or "").strip() for name, cell in row.items() if isinstance(name, str)}
        study = studies.setdefault(cells["StudyKey"], [])
        study.append(_series(cells, path, line, len(study)))
    return studies


def _series(cells: dict[str, str], path: Path, line: int, row: int) -> SeriesInfo:
    count = cells["NumberOfInstances"]
    if not count.isdigit():
        raise UnusableError(f"{path}, line {line}: NumberOfInstances is {count!r}; give a whole number")
    return SeriesInfo(
        study_key=cells["StudyKey"],
        series_uid=cells["SeriesInstanceUID"],
        series_number=cells.get("SeriesNumber", ""),
        description=cells["SeriesDescription"],
        protocol=cells.get("ProtocolName", ""),
        sequence=cells.get("SequenceName", ""),
        study_description=cells.get("StudyDescription", ""),
        body_part=cells.get("BodyPartExamined", ""),
        modality=cells.get("Modality", "MR"),
        manufacturer=cells.get("Manufacturer", ""),
        model=cells.get("ManufacturerModelName", ""),
        n_images=int(count),
        agent=cells.get("ContrastBolusAgent", ""),
        time_s=_time_s(cells, path, line),
        row=row,
    )


def _time_s(cells: dict[str, str], path: Path, line: int) -> float | None:
    """Seconds from midnight of a DICOM time (``101530.25``) or a written one (``10:15:30``, ``10:15``).

    A spreadsheet takes a number's leading zero: five digits are those of a time before ten.
    """
    column = "AcquisitionTime" if cells.get("AcquisitionTime") else "SeriesTime"
    text = cells.get(column, "")
    if not text:
        return None
    match = _TIME.fullmatch(text)
    parts = [float(part) for part in match.groups() if part is not None] if match else []
    if not parts or any(part >= most for part, most in zip(parts, _TIME_BELOW)):
        raise UnusableError(
            f"{path}, line {line}: {column} is {text!r}; write it like 101530.25 or 10:15:30, or leave it empty"
        )
    return sum(part * unit for part, unit in zip(parts, (3600.0, 60.0, 1.0)))


def _read_dicom(source: Path, on_read: Advance | None) -> tuple[dict[str, list[SeriesInfo]], list[Finding]]:
    from mtinet.dicom.study import no_study, read_studies, study_keys

    studies, findings = read_studies(source, on_read)
    if not studies:
        raise no_study(source, findings)
    by_key = {
        key: [series.info for series in study.series] for key, study in zip(study_keys(studies), studies)
    }
    said = dict.fromkeys(finding for study in studies for finding in study.findings)
    return by_key, [*findings, *said]


def to_json(studies: list[IdentifiedStudy]) -> dict[str, Any]:
    """The content of the JSON: ``schema``, and an entry a study."""
    found: dict[str, Any] = {"schema": SCHEMA}
    found.update({study.study_key: study.identification.to_dict() for study in studies})
    return found


def table(study: IdentifiedStudy) -> str:
    """A study's answer for reading: a line a phase with its evidence, what is missing, what was set aside."""
    answer = study.identification
    series = {item.series_uid: item for item in study.series}
    lines = [study.study_key]
    for phase in PHASES:
        choice = answer.phases.get(phase)
        if choice is None:
            continue
        of = f" volume {choice.volume} of {choice.n_volumes}" if choice.n_volumes > 1 else ""
        grid = _grid(series[choice.series_uid], choice.volume)
        lines.append(
            f"  {phase:<14} {choice.confidence:4.2f}  series {choice.series_number or choice.series_uid}{of}{grid}"
        )
        lines += [f"      {text}" for text in choice.evidence]
    lines += [f"  {item.phase:<14}  --   missing: {item.reason}" for item in answer.missing]
    if answer.excluded:
        lines.append("  set aside")
        lines += [
            f"    series {item.series_number or item.series_uid:<5} {item.description[:40]:<40} {item.reason}"
            for item in answer.excluded
        ]
    return "\n".join(lines)


def _grid(series: SeriesInfo, volume: int) -> str:
    """The grid of a volume, where it is known."""
    grid = next((v.grid for v in series.volumes if v.index == volume), None)
    if grid is None:
        return ""
    shape = "x".join(str(n) for n in grid.shape)
    return f", {shape} at {'x'.join(f'{mm:.2f}' for mm in grid.spacing_mm)} mm"
