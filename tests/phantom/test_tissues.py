"""Organs: published relaxation, priors, and what disease does to the liver."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.host import Host
from mtinet.phantom.tissues import T1_S, T1_TABLE, Tissue, at_field, draw_liver, draw_organs, draw_t1

DE_BAZELAIRE_3T = {
    "liver": 0.809,
    "spleen": 1.328,
    "renal_cortex": 1.142,
    "renal_medulla": 1.545,
    "muscle": 0.898,
    "marrow": 0.586,
    "fat": 0.382,
}


def livers(**condition: float) -> list[Tissue]:
    return [draw_liver(np.random.default_rng(n), Host(3.0, **condition)) for n in range(100)]


def median(tissues: list[Tissue], name: str) -> float:
    return float(np.median([getattr(tissue, name) for tissue in tissues]))


def test_relaxation_is_the_published() -> None:
    for name, published in DE_BAZELAIRE_3T.items():
        assert T1_S[name][1] == published
    assert T1_S["pancreas"] == (0.654, 0.717)
    assert all(entry.source and 0.0 < entry.at_1_5T_s <= entry.at_3T_s for entry in T1_TABLE.values())


def test_field_strength_law_passes_through_both_values() -> None:
    assert at_field((0.586, 0.809), 1.5) == pytest.approx(0.586)
    assert at_field((0.586, 0.809), 3.0) == pytest.approx(0.809)
    assert 0.586 < at_field((0.586, 0.809), 2.0) < 0.809


def test_spread_of_relaxation_is_the_published() -> None:
    values = [draw_t1(np.random.default_rng(n), "liver", 3.0) for n in range(600)]
    assert np.median(values) == pytest.approx(0.809, rel=0.02)
    assert np.std(values) == pytest.approx(0.071, rel=0.15)


@pytest.mark.parametrize("field_T", [1.5, 3.0])
def test_organs_are_physical(field_T: float) -> None:
    for seed in range(30):
        organs = draw_organs(np.random.default_rng(seed), Host(field_T, cirrhosis=seed / 30.0))
        for name, tissue in organs.items():
            assert name == tissue.name
            assert tissue.t1_s > 0.0
            assert 0.0 <= tissue.proton <= 1.0
            assert 0.0 <= tissue.arterial_fraction <= 1.0
            assert 0.0 < tissue.distribution_volume + tissue.plasma < 1.0


def test_all_vessels_hold_the_same_blood() -> None:
    organs = draw_organs(np.random.default_rng(0), Host(3.0))
    assert len({tissue.t1_s for tissue in organs.values() if tissue.vessel}) == 1


def test_only_the_liver_takes_up_and_only_the_kidney_filters() -> None:
    organs = draw_organs(np.random.default_rng(0), Host(3.0))
    assert [name for name, tissue in organs.items() if tissue.uptake_per_min > 0.0] == ["liver"]
    assert [name for name, tissue in organs.items() if tissue.filtration_per_min > 0.0] == ["renal_cortex"]


def test_cirrhosis_does_what_is_published() -> None:
    healthy, cirrhotic = livers(), livers(cirrhosis=0.65)
    flows = [median(group, "flow_per_min") for group in (healthy, cirrhotic)]
    assert flows[1] / flows[0] == pytest.approx(67.0 / 108.0, rel=0.10)
    assert median(cirrhotic, "arterial_fraction") == pytest.approx(0.41, abs=0.06)
    assert median(healthy, "distribution_volume") == pytest.approx(0.259, rel=0.05)
    assert median(cirrhotic, "distribution_volume") == pytest.approx(0.401, rel=0.05)
    assert median(cirrhotic, "t1_s") > 1.1 * median(healthy, "t1_s")
    assert median(cirrhotic, "uptake_per_min") < 0.7 * median(healthy, "uptake_per_min")


def test_fat_suppression_takes_the_fats_share_of_a_fatty_liver() -> None:
    assert median(livers(fat_fraction=0.3), "proton") == pytest.approx(0.7)
