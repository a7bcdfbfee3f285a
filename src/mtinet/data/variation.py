"""Prepared studies damaged on purpose: to learn from, or to be scored on (:mod:`mtinet.config.variation`).

Pure functions of a study, a variation and a seed: a study looks the same whatever else is in the cohort, in
every process and after a resume.  The default variations give the study back as it is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.config import Phase
from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.data.prepared import PreparedLesion, PreparedStudy
from mtinet.imaging.masks import bounding_boxes

STREAM_NOISE, STREAM_TEXTURE, STREAM_ORDER, STREAM_DISPLACEMENT = 601, 602, 603, 604

TEXTURE_MM = 3.0
"""Standard deviation of the Gaussian that smooths the texture in-plane: grains a few voxels wide."""


def learned(study: PreparedStudy, variation: LearningVariation, seed: int) -> PreparedStudy:
    """A study as a run learns from it: noise, texture and mask margin.

    Enhancement is measured anew: a run that sees damaged data knows no other.  Who learns, and the
    harmonisation between sites, are not a matter of one study (:func:`mtinet.data.folds.fewer_patients`,
    :mod:`mtinet.data.harmonisation`).
    """
    changed = with_texture(study, variation.heterogeneity, seed)
    changed = with_noise(changed, variation.noise, seed)
    changed = with_mask_margin(changed, variation.mask_margin)
    return study if changed is study else measured_anew(changed)


def scored(study: PreparedStudy, variation: ScoringVariation, seed: int) -> PreparedStudy:
    """A study as a run is scored on it, but for the order of its phases (:func:`shuffled`).

    The reference stays: masks, and the enhancement of the lesions in images that are neither noisy nor
    displaced.  Texture is tissue and not an error of measurement, so it changes the enhancement too.  A study
    that has none of the phases to be shown comes back with none present.
    """
    textured = with_texture(study, variation.heterogeneity, seed)
    if textured is not study:
        textured = measured_anew(textured)
    moved = displaced(textured, variation.displacement_mm, seed)
    noisy = with_noise(moved, variation.noise, seed)
    return noisy if variation.phases is None else showing(noisy, variation.phases)


# ---------------------------------------------------------------------- signal
def with_noise(study: PreparedStudy, sigma: float, seed: int) -> PreparedStudy:
    """Add Rician noise to every phase that is there.

    The images are magnitudes, so the noise is too (Gudbjartsson and Patz, MRM 1995;34:910): the modulus of
    the signal plus complex Gaussian noise.  It never gives a negative signal, and raises a weak one; above
    three times ``sigma`` it is close to Gaussian.

    Parameters
    ----------
    study : PreparedStudy
    sigma : float
        Standard deviation of each part of the complex noise, in normalised signal.
    seed : int
    """
    if sigma == 0:
        return study
    rng = _generator(seed, STREAM_NOISE, study)
    image = study.image
    real, imaginary = (rng.standard_normal(image.shape, dtype=np.float32) for _ in range(2))
    return _with_image(study, np.hypot(image + np.float32(sigma) * real, np.float32(sigma) * imaginary))


def with_texture(study: PreparedStudy, spread: float, seed: int) -> PreparedStudy:
    """Multiply every phase by a fine log-normal texture of mean 1 and relative standard deviation ``spread``.

    Each phase has its own, smooth over :data:`TEXTURE_MM` in-plane and independent from slice to slice: what
    differs within a tissue, as perfusion does, and can be no noise of the receiver.
    """
    if spread == 0:
        return study
    rng = _generator(seed, STREAM_TEXTURE, study)
    width = [0.0, 0.0, *(TEXTURE_MM / side for side in study.spacing_mm[1:])]
    field = ndimage.gaussian_filter(rng.standard_normal(study.image.shape, dtype=np.float32), width)
    field /= field.std()
    sigma = math.sqrt(math.log1p(spread**2))
    return _with_image(study, study.image * np.exp(np.float32(sigma) * field - np.float32(sigma**2 / 2)))


def displaced(study: PreparedStudy, distance_mm: float, seed: int) -> PreparedStudy:
    """Shift every phase but the reference in-plane by ``distance_mm``, each in a direction of its own.

    Cubic splines: linear interpolation would blur, and so measure smoothing beside the displacement.
    """
    if distance_mm == 0:
        return study
    rng = _generator(seed, STREAM_DISPLACEMENT, study)
    angles = rng.uniform(0.0, 2.0 * math.pi, len(study.phases))
    image = np.array(study.image)
    _, *spacing = study.spacing_mm
    for index, (phase, present) in enumerate(zip(study.phases, study.present, strict=True)):
        if present and phase != study.reference_phase:
            direction = (math.sin(angles[index]), math.cos(angles[index]))
            shift = [distance_mm * part / side for part, side in zip(direction, spacing, strict=True)]
            moved = ndimage.shift(image[index], (0.0, *shift), order=3, mode="nearest")
            image[index] = np.maximum(moved, 0.0)
    return _with_image(study, image)


# ---------------------------------------------------------------------- phases
def showing(study: PreparedStudy, phases: Sequence[Phase]) -> PreparedStudy:
    """The study without the other phases, as if they had not been acquired; its gain stays."""
    kept = tuple(
        present and phase in phases for phase, present in zip(study.phases, study.present, strict=True)
    )
    if kept == study.present:
        return study
    lesions = tuple(
        replace(lesion, enhancement={p: value for p, value in lesion.enhancement.items() if p in phases})
        for lesion in study.lesions
    )
    return replace(_with_image(study, study.image, kept), present=kept, lesions=lesions)


def shuffled(study: PreparedStudy, seed: int) -> tuple[PreparedStudy, tuple[int, ...]]:
    """The study with its phases in another order than the one that it says, drawn by study.

    Images change places, names and times stay where they are.

    Returns
    -------
    study : PreparedStudy
        Its lesions' enhancement moved with the images.
    order : tuple of int
        ``order[i]`` is the phase whose image now stands at place ``i``.  Never the true order.
    """
    rng = _generator(seed, STREAM_ORDER, study)
    count = len(study.phases)
    order = tuple(range(count))
    while order == tuple(range(count)):
        order = tuple(int(i) for i in rng.permutation(count))
    names = {study.phases[old]: study.phases[new] for new, old in enumerate(order)}
    lesions = tuple(
        replace(lesion, enhancement={names[p]: value for p, value in lesion.enhancement.items()})
        for lesion in study.lesions
    )
    present = tuple(study.present[old] for old in order)
    moved = _with_image(study, study.image[list(order)], present)
    return replace(moved, present=present, lesions=lesions), order


# ---------------------------------------------------------------------- masks
def with_mask_margin(study: PreparedStudy, voxels: int) -> PreparedStudy:
    """Every lesion dilated (> 0) or eroded (< 0) by a disk in-plane, as a reader draws too wide or too tight.

    Lesions stay apart: they grow into what is none, each voxel to the nearest lesion, and shrink by
    themselves.  One that would vanish keeps its innermost voxels, because no reader leaves out what is drawn.
    The enhancement is still that of the old mask (:func:`measured_anew`).
    """
    if voxels == 0 or study.mask is None:
        return study
    old = np.asarray(study.mask)
    mask = np.stack([_grown(part, voxels) for part in old]) if voxels > 0 else _shrunk(old, -voxels)
    return replace(study, memory={**study.memory, "mask": mask.astype(old.dtype)})


def _grown(mask: NDArray[np.uint8], voxels: int) -> NDArray[np.uint8]:
    from skimage.segmentation import expand_labels

    return np.asarray(expand_labels(mask, voxels)) if mask.any() else mask  # type: ignore[no-untyped-call]


def _shrunk(mask: NDArray[np.uint8], voxels: int) -> NDArray[np.uint8]:
    out = np.zeros_like(mask)
    for number, box in bounding_boxes(mask).items():
        # a border of background, so that the box is no edge of the image
        inside = np.pad(mask[box] == number, ((0, 0), (1, 1), (1, 1)))
        depth = np.stack([ndimage.distance_transform_edt(part) for part in inside])[:, 1:-1, 1:-1]
        kept = depth > voxels
        if not kept.any():
            kept = depth == depth.max()
        out[box][kept] = number
    return out


def measured_anew(study: PreparedStudy) -> PreparedStudy:
    """The study with size, box and enhancement of its lesions read from its own mask and images.

    A phase that did not cover a lesion still does not.
    """
    if study.mask is None:
        return study
    mask, image = np.asarray(study.mask), study.image
    boxes = bounding_boxes(mask)
    lesions = []
    for lesion in study.lesions:
        box = boxes[lesion.number]
        inside = mask[box] == lesion.number
        z, y, x = ((s.start, s.stop) for s in box)
        voxels = int(inside.sum())
        lesions.append(
            PreparedLesion(
                number=lesion.number,
                label=lesion.label,
                voxels=voxels,
                diameter_mm=lesion.diameter_mm * (voxels / lesion.voxels) ** (1 / 3),
                enhancement={
                    phase: float(part[inside].mean())
                    for phase, part in zip(study.phases, image[(slice(None), *box)], strict=True)
                    if phase in lesion.enhancement
                },
                box=(z, y, x),
            )
        )
    lesions.sort(key=lambda lesion: (-lesion.diameter_mm, lesion.number))
    return replace(study, lesions=tuple(lesions))


# ---------------------------------------------------------------------- parts
def _with_image(
    study: PreparedStudy, image: NDArray[np.floating], present: Sequence[bool] | None = None
) -> PreparedStudy:
    """The study with another image in memory, 0 in the phases that are not there."""
    kept = np.array(study.present if present is None else present).reshape(-1, 1, 1, 1)
    image = np.where(kept, image, np.float32(0.0)).astype(np.float32)
    return replace(study, memory={**study.memory, "image": image})


def _generator(seed: int, stream: int, study: PreparedStudy) -> np.random.Generator:
    """Random numbers that depend on the study's id and not on its place in a cohort."""
    name = int.from_bytes(hashlib.sha256(study.study_id.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, stream, 0, name])
