"""Encoder E_p: blocks of convolution, normalisation, ReLU and max-pooling, F_p = E_p(x_p).

Phases that a study lacks never enter: they are gathered out before the first convolution and scattered back
as zeros, so neither outputs, batch statistics nor gradients can see what fills their place.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtinet.config import EncoderSettings
from mtinet.model.stem import fold, folded_shape


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation in any number of dimensions that survives a single value a channel.

    One value has no variance; the running statistics stand in, and are not updated.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def normalisation(kind: str, channels: int) -> nn.Module:
    """Layer for ``kind`` = batch | group | instance."""
    if kind == "batch":
        return _BatchNorm(channels)
    # instance normalisation is group normalisation with a group a channel
    return nn.GroupNorm(channels if kind == "instance" else math.gcd(8, channels), channels)


def convolution_block(dims: int, inputs: int, outputs: int, count: int, norm: str) -> nn.Sequential:
    """``count`` times convolution (3, no bias: the normalisation has one), normalisation, ReLU."""
    convolution = nn.Conv2d if dims == 2 else nn.Conv3d
    layers: list[nn.Module] = []
    for index in range(count):
        layers += [
            convolution(inputs if index == 0 else outputs, outputs, 3, padding=1, bias=False),
            normalisation(norm, outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def level_sizes(spatial_shape: tuple[int, ...], blocks: int) -> list[tuple[int, ...]]:
    """Spatial sizes before each block's pooling and after the last, fine to deep; odd sizes round up."""
    sizes = [spatial_shape]
    for _ in range(blocks):
        # as pooling computes it, so that an exporter sees that both are the same
        sizes.append(tuple((size - 1) // 2 + 1 for size in sizes[-1]))
    return sizes


class _Blocks(nn.Module):
    """The blocks of one encoder: [N, C, *S] -> maps before each pooling, and the deepest after it.

    C is 1, or 2 with ``settings.subtraction``.

    The finest maps lie on the image's grid, or on one coarser by ``settings.stem``.
    """

    def __init__(self, dims: int, settings: EncoderSettings) -> None:
        super().__init__()
        self.channels = (*settings.channels, settings.channels[-1])
        self.stem = settings.stem
        inputs = ((1 + settings.subtraction) * settings.stem**dims, *settings.channels[:-1])
        self.blocks = nn.ModuleList(
            convolution_block(dims, i, o, settings.convolutions, settings.norm)
            for i, o in zip(inputs, settings.channels)
        )
        self.dims = dims

    def forward(self, x: Tensor) -> list[Tensor]:
        channels = [fold(channel, self.stem) for channel in x.split(1, dim=1)]
        maps, x = [], channels[0] if len(channels) == 1 else torch.cat(channels, dim=1)
        for block in self.blocks:
            maps.append(block(x))
            x = self._pooled(maps[-1])
        return [*maps, x]

    def _pooled(self, maps: Tensor) -> Tensor:
        """Half the size; ceil_mode keeps the border of odd sizes, and a side of 1 (thin volumes) stays as it is."""
        if self.dims == 2:
            return F.max_pool2d(maps, 2, ceil_mode=True)
        # of a side of 1 the window takes 1, which changes nothing: OpenVINO refuses windows larger than the map
        return F.max_pool3d(maps, [min(2, side) for side in maps.shape[2:]], ceil_mode=True)

    def zeros(self, x: Tensor) -> list[Tensor]:
        """What :meth:`forward` would return in shape, zero, for a phase that no study of the batch has.

        The weights are tied in with a factor zero: processes that share gradients expect one of every weight.
        """
        tie = sum((p.sum() for p in self.parameters()), start=x.new_zeros(())) * 0.0
        sizes = level_sizes(folded_shape(tuple(x.shape[2:]), self.stem), len(self.blocks))
        return [x.new_zeros(len(x), c, *size) + tie for c, size in zip(self.channels, sizes)]


class PhaseEncoder(nn.Module):
    """Encodes every phase by itself, with one set of weights for all phases or one a phase.

    Parameters
    ----------
    dims : int
        2 or 3.
    phases : int
        Number of phases P.
    settings : EncoderSettings
    keep_fine : bool
        Return the maps of all levels, not of the deepest only.
    pre : int, optional
        Place of the pre phase, for ``settings.subtraction``.
    """

    def __init__(
        self, dims: int, phases: int, settings: EncoderSettings, keep_fine: bool, pre: int | None = None
    ) -> None:
        super().__init__()
        self.keep_fine = keep_fine
        self.pre = pre if settings.subtraction else None
        self.encoders = nn.ModuleList(
            _Blocks(dims, settings) for _ in range(1 if settings.shared else phases)
        )

    def forward(self, image: Tensor, phase_present: Tensor | None) -> list[Tensor]:
        """Maps [B, P, C, *s] from fine to deep, zero at absent phases; ``image`` is [B, P, *S]."""
        encoders = [cast("_Blocks", encoder) for encoder in self.encoders]
        channels = self._channels(image, phase_present)
        if len(encoders) == 1:
            return self._encode(encoders[0], channels, phase_present)
        images = torch.split(channels, 1, dim=1)
        present = [None] * len(images) if phase_present is None else torch.split(phase_present, 1, dim=1)
        each = [self._encode(*one) for one in zip(encoders, images, present)]
        return [torch.cat(maps, dim=1) for maps in zip(*each)]

    def _channels(self, image: Tensor, phase_present: Tensor | None) -> Tensor:
        """What enters of each phase [B, P, C, *S]: the signal, and what it gained since the pre phase.

        The gain is 0 where the pre phase is absent.
        """
        if self.pre is None:
            return image.unsqueeze(2)
        gained = image - image[:, self.pre : self.pre + 1]
        if phase_present is not None:
            known = phase_present[:, self.pre].reshape(-1, *[1] * (image.ndim - 1))
            gained = torch.where(known, gained, 0.0)
        return torch.stack([image, gained], dim=2)

    def _encode(self, encoder: _Blocks, channels: Tensor, phase_present: Tensor | None) -> list[Tensor]:
        """One encoder on the phases of ``channels`` [B, p, C, *S], folded into the batch."""
        batch, phases = channels.shape[:2]
        folded = channels.flatten(0, 1)
        if torch.compiler.is_exporting() and phase_present is not None:
            # an exported graph has no gathering by content: all are encoded and the absent ones hidden, which
            # is the same where batch statistics do not count
            found = self._kept(encoder(_hidden(folded, phase_present)))
            return [torch.unflatten(_hidden(m, phase_present), 0, (batch, phases)) for m in found]
        where = None if phase_present is None else phase_present.flatten().nonzero().squeeze(1)
        if where is None or len(where) == len(folded):
            maps = self._kept(encoder(folded))
        elif len(where):
            maps = [
                found.new_zeros(len(folded), *found.shape[1:]).index_copy(0, where, found)
                for found in self._kept(encoder(folded[where]))
            ]
        else:
            maps = self._kept(encoder.zeros(folded))
        return [torch.unflatten(found, 0, (batch, phases)) for found in maps]

    def _kept(self, maps: list[Tensor]) -> list[Tensor]:
        return maps if self.keep_fine else maps[-1:]


def _hidden(folded: Tensor, phase_present: Tensor) -> Tensor:
    """``folded`` [B p, C, *S] with zeros at absent phases of ``phase_present`` [B, p]."""
    return torch.where(phase_present.flatten().view(-1, *[1] * (folded.ndim - 1)), folded, 0.0)
