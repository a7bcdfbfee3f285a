import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtinet.evaluation.enhancement import agreement, enhancement_values

numbers = arrays(np.float64, 12, elements=st.floats(-1e3, 1e3, allow_subnormal=False))


def once(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    return {k: float(v[0]) for k, v in agreement(np.ones((1, len(truth))), truth, predicted).items()}


def test_against_direct_formulas() -> None:
    rng = np.random.default_rng([1])
    x = rng.normal(900, 200, 30)
    y = x * 0.9 + rng.normal(0, 40, 30)
    found = once(x, y)
    spread = 1.96 * np.std(y - x, ddof=1)
    assert found["mae"] == pytest.approx(np.abs(y - x).mean())
    assert found["bias"] == pytest.approx((y - x).mean())
    assert found["loa_low"] == pytest.approx((y - x).mean() - spread)
    assert found["loa_high"] == pytest.approx((y - x).mean() + spread)
    covariance = np.cov(x, y, ddof=0)
    expected = 2 * covariance[0, 1] / (covariance[0, 0] + covariance[1, 1] + (x.mean() - y.mean()) ** 2)
    assert found["ccc"] == pytest.approx(expected)


def test_weights_are_repetitions() -> None:
    rng = np.random.default_rng([2])
    x, y = rng.normal(size=(2, 8))
    counts = np.array([0, 1, 2, 3, 0, 1, 1, 2])
    weighted = {k: v[0] for k, v in agreement(counts[None].astype(float), x, y).items()}
    assert weighted == pytest.approx(once(np.repeat(x, counts), np.repeat(y, counts)))


@settings(max_examples=50, deadline=None)
@given(numbers, numbers, st.floats(-1e5, 1e5), st.floats(0.1, 100))
def test_shift_and_gain(x: np.ndarray, y: np.ndarray, shift: float, gain: float) -> None:
    x, y = x + np.arange(12.0), y - np.arange(12.0)
    before, after = once(x, y), once(gain * x + shift, gain * y + shift)
    for name in ("mae", "bias", "loa_low", "loa_high"):
        assert after[name] == pytest.approx(gain * before[name], rel=1e-6, abs=1e-6 * gain)
    assert after["ccc"] == pytest.approx(before["ccc"], abs=1e-4)
    assert abs(before["bias"]) <= before["mae"] + 1e-9
    assert before["ccc"] == pytest.approx(once(y, x)["ccc"], abs=1e-9)


def test_perfect_constant_and_empty() -> None:
    x = np.array([1.0, 2.0, 4.0])
    assert once(x, x) == pytest.approx({"mae": 0, "bias": 0, "loa_low": 0, "loa_high": 0, "ccc": 1})
    assert once(x, np.full(3, x.mean()))["ccc"] == pytest.approx(0.0)
    assert np.isnan(once(np.ones(3), np.ones(3))["ccc"])
    assert np.isnan(once(np.ones(1), np.zeros(1))["loa_low"])
    assert all(np.isnan(value) for value in once(np.zeros(0), np.zeros(0)).values())


def lesion(**values: object) -> dict[str, object]:
    base: dict[str, object] = {
        "study_id": "1",
        "patient_id": "1",
        "site": "A",
        "reference": 1,
        "predicted": 1,
        "dominant": True,
        "true_pre": 100.0,
        "true_delayed": 200.0,
        "mean_pre": 50.0,
        "mean_delayed": 75.0,
        "predicted_pre": 80.0,
        "predicted_delayed": 160.0,
        "measured_pre": 110.0,
        "measured_delayed": 220.0,
    }
    return {**base, **values}


def values(scale: str, *lesions: dict[str, object]) -> pd.DataFrame:
    return enhancement_values(pd.DataFrame(lesions), ("pre", "delayed"), scale).rows  # type: ignore[arg-type]


def test_raw_and_relative_values() -> None:
    raw = values("raw", lesion())
    assert raw["phase"].tolist() == ["pre", "delayed"]
    assert raw["head"].tolist() == [80.0, 160.0]
    (relative,) = values("relative", lesion()).to_dict("records")
    assert relative["phase"] == "delayed"
    assert relative["truth"] == 100.0
    assert relative["head"] == 100.0
    assert relative["training_mean"] == 50.0


def test_a_missed_lesion_takes_the_training_mean() -> None:
    missed = lesion(predicted=None, predicted_pre=None, predicted_delayed=None, measured_delayed=999.0)
    for method in ("head", "read_out"):
        assert values("raw", missed, lesion())[method].tolist()[0::2] == [50.0, 75.0]
        assert values("relative", missed)[method].tolist() == [50.0]
    assert not values("raw", missed)["found"].any()


def test_no_answer_takes_the_training_mean() -> None:
    silent = lesion(predicted_delayed=float("nan"))
    assert values("raw", silent)["head"].tolist() == [80.0, 75.0]
    assert values("relative", lesion(predicted_pre=-3.0))["head"].tolist() == [50.0]


@pytest.mark.parametrize("pre", [float("nan"), 0.0, -1.0])
def test_no_relative_value_without_a_usable_pre_signal(pre: float) -> None:
    assert values("relative", lesion(true_pre=pre)).empty


def test_only_the_dominant_reference_lesion_counts() -> None:
    small = lesion(reference=2, dominant=False, true_pre=1.0)
    false = lesion(reference=None, predicted=3, dominant=False)
    assert values("raw", small, lesion(), false)["truth"].tolist() == [100.0, 200.0]


def test_absent_phases_and_methods_are_left_out() -> None:
    assert values("raw", lesion(true_delayed=float("nan")))["phase"].tolist() == ["pre"]
    table = pd.DataFrame([lesion()]).drop(columns=["predicted_pre", "predicted_delayed"])
    assert enhancement_values(table, ("pre", "delayed"), "raw").methods == ["read_out", "training_mean"]
