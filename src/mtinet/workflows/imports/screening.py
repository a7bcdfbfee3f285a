"""What of a study can be used: damaged files are left out one by one, with their reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mtinet.cohort import MAX_LESIONS, NO_LESION, Study
from mtinet.config import Phase
from mtinet.imaging.checks import StudyLook, look_at
from mtinet.results import Finding, Severity
from mtinet.volume import SNAP_VOXELS, Volume, VolumeError, grid_distance_mm, read_geometry, read_nifti


def import_finding(id: str, severity: Severity, meaning: str, action: str, case: str = "") -> Finding:
    """A finding of the stage ``import``."""
    return Finding(id, "import", severity, meaning, action, case)


@dataclass(frozen=True)
class Screened:
    """A study without its damaged files.

    Attributes
    ----------
    study : Study or None
        None = nothing of it can be used.
    findings : tuple of Finding
        What was left out of it, and why.
    step, reason : str
        Where and why the whole study is left out; the reason does not name the study.
    look : StudyLook or None
        What of it is compared with other studies; None where nothing of it can be used.
    """

    study: Study | None
    findings: tuple[Finding, ...]
    step: str = ""
    reason: str = ""
    look: StudyLook | None = None


def screen(study: Study) -> Screened:
    """Read every file of a study and drop what cannot be used.

    An image that cannot be read, has voxels that are not finite or is constant is dropped as a phase; a mask
    that is damaged or off its image's grid is dropped as a mask (a header copied over would move the lesion).
    What remains passes the checks of a single study without error, or the study is left out.
    """
    findings: list[Finding] = []
    images: dict[Phase, Path] = {}
    for phase, path in study.images.items():
        fault = image_fault(path)
        if fault:
            findings.append(
                import_finding(
                    "phase-left-out",
                    "warning",
                    f"{phase} is left out: {fault}",
                    "Import again when it is mended; until then the phase is missing.",
                    study.study_id,
                )
            )
        else:
            images[phase] = path
    if not images:
        return Screened(None, tuple(findings), "phases", "no phase with a usable image")
    if study.mask_phase and study.mask_phase not in images:
        findings.append(_mask_left_out("mask", f"its phase {study.mask_phase} is missing", study.study_id))
        study = replace(study, mask=None, liver_mask=None, mask_2=None, mask_phase="", mask_source="")
    study = replace(study, images=images)
    for column, drawn in (("mask", study.mask), ("liver_mask", study.liver_mask), ("mask_2", study.mask_2)):
        fault = "" if drawn is None else mask_fault(drawn, _drawn_on(study))
        if column == "mask" and drawn is not None and not fault and study.label not in ("", NO_LESION):
            fault = (
                ""
                if read_nifti(drawn, labels=True).array.any()
                else f"it is empty, yet the label is {study.label}"
            )
        if fault:
            findings.append(_mask_left_out(column, fault, study.study_id))
            study = _without(study, column)
    look = look_at(study)
    errors = [f for f in look.findings if f.severity == "error"]
    if errors:
        first = errors[0]
        findings.append(
            import_finding("study-left-out", "warning", first.meaning, first.action, study.study_id)
        )
        return Screened(None, tuple(findings), "check", f"finding {first.id} (listed by study)")
    return Screened(study, tuple(findings), look=look)


def image_fault(path: Path) -> str:
    """Why an image cannot be used; empty when it can."""
    try:
        array = read_nifti(path).array
    except VolumeError as error:
        return str(error)
    if not np.isfinite(array).all():
        return f"{path.name} has voxels that are NaN or infinite"
    if array.min() == array.max():
        return f"every voxel of {path.name} is {array.flat[0]:g}"
    return ""


def mask_fault(path: Path, image: Path) -> str:
    """Why a mask cannot be used on an image; empty when it can."""
    try:
        mask = read_nifti(path, labels=True)
        shape, affine = read_geometry(image)
    except VolumeError as error:
        return str(error)
    off = grid_distance_mm(mask.shape, mask.affine, shape, affine)
    if not off <= SNAP_VOXELS * min(Volume(mask.array, affine).spacing_mm):
        how = f"shape {mask.shape} against {shape}" if np.isinf(off) else f"off by {off:.2f} mm"
        return f"{path.name} does not lie on the grid of {image.name} ({how})"
    if mask.array.min() < 0 or mask.array.max() > MAX_LESIONS:
        return f"{path.name} holds values from {mask.array.min()} to {mask.array.max()}"
    return ""


def _drawn_on(study: Study) -> Path:
    return study.images[study.mask_phase or study.reference_phase]  # type: ignore[index]


def _without(study: Study, column: str) -> Study:
    if column == "mask":
        return replace(study, mask=None, mask_source="")
    if column == "liver_mask":
        return replace(study, liver_mask=None)
    return replace(study, mask_2=None)


def _mask_left_out(column: str, fault: str, case: str) -> Finding:
    return import_finding(
        "mask-left-out",
        "warning",
        f"{column} is left out: {fault}",
        "Export it on the grid of the phase it was drawn on; never copy a header over.",
        case,
    )
