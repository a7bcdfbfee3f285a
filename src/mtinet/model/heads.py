"""The head: one token a phase, a shallow Transformer, enhancement from each token, class from their mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtinet.config import HeadSettings, Phase
from mtinet.model.network import Readout, pool_regions
from mtinet.model.transformer import PhaseEncoding, PhaseTransformer, masked_mean


def phase_tokens(maps: tuple[Tensor, ...], regions: Tensor | None) -> Tensor:
    """Token [B, R, P, F] of each region and phase: means of ``maps`` [B, P, C, *s] of one or more levels."""
    each = [torch.unflatten(pool_regions(m.flatten(1, 2), regions), 2, m.shape[1:3]) for m in maps]
    return torch.cat(each, dim=-1)


class PhaseHead(nn.Module):
    """Reads enhancement and class from phase tokens.

    Without positional encoding, permuting the phases permutes the enhancement and leaves the class as it is;
    with one, neither holds.

    Parameters
    ----------
    features : int
        Length of a token as it comes in.
    phases : tuple of Phase
    n_classes : int
    settings : HeadSettings
    """

    def __init__(
        self, features: int, phases: tuple[Phase, ...], n_classes: int, settings: HeadSettings
    ) -> None:
        super().__init__()
        self.project = nn.Linear(features, settings.width)
        self.encoding = PhaseEncoding(settings.position, phases, settings.width)
        self.transformer = PhaseTransformer(settings.width, settings.depth, settings.heads, settings.dropout)
        self.enhancement = nn.Linear(settings.width, 1)
        self.classes = nn.Linear(settings.width, n_classes)

    def forward(self, tokens: Tensor, phase_present: Tensor, phase_times_s: Tensor | None = None) -> Readout:
        """Read ``tokens`` [B, R, P, features]; ``phase_present`` and ``phase_times_s`` are [B, P].

        The enhancement that comes back is standardised.
        """
        batch, regions = tokens.shape[:2]
        encoded = self.encoding(self.project(tokens), phase_times_s).flatten(0, 1)
        present = phase_present.unsqueeze(1).expand(-1, regions, -1).flatten(0, 1)
        encoded, attention = self.transformer(encoded, present)
        return Readout(
            self.enhancement(encoded).squeeze(-1).unflatten(0, (batch, regions)),
            self.classes(masked_mean(encoded, present)).float().unflatten(0, (batch, regions)),
            None if attention is None else attention.detach().unflatten(0, (batch, regions)),
        )
