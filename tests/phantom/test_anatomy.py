"""The drawn abdomen: sizes, sides, and what lies inside what."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.anatomy import Canvas, draw_anatomy
from mtinet.phantom.shapes import Grid
from mtinet.phantom.tissues import draw_organs

GRID = Grid((112, 88, 48), (3.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def patients() -> list[tuple[Canvas, np.ndarray]]:
    drawn = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        canvas = Canvas(GRID, draw_organs(rng, 3.0))
        drawn.append((canvas, draw_anatomy(rng, canvas)))
    return drawn


def _centre_x(where: np.ndarray) -> float:
    return float(GRID.axes[0][np.argwhere(where)[:, 0]].mean())


def test_livers_have_human_volumes_that_vary(patients: list) -> None:
    millilitres = [liver.sum() * 27.0 / 1000.0 for _, liver in patients]
    assert min(millilitres) > 700.0
    assert max(millilitres) < 2200.0
    assert np.std(millilitres) > 40.0


def test_liver_lies_right_and_spleen_left(patients: list) -> None:
    for canvas, liver in patients:
        assert _centre_x(liver) > 20.0
        assert _centre_x(canvas.labels == canvas.number("spleen")) < -50.0


def test_every_organ_is_there(patients: list) -> None:
    wanted = ("fat", "muscle", "spleen", "renal_cortex", "aorta", "vena_cava", "portal_vein", "hepatic_vein")
    for canvas, _ in patients:
        for name in (*wanted, "marrow", "lung", "stomach_wall"):
            assert np.any(canvas.labels == canvas.number(name)), name


def test_liver_holds_vessels_and_no_large_outside_organ(patients: list) -> None:
    for canvas, liver in patients:
        inside = canvas.labels[liver]
        for name in ("portal_vein", "hepatic_vein"):
            assert np.any(inside == canvas.number(name)), name
        for name in ("bile", "vena_cava", "renal_cortex", "aorta", "air", "lung"):
            assert not np.any(inside == canvas.number(name)), name


def test_body_is_surrounded_by_air(patients: list) -> None:
    for canvas, _ in patients:
        air = canvas.number("air")
        assert np.all(canvas.labels[[0, -1]] == air)
        assert np.all(canvas.labels[:, [0, -1]] == air)
