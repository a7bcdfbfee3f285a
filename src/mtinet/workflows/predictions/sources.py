"""From what a user gives to studies that can be predicted: DICOM, NIfTI folders, cohorts, and mixtures.

Finding the studies is quick and reads no voxel; each is read when its turn comes, and can then fail alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

from mtinet.cohort import Cohort, Study
from mtinet.config import PHASES, Phase
from mtinet.dicom.origin import Origin
from mtinet.dicom.study import DicomStudy
from mtinet.errors import UnusableError, UserError
from mtinet.results import Finding
from mtinet.volume import read_nifti
from mtinet.workflows.imports.dicom_loading import StudyJob, acquisition_of, load_phases
from mtinet.workflows.imports.dicom_phases import Overruling
from mtinet.workflows.imports.writing import refuse_unsafe

OTHER_BODY_PARTS = (
    *("HEAD", "BRAIN", "SKULL", "FACE", "NECK", "SPINE", "CSPINE", "TSPINE", "LSPINE", "BREAST", "HEART"),
    *("SHOULDER", "ELBOW", "WRIST", "HAND", "HIP", "KNEE", "ANKLE", "FOOT", "EXTREMITY", "LEG", "ARM"),
    "PROSTATE",
)
"""Body parts (BodyPartExamined) that hold no liver."""


ABOUT_THE_EXPORT = frozenset({"localizer", "mixed-orientation", "duplicate-file", "colour"})
"""Notes on files that are read past: of an import they matter, a result does not depend on them."""


@dataclass(frozen=True)
class Case:
    """A study in memory.

    Attributes
    ----------
    study : Study
        Its images are loaded.
    origin : Origin or None
        The DICOM instances that it came from.
    findings : tuple of Finding
        What reading it found, without identity.
    liver : Path or None
        The liver's outline where the study did not bring it, and it was drawn for the result.
    """

    study: Study
    origin: Origin | None = None
    findings: tuple[Finding, ...] = ()
    liver: Path | None = None


class Job(Protocol):
    """A study that waits for its turn."""

    @property
    def study_id(self) -> str:
        """Its name in results: never a patient's."""

    @property
    def folders(self) -> frozenset[Path]:
        """Where its own files lie; no result goes there."""

    def fingerprint(self) -> str:
        """Hash of everything that its result depends on, but the model."""

    def read(self) -> Case:
        """Read it; a ``UserError`` says why that is impossible."""


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
        There is no study, or ``phase_names`` does not fit the source.
    """
    told = dict(phase_names or {})
    if (source / "cohort.csv").is_file():
        if told:
            raise UserError("--phase-names is for studies; a cohort names the phases in its columns")
        cohort = Cohort.read(source)
        studies = [replace(study, agent=study.agent or cohort.agent) for study in cohort.studies]
        refuse_unsafe(study.study_id for study in studies)
        of_cohort = tuple(NiftiJob(study, (origins or {}).get(study.study_id)) for study in studies)
        return Source(of_cohort, several=True, has_instances=bool(origins))
    folders = sorted(p for p in source.iterdir() if p.is_dir()) if source.is_dir() else []
    if source.is_dir() and _holds_nifti(source, told):
        inner = [folder.name for folder in folders if _holds_nifti(folder, told)]
        return Source((FolderJob(source, told),), several=False, findings=_not_looked_at(source, inner))
    found: list[Job] = [FolderJob(folder, told) for folder in folders if _holds_nifti(folder, told)]
    dicom, findings = _dicom_jobs(source, told, key)
    if not found and not dicom:
        details = "".join(
            f"\n- {f.case + ': ' if f.case else ''}{f.meaning}. {f.action}" for f in findings[:10]
        )
        raise UnusableError(
            f"{source} holds no study: neither <phase>.nii.gz files (phases: {', '.join(PHASES)}), nor DICOM "
            f"images, nor a cohort.csv; give the folder of a study, or one of several{details}"
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


# ---------------------------------------------------------------------- NIfTI
@dataclass(frozen=True)
class NiftiJob:
    """A study of a cohort."""

    study: Study
    origin: Origin | None = None

    @property
    def study_id(self) -> str:
        """As in the cohort."""
        return self.study.study_id

    @property
    def folders(self) -> frozenset[Path]:
        """Where images and masks lie."""
        return frozenset(path.resolve().parent for path in self.study.paths().values())

    def fingerprint(self) -> str:
        """Hash of the files' content and of what is known about the study."""
        study = self.study
        known = [study.study_id, study.times_s, study.agent, study.acquisition, study.mask_phase]
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
        for column, path in sorted(study.paths().items()):
            digest.update(column.encode() + _content(path))
        return digest.hexdigest()

    def read(self) -> Case:
        """The study with its images in memory."""
        images = {phase: read_nifti(path) for phase, path in self.study.images.items()}
        times, findings = _trusted(self.study.times_s, self.study_id)
        return Case(replace(self.study, loaded=images, times_s=times), self.origin, findings)


