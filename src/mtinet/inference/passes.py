"""What inference asks of a network, whoever computes it: two passes over a batch.

:class:`TorchPasses` is the network itself; :mod:`mtinet.inference.graphs` has the same passes exported, for other
programs to compute.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mtinet.model.network import Features, MultiTaskNetwork


class Batch(NamedTuple):
    """Images on the CPU, and what is known about them.

    Attributes
    ----------
    image : Tensor [B, P, *S], float32
        Normalised signal; what stands at absent phases is never looked at.
    present : Tensor [B, P], bool
    times_s : Tensor [B, P], float32
        Seconds from the start of injection, NaN where unknown.
    """

    image: Tensor
    present: Tensor
    times_s: Tensor


class Segmented(NamedTuple):
    """What is seen everywhere.

    Attributes
    ----------
    mask_logits : Tensor [B, 1, *S]
    description : Tensor [B, G, F]
        What the images look like to the network (:meth:`MultiTaskNetwork.describe`).
    """

    mask_logits: Tensor
    description: Tensor


class RegionValues(NamedTuple):
    """What is read from regions.

    Attributes
    ----------
    enhancement : Tensor [B, R, P]
        Normalised signal.
    class_logits : Tensor [B, R, C]
    attention : Tensor [B, R, P] or None
        Share of each phase in the class read-out.
    fusion : Tensor [B, P] or None
        Weight of the high-frequency map in the deepest fusion, channels by their mean magnitude.
    """

    enhancement: Tensor
    class_logits: Tensor
    attention: Tensor | None
    fusion: Tensor | None


class Passes(Protocol):
    """Forward passes over a batch."""

    @property
    def images(self) -> int:
        """Number of images in a batch, from one study, that is computed fastest."""
        ...

    def segment(self, batch: Batch) -> Segmented:
        """Mask and description of the whole images."""
        ...

    def read(self, batch: Batch, regions: Tensor) -> RegionValues:
        """Enhancement and class of ``regions`` [B, R, *S], weights 0 to 1."""
        ...


class TorchPasses:
    """The passes of a network, by torch, where the network is."""

    def __init__(self, network: MultiTaskNetwork) -> None:
        self.network = network.eval()

    @property
    def images(self) -> int:
        """See :class:`Passes`: on a CPU the maps of few images stay in the cache, a GPU wants to be filled."""
        return 2 if self.network.enhancement_mean.device.type == "cpu" else 16

    def segment(self, batch: Batch) -> Segmented:
        """See :class:`Passes`."""
        features = self._encode(batch)
        return Segmented(self.network.segment(features), self.network.describe(features))

    def read(self, batch: Batch, regions: Tensor) -> RegionValues:
        """See :class:`Passes`."""
        features = self._encode(batch)
        return region_values(self.network, features, regions.to(features.phase_present.device))

    def _encode(self, batch: Batch) -> Features:
        device = self.network.enhancement_mean.device
        return self.network.encode(*(part.to(device) for part in batch))


def region_values(network: MultiTaskNetwork, features: Features, regions: Tensor) -> RegionValues:
    """What a network reads from regions of an encoded batch."""
    readout = network.read(features, regions)
    return RegionValues(*readout, _fusion_weight(features))


def _fusion_weight(features: Features) -> Tensor | None:
    """Weight [B, P] of the high-frequency map in the deepest fusion, channels by their mean magnitude."""
    if not features.domain_weights:
        return None
    magnitude = features.maps[-1].abs().flatten(3).mean(3)
    weight = (features.domain_weights[-1][..., 1] * magnitude).sum(2)
    return weight / magnitude.sum(2).clamp_min(1e-12)


def batch_of(image: Tensor, present: tuple[bool, ...], times_s: tuple[float, ...]) -> Batch:
    """A batch whose images [B, P, *S] are all of one study."""
    count = image.shape[0]
    return Batch(
        image.float(),
        torch.tensor(present).expand(count, -1),
        torch.tensor(times_s, dtype=torch.float32).expand(count, -1),
    )
