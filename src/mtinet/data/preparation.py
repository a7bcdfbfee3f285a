"""Preparation: register, resample to one grid a study, normalise, measure the lesions' enhancement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtinet.cohort import NO_LESION, Study
from mtinet.config import Phase, PreparationSettings
from mtinet.data import cache as cache_of
from mtinet.data.normalisation import study_gain
from mtinet.data.prepared import PreparedLesion, PreparedStudy
from mtinet.errors import UserError
from mtinet.imaging.checks import MAX_LESIONS, SNAP_VOXELS
from mtinet.imaging.masks import bounding_boxes, equivalent_diameter_mm, voxel_counts
from mtinet.imaging.registration import Registration, register_rigid
from mtinet.imaging.resampling import overlap_fraction, resample, resample_labels
from mtinet.volume import Volume, read_nifti

_KEEP_SPACING = 0.01
"""A wanted spacing within so much of the study's own leaves the grid as it is: nothing is interpolated."""


class PreparationError(UserError):
    """A study cannot be prepared; the message names the study, the cause and the repair."""


@dataclass(frozen=True)
class Grid:
    """Where a study is brought to: voxels (x, y, z) and their affine."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]


def prepare_study(
    study: Study,
    phases: tuple[Phase, ...],
    settings: PreparationSettings,
    cache: Path,
    lesion_labels: Mapping[int, str] | None = None,
) -> PreparedStudy:
    """Prepare a study, or open it where it was prepared before.

    Parameters
    ----------
    study : Study
    phases : tuple of str
        Phases of the network, in its order; those that the study lacks are marked absent.
    settings : PreparationSettings
    cache : Path
        Folder of prepared studies (:func:`mtinet.data.cache.cache_folder`).
    lesion_labels : mapping of int to str, optional
        Class by lesion number.  Without it the study's label is that of its largest lesion and the other
        lesions' classes are unknown.

    Returns
    -------
    PreparedStudy
        Its arrays lie in ``cache``, memory-mapped.

    Raises
    ------
    PreparationError
        Named study, cause and repair.
    """
    labels = dict(lesion_labels or {})
    try:
        key = cache_of.study_key(study, labels, phases, settings)
    except OSError as error:
        raise PreparationError(f"study {study.study_id}: {error}; correct the path in cohort.csv") from None
    stored = cache_of.find(cache, study.study_id, key)
    if stored is not None:
        return stored
    return cache_of.store(cache, _prepare(study, phases, settings, labels, masks=True), key)


def prepare_for_prediction(
    study: Study, phases: tuple[Phase, ...], settings: PreparationSettings
) -> PreparedStudy:
    """Prepare a study in memory, as :func:`prepare_study` does but for the lesions, which stay unknown.

    Raises
    ------
    PreparationError
        Named study, cause and repair.
    """
    return _prepare(study, phases, settings, {}, masks=False)


def prepared_grid(reference: Volume, spacing_mm: tuple[float | None, float | None, float | None]) -> Grid:
    """The grid of a study: the reference's field of view, axes closest to R, A, S, another spacing.

    Axes are only permuted and flipped, so an oblique acquisition keeps its plane.

    Parameters
    ----------
    reference : Volume
    spacing_mm : tuple of float or None
        Along x, y, z; None keeps the reference's.
    """
    canonical = reference.canonical()
    own = np.asarray(canonical.spacing_mm)
    wanted = np.array([o if w is None else w for o, w in zip(own, spacing_mm)])
    wanted = np.where(np.abs(wanted / own - 1) < _KEEP_SPACING, own, wanted)
    shape = np.asarray(canonical.shape)
    count = np.maximum(1, np.rint(shape * own / wanted)).astype(int)
    affine = canonical.affine.copy()
    affine[:3, :3] *= wanted / own
    # the centre of the field of view stays where it is
    first = ((shape - 1) - (count - 1) * wanted / own) / 2
    affine[:3, 3] = (canonical.affine @ np.append(first, 1.0))[:3]
    return Grid((int(count[0]), int(count[1]), int(count[2])), affine)


# ---------------------------------------------------------------------- steps
@dataclass
class _Masks:
    """Masks on the prepared grid ([Z, Y, X]), and the lesions' drawn volumes."""

    lesions: NDArray[np.uint8] | None = None
    liver: NDArray[np.uint8] | None = None
    drawn_mm3: dict[int, float] = field(default_factory=dict)


def _prepare(
    study: Study,
    phases: tuple[Phase, ...],
    settings: PreparationSettings,
    lesion_labels: dict[int, str],
    *,
    masks: bool,
) -> PreparedStudy:
    try:
        return _prepare_unnamed(study, phases, settings, lesion_labels, masks=masks)
    except PreparationError:
        raise
    except ValueError as error:
        raise PreparationError(f"study {study.study_id}: {error}") from error


