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
from dataclasses import dataclass, field
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
    """Half widths of intervals around a prediction, by group, wider for a difficult case (normalised conformal).

    Residuals are taken in units of ``difficulty ** exponent`` (Papadopoulos et al., *Inductive Confidence
    Machines for Regression*, 2002), so that the coverage stays the nominal one whatever the exponent, and a
    good one spends the width where the errors are.

    Attributes
    ----------
    residuals : dict
        By group, |truth - prediction| / difficulty ** exponent of the calibration cases.
    exponents : dict
        By group; 0 where there is none, which is one width for all cases.
    """

    residuals: Mapping[str, tuple[float, ...]]
    exponents: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        residuals: Mapping[str, NDArray[Any]],
        difficulty: NDArray[Any] | None = None,
        exponents: Mapping[str, float] | None = None,
    ) -> Intervals:
        """From calibration residuals by group and the cases' difficulty; what is not finite is left out.

        ``exponents`` are learned on other cases (:func:`difficulty_exponent`).
        """
        exponents = dict(exponents or {})
        kept = {}
        for name, values in residuals.items():
            found = np.abs(np.asarray(values, dtype=np.float64))
            if difficulty is not None:
                found = found / np.asarray(difficulty, dtype=np.float64) ** exponents.get(name, 0.0)
            kept[name] = tuple(np.sort(found[np.isfinite(found)]).tolist())
        return cls(kept, exponents)

    def half_widths(self, coverage: float, difficulty: float = 1.0) -> dict[str, float]:
        """Half width by group for a case; infinite where the calibration cases are too few for the coverage."""
        from crepes import ConformalRegressor

        widths = {}
        for name, known in self.residuals.items():
            widths[name] = np.inf
            if known:
                regressor = ConformalRegressor().fit(np.array(known))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # too few cases: the infinite width says so
                    (low, high) = regressor.predict_int(np.zeros(1), confidence=coverage)[0]
                widths[name] = float(high - low) / 2 * difficulty ** self.exponents.get(name, 0.0)
        return widths


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
