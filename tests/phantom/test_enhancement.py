"""From inputs to relaxation and signal: the rules that hold for any tissue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtinet.config import SiteSettings
from mtinet.phantom.agents import AGENTS, Agent
from mtinet.phantom.circulation import Circulation, typical_circulation
from mtinet.phantom.enhancement import R2STAR_BLOOD, R2STAR_TISSUE, relaxation, signals
from mtinet.phantom.host import Host
from mtinet.phantom.kinetics import exponential_convolution
from mtinet.phantom.signal import spgr_signal
from mtinet.phantom.tissues import T1_S, Tissue, draw_organs

VIBE = SiteSettings(name="VIBE", field_T=3.0, tr_ms=3.35, te_ms=1.35, flip_deg=12.0)
GADOBUTROL, GADOXETATE = AGENTS["gadobutrol"], AGENTS["gadoxetate"]
TISSUE = Tissue("tissue", 0.8, flow_per_min=0.6, arterial_fraction=0.3, distribution_volume=0.25)


@pytest.fixture(scope="module")
def flow() -> Circulation:
    return typical_circulation(GADOBUTROL, 0.1, None, 1300.0)


def added(
    tissues: list[Tissue], flow: Circulation, agent: Agent = GADOBUTROL, liver: Tissue = TISSUE
) -> np.ndarray:
    return relaxation(tissues, flow, agent, liver, 3.0, list(flow.t_s)).r1


def test_relaxivities_of_blood_and_plasma_are_never_crossed(flow: Circulation) -> None:
    aorta = Tissue("aorta", 1.6, vessel="arterial")
    r1 = added([aorta, replace(TISSUE, plasma=1.0, flow_per_min=0.0, arterial_fraction=1.0)], flow)
    np.testing.assert_allclose(r1[0], GADOBUTROL.r1_blood[1] * flow.arterial_mM * (1.0 - flow.hct))
    np.testing.assert_allclose(r1[1], GADOBUTROL.r1_plasma[1] * flow.arterial_mM)


def test_hepatic_veins_carry_what_leaves_the_liver(flow: Circulation) -> None:
    vein = Tissue("vein", 1.6, vessel="hepatic")
    r1 = added([vein, TISSUE], flow)
    plasma = r1[1] / GADOBUTROL.r1_plasma[1] / TISSUE.distribution_volume
    np.testing.assert_allclose(r1[0], GADOBUTROL.r1_blood[1] * plasma * (1.0 - flow.hct), atol=1e-12)


def test_only_hepatobiliary_agents_enter_hepatocytes(flow: Circulation) -> None:
    liver = replace(TISSUE, uptake_per_min=0.2, excretion_per_min=0.03)
    gadobutrol = added([TISSUE, liver], flow)
    np.testing.assert_allclose(gadobutrol[0], gadobutrol[1])
    gadoxetate = added([TISSUE, liver], flow, GADOXETATE)
    # late, most of what the liver holds is in hepatocytes
    assert gadoxetate[1, -1] > 2.0 * gadoxetate[0, -1]


def test_closed_tubules_keep_all_that_is_filtered(flow: Circulation) -> None:
    cortex = replace(TISSUE, flow_per_min=2.0, filtration_per_min=0.4, tubular_per_min=0.0)
    r1 = added([cortex, replace(cortex, flow_per_min=2.4, filtration_per_min=0.0)], flow)
    # the compartment empties at (F + GFR) / V in both; the second gets its inflow in the ratio of the flows
    compartment = r1[1] * 2.0 / 2.4
    filtered = 0.4 / 0.25 * exponential_convolution(flow.t_s, compartment, 0.0)
    np.testing.assert_allclose(r1[0] - compartment, filtered, rtol=0.02, atol=0.02)


def test_open_tubules_empty(flow: Circulation) -> None:
    closed = replace(TISSUE, filtration_per_min=0.4)
    rows = added([closed, replace(closed, tubular_per_min=1.0)], flow)
    assert rows[1, -1] < 0.5 * rows[0, -1]


def test_a_larger_distribution_volume_holds_more_late(flow: Circulation) -> None:
    r1 = added([TISSUE, replace(TISSUE, distribution_volume=0.5)], flow)
    late = np.searchsorted(flow.t_s, 180.0)
    assert r1[1, late] > 1.5 * r1[0, late]


def test_times_are_read_between_samples_and_held_at_the_ends(flow: Circulation) -> None:
    tissues = [TISSUE, Tissue("aorta", 1.6, vessel="arterial")]
    whole = added(tissues, flow)
    times = [0.0, 22.3, 61.7, 1234.5, float(flow.t_s[-1]) + 10.0]
    some = relaxation(tissues, flow, GADOBUTROL, TISSUE, 3.0, times).r1
    for row, curve in zip(some, whole, strict=True):
        np.testing.assert_allclose(row, np.interp(times, flow.t_s, curve), atol=1e-12)


def test_transverse_relaxation_follows_concentration(flow: Circulation) -> None:
    rates = relaxation(
        [TISSUE, Tissue("aorta", 1.6, vessel="arterial")], flow, GADOBUTROL, TISSUE, 3.0, [20.0]
    )
    assert rates.r2star[0, 0] == pytest.approx(rates.r1[0, 0] / GADOBUTROL.r1_plasma[1] * R2STAR_TISSUE)
    assert rates.r2star[1, 0] == pytest.approx(rates.r1[1, 0] / GADOBUTROL.r1_blood[1] * R2STAR_BLOOD)


def test_a_nominal_liver_has_signal_one(flow: Circulation) -> None:
    liver = replace(TISSUE, t1_s=T1_S["liver"][1])
    before = relaxation([liver], flow, GADOBUTROL, liver, 3.0, [0.0])
    assert signals([liver], before, VIBE)[0, 0] == pytest.approx(1.0)


def test_signal_is_the_spoiled_gradient_echos(flow: Circulation) -> None:
    rates = relaxation([TISSUE], flow, GADOBUTROL, TISSUE, 3.0, [60.0])
    expected = spgr_signal(rates.r1[0, 0], 0.8, 3.35e-3, 12.0, 1.0) * np.exp(-1.35e-3 * rates.r2star[0, 0])
    nominal = spgr_signal(0.0, T1_S["liver"][1], 3.35e-3, 12.0, 0.0)
    assert signals([TISSUE], rates, VIBE)[0, 0] == pytest.approx(expected / nominal)


def test_flip_angle_error_may_be_a_map(flow: Circulation) -> None:
    rates = relaxation([TISSUE, TISSUE], flow, GADOBUTROL, TISSUE, 3.0, [0.0, 60.0, 90.0])
    levels = np.array([0.8, 1.0, 1.2, 1.4])
    table = signals([TISSUE, TISSUE], rates, VIBE, levels)
    assert table.shape == (2, 3, 4)
    np.testing.assert_allclose(table[..., 1], signals([TISSUE, TISSUE], rates, VIBE))
    # above the Ernst angle a larger flip angle lowers the signal without agent
    assert np.all(np.diff(table[0, 0]) < 0.0)


def test_inflow_brightens_only_vessels_that_have_it(flow: Circulation) -> None:
    blood = Tissue("blood", 1.65, vessel="caval")
    before = relaxation([blood, replace(blood, inflow=0.1)], flow, GADOBUTROL, TISSUE, 3.0, [0.0])
    still, flowing = (
        signals([blood, blood], before, VIBE)[0],
        signals([blood, replace(blood, inflow=0.1)], before, VIBE)[1],
    )
    assert flowing[0] > still[0]


def test_tissues_without_vessels_do_not_enhance(flow: Circulation) -> None:
    organs = draw_organs(np.random.default_rng(0), Host(3.0))
    r1 = added([organs[name] for name in ("spinal_canal", "stomach_water", "bile", "air")], flow)
    np.testing.assert_allclose(r1, 0.0, atol=1e-12)


def test_unenhanced_liver_is_brighter_than_spleen_and_blood(flow: Circulation) -> None:
    organs = draw_organs(np.random.default_rng(0), Host(3.0))
    tissues = [organs[name] for name in ("liver", "spleen", "portal_vein")]
    before = relaxation(tissues, flow, GADOBUTROL, organs["liver"], 3.0, [0.0])
    liver, spleen, blood = signals(tissues, before, VIBE)[:, 0]
    assert liver > 1.2 * spleen
    assert liver > 1.2 * blood


def test_hepatobiliary_phase_shows_bright_liver_and_dark_vessels() -> None:
    flow = typical_circulation(GADOXETATE, 0.025, None, 1200.0)
    organs = draw_organs(np.random.default_rng(0), Host(3.0))
    tissues = [organs[name] for name in ("liver", "spleen", "portal_vein")]
    rates = relaxation(tissues, flow, GADOXETATE, organs["liver"], 3.0, [0.0, 65.0, 1200.0])
    liver, spleen, vein = signals(tissues, rates, VIBE)
    assert liver[2] > liver[1] > liver[0]
    assert liver[2] > 1.3 * spleen[2]
    assert liver[2] > 1.3 * vein[2]
    assert vein[1] > vein[2]