def _prepare_unnamed(
    study: Study,
    phases: tuple[Phase, ...],
    settings: PreparationSettings,
    lesion_labels: dict[int, str],
    *,
    masks: bool,
) -> PreparedStudy:
    present = tuple(phase in study.images for phase in phases)
    if not any(present):
        raise ValueError(
            f"it has none of the phases {', '.join(phases)} (it has {', '.join(study.images) or 'none'}); "
            "set phases to what the cohort holds"
        )
    reference = read_nifti(study.images[study.reference_phase])
    grid = prepared_grid(reference, settings.spacing_mm)
    images, registrations = _resampled_images(study, phases, reference, grid, settings)
    gain = study_gain(images, settings.gain_percentile)
    prepared_masks = _resampled_masks(study, reference, grid, registrations, lesions=masks)
    for image in images.values():
        image /= gain
    lesions = _measure(images, prepared_masks, study, lesion_labels)
    stacked = np.zeros((len(phases), *reversed(grid.shape)), dtype=np.float32)
    for index, phase in enumerate(phases):
        if phase in images:
            np.nan_to_num(images[phase], copy=False, nan=0.0)
            stacked[index] = images[phase]
    arrays = {"image": stacked, "mask": prepared_masks.lesions, "liver": prepared_masks.liver}
    memory = {name: array for name, array in arrays.items() if array is not None}
    return PreparedStudy(
        study_id=study.study_id,
        patient_id=study.patient_id,
        site=study.site,
        label=study.label,
        phases=phases,
        present=present,
        times_s=tuple(study.times_s.get(phase, math.nan) for phase in phases),
        reference_phase=study.reference_phase,
        gain=gain,
        affine=grid.affine,
        source_shape=reference.shape,
        source_affine=reference.affine,
        has_mask="mask" in memory,
        has_liver="liver" in memory,
        lesions=lesions,
        registrations={phase: record.to_dict() for phase, record in registrations.items()},
        memory=memory,
    )


def _resampled_images(
    study: Study,
    phases: tuple[Phase, ...],
    reference: Volume,
    grid: Grid,
    settings: PreparationSettings,
) -> tuple[dict[Phase, NDArray[np.float32]], dict[Phase, Registration]]:
    """Each present phase on the grid as [Z, Y, X] (NaN outside its field of view), and how it was moved."""
    images: dict[Phase, NDArray[np.float32]] = {}
    registrations: dict[Phase, Registration] = {}
    fixed: Volume | None = None
    drawn_on = {study.mask_phase} if study.mask and study.mask_phase else set()
    for phase in [p for p in study.images if p in phases or p in drawn_on]:
        volume = reference if phase == study.reference_phase else read_nifti(study.images[phase])
        if not np.isfinite(volume.array).all():
            raise ValueError(f"{phase} holds NaN or infinite voxels; export it again")
        if overlap_fraction(reference, volume) == 0.0:
            raise ValueError(
                f"{phase} and {study.reference_phase} do not overlap in space; "
                "take both from the same examination"
            )
        if settings.registration == "rigid" and phase != study.reference_phase:
            if fixed is None:
                fixed = resample(reference, grid.shape, grid.affine)
            registrations[phase] = register_rigid(volume.canonical(), fixed)
            volume = registrations[phase].move(volume)
        if phase in phases:
            resampled = resample(volume, grid.shape, grid.affine, fill=np.nan)
            images[phase] = np.ascontiguousarray(resampled.array.T)
    return images, registrations


def _resampled_masks(
    study: Study,
    reference: Volume,
    grid: Grid,
    registrations: Mapping[Phase, Registration],
    *,
    lesions: bool,
) -> _Masks:
    """The masks on the grid, moved as the phase was on which they were drawn."""
    masks = _Masks()
    phase = next((p for p in study.images if p == study.mask_phase), study.reference_phase)
    drawn_on = reference if phase == study.reference_phase else read_nifti(study.images[phase])

    def on_grid(path: Path, name: str, *, binary: bool) -> tuple[Volume, NDArray[np.uint8]]:
        mask = _snapped(read_nifti(path, labels=True), drawn_on, name)
        if binary:
            mask = mask.with_array((mask.array != 0).astype(np.int32))
        moved = registrations[phase].move(mask) if phase in registrations else mask
        on = resample_labels(moved, grid.shape, grid.affine).array
        return mask, np.ascontiguousarray(on.T.astype(np.uint8))

    if lesions and study.mask is not None:
        mask, masks.lesions = on_grid(study.mask, "mask", binary=False)
        masks.drawn_mm3 = {n: c * mask.voxel_mm3 for n, c in voxel_counts(mask.array).items()}
    elif lesions and study.label == NO_LESION:
        # a study without lesion needs no file to say so: its mask is known, and empty
        masks.lesions = np.zeros(tuple(reversed(grid.shape)), dtype=np.uint8)
    if study.liver_mask is not None:
        _, masks.liver = on_grid(study.liver_mask, "liver_mask", binary=True)
    return masks


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


def _measure(
    images: Mapping[Phase, NDArray[np.float32]],
    masks: _Masks,
    study: Study,
    lesion_labels: Mapping[int, str],
) -> tuple[PreparedLesion, ...]:
    """Every lesion's observed enhancement, size, class and box, from the largest to the smallest.

    The mean over a lesion of a phase that is NaN somewhere in it (outside the field of view) is not known.
    """
    if masks.lesions is None:
        return ()
    by_size = sorted(masks.drawn_mm3, key=lambda number: (-masks.drawn_mm3[number], number))
    boxes = bounding_boxes(masks.lesions)
    lesions = []
    for number in [n for n in by_size if n in boxes]:
        inside = masks.lesions[boxes[number]] == number
        means = {phase: float(image[boxes[number]][inside].mean()) for phase, image in images.items()}
        dominant = study.label if number == by_size[0] and study.label != NO_LESION else ""
        z, y, x = ((s.start, s.stop) for s in boxes[number])
        lesions.append(
            PreparedLesion(
                number=number,
                # an empty cell of lesions.csv is no class: it must not hide the study's
                label=lesion_labels.get(number) or dominant,
                voxels=int(inside.sum()),
                diameter_mm=equivalent_diameter_mm(masks.drawn_mm3[number]),
                enhancement={phase: mean for phase, mean in means.items() if math.isfinite(mean)},
                box=(z, y, x),
            )
        )
    return tuple(lesions)
