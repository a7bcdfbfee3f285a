"""The table of priors: complete, named once, each with its origin, at most three calibrated."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.priors import PRIORS, Prior, draw, prior


def test_names_are_unique_and_every_row_says_where_it_comes_from() -> None:
    assert len({row.name for row in PRIORS}) == len(PRIORS)
    for row in PRIORS:
        assert row.median > 0.0
        assert row.spread >= 0.0
        assert row.unit
        if row.kind != "assumed":
            assert row.source, row.name


def test_at_most_three_are_calibrated() -> None:
    # the inferred field of the source of the indices counts as one more
    assert sum(row.kind == "calibrated" for row in PRIORS) + 1 <= 3


@pytest.mark.parametrize("row", PRIORS, ids=lambda row: row.name)
def test_draws_are_physical_and_stay_in_the_range(row: Prior) -> None:
    rng = np.random.default_rng(5)
    low, high = row.range
    values = [row.draw(rng) for _ in range(200)]
    assert 0.0 < low <= min(values)
    assert max(values) <= high
    assert np.median(values) == pytest.approx(row.median, rel=4.0 * max(row.spread, 0.01) / np.sqrt(200) * 3)


def test_rows_are_found_by_name() -> None:
    assert prior("liver.flow_per_min").unit == "mL/min/mL"
    assert draw(np.random.default_rng(0), "circulation.hct") == pytest.approx(0.42, abs=0.08)
    with pytest.raises(KeyError):
        prior("liver.unheard_of")


def test_liver_takes_up_what_the_blood_loses_to_it() -> None:
    flow, uptake = prior("liver.flow_per_min").median, prior("liver.uptake_per_min").median
    # steady state of the two-compartment uptake model; 1.5 L of liver in 73 kg
    cleared_ml_min = 1500.0 * flow * uptake / (flow + uptake)
    assert cleared_ml_min == pytest.approx(73.0 * prior("circulation.hepatic_ml_min_kg").median, rel=0.05)
