"""Decoder: the fused maps of all phases, concatenated, to a mask at full size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtinet.config import DecoderSettings
from mtinet.model.dropout import FeatureDropout
from mtinet.model.encoder import convolution_block, level_sizes
from mtinet.model.stem import folded_shape, unfold


class Decoder(nn.Module):
    """Upsampling stages, each joined by the skip of its level (if there are skips).

    Parameters
    ----------
    dims, phases : int
    encoder_channels : tuple of int
        Channels of one phase's maps, fine to deep.
    settings : DecoderSettings
    norm : str
    stem : int
        Pixels a side of the cells on which the encoder's finest maps lie.
    """

    def __init__(
        self,
        dims: int,
        phases: int,
        encoder_channels: tuple[int, ...],
        settings: DecoderSettings,
        norm: str,
        stem: int = 1,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.mode = "bilinear" if dims == 2 else "trilinear"
        inputs = (phases * encoder_channels[-1], *settings.channels[:-1])
        skips = [0 if settings.skips == "none" else phases * c for c in reversed(encoder_channels)]
        self.stages = nn.ModuleList(
            convolution_block(dims, below + skip, outputs, settings.convolutions, norm)
            for below, skip, outputs in zip(inputs, skips, settings.channels)
        )
        # none after the last stage: what is dropped there is missing in the mask at once
        self.drops = nn.ModuleList(
            FeatureDropout(settings.dropout if index < len(settings.channels) - 1 else 0.0, width, maps=True)
            for index, width in enumerate(settings.channels)
        )
        last = nn.Conv2d if dims == 2 else nn.Conv3d
        self.mask = last(settings.channels[-1], stem**dims, 1)

    def forward(self, maps: tuple[Tensor, ...], spatial_shape: tuple[int, ...]) -> Tensor:
        """Mask logits [B, 1, *S] from ``maps`` [B, P, C, *s], the deepest last, skips before."""
        *skips, x = (found.flatten(1, 2) for found in maps)
        sizes = level_sizes(folded_shape(spatial_shape, self.stem), len(self.stages))[:-1]
        for stage, drop, size in zip(self.stages, self.drops, reversed(sizes)):
            # twice as fine and then cut: the encoder rounded up, so the last cells reach over the border
            x = F.interpolate(x, scale_factor=2, mode=self.mode, align_corners=False)
            x = x[..., : size[-2], : size[-1]] if len(size) == 2 else x[..., : size[0], : size[1], : size[2]]
            x = drop(stage(torch.cat([x, skips.pop()], dim=1) if skips else x))
        return unfold(self.mask(x), self.stem, spatial_shape)
