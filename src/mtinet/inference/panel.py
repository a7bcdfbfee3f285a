"""Several opinions on one study: networks of other seeds or folds, thinned networks, mirrored images.

- *Networks*: runs with the same phases, classes and preparation.  Networks of other folds have each seen most
  of the others' held-out patients: they may only be asked about new ones, which the callers check.
- *Thinned networks* (Monte-Carlo dropout): a mask a sample, held over all slices and phases
  (:mod:`mtinet.model.dropout`).  The masks are the same for every study, so a study's result does not depend
  on which others were predicted.  Only layers that drop something in training can be thinned: with
  ``decoder.dropout = 0`` the outline does not vary, with ``head.dropout = 0`` curve and class do not.
- *Mirrored images*: left and right exchanged, and the answer mirrored back.  A mirrored liver lies where no
  patient's does: without ``augmentation.flip`` in training it is something that the network never saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError
from mtinet.inference.forward import Reading, Survey
from mtinet.inference.reader import Reader
from mtinet.inference.vote import Vote
from mtinet.model.dropout import dropout_layers, held_dropout

STREAM_MASKS = 71
"""Random stream of the held masks."""


@dataclass(frozen=True)
class Opinions:
    """Who is asked beside the first network.

    Attributes
    ----------
    flips : bool
        Ask about the mirrored study too.
    dropout : int
        Thinned networks a network; 0 = none, and the whole network is asked.
    """

    flips: bool = False
    dropout: int = 0


ALONE = Opinions()
"""Only the network itself."""


class Panel(Reader):
    """Readers who look at a study together; one opinion is the network itself.

    Parameters
    ----------
    members : sequence of Reader
        Of networks with the same phases, classes and preparation; lesions are outlined as the first one's
        settings say.
    opinions : Opinions
    """

    def __init__(self, members: Sequence[Reader], opinions: Opinions = ALONE) -> None:
        first = members[0]
        super().__init__(first.network, first.config, first.harmonisation, first.passes)
        if opinions.dropout and not all(dropout_layers(member.network) for member in members):
            raise UserError(
                "the network was trained without dropout, so there is nothing to thin; train it with "
                "--set decoder.dropout=0.1 --set head.dropout=0.1, or leave --dropout out"
            )
        self.members = tuple(members)
        self.opinions = opinions

    def vote(self, study: PreparedStudy) -> Vote:
        """Mean and spread of the members' lesion probability; what the study looks like to the first."""
        return Vote.of(self._surveys(study))

    def read(self, study: PreparedStudy, labels: NDArray[Any]) -> dict[int, Reading]:
        """Means of what the members read from the same lesions."""
        mirrored = np.ascontiguousarray(labels[..., ::-1])
        found = [
            member.read(shown, mirrored if flipped else labels)
            for member, shown, flipped in self._opinions(study)
        ]
        return {number: _mean([readings[number] for readings in found]) for number in found[0]}

    def _surveys(self, study: PreparedStudy) -> Iterator[Survey]:
        for member, shown, flipped in self._opinions(study):
            found = member.survey(shown)
            yield found.mirrored() if flipped else found

    def _opinions(self, study: PreparedStudy) -> Iterator[tuple[Reader, PreparedStudy, bool]]:
        """Member, study and whether it is mirrored; masks are held while the caller works."""
        for member in self.members:
            for sample in range(max(1, self.opinions.dropout)):
                thinned = self.opinions.dropout > 0
                with held_dropout(member.network, _generator(sample)) if thinned else nullcontext():
                    yield member, study, False
                    if self.opinions.flips:
                        yield member, mirrored_study(study), True


def mirrored_study(study: PreparedStudy) -> PreparedStudy:
    """The study in memory with left and right exchanged; only what networks look at is kept."""
    image = np.ascontiguousarray(study.image[..., ::-1])
    return replace(
        study, memory={"image": image}, folder=None, has_mask=False, has_liver=False, registrations={}
    )


def _mean(readings: Sequence[Reading]) -> Reading:
    def mean(name: str) -> Any:
        values = [getattr(reading, name) for reading in readings]
        return None if any(v is None for v in values) else np.mean(values, axis=0)

    return Reading(mean("enhancement"), mean("probabilities"), mean("attention"), mean("fusion"))


def _generator(sample: int) -> torch.Generator:
    seed = np.random.default_rng([0, STREAM_MASKS, sample]).integers(2**31)
    return torch.Generator().manual_seed(int(seed))
