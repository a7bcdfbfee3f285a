"""``mtinet import dicom``: from a hospital's DICOM files to a cohort."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mtinet import files
from mtinet.cohort import Cohort
from mtinet.cohort.tables import study_row
from mtinet.dicom.study import DicomStudy
from mtinet.errors import UserError
from mtinet.imaging.liver import check_liver_command
from mtinet.results import Finding
from mtinet.workflows.imports.dicom_cohort import cohort_of, findings_of
from mtinet.workflows.imports.dicom_labels import LabelTable
from mtinet.workflows.imports.dicom_masks import MaskFolder
from mtinet.workflows.imports.dicom_phases import Overruling, named_volumes, read_overruling
from mtinet.workflows.imports.dicom_study import RECORDS, StudyJob, import_study
from mtinet.workflows.imports.inclusion import Inclusion, InclusionRow, write_inclusion
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.writing import IMPORT_FILE, refuse_unsafe
from mtinet.workflows.pool import OnProgress, for_each

IMPORT_FORMAT = 1
"""Version of ``import.json``."""

_TABLES = "tables.json"
_NAMING = ("label-without-images", "mask-without-study", "mask-of-several-studies")
"""Findings whose meaning ends, behind a colon, in names that the user gave."""


@dataclass(frozen=True)
class IngestOptions:
    """What the user says about an import.

    Attributes
    ----------
    labels : Path or None
        CSV with ``patient_id`` or ``study_uid``, ``label`` and further columns of ``cohort.csv``.
    masks : Path or None
        Folder with masks: DICOM SEG, RTSTRUCT, or images named by patient or study.
    keep_ids : bool
        Write the original ids.
    key : Path or None
        Secret key of the pseudonyms; None = that of the user, made at first use.
    mapping : Path or None
        Table from pseudonyms to originals; None = beside ``out``, never inside.
    phases : Path or None
        What overrules the identified phases.
    site : str
        Site of all studies.
    name : str
        Name of the cohort; empty = that of the folder.
    liver_command : str
        Program that segments the liver where no mask of it is given
        (:func:`mtinet.imaging.liver.run_liver_command`); empty = none.
    """

    labels: Path | None = None
    masks: Path | None = None
    keep_ids: bool = False
    key: Path | None = None
    mapping: Path | None = None
    phases: Path | None = None
    site: str = ""
    name: str = ""
    liver_command: str = ""


@dataclass(frozen=True)
class IngestOutcome:
    """What an import made.

    Attributes
    ----------
    cohort : Cohort
    studies : list of dict
        The record of every study of the source, in the cohort or left out (an entry of ``import.json``).
    inclusion : tuple of InclusionRow
    findings : list of Finding
    dropped : list of str
        Attributes of the files that were not taken over, with the number of files that have them.
    mapping : Path or None
        Where pseudonyms are told apart.
    """

    cohort: Cohort
    studies: list[dict[str, Any]]
    inclusion: tuple[InclusionRow, ...]
    findings: list[Finding]
    dropped: list[str]
    mapping: Path | None


def ingest(
    source: Path,
    out: Path,
    options: IngestOptions | None = None,
    workers: int | None = None,
    on_read: OnProgress | None = None,
    on_progress: OnProgress | None = None,
) -> IngestOutcome:
    """Make a cohort of DICOM files.

    Every study is read, its phases identified, and its volumes written each on its own grid, one study a
    process at a time.  A study that is complete is kept when the same command is given again, so a broken-off
    import goes on; one whose files or options changed is made anew.

    Parameters
    ----------
    source : Path
        Folder, zip or file.
    out : Path
        New or empty folder, or one that an import of DICOM made.
    options : IngestOptions, optional
    workers : int, optional
        Processes; None = from the machine.
    on_read, on_progress : callable, optional
        Progress of reading headers (files) and of importing (studies).

    Raises
    ------
    UserError
        The folder or an option cannot be used.
    UnusableError
        No study can be used; the message says why.
    """
    from mtinet.dicom.study import no_study, read_studies

    options = options or IngestOptions()
    # what can be wrong with the command is said before the files are read, and before anything is written
    if options.liver_command:
        check_liver_command(options.liver_command)
    _refuse_foreign(out)
    mapping = None if options.keep_ids else _mapping_place(out, options)
    overruling = read_overruling(options.phases)
    table = None if options.labels is None else LabelTable(options.labels)
    masks = None if options.masks is None else MaskFolder(options.masks)
    studies, findings = read_studies(source, on_read)
    if not studies:
        raise no_study(source, findings)
    jobs, names = _jobs(out, studies, options, overruling, masks)
    if table is not None:
        table.refuse_foreign(jobs)
    _refuse_lost(out, jobs)
    (out / RECORDS).mkdir(parents=True, exist_ok=True)
    records = for_each(import_study, jobs, workers, on_progress)
    inclusion = Inclusion([record["study_id"] for record in records])
    for record in records:
        if record["left_out"]:
            inclusion.leave_out(record["study_id"], record["left_out"]["step"], record["left_out"]["reason"])
    cohort, said = cohort_of(out, records, jobs, table, options.name, options.site)
    said += [] if masks is None else masks.findings()
    findings = [*_unused(overruling, jobs), *findings, *findings_of(records), *said]
    dropped = [] if options.keep_ids else _dropped(studies)
    if mapping is not None:
        _write_mapping(mapping, jobs)
    _write(out, cohort, records, inclusion, _without_identity(findings, names), dropped, options)
    return IngestOutcome(cohort, records, inclusion.rows(), findings, dropped, mapping)


# ---------------------------------------------------------------------- before
def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that is not ours: a table that was edited is never overwritten."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose a folder")
    ours = (out / RECORDS).is_dir()
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise UserError(f"{out} is not empty and no import of DICOM made it; choose a new folder")
    table = out / "cohort.csv"
    if ours and table.is_file() and _hash(table) not in _hashes(out):
        raise UserError(
            f"{table} was edited since the import; import into another folder (--phases-json and --labels say what "
            "an edit would), or remove the table"
        )


def _mapping_place(out: Path, options: IngestOptions) -> Path:
    """Where it is told who is who: apart from the cohort."""
    folder = out if out.name else out.resolve()  # the folder that we are in has no name of its own
    place = options.mapping or folder.parent / f"{folder.name}-mapping.csv"
    if place.resolve().is_relative_to(out.resolve()):
        raise UserError(f"{place} lies inside the cohort; give --mapping a place apart from it")
    return place


def _refuse_lost(out: Path, jobs: Sequence[StudyJob]) -> None:
    """Refuse to drop studies that an earlier import put into the folder; records of those left out go."""
    here = {job.study_id for job in jobs}
    gone = [path for path in sorted((out / RECORDS).glob("*.json")) if path.name != _TABLES]
    gone = [path for path in gone if path.stem not in here]
    lost = [p.stem for p in gone if not json.loads(p.read_text(encoding="utf-8"))["left_out"]]
    if lost:
        raise UserError(
            f"{out} holds {len(lost)} studies of an earlier import that this one lacks ({', '.join(lost[:5])}): it "
            "would lose them; import into another folder (mtinet import merge puts cohorts together), with the "
            "same source, --key and --keep-ids as before, or remove the folder first"
        )
    for path in gone:
        path.unlink()


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hashes(out: Path) -> list[str]:
    place = out / RECORDS / _TABLES
    return list(json.loads(place.read_text(encoding="utf-8"))) if place.is_file() else []


def _jobs(
    out: Path,
    studies: Sequence[DicomStudy],
    options: IngestOptions,
    overruling: Mapping[str, Overruling],
    masks: MaskFolder | None,
) -> tuple[list[StudyJob], Callable[[str], str]]:
    """A job a study, in the order of the cohort's ids, and what a SeriesInstanceUID is called."""
    patient_of, study_of, series_of = _namers(options)
    refuse_unsafe([study_of(study.study_uid) for study in studies])
    uids = [study.study_uid for study in studies]
    jobs = []
    for study in studies:
        shared = uids.count(study.study_uid) > 1
        study_id = study_of(f"{study.study_uid}/{study.patient_id}" if shared else study.study_uid)
        if shared and options.keep_ids:
            study_id = study_id.replace("/", "-")
        # studies without patient id are not one patient
        patient_id = patient_of(study.patient_id) if study.patient_id.strip() else study_id
        series_ids = {s.info.series_uid: series_of(s.info.series_uid) for s in study.series}
        told = _original_series(overruling.get(study.study_uid, overruling.get(study_id)), series_ids)
        try:
            named_volumes(study, told)
        except UserError as error:
            raise UserError(f"{options.phases}, study {study_id}: {error}") from None
        more = () if masks is None else masks.of(study, study_id, patient_id)
        jobs.append(
            StudyJob(
                out,
                study,
                study_id,
                patient_id,
                series_ids,
                options.keep_ids,
                told,
                (*study.masks, *more),
                options.liver_command,
            )
        )
    return sorted(jobs, key=lambda job: job.study_id), study_of


