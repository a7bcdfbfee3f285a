"""From what a user gives to studies that can be predicted: DICOM, NIfTI folders, cohorts, and mixtures.

Finding the studies is quick and reads no voxel; each is read when its turn comes, and can then fail alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtinet.cohort import Cohort, nifti_files
from mtinet.config import PHASES
from mtinet.dicom.origin import Origin
from mtinet.errors import UnusableError, UserError
from mtinet.results import Finding
from mtinet.workflows.imports.writing import refuse_unsafe
from mtinet.workflows.predictions.dicom_jobs import dicom_jobs
from mtinet.workflows.predictions.jobs import Job
from mtinet.workflows.predictions.nifti_jobs import FolderJob, NiftiJob, holds_nifti


@dataclass(frozen=True)
class Source:
    """The studies of a source.

    Attributes
    ----------
    jobs : tuple of Job
    several : bool
        Results go into a folder a study.
    findings : tuple of Finding
        About what belongs to no study.  They may name files, so they are shown and never stored.
    has_instances : bool
        Whether results can be written as DICOM.
    """

    jobs: tuple[Job, ...]
    several: bool
    findings: tuple[Finding, ...] = ()
    has_instances: bool = False


def open_source(
    source: Path,
    phase_names: Mapping[str, str] | None = None,
    key: Path | None = None,
    origins: Mapping[str, Origin] | None = None,
) -> Source:
    """Find the studies in a source.

    Parameters
    ----------
    source : Path
        A cohort; a folder with ``<phase>.nii.gz`` files; a folder or zip of DICOM files; or a folder of such
        folders.
    phase_names : mapping of str to str, optional
        What the user says about phases: by phase the series (number or SeriesInstanceUID, ``:k`` behind it
        for its k-th volume from 0) or the NIfTI file's name; empty = the study lacks the phase.
    key : Path, optional
        Secret key of the studies' pseudonyms; None = the user's own.
    origins : mapping of str to Origin, optional
        By study of a cohort the DICOM instances that it came from.

    Raises
    ------
    UserError
        The source does not exist or holds no study, or ``phase_names`` does not fit it.
    """
    if not source.exists():
        raise UserError(
            f"{source} does not exist; give the folder or zip of a study, the folder of several, or a cohort"
        )
    told = dict(phase_names or {})
    if (source / "cohort.csv").is_file():
        if told:
            raise UserError("--phase-names is for studies; a cohort names the phases in its columns")
        cohort = Cohort.read(source)
        refuse_unsafe(study.study_id for study in cohort.studies)
        of_cohort = tuple(NiftiJob(study, (origins or {}).get(study.study_id)) for study in cohort.studies)
        return Source(of_cohort, several=True, has_instances=bool(origins))
    folders = sorted(p for p in source.iterdir() if p.is_dir()) if source.is_dir() else []
    if source.is_dir() and holds_nifti(source, told):
        inner = [folder.name for folder in folders if holds_nifti(folder, told)]
        return Source((FolderJob(source, told),), several=False, findings=_not_looked_at(source, inner))
    found: list[Job] = [FolderJob(folder, told) for folder in folders if holds_nifti(folder, told)]
    dicom, findings = dicom_jobs(source, told, key)
    if not found and not dicom:
        strange = ", ".join(path.name for path in nifti_files(source)) if source.is_dir() else ""
        named = f"; if one of {strange} is a phase, say which with --phase-names" if strange else ""
        details = "".join(
            f"\n- {f.case + ': ' if f.case else ''}{f.meaning}. {f.action}" for f in findings[:10]
        )
        raise UnusableError(
            f"{source} holds no study: neither <phase>.nii.gz files (phases: {', '.join(PHASES)}), nor DICOM "
            f"images, nor a cohort.csv; give the folder of a study, or one of several{named}{details}"
        )
    jobs = (*found, *dicom)
    return Source(jobs, len(jobs) > 1, tuple(findings), has_instances=bool(dicom))


def _not_looked_at(source: Path, inner: Sequence[str]) -> tuple[Finding, ...]:
    """That studies in a study's folder are left alone."""
    if not inner:
        return ()
    return (
        Finding(
            "studies-in-study",
            "predict",
            "warning",
            f"it holds images of phases itself, so the studies in its folders {', '.join(inner)} are not predicted",
            "Move the images into a folder of their own, or give the folder of one study.",
            source.name,
        ),
    )


def parse_phase_names(text: str | None) -> dict[str, str]:
    """The phases in ``pre=4,arterial=5:1,delayed=``.

    Raises
    ------
    UserError
    """
    told: dict[str, str] = {}
    for part in (text or "").split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not part.strip():
            continue
        if not equals or name not in PHASES or name in told:
            raise UserError(
                f"--phase-names: {part.strip()!r} is not PHASE=SERIES, each phase once; phases are "
                f"{', '.join(PHASES)}, for example --phase-names pre=4,arterial=5:0,portal_venous=5:1"
            )
        told[name] = value
    return told
