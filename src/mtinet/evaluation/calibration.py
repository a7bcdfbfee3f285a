"""Do class probabilities mean what they say?  Brier score, calibration error, reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from mtinet.evaluation.statistics import FloatArray, safe_ratio, weighted_mean


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions whose confidence lies in one bin.

    Attributes
    ----------
    low, high : float
        Edges; the upper one belongs to the bin.
    n : int
    confidence, accuracy : float
        Means; NaN in an empty bin.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability_bins(
    truth: NDArray[np.intp], probabilities: NDArray[Any], bins: int
) -> tuple[ReliabilityBin, ...]:
    """Confidence against accuracy of the most probable class, in bins of equal width.

    Parameters
    ----------
    truth : ndarray of int [rows]
        Index of the true class.
    probabilities : ndarray [rows, classes]
    bins : int
    """
    confidence, right, place = _binned(truth, probabilities, bins)
    edges = np.linspace(0.0, 1.0, bins + 1)
    found = []
    for index in range(bins):
        inside = place == index
        n = int(inside.sum())
        means = (float(confidence[inside].mean()), float(right[inside].mean())) if n else (np.nan, np.nan)
        found.append(ReliabilityBin(float(edges[index]), float(edges[index + 1]), n, *means))
    return tuple(found)


def calibration_scores(
    weights: FloatArray, truth: NDArray[np.intp], probabilities: NDArray[Any], bins: int
) -> dict[str, FloatArray]:
    """Expected calibration error and Brier score under each row of weights.

    Parameters
    ----------
    weights : ndarray [resamples, rows]
    truth : ndarray of int [rows]
    probabilities : ndarray [rows, classes]
    bins : int

    Returns
    -------
    dict of ndarray [resamples]
        ``ece``: mean over the rows of |accuracy - confidence| of their bin (Guo et al., arXiv 1706.04599).
        ``brier``: mean of the squared distance from the one-hot truth summed over classes, 0 to 2 (Brier
        1950); with two classes twice the one-sided form.
    """
    confidence, right, place = _binned(truth, probabilities, bins)
    gaps = weights @ (np.eye(bins)[place] * (right - confidence)[:, None])
    one_hot = np.eye(probabilities.shape[1])[truth]
    ece = safe_ratio(np.abs(gaps).sum(-1), weights.sum(-1))
    return {"ece": ece, "brier": weighted_mean(weights, ((probabilities - one_hot) ** 2).sum(-1))}


def _binned(
    truth: NDArray[np.intp], probabilities: NDArray[Any], bins: int
) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Confidence, whether right (0 or 1), and bin of each row."""
    confidence = probabilities.max(-1).astype(np.float64)
    right = is_right(truth, probabilities).astype(np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(np.intp) - 1, 0, bins - 1)
    return confidence, right, place


def is_right(truth: NDArray[np.intp], probabilities: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the true class is more probable than every other one [rows].

    A tie names no class: of a missed lesion, whose probabilities are equal, the first is not its answer.
    """
    own = np.eye(probabilities.shape[1], dtype=bool)[truth]
    others = np.where(own, -np.inf, probabilities).max(-1)
    return np.asarray(probabilities[own] > others)


def fit_temperature(truth: NDArray[np.intp], probabilities: NDArray[Any]) -> float:
    """Temperature that makes probabilities most likely (Guo et al., arXiv 1706.04599).

    One row of n + 2 is counted as of unknown class (Platt 1999): of rows that are all right, certainty would
    be the most likely.

    Parameters
    ----------
    truth : ndarray of int [rows]
        Index of the true class.
    probabilities : ndarray [rows, classes]

    Returns
    -------
    float
        From 0.05 to 20; above 1 where the probabilities were too sure.  1 without a row.
    """
    if not len(truth):
        return 1.0

    n, classes = probabilities.shape
    doubt = 1.0 / (n + 2)
    targets = np.full((n, classes), doubt / classes)
    targets[np.arange(n), truth] += 1.0 - doubt

    def loss(log_temperature: float) -> float:
        tempered = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-(targets * np.log(np.maximum(tempered, 1e-300))).sum(1).mean())

    bound = float(np.log(20.0))
    found = optimize.minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(probabilities: NDArray[Any], temperature: float) -> FloatArray:
    """Probabilities [rows, classes] with their logarithms divided by a temperature; the order stays."""
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), 1e-300)) / temperature
    logs -= logs.max(-1, keepdims=True)
    tempered = np.exp(logs)
    return np.asarray(tempered / tempered.sum(-1, keepdims=True))
