"""Lesions find room inside the liver and apart from each other."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.placement import draw_diameters, draw_places
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
