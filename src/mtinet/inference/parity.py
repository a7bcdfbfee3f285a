"""Does another program compute what torch does?  Measured on studies, as they are predicted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.config import Config
from mtinet.data.prepared import PreparedStudy
from mtinet.imaging.masks import dice
from mtinet.inference.forward import read_lesions, survey
from mtinet.inference.lesions import find_lesions
from mtinet.inference.passes import Passes

LEAST_DICE = 0.999
MOST_APART = 1e-3
"""Of the enhancement, relative to its value."""

_Said = NDArray[np.float64]

_FLOOR = 0.01
"""Normalised signal to which smaller enhancement is compared."""


@dataclass(frozen=True)
class Parity:
    """The largest differences between two ways to compute a network on one study.

    Attributes
    ----------
    study : str
    shape : tuple of int
        Slices, rows and columns of the prepared study.
    lacking : str
        Phase that was hidden; empty = none.
    lesions : int
        Read in both ways: those of the study's mask, or those found.
    probability : float
        Largest absolute difference of the lesion probability in a voxel.
    dice : float
        Of the masks; 1 where both are empty.
    enhancement : float
        Largest difference of a lesion's enhancement, relative to it.
    classes : float
        Largest absolute difference of a class probability.
    """

    study: str
    shape: tuple[int, int, int]
    lacking: str
    lesions: int
    probability: float
    dice: float
    enhancement: float
    classes: float

    @property
    def holds(self) -> bool:
        """Whether masks and enhancement are the same for every use."""
        return self.dice >= LEAST_DICE and self.enhancement <= MOST_APART

    def to_dict(self) -> dict[str, Any]:
        """The differences in JSON's types."""
        return {**asdict(self), "holds": self.holds}


def views(study: PreparedStudy) -> Iterator[tuple[PreparedStudy, str]]:
    """A study whole, in two smaller fields of view, and without its last phase; what lacks is named."""
    for margin in (0, 3, 8):
        yield _seen(study, margin), ""
    if sum(study.present) > 2:
        last = max(index for index, present in enumerate(study.present) if present)
        yield _seen(study, 0, hidden=last), study.phases[last]


def _seen(study: PreparedStudy, margin: int, hidden: int | None = None) -> PreparedStudy:
    """The study in memory without ``margin`` rows and twice as many columns, and without a phase."""
    _, rows, columns = study.image.shape[1:]
    part = (slice(None), slice(margin, rows), slice(0, columns - 2 * margin))
    image = np.array(study.image[(slice(None), *part)])
    present = list(study.present)
    if hidden is not None:
        present[hidden], image[hidden] = False, 0.0
    memory: dict[str, NDArray[Any]] = {"image": image}
    if study.mask is not None:
        memory["mask"] = np.array(study.mask[part])
    return replace(study, memory=memory, folder=None, has_liver=False, present=tuple(present))


def compare(torch_passes: Passes, other: Passes, study: PreparedStudy, config: Config) -> list[Parity]:
    """Both ways on every view of a study."""
    return [_compared(torch_passes, other, seen, lacking, config) for seen, lacking in views(study)]


def _compared(one: Passes, other: Passes, study: PreparedStudy, lacking: str, config: Config) -> Parity:
    maps = [survey(passes, study, config).probability for passes in (one, other)]
    labels = find_lesions(maps[0], study.spacing_mm, config.inference) if study.mask is None else study.mask
    first, second = (read_lesions(passes, study, np.asarray(labels), config) for passes in (one, other))
    pairs = [(first[number], second[number]) for number in first]
    return Parity(
        study=study.study_id,
        shape=tuple(study.image.shape[1:]),
        lacking=lacking,
        probability=float(np.abs(maps[0] - maps[1]).max()),
        lesions=len(pairs),
        dice=dice(*(found >= config.inference.threshold for found in maps)),
        enhancement=_largest(
            np.abs(a - b) / np.maximum(np.abs(a), _FLOOR)
            for a, b in _said((x.enhancement, y.enhancement) for x, y in pairs)
        ),
        classes=_largest(
            np.abs(a - b) for a, b in _said((x.probabilities, y.probabilities) for x, y in pairs)
        ),
    )


def _said(pairs: Iterable[tuple[_Said | None, _Said | None]]) -> Iterator[tuple[_Said, _Said]]:
    """The pairs of what the network learned to say."""
    return ((a, b) for a, b in pairs if a is not None and b is not None)


def _largest(arrays: Iterable[NDArray[np.float64]]) -> float:
    return max((float(np.nanmax(array)) for array in arrays), default=0.0)