@dataclass(frozen=True)
class FolderJob:
    """A folder with ``<phase>.nii.gz`` files."""

    folder: Path
    told: Mapping[str, str]

    @property
    def study_id(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def folders(self) -> frozenset[Path]:
        """The folder."""
        return frozenset({self.folder.resolve()})

    def fingerprint(self) -> str:
        """Hash of the files' content and of what the user says about phases."""
        said = json.dumps(dict(self.told), sort_keys=True)
        return hashlib.sha256((said + NiftiJob(self._study()).fingerprint()).encode()).hexdigest()

    def read(self) -> Case:
        """The study with its images in memory."""
        return NiftiJob(self._study()).read()

    def _study(self) -> Study:
        if not self.told:
            return Study.from_folder(self.folder)
        images = {p: path for p in PHASES if (path := _file(self.folder, p)) is not None}
        taken = {name: _named_file(self.folder, name, value) for name, value in self.told.items()}
        named = {path for path in taken.values() if path is not None}
        # a file has one phase: what it is called is overruled
        images = {p: path for p, path in images.items() if path not in named and p not in taken}
        images |= {cast("Phase", name): path for name, path in taken.items() if path is not None}
        if not images:
            raise UserError(f"{self.folder}: --phase-names leaves no phase; name at least one")
        ordered = {phase: images[phase] for phase in PHASES if phase in images}
        return Study(self.study_id, ordered, liver_mask=_file(self.folder, "liver_mask"))


def _file(folder: Path, name: str) -> Path | None:
    """A NIfTI file by its name with or without suffix; a DICOM file may be called ``4`` and is none."""
    suffixes = ("",) if name.lower().endswith((".nii.gz", ".nii")) else (".nii.gz", ".nii")
    return next((p for s in suffixes if (p := folder / (name + s)).is_file()), None)


def _named_file(folder: Path, phase: str, name: str) -> Path | None:
    if not name:
        return None
    path = _file(folder, name)
    if path is None or Path(name).name != name:
        raise UserError(
            f"{folder}: --phase-names {phase}={name} names no file there; give its name without folder"
        )
    return path


def _holds_nifti(folder: Path, told: Mapping[str, str]) -> bool:
    return any(_file(folder, name) is not None for name in (*PHASES, *filter(None, told.values())))


def _trusted(times_s: Mapping[Phase, float], study_id: str) -> tuple[dict[Phase, float], tuple[Finding, ...]]:
    """The phases' times, or none and a finding where they do not rise in the order of the phases."""
    rising = [times_s[phase] for phase in PHASES if phase in times_s]
    if rising == sorted(rising):
        return dict(times_s), ()
    return {}, (
        Finding(
            "times-contradict",
            "predict",
            "warning",
            "the times of the phases after injection do not rise in their order, so they are not used",
            "Compare the images with the names of their phases; name them with --phase-names, or correct "
            "time_<phase>_s in the cohort.",
            study_id,
        ),
    )


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return b"unreadable"


# ---------------------------------------------------------------------- DICOM
@dataclass(frozen=True)
class DicomJob:
    """A study of DICOM files; ids of study and patient are pseudonyms."""

    study: DicomStudy
    study_id: str
    patient_id: str
    told: Mapping[str, str]

    @property
    def folders(self) -> frozenset[Path]:
        """Where its files lie; those in a zip lie in no folder."""
        files = (
            one.file
            for series in self.study.series
            for volume in series.volumes
            for one in getattr(volume.info.load, "slices", ())
        )
        parents = {file.path.parent for file in files if not file.member}
        return frozenset(folder.resolve() for folder in parents)

    def fingerprint(self) -> str:
        """Hash of the instances, of their files' sizes and times, and of what the user says about phases."""
        digest = hashlib.sha256(json.dumps(dict(self.told), sort_keys=True).encode())
        for series in self.study.series:
            for volume in series.volumes:
                digest.update(repr((volume.instance_uids, volume.frame_numbers, volume.refused)).encode())
                for one in getattr(volume.info.load, "slices", ()):
                    stat = one.file.path.stat()
                    digest.update(repr((one.file.size, stat.st_size, stat.st_mtime_ns)).encode())
        return digest.hexdigest()

    def read(self) -> Case:
        """Identify the phases and read their voxels."""
        job = StudyJob(
            Path(),
            self.study,
            self.study_id,
            self.study_id,
            {s.info.series_uid: f"series {s.info.series_number}" for s in self.study.series},
            overruling=_overruling(self.told, self.study),
        )
        scrub = job.scrubber
        if not self.told:
            _refuse_other_body_part(self.study, self.study_id)
        try:
            loaded = load_phases(job)
        except UserError as error:
            raise UnusableError(f"study {self.study_id}: {scrub.text(str(error))}") from None
        left_out = loaded.why_unusable(self.study)
        if left_out is not None:
            missing = [f"{item['phase']}: {item['reason']}" for item in scrub.plain(loaded.choice.missing)]
            faults = [f"{f.meaning}" for f in loaded.findings if f.severity == "error"]
            raise UnusableError(
                f"study {self.study_id}: {'; '.join([left_out['reason'], *faults, *missing])}. "
                "Look at mtinet phases, and name the series with --phase-names"
            )
        times, contradicted = _trusted(loaded.times_s, self.study_id)
        study = Study(
            self.study_id,
            {p: Path(f"series-{c.series.info.series_number}") for p, c in loaded.kept.items()},
            patient_id=self.patient_id,
            times_s=times,
            agent=scrub.text(self.study.agent),
            acquisition=acquisition_of(self.study, loaded.kept),
            loaded=loaded.images,
        )
        origin = Origin({phase: chosen.volume for phase, chosen in loaded.kept.items()})
        findings = [f for f in loaded.findings if f.id not in ABOUT_THE_EXPORT]
        return Case(study, origin, (*findings, *contradicted))


@dataclass(frozen=True)
class RefusedJob:
    """A study that is not to be read, and why."""

    study_id: str
    reason: str

    @property
    def folders(self) -> frozenset[Path]:
        """None: nothing is written for it."""
        return frozenset()

    def fingerprint(self) -> str:
        """Nothing is read of it."""
        return ""

    def read(self) -> Case:
        """Raise the reason."""
        raise UnusableError(self.reason)


def _dicom_jobs(source: Path, told: Mapping[str, str], key: Path | None) -> tuple[list[Job], list[Finding]]:
    from mtinet.dicom.deidentify import Pseudonyms
    from mtinet.dicom.study import read_studies

    studies, findings = read_studies(source)
    if not studies:
        return [], findings
    pseudonyms = Pseudonyms.open(key)
    by_uid: dict[str, list[DicomStudy]] = {}
    for study in studies:
        by_uid.setdefault(study.study_uid, []).append(study)
    jobs: list[Job] = []
    for uid, members in by_uid.items():
        study_id = pseudonyms.study(uid)
        if len(members) > 1:
            jobs.append(
                RefusedJob(
                    study_id,
                    f"study {study_id}: its images are filed under {len(members)} patient ids; find out whose "
                    "they are, correct the files and predict again",
                )
            )
        else:
            (study,) = members
            # without an id a patient is known by the study alone
            patient = pseudonyms.patient(study.patient_id) if study.patient_id.strip() else study_id
            jobs.append(DicomJob(study, study_id, patient, told))
    return sorted(jobs, key=lambda job: job.study_id), findings


def _overruling(told: Mapping[str, str], study: DicomStudy) -> Overruling | None:
    """What the user says in the form that the import takes."""
    if not told:
        return None
    uids = {series.info.series_uid for series in study.series}
    overruling: dict[str, Any] = {}
    for phase, value in told.items():
        series, _, volume = value.partition(":")
        if volume and not volume.isdecimal():
            raise UserError(
                f"--phase-names {phase}={value}: {volume!r} is not the number of a volume, from 0"
            )
        named = {"series_uid": series} if series in uids else {"series": series}
        overruling[phase] = {**named, "volume": int(volume or 0)} if value else None
    return overruling


def _refuse_other_body_part(study: DicomStudy, study_id: str) -> None:
    parts = {series.info.body_part.strip().upper() for series in study.series if series.volumes} - {""}
    if parts and parts <= set(OTHER_BODY_PARTS):
        raise UnusableError(
            f"study {study_id}: its images say that they show {', '.join(sorted(parts))}, not the liver; if "
            "that is wrong, name the phases with --phase-names"
        )
