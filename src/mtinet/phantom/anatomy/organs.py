"""Kidneys, spleen, pancreas and gallbladder.  Sizes are assumed; the spleen grows with cirrhosis."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mtinet.phantom.anatomy.frame import Frame
from mtinet.phantom.anatomy.liver import LiverPlan
from mtinet.phantom.anatomy.space import Space
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.host import Host
from mtinet.phantom.shapes import Ellipsoid, FloatArray, Lattice, Tube, noise, smooth_max, smooth_min

_PERIRENAL_FAT_MM = 4.0
_CORTEX = 0.76
"""Relative radius at which the cortex ends and the pyramids begin."""

_SINUS = 0.42

_SLUDGE_RATE, _STONE_RATE, _REMOVED_RATE = 0.35, 0.10, 0.08
"""Concentrated bile, stones, and no gallbladder; assumed."""


@dataclass(frozen=True)
class Kidney:
    """One kidney.

    Attributes
    ----------
    body : Ellipsoid
    side : float
        1 for the right, -1 for the left.
    pyramids : int
        In one turn about the long axis.
    phase : float
    """

    body: Ellipsoid
    side: float
    pyramids: int
    phase: float


def draw_kidneys(rng: np.random.Generator, canvas: Canvas, space: Space, frame: Frame) -> None:
    """Kidneys in their fat: cortex with columns, pyramids, and the sinus that opens to the middle."""
    for side, top in ((1.0, -12.0), (-1.0, 4.0)):
        size = float(np.exp(rng.normal(0.0, 0.07)))
        length = 54.0 * size
        x, y, z = frame.at(side * (57.0 + rng.normal(0.0, 3.0)), -50.0, top + rng.normal(0.0, 9.0))
        body = Ellipsoid((x, y, z - length), (29.0 * size, 24.0 * size, length), -side * 32.0)
        kidney = Kidney(body, side, int(rng.integers(4, 6)), float(rng.uniform(0.0, 6.0)))
        a, b, c = (s + _PERIRENAL_FAT_MM for s in body.semi)
        fat = replace(body, semi=(a, b, c))
        low = (x - 45.0, y - 45.0, z - 2.2 * length)
        space.block(low, (x + 45.0, y + 45.0, z + 15.0), fat.depth)
        # between the kidney and the muscles at the back there is nothing but fat
        bed = Ellipsoid((x - side * 9.0, y - 30.0, z - length), (a + 6.0, 36.0, 1.12 * c))
        space.block((x - 60.0, y - 70.0, z - 2.2 * length), (x + 60.0, y + 45.0, z + 15.0), bed.depth)
        # the fat covers the muscle behind, so that the kidney is never embedded in it
        canvas.ellipsoid(fat, "visceral_fat", None)
        _kidney(canvas, kidney)


def _kidney(canvas: Canvas, kidney: Kidney) -> None:
    body, grid = kidney.body, canvas.grid
    box = body.box(grid)
    x, y, z = (axis - np.float32(c) for axis, c in zip(grid.mesh(box), body.centre))
    angle = np.deg2rad(body.turn_deg)
    u = (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) / np.float32(body.semi[0])
    v = (y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))) / np.float32(body.semi[1])
    w = z / np.float32(body.semi[2])
    flat = np.sqrt(u * u + v * v)
    radius = np.sqrt(flat * flat + w * w)
    # the hilum: a bay on the medial side
    bay = (u * np.float32(-kidney.side) - 0.95) ** 2 / 0.36 + v * v / 0.09 + w * w / 0.25
    inside = (radius <= 1.0) & (bay > 1.0)
    canvas.paint(box, inside, "renal_cortex")
    turn = np.arctan2(v, u)
    cells = np.cos(kidney.pyramids * turn + np.float32(kidney.phase)) * np.cos(
        w * 9.0 + np.float32(kidney.phase)
    )
    # a pyramid is widest at its base, under the cortex
    share = (radius - _SINUS) / (_CORTEX - _SINUS)
    pyramid = (np.abs(cells) > 0.62 - 0.42 * share) & (radius < _CORTEX)
    canvas.paint(box, inside & pyramid, "renal_medulla")
    sinus = (flat * flat / _SINUS**2 + (w / 0.55) ** 2 < 1.0) | (bay < 1.5)
    canvas.paint(box, sinus & (radius <= 1.0) & (radius < 0.8), "visceral_fat")
    pelvis = ((u * np.float32(-kidney.side) - 0.25) / 0.34) ** 2 + (v / 0.16) ** 2 + (w / 0.22) ** 2 < 1.0
    canvas.paint(box, pelvis, "stomach_water")


def draw_spleen(rng: np.random.Generator, canvas: Canvas, space: Space, frame: Frame, host: Host) -> None:
    """A crescent along the left wall."""
    size = float(np.exp(rng.normal(0.06, 0.11))) * (1.0 + 0.30 * host.cirrhosis)
    x, y, z = frame.at(
        -96.0 + 5.0 * host.cirrhosis, -34.0 + rng.normal(0.0, 4.0), 10.0 + rng.normal(0.0, 5.0)
    )
    body = Ellipsoid((x, y, z), (32.0 * size**0.7, 50.0 * size, 48.0 * size), -14.0)
    hollow = Ellipsoid((x + 40.0 * size**0.6, y + 12.0, z - 4.0), (26.0, 40.0, 56.0), -14.0)
    reach = 64.0 * size

    def shape(lattice: Lattice) -> FloatArray:
        mesh = lattice.mesh
        depth = smooth_min(body.depth(mesh), -hollow.depth(mesh), 6.0)
        return depth + 1.5 * noise(rng, lattice, 12.0)

    box, depth = space.place((x - reach, y - reach, z - reach), (x + reach, y + reach, z + reach), shape, 1.5)
    canvas.paint(box, depth > 0.0, "spleen", over="visceral_fat")


def draw_adrenals(rng: np.random.Generator, canvas: Canvas, space: Space, frame: Frame) -> None:
    """Two thin limbs on either side, above and before the kidneys; they enhance as the pancreas does."""
    gland = replace(canvas.tissues[canvas.number("pancreas")], name="adrenal")
    number = canvas.add(gland)
    for side, x in ((1.0, 36.0), (-1.0, -32.0)):
        z = float(rng.normal(-2.0, 4.0))
        tip = (x, -22.0 if side < 0.0 else -27.0, z)
        for aside in (-5.0, 7.0):
            limb = Tube(frame.at(*tip), frame.at(x + side * aside, -44.0, z - 10.0), (2.6, 2.0))
            box = limb.box(canvas.grid)
            canvas.paint(box, limb.inside(canvas.grid, box), number, over="visceral_fat")
            low, high = frame.at(x - 20.0, -60.0, z - 20.0), frame.at(x + 20.0, -10.0, z + 10.0)
            space.block(low, high, limb.depth)


def draw_pancreas(rng: np.random.Generator, canvas: Canvas, space: Space, frame: Frame) -> None:
    """Head, neck, body and tail in front of the splenic vein, lobulated."""
    rise = float(rng.normal(0.0, 4.0))
    way = (
        frame.at(24.0, 4.0, -62.0),
        frame.at(20.0, 8.0, -36.0),
        frame.at(0.0, 14.0, -24.0 + rise),
        frame.at(-26.0, 10.0, -14.0 + rise),
        frame.at(-72.0, -20.0, 4.0 + rise),
    )
    girth = float(np.exp(rng.normal(0.0, 0.14)))
    radii = tuple(girth * r for r in (11.0, 13.0, 8.0, 8.5, 9.0))
    tubes = [Tube(way[k], way[k + 1], (radii[k], radii[k + 1])) for k in range(len(way) - 1)]

    def shape(lattice: Lattice) -> FloatArray:
        mesh = lattice.mesh
        depth = tubes[0].depth(mesh)
        for tube in tubes[1:]:
            depth = smooth_max(depth, tube.depth(mesh), 4.0)
        return depth + 1.8 * noise(rng, lattice, 3.0)

    box, depth = space.place(frame.at(-95.0, -50.0, -90.0), frame.at(50.0, 40.0, 35.0), shape, 1.5)
    canvas.paint(box, depth > 0.0, "pancreas", over="visceral_fat")


def draw_gallbladder(rng: np.random.Generator, canvas: Canvas, space: Space, plan: LiverPlan) -> None:
    """Bile in its wall: often concentrated bile at the back, sometimes stones; sometimes removed."""
    sludge, stones, removed = rng.random(3) < (_SLUDGE_RATE, _STONE_RATE, _REMOVED_RATE)
    bag, grid = plan.gallbladder, canvas.grid
    reach = max(bag.radius_mm) + 6.0
    low, high = np.min([bag.start, bag.end], axis=0) - reach, np.max([bag.start, bag.end], axis=0) + reach
    space.block((low[0], low[1], low[2]), (high[0], high[1], high[2]), bag.depth)
    if removed:
        return
    box = bag.box(grid)
    depth = bag.depth(grid.mesh(box))
    free = ~np.isin(canvas.labels[box], [canvas.number(n) for n in ("muscle", "air", "fat", "renal_cortex")])
    inside = (depth > 0.0) & free
    canvas.paint(
        box, inside, canvas.add(replace(canvas.tissues[canvas.number("stomach_wall")], name="bile_wall"))
    )
    lumen = inside & (depth > 1.6)
    canvas.paint(box, lumen, "bile")
    _, y, _ = grid.mesh(box)
    if sludge:
        bile = canvas.tissues[canvas.number("bile")]
        thick = canvas.add(replace(bile, t1_s=float(rng.uniform(0.35, 0.8))))
        level = min(bag.start[1], bag.end[1]) + float(rng.uniform(0.1, 0.7)) * abs(bag.end[1] - bag.start[1])
        canvas.paint(box, lumen & (y < level), thick)
    if stones:
        stone = canvas.add(replace(canvas.tissues[canvas.number("cortical_bone")], name="gallstone"))
        for _ in range(int(rng.integers(1, 5))):
            share, radius = float(rng.uniform(0.4, 1.0)), float(rng.uniform(2.0, 5.0))
            x, y0, z = (a + share * (b - a) for a, b in zip(bag.start, bag.end))
            sunk = Ellipsoid((x, y0 - 0.75 * bag.radius_mm[1] + radius, z), (radius, radius, radius))
            piece = sunk.box(grid)
            within = canvas.labels[piece] == canvas.number("bile")
            canvas.paint(piece, (sunk.level(grid, piece) <= 1.0) & within, stone)
