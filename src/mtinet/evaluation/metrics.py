"""Overlap and surface scores of a mask, with a stated value for every kind of empty mask.

Surface distances run between the centres of border voxels (foreground voxels with a face neighbour outside
the mask, or outside the image).  They are computed once; HD95 and NSD are read from them.  These are MONAI's
definitions of ``compute_hausdorff_distance(percentile=95)`` and ``compute_surface_dice`` without subvoxels;
the values for empty masks are ours (:data:`EMPTY_MASK_RULES`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

from mtinet.errors import UserError

Outcome = Literal["scored", "missed", "hallucinated", "absent", "unlabelled"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""What became of a study's mask; every table of results counts them."""

OVERLAPS = ("dice", "iou", "nsd", "hd95_mm")
"""The scores of :class:`MaskScores` that compare two masks."""

_ROUNDING_MM = 1e-4
"""A NIfTI affine holds single precision: a voxel of 2 mm may read as 2.0000001 and lies within 2 mm all the same."""

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Content = Literal["lesion", "empty", "unknown", "any"]


@dataclass(frozen=True)
class MaskRule:
    """The value of a mask's scores for one combination of reference and prediction.

    Attributes
    ----------
    reference, predicted : str
        ``lesion`` (some foreground), ``empty``, ``unknown`` (no reference mask), ``any``.
    outcome : str
    overlap : float or None
        Value of Dice, IoU and NSD; None = computed, NaN = counted but not averaged.
    hd95 : {"computed", "diagonal", "nan"}
        Value of HD95; ``diagonal`` is that of the image in millimetres.
    """

    reference: Content
    predicted: Content
    outcome: Outcome
    overlap: float | None
    hd95: Literal["computed", "diagonal", "nan"]


EMPTY_MASK_RULES: tuple[MaskRule, ...] = (
    MaskRule("lesion", "lesion", "scored", None, "computed"),
    # Missed and invented lesions take the worst value: leaving a lesion out never improves a mean.
    MaskRule("lesion", "empty", "missed", 0.0, "diagonal"),
    MaskRule("empty", "lesion", "hallucinated", 0.0, "diagonal"),
    MaskRule("empty", "empty", "absent", math.nan, "nan"),
    MaskRule("unknown", "any", "unlabelled", math.nan, "nan"),
)
"""The project's empty-mask table."""


@dataclass(frozen=True)
class MaskScores:
    """Scores of one study's mask; the names are columns of the studies' table.

    Attributes
    ----------
    outcome : str
        One of :data:`OUTCOMES`.
    dice, iou, nsd : float
        In [0, 1]; NaN where there is nothing to score.
    hd95_mm : float
    reference_volume_mm3, predicted_volume_mm3 : float
    """

    outcome: Outcome
    dice: float
    iou: float
    hd95_mm: float
    nsd: float
    reference_volume_mm3: float
    predicted_volume_mm3: float


