"""A network as MONAI's bundles hold it: made from plain values, its weights loaded by whoever made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mtinet.config import Config, validate
from mtinet.data.harmonisation import Harmonisation
from mtinet.inference.predictor import Predictor
from mtinet.model.build import build_network
from mtinet.model.network import Readout


class BundleNetwork(nn.Module):
    """A model's network, and the predictor around it.

    Parameters
    ----------
    settings : mapping
        The run's settings in JSON's types.
    classes : sequence of str
    facts : mapping, optional
        What results say about their model.
    harmonisation : mapping, optional
        Of the run, where it has one.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        classes: Sequence[str],
        facts: Mapping[str, Any] | None = None,
        harmonisation: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config = validate(Config, dict(settings))
        self.classes = tuple(classes)
        self.facts = dict(facts or {})
        self.harmonisation = None if harmonisation is None else Harmonisation.from_dict(dict(harmonisation))
        self.network = build_network(self.config, len(self.classes))

    def forward(self, image: Tensor, phase_present: Tensor | None = None) -> Tensor:
        """Mask logits [B, 1, *S] of normalised ``image`` [B, P, *S]; ``phase_present`` [B, P], None = all."""
        return self.network.segment(self.network.encode(image, phase_present))

    def read(
        self,
        image: Tensor,
        regions: Tensor,
        phase_present: Tensor | None = None,
        phase_times_s: Tensor | None = None,
    ) -> Readout:
        """Enhancement and class of lesions, given as ``regions`` [B, R, *S] with weights 0 to 1."""
        return self.network.read(self.network.encode(image, phase_present, phase_times_s), regions)

    def predictor(self) -> Predictor:
        """What predicts whole studies, from files to lesions."""
        return Predictor(self.network, self.config, self.classes, self.facts, self.harmonisation)
