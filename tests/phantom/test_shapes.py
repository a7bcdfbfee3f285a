"""Solids on the fine grid, and what a larger voxel sees of them."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.shapes import Ellipsoid, Grid, Tube, box_mean, waves

GRID = Grid((80, 70, 60), (1.0, 1.2, 1.5))
VOXEL = 1.0 * 1.2 * 1.5


@pytest.mark.parametrize("turn", [0.0, 40.0, 90.0])
def test_ellipsoid_has_its_volume_inside_its_box(turn: float) -> None:
    shape = Ellipsoid((3.0, -2.0, 5.0), (20.0, 12.0, 15.0), turn)
    inside = shape.level(GRID, GRID.whole) <= 1.0
    assert inside.sum() * VOXEL == pytest.approx(4.0 / 3.0 * np.pi * 20.0 * 12.0 * 15.0, rel=0.02)
    assert (shape.level(GRID, shape.box(GRID)) <= 1.0).sum() == inside.sum()


def test_tube_has_the_volume_of_a_capsule_and_follows_its_axis() -> None:
    tube = Tube((-20.0, -10.0, 0.0), (20.0, 15.0, 10.0), (6.0, 6.0))
    inside = tube.inside(GRID, GRID.whole)
    length = np.linalg.norm([40.0, 25.0, 10.0])
    assert inside.sum() * VOXEL == pytest.approx(np.pi * 36.0 * length + 4.0 / 3.0 * np.pi * 216.0, rel=0.02)
    assert tube.inside(GRID, tube.box(GRID)).sum() == inside.sum()


def test_shapes_off_the_grid_are_empty() -> None:
    away = Ellipsoid((500.0, 0.0, 0.0), (10.0, 10.0, 10.0))
    assert away.level(GRID, away.box(GRID)).size == 0


def test_box_mean_is_the_mean_of_the_blocks() -> None:
    values = np.random.default_rng(0).random((6, 8, 15), dtype=np.float32)
    expected = values.reshape(3, 2, 4, 2, 3, 5).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(box_mean(values, (2, 2, 5)), expected, rtol=1e-5)


def test_waves_are_smooth_and_of_unit_size() -> None:
    fields = [waves(np.random.default_rng(s), GRID, GRID.whole, (20.0, 40.0), 4) for s in range(12)]
    assert np.std(fields) == pytest.approx(1.0, rel=0.3)
    assert max(np.abs(np.diff(field, axis=0)).max() for field in fields) < 1.5
