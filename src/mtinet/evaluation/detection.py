"""Which predicted component finds which lesion."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from mtinet.errors import UserError


@dataclass(frozen=True)
class LesionMatch:
    """A reference lesion with the component that finds it; or one of the two alone.

    Attributes
    ----------
    reference : int or None
        Number in the reference mask; None for a false positive.
    predicted : int or None
        Number in the predicted mask; None for a missed lesion.
    iou, dice : float
        Overlap of the pair; 0 for one alone.
    reference_voxels, predicted_voxels : int
        Sizes; 0 for the absent one.
    """

    reference: int | None
    predicted: int | None
    iou: float
    dice: float
    reference_voxels: int
    predicted_voxels: int


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of one study; the names are columns of the studies' table."""

    n_reference: int
    n_predicted: int
    n_found: int
    n_false_positive: int


def match_lesions(
    reference_labels: NDArray[Any], predicted_labels: NDArray[Any], iou_threshold: float
) -> list[LesionMatch]:
    """Pair the lesions of two label maps one to one.

    The pairing (Hungarian method) has the largest sum of IoU among pairs at or above the threshold.  One to
    one means: of two components on one lesion, one is a false positive; of two lesions under one component,
    one is missed.

    Parameters
    ----------
    reference_labels, predicted_labels : ndarray of int
        Lesions numbered from 1, background 0; same shape.
    iou_threshold : float
        IoU from which a component finds a lesion; two without a common voxel never match.

    Returns
    -------
    list of LesionMatch
        The reference lesions by number, found or not, then the unmatched components by number.

    Raises
    ------
    UserError
        The two maps have different shapes.
    """
    if reference_labels.shape != predicted_labels.shape:
        raise UserError(
            f"the reference mask has the shape {reference_labels.shape}, the predicted one "
            f"{predicted_labels.shape}; resample the prediction to the grid of the reference"
        )
    common, references, predictions = _contingency(reference_labels, predicted_labels)
    sizes_r, sizes_p = common.sum(1)[references > 0], common.sum(0)[predictions > 0]
    common = common[np.ix_(references > 0, predictions > 0)]
    references, predictions = references[references > 0], predictions[predictions > 0]
    iou = common / np.maximum(sizes_r[:, None] + sizes_p[None, :] - common, 1)
    eligible = np.where((iou >= iou_threshold) & (common > 0), iou, 0.0)
    partner = {
        int(r): int(p) for r, p in zip(*optimize.linear_sum_assignment(-eligible)) if eligible[r, p] > 0
    }
    matches = []
    for r, number in enumerate(references):
        p = partner.get(r)
        if p is None:
            matches.append(LesionMatch(int(number), None, 0.0, 0.0, int(sizes_r[r]), 0))
            continue
        dice = 2.0 * float(common[r, p]) / float(sizes_r[r] + sizes_p[p])
        pair = (int(number), int(predictions[p]), float(iou[r, p]), dice)
        matches.append(LesionMatch(*pair, int(sizes_r[r]), int(sizes_p[p])))
    taken = set(partner.values())
    matches += [
        LesionMatch(None, int(number), 0.0, 0.0, 0, int(sizes_p[p]))
        for p, number in enumerate(predictions)
        if p not in taken
    ]
    return matches


def count_lesions(matches: Sequence[LesionMatch]) -> LesionCounts:
    """Lesions, components, pairs and false positives among a study's matches."""
    found = sum(match.reference is not None and match.predicted is not None for match in matches)
    predicted = sum(match.predicted is not None for match in matches)
    reference = sum(match.reference is not None for match in matches)
    return LesionCounts(reference, predicted, found, predicted - found)


def size_group_names(edges_mm: Sequence[float]) -> list[str]:
    """Names of the size groups that ``edges_mm`` part, from small to large."""
    edges = [f"{edge:g}" for edge in sorted(edges_mm)]
    if not edges:
        return []
    between = [f"{low}-{high} mm" for low, high in itertools.pairwise(edges)]
    return [f"< {edges[0]} mm", *between, f">= {edges[-1]} mm"]


def size_groups(diameter_mm: NDArray[np.floating[Any]], edges_mm: Sequence[float]) -> NDArray[np.intp]:
    """Number of the size group (:func:`size_group_names`) of each diameter; an edge belongs to the larger."""
    return np.searchsorted(np.sort(np.asarray(edges_mm, dtype=float)), diameter_mm, side="right")


def _contingency(
    reference: NDArray[Any], predicted: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    """Common voxels of every two numbers of the maps, and the two lists of numbers."""
    # Only marked voxels are sorted: most of an image is background in both maps.
    marked = (reference != 0) | (predicted != 0)
    references, r = np.unique(reference[marked], return_inverse=True)
    predictions, p = np.unique(predicted[marked], return_inverse=True)
    shape = (len(references), len(predictions))
    flat = np.bincount(r * shape[1] + p, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.int64), references, predictions
