"""What several networks (or one, looked at several ways) say about every voxel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Vote:
    """Mean and spread of lesion probability maps.

    Attributes
    ----------
    probability : ndarray of float32, shape (Z, Y, X)
        Mean over the members.
    information : ndarray of float32, shape (Z, Y, X), or None
        Mutual information between mask and member in bits: entropy of the mean less mean of the entropies
        (Houlsby et al., arXiv 1112.5745).  What the members disagree about; None for a single one.
    """

    probability: NDArray[np.float32]
    information: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, maps: Iterable[NDArray[np.float32]]) -> Vote:
        """The vote of at least one member; a single one's map is kept as it is."""
        total, entropies, count = None, None, 0
        for found in maps:
            if total is None or entropies is None:
                total, entropies = found.copy(), binary_entropy(found)
            else:
                total += found
                entropies += binary_entropy(found)
            count += 1
        if total is None or entropies is None:
            raise ValueError("a vote needs at least one map")
        if count == 1:
            return cls(total)
        mean = total / np.float32(count)
        return cls(mean, np.maximum(binary_entropy(mean) - entropies / np.float32(count), 0.0))

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
