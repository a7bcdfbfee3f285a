"""Lesions find room inside the liver and apart from each other."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.placement import NEAR_SURFACE, draw_diameters, draw_places
from mtinet.phantom.shapes import Ellipsoid, Grid

GRID = Grid((80, 80, 60), (2.0, 2.0, 2.0))


def _liver(radius_mm: float) -> np.ndarray:
    return Ellipsoid((5.0, 0.0, 0.0), (radius_mm,) * 3).level(GRID, GRID.whole) <= 1.0


def test_diameters_stay_in_their_limits_and_the_first_is_the_largest() -> None:
    drawn = [draw_diameters(np.random.default_rng(s), (6.0, 60.0), 30.0, 0.6) for s in range(400)]
    assert all(6.0 <= d <= 60.0 for row in drawn for d in row)
    assert all(row == sorted(row, reverse=True) for row in drawn)
    assert np.median([row[0] for row in drawn]) == pytest.approx(30.0, rel=0.1)
    assert np.mean([len(row) - 1 for row in drawn]) == pytest.approx(0.6, abs=0.15)


def test_lesions_lie_in_the_liver_and_apart() -> None:
    for seed in range(10):
        placed = draw_places(np.random.default_rng(seed), GRID, _liver(50.0), [30.0, 20.0, 15.0, 10.0], 6.0)
        assert len(placed) == 4
        for n, (centre, diameter) in enumerate(placed):
            assert (
                np.linalg.norm(np.subtract(centre, (5.0, 0.0, 0.0))) + 0.5 * diameter <= 52.0 + 0.1 * diameter
            )
            for other, width in placed[:n]:
                assert np.linalg.norm(np.subtract(centre, other)) >= 0.5 * (diameter + width)


def test_what_does_not_fit_shrinks_or_is_left_out() -> None:
    placed = draw_places(np.random.default_rng(0), GRID, _liver(14.0), [60.0, 40.0], 10.0)
    assert len(placed) == 1
    assert 20.0 < placed[0][1] < 36.0


def test_lesions_asked_to_the_surface_touch_it_and_the_others_seldom_do() -> None:
    liver, depths = _liver(50.0), {0.0: [], 1.0: []}
    for share, found in depths.items():
        for seed in range(40):
            rng = np.random.default_rng(seed)
            ((centre, diameter),) = draw_places(rng, GRID, liver, [20.0], 6.0, near_surface=share)
            found.append(50.0 - np.linalg.norm(np.subtract(centre, (5.0, 0.0, 0.0))) - 0.5 * diameter)
    # the surface is found on every other voxel of 2 mm
    assert max(depths[1.0]) < 0.15 * 10.0 + 4.0
    assert np.mean(np.array(depths[0.0]) > 6.0) > 0.4


def test_lesions_at_the_surface_still_keep_most_of_their_radius_inside() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ((centre, _),) = draw_places(rng, GRID, _liver(50.0), [30.0], 6.0, near_surface=1.0)
        assert np.linalg.norm(np.subtract(centre, (5.0, 0.0, 0.0))) <= 50.0 - 0.85 * 15.0 + 2.0


def test_without_liver_there_is_no_place() -> None:
    assert draw_places(np.random.default_rng(0), GRID, np.zeros(GRID.shape, dtype=bool), [20.0], 6.0) == []


def test_shares_under_the_capsule_are_shares() -> None:
    assert set(NEAR_SURFACE) == {"hemangioma", "hcc", "fnh", "metastasis", "icc", "cyst"}
    assert all(0.0 < share < 1.0 for share in NEAR_SURFACE.values())
