"""One study from DICOM to the cohort's files, and the record of how that was done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mtinet import files
from mtinet.cohort import REFERENCE_ORDER
from mtinet.config import PHASES, Phase
from mtinet.errors import UserError
from mtinet.imaging.liver import LiverCommandError, run_liver_command
from mtinet.results import Finding
from mtinet.volume import Volume
from mtinet.workflows.imports.dicom_loading import StudyJob, acquisition_of, file_hash, load_phases
from mtinet.workflows.imports.dicom_masks import StudyMasks, read_study_masks
from mtinet.workflows.imports.dicom_phases import ChosenVolume
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.scrubbing import Scrubber

RECORDS = ".imported"
"""Folder of one JSON file a finished study, written after its images: a broken-off import goes on."""

LIVER_FAILED = "liver-not-segmented"


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
    record["masks"] = {name: file_hash(job.out / record["files"][name]) for name in _drawn(record)}
    if any(finding["id"] == LIVER_FAILED for finding in record["findings"]):
        # the program may work the next time: the study is then not taken as it is
        record["digest"] = ""
    files.write_json(place, record)
    return record


def _drawn(record: Mapping[str, Any]) -> list[str]:
    """The masks among a study's files."""
    return [name for name in ("mask", "liver_mask") if name in record["files"]]


def _refuse_edited(job: StudyJob, record: Mapping[str, Any]) -> None:
    """Refuse to write over a mask that somebody has corrected where the import put it."""
    for name in _drawn(record):
        path = job.out / record["files"][name]
        if path.is_file() and record.get("masks", {}).get(name, file_hash(path)) != file_hash(path):
            raise UserError(
                f"{path} was edited since the import, and what the study is imported from has changed: it would be "
                "overwritten; move it elsewhere (into the --masks folder, in the place of the old mask) and import "
                "again"
            )


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
    written = _write(job, images, masks) if usable else _write(job, {}, StudyMasks())
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


def _write(job: StudyJob, images: Mapping[Phase, Volume], masks: StudyMasks) -> dict[str, str]:
    """Write what the study has, in the place of what it had; paths in the cohort by name."""
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
