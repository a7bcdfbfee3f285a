"""MdIEF's filter as products with matrices that are made from the sizes of the map, for exported networks.

A network in use meets images of many sizes.  Exporters know no Fourier transform of a size that is open, but
ranges, cosines and matrix products they all know; :mod:`mtinet.model.mdief` takes this form while a network is
exported.  Values agree with the transforms to 1e-5 of the largest (``tests/model/test_spectral_products.py``).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtinet.config import MdiefSettings


def filtered(x: Tensor, axes: tuple[int, ...], settings: MdiefSettings) -> Tensor:
    """IFFT(H · FFT(x)) over ``axes``, any sizes."""
    if settings.filter == "gaussian":
        return x - _gaussian_low_pass(x, axes, settings.cutoff)
    return _by_spectrum(x, axes, settings)


def _frequency(size: int, like: Tensor) -> Tensor:
    """Magnitude of the frequencies [size] of a transform, in units of Nyquist's; and of both signs."""
    index = torch.arange(size, device=like.device)
    return 2.0 * torch.minimum(index, size - index).to(like.dtype) / size


def _waves(size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [size, size] of 2 pi j k / size."""
    index = torch.arange(size, device=like.device)
    # whole turns are taken off as integers: large angles would lose digits
    angle = (
        (2.0 * math.pi)
        * torch.remainder(index[:, None] * index, index.new_full((), size)).to(like.dtype)
        / size
    )
    return angle.cos(), angle.sin()


def _along(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """``x`` multiplied by a symmetric ``matrix`` along one axis."""
    if axis == x.ndim - 1:
        return x @ matrix
    return (matrix @ x.flatten(axis + 1)).view(x.shape)


def _gaussian_low_pass(x: Tensor, axes: tuple[int, ...], cutoff: float) -> Tensor:
    """As in :mod:`mtinet.model.mdief`, one circulant matrix an axis, but from waves instead of a transform."""
    for axis in axes:
        size = x.shape[axis]
        cosine, sine = _waves(size, x)
        response = torch.exp(-(_frequency(size, x) ** 2) / (2 * cutoff**2)) / size
        x = _along(x, axis, (cosine * response) @ cosine + (sine * response) @ sine)
    return x


def _by_spectrum(x: Tensor, axes: tuple[int, ...], settings: MdiefSettings) -> Tensor:
    """Forward transform, H and inverse, real and imaginary parts apart."""
    waves = [_waves(x.shape[axis], x) for axis in axes]
    real, imaginary = x, torch.zeros_like(x)
    for axis, (cosine, sine) in zip(axes, waves):
        real, imaginary = (
            _along(real, axis, cosine) + _along(imaginary, axis, sine),
            _along(imaginary, axis, cosine) - _along(real, axis, sine),
        )
    transfer = _transfer(x, axes, settings)
    real, imaginary = real * transfer, imaginary * transfer
    for axis, (cosine, sine) in zip(axes, waves):
        size = x.shape[axis]
        real, imaginary = (
            (_along(real, axis, cosine) - _along(imaginary, axis, sine)) / size,
            (_along(imaginary, axis, cosine) + _along(real, axis, sine)) / size,
        )
    return real


def _transfer(x: Tensor, axes: tuple[int, ...], settings: MdiefSettings) -> Tensor:
    """H on the whole spectrum, in a shape that spreads over ``x``; its formula is that of ``mdief``."""
    square = x.new_zeros(())
    for axis in axes:
        shape = [1] * x.ndim
        shape[axis] = x.shape[axis]
        square = square + (_frequency(x.shape[axis], x) ** 2).view(shape)
    cut = settings.cutoff**2
    if settings.filter == "ideal":
        return (square > cut).to(x.dtype)
    if settings.filter == "gaussian":
        return 1.0 - torch.exp(-square / (2 * cut))
    return square**settings.order / (square**settings.order + cut**settings.order)
