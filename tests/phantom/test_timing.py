"""When images are taken."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.config import DEFAULT_PHASES, SiteSettings
from mtinet.phantom.acquisition import AcquisitionError
from mtinet.phantom.timing import draw_times, latest_s

FIXED = SiteSettings(name="A", timing_jitter_s=3.0)
BOLUS = FIXED.model_copy(update={"timing": "bolus"})


@pytest.mark.parametrize("late_s", [-30.0, 0.0, 12.0])
def test_times_rise_in_order_even_with_wild_jitter(late_s: float) -> None:
    site = BOLUS.model_copy(update={"timing_jitter_s": 80.0})
    for seed in range(20):
        times = draw_times(np.random.default_rng(seed), site, DEFAULT_PHASES, late_s)
        assert list(times) == ["arterial", "portal_venous", "delayed"]
        values = list(times.values())
        assert np.all(np.diff([0.0, *values]) >= 4.9)


def test_a_phase_order_that_is_not_that_of_time_is_kept() -> None:
    times = draw_times(np.random.default_rng(0), FIXED, ("delayed", "pre", "arterial"))
    assert list(times) == ["delayed", "arterial"]
    assert times["arterial"] < times["delayed"]


def test_bolus_tracking_follows_the_arrival_and_a_fixed_clock_does_not() -> None:
    def drawn(site: SiteSettings, late_s: float) -> np.ndarray:
        return np.array(list(draw_times(np.random.default_rng(1), site, DEFAULT_PHASES, late_s).values()))

    np.testing.assert_allclose(drawn(BOLUS, 7.0) - drawn(BOLUS, 0.0), 7.0, atol=0.11)
    np.testing.assert_array_equal(drawn(FIXED, 7.0), drawn(FIXED, 0.0))
    np.testing.assert_array_equal(drawn(FIXED, 0.0), drawn(BOLUS, 0.0))


def test_jitter_has_the_spread_that_was_asked_for() -> None:
    site = FIXED.model_copy(update={"timing_jitter_s": 4.0})
    times = [draw_times(np.random.default_rng(s), site, DEFAULT_PHASES)["portal_venous"] for s in range(800)]
    assert np.mean(times) == pytest.approx(65.0, abs=0.6)
    assert np.std(times) == pytest.approx(4.0, rel=0.1)


def test_no_phase_comes_after_the_latest_time() -> None:
    site = BOLUS.model_copy(update={"timing_jitter_s": 30.0})
    for seed in range(200):
        times = draw_times(np.random.default_rng(seed), site, DEFAULT_PHASES, 50.0)
        assert max(times.values()) <= latest_s(site, DEFAULT_PHASES)


def test_a_phase_without_a_time_is_refused_by_name() -> None:
    site = FIXED.model_copy(update={"times_s": {"arterial": 20.0}})
    for ask in (
        lambda: draw_times(np.random.default_rng(0), site, DEFAULT_PHASES),
        lambda: latest_s(site, DEFAULT_PHASES),
    ):
        with pytest.raises(AcquisitionError, match=r"site A.*portal_venous, delayed.*times_s"):
            ask()
