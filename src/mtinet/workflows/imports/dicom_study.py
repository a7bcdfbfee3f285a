"""One study from DICOM to the cohort's files, and the record of how that was done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtinet import files
from mtinet.cohort import REFERENCE_ORDER
from mtinet.config import PHASES, Phase
from mtinet.dicom.study import DicomStudy
from mtinet.errors import UserError
from mtinet.imaging.liver import LiverCommandError, run_liver_command
from mtinet.imaging.resampling import overlap_fraction
from mtinet.results import Finding
from mtinet.volume import Volume
from mtinet.workflows.imports.dicom_masks import StudyMasks, read_study_masks
from mtinet.workflows.imports.dicom_phases import (
    ChosenVolume,
    Overruling,
    PhaseChoice,
    choose_phases,
)
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.scrubbing import Scrubber

RECORDS = ".imported"
"""Folder of one JSON file a finished study, written after its images: a broken-off import goes on."""

RECORD_REVISION = 2
"""To be raised whenever the same files would be imported differently."""

MIN_PHASES = 2
LIVER_FAILED = "liver-not-segmented"

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
    masks : tuple of Path
    liver_command : str
        Segments the liver where no mask of it is given; empty = nothing does.
    """

    out: Path
    study: DicomStudy
    study_id: str
    patient_id: str
    series_ids: Mapping[str, str]
    keep_ids: bool = False
    overruling: Overruling | None = None
    masks: tuple[Path, ...] = ()
    liver_command: str = ""

    @property
    def scrubber(self) -> Scrubber:
        """Takes identity out of texts; changes nothing where ids are kept."""
        if self.keep_ids:
            return Scrubber({})
        return Scrubber.of(self.study, self.study_id, self.patient_id, self.series_ids)

    @property
    def digest(self) -> str:
        """Hash of everything that the study's files depend on."""
        described = {
            "revision": RECORD_REVISION,
            "ids": [self.study_id, self.patient_id, self.keep_ids],
            "series": sorted(
                [s.info.series_uid, v.info.index, list(v.instance_uids), list(v.frame_numbers), v.refused]
                for s in self.study.series
                for v in s.volumes
            ),
            "overruling": self.overruling,
            "liver_command": self.liver_command,
            "masks": [[p.name, _hash(p)] for p in self.masks],
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def import_study(job: StudyJob) -> dict[str, Any]:
    """A study's record, from disk where the study is complete; else its images and masks are written first."""
    place = job.out / RECORDS / f"{job.study_id}.json"
    digest = job.digest
    if place.is_file():
        record = dict(json.loads(place.read_text(encoding="utf-8")))
        if record["digest"] == digest and all((job.out / p).is_file() for p in record["files"].values()):
            return record
        _refuse_edited(job, record)
        place.unlink()
    record = {"digest": digest, **_import(job)}
    record["masks"] = {name: _hash(job.out / record["files"][name]) for name in _drawn(record)}
    if any(finding["id"] == LIVER_FAILED for finding in record["findings"]):
        # the program may work the next time: the study is then not taken as it is
        record["digest"] = ""
    files.write_json(place, record)
    return record


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _drawn(record: Mapping[str, Any]) -> list[str]:
    """The masks among a study's files."""
    return [name for name in ("mask", "liver_mask") if name in record["files"]]


def _refuse_edited(job: StudyJob, record: Mapping[str, Any]) -> None:
    """Refuse to write over a mask that somebody has corrected where the import put it."""
    for name in _drawn(record):
        path = job.out / record["files"][name]
        if path.is_file() and record.get("masks", {}).get(name, _hash(path)) != _hash(path):
            raise UserError(
                f"{path} was edited since the import, and what the study is imported from has changed: it would be "
                "overwritten; move it elsewhere (into the --masks folder, in the place of the old mask) and import "
                "again"
            )


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


def _import(job: StudyJob) -> dict[str, Any]:
    scrub = job.scrubber
    loaded = load_phases(job)
    choice, images, kept, findings = loaded.choice, loaded.images, loaded.kept, loaded.findings
    masks = read_study_masks(job.masks, job.study, kept, images) if images else StudyMasks()
    findings += [scrub.finding(f, job.study_id) for f in masks.findings]
    if masks.source and not job.keep_ids:
        masks.source = scrub.text(masks.source)
    left_out = loaded.why_unusable(job.study)
    usable = left_out is None
    written = _write(job, images, masks) if usable else {}
    liver_phase = _segment_liver(job, written, masks, findings) if usable else ""
    return {
        "study_id": job.study_id,
        "patient_id": job.patient_id,
        "left_out": left_out,
        "files": written,
        "mask_phase": masks.phase if usable and (masks.lesions or masks.liver) else liver_phase,
        "mask_source": masks.source,
        "times_s": loaded.times_s,
        "agent": scrub.text(job.study.agent),
        "acquisition": acquisition_of(job.study, kept),
        "phases": {phase: _phase_entry(phase, kept, images, loaded.offsets_s, scrub) for phase in PHASES},
        "missing": scrub.plain(choice.missing),
        "excluded": scrub.plain(choice.excluded),
        "findings": [f.to_dict() for f in findings],
    }


def _load(job: StudyJob, choice: PhaseChoice, findings: list[Finding]) -> dict[Phase, Volume]:
    """The volumes of the phases; what cannot be read or used is missing, with a finding."""
    images: dict[Phase, Volume] = {}
    for phase, chosen in choice.chosen.items():
        try:
            volume = _usable(chosen)
        except UserError as error:
            reason = job.scrubber.text(str(error))
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
    acquired = {p: c.volume.info.time_s for p, c in chosen.items() if c.volume.info.time_s is not None}
    # one acquisition time on several volumes is that of the series, not of a phase
    values = list(acquired.values())
    acquired = {p: t for p, t in acquired.items() if values.count(t) == 1}
    if not acquired:
        return {}, {}
    first = min(acquired.values())
    offsets = {p: round(_on_one_day(t - first), 1) for p, t in acquired.items()}
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


def _write(job: StudyJob, images: Mapping[Phase, Volume], masks: StudyMasks) -> dict[str, str]:
    volumes: dict[str, Volume] = {str(phase): volume for phase, volume in images.items()}
    if masks.lesions is not None:
        volumes["mask"] = masks.lesions
    if masks.liver is not None:
        volumes["liver_mask"] = masks.liver
    paths = {name: f"images/{job.study_id}/{name}.nii.gz" for name in volumes}
    for stale in (job.out / "images" / job.study_id).glob("*.nii.gz"):
        stale.unlink()
    for name, volume in volumes.items():
        volume.write_nifti(job.out / paths[name])
    return paths


def _segment_liver(job: StudyJob, written: dict[str, str], masks: StudyMasks, findings: list[Finding]) -> str:
    """Let the user's program draw the liver where no mask of it is given; the phase that it was drawn on.

    The mask joins ``written``.
    """
    if not job.liver_command or "liver_mask" in written:
        return ""
    drawn_on = masks.phase if masks.lesions is not None else None
    phase = str(drawn_on or next(p for p in REFERENCE_ORDER if p in written))
    name = f"images/{job.study_id}/liver_mask.nii.gz"
    try:
        run_liver_command(job.liver_command, job.out / written[phase], job.out / name)
    except LiverCommandError as error:
        findings.append(
            import_finding(
                LIVER_FAILED,
                "warning",
                f"the liver was not segmented: {error}",
                "Mend the command and give it again: studies with a liver mask are kept as they are.",
                job.study_id,
            )
        )
        return ""
    written["liver_mask"] = name
    return phase


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


def _phase_entry(
    phase: Phase,
    chosen: Mapping[Phase, ChosenVolume],
    images: Mapping[Phase, Volume],
    offsets: Mapping[Phase, float],
    scrub: Scrubber,
) -> dict[str, Any] | None:
    if phase not in chosen:
        return None
    choice, image = chosen[phase], images[phase]
    info = choice.series.info
    return {
        "series": info.series_number,
        "series_uid": scrub.text(info.series_uid),
        "volume": choice.volume.info.index,
        "n_volumes": len(choice.series.volumes),
        "confidence": round(choice.confidence, 3),
        "evidence": [scrub.text(text) for text in choice.evidence],
        "description": scrub.text(info.description),
        "grid": {"shape": list(image.shape), "spacing_mm": [round(mm, 4) for mm in image.spacing_mm]},
        "offset_s": offsets.get(phase),
        "comparable": choice.volume.comparable,
    }
