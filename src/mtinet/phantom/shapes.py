"""Geometry of the phantom: a fine grid, simple solids on it, smooth random fields.

Patient axes as in :mod:`mtinet.volume`: x to the right, y anterior, z superior, millimetres from the centre
of the field of view.  Everything is float32 and broadcasts from three open axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """Fine grid on which a patient is drawn.

    Attributes
    ----------
    shape : tuple of int
    spacing_mm : tuple of float
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @cached_property
    def axes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Coordinates of the voxel centres along x, y and z, mm."""
        x, y, z = (
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32)
            for n, step in zip(self.shape, self.spacing_mm)
        )
        return x, y, z

    @property
    def whole(self) -> Box:
        """The box that holds every voxel."""
        x, y, z = self.shape
        return slice(0, x), slice(0, y), slice(0, z)

    def box(self, low: Sequence[float], high: Sequence[float]) -> Box:
        """Voxels whose centres lie between two corners; empty where they miss the grid."""
        x, y, z = (
            slice(int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b, side="right")))
            for axis, a, b in zip(self.axes, low, high)
        )
        return x, y, z

    def mesh(self, box: Box) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Open coordinate arrays of a box; they broadcast to its shape."""
        x, y, z = (axis[part] for axis, part in zip(self.axes, box))
        return x[:, None, None], y[None, :, None], z[None, None, :]


@dataclass(frozen=True)
class Ellipsoid:
    """Ellipsoid along the axes, optionally turned about z by ``turn_deg``."""

    centre: Point
    semi: Point
    turn_deg: float = 0.0

    def box(self, grid: Grid) -> Box:
        """Voxels that the ellipsoid can reach."""
        a, b, c = self.semi
        angle = np.deg2rad(self.turn_deg)
        x = float(np.hypot(a * np.cos(angle), b * np.sin(angle)))
        y = float(np.hypot(a * np.sin(angle), b * np.cos(angle)))
        reach = np.array([x, y, c])
        return grid.box(np.subtract(self.centre, reach), np.add(self.centre, reach))

    def level(self, grid: Grid, box: Box) -> FloatArray:
        """Squared relative radius: 0 at the centre, 1 on the surface."""
        x, y, z = (axis - np.float32(c) for axis, c in zip(grid.mesh(box), self.centre))
        angle = np.deg2rad(self.turn_deg)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        a, b, c = (np.float32(s) for s in self.semi)
        plane = ((x * cos + y * sin) / a) ** 2 + ((y * cos - x * sin) / b) ** 2
        return np.asarray(plane + (z / c) ** 2)


@dataclass(frozen=True)
class Tube:
    """A round tube between two points whose radius runs from one value to another."""

    start: Point
    end: Point
    radius_mm: tuple[float, float]

    def box(self, grid: Grid) -> Box:
        """Voxels that the tube can reach."""
        reach = max(self.radius_mm)
        corners = np.array([self.start, self.end])
        return grid.box(corners.min(axis=0) - reach, corners.max(axis=0) + reach)

    def inside(self, grid: Grid, box: Box) -> BoolArray:
        """Voxels of the box that lie in the tube (round ends)."""
        start, end = np.array(self.start), np.array(self.end)
        along = (end - start).astype(np.float32)
        x, y, z = (axis - np.float32(s) for axis, s in zip(grid.mesh(box), start))
        share = (x * along[0] + y * along[1] + z * along[2]) / np.float32(max(along @ along, 1e-6))
        share = np.clip(share, 0.0, 1.0)
        square = (x - share * along[0]) ** 2 + (y - share * along[1]) ** 2 + (z - share * along[2]) ** 2
        thick, thin = self.radius_mm
        return np.asarray(square <= (np.float32(thick) + share * np.float32(thin - thick)) ** 2)


def waves(
    rng: np.random.Generator, grid: Grid, box: Box, wavelength_mm: tuple[float, float], terms: int
) -> FloatArray:
    """A smooth random field of about unit variance: products of cosines along the axes."""
    field = np.zeros(tuple(part.stop - part.start for part in box), dtype=np.float32)
    for _ in range(terms):
        length = rng.uniform(*wavelength_mm, size=3)
        phase = rng.uniform(0.0, 2.0 * np.pi, size=3)
        x, y, z = (
            np.cos(np.float32(2.0 * np.pi / size) * axis + np.float32(shift))
            for axis, size, shift in zip(grid.mesh(box), length, phase)
        )
        field += x * y * z
    return field * np.float32(np.sqrt(8.0 / terms))


def bumps(rng: np.random.Generator, directions: NDArray[np.float32], amplitude: float) -> FloatArray:
    """A smooth random function on the sphere, about ``amplitude`` strong.

    Parameters
    ----------
    rng : numpy.random.Generator
    directions : ndarray, shape (..., 3)
        Unit vectors.
    amplitude : float
        Standard deviation.
    """
    terms = 7
    frequency = rng.normal(0.0, 2.2, size=(3, terms)).astype(np.float32)
    phase = rng.uniform(0.0, 2.0 * np.pi, terms).astype(np.float32)
    total: NDArray[Any] = np.cos(directions @ frequency + phase).sum(axis=-1)
    return np.asarray(total * np.float32(amplitude * np.sqrt(2.0 / terms)), dtype=np.float32)


def box_mean(values: FloatArray, factor: tuple[int, int, int]) -> FloatArray:
    """Mean over blocks of ``factor`` voxels: what a larger voxel sees of a finer object.

    Parameters
    ----------
    values : ndarray, shape (a·X, b·Y, c·Z)
    factor : tuple (a, b, c)

    Returns
    -------
    ndarray of float32, shape (X, Y, Z)
    """
    total = values
    # the contiguous axis first: it shrinks the work for the others most
    for axis in (2, 1, 0):
        step = factor[axis]
        pieces = [total[(slice(None),) * axis + (slice(k, None, step),)] for k in range(step)]
        summed = pieces[0].astype(np.float32)
        for piece in pieces[1:]:
            summed += piece
        total = summed
    return total / np.float32(np.prod(factor))
