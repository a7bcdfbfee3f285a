"""The folder of a cohort that is imported from DICOM: what may be written into it, and the files beside the images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mtinet import files
from mtinet.cohort import Cohort
from mtinet.cohort.tables import study_row
from mtinet.errors import UserError
from mtinet.results import Finding
from mtinet.workflows.imports.dicom_loading import StudyJob, file_hash
from mtinet.workflows.imports.dicom_study import RECORDS
from mtinet.workflows.imports.mapping import MappingRow, mapping_beside, read_mapping, write_mapping
from mtinet.workflows.imports.writing import IMPORT_FILE

IMPORT_FORMAT = 1
"""Version of ``import.json``."""

_TABLES = "tables.json"
_ANOTHER_PLACE = "give --mapping another place"
_NAMING = (
    *("label-without-images", "mask-without-study", "mask-of-several-studies"),
    *("phases-without-study", "dicomdir-missing-files"),
)
"""Findings whose meaning ends, behind a colon, in names that users or files give."""


# ---------------------------------------------------------------------- before
def refuse_foreign(out: Path, given: Sequence[str]) -> None:
    """Refuse a folder that is not ours, or an import that would take out what the one before brought in.

    Parameters
    ----------
    out : Path
    given : sequence of str
        The options of this import that bring something in.

    Raises
    ------
    UserError
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose a folder")
    ours = (out / RECORDS).is_dir()
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise UserError(f"{out} is not empty and no import of DICOM made it; choose a new folder")
    table = out / "cohort.csv"
    if ours and table.is_file() and file_hash(table) not in _hashes(out):
        raise UserError(
            f"{table} was edited since the import; import into another folder (--phases-json and --labels say what "
            "an edit would), or remove the table"
        )
    lacking = [option for option in _given_before(out) if option not in given]
    if ours and lacking:
        raise UserError(
            f"{out} was imported with {', '.join(lacking)}, which this command lacks: what that brought would be "
            "lost; give it again, or import into another folder"
        )


def _given_before(out: Path) -> list[str]:
    """Options of the import that wrote the folder's ``import.json``; none without one."""
    try:
        return list(json.loads((out / IMPORT_FILE).read_text(encoding="utf-8"))["options"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def refuse_unwritable(out: Path, mapping: Path | None) -> None:
    """Refuse places that cannot be written, before hours are spent on what is to lie there.

    Parameters
    ----------
    out : Path
    mapping : Path or None
        The table that tells who is who; None = none is written.

    Raises
    ------
    UserError
    """
    records = out / RECORDS
    places = {
        records if records.is_dir() else out: "choose another folder for the cohort, or correct its rights"
    }
    if mapping is not None:
        places[mapping.parent] = f"{mapping.name} would lie there: {_ANOTHER_PLACE}, or correct its rights"
    for place, repair in places.items():
        try:
            files.try_writing(place)
        except OSError as error:
            raise UserError(
                f"nothing can be written into {place} ({error.strerror or error}); {repair}"
            ) from None


def mapping_place(out: Path, given: Path | None) -> Path:
    """Where it is told who is who: where the user says, or beside the cohort.

    Raises
    ------
    UserError
        It lies inside the cohort, or there is a file of another kind.
    """
    place = given or mapping_beside(out)
    if place.resolve().is_relative_to(out.resolve()):
        raise UserError(f"{place} lies inside the cohort; give --mapping a place apart from it")
    read_mapping(place, _ANOTHER_PLACE)
    return place


def refuse_lost(out: Path, study_ids: Collection[str]) -> None:
    """Refuse to drop studies that an earlier import put into the folder; records of those left out go.

    Raises
    ------
    UserError
    """
    records = [path for path in sorted((out / RECORDS).glob("*.json")) if path.name != _TABLES]
    gone = [path for path in records if path.stem not in study_ids]
    lost = [p.stem for p in gone if not json.loads(p.read_text(encoding="utf-8"))["left_out"]]
    if lost:
        raise UserError(
            f"{out} holds {len(lost)} studies of an earlier import that this one lacks ({', '.join(lost[:5])}): it "
            "would lose them; import into another folder (mtinet import merge puts cohorts together), with the "
            "same source, --key and --keep-ids as before, or remove the folder first"
        )
    for path in gone:
        path.unlink()


def _hashes(out: Path) -> list[str]:
    place = out / RECORDS / _TABLES
    return list(json.loads(place.read_text(encoding="utf-8"))) if place.is_file() else []


# ---------------------------------------------------------------------- after
def without_identity(
    findings: Sequence[Finding], study_ids: Collection[str], study_of: Callable[[str], str]
) -> list[Finding]:
    """Findings as they may be stored: one about a file does not name it, for names of files hold names.

    Parameters
    ----------
    findings : sequence of Finding
    study_ids : collection of str
        What the studies are called in the cohort: what is called by another name is a file.
    study_of : callable
        What a study is called by its UID.
    """
    stored = []
    for number, finding in enumerate(findings, 1):
        case, meaning = finding.case, finding.meaning
        if finding.id in _NAMING:
            # rows and files are called by the ids of the hospital
            meaning = meaning.split(":")[0]
        if case and case not in study_ids:
            if case.replace(".", "").isdecimal():
                case = study_of(case)
            else:
                meaning = meaning.replace(case, "the file").replace(Path(case).name, "the file")
                case = f"file {number}"
        stored.append(replace(finding, meaning=meaning, case=case))
    return stored


def add_to_mapping(place: Path, jobs: Sequence[StudyJob]) -> None:
    """Put the studies of an import into the table that tells who is who; rows of earlier imports stay."""
    rows = read_mapping(place, _ANOTHER_PLACE)
    rows |= {job.study_id: MappingRow.of(job.study, job.study_id, job.patient_id) for job in jobs}
    write_mapping(place, rows.values())


def write_records(out: Path, told: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
    """Write ``import.json``: what is told of the whole import, and how each study was made."""
    entries = {record["study_id"]: _entry(record) for record in records}
    files.write_json(out / IMPORT_FILE, {"schema": IMPORT_FORMAT, **told, "studies": entries})


def write_tables(out: Path, cohort: Cohort) -> None:
    """Write the cohort's tables; ``cohort.csv`` is known again as ours."""
    # the table's hash is noted before the table is there: a stop in between does not make it look edited
    rows = pd.DataFrame([study_row(study, cohort.phases, out) for study in cohort.studies])
    digest = hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()
    files.write_json(out / RECORDS / _TABLES, sorted({*_hashes(out), digest}))
    cohort.write(out)


def _entry(record: Mapping[str, Any]) -> dict[str, Any]:
    """A study in ``import.json``."""
    kept = ("patient_id", "left_out", "phases", "missing", "excluded", "times_s", "mask_phase", "mask_source")
    return {**{name: record[name] for name in kept}, "findings": record["findings"]}
