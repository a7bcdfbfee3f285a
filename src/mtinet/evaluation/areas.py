"""Areas under ROC curves and their differences: DeLong's test within folds, pooled over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtinet.evaluation.statistics import FloatArray

LEAST_OF_A_CLASS = 2
"""Fewer rows of a class than this leave the variance of its placement values open."""


@dataclass(frozen=True)
class AreaDifference:
    """Difference of two areas under correlated ROC curves, or one area alone.

    Attributes
    ----------
    value : float
    variance : float
    n : int
        Lesions that it rests on.
    """

    value: float
    variance: float
    n: int

    @property
    def standard_error(self) -> float:
        """Root of the variance."""
        return math.sqrt(self.variance)

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference; NaN where the variance is 0 and the value is not."""
        from scipy.stats import norm

        if self.variance > 0:
            return float(2.0 * norm.sf(abs(self.value) / self.standard_error))
        return 1.0 if self.value == 0 else math.nan

    def interval(self) -> tuple[float, float]:
        """95 % interval, normal approximation."""
        half = 1.959963984540054 * self.standard_error
        return self.value - half, self.value + half


def area_influence(truth: NDArray[np.intp], scores: FloatArray) -> tuple[float, FloatArray]:
    """Area under the ROC curve and what each row contributes to its deviation.

    Each class that occurs against the rest, averaged over them; with two classes the area of the second, as
    :meth:`~mtinet.evaluation.classification.ClassPredictions.auc`.  Placement values come from mid-ranks
    (Sun and Xu, IEEE Signal Processing Letters 2014;21:1389).

    Parameters
    ----------
    truth : ndarray of int, shape (rows,)
        At least two classes must occur.
    scores : ndarray, shape (rows, classes)

    Returns
    -------
    area : float
    influence : ndarray, shape (rows,)
        Sums to 0 over the rows of each curve's two groups.
    """
    from scipy.stats import rankdata

    count = scores.shape[1]
    curves = [k for k in (range(count) if count > 2 else (count - 1,)) if (truth == k).any()]
    areas, influence = [], np.zeros(len(truth))
    for k in curves:
        own = truth == k
        above, below = scores[own, k], scores[~own, k]
        ranks = rankdata(scores[:, k])
        placed_own = (ranks[own] - rankdata(above)) / len(below)
        placed_other = 1.0 - (ranks[~own] - rankdata(below)) / len(above)
        area = float(placed_own.mean())
        areas.append(area)
        influence[own] += (placed_own - area) / len(above) / len(curves)
        influence[~own] += (placed_other - area) / len(below) / len(curves)
    return float(np.mean(areas)), influence


def area_difference(
    truth: NDArray[np.intp], first: FloatArray, second: FloatArray | None = None
) -> AreaDifference | None:
    """DeLong's test within one fold: ``first`` - ``second``, or the area of ``first`` alone.

    DeLong, DeLong and Clarke-Pearson (Biometrics 1988;44:837).  With more than two classes the mean over
    classes is compared, its variance taken within true classes; with two it is theirs exactly.  Several
    seeds are averaged before, as their areas and contributions are.

    Parameters
    ----------
    truth : ndarray of int, shape (rows,)
    first, second : ndarray, shape (seeds, rows, classes)

    Returns
    -------
    AreaDifference or None
        None where fewer than two classes have :data:`LEAST_OF_A_CLASS` rows; rows of a rarer class are left
        out.
    """
    classes, counts = np.unique(truth, return_counts=True)
    usable = classes[counts >= LEAST_OF_A_CLASS]
    if len(usable) < 2:
        return None
    kept = np.isin(truth, usable)
    truth = truth[kept]
    value, influence = _mean_over_seeds(truth, first[:, kept])
    if second is not None:
        other, other_influence = _mean_over_seeds(truth, second[:, kept])
        value, influence = value - other, influence - other_influence
    variance = 0.0
    for label in usable:
        own = influence[truth == label]
        variance += float(len(own) * own.var(ddof=1))
    return AreaDifference(value, variance, len(truth))


def pooled(parts: Sequence[AreaDifference]) -> AreaDifference | None:
    """Folds together, each with the weight of its rows; their patients are different ones."""
    total = sum(part.n for part in parts)
    if not total:
        return None
    shares = [part.n / total for part in parts]
    return AreaDifference(
        float(sum(share * part.value for share, part in zip(shares, parts))),
        float(sum(share**2 * part.variance for share, part in zip(shares, parts))),
        total,
    )


def area_of(scores: pd.DataFrame) -> AreaDifference | None:
    """Area of a row: within folds, pooled.

    Parameters
    ----------
    scores : DataFrame
        :func:`mtinet.evaluation.pooling.class_scores`.

    Returns
    -------
    AreaDifference or None
        None where no fold has two lesions of two classes.
    """
    parts = []
    for _, block in scores.groupby("block"):
        truth, stacked = _stack(block, _common([block]))
        if len(truth) and (part := area_difference(truth, stacked)) is not None:
            parts.append(part)
    return pooled(parts)


def area_between(own: pd.DataFrame, other: pd.DataFrame) -> AreaDifference | None:
    """Difference of the areas of two rows, on the lesions that both scored: within folds, pooled.

    Where the rows divide the cohort differently, within the parts that were held out together by both.
    """
    place = other.drop_duplicates("study_id").set_index("study_id")["block"]
    own = own[own["study_id"].isin(place.index)]
    parts = []
    for _, block in own.groupby([own["block"], own["study_id"].map(place)]):
        partner = other[other["study_id"].isin(block["study_id"])]
        studies = _common([block, partner])
        truth, first = _stack(block, studies)
        _, second = _stack(partner, studies)
        if len(truth) and (part := area_difference(truth, first, second)) is not None:
            parts.append(part)
    return pooled(parts)


def _mean_over_seeds(truth: NDArray[np.intp], scores: FloatArray) -> tuple[float, FloatArray]:
    parts = [area_influence(truth, own) for own in scores]
    return float(np.mean([area for area, _ in parts])), np.mean([own for _, own in parts], axis=0)


def _common(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Studies that every seed of every table scored, in order."""
    sets = [set(own["study_id"]) for table in tables for _, own in table.groupby("seed")]
    return sorted(set.intersection(*sets)) if sets else []


def _stack(table: pd.DataFrame, studies: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Truth [studies] and scores [seeds, studies, classes]."""
    if not studies:
        return np.zeros(0, dtype=np.intp), np.zeros((0, 0, 0))
    by_seed = [own.set_index("study_id").loc[list(studies)] for _, own in table.groupby("seed")]
    truth = by_seed[0]["truth"].to_numpy(dtype=np.intp)
    return truth, np.stack([np.stack(list(own["scores"])) for own in by_seed])
