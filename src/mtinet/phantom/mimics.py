"""What looks like a lesion in one phase and is none: transient perfusion differences of the liver.

Where portal inflow is lacking or an arterio-portal shunt adds to it, a wedge under the capsule, or a small
nodule, takes more of its blood from the artery: it is bright in the arterial phase and like the rest of the
liver before and after.  Sizes, rates and amounts are assumed; volumes and T1 stay those of the parenchyma.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.phantom.anatomy.parenchyma import PARENCHYMA
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.shapes import BoolArray, Box, FloatArray, Lattice, extent, noise

_WEDGE_RATE = 0.6
_WEDGE_DEPTH_MM, _WEDGE_HALF_ANGLE_DEG = (18.0, 48.0), (14.0, 30.0)
_NODULE_RADIUS_MM = (4.0, 8.0)
_ARTERIAL_FRACTION = (0.60, 0.90)
_INFLOW_FACTOR = (1.0, 1.4)
_SEARCH_STEP_MM = 3.5


def add_shunt(rng: np.random.Generator, canvas: Canvas, liver: BoolArray) -> BoolArray:
    """Give a peripheral region of the parenchyma more arterial blood; vessels and lesions stay as they are.

    Parameters
    ----------
    rng : numpy.random.Generator
    canvas : Canvas
        For every kind of parenchyma in the region a changed copy is added.
    liver : ndarray of bool, shape of the grid

    Returns
    -------
    ndarray of bool, shape of the grid
        The changed voxels; none if there is no liver.
    """
    changed = np.zeros(liver.shape, dtype=np.bool_)
    whole = extent(liver)
    if whole is None:
        return changed
    centre, inward = _surface_point(rng, canvas, liver, whole)
    depth_mm = float(rng.uniform(*_WEDGE_DEPTH_MM))
    reach = 1.2 * depth_mm
    lattice = Lattice.cover([c - reach for c in centre], [c + reach for c in centre], 3.0)
    if rng.random() < _WEDGE_RATE:
        half_angle = np.deg2rad(rng.uniform(*_WEDGE_HALF_ANGLE_DEG))
        values = _cone(lattice, centre + depth_mm * inward, -inward, float(half_angle), depth_mm)
    else:
        radius = float(rng.uniform(*_NODULE_RADIUS_MM))
        values = _ball(lattice, centre + 0.8 * radius * inward, radius)
    box, level = lattice.refine(values + 1.2 * noise(rng, lattice, 4.0), canvas.grid)
    region = (level > 0.0) & liver[box]
    share = float(rng.uniform(*_ARTERIAL_FRACTION))
    inflow = float(rng.uniform(*_INFLOW_FACTOR))
    labels = canvas.labels[box]
    renumbered = np.arange(len(canvas.tissues), dtype=np.uint16)
    for number in np.unique(labels[region]):
        tissue = canvas.tissues[number]
        if tissue.name in PARENCHYMA:
            arterial = max(share, tissue.arterial_fraction)
            copy = replace(tissue, arterial_fraction=arterial, flow_per_min=inflow * tissue.flow_per_min)
            renumbered[number] = canvas.add(copy)
    after = renumbered[labels]
    changed[box] = region & (after != labels)
    np.copyto(labels, after, where=changed[box])
    return changed


def _surface_point(
    rng: np.random.Generator, canvas: Canvas, liver: BoolArray, whole: Box
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A point on the liver's outer surface, and the direction from there to the liver's middle."""
    stride = [max(1, round(_SEARCH_STEP_MM / step)) for step in canvas.grid.spacing_mm]
    coarse = liver[whole][:: stride[0], :: stride[1], :: stride[2]]
    # only sides count as surface: above and below the slab may have cut the liver
    inner = ndimage.binary_erosion(coarse, ndimage.generate_binary_structure(3, 1), border_value=1)
    index = np.argwhere(coarse & ~inner)
    if not len(index):
        index = np.argwhere(coarse)
    axes = [axis[part][::step] for axis, part, step in zip(canvas.grid.axes, whole, stride)]
    points = np.stack([axis[index[:, k]] for k, axis in enumerate(axes)], axis=1).astype(np.float64)
    middle = points.mean(axis=0)
    # far from the middle is the capsule, near it are fissures and hilum
    distance = np.linalg.norm(points - middle, axis=1)
    outer = points[distance >= np.quantile(distance, 0.4)]
    point = outer[rng.integers(len(outer))]
    inward = middle - point
    return point, inward / max(float(np.linalg.norm(inward)), 1e-6)


def _cone(
    lattice: Lattice,
    apex: NDArray[np.float64],
    outward: NDArray[np.float64],
    half_angle: float,
    depth_mm: float,
) -> FloatArray:
    """Depth inside a cone that opens from its apex to the surface, mm."""
    x, y, z = (axis - np.float32(a) for axis, a in zip(lattice.mesh, apex))
    a, b, c = (np.float32(v) for v in outward)
    along = x * a + y * b + z * c
    across = np.sqrt(np.maximum(x * x + y * y + z * z - along * along, 0.0))
    side = along * np.float32(np.sin(half_angle)) - across * np.float32(np.cos(half_angle))
    return np.asarray(np.minimum(side, np.float32(1.2 * depth_mm) - along))


def _ball(lattice: Lattice, centre: NDArray[np.float64], radius_mm: float) -> FloatArray:
    x, y, z = (axis - np.float32(c) for axis, c in zip(lattice.mesh, centre))
    return np.asarray(np.float32(radius_mm) - np.sqrt(x * x + y * y + z * z))
