"""Training-time augmentation: sample a transform, then apply it to image, masks and targets together.

Geometry is one affine map from the patch to the study, so that cutting the patch out and moving it cost one
interpolation.  Intensity changes only as a scanner may change it without changing enhancement: one gain for
all phases (and for the targets), one smooth receive field common to all phases, and noise.  There is no
gamma, no offset and no change of contrast of a single phase: each would make the enhancement targets wrong.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mtinet.config import AugmentationSettings


@dataclass(frozen=True)
class Transform:
    """One draw of the augmentation.

    Attributes
    ----------
    angle_rad : float
        Rotation in the (y, x) plane; in 3-D too, because slices are thicker than they are wide.
    zoom : float
        Above 1 enlarges.
    shift : tuple of float
        By axis, as a share of the patch.
    flip : bool
        Mirror left and right.
    gain : float
        Factor on all phases and on the targets.
    bias : tuple of float
        Coefficients of the logarithm of the receive field (:func:`field`).
    noise : float
        Standard deviation of the noise, in normalised signal.
    noise_seed : int
    keep : tuple of bool
        By phase; False hides it.
    """

    angle_rad: float
    zoom: float
    shift: tuple[float, ...]
    flip: bool
    gain: float
    bias: tuple[float, ...]
    noise: float
    noise_seed: int
    keep: tuple[bool, ...]


@dataclass(frozen=True)
class Patch:
    """A piece of a study after geometry and receive field, before noise.

    Attributes
    ----------
    image : ndarray of float32, shape [P, *S]
    labels, liver : ndarray of uint8, shape [*S], or None
    field : ndarray of float32, shape [*S]
        What the image was multiplied by: gain times receive field.
    """

    image: NDArray[np.float32]
    labels: NDArray[np.uint8] | None
    liver: NDArray[np.uint8] | None
    field: NDArray[np.float32]


def identity(phases: int, spatial_dims: int) -> Transform:
    """The transform that changes nothing."""
    bias = (0.0,) * len(_powers(spatial_dims))
    return Transform(0.0, 1.0, (0.0,) * spatial_dims, False, 1.0, bias, 0.0, 0, (True,) * phases)


def sample(
    rng: np.random.Generator, settings: AugmentationSettings, spatial_dims: int, present: tuple[bool, ...]
) -> Transform:
    """Draw a transform.

    Parameters
    ----------
    rng : numpy.random.Generator
    settings : AugmentationSettings
    spatial_dims : int
        2 or 3.
    present : tuple of bool
        Phases that the study has; phase dropout leaves at least one of them.
    """
    if not settings.enabled:
        return identity(len(present), spatial_dims)
    powers = _powers(spatial_dims)
    angle = math.radians(settings.rotation_deg) * rng.uniform(-1, 1)
    zoom = 1.0 + settings.scale * rng.uniform(-1, 1)
    shift = tuple((settings.translation * rng.uniform(-1, 1, spatial_dims)).tolist())
    flip = bool(rng.random() < settings.flip)
    gain = math.exp(settings.gain * rng.uniform(-1, 1))
    bias = tuple((settings.bias * rng.uniform(-1, 1, len(powers)) / math.sqrt(len(powers))).tolist())
    noise_seed = int(rng.integers(2**31))
    hidden = rng.random(len(present)) < settings.phase_dropout
    survivor = int(rng.choice(np.flatnonzero(present)))
    keep = tuple(bool(not h or index == survivor) for index, h in enumerate(hidden))
    return Transform(angle, zoom, shift, flip, gain, bias, settings.noise, noise_seed, keep)


def apply(
    transform: Transform,
    image: NDArray[Any],
    labels: NDArray[Any] | None,
    liver: NDArray[Any] | None,
    centre: tuple[float, ...],
    size: tuple[int, ...],
    spacing_mm: tuple[float, ...],
) -> Patch:
    """Cut a patch out of a study and move it.

    Parameters
    ----------
    transform : Transform
    image : ndarray, shape [P, *S]
        Normalised signal; only the part that the patch needs is read.
    labels, liver : ndarray, shape [*S], or None
    centre : tuple of float
        Voxel of the study at the centre of the patch.
    size : tuple of int
        Of the patch; where it leaves the study it is 0.
    spacing_mm : tuple of float
        Voxel size by axis, so that a rotation stays one on voxels that are not square.
    """
    matrix, offset = _geometry(transform, centre, size, spacing_mm)
    box, offset = _needed(matrix, offset, size, image.shape[1:])
    grid = _sampling_grid(matrix, offset, size, box)
    kept = np.flatnonzero(transform.keep)
    multiplied_by = field(transform, size)
    moved = np.zeros((len(image), *size), dtype=np.float32)
    moved[kept] = _resampled(image[(slice(None), *box)][kept], grid, "bilinear") * multiplied_by
    masks = [mask for mask in (labels, liver) if mask is not None]
    cut: Iterator[NDArray[np.uint8]] = iter(())
    if masks:
        cut = iter(_resampled(np.stack([mask[box] for mask in masks]), grid, "nearest").astype(np.uint8))
    return Patch(
        moved, None if labels is None else next(cut), None if liver is None else next(cut), multiplied_by
    )


def field(transform: Transform, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Gain times receive field over a patch.

    The logarithm of the receive field is a polynomial of second order in coordinates from -1 to 1, without a
    constant: smooth, positive, the same for all phases.
    """
    log_field = np.tensordot(transform.bias, _polynomials(size), axes=1) + math.log(transform.gain)
    return np.asarray(np.exp(log_field), dtype=np.float32)


