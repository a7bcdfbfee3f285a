"""A study's phases and masks on its grid: registered, interpolated once, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.cohort import MAX_LESIONS, Study
from mtinet.config import Phase, PreparationSettings
from mtinet.imaging.liver import Region, body_region, liver_region
from mtinet.imaging.masks import bounding_boxes, dice
from mtinet.imaging.motion import Motion
from mtinet.imaging.mutual_information import FINEST_MM, at_least
from mtinet.imaging.registration import Registration, register
from mtinet.imaging.resampling import overlap_fraction
from mtinet.volume import SNAP_VOXELS, Volume, read_nifti


@dataclass(frozen=True)
class Grid:
    """Where a study is brought to: voxels (x, y, z) and their affine."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


@dataclass
class Aligned:
    """Phases on the grid as [Z, Y, X] (NaN outside their field of view), and how each was moved."""

    images: dict[Phase, NDArray[np.float32]] = field(default_factory=dict)
    registrations: dict[Phase, Registration] = field(default_factory=dict)

    def motion(self, phase: str) -> Motion:
        """How a phase is brought to the reference."""
        found = next((record for p, record in self.registrations.items() if p == phase), None)
        return Motion() if found is None else found.motion


def align(
    study: Study, phases: tuple[Phase, ...], reference: Volume, grid: Grid, settings: PreparationSettings
) -> Aligned:
    """Register and resample the phases that are asked for, and the one on which the masks were drawn.

    Raises
    ------
    ValueError
        A phase with NaN, or that shows another part of space.
    """
    aligned = Aligned()
    target: Target | None = None
    drawn_on = {study.mask_phase} if study.mask or study.liver_mask else set()
    for phase in [p for p in study.images if p in phases or p in drawn_on]:
        volume = reference if phase == study.reference_phase else study.image(phase)
        if not np.isfinite(volume.array).all():
            raise ValueError(f"{phase} holds NaN or infinite voxels; export it again")
        if overlap_fraction(reference, volume) == 0.0:
            raise ValueError(
                f"{phase} and {study.reference_phase} do not overlap in space; "
                "take both from the same examination"
            )
        if settings.registration != "none" and phase != study.reference_phase:
            target = target or target_of(study, reference)
            deformable = settings.registration == "bspline"
            aligned.registrations[phase] = register(
                volume.canonical(),
                target.image,
                target.region,
                settings.control_point_mm if deformable else None,
            )
        if phase in phases:
            on = aligned.motion(phase).image(volume, grid.shape, grid.affine, fill=np.nan)
            aligned.images[phase] = np.ascontiguousarray(on.array.T)
    return aligned


@dataclass(frozen=True)
class Target:
    """What phases are registered to, and where they are compared; no setting of the grid changes it."""

    image: Volume
    region: Region | None


def target_of(study: Study, reference: Volume) -> Target:
    """The reference phase at the resolution of the search, with the region around the liver or the body."""
    image = at_least(reference.canonical(), FINEST_MM)
    region = None
    if study.liver_mask is not None:
        region = liver_region(read_nifti(study.liver_mask, labels=True), image)
    return Target(image, region or body_region(image))


def masks_on_grid(
    study: Study, reference: Volume, grid: Grid, aligned: Aligned, column: str
) -> tuple[Volume, NDArray[np.uint8]]:
    """A mask as it was drawn, and on the grid as [Z, Y, X], moved as the phase on which it was drawn.

    Parameters
    ----------
    study : Study
    reference : Volume
    grid : Grid
    aligned : Aligned
    column : {"mask", "liver_mask"}

    Raises
    ------
    ValueError
        The mask does not lie on its image's grid, or holds numbers that are none of a lesion.
    """
    phase = next((p for p in study.images if p == study.mask_phase), study.reference_phase)
    drawn_on = reference if phase == study.reference_phase else study.image(phase)
    mask = _snapped(read_nifti(study.paths()[column], labels=True), drawn_on, column)
    if column == "liver_mask":
        mask = mask.with_array((mask.array != 0).astype(np.int32))
    on = aligned.motion(phase).labels(mask, grid.shape, grid.affine).array
    return mask, np.ascontiguousarray(on.T.astype(np.uint8))


