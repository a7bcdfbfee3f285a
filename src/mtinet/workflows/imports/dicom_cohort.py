"""The cohort that imported studies make: its rows, labels and days, and what contradicts itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtinet.cohort import Cohort, Study, structural_findings
from mtinet.config import DEFAULT_PHASES, PHASES
from mtinet.errors import UnusableError, UserError
from mtinet.results import UNNAMED, Finding
from mtinet.workflows.imports.dicom_labels import LabelTable, label_findings
from mtinet.workflows.imports.dicom_loading import StudyJob
from mtinet.workflows.imports.labels import classes_of, with_row
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.writing import used_phases


def cohort_of(
    out: Path,
    records: Sequence[Mapping[str, Any]],
    jobs: Sequence[StudyJob],
    table: LabelTable | None,
    name: str = "",
    site: str = "",
) -> tuple[Cohort, list[Finding]]:
    """The cohort of the studies that remain, and what its tables' making found.

    Parameters
    ----------
    out : Path
        Folder of the cohort.
    records : sequence of dict
        What importing each study gave, in the order of ``jobs``.
    jobs : sequence of StudyJob
    table : LabelTable or None
    name, site : str
        Name of the cohort, empty = that of the folder; site of all studies.

    Raises
    ------
    UnusableError
        No study remains.
    UserError
        The cohort would have errors.
    """
    days = _days(jobs)
    studies: list[Study] = []
    without: list[str] = []
    contradicted: list[Finding] = []
    for job, record in zip(jobs, records, strict=True):
        row = None if table is None else table.row(job.study, job.study_id, job.patient_id)
        if record["left_out"]:
            continue
        study = _study(out, record, site, days.get(job.study_id))
        if row is not None and table is not None:
            study = with_row(study, row)
        elif table is not None:
            without.append(job.study_id)
        rising = [study.times_s[p] for p in PHASES if p in study.times_s]
        if rising != sorted(rising):
            study = replace(study, times_s={})
            contradicted.append(_times_contradict(study.study_id))
        studies.append(study)
    if not studies:
        reasons = sorted({record["left_out"]["reason"] for record in records})
        details = "".join(f"\n- {f.case}: {f.meaning}. {f.action}" for f in findings_of(records)[:10])
        raise UnusableError(f"no study can be used ({'; '.join(reasons)}){details}")
    studies, said = _with_priors(studies, jobs)
    said += contradicted if table is None else [*contradicted, *label_findings(table, without)]
    classes = classes_of([study.label for study in studies])
    cohort = Cohort(
        name=name or out.resolve().name,
        studies=tuple(studies),
        classes=classes or UNNAMED,
        phases=tuple(p for p in PHASES if p in used_phases(studies) or p in DEFAULT_PHASES),
        folder=out,
    )
    errors = [f for f in structural_findings(cohort) if f.severity == "error"]
    if errors:
        lines = "".join(f"\n- {f.case + ': ' if f.case else ''}{f.meaning}. {f.action}" for f in errors)
        raise UserError(f"the import would make a cohort with errors:{lines}")
    return cohort, said


def _with_priors(studies: Sequence[Study], jobs: Sequence[StudyJob]) -> tuple[list[Study], list[Finding]]:
    """Studies whose prior one bears its id in the cohort; one that the cohort lacks is left empty."""
    here = {study.study_id for study in studies}
    ids = {job.study.study_uid: job.study_id for job in jobs}
    named, findings = [], []
    for study in studies:
        prior = ids.get(study.prior_study_id, study.prior_study_id)
        if prior and prior not in here:
            prior = ""
            findings.append(
                import_finding(
                    "prior-unknown",
                    "warning",
                    "the prior study that the labels name is not in the cohort: prior_study_id is left empty",
                    "Name it by its StudyInstanceUID or its study_id, and import it with this one.",
                    study.study_id,
                )
            )
        named.append(replace(study, prior_study_id=prior))
    return named, findings


def _times_contradict(study_id: str) -> Finding:
    return import_finding(
        "times-contradict",
        "warning",
        "the times of the phases do not rise in their order: they are left empty",
        "Compare the phases on qc.html with their times in import.json; correct a phase with --phases-json, or the "
        "times in labels.csv.",
        study_id,
    )


def _study(out: Path, record: Mapping[str, Any], site: str, day: float | None) -> Study:
    paths = {name: out / path for name, path in record["files"].items()}
    mask, liver = paths.pop("mask", None), paths.pop("liver_mask", None)
    return Study(
        study_id=record["study_id"],
        images=paths,
        patient_id=record["patient_id"],
        site=site,
        mask=mask,
        mask_phase=record["mask_phase"] or "",
        liver_mask=liver,
        times_s=dict(record["times_s"]),
        agent=record["agent"],
        acquisition={**record["acquisition"], **({} if day is None else {"study_day": day})},
    )


def _days(jobs: Sequence[StudyJob]) -> dict[str, float]:
    """Days since the patient's first study in the source: an offset, no date."""
    from datetime import datetime

    dates: dict[str, dict[str, int]] = {}
    for job in jobs:
        try:
            day = datetime.strptime(job.study.study_date, "%Y%m%d").date().toordinal()
        except ValueError:
            continue
        dates.setdefault(job.patient_id, {})[job.study_id] = day
    return {
        study_id: float(day - min(of_patient.values()))
        for of_patient in dates.values()
        for study_id, day in of_patient.items()
    }


def findings_of(records: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """The findings about studies, in their order."""
    return [Finding(**finding) for record in records for finding in record["findings"]]
