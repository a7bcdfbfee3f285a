"""The upper abdomen of one patient, drawn part by part into a map of numbers.

Sizes and positions are assumed around those of an adult; a field of view of about 340 x 260 x 120 mm holds
them.  Later strokes cover earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.phantom.shapes import BoolArray, Box, Ellipsoid, FloatArray, Grid, Point, Tube, waves
from mtinet.phantom.tissues import Tissue

_TEXTURE_LEVELS = 7


class Canvas:
    """A patient under construction: for every voxel the number of the part that fills it.

    Attributes
    ----------
    grid : Grid
    labels : ndarray of uint16
        Index into ``tissues``.
    tissues : list of Tissue
    """

    def __init__(self, grid: Grid, organs: Mapping[str, Tissue]) -> None:
        self.grid = grid
        self.tissues: list[Tissue] = list(organs.values())
        self._number = {name: number for number, name in enumerate(organs)}
        self.labels: NDArray[np.uint16] = np.full(grid.shape, self._number["air"], dtype=np.uint16)

    def number(self, name: str) -> int:
        """Number of an organ's part."""
        return self._number[name]

    def add(self, tissue: Tissue) -> int:
        """Register one more part and return its number."""
        self.tissues.append(tissue)
        return len(self.tissues) - 1

    def paint(self, box: Box, where: BoolArray, name: str) -> None:
        """Fill the marked voxels of a box with an organ's part."""
        np.copyto(self.labels[box], np.uint16(self._number[name]), where=where)

    def ellipsoid(self, shape: Ellipsoid, name: str, where: BoolArray | None = None) -> None:
        """Fill an ellipsoid, within ``where`` (of the whole grid) if given."""
        box = shape.box(self.grid)
        inside = shape.level(self.grid, box) <= 1.0
        self.paint(box, inside if where is None else inside & where[box], name)

    def tube(self, shape: Tube, name: str, where: BoolArray | None = None) -> None:
        """Fill a tube, within ``where`` (of the whole grid) if given."""
        box = shape.box(self.grid)
        inside = shape.inside(self.grid, box)
        self.paint(box, inside if where is None else inside & where[box], name)


@dataclass(frozen=True)
class Frame:
    """The measures of one patient that the organs share, mm.

    Attributes
    ----------
    half_width, half_depth : float
        Outer body, left-right and front-back.
    rim : float
        Subcutaneous fat.
    spine_y : float
        Centre of the vertebral body.
    dome_z, left_dome_z : float
        Top of the right and of the left half of the diaphragm.
    """

    half_width: float
    half_depth: float
    rim: float
    spine_y: float
    dome_z: float
    left_dome_z: float


def draw_frame(rng: np.random.Generator) -> Frame:
    """Draw the measures of a patient; they fit a field of view of 330 x 255 mm."""
    depth = float(np.clip(rng.normal(105.0, 6.0), 94.0, 117.0))
    rim = float(np.clip(np.exp(rng.normal(np.log(12.0), 0.35)), 6.0, 22.0))
    return Frame(
        half_width=float(np.clip(rng.normal(148.0, 6.0), 136.0, 158.0)),
        half_depth=depth,
        rim=rim,
        spine_y=-depth + rim + 44.0,
        dome_z=float(np.clip(rng.normal(50.0, 4.0), 40.0, 57.0)),
        left_dome_z=float(np.clip(rng.normal(40.0, 4.0), 30.0, 48.0)),
    )


def draw_anatomy(rng: np.random.Generator, canvas: Canvas) -> BoolArray:
    """Draw a patient without lesions into an empty canvas.

    Returns
    -------
    ndarray of bool, shape of the grid
        The liver with the vessels inside it.
    """
    frame = draw_frame(rng)
    abdomen = _trunk(rng, canvas, frame)
    _spine(canvas, frame)
    _hollow_organs(rng, canvas, frame, abdomen)
    _spleen(rng, canvas, frame, abdomen)
    liver = _liver(rng, canvas, frame, abdomen)
    _kidneys(rng, canvas, frame)
    _large_vessels(rng, canvas, frame)
    _gallbladder(rng, canvas)
    first = canvas.number("liver")
    liver &= canvas.labels == first
    _texture(rng, canvas, liver)
    _vessel_trees(rng, canvas, frame, liver)
    return liver


def _oval(canvas: Canvas, half_width: float, half_depth: float) -> FloatArray:
    """Level of an upright rounded box, 1 on its wall, shape (X, Y, 1)."""
    x, y, _ = canvas.grid.mesh(canvas.grid.whole)
    return np.asarray(np.abs(x / half_width) ** 2.5 + np.abs(y / half_depth) ** 2.5, dtype=np.float32)


