"""The cohort's tables on disk: ``cohort.yaml``, ``cohort.csv`` and ``lesions.csv``.

Every cell is read as text, so that the id ``007`` and the class ``NO`` survive; blanks around it go.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pandas as pd
import yaml

from mtinet.cohort.findings import Findings
from mtinet.cohort.study import ACQUISITION, NO_LESION, Study
from mtinet.config import PHASES, Phase
from mtinet.results import UNNAMED

COHORT_FORMAT = 1
"""Version of the cohort's tables; readers refuse a newer one."""

SNOMED_CT: dict[str, str] = {
    "hemangioma": "400210000",
    "hcc": "25370001",
    "fnh": "278527001",
    "metastasis": "94381002",
    "icc": "109842005",
    "cyst": "85057007",
    "abscess": "27916005",
}
"""Canonical classes with the SNOMED CT code of each."""

_TEXT = (
    "study_id",
    "patient_id",
    "site",
    "label",
    "mask",
    "mask_phase",
    "mask_source",
    "liver_mask",
    "mask_2",
    "agent",
    "prior_study_id",
)


def read_description(folder: Path, findings: Findings) -> dict[str, Any] | None:
    """Content of ``cohort.yaml``, every scalar as text; None when it cannot be used."""
    path = folder / "cohort.yaml"
    if not path.is_file():
        findings.add(
            "no-description",
            "error",
            f"{path} does not exist",
            "Give the folder of a cohort (mtinet import and simulate make one), or write name, classes and phases into "
            "it (docs/cohort.md).",
        )
        return None
    try:
        # BaseLoader keeps every scalar as text: an id 007 or a class NO must survive
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    except yaml.YAMLError as error:
        findings.add("bad-description", "error", f"cohort.yaml is not YAML: {error}", "Correct it.")
        return None
    if not isinstance(loaded, dict):
        findings.add(
            "bad-description",
            "error",
            "cohort.yaml holds no names",
            "Write name, classes and phases (docs/cohort.md).",
        )
        return None
    if loaded.get("format", "1") not in [str(known) for known in range(1, COHORT_FORMAT + 1)]:
        findings.add(
            "newer-format",
            "error",
            f"cohort format {loaded['format']!r} is not one that this mtinet reads (up to {COHORT_FORMAT})",
            "Update mtinet.",
        )
        return None
    return loaded


def read_classes(given: Any, findings: Findings) -> tuple[tuple[str, ...], dict[str, str]]:
    """Classes in their order, and the SNOMED CT code of those that have one."""
    if isinstance(given, Mapping):
        codes = {str(name): str(code or "") for name, code in given.items()}
    else:
        names = given.split(",") if isinstance(given, str) else given
        codes = {name: SNOMED_CT.get(name, "") for name in (str(item).strip() for item in names)}
    if not codes:
        findings.add(
            "no-classes",
            "error",
            "cohort.yaml lists no classes",
            "List them, for example classes: [hemangioma, hcc].",
        )
    if NO_LESION in codes:
        findings.add(
            "none-is-no-class",
            "error",
            f"cohort.yaml lists {NO_LESION!r} among the classes, which is the label of a study without a lesion",
            "Remove it from the classes; it may stand in the column label all the same.",
        )
    for name, code in codes.items():
        # the class of a cohort that has none is ours, and has no code
        if not code and name != NO_LESION and tuple(codes) != UNNAMED:
            findings.add(
                "no-code",
                "note",
                f"class {name!r} of cohort.yaml has no SNOMED CT code",
                "Write it there as 'name: code' to export DICOM.",
            )
    return tuple(codes), {name: code for name, code in codes.items() if code}


def read_phases(given: Any, findings: Findings) -> tuple[Phase, ...]:
    """Phases in their order, each once."""
    listed = Counter(str(phase) for phase in given)
    for phase, count in listed.items():
        if phase not in PHASES:
            findings.add(
                "unknown-phase",
                "error",
                f"cohort.yaml lists the phase {phase!r}",
                f"Valid: {', '.join(PHASES)}.",
            )
        elif count > 1:
            findings.add(
                "repeated-phase",
                "error",
                f"cohort.yaml lists the phase {phase!r} {count} times",
                "List every phase once.",
            )
    return cast("tuple[Phase, ...]", tuple(listed))


