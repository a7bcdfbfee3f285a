"""Sets and intervals that hold the truth as often as they say, by conformal prediction (crepes).

From calibration cases that are exchangeable with a new one, the set or interval of nominal coverage c holds
the new truth with probability at least c, whatever the network (Vovk et al., *Algorithmic Learning in a
Random World*).  That probability is over calibration and new cases together: of one fixed calibration with n
cases the coverage scatters by about sqrt(c (1 - c) / n).  What is kept are the calibration cases' scores,
from which everything is computed anew: plain numbers, never a stored object.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.evaluation.statistics import FloatArray, safe_ratio


@dataclass(frozen=True)
class ClassSets:
    """Class sets whose coverage holds in every class (Mondrian by class).

    Attributes
    ----------
    scores : dict
        By class, 1 - p(true class) of the calibration cases of that class.
    """

    scores: Mapping[str, tuple[float, ...]]

    @classmethod
    def fit(cls, classes: Sequence[str], truth: NDArray[np.intp], probabilities: NDArray[Any]) -> ClassSets:
        """From calibration cases: index of the true class [rows] and probabilities [rows, classes]."""
        alphas = 1.0 - np.asarray(probabilities, dtype=np.float64)
        return cls(
            {
                name: tuple(np.sort(alphas[truth == index, index]).tolist())
                for index, name in enumerate(classes)
            }
        )

    def contains(self, probabilities: NDArray[Any], coverage: float) -> NDArray[np.bool_]:
        """Which classes are in the sets of new cases.

        Parameters
        ----------
        probabilities : ndarray [rows, classes]
            Columns in the order of ``scores``.
        coverage : float

        Returns
        -------
        ndarray of bool [rows, classes]
            A row may be empty (no class is as likely as it usually is for its own cases) or full.  A class
            with too few calibration cases for the coverage is in every set.
        """
        from crepes import ConformalClassifier

        alphas = 1.0 - np.asarray(probabilities, dtype=np.float64)
        inside = np.ones(alphas.shape, dtype=bool)
        for index, known in enumerate(self.scores.values()):
            if known and len(alphas):
                classifier = ConformalClassifier().fit(np.array(known))
                # without smoothing the same case always gets the same set; the coverage is never lower
                found = classifier.predict_set(alphas[:, [index]], confidence=coverage, smoothing=False)
                inside[:, index] = found[:, 0].astype(bool)
        return inside

    def sets(self, probabilities: NDArray[Any], coverage: float) -> list[tuple[str, ...]]:
        """The sets by name, the most probable class first."""
        names = list(self.scores)
        return [
            tuple(names[i] for i in np.argsort(-row, kind="stable") if inside[i])
            for row, inside in zip(
                np.asarray(probabilities), self.contains(probabilities, coverage), strict=True
            )
        ]


@dataclass(frozen=True)
class Intervals:
    """Half widths of intervals around a prediction, by group and wider for a difficult case.

    Residuals are taken in units of ``difficulty ** exponent`` (normalised conformal prediction, Papadopoulos
    et al., *Inductive Confidence Machines for Regression*, 2002): the coverage stays the nominal one whatever
    the exponent, and a good one spends the width where the errors are.  Each group is covered by itself
    (Mondrian), as far as it has cases.

    Attributes
    ----------
    residuals : dict
        By group, |truth - prediction| / difficulty ** exponent of the calibration cases; "" holds all of them,
        for the groups that are not there.
    exponent : float
        0 is one width for easy and difficult cases.
    """

    residuals: Mapping[str, tuple[float, ...]]
    exponent: float = 0.0

    @classmethod
    def fit(
        cls,
        residuals: NDArray[Any],
        difficulty: NDArray[Any],
        groups: Sequence[str],
        exponent: float,
        at_least: int = 50,
    ) -> Intervals:
        """From calibration cases; what is not finite is left out.

        Parameters
        ----------
        residuals, difficulty : ndarray [cases]
        groups : sequence of str
            Of each case, known without its truth.
        exponent : float
            Learned on other cases (:func:`difficulty_exponent`).
        at_least : int
            Cases that a group needs to be one.
        """
        found = np.abs(np.asarray(residuals, dtype=np.float64))
        found = found / np.asarray(difficulty, dtype=np.float64) ** exponent
        known = np.isfinite(found)
        found, of = found[known], np.array(groups, dtype=str)[known]
        kept = {"": found} | {str(name): found[of == name] for name in np.unique(of)}
        return cls(
            {
                name: tuple(np.sort(values).tolist())
                for name, values in kept.items()
                if name == "" or len(values) >= at_least
            },
            exponent,
        )

    def half_width(self, coverage: float, difficulty: float = 1.0, group: str = "") -> float:
        """Half width for a case; infinite where the calibration cases are too few for the coverage."""
        from crepes import ConformalRegressor

        known = self.residuals.get(group, self.residuals[""])
        if not known:
            return float("inf")
        regressor = ConformalRegressor().fit(np.array(known))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # too few cases: the infinite width says so
            (low, high) = regressor.predict_int(np.zeros(1), confidence=coverage)[0]
        return float(high - low) / 2 * float(difficulty**self.exponent)


def difficulty_exponent(residuals: NDArray[Any], difficulty: NDArray[Any], at_least: int = 20) -> float:
    """Exponent e with which errors grow, ``|residual| ~ difficulty ** e``: least squares of the logarithms.

    Parameters
    ----------
    residuals, difficulty : ndarray [cases]
        Cases whose residual is not finite are left out.
    at_least : int
        With fewer cases the exponent is 0.

    Returns
    -------
    float
        At least 0: a difficult case is never said to be surer.
    """
    errors, difficulty = np.abs(np.asarray(residuals)), np.asarray(difficulty)
    known = np.isfinite(errors)
    errors, difficulty = errors[known], difficulty[known]
    typical = float(np.median(errors)) if len(errors) else 0.0
    if len(errors) < at_least or typical == 0 or np.ptp(difficulty) == 0:
        return 0.0
    logs = np.log(errors + 1e-3 * typical)  # finite for an exact hit
    return max(0.0, float(np.polyfit(np.log(difficulty), logs, 1)[0]))


def covered_share(inside: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Share of cases that are covered and its 95 % interval (Wilson)."""
    from scipy.stats import binomtest

    n = len(inside)
    if not n:
        return float("nan"), float("nan"), float("nan")
    found = binomtest(int(inside.sum()), n)
    low, high = found.proportion_ci(0.95, method="wilson")
    return found.statistic, float(low), float(high)


def risk_coverage(confidence: NDArray[Any], wrong: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Share of cases that are answered, and the share of wrong ones among those, from the surest on.

    Parameters
    ----------
    confidence : ndarray [rows]
    wrong : ndarray of bool [rows]
    """
    order = np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable")
    rows = np.arange(1, len(order) + 1)
    return rows / max(1, len(order)), np.cumsum(np.asarray(wrong, dtype=np.float64)[order]) / rows


def risk_coverage_areas(weights: FloatArray, confidence: NDArray[Any], wrong: NDArray[Any]) -> FloatArray:
    """Mean risk over all coverages under each row of ``weights`` [resamples, rows]; NaN without weight.

    0 is best, the overall risk what a random order gives.
    """
    order = np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable")
    ordered = weights[:, order]
    errors = np.cumsum(ordered * np.asarray(wrong, dtype=np.float64)[order], axis=1)
    risk = safe_ratio(errors, np.cumsum(ordered, axis=1))
    return safe_ratio((ordered * np.nan_to_num(risk)).sum(axis=1), ordered.sum(axis=1))
