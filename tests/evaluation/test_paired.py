"""Paired tests against published numbers, exact enumeration and the theory behind them."""

import itertools
import math

import numpy as np
import pytest

from mtinet.evaluation import paired


# ---------------------------------------------------------------------- permutation of signs
def enumerated(values):
    """p-value over all sign flips."""
    flips = np.array(list(itertools.product((1, -1), repeat=len(values))))
    means = np.abs((flips * values).mean(1))
    return float((means >= abs(values.mean()) - 1e-12).mean())


@pytest.mark.parametrize("n", [2, 5, 10])
def test_few_patients_get_the_exact_p_value(n):
    values = np.random.default_rng(n).normal(0.4, 1.0, n)
    assert paired.sign_flip_test(values, 9999, 0) == pytest.approx(enumerated(values))


def test_darwins_plants_as_fisher_counted_them():
    # heights of 15 pairs of Zea mays in eighths of an inch; of 32768 sign flips 1726 are as extreme
    # (Fisher, The Design of Experiments, 1935, section 21)
    differences = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert paired.sign_flip_test(differences, 2**15, 0) == pytest.approx(1726 / 32768)


def test_many_patients_get_close_to_the_exact_p_value_and_never_zero():
    values = np.random.default_rng(1).normal(0.3, 1.0, 14)
    assert paired.sign_flip_test(values, 4000, 0) == pytest.approx(enumerated(values), abs=0.03)
    assert paired.sign_flip_test(np.ones(60), 999, 0) >= 1 / 1000


def test_the_sign_of_a_difference_does_not_matter_and_nothing_is_no_difference():
    values = np.random.default_rng(2).normal(0.3, 1.0, 9)
    assert paired.sign_flip_test(values, 9999, 0) == pytest.approx(paired.sign_flip_test(-values, 9999, 0))
    assert paired.sign_flip_test(np.zeros(9), 9999, 0) == 1.0
    assert math.isnan(paired.sign_flip_test([0.3], 9999, 0))


def test_p_values_are_uniform_where_there_is_no_difference():
    rng = np.random.default_rng(3)
    p = np.array([paired.sign_flip_test(rng.standard_t(4, 20), 199, seed) for seed in range(400)])
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / 400))


# ---------------------------------------------------------------------- McNemar
def test_mcnemar_as_published():
    # airway hyper-responsiveness before and after stem cell transplantation: 1 and 7 discordant pairs,
    # exact conditional p = 0.070 (Fagerland, Lydersen and Laake, BMC Med Res Methodol 2013;13:91)
    assert paired.mcnemar_test(1, 7) == pytest.approx(0.070, abs=5e-4)
    assert paired.mcnemar_test(0, 0) == 1.0


@pytest.mark.parametrize(("first", "second", "both"), [(1, 7, 4), (3, 3, 0), (0, 5, 6)])
def test_mcnemar_is_the_permutation_of_signs_of_right_and_wrong(first, second, both):
    differences = np.array([1.0] * first + [-1.0] * second + [0.0] * both)
    assert paired.mcnemar_test(first, second) == pytest.approx(enumerated(differences))


# ---------------------------------------------------------------------- effect and power
def test_standardised_difference_is_mean_over_deviation():
    values = np.random.default_rng(4).normal(0.5, 2.0, 30)
    weights = np.vstack([np.ones(30), np.arange(30) % 3, np.zeros(30)])
    found = paired.standardised_difference(weights, values)["d_z"]
    assert found[0] == pytest.approx(values.mean() / values.std(ddof=1))
    repeated = np.repeat(values, np.arange(30) % 3)
    assert found[1] == pytest.approx(repeated.mean() / repeated.std(ddof=1))
    assert np.isnan(found[2]), "a resample of other patients alone"
    assert np.isnan(paired.standardised_difference(np.ones((1, 3)), np.ones(3))["d_z"]).all()


def test_the_detectable_difference_is_detected_as_often_as_stated():
    n, spread, power = 50, 2.0, 0.8
    true = paired.detectable_difference(spread / math.sqrt(n), 0.05, power)
    rng = np.random.default_rng(5)
    samples = rng.normal(true, spread, (4000, n))
    z = samples.mean(1) / (spread / math.sqrt(n))
    assert (np.abs(z) > 1.959964).mean() == pytest.approx(power, abs=0.02)


# ---------------------------------------------------------------------- Holm
def closed_testing(p):
    """Adjusted p-values by testing every intersection with Bonferroni, which Holm's steps shorten."""
    places = range(len(p))
    subsets = [s for r in range(1, len(p) + 1) for s in itertools.combinations(places, r)]
    return [max(min(1.0, len(s) * min(p[i] for i in s)) for s in subsets if k in s) for k in places]


def test_holm_as_published():
    # four hypotheses of the worked example at level 0.05: only the first and the last are rejected
    found = paired.holm({"H1": 0.01, "H2": 0.04, "H3": 0.03, "H4": 0.005})
    assert list(found.values()) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_closed_testing_with_bonferroni(seed):
    p = list(np.random.default_rng(seed).uniform(0, 0.2, 6))
    assert list(paired.holm(dict(enumerate(p))).values()) == pytest.approx(closed_testing(p))


def test_what_was_not_tested_is_no_member_of_the_family():
    found = paired.holm({"a": 0.02, "b": math.nan, "c": 0.5})
    assert found["a"] == pytest.approx(0.04)
    assert math.isnan(found["b"])