def read_table(
    path: Path, findings: Findings, required: tuple[str, ...] = ("study_id",)
) -> pd.DataFrame | None:
    """Table of a CSV file, every cell as text without blanks around it; None when it cannot be used."""
    if not path.is_file():
        findings.add(
            "no-table", "error", f"{path} does not exist", "Write a row a study into it (docs/cohort.md)."
        )
        return None
    try:
        header = _header(path)
        table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        table.columns = table.columns.str.strip()
        # blanks that nobody sees would make two patients of one
        table = table.apply(lambda column: column.str.strip())
    except (csv.Error, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        findings.add(
            "bad-table",
            "error",
            f"{path.name} is not a CSV table in UTF-8: {error}",
            "Save it again as CSV (UTF-8).",
        )
        return None
    if len(header) == 1 and (other := next((c for c in ";\t" if c in header[0]), "")):
        findings.add(
            "bad-table",
            "error",
            f"the cells of {path.name} are separated by {other!r}",
            "Save it as CSV with commas (UTF-8).",
        )
        return None
    for column, count in Counter(header).items():
        if column and count > 1:
            findings.add(
                "duplicate-column",
                "error",
                f"{path.name} has {count} columns named {column!r}",
                "Keep the one that holds, or rename the others.",
            )
    absent = [column for column in required if column not in table.columns]
    if absent:
        findings.add("no-column", "error", f"{path.name} lacks the column {', '.join(absent)}", "Add it.")
        return None
    return table


def _header(path: Path) -> list[str]:
    """Names of the columns without the blanks around them; pandas renames the second of two alike."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return [name.strip() for name in next((row for row in csv.reader(lines) if row), [])]


def read_study(row: Mapping[Any, str], phases: tuple[Phase, ...], folder: Path, findings: Findings) -> Study:
    """The study of a row of ``cohort.csv``; its paths are relative to ``folder`` unless absolute."""
    case = row["study_id"]

    def number(column: str) -> float | None:
        text = row.get(column, "")
        try:
            value = float(text) if text else None
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            findings.add(
                "not-a-number",
                "error",
                f"{column} is {text!r}",
                "Write a number or leave the cell empty.",
                case,
            )
            return None
        return value

    def path(column: str) -> Path | None:
        text = row.get(column, "")
        return folder / text if text else None

    return Study(
        study_id=case,
        patient_id=row.get("patient_id", ""),
        site=row.get("site", ""),
        label=row.get("label", ""),
        images={phase: found for phase in phases if (found := path(phase)) is not None},
        mask=path("mask"),
        mask_phase=row.get("mask_phase", ""),
        liver_mask=path("liver_mask"),
        mask_2=path("mask_2"),
        times_s={phase: value for phase in phases if (value := number(f"time_{phase}_s")) is not None},
        agent=row.get("agent", ""),
        acquisition={name: value for name in ACQUISITION if (value := number(name)) is not None},
        prior_study_id=row.get("prior_study_id", ""),
        mask_source=row.get("mask_source", ""),
    )


def unused_columns(columns: Iterable[str]) -> list[str]:
    """Those that are no column of ``cohort.csv``."""
    known = {*_TEXT, *PHASES, *(f"time_{p}_s" for p in PHASES), *ACQUISITION}
    return [column for column in columns if column not in known]


def check_columns(table: pd.DataFrame, phases: tuple[Phase, ...], findings: Findings) -> None:
    """Note the columns of ``cohort.csv`` that are not read."""
    for column in unused_columns(table.columns):
        findings.add(
            "unknown-column",
            "note",
            f"column {column!r} of cohort.csv is not used",
            "Correct its name or ignore this.",
        )
    for phase in [p for p in PHASES if p in table.columns and p not in phases]:
        findings.add(
            "unlisted-phase",
            "warning",
            f"column {phase!r} is not among the phases of cohort.yaml and is not read",
            "List it under phases in cohort.yaml.",
        )


def study_row(study: Study, phases: tuple[Phase, ...], folder: Path) -> dict[str, Any]:
    """The row of a study in ``cohort.csv``; paths inside ``folder`` are relative to it."""
    return {
        "study_id": study.study_id,
        "patient_id": study.patient_id,
        "site": study.site,
        "label": study.label,
        **{phase: _stored(study.images.get(phase), folder) for phase in phases},
        "mask": _stored(study.mask, folder),
        "mask_phase": study.mask_phase,
        "mask_source": study.mask_source,
        "liver_mask": _stored(study.liver_mask, folder),
        "mask_2": _stored(study.mask_2, folder),
        **{f"time_{phase}_s": study.times_s.get(phase, "") for phase in phases},
        "agent": study.agent,
        **{name: study.acquisition.get(name, "") for name in ACQUISITION},
        "prior_study_id": study.prior_study_id,
    }


def _stored(path: Path | None, folder: Path) -> str:
    if path is None:
        return ""
    absolute, base = path.absolute(), folder.absolute()
    return absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else str(absolute)
