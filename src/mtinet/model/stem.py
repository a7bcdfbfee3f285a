"""Neighbouring pixels as channels, and back: nothing is lost, and the first layers see fewer positions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def folded_shape(spatial_shape: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """Cells along each axis; the last one may reach over the border."""
    return tuple((side - 1) // factor + 1 for side in spatial_shape)


def fold(image: Tensor, factor: int) -> Tensor:
    """Blocks of ``factor`` pixels a side as channels.

    Parameters
    ----------
    image : Tensor [N, 1, *S]
    factor : int

    Returns
    -------
    Tensor [N, factor**d, *s]
        Zero where a block reaches over the border.
    """
    if factor == 1:
        return image
    cells = folded_shape(tuple(image.shape[2:]), factor)
    missing = [cell * factor - side for cell, side in zip(cells, image.shape[2:])]
    padded = F.pad(image, [edge for extra in reversed(missing) for edge in (0, extra)])
    split = padded.reshape(image.shape[0], *(n for cell in cells for n in (cell, factor)))
    axes = range(len(cells))
    moved = split.permute(0, *(2 + 2 * axis for axis in axes), *(1 + 2 * axis for axis in axes))
    return moved.reshape(image.shape[0], factor ** len(cells), *cells)


def unfold(maps: Tensor, factor: int, spatial_shape: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`fold`: [N, factor**d, *s] to [N, 1, *S], cut at the border."""
    if factor == 1:
        return maps
    cells = tuple(maps.shape[2:])
    dims = len(cells)
    split = maps.reshape(maps.shape[0], *[factor] * dims, *cells)
    moved = split.permute(0, *(n for axis in range(dims) for n in (1 + dims + axis, 1 + axis)))
    whole = moved.reshape(maps.shape[0], 1, *(cell * factor for cell in cells))
    for axis, side in enumerate(spatial_shape, start=2):
        whole = whole.narrow(axis, 0, side)
    return whole
