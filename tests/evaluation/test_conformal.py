from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from mtinet.evaluation.conformal import (
    ClassSets,
    Intervals,
    covered_share,
    difficulty_exponent,
    risk_coverage,
    risk_coverage_areas,
)

CLASSES = ("cyst", "fnh", "hcc")


def cases(rng: np.random.Generator, n: int, sure: float = 1.5):
    """Classes and the probabilities of a classifier that is better at some classes than at others."""
    truth = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    logits = rng.standard_normal((n, 3)) + sure * np.array([2.0, 1.0, 0.3])[truth, None] * np.eye(3)[truth]
    return truth, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_cover_every_class_as_often_as_they_say(coverage):
    rng = np.random.default_rng(0)
    truth, probabilities = cases(rng, 8000)
    new_truth, new = cases(rng, 8000)
    inside = ClassSets.fit(CLASSES, truth, probabilities).contains(new, coverage)
    for index in range(3):
        own = new_truth == index
        # both samples scatter: four standard deviations of the difference
        allowed = 4 * math.sqrt(coverage * (1 - coverage) * (1 / own.sum() + 1 / (truth == index).sum()))
        assert inside[own, index].mean() == pytest.approx(coverage, abs=allowed)


def test_without_mondrian_the_rare_class_would_not_be_covered():
    """The test above can fail: one threshold for all classes leaves the rare one short."""
    rng = np.random.default_rng(1)
    truth, p = cases(rng, 8000)
    threshold = np.quantile(1 - p[np.arange(len(truth)), truth], 0.9)
    rare = truth == 2
    assert (1 - p[rare, 2] <= threshold).mean() < 0.8


