"""A smooth deformation: cubic B-splines on a lattice of control points.

``x -> x + u(x)`` in world millimetres, ``u(x) = sum of c_i b(t(x) - i)`` with ``t`` the position in the
lattice and ``b`` the product of three cubic B-splines (Rueckert D et al., IEEE Trans Med Imaging
1999;18:712).  Beyond the lattice the outermost control points go on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = tuple[int, int, int]

_ALIGNED = 1e-4
"""Departure of a grid's axes from the lattice's, as a share, that counts as rounding."""


@dataclass(frozen=True, eq=False)
class Deformation:
    """Displacement by control points.

    Attributes
    ----------
    coefficients : ndarray of float64, shape (I, J, K, 3)
        Displacement of each control point along R, A, S, mm.
    affine : ndarray, shape (4, 4)
        Index of a control point to world millimetres (RAS).
    """

    coefficients: NDArray[np.float64]
    affine: NDArray[np.float64]

    @property
    def bound_mm(self) -> float:
        """No point moves farther: B-splines are a weighted mean of their control points."""
        return float(np.linalg.norm(self.coefficients, axis=-1).max(initial=0.0))

    def on_grid(self, affine: NDArray[np.float64], low: Index, high: Index) -> NDArray[np.float64]:
        """Displacement at the voxels of a grid from ``low`` up to ``high``.

        Parameters
        ----------
        affine : ndarray, shape (4, 4)
            The grid's voxel indices to world millimetres; its axes are the lattice's, in any order and
            direction.
        low, high : tuple of int

        Returns
        -------
        ndarray of float64, shape (high - low, 3)
            Along R, A, S, mm.

        Raises
        ------
        ValueError
            The grid is tilted against the lattice.
        """
        bases, order = self._bases(affine, low, high)
        return self._product([base[0] for base in bases], order)

    def jacobian(self, affine: NDArray[np.float64], low: Index, high: Index) -> NDArray[np.float64]:
        """Determinant of the derivative of ``x + u(x)`` at voxels: local volume there over volume here.

        Parameters and errors are those of :meth:`on_grid`.

        Returns
        -------
        ndarray of float64, shape (high - low)
            1 where the volume stays, 0 or less where the deformation folds.
        """
        bases, order = self._bases(affine, low, high)
        size = tuple(b - a for a, b in zip(low, high))
        by_lattice = np.empty((*size, 3, 3))
        for axis in range(3):
            parts = [base[int(a == axis)] for a, base in enumerate(bases)]
            by_lattice[..., axis] = self._product(parts, order)
        derivative = np.einsum("xyzul,lw->xyzuw", by_lattice, np.linalg.inv(self.affine[:3, :3]))
        derivative += np.eye(3)
        return np.asarray(np.linalg.det(derivative))

    def incompressible(self, points_mm: NDArray[np.float64], stiffness_mm: float) -> Deformation:
        """The nearest deformation that hardly changes volume.

        Least squares over the points: the squared difference to this deformation plus the squared divergence
        times ``stiffness_mm`` squared.  Soft tissue is nearly incompressible, while what raises a similarity
        of images need not be (Rohlfing T et al., IEEE Trans Med Imaging 2003;22:730, who constrain the search
        itself).

        Parameters
        ----------
        points_mm : ndarray, shape (n, 3)
            World positions, RAS, that speak for the region.
        stiffness_mm : float
            A change of volume of 1 % counts like a difference of 1 % of it.

        Returns
        -------
        Deformation
            On the same lattice; coefficients are rounded to a nanometre, so that the order of the sums, which
            may differ from machine to machine, cannot show.
        """
        inverse = np.linalg.inv(self.affine)
        at = points_mm @ inverse[:3, :3].T + inverse[:3, 3]
        splines = [_basis(at[:, axis], n) for axis, n in enumerate(self.coefficients.shape[:3])]

        def weights(slope: int | None) -> NDArray[np.float64]:
            parts = [base[int(axis == slope)] for axis, base in enumerate(splines)]
            return np.asarray(np.einsum("ni,nj,nk->nijk", *parts).reshape(len(at), -1))

        value = weights(None)
        slopes = np.stack([weights(axis) for axis in range(3)], axis=-1) @ inverse[:3, :3]
        divergence = stiffness_mm * np.moveaxis(slopes, -1, 1).reshape(len(at), -1)
        same, count = value.T @ value, value.shape[1]
        normal = np.kron(np.eye(3), same) + divergence.T @ divergence
        # a control point that no point feels stays as it is
        normal += 1e-6 * np.trace(same) / count * np.eye(3 * count)
        wanted = self.coefficients.reshape(-1, 3).T.ravel()
        change = np.linalg.solve(normal, -divergence.T @ (divergence @ wanted))
        found = np.asarray(np.round(wanted + change, 6), dtype=np.float64)
        return replace(self, coefficients=found.reshape(3, -1).T.reshape(self.coefficients.shape))

    def _bases(
        self, affine: NDArray[np.float64], low: Index, high: Index
    ) -> tuple[list[NDArray[np.float64]], list[int]]:
        """Every control point's spline and its slope along each lattice axis, and the grid axis of each.

        On a grid that runs along the lattice the spline of three coordinates is a product of three sums.
        """
        matrix = np.linalg.inv(self.affine) @ affine
        order = [int(axis) for axis in np.abs(matrix[:3, :3]).argmax(axis=1)]
        main = np.abs(matrix[[0, 1, 2], order])
        if sorted(order) != [0, 1, 2] or (np.abs(matrix[:3, :3]).sum(axis=1) - main > _ALIGNED * main).any():
            raise ValueError("the grid's axes are not those of the deformation; resample the volume first")
        bases = []
        for axis, along in enumerate(order):
            at = matrix[axis, along] * np.arange(low[along], high[along]) + matrix[axis, 3]
            bases.append(_basis(at, self.coefficients.shape[axis]))
        return bases, order

    def _product(self, bases: list[NDArray[np.float64]], order: list[int]) -> NDArray[np.float64]:
        # einsum without BLAS: the number of threads cannot change the sums
        first = np.einsum("zk,ijkc->ijzc", bases[2], self.coefficients)
        second = np.einsum("yj,ijzc->iyzc", bases[1], first)
        lattice = np.einsum("xi,iyzc->xyzc", bases[0], second)
        return np.asarray(lattice.transpose(*np.argsort(order), 3))


def _basis(at: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Cubic B-splines of ``count`` control points, and their slopes: shape (2, positions, count)."""
    first = np.floor(at).astype(int)
    t = at - first
    values = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    slopes = (
        -((1 - t) ** 2) / 2,
        (3 * t**2 - 4 * t) / 2,
        (-3 * t**2 + 2 * t + 1) / 2,
        t**2 / 2,
    )
    basis = np.zeros((2, len(at), count))
    rows = np.arange(len(at))
    for offset, (value, slope) in enumerate(zip(values, slopes), start=-1):
        column = np.clip(first + offset, 0, count - 1)
        np.add.at(basis[0], (rows, column), value)
        np.add.at(basis[1], (rows, column), slope)
    return basis
