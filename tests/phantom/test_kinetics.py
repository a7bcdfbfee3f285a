"""Kinetics against the OSIPI curves and against what must hold of any such model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtinet.phantom.kinetics import (
    blood_to_plasma,
    dual_input_extended_tofts,
    dual_input_hepatocyte,
    dual_input_one_compartment,
    exponential_convolution,
    extended_tofts,
    parker_aif,
    tofts,
)

OSIPI = Path(__file__).parents[1] / "data" / "osipi"
T_S = np.arange(0.0, 300.0, 2.0)
CA = blood_to_plasma(parker_aif((T_S - 10.0) / 60.0), 0.42)
CV = blood_to_plasma(parker_aif((T_S - 22.0) / 60.0), 0.42)


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=float)


def test_parker_matches_osipi() -> None:
    table = pd.read_csv(OSIPI / "ParkerAIF_ref.csv")
    for _, curve in table.groupby(["label", "delay"]):
        time = curve.time.to_numpy() - curve.delay.to_numpy() / 60.0
        expected = curve.Cb.to_numpy()
        np.testing.assert_allclose(parker_aif(time), expected, rtol=0, atol=1e-6 * expected.max())


def test_nothing_arrives_before_the_bolus() -> None:
    assert parker_aif(np.array([-5.0, -1e-9])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["tofts", "extended_tofts"])
def test_tissue_curves_match_osipi(name: str) -> None:
    table = pd.read_csv(OSIPI / f"dce_DRO_data_{name}.csv")
    clean = 0
    for _, row in table.iterrows():
        t, ca, expected = _numbers(row.t), _numbers(row.ca), _numbers(row.C)
        parameters = (row.Ktrans, row.ve) if name == "tofts" else (row.Ktrans, row.ve, row.vp)
        ours = (tofts if name == "tofts" else extended_tofts)(t, ca, *parameters)
        error = ours - expected
        if row.label.endswith("highSNR"):
            assert np.abs(error).max() < 5e-3 * expected.max(), row.label
            clean += 1
        else:  # the curve carries noise: what is left must be centred on zero
            assert abs(error.mean()) < 5.0 * error.std() / np.sqrt(error.size), row.label
    assert clean >= 3


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.03, 1.0, 400.0])
def test_convolution_is_exact_for_linear_pieces_whatever_the_steps(rate: float) -> None:
    knots, heights = np.array([0.0, 20.0, 31.0, 300.0]), np.array([0.0, 5.0, 1.0, 0.4])
    fine = np.union1d(np.linspace(0.0, 300.0, 2000), knots)
    coarse = exponential_convolution(knots, heights, rate)
    dense = exponential_convolution(fine, np.interp(fine, knots, heights), rate)
    np.testing.assert_allclose(coarse, dense[np.searchsorted(fine, knots)], rtol=1e-9, atol=1e-12)


def test_convolution_of_a_constant_is_the_closed_form() -> None:
    ours = exponential_convolution(T_S, np.full(T_S.size, 3.0), 1.7)
    np.testing.assert_allclose(ours, 3.0 * (1.0 - np.exp(-1.7 * T_S / 60.0)) / 1.7, rtol=1e-10)


def test_without_washout_the_tissue_keeps_all_that_flowed_in() -> None:
    inflow = 0.8 * np.concatenate([[0.0], np.cumsum((CA[1:] + CA[:-1]) / 2.0 * np.diff(T_S) / 60.0)])
    np.testing.assert_allclose(tofts(T_S, CA, 0.8, 1e9), inflow, rtol=1e-6)


def test_a_constant_input_fills_the_distribution_volume() -> None:
    t = np.arange(0.0, 7200.0, 10.0)
    ones = np.ones(t.size)
    assert tofts(t, 2.0 * ones, 0.5, 0.3)[-1] == pytest.approx(0.6, rel=1e-9)
    assert extended_tofts(t, 2.0 * ones, 0.5, 0.3, 0.1)[-1] == pytest.approx(0.8, rel=1e-9)
    both = dual_input_one_compartment(t, 2.0 * ones, 1.0 * ones, 0.9, 0.25, 0.2)
    assert both[-1] == pytest.approx(0.2 * 1.25, rel=1e-9)


def test_dual_input_with_one_input_alone_is_the_tofts_model() -> None:
    np.testing.assert_allclose(
        dual_input_one_compartment(T_S, CA, CV, 0.9, 1.0, 0.2), tofts(T_S, CA, 0.9, 0.2)
    )
    np.testing.assert_allclose(
        dual_input_one_compartment(T_S, CA, CV, 0.9, 0.0, 0.2), tofts(T_S, CV, 0.9, 0.2)
    )


def test_models_are_linear_in_their_inputs() -> None:
    parts = [dual_input_one_compartment(T_S, a, v, 0.9, 0.3, 0.2) for a, v in ((CA, 0 * CV), (0 * CA, CV))]
    whole = dual_input_one_compartment(T_S, 3 * CA, 2 * CV, 0.9, 0.3, 0.2)
    np.testing.assert_allclose(whole, 3 * parts[0] + 2 * parts[1])


def test_parameters_broadcast_with_time_last() -> None:
    flows, volumes = np.array([[0.5], [1.0]]), np.array([0.1, 0.2, 0.3])
    curves = dual_input_one_compartment(T_S, CA, CV, flows, 0.3, volumes)
    assert curves.shape == (2, 3, T_S.size)
    np.testing.assert_allclose(curves[1, 2], dual_input_one_compartment(T_S, CA, CV, 1.0, 0.3, 0.3))


def test_extended_dual_input_with_equal_inputs_is_the_extended_tofts_model() -> None:
    ours = dual_input_extended_tofts(T_S, CA, CA, 0.4, 0.3, 0.25, 0.06)
    np.testing.assert_allclose(ours, extended_tofts(T_S, CA, 0.4, 0.25, 0.06))


def test_extended_dual_input_adds_the_mixed_plasma() -> None:
    shares, plasma = np.array([0.2, 0.9]), np.array([0.05, 0.1])
    whole = dual_input_extended_tofts(T_S, CA, CV, 0.4, shares, 0.25, plasma)
    mixed = shares[:, None] * CA + (1.0 - shares[:, None]) * CV
    added = whole - dual_input_one_compartment(T_S, CA, CV, 0.4, shares, 0.25)
    np.testing.assert_allclose(added, plasma[:, None] * mixed, atol=1e-12)


def test_without_uptake_the_liver_is_the_one_compartment_model() -> None:
    outside, inside = dual_input_hepatocyte(T_S, CA, CV, 0.9, 0.3, 0.2, 0.0, 0.03)
    np.testing.assert_allclose(outside, dual_input_one_compartment(T_S, CA, CV, 0.9, 0.3, 0.2))
    assert not inside.any()


@pytest.mark.parametrize("excretion", [0.0, 0.02, 0.7, 4.6, 30.0])
def test_the_hepatocyte_model_solves_its_differential_equations(excretion: float) -> None:
    flow, share, volume, uptake = 0.9, 0.3, 0.2, 0.02  # the extracellular space empties at 4.6 per minute
    fine = np.arange(0.0, 300.0, 0.1)
    ca, cv = (np.interp(fine, T_S, curve) for curve in (CA, CV))
    outside, inside = dual_input_hepatocyte(fine, ca, cv, flow, share, volume, uptake, excretion)
    step = 0.1 / 60.0

    def middle(curve: np.ndarray) -> np.ndarray:
        return (curve[1:] + curve[:-1]) / 2.0

    source = flow * (share * middle(ca) + (1.0 - share) * middle(cv))
    change = source - (flow + uptake) / volume * middle(outside)
    np.testing.assert_allclose(np.diff(outside) / step, change, atol=2e-4 * source.max())
    change = uptake / volume * middle(outside) - excretion * middle(inside)
    np.testing.assert_allclose(np.diff(inside) / step, change, atol=2e-4 * uptake / volume * outside.max())


def test_agent_is_conserved_when_none_is_excreted() -> None:
    t = np.arange(0.0, 1200.0, 0.5)
    pulse = np.interp(t, [0, 5, 10], [0, 1, 0])
    outside, inside = dual_input_hepatocyte(t, pulse, pulse, 0.9, 0.3, 0.2, 0.1, 0.0)
    # all that entered has left with the blood or sits in hepatocytes, in the ratio of flow to uptake
    entered = 0.9 * 5.0 / 60.0
    assert outside[-1] < 1e-12
    assert inside[-1] == pytest.approx(entered * 0.1 / (0.1 + 0.9), rel=1e-9)


def test_equal_rates_are_the_limit_of_nearly_equal_ones() -> None:
    at, near = (dual_input_hepatocyte(T_S, CA, CV, 0.9, 0.3, 0.2, 0.1, 5.0 * f)[1] for f in (1.0, 1.001))
    np.testing.assert_allclose(at, near, rtol=2e-3)
    assert at.max() > 0.0


def test_a_constant_input_settles_where_excretion_equals_uptake() -> None:
    t = np.arange(0.0, 36000.0, 20.0)
    ones = np.ones(t.size)
    outside, inside = dual_input_hepatocyte(t, ones, ones, 0.9, 0.3, 0.2, 0.03, 0.05)
    assert outside[-1] == pytest.approx(0.2 * 0.9 / 0.93, rel=1e-9)
    assert 0.05 * inside[-1] == pytest.approx(0.03 * 0.9 / 0.93, rel=1e-9)


def test_tissues_side_by_side_are_the_tissues_one_by_one() -> None:
    rng = np.random.default_rng(0)
    t = np.concatenate([np.arange(0.0, 100.0, 0.5), np.arange(100.0, 600.0, 7.0)])
    ca, cv = np.interp(t, T_S, CA), np.interp(t, T_S, CV)
    rows = rng.uniform([0.1, 0.0, 0.1, -0.02, 0.0], [2.0, 1.0, 0.4, 0.05, 0.1], (20, 5))
    rows[:, 3] = np.maximum(rows[:, 3], 0.0)
    together = np.stack(dual_input_hepatocyte(t, ca, cv, *rows.T))
    for n, row in enumerate(rows):
        np.testing.assert_allclose(together[:, n], dual_input_hepatocyte(t, ca, cv, *row), rtol=1e-12, atol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_any_number_of_times_will_do(count: int) -> None:
    exact = np.array([0.0, *np.cumsum(np.full(count - 1, 0.5))])  # a unit input without washout, in minutes
    np.testing.assert_allclose(exponential_convolution(30.0 * np.arange(count), np.ones(count), 0.0), exact)


def test_impossible_hepatocytes_are_refused() -> None:
    with pytest.raises(ValueError, match="uptake or excretion"):
        dual_input_hepatocyte(T_S, CA, CV, 0.9, 0.3, 0.2, -0.1, 0.0)
    with pytest.raises(ValueError, match="arterial fraction"):
        dual_input_hepatocyte(T_S, CA, CV, 0.9, 1.3, 0.2, 0.1, 0.0)
    with pytest.raises(ValueError, match="plasma volume"):
        dual_input_extended_tofts(T_S, CA, CV, 0.9, 0.3, 0.2, -0.1)


def test_plasma_holds_the_blood_s_agent() -> None:
    assert blood_to_plasma([1.0, 2.0], 0.5).tolist() == [2.0, 4.0]
    with pytest.raises(ValueError, match="fraction, not in percent"):
        blood_to_plasma(1.0, 42)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((T_S[::-1], CA, 0.5, 0.2), "increasing"),
        ((T_S, CA[:-1], 0.5, 0.2), "shape"),
        ((T_S, CA, 0.5, 0.0), "not above 0"),
        ((T_S, CA, -0.5, 0.2), "negative"),
    ],
)
def test_impossible_input_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tofts(*arguments)
