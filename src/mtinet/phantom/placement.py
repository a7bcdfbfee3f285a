"""How many lesions a patient has, how large, and where in the liver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.phantom.shapes import BoolArray, Grid, Point, extent

_STRIDE = 2
_DISTANCE_APART = 1.3
"""Centres keep at least so many times the sum of the radii: bumps do not touch."""

_INSIDE = 0.85
"""Share of the radius that must fit under the liver's surface."""

_TOUCHING = 1.15
"""A lesion is near the surface if its centre lies at most so many radii below it."""

NEAR_SURFACE = {"hemangioma": 0.45, "hcc": 0.4, "fnh": 0.5, "metastasis": 0.5, "icc": 0.6, "cyst": 0.3}
"""Share of lesions under the capsule by class; assumed."""


def draw_diameters(
    rng: np.random.Generator, limits_mm: tuple[float, float], median_mm: float, extra_lesions: float
) -> list[float]:
    """Diameters of a patient's lesions, largest first: log-normal about ``median_mm``, others smaller.

    The spread and the sizes of the others are assumed.
    """
    low, high = limits_mm
    first = float(np.clip(np.exp(rng.normal(np.log(median_mm), 0.40)), low, high))
    others = first * rng.uniform(0.35, 0.9, min(int(rng.poisson(extra_lesions)), 6))
    return [first, *sorted((float(d) for d in others if d >= low), reverse=True)]


def draw_places(
    rng: np.random.Generator,
    grid: Grid,
    liver: BoolArray,
    diameters: Sequence[float],
    minimum_mm: float,
    near_surface: float = 0.3,
) -> list[tuple[Point, float]]:
    """Find room for every lesion in turn.

    One that does not fit shrinks; if there is no room even for the smallest it is left out, but the first.

    Parameters
    ----------
    rng : numpy.random.Generator
    grid : Grid
    liver : ndarray of bool, shape of the grid
        Where lesions may lie.
    diameters : sequence of float
        mm, in the order in which they are placed.
    minimum_mm : float
        None becomes smaller.
    near_surface : float
        Share of lesions that must touch or nearly touch the liver's surface (:data:`NEAR_SURFACE`), as far as
        there is room; the others lie anywhere.

    Returns
    -------
    list of (centre in mm, diameter in mm)
        Empty without liver.
    """
    if not liver.any():
        return []
    centres, room = _room(grid, liver)
    placed: list[tuple[Point, float]] = []
    for diameter in diameters:
        free = room.copy()
        for point, other in placed:
            gap = np.linalg.norm(centres - np.array(point), axis=1) / _DISTANCE_APART - other / 2.0
            np.minimum(free, gap, out=free)
        largest = 2.0 * float(free.max(initial=0.0)) / _INSIDE
        diameter = max(min(diameter, largest), minimum_mm)
        candidates = np.flatnonzero(free >= min(_INSIDE * diameter / 2.0, float(free.max(initial=0.0))))
        if largest >= minimum_mm or not placed:
            if rng.random() < near_surface:
                touching = candidates[room[candidates] <= _TOUCHING * diameter / 2.0]
                candidates = touching if touching.size else candidates
            x, y, z = (float(v) for v in centres[rng.choice(candidates)])
            placed.append(((x, y, z), diameter))
    return placed


def _room(grid: Grid, liver: BoolArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of the liver and how far each is from its surface, mm.

    The edge of what is scanned counts as surface: a lesion cut off by the last slice teaches little.
    """
    box = extent(liver)
    assert box is not None  # the caller has looked
    coarse = np.pad(liver[box][::_STRIDE, ::_STRIDE, ::_STRIDE], 1)
    spacing = [step * _STRIDE for step in grid.spacing_mm]
    distance = ndimage.distance_transform_edt(coarse, sampling=spacing)[1:-1, 1:-1, 1:-1]
    # the transform measures to the centre of the first voxel outside; the surface lies half a voxel before
    distance = np.maximum(distance - 0.5 * min(spacing), 0.0)
    index = np.argwhere(distance > 0.0)
    axes = [axis[part][::_STRIDE] for axis, part in zip(grid.axes, box)]
    centres = np.stack([axis[index[:, k]] for k, axis in enumerate(axes)], axis=1).astype(np.float64)
    return centres, distance[tuple(index.T)]
