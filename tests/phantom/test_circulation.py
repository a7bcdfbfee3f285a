"""The whole-body circulation: amounts are kept, physiology acts as it should, the population is Parker's."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.agents import AGENTS
from mtinet.phantom.circulation import (
    Circulation,
    InjectionError,
    circulation,
    draw_circulation,
    typical_circulation,
)
from mtinet.phantom.kinetics import parker_aif

GADOBUTROL, GADOXETATE = AGENTS["gadobutrol"], AGENTS["gadoxetate"]
MIDDLE = {
    name: value
    for name, value in typical_circulation(GADOBUTROL, 0.1, None, 10.0).parameters.items()
    if name not in ("arrival_s", "duration_s")
}


def inject(until_s: float = 300.0, rate_ml_s: float | None = None, **changed: float) -> Circulation:
    return circulation({**MIDDLE, **changed}, GADOBUTROL, 0.1, rate_ml_s, until_s)


def area(flow: Circulation, curve: np.ndarray) -> float:
    return float(np.trapezoid(curve, flow.t_s))


def blood(flow: Circulation) -> np.ndarray:
    return flow.arterial_mM * (1.0 - flow.hct)


def width_s(flow: Circulation) -> float:
    """Full width of the first pass at half its maximum."""
    above = flow.t_s[flow.arterial_mM >= 0.5 * flow.arterial_mM.max()]
    return float(above[-1] - above[0])


# ---------------------------------------------------------------- amounts
def one_pass(**changed: float) -> Circulation:
    """A body whose kidneys take everything: nothing comes back."""
    parameters = {**MIDDLE, **changed}
    everything = 60.0 * parameters["cardiac_output_ml_s_kg"] * (1.0 - parameters["hct"])
    return circulation({**parameters, "gfr_ml_min_kg": everything}, GADOBUTROL, 0.1, None, 120.0)


@pytest.mark.parametrize("output_ml_s_kg", [0.8, 1.3, 2.0])
def test_first_pass_has_the_area_dose_over_cardiac_output(output_ml_s_kg: float) -> None:
    flow = one_pass(cardiac_output_ml_s_kg=output_ml_s_kg)
    # 0.1 mmol/kg over mL/s/kg, in mM·s
    assert area(flow, blood(flow)) == pytest.approx(0.1 / output_ml_s_kg * 1e3, rel=2e-3)


def test_all_of_the_dose_is_cleared_in_the_end() -> None:
    # area of the plasma curve = dose over clearance, whatever lies between
    for agent, names in ((GADOBUTROL, ["gfr"]), (GADOXETATE, ["gfr", "hepatic"])):
        flow = circulation(MIDDLE, agent, 0.1, None, 60_000.0)
        clearance = sum(MIDDLE[f"{name}_ml_min_kg"] for name in names) / 60.0
        assert area(flow, flow.arterial_mM) == pytest.approx(1e3 * 0.1 / clearance, rel=5e-3)


def test_gut_delays_and_spreads_but_loses_nothing() -> None:
    flow = inject(60_000.0)
    assert area(flow, flow.portal_mM) == pytest.approx(area(flow, flow.arterial_mM), rel=2e-3)
    assert flow.portal_mM.max() < 0.7 * flow.arterial_mM.max()
    assert flow.t_s[flow.portal_mM.argmax()] > flow.t_s[flow.arterial_mM.argmax()] + 5.0


def test_cava_lacks_what_the_kidneys_filter() -> None:
    flow = inject(60_000.0)
    filtered = MIDDLE["gfr_ml_min_kg"] / 60.0 / (0.2 * MIDDLE["cardiac_output_ml_s_kg"] * (1.0 - flow.hct))
    kept = area(flow, flow.caval_mM) / area(flow, flow.arterial_mM)
    assert kept == pytest.approx(1.0 - MIDDLE["renal_share"] * filtered, rel=3e-3)


def test_inputs_are_proportional_to_the_dose() -> None:
    # at twice the rate the injection lasts as long
    double = circulation(MIDDLE, GADOBUTROL, 0.2, 4.0, 200.0)
    np.testing.assert_allclose(double.portal_mM, 2.0 * inject(200.0, 2.0).portal_mM, rtol=1e-9, atol=1e-12)


def test_nothing_arrives_before_the_vein_lets_it() -> None:
    flow = inject()
    early = flow.t_s < MIDDLE["vein_s"]
    assert flow.arterial_mM[early].max() < 1e-4 * flow.arterial_mM.max()


def test_curves_do_not_depend_on_how_long_they_are_asked_for() -> None:
    short, long = inject(100.0), inject(1300.0)
    for name in ("arterial_mM", "portal_mM", "caval_mM"):
        np.testing.assert_allclose(
            np.interp(short.t_s[:200], long.t_s, getattr(long, name)),
            getattr(short, name)[:200],
            rtol=1e-4,
            atol=1e-5,
        )


# ---------------------------------------------------------------- physiology
def test_slower_injection_is_wider_and_lower_with_the_same_tail() -> None:
    fast, slow = inject(rate_ml_s=3.0), inject(rate_ml_s=0.5)
    assert width_s(slow) > 1.3 * width_s(fast)
    assert slow.arterial_mM.max() < 0.8 * fast.arterial_mM.max()
    assert slow.arterial_mM[-1] == pytest.approx(fast.arterial_mM[-1], rel=0.03)


def test_slow_heart_is_later_and_wider_and_leaves_the_tail() -> None:
    fast, slow = inject(cardiac_output_ml_s_kg=1.8), inject(cardiac_output_ml_s_kg=0.9)
    assert slow.parameters["arrival_s"] > fast.parameters["arrival_s"] + 2.0
    assert width_s(slow) > 1.4 * width_s(fast)
    assert slow.arterial_mM[-1] == pytest.approx(fast.arterial_mM[-1], rel=0.05)


def test_haematocrit_raises_plasma_not_blood_in_the_first_pass() -> None:
    thin, thick = inject(hct=0.35), inject(hct=0.48)
    assert thick.arterial_mM.max() / thin.arterial_mM.max() == pytest.approx(0.65 / 0.52, rel=0.01)


def test_bad_kidneys_keep_the_agent_longer() -> None:
    good, bad = inject(1200.0), inject(1200.0, gfr_ml_min_kg=0.3)
    assert bad.arterial_mM[-1] > 1.1 * good.arterial_mM[-1]
    assert bad.arterial_mM.max() == pytest.approx(good.arterial_mM.max(), rel=0.02)


def test_arrival_is_where_the_aorta_begins_to_rise() -> None:
    flow = inject()
    arrival_s = flow.parameters["arrival_s"]
    assert np.interp(arrival_s, flow.t_s, flow.arterial_mM) == pytest.approx(
        0.1 * flow.arterial_mM.max(), rel=0.02
    )
    assert flow.t_s[flow.arterial_mM.argmax()] > arrival_s


# ---------------------------------------------------------------- population
@pytest.fixture(scope="module")
def population() -> list[Circulation]:
    return [draw_circulation(np.random.default_rng(n), GADOBUTROL, 0.1, None, 330.0) for n in range(60)]


def after_arrival(flow: Circulation, seconds: np.ndarray) -> np.ndarray:
    return np.interp(flow.parameters["arrival_s"] + seconds, flow.t_s, blood(flow))


def test_population_lies_near_parkers(population: list[Circulation]) -> None:
    """Peak within 15 %, first 30 s and 2 to 5 min within 30 % of Parker's curve after 0.1 mmol/kg.

    Parker's curve has the smaller area, as of a cardiac output of about 1.7 mL/s/kg; the prior is 1.33.
    """
    t_s = np.arange(0.0, 320.0, 0.5)
    parker = parker_aif(t_s / 60.0)
    start_s = float(np.interp(0.1 * parker.max(), parker[: parker.argmax()], t_s[: parker.argmax()]))
    seconds = np.arange(0.0, 301.0, 0.5)
    middle = np.median([after_arrival(flow, seconds) for flow in population], axis=0)
    published = np.interp(start_s + seconds, t_s, parker)
    assert np.median([blood(flow).max() for flow in population]) == pytest.approx(parker.max(), rel=0.15)
    assert middle[:61].sum() == pytest.approx(published[:61].sum(), rel=0.30)
    for minutes in (2, 3, 4, 5):
        assert middle[120 * minutes] == pytest.approx(published[120 * minutes], rel=0.30)


def test_drawn_patients_differ_and_cover_the_time_asked_for(population: list[Circulation]) -> None:
    assert len({flow.parameters["arrival_s"] for flow in population}) == len(population)
    assert 8.0 < np.median([flow.parameters["arrival_s"] for flow in population]) < 14.0
    for flow in population:
        assert flow.t_s[-1] >= 330.0
        assert np.all(np.diff(flow.t_s) > 0.0)
        assert np.all(flow.portal_mM >= 0.0)
        assert np.all(np.isfinite(flow.caval_mM))


def test_a_draw_is_a_function_of_its_generator() -> None:
    one, two = (draw_circulation(np.random.default_rng(3), GADOXETATE, 0.025, 1.0, 100.0) for _ in range(2))
    np.testing.assert_array_equal(one.arterial_mM, two.arterial_mM)


def test_unenhanced_study_needs_no_time() -> None:
    assert inject(0.0).t_s.size >= 2


@pytest.mark.parametrize(("dose", "rate"), [(0.0, 1.0), (0.1, 0.0), (-0.1, 1.0)])
def test_impossible_injections_are_refused(dose: float, rate: float) -> None:
    with pytest.raises(InjectionError, match="correct the settings"):
        circulation(MIDDLE, GADOBUTROL, dose, rate, 100.0)
