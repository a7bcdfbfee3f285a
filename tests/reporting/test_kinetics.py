"""The time axis of the curves."""

import math

import pytest

from mtinet.reporting.kinetics import Curve, paint_kinetics

PHASES = ("pre", "arterial", "portal_venous", "delayed")
SIGNAL = {"pre": 100.0, "arterial": 240.0, "portal_venous": 180.0, "delayed": 160.0}


@pytest.fixture
def axes():
    from matplotlib.figure import Figure

    return Figure().subplots()


def ticks(axes):
    return dict(zip([label.get_text() for label in axes.get_xticklabels()], axes.get_xticks()))


def test_phases_stand_at_their_times(axes):
    paint_kinetics(axes, PHASES, [Curve("true", SIGNAL)], (math.nan, 22.0, 65.0, 180.0))
    places = ticks(axes)
    assert [places[name] for name in ("22", "65", "180")] == [22.0, 65.0, 180.0]
    assert places["pre"] < 0


def test_an_absent_phase_without_a_time_keeps_the_others_at_theirs(axes):
    without = {phase: signal for phase, signal in SIGNAL.items() if phase != "arterial"}
    paint_kinetics(axes, PHASES, [Curve("true", without)], (math.nan, math.nan, 65.0, 180.0))
    assert list(ticks(axes)) == ["pre", "65", "180"]
    assert list(axes.lines[0].get_xdata()[1:]) == [65.0, 180.0]


@pytest.mark.parametrize("times", [None, (math.nan,) * 4, (math.nan, math.nan, 65.0, 180.0)])
def test_an_acquired_phase_without_a_time_makes_the_axis_even(axes, times):
    paint_kinetics(axes, PHASES, [Curve("true", SIGNAL)], times)
    assert list(axes.get_xticks()) == [0, 1, 2, 3]


def test_no_curve_is_no_error(axes):
    paint_kinetics(axes, PHASES, [Curve("true", {})], (math.nan, 22.0, 65.0, 180.0))
    assert not axes.lines
