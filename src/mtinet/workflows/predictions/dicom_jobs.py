"""Studies of DICOM files, and those that are not to be read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtinet.cohort import Study
from mtinet.dicom.origin import Origin
from mtinet.dicom.study import DicomStudy
from mtinet.errors import UnusableError, UserError
from mtinet.results import Finding, PhaseSource
from mtinet.workflows.imports.dicom_loading import StudyJob, acquisition_of, load_phases, volume_state
from mtinet.workflows.imports.dicom_phases import ChosenVolume, Overruling
from mtinet.workflows.imports.persons import person_findings
from mtinet.workflows.imports.scrubbing import Scrubber, names_of_others
from mtinet.workflows.predictions.jobs import Case, Job

OTHER_BODY_PARTS = (
    *("HEAD", "BRAIN", "SKULL", "FACE", "NECK", "SPINE", "CSPINE", "TSPINE", "LSPINE", "BREAST", "HEART"),
    *("SHOULDER", "ELBOW", "WRIST", "HAND", "HIP", "KNEE", "ANKLE", "FOOT", "EXTREMITY", "LEG", "ARM"),
    "PROSTATE",
)
"""Body parts (BodyPartExamined) that hold no liver."""

SURE = 0.8
"""Confidence of a phase above which it should hardly ever be wrong (docs/phases.md)."""

ABOUT_THE_EXPORT = frozenset({"localizer", "mixed-orientation", "duplicate-file", "colour", "time-unknown"})
"""Notes that only an import is given: on files that are read past, and on times, whose lack a result tells by itself
(``no-times``, and the reasons of its measurements)."""


@dataclass(frozen=True)
class DicomJob:
    """A study of DICOM files; ids of study and patient are pseudonyms, and ``others`` names that its texts hold.

    ``series_ids`` has the pseudonym of each series by its SeriesInstanceUID: what it is called by where its number is
    blank, or that of another series too.
    """

    study: DicomStudy
    study_id: str
    patient_id: str
    told: Mapping[str, str]
    series_ids: Mapping[str, str]
    others: tuple[str, ...] = ()

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
                digest.update(volume_state(volume).encode())
        # what is said of the study lacks these names
        digest.update("".join(self.others).encode())
        return digest.hexdigest()

    def read(self) -> Case:
        """Identify the phases and read their voxels."""
        job = StudyJob(
            Path(),
            self.study,
            self.study_id,
            self.study_id,
            self.series_ids,
            overruling=_overruling(self.told, self.series_ids),
            others=self.others,
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
        study = Study(
            self.study_id,
            {p: Path(f"series-{self._called(c)}") for p, c in loaded.kept.items()},
            patient_id=self.patient_id,
            times_s=loaded.times_s,
            agent=scrub.text(self.study.agent),
            acquisition=acquisition_of(self.study, loaded.kept),
            loaded=loaded.images,
        )
        origin = Origin({phase: chosen.volume for phase, chosen in loaded.kept.items()})
        findings = [f for f in loaded.findings if f.id not in ABOUT_THE_EXPORT]
        sources = {str(phase): self._source(chosen, scrub) for phase, chosen in loaded.kept.items()}
        said = (*findings, *doubtful_phases(sources, self.study_id))
        return Case(study, origin, said, sources=sources)

    def _source(self, chosen: ChosenVolume, scrub: Scrubber) -> PhaseSource:
        return PhaseSource(
            scrub.text(self._called(chosen)),
            chosen.volume.info.index,
            len(chosen.series.volumes),
            chosen.confidence,
            tuple(scrub.text(words) for words in chosen.evidence),
        )

    def _called(self, chosen: ChosenVolume) -> str:
        """A series as ``--phase-names`` takes it: its number where that is its own, else its pseudonym."""
        info = chosen.series.info
        alone = [s.info.series_number for s in self.study.series].count(info.series_number) == 1
        return info.series_number if info.series_number and alone else self.series_ids[info.series_uid]


@dataclass(frozen=True)
class RefusedJob:
    """A study that is not to be read, and why; ``studies`` are its parts, one a patient."""

    study_id: str
    reason: str
    studies: tuple[DicomStudy, ...] = ()

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


def dicom_jobs(source: Path, told: Mapping[str, str], key: Path | None) -> tuple[list[Job], list[Finding]]:
    """The studies of a folder or zip of DICOM files, and what was found on the way."""
    from mtinet.dicom.deidentify import Pseudonyms
    from mtinet.dicom.study import read_studies

    studies, findings = read_studies(source)
    if not studies:
        return [], findings
    pseudonyms = Pseudonyms.open(key)
    by_uid: dict[str, list[tuple[DicomStudy, tuple[str, ...]]]] = {}
    for study, others in zip(studies, names_of_others(studies), strict=True):
        by_uid.setdefault(study.study_uid, []).append((study, others))
    jobs: list[Job] = []
    for uid, members in by_uid.items():
        study_id = pseudonyms.study(uid)
        if len(members) > 1:
            jobs.append(
                RefusedJob(
                    study_id,
                    f"study {study_id}: its images are filed under {len(members)} patient ids; find out whose "
                    "they are, correct the files and predict again",
                    tuple(study for study, _ in members),
                )
            )
        else:
            ((study, others),) = members
            # without an id a patient is known by the study alone
            patient = pseudonyms.patient(study.patient_id) if study.patient_id.strip() else study_id
            series_ids = {s.info.series_uid: pseudonyms.uid(s.info.series_uid) for s in study.series}
            jobs.append(DicomJob(study, study_id, patient, told, series_ids, others))
    jobs.sort(key=lambda job: job.study_id)
    read = [(job.study, job.study_id, job.patient_id) for job in jobs if isinstance(job, DicomJob)]
    persons = [replace(finding, stage="predict") for finding in person_findings(read)]
    return jobs, [*findings, *persons]


def doubtful_phases(sources: Mapping[str, PhaseSource], study_id: str) -> list[Finding]:
    """The finding that names the phases that may be another, with series and confidence; none without any.

    Parameters
    ----------
    sources : mapping of str to PhaseSource
        By phase.
    study_id : str
    """
    unsure = {phase: source for phase, source in sources.items() if source.confidence < SURE}
    if not unsure:
        return []
    told = [
        f"{phase} from series {source.name}, {source.confidence:.3g} ({'; '.join(source.evidence)})"
        for phase, source in unsure.items()
    ]
    first = next(iter(unsure))
    return [
        Finding(
            "phase-doubtful",
            "predict",
            "warning",
            f"images that may be of another phase (confidence below {SURE:g}): {', '.join(told)}",
            f"Look at them; where one is wrong, predict again with --phase-names {first}=SERIES (5:1 is the second "
            f"volume of series 5, and {first}= says that the study lacks the phase).",
            study_id,
            value=min(source.confidence for source in unsure.values()),
            threshold=SURE,
        )
    ]


def _overruling(told: Mapping[str, str], series_ids: Mapping[str, str]) -> Overruling | None:
    """What the user says in the form that the import takes; series by number, UID or pseudonym."""
    if not told:
        return None
    uids = {name: uid for uid, known in series_ids.items() for name in (uid, known)}
    overruling: dict[str, Any] = {}
    for phase, value in told.items():
        series, _, volume = value.partition(":")
        if volume and not volume.isdecimal():
            raise UserError(
                f"--phase-names {phase}={value}: {volume!r} is not the number of a volume, from 0"
            )
        named = {"series_uid": uids[series]} if series in uids else {"series": series}
        overruling[phase] = {**named, "volume": int(volume or 0)} if value else None
    return overruling


def _refuse_other_body_part(study: DicomStudy, study_id: str) -> None:
    parts = {series.info.body_part.strip().upper() for series in study.series if series.volumes} - {""}
    if parts and parts <= set(OTHER_BODY_PARTS):
        raise UnusableError(
            f"study {study_id}: its images say that they show {', '.join(sorted(parts))}, not the liver; if "
            "that is wrong, name the phases with --phase-names"
        )
