import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from mtinet.evaluation.calibration import (
    apply_temperature,
    calibration_scores,
    fit_temperature,
    reliability_bins,
)


def draw(n: int, sharpen: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth drawn from the probabilities, which are then sharpened."""
    rng = np.random.default_rng([seed])
    true = rng.dirichlet(np.ones(3), n)
    truth = np.array([rng.choice(3, p=p) for p in true])
    stated = true**sharpen
    return truth, stated / stated.sum(1, keepdims=True)


def once(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    found = calibration_scores(np.ones((1, len(truth))), truth, probabilities, 10)
    return {name: float(values[0]) for name, values in found.items()}


def test_honest_probabilities_are_calibrated_and_sharpened_ones_are_not() -> None:
    assert once(*draw(4000))["ece"] < 0.03
    assert once(*draw(4000, 4.0))["ece"] > 0.1


def test_brier_equals_scikit_learn() -> None:
    truth, probabilities = draw(200)
    two = np.column_stack([1 - probabilities[:, 0], probabilities[:, 0]])
    binary = (truth == 0).astype(int)
    assert once(binary, two)["brier"] == pytest.approx(2 * brier_score_loss(binary, two[:, 1]))


def test_ece_is_the_weighted_gap_of_the_bins() -> None:
    truth, probabilities = draw(300, 2.0)
    bins = reliability_bins(truth, probabilities, 10)
    assert sum(b.n for b in bins) == 300
    assert (bins[0].low, bins[-1].high) == (0.0, 1.0)
    gap = sum(b.n * abs(b.accuracy - b.confidence) for b in bins if b.n) / 300
    assert once(truth, probabilities)["ece"] == pytest.approx(gap)
    assert all(b.low < b.confidence <= b.high + 1e-12 for b in bins if b.n)


def test_extremes() -> None:
    sure = np.eye(2)
    assert once(np.array([0, 1]), sure) == pytest.approx({"ece": 0.0, "brier": 0.0})
    assert once(np.array([1, 0]), sure) == pytest.approx({"ece": 1.0, "brier": 2.0})
    assert all(np.isnan(v) for v in once(np.zeros(0, dtype=int), np.zeros((0, 2))).values())
    assert all(
        b.n == 0 and np.isnan(b.accuracy) for b in reliability_bins(np.zeros(0, int), np.zeros((0, 2)), 4)
    )


def test_temperature_finds_back_what_sharpened_and_leaves_the_order():
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.standard_normal((20000, 4))
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (honest.cumsum(1) > rng.random((len(honest), 1))).argmax(1)
    too_sure = apply_temperature(honest, 0.4)
    temperature = fit_temperature(truth, too_sure)
    assert temperature == pytest.approx(2.5, rel=0.05)
    mended = apply_temperature(too_sure, temperature)
    assert np.array_equal(mended.argmax(1), honest.argmax(1))
    assert mended.sum(1) == pytest.approx(1)
    one = np.ones((1, len(truth)))
    before = calibration_scores(one, truth, too_sure, 10)["ece"].item()
    assert calibration_scores(one, truth, mended, 10)["ece"].item() < 0.2 * before


def test_few_rows_that_are_all_right_do_not_make_certain():
    right = np.tile([[0.8, 0.2]], (30, 1))
    tempered = apply_temperature(right, fit_temperature(np.zeros(30, dtype=np.intp), right))
    assert 0.9 < tempered[0, 0] < 0.995


def test_temperature_of_nobody_and_of_certain_answers():
    assert fit_temperature(np.zeros(0, dtype=np.intp), np.zeros((0, 3))) == 1
    certain = np.eye(2)[[0, 1, 0, 1]]
    assert np.isfinite(fit_temperature(np.array([0, 1, 1, 1]), certain))
    assert apply_temperature(certain, 3.0).argmax(1).tolist() == [0, 1, 0, 1]
