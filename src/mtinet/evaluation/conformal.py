"""Sets and intervals that hold the truth as often as they say, by conformal prediction (crepes).

From calibration cases that are exchangeable with a new one, the set or interval of nominal coverage c holds
the new truth with probability at least c, whatever the network (Vovk et al., *Algorithmic Learning in a
Random World*).  That probability is over calibration and new cases together: of one fixed calibration with n
cases the coverage scatters by about sqrt(c (1 - c) / n).  What is kept are the calibration cases' scores,
from which everything is computed anew: plain numbers, never a stored object.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.evaluation.statistics import FloatArray, safe_ratio

_ROUNDING = 1e-9
"""1 - 0.9 is a little less than a tenth to a computer: without this a set or interval was one case too wide."""


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
                found = classifier.predict_set(
                    alphas[:, [index]], confidence=coverage - _ROUNDING, smoothing=False
                )
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
class Difficulty:
    """How errors grow with a case's difficulty, learned on cases that the intervals are not taken from.

    Attributes
    ----------
    exponent : float
        e in ``|residual| ~ difficulty ** e``; 0 is one width for easy and difficult cases.
    low, high : float
        5th and 95th percentile of the difficulties that it was learned on: beyond them nothing is known, and a case
        counts as one at the limit.
    """

    exponent: float = 0.0
    low: float = 1.0
    high: float = 1.0

    @classmethod
    def fit(cls, residuals: NDArray[Any], difficulty: NDArray[Any], at_least: int = 20) -> Difficulty:
        """Least squares of the logarithms, between an exponent of 0 (difficult cases are never surer) and 2.

        Parameters
        ----------
        residuals, difficulty : ndarray [cases]
            Cases whose residual is not finite are left out.
        at_least : int
            With fewer cases the exponent is 0.
        """
        errors, difficulty = np.abs(np.asarray(residuals)), np.asarray(difficulty)
        known = np.isfinite(errors)
        errors, difficulty = errors[known], difficulty[known]
        if len(errors) < at_least or not errors.any():
            return cls()
        low, high = (float(v) for v in np.percentile(difficulty, [5, 95]))
        if high < 1.1 * low:  # all about the same: their slope would be noise
            return cls()
        logs = np.log(errors + 1e-3 * errors.mean())  # finite for an exact hit
        slope = float(np.polyfit(np.log(difficulty), logs, 1)[0])
        return cls(min(max(0.0, slope), 2.0), low, high)

    def scale(self, difficulty: NDArray[Any] | float) -> FloatArray:
        """Unit of the residuals of cases."""
        return np.clip(np.asarray(difficulty, dtype=np.float64), self.low, self.high) ** self.exponent


def groups_of(names: Sequence[str], at_least: int) -> tuple[str, ...]:
    """Names that have cases enough to be covered by themselves; the rest is one group, which needs as many.

    Where the rest is too small, the smallest of the others joins it.
    """
    counts = Counter(names)
    alone = sorted(
        (name for name in counts if counts[name] >= at_least), key=lambda name: (-counts[name], name)
    )
    while alone and 0 < sum(n for name, n in counts.items() if name not in alone) < at_least:
        alone.pop()
    return tuple(sorted(alone))


@dataclass(frozen=True)
class Intervals:
    """Half widths of intervals around a prediction, by group and wider for a difficult case.

    Residuals are taken in units of their case's difficulty (normalised conformal prediction, Papadopoulos
    et al., *Inductive Confidence Machines for Regression*, 2002): the coverage stays the nominal one however
    errors grow, and a good exponent spends the width where they are.  Each group is covered by itself (Mondrian).

    Attributes
    ----------
    residuals : dict
        By group, |truth - prediction| / scale of the calibration cases; "" holds those of all other groups.
    difficulty : Difficulty
    """

    residuals: Mapping[str, tuple[float, ...]]
    difficulty: Difficulty = Difficulty()

    @classmethod
    def fit(
        cls,
        residuals: NDArray[Any],
        difficulties: NDArray[Any],
        names: Sequence[str],
        difficulty: Difficulty,
        groups: Sequence[str],
    ) -> Intervals:
        """From calibration cases; what is not finite is left out.

        Parameters
        ----------
        residuals, difficulties : ndarray [cases]
        names : sequence of str
            Of each case, known without its truth.
        difficulty : Difficulty
        groups : sequence of str
            Names that are a group (:func:`groups_of`).  Like ``difficulty`` from other cases.
        """
        found = np.abs(np.asarray(residuals, dtype=np.float64)) / difficulty.scale(difficulties)
        kept: dict[str, list[float]] = {"": [], **{name: [] for name in groups}}
        for name, value in zip(names, found.tolist(), strict=True):
            if math.isfinite(value):
                kept[name if name in groups else ""].append(value)
        return cls({name: tuple(sorted(values)) for name, values in kept.items()}, difficulty)

    def half_width(self, coverage: float, difficulty: float, name: str) -> float:
        """Half width for a case; infinite where its group has too few calibration cases for the coverage."""
        from crepes import ConformalRegressor

        known = self.residuals[name if name in self.residuals else ""]
        if not known:
            return math.inf
        regressor = ConformalRegressor().fit(np.array(known))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # too few cases: the infinite width says so
            (low, high) = regressor.predict_int(np.zeros(1), confidence=coverage - _ROUNDING)[0]
        return float(high - low) / 2 * float(self.difficulty.scale(difficulty))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"residuals": dict(self.residuals), "difficulty": asdict(self.difficulty)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Intervals:
        """From :meth:`to_dict`'s values; a KeyError where something is missing."""
        residuals = {str(name): tuple(map(float, scores)) for name, scores in values["residuals"].items()}
        return cls({"": residuals.pop(""), **residuals}, Difficulty(**values["difficulty"]))


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

    Cases of equal confidence come in a random order, so each counts as their mean.

    Parameters
    ----------
    confidence : ndarray [rows]
    wrong : ndarray of bool [rows]
    """
    ordered, errors = _from_the_surest(np.ones((1, len(confidence))), confidence, wrong)
    answered = np.cumsum(ordered[0])
    return answered / max(1, len(answered)), errors[0] / answered


def risk_coverage_areas(weights: FloatArray, confidence: NDArray[Any], wrong: NDArray[Any]) -> FloatArray:
    """Mean risk over all coverages under each row of ``weights`` [resamples, rows]; NaN without weight.

    0 is best, the overall risk what a random order gives.
    """
    ordered, errors = _from_the_surest(weights, confidence, wrong)
    risk = safe_ratio(errors, np.cumsum(ordered, axis=1))
    return safe_ratio((ordered * np.nan_to_num(risk)).sum(axis=1), ordered.sum(axis=1))


def _from_the_surest(
    weights: FloatArray, confidence: NDArray[Any], wrong: NDArray[Any]
) -> tuple[FloatArray, FloatArray]:
    """Weights [resamples, rows] from the most confident row on, and their summed errors, ties at their mean."""
    _, place = np.unique(-np.asarray(confidence, dtype=np.float64), return_inverse=True)
    tied = np.eye(place.max(initial=-1) + 1)[place]
    mean = np.nan_to_num(safe_ratio((weights * np.asarray(wrong, dtype=np.float64)) @ tied, weights @ tied))
    order = np.argsort(place, kind="stable")
    ordered = weights[:, order]
    return ordered, np.cumsum(ordered * mean[:, place[order]], axis=1)
