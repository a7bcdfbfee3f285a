"""How large a lesion is and where it lies: volume, longest axial diameter, part of the liver."""

from __future__ import annotations

from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from mtinet.imaging.masks import Box, bounding_boxes
from mtinet.results import Measurement
from mtinet.volume import Volume

_SIDES = ((0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5))
_LEVELS = ("lower third", "middle third", "upper third")


def longest_axial_diameter_mm(mask: Volume, number: int, box: Box) -> float:
    """Longest distance across a lesion within a slice, of all slices.

    Slices are those across the grid's axis that runs closest to the body's.  The outline of a slice is the
    convex hull of the middles of its voxels' sides: a disc comes out at most a voxel off, by half a voxel too
    large on average.

    Parameters
    ----------
    mask : Volume
        Lesion numbers.
    number : int
    box : tuple of slice
        Smallest box around the lesion.
    """
    along_body = int(np.argmax(io_orientation(mask.affine)[:, 0] == 2))
    inside = np.moveaxis(mask.array[box] == number, along_body, 0)
    in_plane = np.delete(mask.affine[:3, :3], along_body, axis=1)
    return max((_across_mm(part, in_plane) for part in inside if part.any()), default=0.0)


def _across_mm(part: NDArray[np.bool_], axes_mm: NDArray[np.float64]) -> float:
    """Longest distance across a slice; ``axes_mm`` [3, 2] holds its two steps in the world."""
    voxels = np.argwhere(part).astype(np.float64)
    sides = (voxels[:, None, :] + np.array(_SIDES)).reshape(-1, 2)
    corners = sides[ConvexHull(sides).vertices]
    return float(pdist(corners @ axes_mm.T).max())


def size_of(mask: Volume, number: int, box: Box) -> list[Measurement]:
    """Volume and longest axial diameter of a lesion."""
    volume = np.count_nonzero(mask.array[box] == number) * mask.voxel_mm3
    diameter = longest_axial_diameter_mm(mask, number, box)
    return [
        Measurement("volume", volume / 1000.0, "mL"),
        Measurement("longest_axial_diameter", diameter, "mm"),
    ]


def extent_of(liver: NDArray[np.bool_] | None) -> Box | None:
    """Smallest box around the liver; None where it is not known or empty."""
    return None if liver is None else bounding_boxes(liver).get(1)


def place_of(liver: Box | None, labels: NDArray[Any], number: int, box: Box) -> list[Measurement]:
    """In which half and third of the liver's own extent a lesion lies; neither is a lobe or a segment.

    Parameters
    ----------
    liver : tuple of slice, or None
        Its extent along z, y, x (:func:`extent_of`), axes closest to S, A, R.
    labels : ndarray of int, shape (Z, Y, X)
    number : int
    box : tuple of slice
        Smallest box around the lesion.
    """
    names = ("half_of_liver", "third_of_liver")
    if liver is None:
        reason = "the liver is not known: no liver mask was given"
        return [Measurement(name, finding="not assessable", reason=reason) for name in names]
    inside = np.nonzero(labels[box] == number)
    z, _, x = (float(found.mean()) + side.start for found, side in zip(inside, box))
    along, _, across = liver
    half = "right half" if x >= 0.5 * (across.start + across.stop - 1) else "left half"
    level = int(np.clip(3 * (z - along.start + 0.5) / (along.stop - along.start), 0, 2))
    reason = "of the liver's extent in the images; not a lobe or a segment"
    return [
        Measurement(name, finding=found, reason=reason) for name, found in zip(names, (half, _LEVELS[level]))
    ]
