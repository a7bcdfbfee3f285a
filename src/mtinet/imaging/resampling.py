"""A volume on another grid: linear for images, linear weight of each label for masks.

A deformation is composed with the change of grid, so that nothing is interpolated twice.  Both work slab by
slab along the last axis of the output, so that their memory stays flat however large the output is.  Where
the new grid is coarser, the source is first smoothed to the new voxel (otherwise a voxel would show one
point of the tissue it covers instead of its mean).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.imaging.deformation import Deformation, Index
from mtinet.volume import Volume

SLAB_VOXELS = 2_000_000
"""Output voxels computed at once."""

_EDGE = 0.5 + 1e-4
"""Voxels beyond the outermost centres up to which the field of view reaches (a voxel has an extent)."""

_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))

_KEEP_SPACING = 0.01
"""A wanted spacing within so much of the grid's own leaves it as it is: nothing is interpolated."""


def grid_with_spacing(
    volume: Volume, spacing_mm: Sequence[float | None]
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine of a grid with other voxels and the same field of view and axes.

    Parameters
    ----------
    volume : Volume
    spacing_mm : sequence of float or None
        Along the volume's axes; None keeps its own.
    """
    own, shape = np.asarray(volume.spacing_mm), np.asarray(volume.shape)
    wanted = np.array([o if w is None else w for o, w in zip(own, spacing_mm)])
    wanted = np.where(np.abs(wanted / own - 1) < _KEEP_SPACING, own, wanted)
    count = np.maximum(1, np.rint(shape * own / wanted)).astype(int)
    affine = volume.affine.copy()
    affine[:3, :3] *= wanted / own
    # the centre of the field of view stays where it is
    first = ((shape - 1) - (count - 1) * wanted / own) / 2
    affine[:3, 3] = (volume.affine @ np.append(first, 1.0))[:3]
    return (int(count[0]), int(count[1]), int(count[2])), affine


def resample(
    volume: Volume,
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    *,
    fill: float = 0.0,
    deformation: Deformation | None = None,
) -> Volume:
    """Linear interpolation of an image on another grid.

    Parameters
    ----------
    volume : Volume
    shape : tuple of int
        Voxels of the new grid.
    affine : ndarray, shape (4, 4)
        Voxel indices of the new grid to world millimetres.
    fill : float
        Value outside the volume's field of view.
    deformation : Deformation, optional
        What is at ``x + u(x)`` is brought to ``x``.

    Returns
    -------
    Volume
        ``float32``.
    """
    matrix = np.linalg.inv(volume.affine) @ affine
    if deformation is None and tuple(shape) == volume.shape and np.allclose(matrix, np.eye(4), atol=1e-4):
        return Volume(np.array(volume.array, dtype=np.float32), affine)
    source = _smoothed(np.asarray(volume.array, dtype=np.float32), matrix)
    out = np.empty(shape, dtype=np.float32)
    sampling = _Sampling(
        matrix, np.asarray(np.linalg.inv(volume.affine)[:3, :3], dtype=np.float64), affine, deformation
    )
    for low, high in _slabs((0, 0, 0), shape):
        out[..., low[2] : high[2]] = _interpolate(source, sampling, low, high, fill)
    return Volume(out, affine)


def resample_labels(
    volume: Volume,
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    *,
    deformation: Deformation | None = None,
) -> Volume:
    """A mask of numbered regions on another grid.

    A voxel takes the label whose linear weight there is at least one half.  A label that reaches it nowhere
    (a lesion smaller than a voxel) keeps the one voxel where its weight is largest, so that no lesion inside
    the new field of view vanishes.

    Parameters
    ----------
    volume : Volume
        Whole numbers; 0 is background.
    shape, affine, deformation
        The new grid, as in :func:`resample`.

    Returns
    -------
    Volume
        Same dtype as the input.
    """
    matrix = np.linalg.inv(volume.affine) @ affine
    if deformation is None and tuple(shape) == volume.shape and np.allclose(matrix, np.eye(4), atol=1e-4):
        return Volume(volume.array.copy(), affine)
    out = np.zeros(shape, dtype=volume.array.dtype)
    labels = volume.array.astype(np.int32, copy=False)
    sampling = _Sampling(
        matrix, np.asarray(np.linalg.inv(volume.affine)[:3, :3], dtype=np.float64), affine, deformation
    )
    for index, box in enumerate(ndimage.find_objects(labels)):
        if box is not None:
            _place_label(labels, index + 1, box, sampling, out)
    return Volume(out, affine)


def overlap_fraction(reference: Volume, other: Volume) -> float:
    """Share of the reference's field of view that the other grid covers (sampled on a coarse lattice)."""
    lattice = [np.linspace(0, n - 1, min(n, 12)) for n in reference.shape]
    points = np.stack(np.meshgrid(*lattice, indexing="ij"), axis=-1).reshape(-1, 3)
    matrix = np.linalg.inv(other.affine) @ reference.affine
    inside = _inside(points @ matrix[:3, :3].T + matrix[:3, 3], other.shape)
    return float(inside.mean())


def _inside(points: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    within = (points >= -_EDGE) & (points <= np.array(shape) - 1 + _EDGE)
    return np.asarray(within.all(axis=-1))


def _slabs(low: tuple[int, ...], high: tuple[int, ...]) -> Iterator[tuple[Index, Index]]:
    """Cut a box of voxels along its last axis into pieces of at most ``SLAB_VOXELS``."""
    depth = max(1, SLAB_VOXELS // max(1, (high[0] - low[0]) * (high[1] - low[1])))
    for start in range(low[2], high[2], depth):
        yield (low[0], low[1], start), (high[0], high[1], min(start + depth, high[2]))


def _smoothed(source: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """Smooth along source axes that the new grid samples more coarsely, to the new voxel's width.

    ``matrix`` maps new indices to source indices; the length of its row i is the new voxel's extent along
    source axis i.  Gaussians add in quadrature, so the width that is missing is sqrt(extent² - 1).
    """
    extent = np.linalg.norm(matrix[:3, :3], axis=1)
    sigma = np.sqrt(np.maximum(extent**2 - 1.0, 0.0)) / _FWHM
    sigma[(extent < 1.1) | (np.array(source.shape) == 1)] = 0.0
    if not sigma.any():
        return source
    return np.asarray(ndimage.gaussian_filter(source, sigma, mode="nearest", truncate=3.0), dtype=np.float32)


@dataclass(frozen=True)
class _Sampling:
    """Where the new grid's voxels lie in the source: ``matrix`` on indices, then a deformation in between."""

    matrix: NDArray[np.float64]
    to_source: NDArray[np.float64]
    affine: NDArray[np.float64]
    deformation: Deformation | None

    def cropped(self, start: Sequence[int]) -> _Sampling:
        """The same for a part of the source that begins at ``start``."""
        matrix = self.matrix.copy()
        matrix[:3, 3] -= start
        return replace(self, matrix=matrix)

    def coordinates(self, low: Index, high: Index) -> NDArray[np.float64]:
        """Source indices of the deformed voxels, shape (3, high - low)."""
        assert self.deformation is not None
        moved = np.einsum("sw,xyzw->sxyz", self.to_source, self.deformation.on_grid(self.affine, low, high))
        for grid_axis in range(3):
            along = np.arange(low[grid_axis], high[grid_axis])
            step = self.matrix[:3, grid_axis, None] * along
            moved += step.reshape(3, *(-1 if axis == grid_axis else 1 for axis in range(3)))
        moved += self.matrix[:3, 3, None, None, None]
        return np.asarray(moved)


def _interpolate(
    source: NDArray[np.float32], sampling: _Sampling, low: Index, high: Index, fill: float
) -> NDArray[np.float32]:
    """Values of the new grid's voxels from ``low`` up to ``high``."""
    if sampling.deformation is not None:
        at = sampling.coordinates(low, high)
        deformed = ndimage.map_coordinates(source, at, output=np.dtype(np.float32), order=1, mode="nearest")
        deformed[~_inside(np.moveaxis(at, 0, -1), source.shape)] = fill
        return np.asarray(deformed)
    matrix = sampling.matrix
    linear = matrix[:3, :3]
    offset: NDArray[np.float64] = linear @ np.array(low) + matrix[:3, 3]
    size = tuple(b - a for a, b in zip(low, high))
    out = ndimage.affine_transform(
        source, linear, offset, size, output=np.dtype(np.float32), order=1, mode="nearest"
    )
    axes = [np.arange(n, dtype=np.float32) for n in size]
    for axis, n in enumerate(source.shape):
        # the coordinate along one source axis is a sum of three terms, one an output axis
        x, y, z = (linear[axis, i] * axes[i] for i in range(3))
        coordinate = (offset[axis] + x)[:, None, None] + y[None, :, None] + z[None, None, :]
        out[(coordinate < -_EDGE) | (coordinate > n - 1 + _EDGE)] = fill
    return out


def _place_label(
    labels: NDArray[np.int32],
    number: int,
    box: tuple[slice, ...],
    sampling: _Sampling,
    out: NDArray[Any],
) -> None:
    """Write one label into ``out``, looking only at the boxes that hold it."""
    matrix = sampling.matrix
    extent = np.linalg.norm(matrix[:3, :3], axis=1)
    margin = np.ceil(1 + 3 * extent / _FWHM).astype(int)
    start = [max(0, s.start - m) for s, m in zip(box, margin)]
    stop = [min(n, s.stop + m) for s, m, n in zip(box, margin, labels.shape)]
    crop = labels[tuple(slice(a, b) for a, b in zip(start, stop))] == number
    weight = _smoothed(crop.astype(np.float32), matrix)
    cropped = sampling.cropped(start)
    corners = np.array([(*c, 1.0) for c in itertools.product(*((-1, n) for n in crop.shape))])
    ends = (corners @ np.linalg.inv(cropped.matrix).T)[:, :3]
    # a deformation brings it from nearby: no farther than its bound
    reach = 0.0 if sampling.deformation is None else sampling.deformation.bound_mm
    near = reach / np.linalg.norm(sampling.affine[:3, :3], axis=0)
    low = tuple(max(0, int(v)) for v in np.floor(ends.min(axis=0) - near))
    high = tuple(min(n, int(v) + 1) for n, v in zip(out.shape, np.ceil(ends.max(axis=0) + near)))
    if any(a >= b for a, b in zip(low, high)):
        return
    largest, where, placed = 0.0, (0, 0, 0), False
    for begin, end in _slabs(low, high):
        values = _interpolate(weight, cropped, begin, end, 0.0)
        region = out[tuple(slice(a, b) for a, b in zip(begin, end))]
        # the sum of all labels' weights is at most 1: only an exact tie of two halves meets a taken voxel
        chosen = (values >= 0.5) & (region == 0)
        region[chosen] = number
        placed = placed or bool(chosen.any())
        if placed:
            continue
        # the voxel that it keeps may be no other lesion's, which could have only that one
        values[region != 0] = 0.0
        peak = np.unravel_index(int(values.argmax()), values.shape)
        if values[peak] > largest:
            largest = float(values[peak])
            where = (begin[0] + int(peak[0]), begin[1] + int(peak[1]), begin[2] + int(peak[2]))
    if not placed and largest > 0.0:
        out[where] = number
