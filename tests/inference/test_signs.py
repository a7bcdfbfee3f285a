"""Signs on balls and shells of known signal, and when they cannot be assessed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtinet.config import MeasurementSettings
from mtinet.inference.reference_tissue import Tissue, liver_around
from mtinet.inference.signs import hyperenhancement, signs_of

SETTINGS = MeasurementSettings()
APHE, RIM = "arterial_hyperenhancement", "rim_arterial_hyperenhancement"


def signs(observed, lesion_of, settings=SETTINGS):
    region = lesion_of(observed, settings)
    found = signs_of(observed, region, liver_around(observed, region, settings), settings)
    return {(m.name, m.phase): m for m in found}


def finding(found, name, phase):
    return found[name, phase].finding


# ---------------------------------------------------------------------- hyperenhancement
def test_a_bright_ball_is_hyperenhancing_and_no_rim(scene, lesion_of):
    found = signs(scene(), lesion_of)
    assert finding(found, APHE, "arterial") == "present"
    assert finding(found, RIM, "arterial") == "absent"
    assert found["hyperenhancing_core", "arterial"].value > 99.0


def test_a_bright_shell_alone_is_a_rim(scene, lesion_of, curves):
    found = signs(scene(core=curves["still"], rim=curves["hypervascular"], rim_mm=4.0), lesion_of)
    assert finding(found, APHE, "arterial") == "absent"
    assert finding(found, RIM, "arterial") == "present"


def test_a_bright_core_in_a_still_shell_is_no_rim(scene, lesion_of, curves):
    found = signs(scene(core=curves["hypervascular"], rim=curves["still"], rim_mm=4.0), lesion_of)
    assert finding(found, APHE, "arterial") == "present"
    assert finding(found, RIM, "arterial") == "absent"


@pytest.mark.parametrize(("share", "expected"), [(0.15, "absent"), (0.35, "present")])
def test_a_part_of_the_core_is_enough_from_a_quarter_on(scene, lesion_of, curves, share, expected):
    observed = scene(core=curves["still"], noise=1.0)
    core = np.flatnonzero(np.isin(np.arange(observed.labels.size), np.flatnonzero(observed.labels)))
    chosen = np.random.default_rng(1).permutation(core)[: int(share * len(core))]
    for phase, image in observed.signal.items():
        image.ravel()[chosen] = curves["hypervascular"][phase]
    found = signs(observed, lesion_of)
    assert found["hyperenhancing_core", "arterial"].value == pytest.approx(100 * share, abs=5.0)
    assert finding(found, APHE, "arterial") == expected


@pytest.mark.parametrize(("gain", "share"), [(71.0, 0.0), (73.0, 100.0)])
def test_the_fewer_voxels_tell_of_the_liver_the_more_a_lesion_has_to_gain(scene, lesion_of, gain, share):
    """Four voxels that gain 50 with an sd of 10: two standard errors are 20 x sqrt(1 + 1/4) = 22.4."""
    off = 10.0 * np.sqrt(3.0) / 2.0
    gains = 50.0 + np.array([-off, off, -off, off])
    liver = Tissue({"pre": np.full(4, 100.0), "arterial": 100.0 + gains})
    around = {"pre": 100.0, "arterial": 150.0}
    observed = scene(core={"pre": 100.0, "arterial": 100.0 + gain}, liver=around, noise=0.0)
    found = hyperenhancement(observed, lesion_of(observed, SETTINGS), liver, SETTINGS)
    assert found[0].name == "hyperenhancing_core"
    assert found[0].value == share


def test_gaining_more_without_ending_brighter_is_not_enough(scene, lesion_of, curves):
    dark = {**curves["still"], "pre": 10.0, "arterial": 100.0}
    assert finding(signs(scene(core=dark), lesion_of), APHE, "arterial") == "absent"


def test_being_brighter_without_gaining_more_is_not_enough(scene, lesion_of, curves):
    bright = {phase: value + 80.0 for phase, value in curves["liver"].items()}
    assert finding(signs(scene(core=bright), lesion_of), APHE, "arterial") == "absent"


def test_a_lesion_like_the_liver_is_rarely_hyperenhancing_in_noise(scene, lesion_of, curves):
    """Two standard errors: 2.3 % of voxels by chance, far from a quarter."""
    shares = [
        signs(scene(core=curves["liver"], noise=20.0, seed=seed), lesion_of)["hyperenhancing_core", "arterial"].value
        for seed in range(4)
    ]  # fmt: skip
    assert np.mean(shares) == pytest.approx(2.0, abs=1.2)


@pytest.mark.parametrize(("early", "late", "expected"), [(75.0, 220.0, "present"), (220.0, 75.0, "absent")])
def test_of_two_arterial_phases_the_late_one_tells(scene, lesion_of, curves, early, late, expected):
    liver = {**curves["liver"], "arterial_late": 120.0}
    core = {**curves["hypervascular"], "pre": 70.0, "arterial": early, "arterial_late": late}
    found = signs(scene(core=core, liver=liver), lesion_of)
    assert finding(found, APHE, "arterial_late") == expected
    assert (APHE, "arterial") not in found
    # a lesion that does not gain cannot lose
    assert finding(found, "washout", "delayed") == expected
    alone = {phase: value for phase, value in liver.items() if phase != "arterial"}
    assert finding(signs(scene(core=core, liver=alone), lesion_of), APHE, "arterial_late") == expected


def test_a_small_lesion_has_no_rim_to_assess(scene, lesion_of):
    found = signs(scene(radius_mm=3.0), lesion_of)
    assert finding(found, APHE, "arterial") == "present"
    assert finding(found, RIM, "arterial") == "not assessable"
    assert finding(found, "capsule", "delayed") == "not assessable"


# ---------------------------------------------------------------------- washout
@pytest.mark.parametrize(("signal", "expected"), [(160 / 1.03, "present"), (160 / 1.01, "absent")])
def test_the_cut_off_at_equilibrium_is_102(scene, lesion_of, curves, signal, expected):
    core = {**curves["hypervascular"], "delayed": signal}
    found = signs(scene(core=core, noise=0.5), lesion_of)
    assert finding(found, "washout", "delayed") == expected
    assert "equilibrium, Kloeckner 2016" in found["washout", "delayed"].reason


@pytest.mark.parametrize(
    ("time_s", "expected"),
    [(180.0, "absent"), (SETTINGS.delayed_from_s, "present"), (300.0, "present")],
)
def test_a_delayed_phase_has_its_own_cut_off(scene, lesion_of, curves, time_s, expected):
    core = {**curves["hypervascular"], "delayed": 160 / 1.0175}
    observed = replace(scene(core=core, noise=0.2), times_s={"delayed": time_s})
    assert finding(signs(observed, lesion_of), "washout", "delayed") == expected


def test_a_late_phase_of_unknown_time_takes_the_cut_off_at_equilibrium_and_says_so(scene, lesion_of):
    found = signs(scene(times_s={}), lesion_of)["washout", "delayed"]
    assert found.reason.startswith("cut-off 102 (equilibrium")
    assert "time of the phase is not known" in found.reason
    assert "not known" not in signs(scene(), lesion_of)["washout", "delayed"].reason


def test_without_arterial_enhancement_there_is_no_washout(scene, lesion_of, curves):
    assert finding(signs(scene(core=curves["still"]), lesion_of), "washout", "delayed") == "absent"


def test_a_lesion_that_does_not_fall_against_the_liver_has_no_washout(scene, lesion_of):
    # darker than the liver from the start, and less so in the end
    core = {"pre": 40.0, "arterial": 60.0, "portal_venous": 110.0, "delayed": 130.0}
    assert finding(signs(scene(core=core), lesion_of), "washout", "delayed") == "absent"


def test_what_washes_out_at_the_periphery_only_is_no_washout(scene, lesion_of):
    core = {"pre": 60.0, "arterial": 80.0, "portal_venous": 150.0, "delayed": 180.0}
    rim = {"pre": 60.0, "arterial": 200.0, "portal_venous": 170.0, "delayed": 130.0}
    found = signs(scene(core=core, rim=rim, rim_mm=4.0), lesion_of)
    assert finding(found, "washout", "delayed") == "absent"
    assert "periphery alone" in found["washout", "delayed"].reason


def test_the_portal_venous_cut_off_is_called_assumed(scene, lesion_of):
    found = signs(scene(), lesion_of)
    assert finding(found, "washout", "portal_venous") == "present"
    assert "assumed" in found["washout", "portal_venous"].reason


GADOXETATE = {
    "pre": (100.0, 90.0), "arterial": (120.0, 220.0), "portal_venous": (180.0, 150.0),
    "transitional": (200.0, 120.0), "hepatobiliary": (260.0, 90.0),
}  # fmt: skip


@pytest.mark.parametrize("agent", ["extracellular", "gadoxetate"])
def test_with_gadoxetate_the_portal_venous_phase_alone_can_wash_out(scene, lesion_of, agent):
    liver, core = ({p: both[n] for p, both in GADOXETATE.items()} for n in (0, 1))
    found = signs(scene(core=core, liver=liver, agent=agent), lesion_of)
    assert finding(found, "washout", "portal_venous") == "present"
    late = "not assessable" if agent == "gadoxetate" else "present"
    assert finding(found, "washout", "transitional") == late
    assert finding(found, "washout", "hepatobiliary") == "not assessable"


# ---------------------------------------------------------------------- capsule
def test_a_bright_closed_rim_is_a_capsule(scene, lesion_of, curves):
    rim = {**curves["hypervascular"], "delayed": 220.0}
    found = signs(scene(rim=rim, rim_mm=2.0), lesion_of)
    assert finding(found, "capsule", "delayed") == "present"
    assert "limited reliability" in found["capsule", "delayed"].reason


def test_half_a_rim_is_no_capsule(scene, lesion_of, curves):
    rim = {**curves["hypervascular"], "delayed": 220.0}
    observed = scene(rim=rim, rim_mm=2.0)
    half = np.zeros(observed.labels.shape, dtype=bool)
    half[:, : observed.labels.shape[1] // 2] = True
    observed.signal["delayed"][half & (observed.labels > 0)] = curves["hypervascular"]["delayed"]
    assert finding(signs(observed, lesion_of), "capsule", "delayed") == "absent"


@pytest.mark.parametrize(("delayed", "expected"), [(152.0, "absent"), (175.0, "present")])
def test_a_rim_is_a_capsule_only_where_it_is_brighter_than_the_liver_too(
    scene, lesion_of, curves, delayed, expected
):
    core, liver = (curves[name]["delayed"] for name in ("hypervascular", "liver"))
    assert core < 152.0 < liver < 175.0
    rim = {**curves["hypervascular"], "delayed": delayed}
    found = signs(scene(rim=rim, rim_mm=2.0), lesion_of)
    assert finding(found, "capsule", "delayed") == expected


def test_a_lesion_that_is_bright_as_a_whole_has_no_capsule(scene, lesion_of, curves):
    core = {**curves["hypervascular"], "delayed": 220.0}
    assert finding(signs(scene(core=core), lesion_of), "capsule", "delayed") == "absent"


# ---------------------------------------------------------------------- not assessable
@pytest.mark.parametrize(
    ("missing", "reason"),
    [("agent", "agent is not known"), ("liver", "no liver mask"), ("pre", "no pre phase")],
)
def test_what_is_not_known_makes_signs_not_assessable_never_absent(scene, lesion_of, curves, missing, reason):
    observed = scene(
        agent="" if missing == "agent" else "extracellular",
        with_liver=missing != "liver",
        liver={p: v for p, v in curves["liver"].items() if p != missing},
    )
    found = signs(observed, lesion_of)
    for key in ((APHE, "arterial"), (RIM, "arterial"), ("washout", "portal_venous"), ("washout", "delayed")):
        assert found[key].finding == "not assessable"
        assert reason in found[key].reason
    if missing != "pre":
        assert found["capsule", "delayed"].finding == "not assessable"


def test_a_phase_that_does_not_show_the_lesion_is_said(scene, lesion_of):
    observed = scene()
    observed.signal["pre"][observed.labels > 0] = 0.0
    found = signs(observed, lesion_of)
    assert finding(found, APHE, "arterial") == "not assessable"
    assert "shows the lesion" in found[APHE, "arterial"].reason


# ---------------------------------------------------------------------- invariances
@pytest.mark.parametrize("gain", [0.002, 50.0])
def test_a_gain_changes_no_sign(scene, lesion_of, gain):
    plain, scaled = (signs(scene(gain=g), lesion_of) for g in (1.0, gain))
    assert {k: m.finding for k, m in plain.items()} == {k: m.finding for k, m in scaled.items()}


@pytest.mark.parametrize("axes", [(0, 2, 1), (0, 1, 2)])
@pytest.mark.parametrize("flip", [0, 1, 2])
def test_turning_the_axes_changes_no_sign(scene, lesion_of, curves, axes, flip):
    rim = {**curves["hypervascular"], "delayed": 220.0}
    observed = scene(rim=rim, rim_mm=2.0)

    def turn(array):
        return np.flip(array.transpose(axes), flip)

    turned = replace(
        observed,
        signal={p: turn(image) for p, image in observed.signal.items()},
        labels=turn(observed.labels),
        liver=turn(observed.liver),
        spacing_mm=tuple(observed.spacing_mm[a] for a in axes),
    )
    before, after = signs(observed, lesion_of), signs(turned, lesion_of)
    assert {k: m.finding for k, m in before.items()} == {k: m.finding for k, m in after.items()}
    for name in ("hyperenhancing_core", "hyperenhancing_shell"):
        assert after[name, "arterial"].value == pytest.approx(before[name, "arterial"].value)


def test_washout_without_a_later_phase_has_a_reason(scene, lesion_of, curves):
    early = {phase: value for phase, value in curves["liver"].items() if phase in ("pre", "arterial")}
    found = signs(scene(liver=early), lesion_of)
    for name in ("washout", "liver_to_lesion", "capsule"):
        assert finding(found, name, "") == "not assessable"
        assert "later than the arterial" in found[name, ""].reason


def test_a_lesion_without_signal_has_no_washout_to_tell(scene, lesion_of, curves):
    found = signs(scene(core={**curves["still"], "delayed": -1.0}, noise=0.01), lesion_of)
    for name in ("washout", "liver_to_lesion"):
        assert finding(found, name, "delayed") == "not assessable"
        assert "no signal" in found[name, "delayed"].reason
