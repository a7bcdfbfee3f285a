"""Painting parts by name and by number."""

from __future__ import annotations

import numpy as np

from mtinet.phantom.canvas import Canvas
from mtinet.phantom.shapes import Ellipsoid, Grid, Tube
from mtinet.phantom.tissues import Tissue

GRID = Grid((20, 18, 16), (2.0, 2.0, 2.0))
ORGANS = {name: Tissue(name, 1.0) for name in ("air", "fat", "liver")}
BALL = Ellipsoid((0.0, 0.0, 0.0), (9.0, 9.0, 9.0))


def test_a_canvas_starts_as_air() -> None:
    canvas = Canvas(GRID, ORGANS)
    assert np.all(canvas.labels == canvas.number("air"))
    assert canvas.labels.dtype == np.uint16
    assert [tissue.name for tissue in canvas.tissues] == list(ORGANS)


def test_added_parts_get_the_next_number_and_can_be_painted_by_it() -> None:
    canvas = Canvas(GRID, ORGANS)
    number = canvas.add(Tissue("new", 2.0))
    canvas.ellipsoid(BALL, number)
    assert number == len(ORGANS)
    assert canvas.tissues[number].name == "new"
    assert np.array_equal(canvas.labels == number, BALL.level(GRID, GRID.whole) <= 1.0)


def test_painting_over_an_organ_leaves_the_others() -> None:
    canvas = Canvas(GRID, ORGANS)
    canvas.ellipsoid(BALL, "fat")
    before = canvas.labels == canvas.number("fat")
    everywhere = np.ones(GRID.shape, dtype=bool)
    canvas.paint(GRID.whole, everywhere, "liver", over="fat")
    assert np.array_equal(canvas.labels == canvas.number("liver"), before)
    assert np.all(canvas.labels[~before] == canvas.number("air"))


def test_solids_keep_to_where_they_are_allowed() -> None:
    canvas = Canvas(GRID, ORGANS)
    right = np.broadcast_to(GRID.mesh(GRID.whole)[0] > 0.0, GRID.shape)
    canvas.ellipsoid(BALL, "liver", right)
    canvas.tube(Tube((-12.0, 0.0, 0.0), (12.0, 0.0, 0.0), (3.0, 3.0)), "fat", right)
    for name in ("liver", "fat"):
        painted = canvas.labels == canvas.number(name)
        assert painted.any()
        assert not np.any(painted & ~right)
