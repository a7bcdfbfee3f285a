"""Published enhancement beside virtual patients, within the limits that each kind of row has.

Protocol of the indices (AJR 2009;193:1318): VIBE, TR 3.35 ms, TE 1.35 ms, flip angle 12 degrees; gadobutrol
0.1 or gadoxetate 0.025 mmol/kg; 20, 55 and 90 s; the field is inferred to be 1.5 T.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mtinet.phantom.agents import AGENTS
from mtinet.phantom.circulation import typical_circulation
from mtinet.phantom.evidence import (
    INDICES,
    WITHIN,
    Index,
    index_site,
    index_table,
    washout_ratio,
    washout_table,
)
from mtinet.phantom.host import Host
from mtinet.phantom.lesions import draw_subtype, draw_tissue
from mtinet.phantom.tissues import Tissue, draw_liver

GATED = [index for index in INDICES if index.kind != "reported"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return index_table(patients=100).set_index(["agent", "tissue", "time_s"])


@pytest.fixture(scope="module")
def at_3T() -> pd.DataFrame:
    return index_table(patients=40, field_T=3.0).set_index(["agent", "tissue", "time_s"])


@pytest.mark.parametrize("index", GATED, ids=lambda row: f"{row.agent}-{row.tissue}-{row.time_s:g}")
def test_index_is_within_its_limit(table: pd.DataFrame, index: Index) -> None:
    row = table.loc[(index.agent, index.tissue, index.time_s)]
    assert row["published"] == index.value
    assert abs(row["difference"]) <= WITHIN[index.kind]


def test_limits_are_those_announced() -> None:
    assert WITHIN == {"calibrated": 0.15, "predicted": 0.30, "reported": None}
    assert [index.tissue for index in INDICES if index.kind == "reported"] == ["aorta", "aorta"]
    calibrated = [(index.agent, index.time_s) for index in INDICES if index.kind == "calibrated"]
    assert len(calibrated) <= 3
    assert set(calibrated) <= {("gadobutrol", 55.0)}


def test_low_dose_enhances_extracellular_organs_less(table: pd.DataFrame) -> None:
    for tissue in ("spleen", "pancreas", "renal_cortex"):
        for time_s in (55.0, 90.0):
            low, high = (
                table.loc[(agent, tissue, time_s), "simulated"] for agent in ("gadoxetate", "gadobutrol")
            )
            assert low < high


@pytest.mark.parametrize(
    "index",
    [index for index in GATED if index.agent == "gadoxetate"],
    ids=lambda row: f"{row.tissue}-{row.time_s:g}",
)
def test_gadoxetate_would_hold_at_3T_too(at_3T: pd.DataFrame, index: Index) -> None:
    assert abs(at_3T.loc[(index.agent, index.tissue, index.time_s), "difference"]) <= 0.30


@pytest.mark.xfail(strict=True, reason="at 3 T gadobutrol enhances liver and spleen more than published")
@pytest.mark.parametrize("tissue", ["liver", "spleen"])
def test_portal_venous_gadobutrol_would_hold_at_3T_too(at_3T: pd.DataFrame, tissue: str) -> None:
    assert abs(at_3T.loc[("gadobutrol", tissue, 55.0), "difference"]) <= 0.30


def test_table_is_a_function_of_its_seed() -> None:
    first, second = (index_table(patients=4, seed=9) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


# ---------------------------------------------------------------- washout
def test_washout_ratio_compares_liver_with_lesion() -> None:
    agent, site = AGENTS["gadobutrol"], index_site()
    flow = typical_circulation(agent, 0.1, None, 300.0)
    liver = draw_liver(np.random.default_rng(0), Host(site.field_T))
    times = [0.0, 180.0, 300.0]
    np.testing.assert_allclose(washout_ratio(liver, liver, flow, agent, site, times), 100.0)
    slow = replace(liver, t1_s=1.5 * liver.t1_s)
    assert np.all(washout_ratio(slow, liver, flow, agent, site, times) > 100.0)
    fibrous = replace(liver, distribution_volume=2.0 * liver.distribution_volume)
    late = washout_ratio(fibrous, liver, flow, agent, site, times)
    assert late[0] == pytest.approx(100.0)
    assert np.all(late[1:] < 100.0)


def test_washout_table_takes_the_lesions_it_is_given() -> None:
    def dark(rng: np.random.Generator, host: Host, liver: Tissue) -> Tissue:
        return replace(liver, t1_s=1.3 * liver.t1_s)

    table = washout_table({"hcc": dark}, patients=8)
    assert list(table["time_s"]) == [180.0, 300.0]
    assert list(table["published"]) == [116.2, 112.9]
    assert np.all(table["kind"] == "predicted")
    assert np.all(table["low"] > 100.0)
    assert set(index_table(patients=2).columns) == set(table.columns)


@pytest.fixture(scope="module")
def drawn_washout() -> pd.DataFrame:
    """HCC at its rates of sub-forms, and the other lesions that are bright in the arterial phase."""
    others = (
        ("fnh", "fnh_plain"),
        ("metastasis", "metastasis_hypervascular"),
        ("hemangioma", "hemangioma_flash"),
    )

    def hcc(rng: np.random.Generator, host: Host, liver: Tissue) -> Tissue:
        return draw_tissue(rng, "hcc", draw_subtype(rng, "hcc", 34.0, None, host.cirrhosis), host, liver)

    def other(rng: np.random.Generator, host: Host, liver: Tissue) -> Tissue:
        return draw_tissue(rng, *others[int(rng.integers(len(others)))], host, liver)

    return washout_table({"hcc": hcc, "hypervascular_other": other}, patients=150)


def test_washout_of_drawn_lesions_is_predicted_within_its_limit(drawn_washout: pd.DataFrame) -> None:
    assert np.all(np.abs(drawn_washout["difference"]) <= WITHIN["predicted"])


def test_washout_parts_hcc_from_other_hypervascular_lesions(drawn_washout: pd.DataFrame) -> None:
    median = drawn_washout.pivot(index="time_s", columns="tissue", values="simulated")
    # the published threshold that parts them is 102 (Kloeckner 2016)
    assert np.all(median["hcc"] > 102.0)
    assert np.all(median["hcc"] > median["hypervascular_other"])
