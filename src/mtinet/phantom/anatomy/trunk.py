"""Skin to cavity: fat, muscle, ribs, spine, and what lies above the diaphragm.  Sizes are assumed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtinet.phantom.anatomy.frame import Frame
from mtinet.phantom.anatomy.space import Space
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.shapes import BoolArray, Ellipsoid, FloatArray, Tube

_OUTER_MUSCLE_MM = 4.5
_RIB_HALF_MM = (3.6, 6.5)
"""Half the thickness and half the height of a rib."""

_RIB_SPACING_MM = 27.0
_RIB_DESCENT_MM = 44.0
"""How far a rib descends for every radian of its way round the trunk."""

_VERTEBRA_MM = (33.0, 7.0)
"""Distance from disc to disc, and thickness of a disc."""


def draw_trunk(rng: np.random.Generator, canvas: Canvas, frame: Frame, space: Space) -> None:
    """Fill the canvas from the skin inwards; the abdominal cavity is left full of visceral fat."""
    grid, everywhere = canvas.grid, canvas.grid.whole
    mesh = grid.mesh(everywhere)
    flat = frame.depth(mesh)
    depth = flat + frame.tapered(mesh[2])
    rim = frame.rim_mm(mesh)
    wall = np.float32(frame.wall)
    canvas.paint(everywhere, depth > 0.0, "fat")
    canvas.paint(everywhere, depth > rim, "muscle")
    cavity = depth > rim + wall
    canvas.paint(everywhere, cavity, "visceral_fat")
    _fat_planes(rng, canvas, frame, depth - rim)
    _ribs(rng, canvas, frame, flat - rim)
    above = mesh[2] >= frame.diaphragm_z(mesh)
    above &= cavity
    canvas.paint(everywhere, above, "lung")
    _heart(rng, canvas, frame, above)
    _back(canvas, frame)
    body = Ellipsoid((0.0, frame.spine_y, 0.0), (24.0, 19.0, 900.0))
    space.block((-60.0, -200.0, -200.0), (60.0, 20.0, 200.0), body.depth)


def _fat_planes(rng: np.random.Generator, canvas: Canvas, frame: Frame, under: FloatArray) -> None:
    """A thin sheet of fat between the muscles of the flank, and the white line between the straight ones."""
    columns = np.abs(canvas.grid.axes[0]) > 0.55 * frame.half_width
    wave = rng.uniform(0.0, 6.0, 2)
    for side in (-1.0, 1.0):
        reach = np.flatnonzero(columns & (canvas.grid.axes[0] * side > 0.0))
        if not reach.size:
            continue
        box = (slice(int(reach[0]), int(reach[-1]) + 1), *canvas.grid.whole[1:])
        _, y, z = canvas.grid.mesh(box)
        part = under[box]
        thin = (part > _OUTER_MUSCLE_MM) & (part < _OUTER_MUSCLE_MM + 1.3)
        thin &= np.sin(z / 17.0 + wave[0]) + np.sin(y / 13.0 + wave[1]) > -0.7
        canvas.paint(box, thin, "fat")
    line = canvas.grid.box((-1.5, 0.5 * frame.half_depth, -1e3), (1.5, frame.half_depth, 1e3))
    canvas.paint(line, (under[line] > 0.0) & (under[line] < frame.wall), "fat")


def _ribs(rng: np.random.Generator, canvas: Canvas, frame: Frame, under: FloatArray) -> None:
    """Ribs as oblique bands in the inner half of the wall: they descend on their way to the front."""
    middle = _OUTER_MUSCLE_MM + 0.5 * (frame.wall - _OUTER_MUSCLE_MM) + 0.4
    thick, high = _RIB_HALF_MM
    reach = thick + frame.taper
    columns = np.nonzero(np.abs(under[:, :, 0] - middle) < reach)
    x, y = canvas.grid.axes[0][columns[0]], canvas.grid.axes[1][columns[1]]
    z = canvas.grid.axes[2]
    # angle from the back: 0 at the spine, pi at the front
    angle = np.arctan2(np.abs(x), -y)
    top = np.float32(rng.uniform(0.0, _RIB_SPACING_MM)) - np.float32(_RIB_DESCENT_MM) * angle
    along = z[None, :] - top[:, None]
    along -= np.float32(_RIB_SPACING_MM) * np.rint(along / np.float32(_RIB_SPACING_MM))
    across = under[:, :, 0][columns][:, None] + frame.tapered(z)[None, :] - np.float32(middle)
    level = (along / np.float32(high)) ** 2 + (across / np.float32(thick)) ** 2
    # the costal arch: in front the ribs end higher up, first in cartilage
    arch = z[None, :] > (-78.0 + 95.0 * np.maximum(angle - 1.75, 0.0))[:, None]
    level[~arch] = np.inf
    bony = (angle < 2.05)[:, None]
    labels = canvas.labels[columns]
    cartilage = canvas.add(
        replace(canvas.tissues[canvas.number("muscle")], name="cartilage", flow_per_min=0.02, proton=0.75)
    )
    labels[(level < 1.0) & ~bony] = cartilage
    labels[(level < 1.0) & bony] = canvas.number("cortical_bone")
    labels[(level < 0.62) & bony] = canvas.number("marrow")
    canvas.labels[columns] = labels


def _heart(rng: np.random.Generator, canvas: Canvas, frame: Frame, above: BoolArray) -> None:
    """The lower part of the heart on the central tendon, in its fat."""
    size = float(np.exp(rng.normal(0.0, 0.08)))
    x, y, _ = frame.at(-18.0 + rng.normal(0.0, 4.0), 30.0, 0.0)
    z = 0.5 * (frame.dome_z + frame.left_dome_z) + 14.0
    turn = float(rng.normal(-32.0, 6.0))
    heart = Ellipsoid((x, y, z), (58.0 * size, 40.0 * size, 30.0), turn)
    for name, shrink in (("visceral_fat", -5.0), ("myocardium", 0.0)):
        a, b, c = (s - shrink for s in heart.semi)
        canvas.ellipsoid(replace(heart, semi=(a, b, c)), name, above)
    for offset, semi in (((-22.0, -6.0), (22.0, 20.0, 20.0)), ((17.0, 8.0), (24.0, 21.0, 21.0))):
        chamber = Ellipsoid((x + offset[0] * size, y + offset[1] * size, z + 3.0), semi, turn)
        canvas.ellipsoid(chamber, "heart_blood", above)


def _back(canvas: Canvas, frame: Frame) -> None:
    """Vertebrae with discs, canal and cord, and the muscles beside them."""
    y = frame.spine_y
    skin = -frame.half_depth + frame.rim
    depth = 0.5 * (y - 10.0 - skin)
    for side in (-1.0, 1.0):
        erector = Ellipsoid((side * 30.0, skin + depth, 0.0), (27.0, depth + 1.0, 900.0))
        canvas.ellipsoid(erector, "muscle")
        canvas.tube(
            Tube((side * 36.0, y + 2.0, -130.0), (side * 17.0, y + 3.0, -10.0), (19.0, 5.0)), "muscle"
        )
        # crus of the diaphragm
        canvas.tube(Tube((side * 13.0, y + 15.0, -90.0), (side * 19.0, y + 24.0, 40.0), (5.5, 3.5)), "muscle")
        canvas.ellipsoid(Ellipsoid((side * 3.5, skin + depth, 0.0), (0.9, depth, 900.0)), "fat")
    canvas.ellipsoid(Ellipsoid((0.0, y, 0.0), (23.0, 17.5, 900.0)), "cortical_bone")
    _bodies(canvas, frame)
    # pedicles, laminae, transverse and spinous processes
    for side in (-1.0, 1.0):
        canvas.tube(
            Tube((side * 13.0, y - 12.0, -999.0), (side * 13.0, y - 12.0, 999.0), (5.0, 5.0)), "marrow"
        )
        canvas.ellipsoid(Ellipsoid((side * 17.0, y - 27.0, 0.0), (13.0, 4.5, 900.0), side * 28.0), "marrow")
    spinous = 0.5 * (y - 30.0 + skin)
    canvas.ellipsoid(Ellipsoid((0.0, spinous, 0.0), (3.5, abs(y - 30.0 - spinous), 900.0)), "marrow")
    canvas.ellipsoid(Ellipsoid((0.0, y - 23.5, 0.0), (9.5, 8.0, 900.0)), "spinal_canal")
    cord = canvas.add(
        replace(canvas.tissues[canvas.number("spinal_canal")], name="cord", t1_s=1.0, proton=0.8)
    )
    canvas.ellipsoid(Ellipsoid((0.0, y - 24.0, 0.0), (5.0, 4.0, 900.0)), cord)


def _bodies(canvas: Canvas, frame: Frame) -> None:
    """Marrow of the vertebral bodies, waisted, between thin end plates and discs."""
    body = Ellipsoid((0.0, frame.spine_y, 0.0), (22.0, 16.5, 900.0))
    box = body.box(canvas.grid)
    z = canvas.grid.axes[2][box[2]]
    period, disc_mm = _VERTEBRA_MM
    along = np.abs((z - frame.dome_z) / period - np.rint((z - frame.dome_z) / period)) * period
    radius = body.level(canvas.grid, box)
    disc = canvas.add(
        replace(canvas.tissues[canvas.number("muscle")], name="disc", t1_s=1.1, flow_per_min=0.01, proton=0.7)
    )
    waist = np.where(along > disc_mm / 2.0 + 1.0, 1.0 - 0.10 * (along / (period / 2.0)) ** 2, 0.0)
    canvas.paint(box, radius <= waist.astype(np.float32), "marrow")
    canvas.paint(box, (radius <= 1.0) & (along < disc_mm / 2.0), disc)
