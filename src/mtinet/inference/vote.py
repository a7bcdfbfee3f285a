"""What several networks (or one, looked at several ways) say about every voxel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtinet.inference.forward import Survey


@dataclass(frozen=True)
class Vote:
    """Mean and spread of lesion probability maps.

    Attributes
    ----------
    probability : ndarray of float32, shape (Z, Y, X)
        Mean over the members.
    description : ndarray of float64, shape (G, F)
        What the study looks like to the first member (:class:`~mtinet.inference.forward.Survey`).
    information : ndarray of float32, shape (Z, Y, X), or None
        Mutual information between mask and member in bits: entropy of the mean less mean of the entropies
        (Houlsby et al., arXiv 1112.5745).  What the members disagree about; None for a single one.
    """

    probability: NDArray[np.float32]
    description: NDArray[np.float64]
    information: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, surveys: Iterable[Survey]) -> Vote:
        """The vote of at least one member; a single one's map is kept as it is."""
        members = iter(surveys)
        first = next(members, None)
        if first is None:
            raise ValueError("a vote needs at least one map")
        total, entropies, count = first.probability.copy(), None, 1
        for member in members:
            # the first one's only now: it would be work for nothing where it stays the only one
            entropies = binary_entropy(total) if entropies is None else entropies
            total += member.probability
            entropies += binary_entropy(member.probability)
            count += 1
        if entropies is None:
            return cls(total, first.description)
        mean = total / np.float32(count)
        disagreement = np.maximum(binary_entropy(mean) - entropies / np.float32(count), 0.0)
        return cls(mean, first.description, disagreement)

    @property
    def entropy(self) -> NDArray[np.float32]:
        """Predictive entropy of every voxel in bits, 0 to 1."""
        return binary_entropy(self.probability)


def binary_entropy(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Entropy in bits of an event of that probability; 0 at 0 and 1."""
    p = np.clip(probability.astype(np.float64), 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.nan_to_num(bits).astype(np.float32)
