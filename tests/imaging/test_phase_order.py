"""Exchanged phases are told by their enhancement; phases that are named right are left in peace."""

from __future__ import annotations

import pytest

from mtinet.config import resolve_simulation
from mtinet.imaging.phase_order import misnamed_phases
from mtinet.phantom.patient import simulate_patient


@pytest.fixture(scope="module")
def patients():
    settings = resolve_simulation("multicentre", options={"agent": "gadobutrol", "seed": 61, "subjects": 20})
    settings = settings.with_spacing((6.0, 5.0, 6.0))
    return [simulate_patient(settings, index).images for index in range(3)]


def test_phases_named_right_are_left_in_peace(patients):
    assert [misnamed_phases(images, "gadobutrol") for images in patients] == [[], [], []]


@pytest.mark.parametrize("pair", [("arterial", "portal_venous"), ("arterial", "delayed")])
def test_exchanged_phases_are_found_and_named(patients, pair):
    one, other = pair
    for images in patients:
        if one not in images or other not in images:
            continue
        found = misnamed_phases({**images, one: images[other], other: images[one]}, "gadobutrol")
        assert {item.named for item in found} & {one, other}
        for item in found:
            assert item.looks_like == {one: other, other: one}[item.named]
            assert "vessels" in item.evidence


def test_the_signal_of_volumes_that_do_not_enhance_says_nothing(patients):
    pre = patients[0]["pre"]
    same = pre.with_array(pre.array * 1.001)
    assert misnamed_phases({"pre": pre, "arterial": same, "portal_venous": same}, "") == []
