"""How a phase lies against the reference: a rigid motion and what is left of a deformation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mtinet.imaging.deformation import Deformation, Index
from mtinet.imaging.resampling import resample, resample_labels
from mtinet.volume import Volume


@dataclass(frozen=True, eq=False)
class Motion:
    """From the reference's world to a phase's: ``x`` is seen at ``inverse(matrix) @ (x + u(x))``.

    Attributes
    ----------
    matrix : ndarray, shape (4, 4)
        World of the phase to world of the reference (RAS, mm), rigid.
    deformation : Deformation or None
        ``u``, of the reference's world.
    """

    matrix: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    deformation: Deformation | None = None

    def image(self, volume: Volume, shape: Index, affine: NDArray[np.float64], fill: float = 0.0) -> Volume:
        """An image of the phase on a grid in the reference's world, interpolated once.

        The grid's axes are those of the reference, in any order and direction.
        """
        return resample(self._moved(volume), shape, affine, fill=fill, deformation=self.deformation)

    def labels(self, volume: Volume, shape: Index, affine: NDArray[np.float64]) -> Volume:
        """A mask drawn on the phase, likewise; every label inside the grid survives."""
        return resample_labels(self._moved(volume), shape, affine, deformation=self.deformation)

    def _moved(self, volume: Volume) -> Volume:
        return Volume(volume.array, self.matrix @ volume.affine)
