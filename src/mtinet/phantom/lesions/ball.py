"""The outline of a lesion: a perturbed ball that is then made smooth, lobulated or infiltrating."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mtinet.phantom.shapes import Box, FloatArray, Grid, Point, bumps

_WAVES = 10

_REACH = 1.6
"""Half the side of a ball's box, in radii."""


@dataclass(frozen=True)
class Ball:
    """A perturbed ball on the grid.

    Attributes
    ----------
    box : Box
        Voxels that it can reach.
    directions : ndarray of float32, shape (box, 3)
        Unit vectors from the centre.
    length_mm : ndarray of float32, shape of the box
        Distance from the centre, in the ball's own stretched axes.
    depth : ndarray of float32, shape of the box
        Distance relative to the surface: 0 at the centre, 1 on the surface.
    centre : Point
        mm.
    diameter_mm : float
        Of the true ball of the same volume.
    """

    box: Box
    directions: FloatArray
    length_mm: FloatArray
    depth: FloatArray
    centre: Point
    diameter_mm: float

    @cached_property
    def unit(self) -> FloatArray:
        """Position relative to the surface, shape (box, 3): length 0 at the centre, 1 on the surface."""
        return self.directions * self.depth[..., None]


@dataclass(frozen=True)
class Form:
    """How the outline of a class of lesion differs from a bumpy ball; all values are assumed.

    Attributes
    ----------
    bumpiness : float
        Power of the ball's own bumps: 1 keeps them, 0 makes an ellipsoid.
    lobes : float
        Depth of the grooves between lobules, in radii.
    fringe : float
        Strength of fine irregularity, in radii: an infiltrating margin.
    """

    bumpiness: float = 1.0
    lobes: float = 0.0
    fringe: float = 0.0


def trimmed(ball: Ball) -> tuple[Ball, Box]:
    """The ball on the smallest box that holds it, and where that box lies in the old one."""
    inside = ball.depth <= 1.0
    kept = []
    for axis in range(3):
        others = tuple(k for k in range(3) if k != axis)
        filled = np.flatnonzero(inside.any(axis=others))
        kept.append(slice(int(filled[0]), int(filled[-1]) + 1))
    x, y, z = kept
    ox, oy, oz = (
        slice(outer.start + part.start, outer.start + part.stop) for outer, part in zip(ball.box, kept)
    )
    small = replace(
        ball,
        box=(ox, oy, oz),
        directions=ball.directions[x, y, z],
        length_mm=ball.length_mm[x, y, z],
        depth=ball.depth[x, y, z],
    )
    return small, (x, y, z)


def ripples(rng: np.random.Generator, ball: Ball, wavelength: tuple[float, float]) -> FloatArray:
    """A smooth random field over the ball's box, about unit variance: plane waves in all directions.

    Parameters
    ----------
    wavelength : tuple of float
        Shortest and longest, as shares of the diameter (of at least 8 mm).
    """
    directions = rng.normal(size=(3, _WAVES))
    directions /= np.linalg.norm(directions, axis=0)
    size_mm = max(ball.diameter_mm, 8.0)
    waves = directions * (2.0 * np.pi / (size_mm * rng.uniform(*wavelength, _WAVES)))
    phases = rng.uniform(0.0, 2.0 * np.pi, _WAVES).astype(np.float32)
    angle = (ball.directions * ball.length_mm[..., None]) @ waves.astype(np.float32) + phases
    return np.asarray(np.cos(angle).sum(axis=-1) * np.float32(np.sqrt(2.0 / _WAVES)))


def make_ball(
    rng: np.random.Generator, grid: Grid, centre: Point, diameter_mm: float, irregularity: float
) -> Ball:
    """A ball with smooth bumps and slightly unequal axes, of about the volume of the true ball.

    Parameters
    ----------
    rng : numpy.random.Generator
    grid : Grid
    centre : Point
        mm.
    diameter_mm : float
    irregularity : float
        Standard deviation of the bumps, in radii; half of it is that of the axes (log).
    """
    radius = diameter_mm / 2.0
    stretch = np.exp(rng.normal(0.0, 0.5 * irregularity, 3))
    stretch /= np.prod(stretch) ** (1.0 / 3.0)
    reach = radius * _REACH
    box = grid.box([c - reach for c in centre], [c + reach for c in centre])
    offset = np.stack(
        np.broadcast_arrays(
            *((axis - np.float32(c)) / np.float32(s) for axis, c, s in zip(grid.mesh(box), centre, stretch))
        ),
        axis=-1,
    )
    length = np.sqrt(np.einsum("...i,...i->...", offset, offset))
    directions = offset / np.maximum(length, np.float32(1e-3))[..., None]
    surface = np.clip(1.0 + bumps(rng, directions, irregularity), 0.6, 1.4).astype(np.float32)
    depth = _of_volume(grid, length / surface, diameter_mm)
    return Ball(box, directions, length, depth, centre, diameter_mm)


def shaped(rng: np.random.Generator, grid: Grid, ball: Ball, form: Form) -> Ball:
    """The ball with the outline of a form, at the same volume."""
    # what the bumps of the ball are, relative to a smooth one
    surface = ball.length_mm / np.maximum(ball.depth, np.float32(1e-4)) / np.float32(ball.diameter_mm / 2.0)
    surface = np.asarray(np.clip(surface, 0.5, 1.6) ** np.float32(form.bumpiness), dtype=np.float32)
    if form.lobes > 0.0:
        # the absolute value of a smooth function has sharp valleys where it changes its sign: grooves
        folded = np.minimum(np.abs(bumps(rng, ball.directions, 1.0)), np.float32(0.8))
        surface *= 1.0 + np.float32(form.lobes) * (folded / np.float32(0.8) - 0.5)
    if form.fringe > 0.0:
        surface *= 1.0 + bumps(rng, ball.directions * np.float32(3.5), form.fringe)
    depth = np.asarray(ball.length_mm / np.clip(surface, 0.45, _REACH - 0.05), dtype=np.float32)
    return replace(ball, depth=_of_volume(grid, depth, ball.diameter_mm))


def _of_volume(grid: Grid, depth: FloatArray, diameter_mm: float) -> FloatArray:
    """Scale ``depth`` (any unit) so that as many voxels lie within 1 as the true ball fills."""
    wanted = int(
        np.clip(round(np.pi / 6.0 * diameter_mm**3 / float(np.prod(grid.spacing_mm))), 1, depth.size)
    )
    surface = np.partition(depth, wanted - 1, axis=None)[wanted - 1]
    return np.asarray(depth / max(float(surface), 1e-6), dtype=np.float32)
