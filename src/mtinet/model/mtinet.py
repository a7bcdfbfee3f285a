"""MTI-Net, assembled: encoder, MdIEF, decoder and head, as in the figure of arXiv 2511.20793.

    x_p --E_p--> F_p --MdIEF--> fused_p --+--> concatenate --> decoder ------> mask
                                          |                                     |  TIM
                                          +--> token_p --> Transformer --+--> enhancement --+
                                                                         +--> class --------+-- TDD

The task interaction TIM (:mod:`~mtinet.model.tim`) and the discriminator TDD (:mod:`~mtinet.model.tdd`) act
in training, through the objective.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mtinet.config import Config
from mtinet.model.decoder import Decoder
from mtinet.model.encoder import PhaseEncoder
from mtinet.model.fusion import build_fusion
from mtinet.model.heads import PhaseHead, phase_tokens
from mtinet.model.network import Features, MultiTaskNetwork, Readout, start_at_zero
from mtinet.model.presence import shown


class MTINet(MultiTaskNetwork):
    """Segments, regresses dynamic enhancement and classifies, from P phases.

    Parameters
    ----------
    config : Config
    n_classes : int
    """

    interacts = True

    def __init__(self, config: Config, n_classes: int) -> None:
        super().__init__(config)
        dims, phases, skips = config.spatial_dims, len(config.phases), config.decoder.skips
        channels = config.encoder.channels
        levels = (*channels, channels[-1])  # the last block's map, before and after its pooling

        pre = config.phases.index("pre") if config.encoder.subtraction else None
        self.encoder = PhaseEncoder(dims, phases, config.encoder, keep_fine=skips != "none", pre=pre)
        fused = levels if skips == "fused" else levels[-1:]
        self.fusions = nn.ModuleList(build_fusion(config, width) for width in fused)
        self.decoder = Decoder(
            dims, phases, channels, config.decoder, config.encoder.norm, config.encoder.stem
        )
        self.head_levels = len(levels) if config.head.levels == "all" else 1
        self.head = PhaseHead(sum(levels[-self.head_levels :]), config.phases, n_classes, config.head)
        if config.head.readout == "residual":
            start_at_zero(self.head.enhancement)

    def encode(
        self, image: Tensor, phase_present: Tensor | None = None, phase_times_s: Tensor | None = None
    ) -> Features:
        """F_p of every level, each fused with its high-frequency part (unfused skips stay as they are)."""
        maps = self.encoder(image, phase_present)
        raw, deep = maps[: len(maps) - len(self.fusions)], maps[len(maps) - len(self.fusions) :]
        fused, weights = zip(*(fuse(found, phase_present) for fuse, found in zip(self.fusions, deep)))
        if phase_present is None:
            phase_present = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
        return Features(
            maps=(*raw, *fused),
            spatial_shape=tuple(image.shape[2:]),
            phase_present=phase_present,
            phase_times_s=phase_times_s,
            domain_weights=tuple(w.detach() for w in weights if w is not None),
            image=shown(image, phase_present) if self.config.head.readout == "residual" else None,
        )

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The encoder's."""
        return self.encoder.parameters()

    def segment(self, features: Features) -> Tensor:
        """Mask logits [B, 1, *S] from the fused maps of all phases."""
        return self.decoder(features.maps, features.spatial_shape)

    def describe(self, features: Features) -> Tensor:
        """Means over space of every phase's finest and deepest map, [B, P, F]."""
        chosen = features.maps[:1] + features.maps[-1:] if len(features.maps) > 1 else features.maps
        return torch.cat([found.float().flatten(3).mean(-1) for found in chosen], dim=-1)

    def read_regions(self, features: Features, regions: Tensor | None) -> Readout:
        """A token a phase from the fused maps under each region, through the head."""
        tokens = phase_tokens(features.maps[-self.head_levels :], regions)
        readout: Readout = self.head(tokens, features.phase_present, features.phase_times_s)
        return readout._replace(enhancement=self.as_signal(readout.enhancement, features, regions))
