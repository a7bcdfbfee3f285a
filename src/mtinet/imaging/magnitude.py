"""Whether an image holds magnitudes, as scanners store them."""

from __future__ import annotations

import numpy as np

from mtinet.volume import Volume

BELOW_ZERO = 0.05
"""Share of voxels below zero from which an image is no magnitude; interpolation leaves fewer."""

NO_MAGNITUDE = (
    "they were normalised or subtracted, and are no magnitudes; signal, enhancement and what follows from them mean "
    "little"
)
"""What :data:`BELOW_ZERO` says of images."""

_CLEARLY = 0.01
"""A voxel is below zero where it is so by more than this share of the brightest."""


def share_below_zero(volume: Volume) -> float:
    """Share of the voxels that are clearly below zero; magnitudes have none."""
    array = np.asarray(volume.array)
    lowest, highest = float(array.min(initial=0.0)), float(array.max(initial=0.0))
    limit = -_CLEARLY * max(-lowest, highest)
    return float(np.count_nonzero(array < limit)) / max(1, array.size)
