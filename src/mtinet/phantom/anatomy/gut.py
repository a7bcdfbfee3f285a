"""Oesophagus, stomach, colon and small bowel with what fills them.  Everything is assumed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from mtinet.phantom.anatomy.frame import Frame
from mtinet.phantom.anatomy.space import Space
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.shapes import (
    BoolArray,
    Box,
    Ellipsoid,
    FloatArray,
    Lattice,
    Tube,
    noise,
    smooth_max,
)

_MEAL_RATE = 0.35
"""Share of stomachs that hold more than clear fluid."""


def draw_stomach(rng: np.random.Generator, canvas: Canvas, space: Space, frame: Frame) -> None:
    """Fundus, body and antrum with folds; fluid at the back, gas in front of it."""
    full = float(np.exp(rng.normal(0.0, 0.14)))

    def at(x: float, y: float, z: float) -> tuple[float, float, float]:
        return frame.at(*(np.array([x, y, z]) + rng.normal(0.0, 3.0, 3)))

    fundus = Ellipsoid(at(-55.0, -10.0, 20.0), (36.0 * full, 36.0 * full, 30.0))
    body = Ellipsoid(at(-54.0, 28.0, -8.0), (26.0 * full, 28.0 * full, 40.0), -15.0)
    antrum = Tube(at(-40.0, 44.0, -34.0), at(16.0, 36.0, -40.0), (20.0 * full, 11.0))

    def shape(lattice: Lattice) -> FloatArray:
        mesh = lattice.mesh
        bag = smooth_max(fundus.depth(mesh), body.depth(mesh), 10.0)
        return smooth_max(bag, antrum.depth(mesh), 10.0)

    low, high = frame.at(-120.0, -60.0, -100.0), frame.at(45.0, 90.0, 70.0)
    box, depth = space.place(low, high, shape, 1.5)
    # folds: the wall is thick in stripes
    _, lattice = space.lattice.part(low, high)
    _, folds = lattice.refine(np.abs(noise(rng, lattice, 5.0)), canvas.grid)
    wall_mm = 3.0 + np.float32(rng.uniform(2.0, 8.0)) * np.maximum(0.5 - folds, 0.0)
    free = canvas.labels[box] == canvas.number("visceral_fat")
    canvas.paint(box, free & (depth > 0.0), "stomach_wall")
    lumen = free & (depth > wall_mm)
    water = canvas.tissues[canvas.number("stomach_water")]
    if rng.random() < _MEAL_RATE:
        meal = replace(water, name="stomach_meal", t1_s=float(rng.uniform(0.4, 1.5)), proton=0.8)
        canvas.paint(box, lumen, canvas.add(meal))
    else:
        canvas.paint(box, lumen, "stomach_water")
    surface = frame.at(0.0, float(rng.uniform(15.0, 60.0)), 0.0)[1]
    canvas.paint(box, lumen & (canvas.grid.mesh(box)[1] > surface), "air")
    gullet = Tube(frame.at(-12.0, -8.0, 80.0), frame.at(-34.0, 6.0, 26.0), (7.5, 8.5))
    _pipe(canvas, gullet, 3.5)


def _pipe(canvas: Canvas, tube: Tube, wall_mm: float) -> None:
    box = tube.box(canvas.grid)
    depth = tube.depth(canvas.grid.mesh(box))
    soft = np.isin(canvas.labels[box], [canvas.number(n) for n in ("visceral_fat", "lung")])
    canvas.paint(box, soft & (depth > 0.0), "stomach_wall")
    canvas.paint(box, soft & (depth > wall_mm + 2.0), "stomach_water")


def draw_bowel(rng: np.random.Generator, canvas: Canvas, space: Space, frame: Frame) -> None:
    """Both flexures and the transverse colon with its pouches, then loops of small bowel."""
    jitter = rng.normal(0.0, 5.0, (6, 3))
    course = ((88, -14, -110), (84, 16, -66), (40, 62, -66), (-28, 64, -56), (-84, 34, -20), (-100, -12, -46))
    way = [frame.at(*(np.array(point, dtype=float) + shift)) for point, shift in zip(course, jitter)]
    girth = float(np.exp(rng.normal(np.log(19.0), 0.18)))
    colon = [Tube(a, b, (girth, girth)) for a, b in itertools.pairwise(way)]
    _loop(rng, canvas, space, colon, pouches_mm=3.0)
    for _ in range(7):
        x, y, z = rng.uniform((-90.0, -20.0, -85.0), (40.0, 60.0, -28.0))
        step = rng.normal(0.0, 14.0, 3)
        radius = float(rng.uniform(8.0, 13.0))
        ends = frame.at(x, y, z), frame.at(x + step[0], y + step[1], z + step[2])
        _loop(rng, canvas, space, [Tube(*ends, (radius, radius))], pouches_mm=1.5)


def _loop(
    rng: np.random.Generator, canvas: Canvas, space: Space, tubes: list[Tube], pouches_mm: float
) -> None:
    """A piece of bowel: wall, and contents with gas in front or without."""
    reach = max(tubes[0].radius_mm) + 6.0
    points = np.array([point for tube in tubes for point in (tube.start, tube.end)])
    low, high = points.min(axis=0) - reach, points.max(axis=0) + reach

    def shape(lattice: Lattice) -> FloatArray:
        mesh = lattice.mesh
        depth = tubes[0].depth(mesh)
        for tube in tubes[1:]:
            depth = np.maximum(depth, tube.depth(mesh))
        return depth + np.float32(pouches_mm) * noise(rng, lattice, 6.0)

    box, depth = space.place((low[0], low[1], low[2]), (high[0], high[1], high[2]), shape, 1.0)
    free = canvas.labels[box] == canvas.number("visceral_fat")
    canvas.paint(box, free & (depth > 0.0), "bowel")
    _contents(rng, canvas, box, free & (depth > 3.0), float(points[:, 1].mean()))


def _contents(rng: np.random.Generator, canvas: Canvas, box: Box, lumen: BoolArray, middle_y: float) -> None:
    water = canvas.tissues[canvas.number("stomach_water")]
    inside = replace(
        water, name="bowel_contents", t1_s=float(rng.uniform(0.35, 2.0)), proton=float(rng.uniform(0.4, 0.9))
    )
    canvas.paint(box, lumen, canvas.add(inside))
    if rng.random() < 0.5:
        surface = middle_y + float(rng.normal(4.0, 6.0))
        canvas.paint(box, lumen & (canvas.grid.mesh(box)[1] > surface), "air")
