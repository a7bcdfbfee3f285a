"""The shape of the liver: lobes melted together under the diaphragm, hollowed by its neighbours.

Form and sizes are assumed: a median volume of about 1.3 L, 1.1 L of it within a slab of 138 mm, and the
variants that radiologists name (small or long left lobe, Riedel's lobe).  In cirrhosis the right lobe
shrinks, the caudate and the left lateral segment grow, fissures widen and the surface turns nodular; the
amounts are assumed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.phantom.anatomy.frame import Frame
from mtinet.phantom.anatomy.space import Space
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.host import Host
from mtinet.phantom.shapes import (
    BoolArray,
    Box,
    Ellipsoid,
    FloatArray,
    Lattice,
    Mesh,
    Point,
    Tube,
    noise,
    smooth_max,
    smooth_min,
)

VARIANTS = {"usual": 0.60, "small_left": 0.12, "long_left": 0.16, "riedel": 0.12}
"""Rates of the forms; assumed."""

_ASCITES_RATE = 0.35
"""Share with ascites among those with cirrhosis above one half; assumed."""


_FISSURE_BEND_MM = 1.6


@dataclass(frozen=True)
class LiverPlan:
    """What is drawn about a liver's shape.

    Attributes
    ----------
    variant : str
    lobes : tuple of Ellipsoid
        Melted together.
    gallbladder : Tube
        From the neck to the fundus; the liver keeps its fossa free.
    fissures : tuple of Ellipsoid
        Thin sheets of fat: ligamentum teres, ligamentum venosum.
    ascites_mm : float
        Thickness of the layer of fluid around the liver.
    """

    variant: str
    lobes: tuple[Ellipsoid, ...]
    gallbladder: Tube
    fissures: tuple[Ellipsoid, ...]
    ascites_mm: float


def plan_liver(rng: np.random.Generator, frame: Frame, host: Host) -> LiverPlan:
    """Draw the lobes, the gallbladder and the fissures of one patient."""
    names = list(VARIANTS)
    variant = names[int(rng.choice(len(names), p=list(VARIANTS.values())))]
    sick, across, along = host.cirrhosis, *frame.scale
    size = float(np.exp(rng.normal(0.10, 0.07))) * (1.0 - 0.27 * sick)
    left = float(np.exp(rng.normal(0.0, 0.10))) * (1.0 + 0.28 * sick)
    left *= {"small_left": 0.72, "long_left": 1.1}.get(variant, 1.0)

    def lobe(centre: Point, semi: Point, scale: float, turn: float = 0.0) -> Ellipsoid:
        a, b, c = semi
        shifted = frame.at(*(np.array(centre) + rng.normal(0.0, 3.5, 3)))
        return Ellipsoid(shifted, (a * scale * across, b * scale * along, c * scale), turn)

    lobes = [
        lobe((64.0, -8.0, -4.0), (66.0, 80.0, 74.0), size),
        lobe((76.0, 6.0, -46.0), (52.0, 64.0, 52.0 + 8.0 * float(rng.normal())), size, 20.0),
        lobe((22.0, 42.0, 3.0), (50.0, 42.0, 48.0), 0.5 * (size + left)),
        lobe((-22.0 - 8.0 * sick, 46.0 - 3.0 * sick, 15.0), (50.0, 27.0, 35.0), left, -10.0),
        lobe((12.0, 3.0, 12.0), (15.0, 14.0, 24.0), 1.0 + 0.5 * sick),
    ]
    if variant == "long_left":
        lobes.append(lobe((-66.0, 34.0, 20.0), (40.0, 16.0, 22.0), 1.0, 24.0))
    if variant == "riedel":
        lobes.append(lobe((86.0, 12.0, -72.0), (30.0, 34.0, 44.0), 1.0))
    # a shrunken right lobe draws the fossa of the gallbladder and the fissures to the right and open
    open_mm = 1.0 + 1.4 * sick
    fundus = frame.at(50.0 + rng.normal(0.0, 6.0), 58.0 + rng.normal(0.0, 6.0), -52.0)
    neck = frame.at(38.0, 16.0, -18.0)
    girth = float(np.clip(np.exp(rng.normal(np.log(13.0), 0.22)), 6.0, 20.0))
    teres = Ellipsoid(
        frame.at(8.0 + rng.normal(0.0, 5.0), 58.0, -16.0),
        (2.0 * open_mm, float(rng.uniform(17.0, 27.0)), float(rng.uniform(17.0, 28.0))),
        float(rng.normal(-10.0, 6.0)),
    )
    venosum = Ellipsoid(frame.at(4.0, 21.0, 13.0), (24.0, 1.7 * open_mm, 20.0), float(rng.normal(-24.0, 6.0)))
    ascites = rng.random() < _ASCITES_RATE and sick > 0.5
    depth = float(rng.uniform(3.0, 14.0))
    gallbladder = Tube(neck, fundus, (0.45 * girth, girth))
    return LiverPlan(variant, tuple(lobes), gallbladder, (teres, venosum), depth if ascites else 0.0)


def draw_liver(
    rng: np.random.Generator, canvas: Canvas, space: Space, frame: Frame, host: Host, plan: LiverPlan
) -> BoolArray:
    """Paint the liver into the fat of the cavity; returns where it is, on the whole grid."""
    low, high = frame.at(-118.0, -90.0, -200.0), frame.at(135.0, 95.0, 80.0)

    # disease has its own numbers: without it the same liver would be healthy
    smooth, rough = rng.spawn(2)
    _, lattice = space.lattice.part(low, high)
    nodules = np.zeros(lattice.shape, dtype=np.float32)
    if host.cirrhosis > 0.0:
        nodules += np.float32(2.8 * host.cirrhosis) * noise(rough, lattice, 4.0)
        nodules += np.float32(2.2 * host.cirrhosis) * noise(rough, lattice, 7.0)

    def shape(lattice: Lattice) -> FloatArray:
        mesh = lattice.mesh
        depth = _melted(plan, mesh)
        depth += 2.2 * noise(smooth, lattice, 16.0) + nodules
        return _largest(_hollowed(depth, plan, frame, host, mesh))

    # nodules shape the surface under the wall as well
    gap = np.float32(1.0 + plan.ascites_mm) + np.maximum(-nodules, np.float32(0.0))
    box, depth = space.place(low, high, shape, gap, 0.5)
    for fissure in plan.fissures:
        _cut(canvas, box, depth, fissure, smooth.uniform(0.0, 6.0, 2))
    inside = depth > 0.0
    inside &= canvas.labels[box] == canvas.number("visceral_fat")
    canvas.paint(box, inside, "liver")
    if plan.ascites_mm > 0.0:
        _ascites(rough, canvas, space, plan.ascites_mm)
    liver = np.zeros(canvas.grid.shape, dtype=np.bool_)
    liver[box] = inside
    return liver


def _melted(plan: LiverPlan, mesh: Mesh) -> FloatArray:
    first, *others = plan.lobes
    depth = first.depth(mesh)
    for lobe in others:
        depth = smooth_max(depth, lobe.depth(mesh), 12.0)
    return depth


def _hollowed(depth: FloatArray, plan: LiverPlan, frame: Frame, host: Host, mesh: Mesh) -> FloatArray:
    """Take away what the neighbours press in: stomach and duodenum, colon, porta, gallbladder."""
    # the enlarged left and caudate lobes push the stomach aside
    yielding = np.float32(9.0 * host.cirrhosis)
    hollows = (
        (Ellipsoid(frame.at(-24.0, 0.0, -16.0), (42.0, 34.0, 52.0), 12.0).depth(mesh) - yielding, 8.0),
        (Ellipsoid(frame.at(22.0, 20.0, -58.0), (34.0, 34.0, 40.0)).depth(mesh), 10.0),
        (Ellipsoid(frame.at(30.0, 64.0, -76.0), (60.0, 42.0, 36.0)).depth(mesh), 10.0),
        # hepatic hilum: the fat around the portal trunk
        (Tube(frame.at(8.0, 4.0, -26.0), frame.hilum, (16.0, 6.5)).depth(mesh), 4.0),
        (plan.gallbladder.depth(mesh) + np.float32(2.0), 4.0),
    )
    for hollow, rounding in hollows:
        depth = smooth_min(depth, -hollow, rounding)
    return depth


def _largest(depth: FloatArray) -> FloatArray:
    """Remove pieces that lost the connection with the largest."""
    pieces, count = ndimage.label(depth > 0.0)
    if count > 1:
        sizes = np.bincount(pieces.ravel())[1:]
        depth = np.where((pieces == 0) | (pieces == 1 + int(sizes.argmax())), depth, np.float32(-2.0))
    return depth


def _cut(canvas: Canvas, box: Box, depth: FloatArray, fissure: Ellipsoid, phase: NDArray[np.float64]) -> None:
    """Open a thin, slightly bent fissure at the resolution of the grid, in ``depth`` of the box in place."""
    cut = fissure.box(canvas.grid)
    low = [max(c.start, b.start) for c, b in zip(cut, box)]
    high = [min(c.stop, b.stop) for c, b in zip(cut, box)]
    if any(a >= b for a, b in zip(low, high)):
        return
    x, y, z = (slice(a, b) for a, b in zip(low, high))
    gx, gy, gz = (slice(a - b.start, c - b.start) for a, c, b in zip(low, high, box))
    across, along, up = canvas.grid.mesh((x, y, z))
    bend = np.sin(along / 13.0 + np.float32(phase[0])) + np.sin(up / 15.0 + np.float32(phase[1]))
    opened = -fissure.depth((across + np.float32(_FISSURE_BEND_MM) * bend, along, up))
    np.minimum(depth[gx, gy, gz], opened, out=depth[gx, gy, gz])


def _ascites(rng: np.random.Generator, canvas: Canvas, space: Space, depth_mm: float) -> None:
    """Fluid between the liver and the wall, and in the flanks."""
    tissue = replace(canvas.tissues[canvas.number("stomach_water")], name="ascites", proton=1.0)
    near = space.taken + np.float32(depth_mm + 1.5) + 2.0 * noise(rng, space.lattice, 12.0)
    box, depth = space.lattice.refine(np.minimum(near, space.room), space.grid)
    canvas.paint(box, depth > 0.0, canvas.add(tissue), over="visceral_fat")
