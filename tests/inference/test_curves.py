"""Rates and curve types against numbers worked out by hand."""

from __future__ import annotations

import pytest

from mtinet.config import MeasurementSettings
from mtinet.inference.curves import kinetics_of, signal_of
from mtinet.inference.reference_tissue import Tissue, liver_around

SETTINGS = MeasurementSettings()


def measured(scene, lesion_of, **options):
    observed = scene(noise=0.0, **options)
    region = lesion_of(observed)
    liver = liver_around(observed, region, SETTINGS)
    signal = signal_of(region, liver, Tissue(reason="not found"), observed.unit)
    return signal, {m.name: m for m in kinetics_of(region, observed, SETTINGS)}


def values(found, name):
    return {m.phase: m.value for m in found if m.name == name and not m.finding}


def test_enhancement_is_raw_relative_and_against_liver(scene, lesion_of):
    found, _ = measured(scene, lesion_of)
    assert values(found, "signal")["arterial"] == pytest.approx(220.0)
    assert values(found, "relative_enhancement") == pytest.approx(
        {"arterial": 100 * 130 / 90, "portal_venous": 100 * 80 / 90, "delayed": 100 * 50 / 90}
    )
    assert values(found, "signal_to_liver")["delayed"] == pytest.approx(100 * 140 / 160)
    (missing,) = [m for m in found if m.name == "signal_to_aorta"]
    assert (missing.finding, missing.reason) == ("not assessable", "not found")


def test_rates_run_from_the_injection_and_from_the_peak(scene, lesion_of):
    _, found = measured(scene, lesion_of)
    assert found["wash_in_rate"].value == pytest.approx(100 * 130 / 90 / 25.0 * 60.0)
    assert found["wash_out_rate"].value == pytest.approx(100 * 80 / 220 / (180.0 - 25.0) * 60.0)
    assert found["curve_type"].finding == "washout"


@pytest.mark.parametrize("gain", [0.01, 37.0])
def test_a_gain_changes_raw_signal_only(scene, lesion_of, gain):
    plain, rates = measured(scene, lesion_of)
    scaled, same = measured(scene, lesion_of, gain=gain)
    assert values(scaled, "signal")["delayed"] == pytest.approx(gain * values(plain, "signal")["delayed"])
    for name in ("relative_enhancement", "signal_to_liver"):
        assert values(scaled, name) == pytest.approx(values(plain, name), rel=1e-4)
    assert same["wash_in_rate"].value == pytest.approx(rates["wash_in_rate"].value, rel=1e-4)
    assert same["curve_type"] == rates["curve_type"]


@pytest.mark.parametrize(("late", "kind"), [(120.0, "persistent"), (105.0, "plateau"), (80.0, "washout")])
def test_the_type_is_told_by_the_change_from_first_to_last(scene, lesion_of, late, kind):
    core = {"pre": 50.0, "arterial": 100.0, "portal_venous": 100.0, "delayed": late}
    _, found = measured(scene, lesion_of, core=core)
    assert found["curve_type"].finding == kind
    assert "not validated" in found["curve_type"].reason


def test_the_thresholds_are_settings(scene, lesion_of):
    observed = scene(
        core={"pre": 50.0, "arterial": 100.0, "portal_venous": 100.0, "delayed": 120.0}, noise=0.0
    )
    wide = MeasurementSettings(curve_percent=25.0)
    found = {m.name: m for m in kinetics_of(lesion_of(observed, wide), observed, wide)}
    assert found["curve_type"].finding == "plateau"


def test_what_does_not_enhance_has_no_curve_type(scene, lesion_of, curves):
    core = dict.fromkeys(curves["liver"], 30.0)
    _, found = measured(scene, lesion_of, core=core)
    assert found["curve_type"].finding == "not assessable"
    assert found["wash_in_rate"].value == pytest.approx(0.0)


def test_without_times_there_are_no_rates_and_without_pre_no_curve(scene, lesion_of, curves):
    _, found = measured(scene, lesion_of, times_s={})
    assert found["wash_in_rate"].value is None
    assert "time of the arterial phase" in found["wash_in_rate"].reason
    assert found["curve_type"].finding == "washout"
    liver = {phase: value for phase, value in curves["liver"].items() if phase != "pre"}
    signal, found = measured(scene, lesion_of, liver=liver)
    assert {m.finding for m in found.values()} == {"not assessable"}
    assert values(signal, "relative_enhancement") == {}


@pytest.mark.parametrize(
    ("times_s", "rate", "reason"),
    [
        ({"arterial": 0.0, "delayed": 180.0}, "wash_in_rate", "not after the injection"),
        ({"arterial": 180.0, "delayed": 180.0}, "wash_out_rate", "no later time"),
    ],
)
def test_times_that_cannot_be_give_no_rate_and_a_reason(scene, lesion_of, times_s, rate, reason):
    _, found = measured(scene, lesion_of, times_s=times_s)
    assert found[rate].value is None
    assert reason in found[rate].reason


def test_what_hepatocytes_hold_is_no_part_of_the_curve(scene, lesion_of):
    liver = {"pre": 100.0, "arterial": 120.0, "portal_venous": 180.0, "transitional": 200.0}
    core = {"pre": 90.0, "arterial": 200.0, "portal_venous": 195.0, "transitional": 60.0}
    _, found = measured(scene, lesion_of, core=core, liver=liver, agent="gadoxetate")
    assert found["curve_type"].finding == "plateau"
    assert found["curve_type"].reason.startswith("arterial to portal_venous")
    _, found = measured(scene, lesion_of, core=core, liver=liver)
    assert found["curve_type"].finding == "washout"


def test_reasons_name_what_is_missing(scene, lesion_of):
    alone, _ = measured(scene, lesion_of, liver={"pre": 100.0})
    (relative,) = [m for m in alone if m.name == "relative_enhancement"]
    assert relative.reason == "no later phase that shows the lesion"
    liver = {"pre": 100.0, "arterial": 120.0, "transitional": 170.0, "hepatobiliary": 200.0}
    _, rates = measured(scene, lesion_of, core=liver, liver=liver, agent="gadoxetate")
    assert "outside the hepatocytes" in rates["curve_type"].reason
