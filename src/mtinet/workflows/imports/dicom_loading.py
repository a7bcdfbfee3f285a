"""A study's phases from DICOM to memory: identified, read and checked, with what is known of their acquisition."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mtinet.cohort import REFERENCE_ORDER
from mtinet.config import PHASES, Phase
from mtinet.dicom.contained import UnreadableError
from mtinet.dicom.members import open_member
from mtinet.dicom.sources import SourceFile
from mtinet.dicom.study import DicomStudy, DicomVolume
from mtinet.errors import UserError
from mtinet.imaging.resampling import overlap_fraction
from mtinet.results import Finding
from mtinet.volume import Volume
from mtinet.workflows.imports.dicom_phases import ChosenVolume, Overruling, PhaseChoice, choose_phases
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.scrubbing import Scrubber

RECORD_REVISION = 8
"""To be raised whenever the same files would be imported differently."""

MIN_PHASES = 2
"""A study with fewer is left out."""

_LONGEST_S = 3 * 3600.0
_HALF_DAY_S = 43200.0
_DAY_S = 86400.0


@dataclass(frozen=True)
class StudyJob:
    """What one process needs for one study.

    Attributes
    ----------
    out : Path
    study : DicomStudy
    study_id, patient_id : str
        In the cohort.
    series_ids : mapping of str to str
        Name in the records by SeriesInstanceUID.
    keep_ids : bool
    overruling : mapping or None
    masks : tuple of SourceFile
    liver_command : str
        Segments the liver where no mask of it is given; empty = nothing does.
    others : tuple of str
        Names of other patients that are taken out of the study's texts.
    """

    out: Path
    study: DicomStudy
    study_id: str
    patient_id: str
    series_ids: Mapping[str, str]
    keep_ids: bool = False
    overruling: Overruling | None = None
    masks: tuple[SourceFile, ...] = ()
    liver_command: str = ""
    others: tuple[str, ...] = ()

    @property
    def scrubber(self) -> Scrubber:
        """Takes identity out of texts; changes nothing where ids are kept."""
        if self.keep_ids:
            return Scrubber({})
        return Scrubber.of(self.study, self.study_id, self.patient_id, self.series_ids, self.others)

    @property
    def digest(self) -> str:
        """Hash of everything that the study's files depend on."""
        described = {
            "revision": RECORD_REVISION,
            "ids": [self.study_id, self.patient_id, self.keep_ids],
            "volumes": sorted(volume_state(v) for s in self.study.series for v in s.volumes),
            "overruling": self.overruling,
            "liver_command": self.liver_command,
            "others": self.others,
            "masks": [[m.path.name, m.member, file_hash(m.path, m.member)] for m in self.masks],
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class LoadedPhases:
    """The phases of a study in memory, and how they were found.

    Attributes
    ----------
    choice : PhaseChoice
        With the volumes that could not be used among its missing ones.
    images : dict
        Volume by phase, each on its own grid.
    kept : dict
        Where each image was taken from, by phase.
    times_s, offsets_s : dict
        As :func:`phase_times` gives them.
    findings : list of Finding
        Without identity where the job's scrubber takes it out.
    """

    choice: PhaseChoice
    images: dict[Phase, Volume]
    kept: dict[Phase, ChosenVolume]
    times_s: dict[Phase, float]
    offsets_s: dict[Phase, float]
    findings: list[Finding]

    def why_unusable(self, study: DicomStudy) -> dict[str, str] | None:
        """Step and reason for which the study is left out; None where it can be used."""
        return None if len(self.images) >= MIN_PHASES else _why_left_out(study, self.choice)


def load_phases(job: StudyJob) -> LoadedPhases:
    """Identify a study's phases and read their voxels; what cannot be used becomes a finding."""
    scrub = job.scrubber
    findings = [scrub.finding(f, job.study_id) for f in job.study.findings]
    choice = choose_phases(job.study, job.overruling)
    findings += [scrub.finding(f, job.study_id) for f in choice.findings]
    images = _load(job, choice, findings)
    _drop_apart(job, images, choice, findings)
    kept = {phase: choice.chosen[phase] for phase in images}
    times, offsets = phase_times(job.study, kept)
    findings += [replace(f, case=job.study_id) for f in _doubts(kept, times)]
    return LoadedPhases(choice, images, kept, times, offsets, findings)


def _load(job: StudyJob, choice: PhaseChoice, findings: list[Finding]) -> dict[Phase, Volume]:
    """The volumes of the phases; what cannot be read or used is missing, with a finding."""
    images: dict[Phase, Volume] = {}
    for phase, chosen in choice.chosen.items():
        try:
            volume = _usable(chosen)
        except UserError as error:
            # a file may be called by the patient
            told = f"an image {error.why}" if isinstance(error, UnreadableError) else str(error)
            reason = job.scrubber.text(told)
            choice.missing.append({"phase": phase, "reason": reason})
            findings.append(
                import_finding(
                    "phase-left-out",
                    "warning",
                    f"{phase} is left out: {reason}",
                    "Export the series again, or name another one (--phases-json, or --phase-names of predict).",
                    job.study_id,
                )
            )
        else:
            images[phase] = volume
    return {phase: images[phase] for phase in PHASES if phase in images}


def _usable(chosen: ChosenVolume) -> Volume:
    info = chosen.volume.info
    if chosen.volume.refused:
        raise UserError(chosen.volume.refused)
    if info.load is None:
        raise UserError("its voxels cannot be read")
    volume = info.load()
    if not np.isfinite(volume.array).all():
        raise UserError("it has voxels that are NaN or infinite")
    if volume.array.min() == volume.array.max():
        raise UserError(f"every voxel is {volume.array.flat[0]:g}")
    return volume


def _drop_apart(
    job: StudyJob, images: dict[Phase, Volume], choice: PhaseChoice, findings: list[Finding]
) -> None:
    """Leave out phases that show another part of space than the reference phase."""
    reference = next((phase for phase in REFERENCE_ORDER if phase in images), None)
    if reference is None:
        return
    for phase in [p for p in images if p != reference]:
        if overlap_fraction(images[reference], images[phase]) > 0.0:
            continue
        del images[phase]
        reason = f"its field of view does not overlap that of {reference}"
        choice.missing.append({"phase": phase, "reason": reason})
        findings.append(
            import_finding(
                "phase-left-out",
                "warning",
                f"{phase} is left out: {reason}",
                "Name the series of the liver (--phases-json, or --phase-names of predict); look at the geometry of "
                "both in the PACS.",
                job.study_id,
            )
        )


def phase_times(
    study: DicomStudy, chosen: Mapping[Phase, ChosenVolume]
) -> tuple[dict[Phase, float], dict[Phase, float]]:
    """When the phases were acquired, where the files say so.

    Returns
    -------
    times_s : dict
        Seconds from the start of the injection (ContrastBolusStartTime) to the acquisition; only where both
        are known, unambiguous and plausible.
    offsets_s : dict
        Seconds from the earliest phase with a known time.
    """
    told = {p: c.series.info.acquired_s(c.volume.info) for p, c in chosen.items()}
    acquired = {p: time for p, time in told.items() if time is not None}
    # one acquisition time on several volumes is that of the series, not of a phase
    values = list(acquired.values())
    acquired = {p: t for p, t in acquired.items() if values.count(t) == 1}
    if not acquired:
        return {}, {}
    some = min(acquired.values())
    apart = {p: _on_one_day(t - some) for p, t in acquired.items()}
    offsets = {p: round(s - min(apart.values()), 1) for p, s in apart.items()}
    starts = {s.info.agent_start_s for s in study.series if s.info.agent_start_s is not None}
    if len(starts) != 1:
        return {}, offsets
    since = {p: _on_one_day(t - min(starts)) for p, t in acquired.items()}
    plausible = {p: s for p, s in since.items() if -_LONGEST_S < s < _LONGEST_S and (s > 0) == (p != "pre")}
    return {p: round(s, 1) for p, s in plausible.items()}, offsets


def _on_one_day(seconds: float) -> float:
    """A difference of two times of day, for examinations that last past midnight."""
    return (seconds + _HALF_DAY_S) % _DAY_S - _HALF_DAY_S


def _doubts(chosen: Mapping[Phase, ChosenVolume], times: Mapping[Phase, float]) -> list[Finding]:
    findings = []
    if incomparable := [p for p, c in chosen.items() if not c.volume.comparable]:
        findings.append(
            import_finding(
                "enhancement-unverified",
                "warning",
                f"{', '.join(incomparable)}: the private scale slope that makes intensities comparable is not in "
                "the files, so enhancement between phases is unverified",
                "Export again with private attributes, (2005,100E) among them; masks and classes are not affected.",
            )
        )
    if written := [p for p, c in chosen.items() if c.volume.burned_in]:
        findings.append(
            import_finding(
                "burned-in",
                "warning",
                f"{', '.join(written)}: the files say that text is burned into the images, which may name the patient",
                "Look at the images and at all that shows them; if it names somebody, export them without it before "
                "anything made of them is given away.",
            )
        )
    if untimed := [p for p in chosen if p not in times and p != "pre"]:
        findings.append(
            import_finding(
                "time-unknown",
                "note",
                f"the time after injection of {', '.join(untimed)} is not in the files",
                "Nothing to do, or give time_<phase>_s in labels.csv.",
            )
        )
    return findings


def _why_left_out(study: DicomStudy, choice: PhaseChoice) -> dict[str, str]:
    if not study.series or not any(s.volumes for s in study.series):
        return {"step": "images", "reason": "no volume of MR images"}
    if choice.chosen and len(choice.chosen) >= MIN_PHASES:
        return {"step": "volumes", "reason": f"fewer than {MIN_PHASES} phases with usable voxels"}
    return {"step": "phases", "reason": f"fewer than {MIN_PHASES} phases identified"}


def acquisition_of(study: DicomStudy, chosen: Mapping[Phase, ChosenVolume]) -> dict[str, float]:
    """Field, TR, TE, flip angle of the reference phase, and the dose, where known."""
    values: dict[str, float | None] = {"dose_mmol_kg": study.dose_mmol_kg}
    reference = next((chosen[p] for p in REFERENCE_ORDER if p in chosen), None)
    if reference is not None:
        info = reference.volume.info
        values["field_T"] = reference.series.info.field_T
        values["tr_ms"], values["te_ms"] = info.repetition_time_ms, info.echo_time_ms
        values["flip_deg"] = info.flip_angle_deg
    return {name: round(value, 6) for name, value in values.items() if value is not None}


def volume_state(volume: DicomVolume) -> str:
    """What is another text where a volume's files are others, or hold something else under the same UIDs."""
    versions = [(file.size, file.version) for file in volume.files]
    return repr((volume.instance_uids, volume.frame_numbers, volume.refused, versions))


def file_hash(path: Path, member: str = "") -> str:
    """Hash of the content of a file, or of a member of a zip."""
    with open_member(path, member) as stream:
        return hashlib.sha256(stream.read()).hexdigest()