def _namers(
    options: IngestOptions,
) -> tuple[Callable[[str], str], Callable[[str], str], Callable[[str], str]]:
    """What a patient, a study and a series are called in the cohort."""
    if options.keep_ids:
        return str.strip, str, str
    from mtinet.dicom.deidentify import Pseudonyms

    key = options.key or Path.home() / ".config" / "mtinet" / "pseudonyms.key"
    pseudonyms = Pseudonyms.open(key)
    return pseudonyms.patient, pseudonyms.study, pseudonyms.uid


def _original_series(told: Overruling | None, series_ids: Mapping[str, str]) -> Overruling | None:
    """An overruling that names series as ``import.json`` does, in the UIDs of the files."""
    if told is None:
        return None
    uids = {name: uid for uid, name in series_ids.items()}
    return {
        phase: None
        if entry is None
        else {
            "series_uid": uids.get(str(entry.get("series_uid")), entry.get("series_uid")),
            "series": entry.get("series", ""),
            "volume": entry.get("volume", 0),
        }
        for phase, entry in told.items()
    }


def _unused(overruling: Mapping[str, Overruling], jobs: Sequence[StudyJob]) -> list[Finding]:
    known = {key for job in jobs for key in (job.study_id, job.study.study_uid)}
    return [
        import_finding(
            "phases-without-study",
            "warning",
            "--phases-json has an entry for a study that the source lacks",
            "Name the study by its StudyInstanceUID or by its study_id in the cohort.",
            key,
        )
        for key in overruling
        if key not in known
    ]


