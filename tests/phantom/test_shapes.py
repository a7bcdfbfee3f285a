"""Solids on the fine grid, and what a larger voxel sees of them."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.shapes import (
    Ellipsoid,
    Grid,
    Lattice,
    Tube,
    box_mean,
    extent,
    near_points,
    noise,
    smooth_max,
    smooth_min,
    waves,
)

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


@pytest.mark.parametrize("turn", [0.0, 40.0])
def test_depth_of_an_ellipsoid_has_the_sign_of_its_level_and_unit_slope_at_the_surface(turn: float) -> None:
    shape = Ellipsoid((3.0, -2.0, 5.0), (20.0, 12.0, 15.0), turn)
    mesh = GRID.mesh(GRID.whole)
    depth = shape.depth(mesh)
    np.testing.assert_array_equal(depth > 0.0, shape.level(GRID, GRID.whole) < 1.0)
    slope = np.sqrt(sum(g**2 for g in np.gradient(depth, *GRID.spacing_mm)))
    assert np.median(slope[np.abs(depth) < 1.0]) == pytest.approx(1.0, abs=0.05)


def test_depth_of_a_round_ball_is_its_distance_even_at_the_centre() -> None:
    ball = Ellipsoid((0.5, 0.6, 0.75), (10.0, 10.0, 10.0))
    mesh = GRID.mesh(GRID.whole)
    x, y, z = (axis - c for axis, c in zip(mesh, ball.centre))
    np.testing.assert_allclose(ball.depth(mesh), 10.0 - np.sqrt(x**2 + y**2 + z**2), atol=5e-3)


def test_depth_of_a_tube_agrees_with_its_inside() -> None:
    tube = Tube((-20.0, -10.0, 0.0), (20.0, 15.0, 10.0), (6.0, 3.0))
    np.testing.assert_array_equal(tube.depth(GRID.mesh(GRID.whole)) >= 0.0, tube.inside(GRID, GRID.whole))


def test_refining_is_exact_for_linear_fields() -> None:
    lattice = Lattice.cover((-30.0, -31.0, -20.0), (25.0, 29.0, 33.0), 4.0)
    x, y, z = lattice.mesh
    box, fine = lattice.refine((2.0 * x - y + 0.5 * z + 3.0).astype(np.float32), GRID)
    gx, gy, gz = GRID.mesh(box)
    np.testing.assert_allclose(fine, 2.0 * gx - gy + 0.5 * gz + 3.0, atol=1e-3)
    low = [axis[part.start] for axis, part in zip(GRID.axes, box)]
    assert all(a <= b < a + step for a, b, step in zip((-30.0, -31.0, -20.0), low, GRID.spacing_mm))


def test_a_part_of_a_lattice_refines_to_the_same_values() -> None:
    lattice = Lattice.cover((-39.0, -40.0, -40.0), (39.0, 40.0, 40.0), 5.0)
    field = noise(np.random.default_rng(1), lattice, 10.0)
    whole, fine = lattice.refine(field, GRID)
    where, piece = lattice.part((-11.0, 3.0, -8.0), (14.0, 22.0, 19.0))
    box, refined = piece.refine(field[where], GRID)
    inside = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, whole))
    np.testing.assert_allclose(refined, fine[inside], atol=1e-5)


def test_a_lattice_that_misses_the_grid_refines_to_nothing() -> None:
    lattice = Lattice.cover((500.0, 0.0, 0.0), (520.0, 10.0, 10.0), 5.0)
    assert lattice.refine(np.ones(lattice.shape, dtype=np.float32), GRID)[1].size == 0


def test_smooth_minimum_rounds_below_the_minimum_and_only_where_both_are_near() -> None:
    a = np.linspace(-10.0, 10.0, 201, dtype=np.float32)
    b = np.zeros_like(a)
    low = smooth_min(a, b, 4.0)
    far = np.abs(a) >= 4.0
    np.testing.assert_array_equal(low[far], np.minimum(a, b)[far])
    assert np.all(low <= np.minimum(a, b))
    assert low[100] == pytest.approx(-1.0)
    np.testing.assert_allclose(smooth_max(a, b, 4.0), -smooth_min(-a, b, 4.0))


@pytest.mark.parametrize("sigma", [3.0, 9.0])
def test_noise_has_unit_size_and_its_correlation_length(sigma: float) -> None:
    lattice = Lattice.cover((-90.0, -90.0, -90.0), (90.0, 90.0, 90.0), 3.0)
    fields = np.stack([noise(np.random.default_rng(s), lattice, sigma) for s in range(6)])
    # interpolation between the points of the source takes some of the variance
    assert 0.7 < fields.std() < 1.1
    steps = int(2.0 * sigma / 3.0)
    for axis in (1, 2, 3):
        moved = np.roll(fields, steps, axis=axis)
        # exp(-d^2 / 4 sigma^2) at a distance of two sigma
        assert np.corrcoef(fields.ravel(), moved.ravel())[0, 1] == pytest.approx(np.exp(-1.0), abs=0.12)


def test_near_points_are_exactly_the_voxels_within_the_radii() -> None:
    points = np.array([[0.0, 0.0, 0.0], [39.0, -41.0, 44.0], [12.3, 4.5, -6.7]])
    radii = np.array([5.0, 4.0, 0.9])
    x, y, z = GRID.mesh(GRID.whole)
    expected = np.zeros(GRID.shape, dtype=bool)
    for (a, b, c), radius in zip(points, radii):
        expected |= (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 <= radius**2
    np.testing.assert_array_equal(near_points(GRID, points, radii), np.flatnonzero(expected))


def test_extent_is_the_smallest_box() -> None:
    where = np.zeros((9, 8, 7), dtype=bool)
    assert extent(where) is None
    where[2:5, 3, 1:6] = True
    assert extent(where) == (slice(2, 5), slice(3, 4), slice(1, 6))
