"""A trained network and a prepared study: where its lesions are, and what the network reads from each.

All that scoring needs of a run; what a user gets beside it (measurements, certainty, findings) is the
predictor's (:mod:`mtinet.inference.predictor`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtinet.config import Config
from mtinet.data.harmonisation import Harmonisation
from mtinet.data.prepared import PreparedStudy
from mtinet.inference.forward import Reading, Survey, read_lesions, survey
from mtinet.inference.lesions import find_lesions, mask_on_source, numbered_as_written
from mtinet.inference.passes import Passes, TorchPasses
from mtinet.inference.vote import Vote
from mtinet.model.build import build_network
from mtinet.model.network import MultiTaskNetwork
from mtinet.runs import Run
from mtinet.volume import Volume


class Reader:
    """A network with the settings that it was trained with.

    Parameters
    ----------
    network : MultiTaskNetwork
    config : Config
    harmonisation : Harmonisation, optional
        Through which the network learned to see studies.
    passes : Passes, optional
        Who computes the network; torch by default.
    """

    def __init__(
        self,
        network: MultiTaskNetwork,
        config: Config,
        harmonisation: Harmonisation | None = None,
        passes: Passes | None = None,
    ) -> None:
        self.network = network.eval()
        self.passes = passes or TorchPasses(network)
        self.config = config
        self.harmonisation = harmonisation

    @classmethod
    def of_run(cls, run: Run) -> Reader:
        """The network of a finished run, on the GPU where there is one.

        Raises
        ------
        RunError
            The run is not finished.
        """
        network, _ = trained_network(run, "cuda" if torch.cuda.is_available() else "cpu")
        return cls(network, run.config, trained_harmonisation(run))

    def survey(self, study: PreparedStudy) -> Survey:
        """The network's look at the whole study."""
        return survey(self.passes, self.seen(study), self.config)

    def vote(self, study: PreparedStudy) -> Vote:
        """Lesion probability in every voxel, and what the study looks like to the network."""
        return Vote.of([self.survey(study)])

    def outline(
        self, study: PreparedStudy, probability: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], Volume]:
        """Lesion numbers on the prepared grid [Z, Y, X] and on that of the reference phase, largest first."""
        settings = self.config.inference
        labels = find_lesions(probability, study.spacing_mm, settings)
        return numbered_as_written(labels, mask_on_source(study, probability, labels, settings.threshold))

    def read(self, study: PreparedStudy, labels: NDArray[Any]) -> dict[int, Reading]:
        """What the network reads from each lesion of ``labels`` [Z, Y, X], in the study's own signal."""
        readings = read_lesions(self.passes, self.seen(study), labels, self.config)
        if self.harmonisation is None:
            return readings
        signal = self.harmonisation.map_of(study)
        return {
            number: reading
            if reading.enhancement is None
            else replace(reading, enhancement=signal.inverse(reading.enhancement))
            for number, reading in readings.items()
        }

    def seen(self, study: PreparedStudy) -> PreparedStudy:
        """The study as the network learned to see it."""
        return study if self.harmonisation is None else self.harmonisation.apply(study)


def trained_network(run: Run, device: str) -> tuple[MultiTaskNetwork, dict[str, Any]]:
    """The network of a finished run on a device, and the facts that were kept with its weights.

    Raises
    ------
    RunError
        The run is not finished, or its settings and classes are not those of its weights.
    """
    network = build_network(run.config, len(run.classes))
    facts = run.fill(network)
    return network.to(device).eval(), facts


def trained_harmonisation(run: Run) -> Harmonisation | None:
    """The harmonisation through which a run learned to see studies; None where it saw them as they are."""
    if not run.has_document("harmonisation"):
        return None
    return Harmonisation.from_dict(run.document("harmonisation"))
