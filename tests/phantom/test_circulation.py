"""A patient's inputs: amounts are kept, the order of arrival is the body's."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.circulation import circulation, draw_circulation

NORMAL = {"arrival_s": 10.0, "stretch": 1.0, "scale": 1.0, "gut_transit_s": 9.0, "hct": 0.42}


def test_gut_delays_and_spreads_but_loses_nothing() -> None:
    flow = circulation(NORMAL, 0.1, 3600.0)
    area = [np.trapezoid(curve, flow.t_s) for curve in (flow.arterial_mM, flow.portal_mM, flow.caval_mM)]
    assert area[1:] == pytest.approx([area[0]] * 2, rel=0.02)
    assert flow.portal_mM.max() < 0.7 * flow.arterial_mM.max()
    assert flow.t_s[flow.portal_mM.argmax()] > flow.t_s[flow.arterial_mM.argmax()] + 8.0


def test_inputs_are_proportional_to_the_dose() -> None:
    single, double = circulation(NORMAL, 0.1, 200.0), circulation(NORMAL, 0.2, 200.0)
    np.testing.assert_allclose(double.portal_mM, 2.0 * single.portal_mM)


def test_a_slow_heart_lowers_the_peak_at_the_same_first_pass() -> None:
    fast, slow = (circulation({**NORMAL, "stretch": s}, 0.1, 200.0) for s in (0.8, 1.3))
    assert slow.arterial_mM.max() < 0.8 * fast.arterial_mM.max()


def test_drawn_patients_differ_and_cover_the_time_asked_for() -> None:
    flows = [draw_circulation(np.random.default_rng(seed), 0.1, 180.0) for seed in range(20)]
    assert len({flow.parameters["arrival_s"] for flow in flows}) == 20
    assert all(flow.t_s[-1] >= 180.0 and np.all(flow.portal_mM >= 0.0) for flow in flows)
