"""Lesions of two studies: matched by place, compared in size."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.inference.growth import changes, with_changes
from mtinet.results import Lesion, Measurement, Result


def lesion(number: int, centre, diameter: float, axial: float | None = None) -> Lesion:
    volume = np.pi / 6 * diameter**3
    measured = () if axial is None else (Measurement("longest_axial_diameter", axial, "mm"),)
    return Lesion(number, volume, diameter, tuple(centre), 0.9, {"hcc": 1.0}, {}, {}, {}, measured)


def numbers(found):
    return [(change.number, change.prior_number) for change in found]


def test_a_lesion_that_doubles_its_diameter_grows_eightfold():
    (change,) = changes([lesion(1, (1, 0, 0), 20.0, 22.0)], [lesion(4, (0, 0, 0), 10.0, 11.0)])
    assert (change.number, change.prior_number) == (1, 4)
    assert change.volume_percent == pytest.approx(700.0)
    assert change.diameter_percent == pytest.approx(100.0)


def test_new_and_vanished_lesions_are_told():
    now = [lesion(1, (0, 0, 0), 20.0), lesion(2, (80, 0, 0), 10.0)]
    prior = [lesion(1, (0, 60, 0), 12.0), lesion(2, (3, 0, 0), 18.0)]
    assert numbers(changes(now, prior)) == [(1, 2), (2, None), (None, 1)]
    assert changes(now, prior)[0].diameter_percent is None


def test_each_lesion_has_one_partner_the_nearest():
    now = [lesion(1, (0, 0, 0), 30.0), lesion(2, (12, 0, 0), 10.0)]
    prior = [lesion(1, (13, 0, 0), 10.0), lesion(2, (1, 0, 0), 28.0)]
    assert numbers(changes(now, prior)) == [(1, 2), (2, 1)]


def test_most_pairs_come_before_short_distances():
    now = [lesion(1, (0, 0, 0), 20.0), lesion(2, (15, 0, 0), 20.0)]
    prior = [lesion(1, (4, 0, 0), 20.0), lesion(2, (-16, 0, 0), 20.0)]
    assert numbers(changes(now, prior)) == [(1, 2), (2, 1)]


def test_the_transform_brings_the_prior_study_here():
    turn = np.array([[0.0, -1.0, 0.0, 50.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, -9.0], [0, 0, 0, 1]])
    prior = [lesion(1, (30, 40, 10), 15.0)]
    now = [lesion(1, (turn @ [30, 40, 10, 1])[:3], 15.0)]
    assert numbers(changes(now, prior)) == [(1, None), (None, 1)]
    (change,) = changes(now, prior, turn)
    assert change.volume_percent == pytest.approx(0.0)


def test_studies_without_lesions_have_no_changes():
    assert changes([], []) == ()
    assert numbers(changes([], [lesion(3, (0, 0, 0), 10.0)])) == [(None, 3)]


def test_the_changes_join_the_measurements_with_the_prior_study_named():
    def result(name, *lesions):
        return Result(name, ("pre",), "pre", ("hcc",), lesions)

    prior = result("old", lesion(1, (0, 0, 0), 10.0, 10.0), lesion(2, (99, 0, 0), 9.0, 9.0))
    now = with_changes(
        result("new", lesion(1, (0, 0, 0), 20.0, 15.0), lesion(2, (50, 0, 0), 8.0, 8.0)), prior
    )
    grown = {m.name: m for m in now.lesions[0].measurements}
    assert grown["volume_change"].value == pytest.approx(700.0)
    assert grown["diameter_change"].value == pytest.approx(50.0)
    assert "old" in grown["volume_change"].reason
    assert [m.finding for m in now.lesions[1].measurements if m.name == "growth"] == ["new"]
    (vanished,) = [m for m in now.measurements if m.name == "vanished_lesions"]
    assert vanished.value == 1.0
