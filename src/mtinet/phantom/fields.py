"""Smooth fields over the scanner's field of view, and smooth arrays taken to another number of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.phantom.shapes import FloatArray


def draw_field(rng: np.random.Generator, shape: tuple[int, int, int], amplitude: float) -> FloatArray:
    """A smooth random field about 1: a polynomial of second order in plane, of first order along z.

    Its mean is 1; its value furthest from 1 differs by ``amplitude``.  Voxels count from -1 to 1 edge to
    edge, so that the same draw gives the same field on a finer grid.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
    amplitude : float

    Returns
    -------
    ndarray of float32, shape ``shape``
    """
    nx, ny, nz = shape
    x, y, z = (((2.0 * np.arange(n) + 1.0) / n - 1.0).astype(np.float32) for n in (nx, ny, nz))
    x, y = x[:, None], y[None, :]
    c = rng.normal(size=7).astype(np.float32)
    plane = c[0] * x + c[1] * y + c[2] * x**2 + c[3] * y**2 + c[4] * x * y
    slope = c[5] + c[6] * y + np.zeros_like(x)
    plane -= plane.mean()
    # along z the field is a straight line: its extremes lie in the first or the last slice
    largest = max(float(np.abs(plane + slope * end).max()) for end in (z[0], z[-1]))
    scale = np.float32(amplitude / max(largest, 1e-6))
    return np.asarray((1.0 + scale * plane)[:, :, None] + (scale * slope)[:, :, None] * z, dtype=np.float32)


def resample(values: NDArray[Any], shape: Sequence[int]) -> FloatArray:
    """A smooth array on more or fewer voxels of the same extent, linearly along each axis.

    Parameters
    ----------
    values : ndarray, shape (a, b, ...)
    shape : sequence of int
        One number for every axis of ``values``.

    Returns
    -------
    ndarray of float32, shape ``shape``
    """
    result = np.asarray(values, dtype=np.float32)
    for axis, wanted in enumerate(shape):
        weights = _linear(result.shape[axis], wanted)
        result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(result)


def _linear(given: int, wanted: int) -> FloatArray:
    """Weights of linear interpolation between voxel centres, shape (wanted, given); constant beyond."""
    position = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0.0, given - 1.0)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, given - 1)
    weights = np.zeros((wanted, given), dtype=np.float32)
    rows = np.arange(wanted)
    weights[rows, low] += (1.0 - (position - low)).astype(np.float32)
    weights[rows, high] += (position - low).astype(np.float32)
    return weights
