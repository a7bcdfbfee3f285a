"""Preparation: register, resample to one grid a study, normalise, measure the lesions' enhancement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtinet.cohort import NO_LESION, Study
from mtinet.config import Phase, PreparationSettings
from mtinet.data import cache as cache_of
from mtinet.data.alignment import Aligned, Grid, align, liver_overlaps, masks_on_grid, records
from mtinet.data.normalisation import study_gain
from mtinet.data.prepared import PreparedLesion, PreparedStudy
from mtinet.errors import UserError
from mtinet.imaging.bias import common_field
from mtinet.imaging.masks import bounding_boxes, equivalent_diameter_mm, voxel_counts
from mtinet.imaging.resampling import grid_with_spacing
from mtinet.stages import stage
from mtinet.volume import Volume


class PreparationError(UserError):
    """A study cannot be prepared; the message names the study, the cause and the repair."""


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
    found = _look_up(study, phases, settings, cache, labels)
    prepared = found.prepared
    if prepared is None:
        prepared = cache_of.store(cache, _prepare(study, phases, settings, labels, masks=True), found.key)
    return replace(prepared, image_hashes=found.images)


def find_prepared(
    study: Study,
    phases: tuple[Phase, ...],
    settings: PreparationSettings,
    cache: Path,
    lesion_labels: Mapping[int, str] | None = None,
) -> PreparedStudy | None:
    """What :func:`prepare_study` would give, where it was prepared before; None where it was not."""
    found = _look_up(study, phases, settings, cache, dict(lesion_labels or {}))
    return None if found.prepared is None else replace(found.prepared, image_hashes=found.images)


class _Found(NamedTuple):
    key: str
    images: tuple[str, ...]
    prepared: PreparedStudy | None


def _look_up(
    study: Study,
    phases: tuple[Phase, ...],
    settings: PreparationSettings,
    cache: Path,
    labels: Mapping[int, str],
) -> _Found:
    """A study's key, hashes of its images, and what the cache has of it."""
    try:
        content = cache_of.study_content(study, labels)
    except OSError as error:
        raise PreparationError(f"study {study.study_id}: {error}; correct the path in cohort.csv") from None
    key = cache_of.study_key(content, phases, settings)
    images = tuple(sorted(content["files"][phase][: cache_of.KEY_LENGTH] for phase in study.images))
    return _Found(key, images, cache_of.find(cache, study.study_id, key))


@stage("prepare")
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


def prepare_with_mask(
    study: Study, phases: tuple[Phase, ...], settings: PreparationSettings
) -> PreparedStudy:
    """Prepare a study with its lesions in memory.

    Raises
    ------
    PreparationError
        Named study, cause and repair.
    """
    return _prepare(study, phases, settings, {}, masks=True)


def prepared_grid(reference: Volume, spacing_mm: tuple[float | None, float | None, float | None]) -> Grid:
    """The grid of a study: the reference's field of view, axes closest to R, A, S, another spacing.

    Axes are only permuted and flipped, so an oblique acquisition keeps its plane.

    Parameters
    ----------
    reference : Volume
    spacing_mm : tuple of float or None
        Along x, y, z; None keeps the reference's.
    """
    return Grid(*grid_with_spacing(reference.canonical(), spacing_mm))


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
    reference = study.image(study.reference_phase)
    grid = prepared_grid(reference, settings.spacing_mm)
    aligned = align(study, phases, reference, grid, settings)
    images = aligned.images
    bias_range = _divide_by_field(images, grid) if settings.n4 else None
    gain = study_gain(images, settings.gain_percentile)
    prepared_masks = _prepared_masks(study, reference, grid, aligned, lesions=masks)
    overlaps = liver_overlaps(study, reference, grid, aligned, prepared_masks.liver)
    registrations, deformations = records(aligned.registrations, prepared_masks.lesions, grid, overlaps)
    for image in images.values():
        image /= gain
    lesions = _measure(images, prepared_masks, study, lesion_labels)
    stacked = np.zeros((len(phases), *reversed(grid.shape)), dtype=np.float32)
    for index, phase in enumerate(phases):
        if phase in images:
            np.nan_to_num(images[phase], copy=False, nan=0.0)
            stacked[index] = images[phase]
    arrays: dict[str, NDArray[Any] | None] = {"image": stacked, **deformations}
    arrays |= {"mask": prepared_masks.lesions, "liver": prepared_masks.liver}
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
        registrations=registrations,
        bias_range=bias_range,
        lost_lesions=tuple(sorted({*prepared_masks.drawn_mm3} - {lesion.number for lesion in lesions})),
        memory=memory,
    )


def _divide_by_field(images: Mapping[Phase, NDArray[np.float32]], grid: Grid) -> tuple[float, float]:
    """Divide every phase by one receive field, in place; its smallest and largest value."""
    bias = common_field([image.T for image in images.values()], grid.affine).T
    for image in images.values():
        image /= bias
    return float(bias.min()), float(bias.max())


def _prepared_masks(
    study: Study, reference: Volume, grid: Grid, aligned: Aligned, *, lesions: bool
) -> _Masks:
    """The masks on the grid, moved as the phase was on which they were drawn."""
    masks = _Masks()
    if lesions and study.mask is not None:
        mask, masks.lesions = masks_on_grid(study, reference, grid, aligned, "mask")
        masks.drawn_mm3 = {n: c * mask.voxel_mm3 for n, c in voxel_counts(mask.array).items()}
    elif lesions and study.label == NO_LESION:
        # a study without lesion needs no file to say so: its mask is known, and empty
        masks.lesions = np.zeros(tuple(reversed(grid.shape)), dtype=np.uint8)
    if study.liver_mask is not None:
        _, masks.liver = masks_on_grid(study, reference, grid, aligned, "liver_mask")
    return masks


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
