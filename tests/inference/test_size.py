"""Sizes and places of known solids."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mtinet.imaging.masks import bounding_boxes
from mtinet.inference.size import extent_of, longest_axial_diameter_mm, place_of, size_of
from mtinet.volume import Volume


def ellipsoid(axes_mm, spacing_mm, angle=0.0) -> Volume:
    """A solid whose first axis is turned in the x-y plane, in a world with RAS axes."""
    shape = [int(2 * (max(axes_mm) / 2 + 4) / step) for step in spacing_mm]
    places = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing_mm)]
    x, y, z = np.meshgrid(*places, indexing="ij")
    u, v = np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y
    a, b, c = (axis / 2 for axis in axes_mm)
    inside = (u / a) ** 2 + (v / b) ** 2 + (z / c) ** 2 <= 1
    return Volume(inside.astype(np.uint8), np.diag([*spacing_mm, 1.0]))


def diameter(volume: Volume) -> float:
    return longest_axial_diameter_mm(volume, 1, bounding_boxes(volume.array)[1])


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 4, 1.3])
@pytest.mark.parametrize("spacing", [(0.7, 0.7, 3.0), (1.5, 1.0, 5.0)])
def test_the_diameter_of_an_ellipsoid_is_its_long_axis_whatever_its_angle(angle, spacing):
    # its height does not count: the diameter is that within a slice
    solid = ellipsoid((40.0, 22.0, 60.0), spacing, angle)
    assert diameter(solid) == pytest.approx(40.0, abs=max(spacing[:2]))


@pytest.mark.parametrize("step", [0.5, 1.0])
def test_the_diameter_of_a_disc_is_right_to_a_voxel(step):
    errors = [diameter(ellipsoid((d, d, 30.0), (step, step, 3.0))) - d for d in np.linspace(10.0, 40.0, 31)]
    assert np.abs(errors).max() < step


def test_a_row_and_a_single_voxel_have_a_diameter():
    array = np.zeros((9, 5, 3), dtype=np.uint8)
    array[2:7, 2, 1] = 1
    assert diameter(Volume(array, np.diag([2.0, 1.0, 4.0, 1.0]))) == pytest.approx(10.0)
    array[...] = 0
    array[4, 2, 1] = 1
    assert diameter(Volume(array, np.diag([2.0, 1.0, 4.0, 1.0]))) == pytest.approx(2.0)


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
def test_the_order_and_direction_of_the_axes_change_nothing(order):
    solid = ellipsoid((30.0, 18.0, 24.0), (1.0, 1.2, 3.0), 0.6)
    flips = tuple(slice(None, None, -1) if axis == order[0] else slice(None) for axis in range(3))
    affine = solid.affine.copy()
    affine[:3, order[0]] *= -1
    affine[:3, 3] = -affine[:3, order[0]] * (solid.shape[order[0]] - 1)
    columns = [*order, 3]
    turned = Volume(solid.array[flips].transpose(order), affine[:, columns])
    box = bounding_boxes(turned.array)[1]
    assert diameter(turned) == pytest.approx(diameter(solid))
    assert size_of(turned, 1, box)[0].value == pytest.approx(
        np.count_nonzero(solid.array) * 1.0 * 1.2 * 3.0 / 1000.0
    )


def test_the_volume_of_a_ball_is_that_of_the_formula():
    solid = ellipsoid((30.0, 30.0, 30.0), (1.0, 1.0, 1.0))
    volume, _ = size_of(solid, 1, bounding_boxes(solid.array)[1])
    assert (volume.unit, volume.value) == ("mL", pytest.approx(np.pi / 6 * 27.0, rel=0.02))


@pytest.mark.parametrize(
    ("at", "half", "third"),
    [((1, 15, 10), "left half", "lower third"), ((15, 15, 25), "right half", "middle third"),
     ((28, 15, 25), "right half", "upper third")],
)  # fmt: skip
def test_the_place_is_told_within_the_livers_extent(at, half, third):
    liver = np.zeros((30, 30, 40), dtype=bool)
    liver[:, 5:25, 5:35] = True
    labels = np.zeros(liver.shape, dtype=int)
    labels[at] = 1
    found = place_of(extent_of(liver), labels, 1, bounding_boxes(labels)[1])
    assert [m.finding for m in found] == [half, third]
    assert all("not a lobe" in m.reason for m in found)


def test_without_a_liver_no_place_is_guessed():
    labels = np.ones((2, 2, 2), dtype=int)
    for liver in (None, np.zeros((2, 2, 2), dtype=bool)):
        found = place_of(extent_of(liver), labels, 1, bounding_boxes(labels)[1])
        assert {m.finding for m in found} == {"not assessable"}
