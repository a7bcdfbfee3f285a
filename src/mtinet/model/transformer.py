"""A small Transformer over the phase sequence, shared by the head and the discriminator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtinet.config import Phase
from mtinet.model.dropout import FeatureDropout

NOMINAL_TIME_S: dict[Phase, float] = {
    "pre": 0.0,
    "arterial": 20.0,
    "arterial_late": 35.0,
    "portal_venous": 65.0,
    "transitional": 120.0,
    "delayed": 180.0,
    "hepatobiliary": 1200.0,
}
"""Usual seconds from injection, for phases whose time a study does not know."""


def sinusoid(position: Tensor, width: int) -> Tensor:
    """Sines and cosines [..., width] of positions (Vaswani et al. 2017)."""
    half = (width + 1) // 2
    rate = torch.exp(-math.log(1e4) / half * torch.arange(half, device=position.device))
    angle = position.unsqueeze(-1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[..., :width]


class PhaseEncoding(nn.Module):
    """Positional encoding of phases: none, learned, sinusoidal in the index, or in the time since injection.

    Time enters as log(1 + t / 10 s): a few seconds matter in the arterial phase and not in the delayed one.
    """

    nominal_s: Tensor

    def __init__(self, kind: str, phases: tuple[Phase, ...], width: int) -> None:
        super().__init__()
        self.kind, self.width = kind, width
        if kind == "learned":
            self.table = nn.Parameter(0.5 * torch.randn(len(phases), width))
        nominal = torch.tensor([NOMINAL_TIME_S[phase] for phase in phases])
        self.register_buffer("nominal_s", nominal, persistent=False)

    def forward(self, tokens: Tensor, phase_times_s: Tensor | None) -> Tensor:
        """``tokens`` [B, R, P, width] with the encoding of each phase added; times [B, P], NaN if unknown."""
        if self.kind == "none":
            return tokens
        if self.kind == "learned":
            return tokens + self.table
        if self.kind == "sinusoidal":
            index = torch.arange(tokens.shape[-2], device=tokens.device)
            return tokens + sinusoid(index, self.width)
        times = self.nominal_s.expand(tokens.shape[0], -1)
        if phase_times_s is not None:
            times = torch.where(torch.isfinite(phase_times_s), phase_times_s.to(times.dtype), times)
        position = torch.log1p(times.clamp_min(0.0) / 10.0)
        return tokens + sinusoid(position, self.width).unsqueeze(1)


class _Block(nn.Module):
    """Pre-norm self-attention and feed-forward.

    Attention is written out: sequences are a handful of phases, the weights go into the report, and the
    gradient penalty needs a second derivative, which fused kernels lack.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.drop_mixed = FeatureDropout(dropout, width)
        self.drop_forward = FeatureDropout(dropout, width)
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm_forward = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, present: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return tokens [N, P, width] and attention [N, P of queries, P of keys], mean of the heads."""
        parts = self.query_key_value(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        score = (query @ key.transpose(-1, -2)).float() / math.sqrt(query.shape[-1])
        # the lowest number, not -inf: a row without any phase must stay finite
        hidden = ~present[:, None, None, :]
        attention = score.masked_fill(hidden, torch.finfo(score.dtype).min).softmax(-1)
        mixed = (attention.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        x = x + self.drop_mixed(self.output(mixed), generator)
        wide = F.gelu(self.widen(self.norm_forward(x)))
        return x + self.drop_forward(self.narrow(wide), generator), attention.mean(1)


class PhaseTransformer(nn.Module):
    """``depth`` blocks over the phases; absent phases are no keys."""

    def __init__(self, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, present: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Transform ``tokens`` [N, P, width] of which ``present`` [N, P] count.

        Returns
        -------
        tokens : Tensor [N, P, width]
        attention : Tensor [N, P] or None
            Share of each phase in the last block's output, mean over present phases; None without blocks.
        """
        attention = None
        for block in self.blocks:
            tokens, attention = block(tokens, present, generator)
        shares = None if attention is None else masked_mean(attention, present)
        return self.norm(tokens), shares


def masked_mean(tokens: Tensor, present: Tensor) -> Tensor:
    """Mean [N, F] of ``tokens`` [N, P, F] over the phases in ``present`` [N, P]; zero if there are none."""
    weight = present.to(tokens.dtype).unsqueeze(-1)
    return (tokens * weight).sum(1) / weight.sum(1).clamp_min(1.0)