def _trunk(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> BoolArray:
    """Skin to cavity, lungs and heart; returns the abdominal cavity below the diaphragm."""
    grid, everywhere = canvas.grid, canvas.grid.whole
    width, depth, wall = frame.half_width - frame.rim, frame.half_depth - frame.rim, 10.0
    canvas.paint(everywhere, _oval(canvas, frame.half_width, frame.half_depth) <= 1.0, "fat")
    canvas.paint(everywhere, _oval(canvas, width, depth) <= 1.0, "muscle")
    cavity = _oval(canvas, width - wall, depth - wall) <= 1.0
    canvas.paint(everywhere, cavity, "visceral_fat")
    for angle in np.deg2rad(np.arange(10.0, 360.0, 24.0)):
        rib_x, rib_y = (width - 5.0) * np.cos(angle), (depth - 5.0) * np.sin(angle)
        low = (rib_x, rib_y, -70.0 + 40.0 * rng.random())
        canvas.tube(Tube(low, (rib_x, rib_y, low[2] + 90.0), (3.5, 3.5)), "marrow")
    x, y, z = grid.mesh(everywhere)
    right = frame.dome_z - ((x - 62.0) ** 2 + y**2) / 190.0
    left = frame.left_dome_z - ((x + 68.0) ** 2 + y**2) / 190.0
    below = z < np.maximum(right, left)
    canvas.paint(everywhere, cavity & ~below, "lung")
    heart = Ellipsoid((-22.0 + rng.normal(0.0, 4.0), 34.0, frame.dome_z + 14.0), (52.0, 42.0, 26.0))
    canvas.ellipsoid(heart, "myocardium", np.broadcast_to(cavity & ~below, grid.shape))
    chamber = replace(heart, semi=(38.0, 29.0, 18.0))
    canvas.ellipsoid(chamber, "heart_blood", canvas.labels == canvas.number("myocardium"))
    return np.asarray(cavity & below)


def _spine(canvas: Canvas, frame: Frame) -> None:
    y = frame.spine_y
    for side in (-1.0, 1.0):
        canvas.ellipsoid(Ellipsoid((side * 31.0, y - 24.0, 0.0), (27.0, 17.0, 900.0)), "muscle")
        canvas.ellipsoid(Ellipsoid((side * 15.0, y + 8.0, 0.0), (9.0, 16.0, 900.0)), "muscle")
    canvas.ellipsoid(Ellipsoid((0.0, y, 0.0), (23.0, 17.5, 900.0)), "cortical_bone")
    canvas.ellipsoid(Ellipsoid((0.0, y, 0.0), (21.5, 16.0, 900.0)), "marrow")
    canvas.ellipsoid(Ellipsoid((0.0, y - 24.0, 0.0), (9.0, 8.0, 900.0)), "spinal_canal")
    canvas.ellipsoid(Ellipsoid((0.0, y - 38.0, 0.0), (4.0, 8.0, 900.0)), "marrow")


def _hollow_organs(rng: np.random.Generator, canvas: Canvas, frame: Frame, abdomen: BoolArray) -> None:
    """Bowel loops, pancreas and a stomach with fluid below and gas above."""
    for _ in range(9):
        centre = (rng.uniform(-95.0, 60.0), rng.uniform(10.0, 70.0), rng.uniform(-75.0, -35.0))
        size = rng.uniform(11.0, 22.0)
        loop = Ellipsoid(centre, (size * 1.3, size, size), float(rng.uniform(0.0, 180.0)))
        canvas.ellipsoid(loop, "bowel", abdomen)
    head: Point = (34.0, frame.spine_y + 44.0, -34.0)
    neck: Point = (0.0, frame.spine_y + 56.0, -22.0 + rng.normal(0.0, 3.0))
    tail: Point = (-66.0, frame.spine_y + 26.0, -2.0 + rng.normal(0.0, 5.0))
    canvas.tube(Tube(head, neck, (13.0, 9.0)), "pancreas", abdomen)
    canvas.tube(Tube(neck, tail, (9.0, 9.5)), "pancreas", abdomen)
    size = np.exp(rng.normal(0.0, 0.12))
    stomach = Ellipsoid(
        (-58.0 + rng.normal(0.0, 4.0), 36.0, 8.0), (34.0 * size, 30.0 * size, 44.0), rng.normal(-25.0, 8.0)
    )
    canvas.ellipsoid(stomach, "stomach_wall", abdomen)
    inner_size = tuple(s - 3.5 for s in stomach.semi)
    inner = replace(stomach, semi=(inner_size[0], inner_size[1], inner_size[2]))
    wall = canvas.labels == canvas.number("stomach_wall")
    canvas.ellipsoid(inner, "stomach_water", wall)
    surface = 36.0 + rng.uniform(-5.0, 25.0)
    gas = canvas.grid.mesh(canvas.grid.whole)[1] > surface
    canvas.paint(canvas.grid.whole, (canvas.labels == canvas.number("stomach_water")) & gas, "air")


def _spleen(rng: np.random.Generator, canvas: Canvas, frame: Frame, abdomen: BoolArray) -> None:
    size = float(np.exp(rng.normal(0.0, 0.15)))
    x = -(frame.half_width - frame.rim - 10.0) + 24.0
    y = frame.spine_y + 20.0 + rng.normal(0.0, 4.0)
    spleen = Ellipsoid((x, y, 8.0), (26.0 * size**0.5, 44.0 * size, 44.0 * size), 12.0)
    hollow = Ellipsoid((x + 38.0, y + 14.0, 6.0), (29.0, 34.0, 40.0))
    box = spleen.box(canvas.grid)
    wavy = spleen.level(canvas.grid, box) + 0.05 * waves(rng, canvas.grid, box, (50.0, 90.0), 3)
    inside = (wavy <= 1.0) & (hollow.level(canvas.grid, box) > 1.0) & abdomen[box]
    canvas.paint(box, inside, "spleen")


def _liver(rng: np.random.Generator, canvas: Canvas, frame: Frame, abdomen: BoolArray) -> BoolArray:
    """Right and left lobe melted together, hollowed from below, under the diaphragm."""
    grid = canvas.grid
    size = float(np.exp(rng.normal(0.0, 0.06)))
    # the lateral wall is where the cavity ends: the lobe reaches a little beyond and is cut there
    lateral = frame.half_width - frame.rim - 10.0
    right = Ellipsoid(
        (lateral - 60.0 * size, rng.normal(-2.0, 3.0), -4.0 + rng.normal(0.0, 3.0)),
        (62.0 * size, 70.0 * size, 62.0 * size),
    )
    left_size = float(np.exp(rng.normal(0.0, 0.15)))
    left = Ellipsoid(
        (8.0, 42.0 + rng.normal(0.0, 3.0), 14.0 + rng.normal(0.0, 4.0)),
        (66.0 * left_size, 28.0 * left_size, 32.0 * left_size),
        -8.0,
    )
    box = grid.box((-85.0, -95.0, -80.0), (150.0, 95.0, 75.0))
    lobes = np.exp(-3.0 * right.level(grid, box)) + np.exp(-3.0 * left.level(grid, box))
    level = lobes * np.float32(np.exp(3.0)) + 0.12 * waves(rng, grid, box, (50.0, 120.0), 4)
    hollow = Ellipsoid((14.0, frame.spine_y + 18.0, -48.0), (52.0, 48.0, 46.0))
    fissure = Ellipsoid((18.0 + rng.normal(0.0, 4.0), 66.0, -22.0), (2.8, 26.0, 26.0))
    inside = (level >= 1.0) & abdomen[box]
    fossa = Ellipsoid((52.0, frame.spine_y - 14.0, -50.0), (40.0, 44.0, 66.0))
    inside &= fossa.level(grid, box) > 1.0
    inside &= (hollow.level(grid, box) > 1.0) & (fissure.level(grid, box) > 1.0)
    canvas.paint(box, inside, "liver")
    liver = np.zeros(grid.shape, dtype=np.bool_)
    liver[box] = inside
    return liver


def _kidneys(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    for side, top in ((1.0, -2.0), (-1.0, 10.0)):
        size = float(np.exp(rng.normal(0.0, 0.07)))
        centre = (side * (60.0 + rng.normal(0.0, 3.0)), frame.spine_y + 2.0, top - 50.0 * size)
        turn = -side * 30.0
        for name, shrink in (("visceral_fat", 5.0), ("renal_cortex", 0.0), ("renal_medulla", -7.0)):
            a, b, c = (extent * size + shrink for extent in (29.0, 24.0, 52.0))
            canvas.ellipsoid(Ellipsoid(centre, (a, b, c), turn), name)
        sinus = (centre[0] - side * 8.0, centre[1] + 5.0, centre[2])
        canvas.ellipsoid(Ellipsoid(sinus, (13.0, 9.0, 26.0), turn), "visceral_fat")


def _large_vessels(rng: np.random.Generator, canvas: Canvas, frame: Frame) -> None:
    y = frame.spine_y
    radius = float(np.clip(rng.normal(10.0, 1.0), 8.0, 13.0))
    canvas.tube(Tube((-9.0, y + 29.0, -120.0), (-13.0, y + 24.0, 120.0), (radius, radius + 1.0)), "aorta")
    canvas.tube(Tube((22.0, y + 26.0, -120.0), (24.0, y + 36.0, 120.0), (11.0, 11.5)), "vena_cava")
    # splenic vein along the pancreas, then the portal trunk to the hilum
    junction: Point = (8.0, y + 50.0, -26.0)
    canvas.tube(Tube((-62.0, y + 22.0, -4.0), junction, (3.5, 4.5)), "portal_vein")
    canvas.tube(Tube(junction, _hilum(frame), (6.5, 6.5)), "portal_vein")


def _gallbladder(rng: np.random.Generator, canvas: Canvas) -> None:
    centre = (46.0 + rng.normal(0.0, 5.0), 46.0 + rng.normal(0.0, 4.0), -46.0)
    size = float(np.exp(rng.normal(0.0, 0.2)))
    canvas.ellipsoid(Ellipsoid(centre, (13.0 * size, 16.0 * size, 25.0), 20.0), "bile")


def _hilum(frame: Frame) -> Point:
    return (38.0, frame.spine_y + 58.0, -6.0)


def _texture(rng: np.random.Generator, canvas: Canvas, liver: BoolArray) -> None:
    """Replace the parenchyma by a few kinds with slightly different T1 and volume, finely mixed."""
    strength = float(rng.uniform(0.01, 0.05))
    scale_mm = float(rng.uniform(2.0, 4.5))
    base = canvas.tissues[canvas.number("liver")]
    box = ndimage.find_objects(liver.astype(np.uint8))[0]
    shape = tuple(part.stop - part.start for part in box)
    half = tuple(-(-n // 2) for n in shape)
    noise = rng.standard_normal(half, dtype=np.float32)
    sigma = [scale_mm / (2.0 * step) for step in canvas.grid.spacing_mm]
    noise = ndimage.gaussian_filter(noise, sigma, truncate=2.5)
    noise /= noise.std()
    levels = np.linspace(-1.8, 1.8, _TEXTURE_LEVELS)
    numbers = [
        canvas.add(
            replace(
                base,
                t1_s=base.t1_s * float(np.exp(strength * level)),
                distribution_volume=base.distribution_volume * float(np.exp(-strength * level)),
            )
        )
        for level in levels
    ]
    nearest = np.clip(np.rint((noise + 1.8) / 0.6), 0, _TEXTURE_LEVELS - 1).astype(np.intp)
    chosen = np.array(numbers, dtype=np.uint16)[nearest]
    full = chosen.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)[: shape[0], : shape[1], : shape[2]]
    np.copyto(canvas.labels[box], full, where=liver[box])


def _vessel_trees(rng: np.random.Generator, canvas: Canvas, frame: Frame, liver: BoolArray) -> None:
    hilum = np.array(_hilum(frame))
    _branch(rng, hilum, np.array([0.9, -0.35, 0.2]), 34.0, 5.5, 4, _painter(canvas, "portal_vein", liver))
    _branch(rng, hilum, np.array([-0.5, 0.55, 0.45]), 28.0, 4.5, 3, _painter(canvas, "portal_vein", liver))
    # the hepatic veins run between the portal branches and meet at the vena cava under the dome
    cava = np.array([24.0, frame.spine_y + 35.0, frame.dome_z - 16.0])
    for aim in ((0.95, 0.05, -0.35), (0.5, 0.75, -0.3), (-0.35, 0.8, -0.3)):
        _branch(rng, cava, np.array(aim), 36.0, 5.0, 3, _painter(canvas, "hepatic_vein", liver))


def _painter(canvas: Canvas, name: str, liver: BoolArray) -> Callable[[Tube], None]:
    return lambda tube: canvas.tube(tube, name, liver)


def _branch(
    rng: np.random.Generator,
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    length_mm: float,
    radius_mm: float,
    generations: int,
    paint: Callable[[Tube], None],
) -> None:
    """Draw a vessel and, at its end, two thinner ones."""
    direction = direction / np.linalg.norm(direction)
    end = start + length_mm * rng.uniform(0.85, 1.15) * direction
    paint(Tube(_point(start), _point(end), (radius_mm, 0.8 * radius_mm)))
    if generations == 0:
        return
    side = np.cross(direction, rng.normal(size=3))
    side /= np.linalg.norm(side)
    for sign, share in ((1.0, rng.uniform(0.3, 0.6)), (-1.0, rng.uniform(0.5, 0.9))):
        turned = direction + sign * share * side
        _branch(rng, end, turned, 0.8 * length_mm, 0.72 * radius_mm, generations - 1, paint)


def _point(vector: NDArray[np.float64]) -> Point:
    x, y, z = (float(value) for value in vector)
    return x, y, z
