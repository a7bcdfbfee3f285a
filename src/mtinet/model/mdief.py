"""Multi-domain information entropy fusion (MdIEF): a feature map and its high-frequency part, no parameter.

S = FFT(F), G = IFFT(H S) with a high-pass H, and per channel a weight for each of F and G from how much
information, as entropy, each carries.  The mean of the signed G is identically zero (H removes the constant),
so every descriptor is taken from magnitudes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from mtinet.config import MdiefSettings
from mtinet.model import spectral_products
from mtinet.model.presence import shown

_SMALL = 1e-12

_PIECE = 2**18
"""Values that a CPU filters at a time: the handful of maps of a megabyte stays in its cache."""

_DENSE = 64
"""Pixels up to which the filter is one matrix: above, that many multiply-adds a pixel are too many."""


@lru_cache(maxsize=64)
def transfer_function(
    shape: tuple[int, ...],
    settings: MdiefSettings,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """High-pass H on the half spectrum of ``torch.fft.rfftn`` over axes of these sizes; H(0) = 0.

    The radius of a frequency is its Euclidean norm in units of each axis' Nyquist frequency.
    """
    with torch.inference_mode(False), torch.no_grad():
        axes = [torch.fft.fftfreq(size, d=0.5, dtype=torch.float64) for size in shape[:-1]]
        axes.append(torch.fft.rfftfreq(shape[-1], d=0.5, dtype=torch.float64))
        radii = torch.meshgrid(*axes, indexing="ij")
        square = torch.stack([axis**2 for axis in radii]).sum(0)
        cut = settings.cutoff**2
        if settings.filter == "ideal":
            response = (square > cut).to(dtype)
        elif settings.filter == "gaussian":
            response = -torch.expm1(-square / (2 * cut))
        else:
            response = square**settings.order / (square**settings.order + cut**settings.order)
        return response.to(device, dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or as it is in float64 (where gradients can be checked).

    Raises
    ------
    ValueError
        ``x`` is not floating: what is fused would be cut to whole numbers.
    """
    if not x.is_floating_point():
        raise ValueError(
            f"the maps are {str(x.dtype).removeprefix('torch.')}; a fusion takes floating maps: give maps.float()"
        )
    return x.to(torch.promote_types(x.dtype, torch.float32))


def high_pass(features: Tensor, phase_present: Tensor | None, settings: MdiefSettings) -> Tensor:
    """Spectral map G [B, P, C, *S] of ``features`` [B, P, C, *S], at least float32.

    With ``axes = space+phase`` the transform runs over the phases too.  An absent phase must not count there,
    and leaving it at zero would be a jump in time: it takes the mean of the present phases for the transform,
    which adds no temporal contrast, and is zero again afterwards.
    """
    with torch.autocast(features.device.type, enabled=False):  # there is no half-precision FFT on CPU
        x = at_least_float32(features)
        spatial = tuple(range(3, x.ndim))
        if settings.axes == "space":
            return _filtered(x, spatial, settings)
        if phase_present is None:
            return _filtered(x.transpose(1, 2), (2, *spatial), settings).transpose(1, 2)
        present = shown(x, phase_present)
        there = phase_present.reshape(*phase_present.shape, *[1] * (x.ndim - 2))
        mean = present.sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp_min(1)
        filled = torch.where(there, x, mean).transpose(1, 2)
        return shown(_filtered(filled, (2, *spatial), settings).transpose(1, 2), phase_present)


def _filtered(x: Tensor, axes: tuple[int, ...], settings: MdiefSettings) -> Tensor:
    """IFFT(H · FFT(x)) over the last ``axes``, in the form that costs least on maps of this size.

    On the maps of a network products with matrices are several times faster than transforms, forward and
    backward, and every exporter knows them.  What does not fit them takes the transforms.
    """
    if torch.compiler.is_exporting():
        return spectral_products.filtered(x, axes, settings)
    shape = tuple(x.shape[axis] for axis in axes)
    if math.prod(shape) <= _DENSE:
        operator = _operator(shape, settings, x.dtype, x.device)
        return (x.flatten(axes[0]) @ operator).view(x.shape)
    if settings.filter == "gaussian":
        return x - _gaussian_low_pass(x, axes, settings.cutoff)
    transfer = transfer_function(shape, settings, x.device, x.dtype)
    if torch.is_grad_enabled() and x.requires_grad:
        return cast("Tensor", _SelfAdjointFilter.apply(x, axes, transfer))  # type: ignore[no-untyped-call]
    return _passed(x, axes, transfer)


def _gaussian_low_pass(x: Tensor, axes: tuple[int, ...], cutoff: float) -> Tensor:
    """IFFT((1 - H) · FFT(x)) of the Gaussian H.

    1 - H = exp(-f²/(2 cutoff²)) is a product of one factor an axis, so the filter is one circulant matrix
    along each axis in turn.
    """
    for axis in axes:
        matrix = _circulant(x.shape[axis], cutoff, x.dtype, x.device)
        if axis == x.ndim - 1:
            x = x @ matrix  # symmetric
        else:
            x = (matrix @ x.flatten(axis + 1)).view(x.shape)
    return x


