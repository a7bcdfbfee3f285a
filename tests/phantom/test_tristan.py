"""The gadoxetate model against real signals of liver and aorta (TRISTAN), and the fit against itself."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mtinet.phantom.fitting import (
    BOUNDS,
    LiverFit,
    Visit,
    fit_liver,
    liver_curve,
    r_squared,
    read_visits,
    running_mean,
)

VISITS = read_visits(Path(__file__).parents[1] / "data" / "tristan")
NAMES = [visit.name for visit in VISITS]
every_visit = pytest.mark.parametrize("visit", VISITS, ids=NAMES)


@cache
def _fit(name: str, uptake: bool = True) -> LiverFit:
    return fit_liver(VISITS[NAMES.index(name)], uptake)


def _ceiling(visit: Visit) -> float:
    return r_squared(visit.liver_relative, running_mean(visit.liver_relative, 15))


def test_there_are_three_subjects_with_and_without_the_drug() -> None:
    assert sorted(NAMES) == sorted(f"00{n} {visit}" for n in (1, 2, 3) for visit in ("control", "drug"))


@every_visit
def test_the_model_explains_nine_tenths_of_what_smoothing_does(visit: Visit) -> None:
    fit = _fit(visit.name)
    assert len(fit.parameters) <= 6
    assert all(BOUNDS[name].low <= value <= BOUNDS[name].high for name, value in fit.parameters.items())
    assert fit.r_squared >= 0.90 * _ceiling(visit)


@every_visit
def test_the_model_without_uptake_does_not(visit: Visit) -> None:
    assert _fit(visit.name, uptake=False).r_squared < 0.90 * _ceiling(visit)


@pytest.mark.parametrize("visit", VISITS[:2], ids=NAMES[:2])
def test_an_input_of_the_wrong_time_is_not_made_to_fit(visit: Visit) -> None:
    late = np.concatenate([visit.aorta[:40], visit.aorta[:-40]])  # the bolus 70 s after the liver's rise
    assert fit_liver(replace(visit, aorta=late)).r_squared < 0.90 * _ceiling(visit)


@every_visit
def test_plasma_carries_nothing_before_the_injection(visit: Visit) -> None:
    before, peak = visit.plasma[1 : visit.before], visit.plasma.max()
    assert abs(before.mean()) < 1e-3 * peak
    assert visit.injection_s < visit.t_s[np.argmax(visit.plasma)] < visit.injection_s + 60.0


def test_the_fit_finds_the_parameters_that_made_the_curve() -> None:
    visit = VISITS[1]
    truth = dict(zip(BOUNDS, (0.8, 0.25, 0.22, 12.0, 0.035, 0.02), strict=True))
    fit = fit_liver(replace(visit, liver=liver_curve(visit, visit.plasma, truth)))
    # the baseline is taken from the curve itself, where noise of the input has left a trace
    assert fit.r_squared > 0.9999
    assert fit.at_bound == ()
    for name, value in truth.items():
        assert fit.parameters[name] == pytest.approx(value, rel=0.05), name


def test_the_running_mean_keeps_a_constant_and_averages_inside() -> None:
    np.testing.assert_allclose(running_mean(np.full(40, 3.0)), 3.0)
    values = np.random.default_rng(0).normal(size=40)
    assert running_mean(values)[20] == pytest.approx(values[13:28].mean())
    assert running_mean(values)[0] == pytest.approx(values[:8].mean())
    assert r_squared(values, values) == 1.0
    assert r_squared(values, np.full(40, values.mean())) == pytest.approx(0.0)


def test_a_signal_without_a_concentration_is_named() -> None:
    broken = VISITS[0].aorta.copy()
    broken[300] = 0.0
    with pytest.raises(ValueError, match="001 control"):
        fit_liver(replace(VISITS[0], aorta=broken))
