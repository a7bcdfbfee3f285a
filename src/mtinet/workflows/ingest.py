"""``mtinet import dicom``: from a hospital's DICOM files to a cohort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtinet.cohort import Cohort
from mtinet.dicom.contained import zips_closed
from mtinet.dicom.study import DicomStudy, study_keys
from mtinet.errors import UserError
from mtinet.imaging.liver import check_liver_command
from mtinet.results import Finding
from mtinet.workflows.imports import dicom_folder as folder
from mtinet.workflows.imports.dicom_cohort import cohort_of, findings_of
from mtinet.workflows.imports.dicom_labels import LabelTable
from mtinet.workflows.imports.dicom_loading import StudyJob
from mtinet.workflows.imports.dicom_masks import MaskFolder
from mtinet.workflows.imports.dicom_phases import Overruling, named_volumes, read_overruling
from mtinet.workflows.imports.dicom_study import RECORDS, import_study
from mtinet.workflows.imports.inclusion import Inclusion, InclusionRow, write_inclusion
from mtinet.workflows.imports.mapping import refuse_key_inside
from mtinet.workflows.imports.persons import person_findings
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.scrubbing import names_of_others
from mtinet.workflows.imports.writing import refuse_unsafe
from mtinet.workflows.pool import OnProgress, for_each


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

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the options that bring something into the cohort, as the command line calls them."""
        values = {
            "--labels": self.labels,
            "--masks": self.masks,
            "--phases-json": self.phases,
            "--site": self.site,
            "--name": self.name,
            "--liver-command": self.liver_command,
        }
        return tuple(option for option, value in values.items() if value)


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


@zips_closed()
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
    folder.refuse_foreign(out, options.given)
    refuse_key_inside(out, options.key)
    mapping = None if options.keep_ids else folder.mapping_place(out, options.mapping)
    folder.refuse_unwritable(out, mapping)
    overruling = read_overruling(options.phases)
    table = None if options.labels is None else LabelTable(options.labels)
    masks = None if options.masks is None else MaskFolder(options.masks)
    studies, findings = read_studies(source, on_read)
    if not studies:
        raise no_study(source, findings)
    jobs, names = _jobs(out, studies, options, overruling, masks, table)
    if table is not None:
        table.refuse_foreign(jobs)
    folder.refuse_lost(out, [job.study_id for job in jobs])
    (out / RECORDS).mkdir(parents=True, exist_ok=True)
    records = for_each(import_study, jobs, workers, on_progress)
    inclusion = Inclusion([record["study_id"] for record in records])
    for record in records:
        if record["left_out"]:
            inclusion.leave_out(record["study_id"], record["left_out"]["step"], record["left_out"]["reason"])
    cohort, said = cohort_of(out, records, jobs, table, options.name, options.site)
    said += [] if masks is None else masks.findings()
    persons = person_findings([(job.study, job.study_id, job.patient_id) for job in jobs])
    findings = [*_unused(overruling, jobs), *findings, *persons, *findings_of(records), *said]
    dropped = [] if options.keep_ids else _dropped(studies)
    if mapping is not None:
        folder.add_to_mapping(mapping, jobs)
    write_inclusion(out, inclusion.rows())
    told = {
        "deidentified": not options.keep_ids,
        "options": list(options.given),
        "dropped_attributes": dropped,
        "findings": [
            f.to_dict() for f in folder.without_identity(findings, {job.study_id for job in jobs}, names)
        ],
    }
    folder.write_records(out, told, records)
    folder.write_tables(out, cohort)
    return IngestOutcome(cohort, records, inclusion.rows(), findings, dropped, mapping)


# ---------------------------------------------------------------------- before
def _jobs(
    out: Path,
    studies: Sequence[DicomStudy],
    options: IngestOptions,
    overruling: Mapping[str, Overruling],
    masks: MaskFolder | None,
    table: LabelTable | None,
) -> tuple[list[StudyJob], Callable[[str], str]]:
    """A job a study, in the order of the cohort's ids, and what a study is called by its UID."""
    from mtinet.dicom.deidentify import is_pseudonym

    patient_of, study_of, series_of = _namers(options)
    refuse_unsafe([study_of(study.study_uid) for study in studies])
    jobs = []
    for study, key in zip(studies, study_keys(studies)):
        study_id = study_of(key)
        if key != study.study_uid and options.keep_ids:
            study_id = study_id.replace("/", "-")
        # studies without patient id are not one patient
        patient_id = patient_of(study.patient_id) if study.patient_id.strip() else study_id
        known = (study.patient_id.strip(), patient_id)
        if table is not None and (other := table.other_patient(key, study_id, known)):
            patient_id = other if is_pseudonym(other, "patient") else patient_of(other)
        series_ids = {s.info.series_uid: series_of(s.info.series_uid) for s in study.series}
        named = (overruling[name] for name in (key, study.study_uid, study_id) if name in overruling)
        told = _original_series(next(named, None), series_ids)
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
    if not options.keep_ids:
        names = names_of_others(studies, [[f"{m.path.name} {m.member}" for m in job.masks] for job in jobs])
        jobs = [replace(job, others=others) for job, others in zip(jobs, names, strict=True)]
    return sorted(jobs, key=lambda job: job.study_id), study_of


def _namers(
    options: IngestOptions,
) -> tuple[Callable[[str], str], Callable[[str], str], Callable[[str], str]]:
    """What a patient, a study and a series are called in the cohort."""
    if options.keep_ids:
        return str.strip, str, str
    from mtinet.dicom.deidentify import Pseudonyms

    pseudonyms = Pseudonyms.open(options.key)
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
    known.update(study_keys([job.study for job in jobs]))
    return [
        import_finding(
            "phases-without-study",
            "warning",
            f"--phases-json has an entry for a study that the source lacks: {key}",
            "Name the study by its StudyInstanceUID or by its study_id in the cohort.",
        )
        for key in overruling
        if key not in known
    ]


# ---------------------------------------------------------------------- after
def _dropped(studies: Sequence[DicomStudy]) -> list[str]:
    """What the files hold of the profile's attributes, with the number of files."""
    from mtinet.dicom.deidentify import dropped_attributes

    counts: Counter[int] = Counter()
    for study in studies:
        counts.update(study.profile_tags)
    return [str(item) for item in dropped_attributes(counts)]
