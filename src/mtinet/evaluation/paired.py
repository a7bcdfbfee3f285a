"""Paired tests on patients that two methods scored, and the correction for testing many times.

Plain functions of numbers: what is paired with what is decided in :mod:`mtinet.evaluation.comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtinet.evaluation.statistics import FloatArray, safe_ratio

STREAM_PERMUTATION = 302


# ---------------------------------------------------------------------- differences of means
def sign_flip_test(differences: ArrayLike, permutations: int, seed: int) -> float:
    """Two-sided p-value of the mean of paired differences, one a patient, under sign flips (Fisher 1935).

    Exact where all 2^n flips are no more than ``permutations``; otherwise so many are drawn and the p-value
    counts the sample itself, so that it is never 0 (Phipson and Smyth 2010).  NaN with fewer than 2 patients.
    """
    from scipy.stats import permutation_test

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return math.nan
    if not values.any():
        return 1.0
    tested = permutation_test(
        (values,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=permutations,
        batch=1000,
        random_state=np.random.default_rng([seed, STREAM_PERMUTATION]),
    )
    return float(tested.pvalue)


def mcnemar_test(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value of McNemar's test.

    Parameters
    ----------
    first_only, second_only : int
        Patients that only the first, and only the second method has right.
    """
    from scipy.stats import binomtest

    if first_only + second_only == 0:
        return 1.0
    return float(binomtest(first_only, first_only + second_only, 0.5).pvalue)


def detectable_difference(standard_error: float, level: float, power: float) -> float:
    """Smallest true difference that a two-sided test at ``level`` finds with ``power``.

    The normal approximation (z_{1-level/2} + z_power) · SE.
    """
    from scipy.stats import norm

    return float((norm.ppf(1.0 - level / 2.0) + norm.ppf(power)) * standard_error)


def standardised_difference(weights: FloatArray, differences: NDArray[Any]) -> dict[str, FloatArray]:
    """Mean of the paired differences over their standard deviation (Cohen's d_z), by resample.

    Parameters
    ----------
    weights : ndarray [resamples, patients]
    differences : ndarray [patients]

    Returns
    -------
    dict
        ``d_z`` [resamples]; NaN where the differences of a resample do not vary.
    """
    values = differences.astype(np.float64)
    count = weights.sum(-1)
    mean = safe_ratio(weights @ values, count)
    squares = (weights * (values[None, :] - mean[:, None]) ** 2).sum(-1)
    variance = squares / np.maximum(count - 1.0, 1.0)
    return {"d_z": safe_ratio(mean, np.sqrt(np.where(variance > 1e-24, variance, 0.0)))}


# ---------------------------------------------------------------------- many tests
def holm(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """Adjusted p-values of a family of tests (Holm 1979); NaN stays NaN and is no member of the family."""
    tested = sorted((p, place) for place, p in enumerate(p_values.values()) if not math.isnan(p))
    names = list(p_values)
    adjusted = dict.fromkeys(names, math.nan)
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        adjusted[names[place]] = largest
    return adjusted
