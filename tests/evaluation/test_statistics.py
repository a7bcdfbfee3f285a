import math

import numpy as np
import pytest

from mtinet.evaluation.statistics import PatientBootstrap, weighted_mean


def sample(n: int = 60, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed])
    return np.array([f"P{i}" for i in range(n)], dtype=object), rng.normal(5.0, 2.0, n)


def test_interval_agrees_with_scipy() -> None:
    from scipy import stats

    patients, values = sample()
    mine = PatientBootstrap(patients, 4000, 0).mean(patients, values)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert mine.value == pytest.approx(values.mean())
    assert mine.n == len(values)
    width = theirs.high - theirs.low
    assert mine.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert mine.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_patients_not_rows_are_resampled() -> None:
    patients, values = sample()
    once = PatientBootstrap(patients, 2000, 0).mean(patients, values)
    four = PatientBootstrap(patients, 2000, 0).mean(np.repeat(patients, 4), np.repeat(values, 4))
    assert four.n == 4 * once.n
    assert (four.value, four.low, four.high) == pytest.approx((once.value, once.low, once.high))
    apart = np.arange(4 * len(patients)).astype(str).astype(object)
    independent = PatientBootstrap(apart, 2000, 0).mean(apart, np.repeat(values, 4))
    assert independent.high - independent.low < 0.6 * (four.high - four.low)


def test_order_and_seed() -> None:
    patients, values = sample()
    turned = slice(None, None, -1)
    first = PatientBootstrap(patients, 500, 0).mean(patients, values)
    again = PatientBootstrap(patients[turned], 500, 0).mean(patients[turned], values[turned])
    other = PatientBootstrap(patients, 500, 1).mean(patients, values)
    assert (again.low, again.high) == pytest.approx((first.low, first.high))
    assert (other.low, other.high) != (first.low, first.high)


def test_missing_values_and_single_patients_have_no_interval() -> None:
    patients, values = sample(4)
    bootstrap = PatientBootstrap(patients, 200, 0)
    partial = bootstrap.mean(patients, np.where(np.arange(4) < 2, values, np.nan))
    assert (partial.n, partial.value) == (2, pytest.approx(values[:2].mean()))
    assert math.isfinite(partial.low)
    alone = bootstrap.mean(patients, np.where(np.arange(4) < 1, values, np.nan))
    assert alone.value == values[0]
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    nothing = bootstrap.mean(patients, np.full(4, np.nan))
    assert nothing.n == 0
    assert math.isnan(nothing.value)
    assert bootstrap.mean([], []).n == 0
    with pytest.raises(ValueError, match="not among"):
        bootstrap.weights(["somebody"])


def test_paired_difference_is_narrower_than_unpaired() -> None:
    patients, values = sample()
    better = values - 0.5 + np.random.default_rng([9]).normal(0, 0.1, len(values))
    bootstrap = PatientBootstrap(patients, 1000, 0)
    difference = bootstrap.difference(
        patients,
        lambda w: {"error": weighted_mean(w, better), "only_one": weighted_mean(w, better)},
        lambda w: {"error": weighted_mean(w, values)},
    )
    assert set(difference) == {"error"}
    assert difference["error"].value == pytest.approx((better - values).mean())
    assert difference["error"].high < 0
    whole = bootstrap.mean(patients, values)
    assert difference["error"].high - difference["error"].low < 0.2 * (whole.high - whole.low)


def test_coverage_of_the_interval() -> None:
    covered = 0
    for seed in range(200):
        patients, values = sample(40, seed)
        estimate = PatientBootstrap(patients, 300, seed).mean(patients, values)
        covered += estimate.low <= 5.0 <= estimate.high
    assert 0.88 <= covered / 200 <= 0.99
