"""Masks: the body, separate lesions, their boxes and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

Box = tuple[slice, ...]


def components(mask: NDArray[Any]) -> NDArray[np.int32]:
    """Number the connected parts of a mask 1..K, from the largest to the smallest.

    Voxels that share a corner belong together.

    Parameters
    ----------
    mask : ndarray
        Non-zero is foreground.

    Returns
    -------
    ndarray of int32, same shape
    """
    numbered, count = ndimage.label(mask != 0, structure=np.ones((3,) * mask.ndim))
    sizes = np.bincount(numbered.ravel(), minlength=count + 1)[1:]
    rank = np.zeros(count + 1, dtype=np.int32)
    rank[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, count + 1)
    return rank[numbered]


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Twice the common voxels over all voxels of two masks of one shape; 1 where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / total if total else 1.0


def bounding_boxes(labels: NDArray[Any]) -> dict[int, Box]:
    """Smallest box around each number of a mask, as slices."""
    found = ndimage.find_objects(labels.astype(np.int32, copy=False))
    return {index + 1: box for index, box in enumerate(found) if box is not None}


def voxel_counts(labels: NDArray[Any]) -> dict[int, int]:
    """Voxels of each number of a mask other than 0."""
    numbers, counts = np.unique(labels, return_counts=True)
    return {int(n): int(c) for n, c in zip(numbers, counts) if n != 0}


def equivalent_diameter_mm(volume_mm3: float) -> float:
    """Diameter of the ball of a volume."""
    return float((6.0 * volume_mm3 / np.pi) ** (1.0 / 3.0))


def body_mask(image: NDArray[Any]) -> NDArray[np.bool_]:
    """The patient against the air: voxels above Otsu's threshold of the square root of the signal.

    The root and a ceiling at the 99th percentile keep bright fat and vessels from drawing the threshold into
    the body.  Scaling the image does not change the mask.

    Parameters
    ----------
    image : ndarray
        Magnitude signal; what is not finite counts as air.

    Returns
    -------
    ndarray of bool, same shape
        Empty for an image without contrast.
    """
    signal = np.sqrt(np.maximum(np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0), 0.0))
    ceiling = float(np.percentile(signal, 99.0))
    if ceiling <= 0.0 or float(signal.min()) >= ceiling:
        return np.zeros(image.shape, dtype=bool)
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.Execute(sitk.GetImageFromArray((np.minimum(signal, ceiling) / ceiling).astype(np.float32)))
    return np.asarray(signal > otsu.GetThreshold() * ceiling)


def number_by_class(
    mask: NDArray[Any], classes: Mapping[int, str]
) -> tuple[NDArray[np.int32], dict[int, str]]:
    """Lesions of a mask whose values are classes: connected parts of a class become separate lesions.

    Two lesions of one class that touch cannot be told apart and become one.

    Parameters
    ----------
    mask : ndarray of int
    classes : mapping of int to str
        Class by value; other values are not lesions.

    Returns
    -------
    numbers : ndarray of int32, same shape
        Lesions 1..K from the largest to the smallest.
    labels : dict
        Class by lesion number.
    """
    parts = np.zeros(mask.shape, dtype=np.int32)
    names: list[str] = []
    for value, name in classes.items():
        found = components(mask == value)
        parts[found > 0] = found[found > 0] + len(names)
        names += [name] * int(found.max(initial=0))
    sizes = np.bincount(parts.ravel(), minlength=len(names) + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    rank = np.zeros(len(names) + 1, dtype=np.int32)
    rank[1 + order] = np.arange(1, len(names) + 1)
    return rank[parts], {number: names[old] for number, old in enumerate(order.tolist(), start=1)}
