"""The fusions that MdIEF is compared with; all take and return what MdIEF does.

Each hides absent phases before all else: zeros are their own spectral map, and what else stood there (NaN) would
enter the gradients of shared weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtinet.config import Config, MdiefSettings
from mtinet.model.mdief import Mdief, high_pass, weighted_sum
from mtinet.model.presence import shown

SPATIAL_WEIGHT = {"average": 0.5, "spatial": 1.0, "spectral": 0.0}


class FixedFusion(nn.Module):
    """Constant weights: the mean of both maps, the spatial or the spectral map alone."""

    def __init__(self, kind: str, settings: MdiefSettings) -> None:
        super().__init__()
        self.settings = settings
        self.spatial_weight = SPATIAL_WEIGHT[kind]

    def forward(self, features: Tensor, phase_present: Tensor | None) -> tuple[Tensor, None]:
        """Fuse ``features`` [B, P, C, *S]."""
        features = shown(features, phase_present)
        if self.spatial_weight == 1.0:
            return features, None
        spectral = high_pass(features, phase_present, self.settings).to(features.dtype)
        return torch.lerp(spectral, features, self.spatial_weight), None


class ConcatFusion(nn.Module):
    """F and G side by side through a 1x1 convolution: what the paper compares MdIEF with."""

    def __init__(self, channels: int, settings: MdiefSettings) -> None:
        super().__init__()
        self.settings = settings
        self.mix = nn.Linear(2 * channels, channels)

    def forward(self, features: Tensor, phase_present: Tensor | None) -> tuple[Tensor, None]:
        """Fuse ``features`` [B, P, C, *S]."""
        features = shown(features, phase_present)
        spectral = high_pass(features, phase_present, self.settings).to(features.dtype)
        both = torch.cat([features, spectral], dim=2)
        mixed = self.mix(both.movedim(2, -1)).movedim(-1, 2)
        return shown(mixed, phase_present), None  # the bias fills absent phases


class AttentionFusion(nn.Module):
    """Weights learned from the mean magnitudes of F and G: MdIEF's counterpart with parameters."""

    def __init__(self, channels: int, settings: MdiefSettings) -> None:
        super().__init__()
        self.settings = settings
        hidden = max(channels // 4, 4)
        self.score = nn.Sequential(
            # no ReLU: on magnitudes, which are all positive, its few units could all start dead
            nn.Linear(2 * channels, hidden),
            nn.GELU(),
            nn.Linear(hidden, 2 * channels),
        )

    def forward(self, features: Tensor, phase_present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Fuse ``features`` [B, P, C, *S]; the weights are [B, P, C, 2]."""
        features = shown(features, phase_present)
        spectral = high_pass(features, phase_present, self.settings).to(features.dtype)
        descriptor = torch.cat([m.abs().flatten(3).mean(-1) for m in (features, spectral)], dim=2)
        weights = torch.softmax(self.score(descriptor).unflatten(2, (-1, 2)).float(), dim=-1)
        return weighted_sum(features, spectral, weights.to(features.dtype)), weights


def build_fusion(config: Config, channels: int) -> nn.Module:
    """Fusion of maps with ``channels`` channels, as ``config.fusion`` says."""
    if config.fusion == "mdief":
        return Mdief(config.mdief)
    if config.fusion == "concat":
        return ConcatFusion(channels, config.mdief)
    if config.fusion == "attention":
        return AttentionFusion(channels, config.mdief)
    return FixedFusion(config.fusion, config.mdief)
