"""A whole study measured: what is there for every lesion, and for a study without one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtinet.config import MeasurementSettings
from mtinet.inference.measure import measure
from mtinet.inference.observed import Observed
from mtinet.volume import Volume

SETTINGS = MeasurementSettings()


def mask_of(observed: Observed) -> Volume:
    """The labels as a mask with RAS axes on the same grid."""
    return Volume(observed.labels.transpose(2, 1, 0), np.diag([*observed.spacing_mm[::-1], 1.0]))


def two_lesions(scene) -> Observed:
    observed = scene()
    labels = observed.labels.copy()
    labels[2:6, 4:10, 4:10] = 2
    return replace(observed, labels=labels)


def test_every_lesion_has_size_place_enhancement_and_signs(scene):
    observed = two_lesions(scene)
    found = measure(observed, mask_of(observed), SETTINGS)
    assert set(found.lesions) == {1, 2}
    names = {m.name for m in found.lesions[1]}
    assert names >= {"volume", "longest_axial_diameter", "half_of_liver", "signal", "relative_enhancement"}
    assert names >= {"wash_in_rate", "curve_type", "arterial_hyperenhancement", "washout", "capsule"}
    assert {m.name: m.value for m in found.study}["lesions"] == 2.0
    sizes = {m.name: m for m in found.lesions[2]}
    assert sizes["volume"].value == pytest.approx(4 * 6 * 6 * 4.5 / 1000)


def test_a_study_without_lesion_says_so_and_still_knows_its_liver(scene):
    observed = scene()
    observed = replace(observed, labels=np.zeros_like(observed.labels))
    found = measure(observed, mask_of(observed), SETTINGS)
    assert found.lesions == {}
    assert next(m.value for m in found.study if m.name == "lesions") == 0.0
    liver = {m.phase: m.value for m in found.study if m.name == "liver_signal"}
    assert liver["pre"] < liver["delayed"]


def test_signal_is_in_the_studys_own_units(scene):
    observed = replace(scene(noise=0.0), unit=250.0)
    found = measure(observed, mask_of(observed), SETTINGS)
    signal = {m.phase: m.value for m in found.lesions[1] if m.name == "signal"}
    assert signal["arterial"] == pytest.approx(250.0 * 220.0, rel=1e-5)


def test_what_cannot_be_assessed_has_a_reason_and_no_value(scene, curves):
    observed = scene(
        agent="", with_liver=False, times_s={}, liver={p: v for p, v in curves["liver"].items() if p != "pre"}
    )
    found = measure(observed, mask_of(observed), SETTINGS)
    missing = [m for m in (*found.study, *found.lesions[1]) if m.finding == "not assessable"]
    assert len(missing) > 8
    assert all(m.value is None and m.reason for m in missing)
    assert all(m.value is not None for m in found.lesions[1] if not m.finding)
