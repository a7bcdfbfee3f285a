"""The abdominal cavity on a coarse lattice: what room is taken, so that organs touch but do not overlap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtinet.phantom.anatomy.frame import Frame
from mtinet.phantom.shapes import Box, FloatArray, Grid, Lattice, Mesh, Point, smooth_min

_STEP_MM = 3.0
_FAR_MM = -1e3


@dataclass
class Space:
    """Room in the abdomen.

    Attributes
    ----------
    grid : Grid
    lattice : Lattice
        Covers the cavity as far as it lies in the grid.
    room : ndarray of float32, shape of the lattice
        Depth below the body wall and the diaphragm, mm; negative outside the abdomen.
    taken : ndarray of float32, shape of the lattice
        Depth inside the organs placed so far, mm; negative outside them.
    """

    grid: Grid
    lattice: Lattice
    room: FloatArray
    taken: FloatArray

    @classmethod
    def of(cls, grid: Grid, frame: Frame) -> Space:
        """The empty cavity of a patient."""
        limits = (frame.half_width, frame.half_depth, np.inf)
        low = [max(float(axis[0]), -limit) for axis, limit in zip(grid.axes, limits)]
        high = [min(float(axis[-1]), limit) for axis, limit in zip(grid.axes, limits)]
        lattice = Lattice.cover(low, high, _STEP_MM)
        wall = frame.cavity_depth(lattice.mesh)
        # the diaphragm is met at a slant near the wall: heights overstate the distance there
        below = (frame.diaphragm_z(lattice.mesh) - lattice.mesh[2]) * np.float32(0.8)
        room = smooth_min(wall, below, 8.0)
        return cls(grid, lattice, room, np.full(room.shape, _FAR_MM, dtype=np.float32))

    def place(
        self,
        low: Point,
        high: Point,
        shape: Callable[[Lattice], FloatArray],
        wall_gap_mm: float | FloatArray,
        gap_mm: float = 1.0,
    ) -> tuple[Box, FloatArray]:
        """Place an organ in the room that is left, and refine its depth to the grid.

        Parameters
        ----------
        low, high : tuple of float
            Corners of a region that holds the organ, mm.
        shape : callable
            From the lattice of the region to the depth inside the organ, mm.
        wall_gap_mm, gap_mm : float
            Distance kept from the wall and the diaphragm (one number, or one for every point of the region's
            lattice), and from the organs placed before.

        Returns
        -------
        box : Box
        depth : ndarray of float32, shape of the box
            Positive inside the organ.
        """
        where, lattice = self.lattice.part(low, high)
        own = shape(lattice)
        own = smooth_min(own, self.room[where] - np.asarray(wall_gap_mm, dtype=np.float32), 3.0)
        own = smooth_min(own, -self.taken[where] - np.float32(gap_mm), 3.0)
        np.maximum(self.taken[where], own, out=self.taken[where])
        return lattice.refine(own, self.grid)

    def block(self, low: Point, high: Point, shape: Callable[[Mesh], FloatArray]) -> None:
        """Keep organs placed later out of a solid that is painted elsewhere."""
        where, lattice = self.lattice.part(low, high)
        np.maximum(self.taken[where], shape(lattice.mesh), out=self.taken[where])