@lru_cache(maxsize=64)
def _operator(
    shape: tuple[int, ...], settings: MdiefSettings, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The whole filter on maps of n pixels as one symmetric matrix [n, n]: what it makes of each pixel."""
    count = math.prod(shape)
    with torch.inference_mode(False), torch.no_grad():
        pixels = torch.eye(count, dtype=torch.float64).view(count, *shape)
        axes = tuple(range(1, 1 + len(shape)))
        transfer = transfer_function(shape, settings, torch.device("cpu"), torch.float64)
        return _passed(pixels, axes, transfer).flatten(1).to(device, dtype)


@lru_cache(maxsize=64)
def _circulant(size: int, cutoff: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix [size, size] that multiplies the spectrum along an axis by exp(-f²/(2 cutoff²))."""
    with torch.inference_mode(False), torch.no_grad():
        frequency = torch.fft.rfftfreq(size, d=0.5, dtype=torch.float64)
        response = torch.fft.irfft(torch.exp(-(frequency**2) / (2 * cutoff**2)), n=size)
        places = torch.arange(size)
        return response[(places[:, None] - places) % size].to(device, dtype)


def _passed(x: Tensor, axes: tuple[int, ...], transfer: Tensor) -> Tensor:
    """IFFT(H · FFT(x)) over the last ``axes``, by the half spectrum."""
    spectrum = torch.fft.rfftn(x, dim=axes)
    return torch.fft.irfftn(spectrum.mul_(transfer), s=tuple(x.shape[axis] for axis in axes), dim=axes)


class _SelfAdjointFilter(torch.autograd.Function):
    """:func:`_passed`, whose derivative is itself: H is real and even.

    Automatic differentiation would go through two complex transforms that cost three times as much.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...], transfer: Tensor) -> Tensor:
        ctx.axes, ctx.transfer = axes, transfer
        return _passed(x, axes, transfer)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _SelfAdjointFilter.apply(gradients[0], ctx.axes, ctx.transfer), None, None  # type: ignore[no-untyped-call]


def channel_entropy(maps: Tensor, over: str) -> Tensor:
    """Entropy [B, P, C] of the magnitudes of ``maps`` [B, P, C, *S].

    ``over = space``: of the map's distribution over its pixels, divided by the largest possible, in [0, 1].
    ``over = channel``: the channel's term −p log p, p its share of the mean magnitude of all channels.
    """
    if over == "channel":
        mean = maps.abs().flatten(3).mean(-1)
        share = mean / mean.sum(-1, keepdim=True).clamp_min(_SMALL)
        return -share * (share + _SMALL).log()
    return space_entropy(maps)


def space_entropy(maps: Tensor) -> Tensor:
    """−Σ q log q / log n with q = a / Σa, a the magnitudes of a map of n pixels; 0 for an empty map."""
    magnitude = maps.flatten(3).abs()
    total = magnitude.sum(-1)
    sure = total.clamp_min(_SMALL)
    mean_log = (magnitude * (magnitude + _SMALL).log()).sum(-1) / sure
    # of one pixel there is nothing to know: its 0 is divided by anything but 0
    scale = torch.ones_like(magnitude[:1, :1, :1]).sum().clamp_min(2).log()
    return torch.where(total > _SMALL, (sure.log() - mean_log) / scale, 0.0)


class _SpectralAndEntropies(torch.autograd.Function):
    """The spectral map of every image and :func:`space_entropy` of both maps: MdIEF's work on whole maps.

    An image knows no other one here, so images are taken in pieces that stay in the processor's cache.  The
    entropy −Σ q log q / log n is (log Σa − Σ(a log a) / Σa) / log n with a the magnitudes; its derivative in a is
    (Σ(a log a) / Σa − log a) / (Σa log n), so that one logarithm serves both.  The filter is its own adjoint: H
    is real and even.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, settings: MdiefSettings) -> tuple[Tensor, Tensor]:
        """Spectral maps [N, C, *S] of ``maps``, and the entropies [N, 2, C] of ``maps`` and of them."""
        axes = tuple(range(2, maps.ndim))
        spectral = torch.empty_like(maps)
        logarithms = maps.new_empty(2, *maps.shape) if ctx.needs_input_grad[0] else None
        totals, mean_logs = maps.new_empty(2, 2, *maps.shape[:2]).unbind()
        for piece in _pieces(maps):
            spectral[piece] = _filtered(maps[piece], axes, settings)
            for domain, values in enumerate((maps[piece], spectral[piece])):
                magnitude = values.abs().flatten(2)
                # after ReLU many values are exactly 0, where the derivative of a log a is infinite: hence the offset
                logarithm = (magnitude + _SMALL).log_()
                if logarithms is not None:
                    logarithms[domain, piece] = logarithm.view(values.shape)
                totals[domain, piece] = magnitude.sum(-1)
                mean_logs[domain, piece] = torch.linalg.vecdot(magnitude, logarithm)
        sure = totals.clamp_min(_SMALL)
        mean_logs /= sure
        scale = math.log(max(math.prod(maps.shape[2:]), 2))  # as in space_entropy
        entropies = torch.where(totals > _SMALL, (sure.log() - mean_logs) / scale, 0.0)
        if logarithms is not None:
            ctx.save_for_backward(maps, spectral, logarithms, totals, mean_logs)
            ctx.settings, ctx.scale = settings, scale
        return spectral, entropies.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        maps, spectral, logarithms, totals, mean_logs = ctx.saved_tensors
        if torch.is_grad_enabled():
            # create_graph: the gradient is derived again, and what was kept here carries no derivative
            plain = _plain_domains(maps, ctx.settings)
            return torch.autograd.grad(plain, maps, gradients, create_graph=True)[0], None
        by_spectral, by_entropy = gradients[0], gradients[1].transpose(0, 1)
        axes = tuple(range(2, maps.ndim))
        slopes = torch.where(totals > _SMALL, by_entropy / (totals.clamp_min(_SMALL) * ctx.scale), 0.0)

        def through_entropy(domain: int, values: Tensor, piece: slice) -> Tensor:
            slope, mean = (x[domain, piece][(..., *[None] * len(axes))] for x in (slopes, mean_logs))
            return (mean - logarithms[domain, piece]).mul_(slope).mul_(values[piece].sign())

        found = torch.empty_like(maps)
        for piece in _pieces(maps):
            onto_spectral = through_entropy(1, spectral, piece).add_(by_spectral[piece])
            torch.add(
                through_entropy(0, maps, piece),
                _filtered(onto_spectral, axes, ctx.settings),
                out=found[piece],
            )
        return found, None


