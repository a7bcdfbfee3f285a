"""Patient-level bootstrap: one set of resamples for every number of a table.

Patients are resampled with replacement and bring all their rows along.  A resample is a row of weights (how
often each patient was drawn), and row 0 has weight 1 everywhere, so that one vectorised function of the
weights gives the point estimate and all resampled values by the same formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], Mapping[str, FloatArray]]
"""From weights [1 + resamples, rows] to named values [1 + resamples]."""

STREAM_BOOTSTRAP = 301
INTERVAL_PERCENT = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes
    ----------
    value : float
    low, high : float
        NaN when fewer than 2 patients contribute.
    n : int
        Rows that it was computed from.
    """

    value: float
    low: float
    high: float
    n: int


NO_ESTIMATE = Estimate(math.nan, math.nan, math.nan, 0)


class PatientBootstrap:
    """Resamples of the patients of a table (percentile intervals, Efron 1979).

    Parameters
    ----------
    patients : iterable of str
        Patient of every row, at least one, in any order: the intervals do not depend on it.
    resamples : int
    seed : int
    """

    def __init__(self, patients: Iterable[str], resamples: int, seed: int) -> None:
        self._patients = pd.Index(sorted(set(patients)), dtype=object)
        count = len(self._patients)
        rng = np.random.default_rng([seed, STREAM_BOOTSTRAP])
        drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples)
        self._counts = np.vstack([np.ones((1, count)), drawn])

    def weights(self, patients: ArrayLike) -> FloatArray:
        """Weight of each row in each resample [1 + resamples, rows]; row 0 is the sample itself."""
        rows = self._patients.get_indexer(pd.Index(np.asarray(patients, dtype=object)))
        if (rows < 0).any():
            raise ValueError("a row names a patient who is not among the resampled ones")
        return np.asarray(self._counts[:, rows])

    def estimates(self, patients: ArrayLike, statistic: Statistic) -> dict[str, Estimate]:
        """Estimates of each value that ``statistic`` names.

        Parameters
        ----------
        patients : array of str, shape (rows,)
            Patient of each row that the statistic is computed from.
        statistic : callable
            See :data:`Statistic`; NaN where a resample leaves it undefined.
        """
        rows = np.asarray(patients, dtype=object)
        enough = len(set(rows)) >= 2
        found = {}
        for name, values in statistic(self.weights(rows)).items():
            low, high = _interval(values[1:]) if enough else (math.nan, math.nan)
            found[name] = Estimate(float(values[0]), low, high, len(rows))
        return found

    def mean(self, patients: ArrayLike, values: ArrayLike) -> Estimate:
        """Mean of the finite among ``values`` [rows]."""
        numbers = np.asarray(values, dtype=np.float64)
        usable = np.isfinite(numbers)
        rows = np.asarray(patients, dtype=object)[usable]
        if not len(rows):
            return NO_ESTIMATE
        return self.estimates(rows, lambda w: {"mean": weighted_mean(w, numbers[usable])})["mean"]

    def difference(self, patients: ArrayLike, first: Statistic, second: Statistic) -> dict[str, Estimate]:
        """Estimates of ``first`` - ``second`` on the same rows and resamples, for the names both give."""

        def minus(weights: FloatArray) -> dict[str, FloatArray]:
            one, other = first(weights), second(weights)
            return {name: one[name] - other[name] for name in one if name in other}

        return self.estimates(patients, minus)


def weighted_mean(weights: FloatArray, values: NDArray[Any]) -> FloatArray:
    """Mean of ``values`` [rows] under each row of ``weights`` [resamples, rows]; NaN without weight."""
    return safe_ratio(weights @ values.astype(np.float64), weights.sum(axis=-1))


def safe_ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Elementwise quotient, NaN where the denominator is 0."""
    empty = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=empty, where=denominator != 0))


def mean_of_defined(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    return safe_ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(np.float64))


def _interval(values: FloatArray) -> tuple[float, float]:
    defined = values[np.isfinite(values)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.percentile(defined, INTERVAL_PERCENT)
    return float(low), float(high)
