"""Branching vessels that grow towards places to be supplied and thin towards the periphery.

Every target in turn is joined to the tree by a bent branch; radii follow Murray's law, r^n = sum of r^n over
the branches, with n = 2.8 (Murray CD, Proc Natl Acad Sci 1926;12:207, has n = 3; the lower value is assumed).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mtinet.phantom.shapes import Grid, near_points

Vectors = NDArray[np.float64]

_EXPONENT = 2.8
_STEP_MM = 5.0
_THINNEST_MM = 0.75
_CANDIDATES = 4


class Tree:
    """A tree of points; every point but the root has a parent.

    Attributes
    ----------
    points : ndarray, shape (N, 3)
        mm.
    parents : list of int
        -1 for the root.
    """

    def __init__(self, root: Vectors) -> None:
        self._points = np.empty((4096, 3))
        self._heading = np.zeros((4096, 3))
        self._points[0] = root
        self.parents: list[int] = [-1]

    @property
    def points(self) -> Vectors:
        """Positions of all points so far."""
        return self._points[: len(self.parents)]

    def trunk(self, start: int, way: Vectors) -> int:
        """Append a smooth trunk from a point through way points (shape (K, 3)); returns its last point."""
        node = start
        for target in way:
            node = self._extend(node, self._bent(node, target))
        return node

    def grow(self, targets: Vectors, others: Vectors | None = None, clearance_mm: float = 4.0) -> None:
        """Join targets to the tree, the nearest to the root first.

        Parameters
        ----------
        targets : ndarray, shape (K, 3)
        others : ndarray, shape (M, 3), optional
            Points of another tree; a branch that would come too near is left out.
        clearance_mm : float
        """
        order = np.argsort(np.linalg.norm(targets - self._points[0], axis=1))
        for target in targets[order]:
            gap = target - self.points
            distance = np.linalg.norm(gap, axis=1) + 1e-6
            # a branch leaves forwards: a sharp turn costs as much as a detour
            turn = 1.0 - (gap * self._heading[: len(self.parents)]).sum(axis=1) / distance
            cost = distance * (1.0 + 0.45 * turn)
            for node in np.argsort(cost)[:_CANDIDATES]:
                way = self._bent(int(node), target)
                if others is not None and len(way) and _nearest(way, others) < clearance_mm:
                    continue
                if len(self.parents) + len(way) < len(self._points):
                    self._extend(int(node), way)
                break

    def radii(self, root_mm: float) -> Vectors:
        """Radius at every point, mm, from the number of ends beyond it."""
        count = len(self.parents)
        load = np.zeros(count)
        is_end = np.ones(count, dtype=bool)
        is_end[[p for p in self.parents if p >= 0]] = False
        load[is_end] = 1.0
        for node in range(count - 1, 0, -1):
            load[self.parents[node]] += load[node]
        radius = root_mm * (load / load[0]) ** (1.0 / _EXPONENT)
        radius[is_end] *= 0.7
        return np.asarray(np.maximum(radius, _THINNEST_MM))

    def voxels(self, grid: Grid, root_mm: float) -> NDArray[np.intp]:
        """Indices into the flattened grid of the voxels inside the vessels."""
        radius, parents = self.radii(root_mm), np.array(self.parents[1:])
        start, end = self.points[parents], self.points[1:]
        # a daughter is as thin as itself from its origin on
        first, last = np.minimum(radius[parents], 1.15 * radius[1:]), radius[1:]
        length = np.linalg.norm(end - start, axis=1)
        pieces = np.maximum(np.ceil(length / np.maximum(0.45 * last, 0.5 * min(grid.spacing_mm))), 1).astype(
            int
        )
        owner = np.repeat(np.arange(len(pieces)), pieces)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        share = ((within + 1.0) / pieces[owner])[:, None]
        points = start[owner] * (1.0 - share) + end[owner] * share
        return near_points(grid, points, first[owner] * (1.0 - share[:, 0]) + last[owner] * share[:, 0])

    def _bent(self, node: int, target: Vectors) -> Vectors:
        """Points of a curve that leaves a point half in its direction and ends at the target."""
        start, heading = self._points[node], self._heading[node]
        gap = target - start
        length = float(np.linalg.norm(gap))
        if length < 1.0:
            return np.empty((0, 3))
        control = start + 0.4 * length * (0.6 * heading + 0.4 * gap / length)
        count = max(2, int(np.ceil(length / _STEP_MM)))
        t = (np.arange(1, count + 1) / count)[:, None]
        return np.asarray((1.0 - t) ** 2 * start + 2.0 * t * (1.0 - t) * control + t**2 * target)

    def _extend(self, node: int, way: Vectors) -> int:
        for point in way:
            new = len(self.parents)
            step = point - self._points[node]
            self._points[new] = point
            self._heading[new] = step / max(float(np.linalg.norm(step)), 1e-6)
            self.parents.append(node)
            node = new
        return node


def spread(rng: np.random.Generator, candidates: Vectors, apart_mm: float, most: int) -> Vectors:
    """Choose points in random order that keep a distance from each other.

    Parameters
    ----------
    rng : numpy.random.Generator
    candidates : ndarray, shape (N, 3)
    apart_mm : float
    most : int
        Upper limit of the number chosen.

    Returns
    -------
    ndarray, shape (K, 3)
    """
    chosen = np.empty((most, 3))
    count = 0
    for index in rng.permutation(len(candidates))[: 12 * most]:
        point = candidates[index]
        gap = chosen[:count] - point
        if count == 0 or float((gap * gap).sum(axis=1).min()) >= apart_mm**2:
            chosen[count] = point
            count += 1
            if count == most:
                break
    return chosen[:count]


def _nearest(points: Vectors, others: Vectors) -> float:
    gap = points[:, None, :] - others
    return float(np.sqrt((gap * gap).sum(axis=-1).min()))