def score_masks(
    reference: NDArray[Any] | None,
    predicted: NDArray[Any],
    spacing_mm: Sequence[float],
    nsd_tolerance_mm: float,
) -> MaskScores:
    """Score a predicted mask against the reference's.

    Parameters
    ----------
    reference : ndarray or None
        Non-zero is lesion; None where the study has no reference mask.
    predicted : ndarray
        Same shape.
    spacing_mm : sequence of float
        Voxel size along each axis of the arrays, in their order.
    nsd_tolerance_mm : float
        Distance up to which a border voxel counts as right.

    Raises
    ------
    UserError
        The two masks have different shapes, or ``spacing_mm`` another number of axes.

    Notes
    -----
    HD95 is the larger of the two directed 95th percentiles.  NSD is the share of the border voxels of both
    masks that lie within the tolerance of the other border (Nikolov et al., arXiv 1809.04430), every border
    voxel counting the same.
    """
    found = predicted != 0
    truth = None if reference is None else reference != 0
    _check_geometry(truth, found, spacing_mm)
    voxel_mm3 = float(np.prod(spacing_mm))
    predicted_mm3 = voxel_mm3 * int(np.count_nonzero(found))
    if truth is None:
        return _by_rule(_rule("unknown", "any"), found.shape, spacing_mm, math.nan, predicted_mm3)
    reference_mm3 = voxel_mm3 * int(np.count_nonzero(truth))
    rule = _rule("lesion" if reference_mm3 else "empty", "lesion" if predicted_mm3 else "empty")
    if rule.outcome != "scored":
        return _by_rule(rule, found.shape, spacing_mm, reference_mm3, predicted_mm3)
    common_mm3 = voxel_mm3 * int(np.count_nonzero(truth & found))
    of_reference, of_predicted = border_distances_mm(truth, found, spacing_mm)
    both = np.concatenate([of_reference, of_predicted])
    return MaskScores(
        outcome=rule.outcome,
        dice=2.0 * common_mm3 / (reference_mm3 + predicted_mm3),
        iou=common_mm3 / (reference_mm3 + predicted_mm3 - common_mm3),
        hd95_mm=float(max(np.percentile(of_reference, 95), np.percentile(of_predicted, 95))),
        nsd=float(np.mean(both <= nsd_tolerance_mm + _ROUNDING_MM)),
        reference_volume_mm3=reference_mm3,
        predicted_volume_mm3=predicted_mm3,
    )


def border_distances_mm(
    reference: BoolArray, predicted: BoolArray, spacing_mm: Sequence[float]
) -> tuple[FloatArray, FloatArray]:
    """Distance from each border voxel of one mask to the nearest of the other, both ways.

    Parameters
    ----------
    reference, predicted : ndarray of bool
        Same shape, neither empty.
    spacing_mm : sequence of float

    Returns
    -------
    of_reference, of_predicted : ndarray
        Millimetres; one number a border voxel of the reference, and of the prediction.
    """
    box = ndimage.find_objects((reference | predicted).astype(np.uint8))[0]
    here, there = (_border_mm(mask[box], spacing_mm) for mask in (reference, predicted))
    return (
        np.asarray(spatial.KDTree(there).query(here)[0], dtype=np.float64),
        np.asarray(spatial.KDTree(here).query(there)[0], dtype=np.float64),
    )


def image_diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Length of the image's space diagonal: no surface distance inside it is longer."""
    return float(np.linalg.norm(np.asarray(shape) * np.asarray(spacing_mm)))


def _border_mm(mask: BoolArray, spacing_mm: Sequence[float]) -> FloatArray:
    border = mask & ~ndimage.binary_erosion(mask)
    return np.asarray(np.argwhere(border) * np.asarray(spacing_mm, dtype=np.float64))


def _rule(reference: Content, predicted: Content) -> MaskRule:
    return next(
        rule for rule in EMPTY_MASK_RULES if (rule.reference, rule.predicted) == (reference, predicted)
    )


def _by_rule(
    rule: MaskRule,
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    reference_mm3: float,
    predicted_mm3: float,
) -> MaskScores:
    overlap = math.nan if rule.overlap is None else rule.overlap
    hd95_mm = image_diagonal_mm(shape, spacing_mm) if rule.hd95 == "diagonal" else math.nan
    return MaskScores(rule.outcome, overlap, overlap, hd95_mm, overlap, reference_mm3, predicted_mm3)


def _check_geometry(reference: BoolArray | None, predicted: BoolArray, spacing_mm: Sequence[float]) -> None:
    if reference is not None and reference.shape != predicted.shape:
        raise UserError(
            f"the reference mask has the shape {reference.shape}, the predicted one {predicted.shape}; "
            "resample the prediction to the grid of the reference"
        )
    if len(spacing_mm) != predicted.ndim or min(spacing_mm) <= 0:
        raise UserError(
            f"spacing_mm is {tuple(spacing_mm)} for masks of {predicted.ndim} axes; "
            "give one positive number of millimetres an axis"
        )
