"""A patient under construction: a map of numbered parts, painted stroke by stroke."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mtinet.phantom.shapes import BoolArray, Box, Ellipsoid, Grid, Tube
from mtinet.phantom.tissues import Tissue


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

    def paint(self, box: Box, where: BoolArray, part: str | int, over: str | None = None) -> None:
        """Fill the marked voxels of a box.

        Parameters
        ----------
        box : Box
        where : ndarray of bool
            Broadcasts to the box.
        part : str or int
            An organ's name, or the number of any part.
        over : str, optional
            Only voxels that this organ's part fills now.
        """
        target = self.labels[box]
        if over is not None:
            where = where & (target == self._number[over])
        number = self._number[part] if isinstance(part, str) else part
        np.copyto(target, np.uint16(number), where=where)

    def ellipsoid(self, shape: Ellipsoid, name: str | int, where: BoolArray | None = None) -> None:
        """Fill an ellipsoid, within ``where`` (of the whole grid) if given."""
        box = shape.box(self.grid)
        inside = shape.level(self.grid, box) <= 1.0
        self.paint(box, inside if where is None else inside & where[box], name)

    def tube(self, shape: Tube, name: str | int, where: BoolArray | None = None) -> None:
        """Fill a tube, within ``where`` (of the whole grid) if given."""
        box = shape.box(self.grid)
        inside = shape.inside(self.grid, box)
        self.paint(box, inside if where is None else inside & where[box], name)