# ---------------------------------------------------------------------- after
def _without_identity(findings: Sequence[Finding], study_of: Callable[[str], str]) -> list[Finding]:
    """Findings as they may be stored: one about a file does not name it, for names of files hold names."""
    stored = []
    for number, finding in enumerate(findings, 1):
        case = finding.case
        if finding.id in _NAMING:
            # rows and files are called by the ids of the hospital
            stored.append(replace(finding, meaning=finding.meaning.split(":")[0]))
        elif case and case == Path(case).name and case.replace(".", "").isdecimal():
            stored.append(replace(finding, case=study_of(case)))
        elif case and ("/" in case or "\\" in case or "." in case):
            meaning = finding.meaning.replace(case, "the file").replace(Path(case).name, "the file")
            stored.append(replace(finding, meaning=meaning, case=f"file {number}"))
        else:
            stored.append(finding)
    return stored


def _dropped(studies: Sequence[DicomStudy]) -> list[str]:
    """What the files hold of the profile's attributes, with the number of files."""
    from mtinet.dicom.deidentify import dropped_attributes

    counts: Counter[int] = Counter()
    for study in studies:
        counts.update(study.profile_tags)
    return [str(item) for item in dropped_attributes(counts)]


def _write_mapping(place: Path, jobs: Sequence[StudyJob]) -> None:
    """The table that tells who is who, readable by its owner only; rows of earlier imports stay."""
    columns = (
        "study_id",
        "patient_id",
        "original_patient_id",
        "patient_name",
        "study_uid",
        "study_date",
        "accession",
    )
    rows: dict[str, dict[str, str]] = {}
    if place.is_file():
        with place.open(encoding="utf-8", newline="") as lines:
            rows = {row["study_id"]: row for row in csv.DictReader(lines) if row.get("study_id")}
    for job in jobs:
        study = job.study
        values = (
            job.study_id,
            job.patient_id,
            study.patient_id,
            study.patient_name,
            study.study_uid,
            study.study_date,
            study.accession,
        )
        rows[job.study_id] = dict(zip(columns, values, strict=True))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows[study_id] for study_id in sorted(rows))
    with files.atomic_path(place) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(text.getvalue(), encoding="utf-8")
        temporary.chmod(0o600)


def _write(
    out: Path,
    cohort: Cohort,
    records: Sequence[Mapping[str, Any]],
    inclusion: Inclusion,
    findings: Sequence[Finding],
    dropped: Sequence[str],
    options: IngestOptions,
) -> None:
    write_inclusion(out, inclusion.rows())
    entries = {record["study_id"]: _entry(record) for record in records}
    files.write_json(
        out / IMPORT_FILE,
        {
            "schema": IMPORT_FORMAT,
            "deidentified": not options.keep_ids,
            "dropped_attributes": list(dropped),
            "studies": entries,
            "findings": [f.to_dict() for f in findings],
        },
    )
    # the table's hash is noted before the table is there: a stop in between does not make it look edited
    rows = pd.DataFrame([study_row(study, cohort.phases, out) for study in cohort.studies])
    digest = hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()
    files.write_json(out / RECORDS / _TABLES, sorted({*_hashes(out), digest}))
    cohort.write(out)


def _entry(record: Mapping[str, Any]) -> dict[str, Any]:
    """A study in ``import.json``."""
    kept = ("patient_id", "left_out", "phases", "missing", "excluded", "times_s", "mask_phase", "mask_source")
    return {**{name: record[name] for name in kept}, "findings": record["findings"]}
