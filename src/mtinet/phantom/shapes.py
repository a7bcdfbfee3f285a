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
from scipy import ndimage

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]
Mesh = tuple[FloatArray, FloatArray, FloatArray]
"""Open coordinate arrays along x, y and z, mm; they broadcast to the shape of what they cover."""


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

    def mesh(self, box: Box) -> Mesh:
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

    def depth(self, mesh: Mesh) -> FloatArray:
        """Distance below the surface, mm, negative outside: exact to first order at the surface."""
        x, y, z = (axis - np.float32(c) for axis, c in zip(mesh, self.centre))
        angle = np.deg2rad(self.turn_deg)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        a, b, c = (np.float32(s) for s in self.semi)
        u, v, w = (x * cos + y * sin) / a, (y * cos - x * sin) / b, z / c
        u, v, w = u * u, v * v, w * w
        radius = np.sqrt(u + v + w)
        slope = np.sqrt(u / (a * a) + v / (b * b) + w / (c * c))
        # the small terms keep the centre, where both vanish, at the length of the shortest axis
        tiny = np.float32(1e-4)
        return np.asarray((1.0 - radius) * (radius + tiny) / (slope + tiny / min(a, b, c)))


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
        square, radius = self._offset(grid.mesh(box))
        return np.asarray(square <= radius**2)

    def depth(self, mesh: Mesh) -> FloatArray:
        """Distance below the surface, mm, negative outside."""
        square, radius = self._offset(mesh)
        return np.asarray(radius - np.sqrt(square))

    def _offset(self, mesh: Mesh) -> tuple[FloatArray, FloatArray]:
        """Squared distance from the axis, and the radius there."""
        start, end = np.array(self.start), np.array(self.end)
        along = (end - start).astype(np.float32)
        x, y, z = (axis - np.float32(s) for axis, s in zip(mesh, start))
        share = (x * along[0] + y * along[1] + z * along[2]) / np.float32(max(along @ along, 1e-6))
        share = np.clip(share, 0.0, 1.0)
        square = (x - share * along[0]) ** 2 + (y - share * along[1]) ** 2 + (z - share * along[2]) ** 2
        thick, thin = self.radius_mm
        return square, np.float32(thick) + share * np.float32(thin - thick)


@dataclass(frozen=True)
class Lattice:
    """Coarse points on which smooth fields are computed before they are refined to the grid.

    Attributes
    ----------
    axes : tuple of ndarray
        Equidistant coordinates along x, y and z, mm.
    """

    axes: tuple[FloatArray, FloatArray, FloatArray]

    @classmethod
    def cover(cls, low: Sequence[float], high: Sequence[float], step_mm: float) -> Lattice:
        """Points at most ``step_mm`` apart from one corner to the other."""
        x, y, z = (
            np.linspace(a, b, max(2, int(np.ceil((b - a) / step_mm)) + 1), dtype=np.float32)
            for a, b in zip(low, high)
        )
        return cls((x, y, z))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of points along x, y and z."""
        x, y, z = self.axes
        return x.size, y.size, z.size

    @property
    def mesh(self) -> Mesh:
        """Open coordinate arrays of the points."""
        x, y, z = self.axes
        return x[:, None, None], y[None, :, None], z[None, None, :]

    def part(self, low: Sequence[float], high: Sequence[float]) -> tuple[Box, Lattice]:
        """The points around a smaller region (at least two along every axis), and where they lie here."""
        slices = []
        for axis, a, b in zip(self.axes, low, high):
            first = int(np.clip(np.searchsorted(axis, a) - 1, 0, axis.size - 2))
            last = int(np.clip(np.searchsorted(axis, b) + 1, first + 2, axis.size))
            slices.append(slice(first, last))
        where = (slices[0], slices[1], slices[2])
        x, y, z = (axis[piece] for axis, piece in zip(self.axes, where))
        return where, Lattice((x, y, z))

    def refine(self, values: FloatArray, grid: Grid) -> tuple[Box, FloatArray]:
        """Trilinear interpolation to the voxels of a grid that lie between the points.

        Parameters
        ----------
        values : ndarray of float32, shape of the lattice
        grid : Grid

        Returns
        -------
        box : Box
            The voxels.
        fine : ndarray of float32, shape of the box
        """
        box = grid.box([axis[0] for axis in self.axes], [axis[-1] for axis in self.axes])
        fine = values
        # the contiguous axis first, while the array is small; then whole planes along x
        for axis in (2, 1):
            first, share = self.between(grid.axes[axis][box[axis]], axis)
            weight = share[:, None] if axis == 1 else share
            fine = fine.take(first, axis) * (1.0 - weight) + fine.take(first + 1, axis) * weight
        first, share = self.between(grid.axes[0][box[0]], 0)
        refined = np.empty((first.size, *fine.shape[1:]), dtype=np.float32)
        steps = np.diff(fine, axis=0)
        for plane, (index, weight) in enumerate(zip(first, share)):
            np.multiply(steps[index], weight, out=refined[plane])
            refined[plane] += fine[index]
        return box, refined

    def between(self, coordinates: FloatArray, axis: int) -> tuple[NDArray[np.intp], FloatArray]:
        """For every coordinate along an axis the point before it, and the share of the way to the next."""
        points = self.axes[axis]
        position = (coordinates - points[0]) * np.float32((points.size - 1) / (points[-1] - points[0]))
        first = np.clip(np.floor(position), 0, points.size - 2).astype(np.intp)
        return first, np.asarray(position - first, dtype=np.float32)


def smooth_min(a: FloatArray, b: FloatArray, rounding: float) -> FloatArray:
    """Smaller of two depths: their solids' intersection, its edges rounded over about ``rounding`` mm.

    Polynomial form: exact where the depths differ by more than ``rounding``, never above the minimum.
    """
    width = np.float32(rounding)
    near = np.maximum(width - np.abs(a - b), 0.0)
    return np.asarray(np.minimum(a, b) - near * near / (4.0 * width))


def smooth_max(a: FloatArray, b: FloatArray, rounding: float) -> FloatArray:
    """Larger of two depths: their solids' union, melted together over about ``rounding`` mm."""
    return np.asarray(-smooth_min(-a, -b, rounding))