def test_coverage_over_many_small_calibrations_is_never_lower():
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(100):
        truth, p = cases(rng, 60)
        new_truth, new = cases(rng, 60)
        inside = ClassSets.fit(CLASSES, truth, p).contains(new, 0.8)
        hits.append(inside[np.arange(60), new_truth])
    n = np.size(hits)
    assert np.sum(hits) > binom.ppf(1e-4, n // 10, 0.8) / (n // 10) * n  # cases of one calibration depend


def test_too_few_cases_of_a_class_leave_it_in_every_set():
    sets = ClassSets.fit(CLASSES, np.array([0] * 50 + [1] * 3), np.full((53, 3), 1 / 3))
    inside = sets.contains(np.array([[1.0, 0.0, 0.0]]), 0.9)
    assert inside.tolist() == [[True, True, True]]  # three cases, and none of hcc


def test_sets_name_the_most_probable_class_first_and_may_be_empty():
    truth = np.repeat([0, 1], 100)
    sharp = np.where(truth[:, None] == np.arange(2), 0.99, 0.01)
    sets = ClassSets.fit(("a", "b"), truth, sharp)
    assert sets.sets(np.array([[0.995, 0.005], [0.5, 0.5]]), 0.9) == [("a",), ()]
    loose = ClassSets.fit(("a", "b"), truth, np.full((200, 2), 0.1))
    assert loose.sets(np.array([[0.3, 0.7]]), 0.9) == [("b", "a")]


def test_intervals_cover_every_group_that_has_cases():
    rng = np.random.default_rng(3)
    spread = {"cyst": 1.0, "hcc": 5.0, "fnh": 25.0}
    groups = ["cyst"] * 4000 + ["hcc"] * 4000 + ["fnh"] * 49
    errors = rng.standard_normal(len(groups)) * [spread[name] for name in groups]
    intervals = Intervals.fit(errors, np.ones(len(groups)), groups, 0.0)
    for name in ("cyst", "hcc"):
        width = intervals.half_width(0.9, group=name)
        assert width == pytest.approx(1.645 * spread[name], rel=0.06)
        fresh = spread[name] * rng.standard_normal(4000)
        assert np.mean(np.abs(fresh) <= width) == pytest.approx(0.9, abs=0.025)
    everyone = intervals.half_width(0.9)
    assert np.mean(np.abs(errors) <= everyone) == pytest.approx(0.9, abs=0.001)
    # too few, or never seen: the width of all
    assert intervals.half_width(0.9, group="fnh") == intervals.half_width(0.9, group="x") == everyone


def test_unknown_residuals_are_left_out_and_too_few_give_no_width():
    intervals = Intervals.fit(np.array([0.1, math.nan, -0.3]), np.ones(3), ["a"] * 3, 0.0)
    assert intervals.residuals == {"": (0.1, 0.3)}
    assert intervals.half_width(0.9) == math.inf
    assert intervals.half_width(0.5) == pytest.approx(0.3)
    nothing = Intervals.fit(np.array([]), np.array([]), [], 0.0)
    assert nothing.half_width(0.5) == math.inf


def test_widths_follow_the_difficulty_and_hold_among_easy_and_difficult_cases():
    rng = np.random.default_rng(4)
    difficulty = rng.uniform(0.01, 0.3, 9000)
    errors = difficulty**1.4 * rng.standard_normal(9000)
    first, second, new = np.split(np.arange(9000), 3)
    exponent = difficulty_exponent(errors[first], difficulty[first])
    assert exponent == pytest.approx(1.4, abs=0.1)

    def shares(exponent: float) -> list[float]:
        intervals = Intervals.fit(errors[second], difficulty[second], [""] * 3000, exponent)
        width = np.array([intervals.half_width(0.9, d) for d in difficulty[new]])
        inside = np.abs(errors[new]) <= width
        easy = difficulty[new] < 0.15
        return [inside.mean(), inside[easy].mean(), inside[~easy].mean()]

    assert shares(exponent) == pytest.approx([0.9] * 3, abs=0.03)
    whole, easy, difficult = shares(0.0)
    assert whole == pytest.approx(0.9, abs=0.02)
    assert easy > 0.97
    assert difficult < 0.85


def test_an_exponent_needs_cases_and_never_makes_a_difficult_case_surer():
    rng = np.random.default_rng(5)
    difficulty = rng.uniform(0.01, 0.3, 500)
    errors = rng.standard_normal(500) / difficulty
    assert difficulty_exponent(errors, difficulty) == 0
    assert difficulty_exponent(1 / errors[:19], difficulty[:19]) == 0
    assert difficulty_exponent(1 / errors, np.full(500, 0.1)) == 0
    assert difficulty_exponent(np.zeros(500), difficulty) == 0
    assert difficulty_exponent(np.full(500, math.nan), difficulty) == 0
    errors[::2] = math.nan
    assert difficulty_exponent(difficulty * np.sign(errors), difficulty) == pytest.approx(1, abs=0.15)


def test_covered_share_is_wilsons():
    share, low, high = covered_share(np.array([True] * 9 + [False]))
    assert share == 0.9
    # Newcombe 1998: Wilson's interval of 9 of 10
    assert (low, high) == (pytest.approx(0.5958, abs=1e-3), pytest.approx(0.9821, abs=1e-3))


def test_risk_falls_with_coverage_where_confidence_tells():
    wrong = np.array([False, False, True, True])
    coverage, risk = risk_coverage(np.array([0.9, 0.8, 0.2, 0.1]), wrong)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == [0, 0, pytest.approx(1 / 3), 0.5]
    once = np.ones((1, 4))
    good = risk_coverage_areas(once, np.array([4, 3, 2, 1]), wrong)[0]
    assert good < risk_coverage_areas(once, np.array([1, 2, 3, 4]), wrong)[0]
    assert good == pytest.approx(risk.mean())


def test_weights_count_as_repeated_cases():
    rng = np.random.default_rng(5)
    confidence, wrong = rng.random(30), rng.random(30) < 0.3
    counts = rng.integers(0, 3, (4, 30))
    areas = risk_coverage_areas(counts.astype(float), confidence, wrong)
    for area, row in zip(areas, counts, strict=True):
        risk = np.cumsum((row * wrong)[order := np.argsort(-confidence)]) / np.maximum(
            np.cumsum(row[order]), 1
        )
        # a case that counts twice stands at both of its places with the risk behind the second
        assert area == pytest.approx((row[order] * risk).sum() / row.sum())