def _snapped(mask: Volume, image: Volume, name: str) -> Volume:
    """The mask with its image's affine, where the two agree within a tenth of a voxel."""
    distance = image.corner_distance_mm(mask)
    if distance > SNAP_VOXELS * min(image.spacing_mm):
        raise ValueError(
            f"{name} does not lie on the grid of its image (shape {mask.shape} against {image.shape}, off by "
            f"{distance:.2f} mm); name the phase it was drawn on in mask_phase, or export it on that grid"
        )
    if mask.array.min(initial=0) < 0 or mask.array.max(initial=0) > MAX_LESIONS:
        raise ValueError(f"{name} holds numbers outside 0 to {MAX_LESIONS}; number the lesions from 1")
    return Volume(mask.array, image.affine)


def liver_overlaps(
    study: Study, reference: Volume, grid: Grid, aligned: Aligned, liver: NDArray[np.uint8] | None
) -> dict[Phase, tuple[float, float]]:
    """Dice of the liver drawn on a phase and that of the study, as the phase lies and as it was moved.

    Parameters
    ----------
    study : Study
        Phases without a liver of their own (:attr:`Study.phase_livers`) are left out.
    reference : Volume
    grid : Grid
    aligned : Aligned
    liver : ndarray of uint8, shape (Z, Y, X), or None
        That of the study on the grid.

    Raises
    ------
    ValueError
        A liver does not lie on its phase's grid.
    """
    found: dict[Phase, tuple[float, float]] = {}
    if liver is None:
        return found
    for phase, path in study.phase_livers.items():
        if phase not in aligned.registrations:
            continue
        image = reference if phase == study.reference_phase else study.image(phase)
        drawn = _snapped(read_nifti(path, labels=True), image, f"liver_mask_{phase}")
        drawn = drawn.with_array((drawn.array != 0).astype(np.int32))
        before, after = (
            dice(motion.labels(drawn, grid.shape, grid.affine).array.T > 0, liver > 0)
            for motion in (Motion(), aligned.motion(phase))
        )
        found[phase] = (before, after)
    return found


# ---------------------------------------------------------------------- records
def records(
    registrations: Mapping[Phase, Registration],
    lesions: NDArray[np.uint8] | None,
    grid: Grid,
    livers: Mapping[Phase, tuple[float, float]] | None = None,
) -> tuple[dict[str, dict[str, Any]], dict[str, NDArray[np.float64]]]:
    """What is kept of the registrations: a record a phase, and the deformations' control points by name.

    Parameters
    ----------
    registrations : mapping
    lesions : ndarray of uint8, shape (Z, Y, X), or None
        On the grid; for the change of the lesions' volume.
    grid : Grid
    livers : mapping, optional
        Overlap before and after of the livers (:func:`liver_overlaps`).
    """
    kept, arrays = {}, {}
    for phase, found in registrations.items():
        motion = found.motion
        before, after = (livers or {}).get(phase, (None, None))
        lattice = None
        if motion.deformation is not None:
            lattice = motion.deformation.affine.tolist()
            arrays[f"deformation_{phase}"] = motion.deformation.coefficients
        kept[str(phase)] = {
            **found.to_dict(),
            "lesion_volume_change": None if lesions is None else _volume_change(motion, lesions, grid),
            "liver_dice_before": before,
            "liver_dice_after": after,
            "matrix": motion.matrix.tolist(),
            "lattice": lattice,
        }
    return kept, arrays


def _volume_change(motion: Motion, lesions: NDArray[np.uint8], grid: Grid) -> float | None:
    """Volume that a lesion has in the phase over that on the reference, minus 1: the lesion changed most.

    A rigid motion changes none.  None without a lesion.
    """
    changes = []
    for number, box in bounding_boxes(lesions).items():
        if motion.deformation is None:
            changes.append(0.0)
            continue
        z, y, x = box
        low, high = (x.start, y.start, z.start), (x.stop, y.stop, z.stop)
        jacobian = motion.deformation.jacobian(grid.affine, low, high)
        changes.append(float(jacobian[number == lesions[box].T].mean()) - 1.0)
    return max(changes, key=abs, default=None)
