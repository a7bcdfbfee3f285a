"""Great vessels, and the portal and hepatic venous trees of the liver.  Calibres are assumed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.phantom.anatomy.frame import Frame
from mtinet.phantom.anatomy.space import Space
from mtinet.phantom.anatomy.tree import Tree, spread
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.host import Host
from mtinet.phantom.shapes import BoolArray, Tube, near_points

_APART_MM = 17.0
"""Distance between the ends of branches."""

_MOST_ENDS = 75
_COLLATERALS_ABOVE, _VARICES_RATE, _PARAUMBILICAL_RATE = 0.5, 0.5, 0.25
"""From which severity of cirrhosis, and how often, portal blood finds other ways; assumed."""

_UNDER_CAPSULE_MM = 5.0
"""Branches that could be seen end so far below the surface."""


def draw_great_vessels(rng: np.random.Generator, canvas: Canvas, space: Space, frame: Frame) -> None:
    """Aorta with its branches, and the vena cava with the renal veins."""
    aorta_mm = float(np.clip(rng.normal(10.0, 1.2), 7.5, 13.5))
    low, high = frame.at(-9.0, -23.0, -130.0), frame.at(-12.0, -25.0, 110.0)
    aorta = Tube(low, high, (aorta_mm - 1.0, aorta_mm + 0.5))
    cava_mm = float(np.clip(rng.normal(11.0, 1.5), 7.5, 14.5))
    mouth = frame.caval_mouth
    lower = Tube(frame.at(19.0, -22.0, -130.0), mouth, (cava_mm - 1.0, cava_mm + 1.0))
    upper = Tube(mouth, frame.at(14.0, 0.0, 75.0), (cava_mm + 1.0, cava_mm + 2.0))
    canvas.tube(aorta, "aorta")
    for tube in (lower, upper):
        canvas.tube(tube, "vena_cava")
    # organs may lie against these vessels: a little less than their room is kept free
    for solid in (aorta, lower):
        start, end = solid.radius_mm
        core = replace(solid, radius_mm=(start - 1.5, end - 1.5))
        space.block(frame.at(-60.0, -70.0, -200.0), frame.at(60.0, 40.0, 200.0), core.depth)
    _branches(rng, canvas, frame)


def _branches(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    """Coeliac trunk, hepatic, splenic and mesenteric artery, renal arteries and veins."""
    z = float(rng.normal(-10.0, 4.0))
    coeliac = [(-10.0, -14.0, z), (-9.0, -1.0, z - 2.0)]
    arteries = [
        ([*coeliac, (8.0, 4.0, z - 4.0), (24.0, 4.0, -10.0)], 2.6),
        ([coeliac[1], (-30.0, -4.0, z + 6.0), (-56.0, -26.0, z + 8.0), (-82.0, -30.0, 2.0)], 2.3),
        ([(-9.0, -14.0, z - 14.0), (-8.0, -3.0, z - 22.0), (-6.0, 0.0, -110.0)], 3.4),
        ([(-12.0, -23.0, -38.0), (-32.0, -38.0, -40.0), (-46.0, -44.0, -42.0)], 2.4),
        ([(-6.0, -24.0, -40.0), (24.0, -38.0, -44.0), (44.0, -44.0, -46.0)], 2.4),
    ]
    veins = [
        ([(20.0, -18.0, -42.0), (-4.0, -9.0, -40.0), (-34.0, -34.0, -42.0), (-46.0, -42.0, -42.0)], 3.6),
        ([(22.0, -22.0, -46.0), (44.0, -42.0, -48.0)], 4.0),
    ]
    for rows, name in ((arteries, "aorta"), (veins, "vena_cava")):
        for way, radius in rows:
            _line(canvas, np.array([frame.at(*point) for point in way]), radius, name)


def draw_portal_trunk(canvas: Canvas, frame: Frame, host: Host) -> None:
    """Splenic and upper mesenteric vein, the portal trunk, and the bile duct beside it."""
    wide = 1.0 + 0.2 * host.cirrhosis
    junction = frame.at(6.0, 2.0, -30.0)
    splenic = [
        junction,
        frame.at(-18.0, 2.0, -20.0),
        frame.at(-50.0, -20.0, -4.0),
        frame.at(-84.0, -26.0, 2.0),
    ]
    _line(canvas, np.array(splenic), 4.0 * wide, "portal_vein")
    _line(canvas, np.array([junction, frame.at(6.0, 4.0, -120.0)]), 4.8, "portal_vein")
    _line(canvas, np.array([junction, frame.at(20.0, 3.0, -16.0), frame.hilum]), 6.2 * wide, "portal_vein")
    duct = [frame.at(28.0, -4.0, -62.0), frame.at(26.0, 6.0, -30.0), frame.at(34.0, 14.0, -8.0)]
    _line(canvas, np.array(duct), 2.4, "bile")


def draw_liver_vessels(
    rng: np.random.Generator, canvas: Canvas, frame: Frame, host: Host, liver: BoolArray
) -> None:
    """Grow both venous trees into the liver; hepatic veins keep clear of portal branches."""
    ends = _ends(rng, canvas, liver)
    thin = 1.0 - 0.25 * host.cirrhosis
    portal = Tree(np.array(frame.hilum))
    right = portal.trunk(0, np.array([frame.at(46.0, 4.0, -2.0), frame.at(60.0, -2.0, -2.0)]))
    portal.trunk(right, np.array([frame.at(70.0, 20.0, 8.0)]))
    portal.trunk(right, np.array([frame.at(78.0, -24.0, -8.0)]))
    left = [(22.0, 20.0, 6.0), (10.0, 26.0, 11.0), (5.0, 36.0, 10.0), (5.0, 46.0, 6.0)]
    portal.trunk(0, np.array([frame.at(*point) for point in left]))
    portal.grow(ends[::2])
    hepatic = Tree(np.array(frame.caval_mouth))
    trunks = (
        [(40.0, -14.0, 31.0), (66.0, -14.0, 18.0), (84.0, -10.0, 0.0)],
        [(28.0, 2.0, 31.0), (36.0, 22.0, 22.0), (44.0, 40.0, 6.0)],
        [(18.0, 2.0, 33.0), (4.0, 20.0, 28.0), (-12.0, 36.0, 22.0)],
    )
    for trunk in trunks:
        hepatic.trunk(0, np.array([frame.at(*point) for point in trunk]))
    hepatic.grow(ends[1::2], portal.points)
    _paint(canvas, liver, portal, "portal_vein", 5.8)
    # three veins share the mouth: its load is theirs together
    _paint(canvas, liver, hepatic, "hepatic_vein", 6.6 * thin)


def draw_mesentery(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    """Small veins and arteries in the fat between the loops of bowel and along the stomach."""
    for name, root, count, calibre in (("portal_vein", 5.0, 16, 2.6), ("aorta", -6.0, 12, 1.9)):
        tree = Tree(np.array(frame.at(root, 3.0, -44.0)))
        ends = rng.uniform((-80.0, -5.0, -80.0), (60.0, 60.0, 10.0), (count, 3))
        tree.grow(np.array([frame.at(*end) for end in ends]))
        _fill(canvas, tree.voxels(canvas.grid, calibre), name, "visceral_fat")


def draw_collaterals(rng: np.random.Generator, canvas: Canvas, frame: Frame, host: Host) -> None:
    """In severe cirrhosis: varices between spleen and stomach, or an open paraumbilical vein."""
    varices, paraumbilical = rng.random(2) < (_VARICES_RATE, _PARAUMBILICAL_RATE)
    if host.cirrhosis <= _COLLATERALS_ABOVE:
        return
    if paraumbilical:
        way = [(5.0, 46.0, 6.0), (6.0, 62.0, -4.0), (3.0, 77.0, -24.0), (1.0, 76.0, -110.0)]
        bent = np.array([frame.at(*point) for point in way]) + rng.normal(0.0, 2.0, (4, 3))
        _line(canvas, bent, float(rng.uniform(2.0, 4.0)), "portal_vein", "visceral_fat")
    if varices:
        tree = Tree(np.array(frame.at(-80.0, -24.0, 2.0)))
        ends = rng.uniform((-80.0, -38.0, -20.0), (-20.0, 12.0, 38.0), (14, 3))
        tree.grow(np.array([frame.at(*end) for end in ends]))
        voxels = tree.voxels(canvas.grid, float(rng.uniform(4.0, 6.0)))
        _fill(canvas, voxels, "portal_vein", "visceral_fat")


def _ends(rng: np.random.Generator, canvas: Canvas, liver: BoolArray) -> NDArray[np.float64]:
    """Places in the liver, evenly spread, that vessels shall reach."""
    stride = [max(1, round(4.0 / step)) for step in canvas.grid.spacing_mm]
    coarse = liver[:: stride[0], :: stride[1], :: stride[2]]
    steps = [step * n for step, n in zip(canvas.grid.spacing_mm, stride)]
    rounds = max(1, round(_UNDER_CAPSULE_MM / max(steps)))
    inner = ndimage.binary_erosion(coarse, iterations=rounds)
    index = np.argwhere(inner)
    axes = [axis[::n] for axis, n in zip(canvas.grid.axes, stride)]
    points = np.stack([axis[index[:, k]] for k, axis in enumerate(axes)], axis=1).astype(np.float64)
    return spread(rng, points, _APART_MM, 2 * _MOST_ENDS)


def _paint(canvas: Canvas, liver: BoolArray, tree: Tree, name: str, root_mm: float) -> None:
    voxels = tree.voxels(canvas.grid, root_mm)
    inside = voxels[liver.reshape(-1)[voxels]]
    canvas.labels.reshape(-1)[inside] = canvas.number(name)


def _line(
    canvas: Canvas, way: NDArray[np.float64], radius_mm: float, name: str, over: str | None = None
) -> None:
    """Paint a vessel through way points, its corners rounded off, over anything or over one organ only."""
    length = np.linalg.norm(np.diff(way, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(length)])
    dense = np.linspace(0.0, at[-1], max(2, int(at[-1] / (0.4 * radius_mm))))
    points = np.stack([np.interp(dense, at, way[:, k]) for k in range(3)], axis=1)
    width = min(15, len(points) // 2 * 2 - 1)
    points = ndimage.uniform_filter1d(points, max(width, 1), axis=0, mode="nearest")
    voxels = near_points(canvas.grid, points, np.full(len(points), radius_mm))
    _fill(canvas, voxels, name, over)


def _fill(canvas: Canvas, voxels: NDArray[np.intp], name: str, over: str | None) -> None:
    labels = canvas.labels.reshape(-1)
    if over is not None:
        voxels = voxels[labels[voxels] == canvas.number(over)]
    labels[voxels] = canvas.number(name)
