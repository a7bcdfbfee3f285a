"""Dropout of features that can be held: one mask for a whole study, for Monte-Carlo dropout.

Drawn anew at every call, as in training, dropout would give neighbouring slices and phases different networks
and the spread between samples would be noise that averages out over a lesion.  Held, a mask is one network
thinned in one way, which then reads every slice, window and phase of the study (Gal and Ghahramani,
arXiv 1506.02142: a sample is a draw of the weights, not of a pixel).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureDropout(nn.Module):
    """Drops entries of tokens, or whole channels of maps.

    Parameters
    ----------
    rate : float
        Probability that a feature is dropped.
    features : int
    maps : bool
        Inputs are [N, features, *s] and whole channels are dropped (Tompson et al., arXiv 1411.4280); else
        they are [..., features].
    """

    held: Tensor | None
    """Factor by feature while a mask is held (:func:`held_dropout`); it counts in evaluation too."""

    def __init__(self, rate: float, features: int, *, maps: bool = False) -> None:
        super().__init__()
        self.rate, self.features, self.maps = rate, features, maps
        self.held = None

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``x`` with features dropped and the others scaled up; unchanged in evaluation without a held mask."""
        if self.held is not None:
            held = self.held.to(x)
            return x * (held.view(-1, *[1] * (x.ndim - 2)) if self.maps else held)
        if not self.training or self.rate == 0:
            return x
        if self.maps:
            return torch.feature_dropout(x, self.rate, True)
        if generator is None:
            return F.dropout(x, self.rate, training=True)
        keep = torch.rand(x.shape, generator=generator, device=x.device) >= self.rate
        return x * keep / (1 - self.rate)


def dropout_layers(network: nn.Module) -> list[FeatureDropout]:
    """The layers of a network that drop something."""
    return [m for m in network.modules() if isinstance(m, FeatureDropout) and m.rate > 0]


@contextmanager
def held_dropout(network: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Draw one mask for every dropout layer and hold them until the end of the block."""
    layers = dropout_layers(network)
    for layer in layers:
        keep = (torch.rand(layer.features, generator=generator) >= layer.rate).float()
        layer.held = keep / max(1 - layer.rate, 1e-6)
    try:
        yield
    finally:
        for layer in layers:
            layer.held = None