def _plain_domains(maps: Tensor, settings: MdiefSettings) -> tuple[Tensor, Tensor]:
    """What :class:`_SpectralAndEntropies` returns, in operations that can be differentiated again."""
    images = maps.unsqueeze(1)  # every image by itself, as one phase
    spectral = high_pass(images, None, settings)
    entropies = torch.cat([space_entropy(images), space_entropy(spectral)], dim=1)
    return spectral.squeeze(1), entropies


def _pieces(maps: Tensor) -> Iterator[slice]:
    """Slices of the first axis with :data:`_PIECE` values at most, or one image; a GPU wants to be filled."""
    values = _PIECE if maps.device.type == "cpu" else maps.numel()
    count = max(1, values // max(1, maps[:1].numel()))
    return (slice(start, start + count) for start in range(0, len(maps), count))


class Mdief(nn.Module):
    """Entropy-weighted fusion; it has no parameters."""

    def __init__(self, settings: MdiefSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, features: Tensor, phase_present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Fuse F = ``features`` [B, P, C, *S], floating, with its spectral map.

        ``phase_present`` [B, P] is bool (None: all); what stands at absent phases is never looked at.

        Returns
        -------
        fused : Tensor [B, P, C, *S]
            Zero at absent phases.
        weights : Tensor [B, P, C, 2]
            Of the spatial and of the spectral map; they sum to one.

        Raises
        ------
        ValueError
            ``features`` are not floating, or ``phase_present`` is not bool.
        """
        with torch.autocast(features.device.type, enabled=False):
            # absent phases are hidden here: zeros are their own spectral map and fuse to zeros
            spatial = shown(at_least_float32(features), phase_present)
            spectral, entropy = self._domains(spatial, phase_present)
            if self.settings.standardise:
                entropy = nn.functional.layer_norm(entropy, entropy.shape[-1:], eps=1e-8)
            weights = torch.softmax(entropy / self.settings.tau, dim=2).transpose(2, 3)
            return weighted_sum(spatial, spectral, weights).to(features.dtype), weights

    def _domains(self, spatial: Tensor, phase_present: Tensor | None) -> tuple[Tensor, Tensor]:
        """The spectral map [B, P, C, *S], and the entropies [B, P, 2, C] of both maps."""
        settings = self.settings
        # exporters know plain operations only
        if (settings.axes, settings.entropy) == ("space", "space") and not torch.compiler.is_exporting():
            found = _SpectralAndEntropies.apply(spatial.flatten(0, 1), settings)  # type: ignore[no-untyped-call]
            spectral, entropy = (values.unflatten(0, spatial.shape[:2]) for values in found)
            return spectral, entropy
        spectral = high_pass(spatial, phase_present, settings)
        entropies = [channel_entropy(domain, settings.entropy) for domain in (spatial, spectral)]
        return spectral, torch.stack(entropies, dim=2)


def weighted_sum(spatial: Tensor, spectral: Tensor, weights: Tensor) -> Tensor:
    """Sum of the maps [B, P, C, *S] of two domains under weights [B, P, C, 2] that add up to one."""
    second = weights[..., 1].reshape(*weights.shape[:3], *[1] * (spatial.ndim - 3))
    return torch.lerp(spatial, spectral, second)
