"""Lesions of two studies: matched by place, compared in size."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.inference.growth import Shown, changes, with_changes
from mtinet.results import Lesion, Measurement, Result
from mtinet.volume import Volume


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


# ---------------------------------------------------------------------- what the images show
def image(low: float, high: float) -> Volume:
    """Slices of 2 mm from ``low`` to ``high``; wide in the plane."""
    affine = np.diag([4.0, 4.0, 2.0, 1.0])
    affine[:3, 3] = (-98.0, -98.0, low + 1.0)
    return Volume(np.zeros((50, 50, round((high - low) / 2)), dtype=np.float32), affine)


def test_what_was_not_imaged_is_neither_new_nor_vanished():
    low, high = lesion(1, (0, 0, -30), 10.0), lesion(2, (0, 0, 30), 10.0)
    whole, upper = image(-60, 60), image(0, 60)
    # the prior study did not reach down, then this one
    (_, found) = changes([high, low], [high], shown=Shown(upper, whole))
    assert (found.prior_number, found.imaged) == (None, False)
    assert changes([high, low], [high], shown=Shown(whole, whole))[1].imaged
    *_, gone = changes([high], [high, low], shown=Shown(whole, upper))
    assert (gone.number, gone.imaged) == (None, False)
    # what counts is where it lies in the other study
    shift = np.eye(4)
    shift[2, 3] = 40.0
    prior = [lesion(1, (0, 0, -30), 10.0)]
    *_, moved = changes([], prior, shift, Shown(whole, upper))
    assert moved.imaged


def test_what_was_not_imaged_is_told():
    def result(name, *lesions):
        return Result(name, ("pre",), "pre", ("hcc",), lesions)

    low, high = lesion(1, (0, 0, -30), 10.0), lesion(2, (0, 0, 30), 10.0)
    shown = Shown(image(0, 60), image(-60, 10))
    now = with_changes(result("new", low), result("old", high, lesion(3, (40, 0, 5), 6.0)), shown=shown)
    (growth,) = [m for m in now.lesions[0].measurements if m.name == "growth"]
    assert growth.finding == "not assessable"
    assert "do not show" in growth.reason
    (vanished,) = now.measurements
    assert vanished.value == 1.0
    assert "1 more lie outside" in vanished.reason


@pytest.mark.parametrize(("then", "now", "at_edge"), [(2, 60, "then"), (60, 2, "now"), (60, 60, "")])
def test_a_lesion_at_the_edge_of_the_images_may_be_cut(then, now, at_edge):
    one = [lesion(1, (0, 0, 0), 10.0, 10.0)]
    (change,) = changes(one, one, shown=Shown(image(-60, then), image(-60, now)))
    assert change.at_edge == at_edge
    found = with_changes(
        Result("new", ("pre",), "pre", ("hcc",), tuple(one)),
        Result("old", ("pre",), "pre", ("hcc",), tuple(one)),
        shown=Shown(image(-60, then), image(-60, now)),
    )
    (volume,) = [m for m in found.lesions[0].measurements if m.name == "volume_change"]
    assert ("edge" in volume.reason) == bool(at_edge)