@lru_cache(maxsize=8)
def _polynomials(size: tuple[int, ...]) -> NDArray[np.float64]:
    """The terms of the receive field over a patch [terms, *S], in coordinates from -1 to 1."""
    axes = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in size]
    places = np.meshgrid(*axes, indexing="ij")
    return np.stack(
        [np.prod([x**power for x, power in zip(places, powers)], axis=0) for powers in _powers(len(size))]
    )


def add_noise(transform: Transform, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image with the transform's noise in every phase that it keeps."""
    if not transform.noise:
        return image
    # torch draws normal numbers several at a time: half the time of numpy's, once most of a sample's
    generator = torch.Generator().manual_seed(transform.noise_seed)
    noise = torch.randn(image.shape, generator=generator).numpy()
    noise *= np.reshape(transform.keep, (-1,) + (1,) * (image.ndim - 1)) * np.float32(transform.noise)
    noise += image
    return noise


@cache
def _powers(spatial_dims: int) -> list[tuple[int, ...]]:
    """Exponents of the terms of first and second order."""
    return [p for p in itertools.product(range(3), repeat=spatial_dims) if 1 <= sum(p) <= 2]


def _geometry(
    transform: Transform, centre: tuple[float, ...], size: tuple[int, ...], spacing_mm: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix and offset from voxels of the patch to voxels of the study."""
    dims = len(size)
    millimetres = np.eye(dims) / transform.zoom
    cosine, sine = math.cos(transform.angle_rad), math.sin(transform.angle_rad)
    millimetres[-2:, -2:] = np.array([[cosine, -sine], [sine, cosine]]) / transform.zoom
    if transform.flip:
        millimetres[:, -1] *= -1
    spacing = np.asarray(spacing_mm)
    matrix = millimetres * spacing[None, :] / spacing[:, None]
    middle = (np.asarray(size) - 1) / 2
    offset = np.asarray(centre) + np.asarray(transform.shift) * size - matrix @ middle
    return matrix, offset


def _needed(
    matrix: NDArray[np.float64], offset: NDArray[np.float64], size: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], NDArray[np.float64]]:
    """The part of the study under the patch, and the offset counted from it."""
    corners = np.array(list(itertools.product(*((0, n - 1) for n in size)))) @ matrix.T + offset
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, shape)
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, 0, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high)), offset - low


def _sampling_grid(
    matrix: NDArray[np.float64], offset: NDArray[np.float64], size: tuple[int, ...], box: tuple[slice, ...]
) -> torch.Tensor:
    """Where each voxel of the patch lies in the box, in torch's terms: -1 to 1 from edge to edge, x first."""
    extent = np.array([max(1, s.stop - s.start) for s in box])
    # the edge of voxel 0 is at -1/2, that of the last at n - 1/2
    scaled, shift = 2 * matrix / extent[:, None], (2 * offset + 1) / extent - 1
    grid = np.empty((*size, len(size)), dtype=np.float32)
    for row in range(len(size)):
        places = shift[row]
        for axis, n in enumerate(size):
            along = np.arange(n) * scaled[row, axis]
            places = places + along.reshape(-1, *(1,) * (len(size) - axis - 1))
        grid[..., -1 - row] = places
    return torch.from_numpy(grid)


def _resampled(
    arrays: NDArray[Any], grid: torch.Tensor, mode: Literal["bilinear", "nearest"]
) -> NDArray[np.float32]:
    """Several arrays [C, *S] at the places of one grid; 0 outside.  Bilinear is trilinear in 3-D.

    The outermost voxels reach to their outer faces, as labels do: they do not fade towards the 0 outside.
    """
    if 0 in arrays.shape:
        return np.zeros((len(arrays), *grid.shape[:-1]), dtype=np.float32)
    source = torch.from_numpy(np.array(arrays, dtype=np.float32))
    out = functional.grid_sample(source[None], grid[None], mode, "border", align_corners=False)[0]
    return np.asarray((out * (grid.abs() <= 1).all(dim=-1)).numpy())
