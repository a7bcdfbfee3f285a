from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom

from mtinet.evaluation.conformal import (
    ClassSets,
    Difficulty,
    Intervals,
    covered_share,
    groups_of,
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


def test_every_group_and_the_rest_are_covered():
    rng = np.random.default_rng(3)
    spread = {"cyst": 1.0, "hcc": 5.0, "fnh": 25.0, "icc": 2.0}

    def draw(counts: dict[str, int]):
        names = np.repeat(list(counts), list(counts.values())).tolist()
        return names, rng.standard_normal(len(names)) * [spread[name] for name in names]

    groups = groups_of(draw({"cyst": 40, "hcc": 30, "fnh": 15, "icc": 10})[0], 20)
    assert groups == ("cyst", "hcc")
    names, errors = draw({"cyst": 4000, "hcc": 3000, "fnh": 1500, "icc": 1000})
    intervals = Intervals.fit(errors, np.ones(len(errors)), names, Difficulty(), groups)
    fresh, truth = draw({"cyst": 4000, "hcc": 3000, "fnh": 1500, "icc": 1000})
    inside = np.array(
        [abs(t) <= intervals.half_width(0.9, 1.0, n) for n, t in zip(fresh, truth, strict=True)]
    )
    fresh = np.array(fresh)
    assert inside.mean() == pytest.approx(0.9, abs=0.015)
    for shown in (fresh == "cyst", fresh == "hcc", np.isin(fresh, ["fnh", "icc"])):
        assert inside[shown].mean() == pytest.approx(0.9, abs=0.025)
    assert intervals.half_width(0.9, 1.0, "cyst") == pytest.approx(1.645, rel=0.06)
    # a name that was never seen is one of the rest
    assert intervals.half_width(0.9, 1.0, "x") == intervals.half_width(0.9, 1.0, "fnh")


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ({"a": 30, "b": 25}, ("a", "b")),  # nothing is left for a rest
        ({"a": 30, "b": 25, "c": 5}, ("a",)),  # 5 are too few for a rest: b joins
        ({"a": 30, "c": 5}, ()),
        ({"a": 19}, ()),
        ({}, ()),
    ],
)
def test_a_group_and_the_rest_need_cases(counts, groups):
    assert groups_of([name for name, n in counts.items() for _ in range(n)], 20) == groups


def test_unknown_residuals_are_left_out_and_too_few_give_no_width():
    intervals = Intervals.fit(np.array([0.1, math.nan, -0.3]), np.ones(3), ["a"] * 3, Difficulty(), ())
    assert intervals.residuals == {"": (0.1, 0.3)}
    assert intervals.half_width(0.9, 1.0, "a") == math.inf
    assert intervals.half_width(0.5, 1.0, "a") == pytest.approx(0.3)
    nothing = Intervals.fit(np.array([]), np.array([]), [], Difficulty(), ())
    assert nothing.half_width(0.5, 1.0, "a") == math.inf


def test_widths_follow_the_difficulty_and_hold_among_easy_and_difficult_cases():
    rng = np.random.default_rng(4)
    difficulty = rng.uniform(0.01, 0.3, 9000)
    errors = difficulty**1.4 * rng.standard_normal(9000)
    first, second, new = np.split(np.arange(9000), 3)
    learned = Difficulty.fit(errors[first], difficulty[first])
    assert learned.exponent == pytest.approx(1.4, abs=0.1)

    def shares(used: Difficulty) -> list[float]:
        intervals = Intervals.fit(errors[second], difficulty[second], [""] * 3000, used, ())
        width = np.array([intervals.half_width(0.9, d, "") for d in difficulty[new]])
        inside = np.abs(errors[new]) <= width
        easy = difficulty[new] < 0.15
        return [inside.mean(), inside[easy].mean(), inside[~easy].mean()]

    assert shares(learned) == pytest.approx([0.9] * 3, abs=0.03)
    whole, easy, difficult = shares(Difficulty())
    assert whole == pytest.approx(0.9, abs=0.02)
    assert easy > 0.97
    assert difficult < 0.85


def test_beyond_what_was_seen_a_case_counts_as_one_at_the_limit():
    rng = np.random.default_rng(6)
    difficulty = rng.uniform(0.02, 0.2, 2000)
    learned = Difficulty.fit(difficulty * rng.standard_normal(2000), difficulty)
    assert (learned.low, learned.high) == pytest.approx((0.029, 0.191), abs=0.005)
    assert learned.scale(1.0) == learned.scale(learned.high) > learned.scale(0.1)
    assert learned.scale(1e-6) == learned.scale(learned.low) > 0


def test_an_exponent_needs_cases_and_never_makes_a_difficult_case_surer():
    rng = np.random.default_rng(5)
    difficulty = rng.uniform(0.01, 0.3, 500)
    errors = rng.standard_normal(500) / difficulty
    assert Difficulty.fit(errors, difficulty).exponent == 0
    assert Difficulty.fit(1 / errors[:19], difficulty[:19]) == Difficulty()
    assert Difficulty.fit(1 / errors, rng.uniform(0.1, 0.105, 500)) == Difficulty()
    assert Difficulty.fit(np.zeros(500), difficulty) == Difficulty()
    assert Difficulty.fit(np.full(500, math.nan), difficulty) == Difficulty()
    assert Difficulty.fit(difficulty**5, difficulty).exponent == 2
    errors[::2] = math.nan
    assert Difficulty.fit(difficulty * np.sign(errors), difficulty).exponent == pytest.approx(1, abs=0.15)


def test_intervals_survive_their_dictionary():
    rng = np.random.default_rng(7)
    difficulty = rng.uniform(0.01, 0.3, 100)
    errors = difficulty * rng.standard_normal(100)
    names = ["a", "b"] * 50
    made = Intervals.fit(errors, difficulty, names, Difficulty.fit(errors, difficulty), ("a",))
    assert made.difficulty.exponent > 0
    assert Intervals.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    with pytest.raises(KeyError):
        Intervals.from_dict({"residuals": {"a": [1.0]}, "difficulty": {}})


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


def test_ties_come_in_a_random_order():
    equal, wrong = np.full(20, 0.5), np.arange(20) < 5
    once = np.ones((1, 20))
    for one in (wrong, wrong[::-1]):
        assert risk_coverage_areas(once, equal, one)[0] == pytest.approx(0.25)
        assert risk_coverage(equal, one)[1] == pytest.approx(np.full(20, 0.25))


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


@pytest.mark.parametrize("coverage", [0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99])
def test_sets_and_intervals_are_as_wide_as_their_rank_and_not_one_case_wider(coverage):
    for n in (*range(1, 60), 99, 100, 199):
        residuals = np.arange(1.0, n + 1.0)
        intervals = Intervals.fit(residuals, np.ones(n), ["a"] * n, Difficulty(), ())
        rank = math.ceil(Fraction(str(coverage)) * (n + 1))
        assert intervals.half_width(coverage, 1.0, "a") == (residuals[rank - 1] if rank <= n else math.inf)
        # a case less sure than all others is left out as soon as they are enough
        sets = ClassSets.fit(("a",), np.zeros(n, dtype=int), np.full((n, 1), 0.5))
        assert sets.contains(np.array([[0.4]]), coverage).item() == (rank > n)