def noise(rng: np.random.Generator, lattice: Lattice, sigma_mm: float) -> FloatArray:
    """A smooth random field of about unit variance, without direction.

    Parameters
    ----------
    rng : numpy.random.Generator
    lattice : Lattice
    sigma_mm : float
        Standard deviation of the Gaussian that smooths white noise.

    Returns
    -------
    ndarray of float32, shape of the lattice
    """
    low = [float(axis[0]) - sigma_mm for axis in lattice.axes]
    high = [float(axis[-1]) + 2.0 * sigma_mm for axis in lattice.axes]
    source = Lattice.cover(low, high, sigma_mm)
    steps = [float(axis[1] - axis[0]) for axis in source.axes]
    sigma = [sigma_mm / step for step in steps]
    white = rng.standard_normal(source.shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, sigma, truncate=2.5)
    # white noise through a Gaussian keeps 1 / (2 sqrt(pi) sigma) of its variance along every axis
    smooth *= np.float32(np.prod([np.sqrt(2.0 * np.sqrt(np.pi) * s) for s in sigma]))
    for axis in (2, 1, 0):
        first, share = source.between(lattice.axes[axis], axis)
        weight = share.reshape([-1 if k == axis else 1 for k in range(3)])
        smooth = smooth.take(first, axis) * (1.0 - weight) + smooth.take(first + 1, axis) * weight
    return np.asarray(smooth)


def extent(where: BoolArray) -> Box | None:
    """Smallest box that holds every marked voxel, or None if there is none."""
    slices = []
    for axis in range(3):
        others = tuple(k for k in range(3) if k != axis)
        marked = np.flatnonzero(where.any(axis=others))
        if not marked.size:
            return None
        slices.append(slice(int(marked[0]), int(marked[-1]) + 1))
    return slices[0], slices[1], slices[2]


def near_points(
    grid: Grid, points: NDArray[np.floating[Any]], radii_mm: NDArray[np.floating[Any]]
) -> NDArray[np.intp]:
    """Voxels within a radius of at least one of many points: a tube is a dense row of them.

    Parameters
    ----------
    grid : Grid
    points : ndarray, shape (N, 3)
        mm.
    radii_mm : ndarray, shape (N,)

    Returns
    -------
    ndarray of int
        Indices into the flattened grid, sorted, each once.
    """
    origin = np.array([axis[0] for axis in grid.axes])
    spacing = np.array(grid.spacing_mm)
    found = []
    reach_class = np.ceil(radii_mm / spacing.min()).astype(int)
    for reach in np.unique(reach_class):
        chosen = reach_class == reach
        centre = (points[chosen] - origin) / spacing
        middle = np.rint(centre).astype(np.intp)
        radius = radii_mm[chosen]
        span = np.arange(-reach, reach + 1)
        offsets = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
        reached: list[Any] = [0.0, True, 0]
        for k, size in enumerate(grid.shape):
            index = middle[:, k, None] + offsets[:, k]
            gap = (index - centre[:, k, None]) * spacing[k]
            reached[0] = reached[0] + gap * gap
            reached[1] = reached[1] & (index >= 0) & (index < size)
            reached[2] = reached[2] * size + index
        square, on_grid, flat = reached
        found.append(flat[on_grid & (square <= (radius * radius)[:, None])])
    return np.unique(np.concatenate(found)) if found else np.empty(0, dtype=np.intp)


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
