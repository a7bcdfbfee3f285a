"""Masks of other formats as numbered lesions; a mask that need not change stays where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtinet.cohort import MAX_LESIONS
from mtinet.imaging.masks import components, number_by_class, voxel_counts
from mtinet.volume import SNAP_VOXELS, Volume, VolumeError, read_nifti


@dataclass(frozen=True)
class NumberedMask:
    """A mask of lesions 1..K.

    Attributes
    ----------
    path : Path
        The source, or the file that was written.
    labels : dict
        Class by lesion number, where it is known.
    sizes : dict
        Voxels by lesion number; empty = the mask is empty, or could not be read (screening says so).
    rewritten : bool
    """

    path: Path
    labels: dict[int, str] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    rewritten: bool = False
    readable: bool = True


def numbered(path: Path, target: Path) -> NumberedMask:
    """A mask with one value has its connected parts numbered; one with several numbers keeps them.

    Parameters
    ----------
    path : Path
    target : Path
        Where a mask that changes is written.
    """
    try:
        mask = read_nifti(path, labels=True)
    except VolumeError:
        return NumberedMask(path, readable=False)
    sizes = voxel_counts(mask.array)
    if len(sizes) != 1:
        return NumberedMask(path, sizes=sizes)
    parts = components(mask.array)
    numbers = voxel_counts(parts)
    if numbers == sizes or len(numbers) > MAX_LESIONS:
        return NumberedMask(path, sizes=sizes)
    mask.with_array(parts.astype(np.uint8)).write_nifti(target)
    return NumberedMask(target, sizes=numbers, rewritten=True)


def from_classes(path: Path, target: Path, classes: Mapping[int, str]) -> NumberedMask:
    """Lesions of a mask whose values are classes (an empty name = a lesion of unknown class).

    Parameters
    ----------
    path : Path
    target : Path
        Where the numbered mask is written.
    classes : mapping of int to str
        Class by value; other values are no lesions.
    """
    try:
        mask = read_nifti(path, labels=True)
    except VolumeError:
        return NumberedMask(path, readable=False)
    numbers, names = number_by_class(mask.array, classes)
    sizes = voxel_counts(numbers)
    labels = {number: name for number, name in names.items() if name}
    if np.array_equal(numbers, mask.array):
        return NumberedMask(path, labels, sizes)
    kind = np.uint8 if len(names) <= MAX_LESIONS else np.int32
    mask.with_array(numbers.astype(kind)).write_nifti(target)
    return NumberedMask(target, labels, sizes, rewritten=True)


def region(path: Path, target: Path, values: tuple[int, ...]) -> Path | None:
    """A mask of 0 and 1 of the given values, written to ``target``; None when there is no such voxel."""
    try:
        mask = read_nifti(path, labels=True)
    except VolumeError:
        return None
    inside = np.isin(mask.array, values)
    if not inside.any():
        return None
    mask.with_array(inside).write_nifti(target)
    return target


def merged(paths: list[Path], target: Path) -> NumberedMask:
    """One file a lesion, as lesions 1..K of one mask; a file that does not fit the first is unreadable."""
    if len(paths) == 1:
        return numbered(paths[0], target)
    try:
        masks = [read_nifti(path, labels=True) for path in paths]
    except VolumeError:
        return NumberedMask(paths[0], readable=False)
    whole = np.zeros(masks[0].shape, dtype=np.uint8)
    for number, mask in enumerate(masks, start=1):
        if not masks[0].corner_distance_mm(mask) < SNAP_VOXELS * min(mask.spacing_mm):
            return NumberedMask(paths[number - 1], readable=False)
        whole[mask.array > 0] = number
    Volume(whole, masks[0].affine).write_nifti(target)
    return NumberedMask(target, sizes=voxel_counts(whole), rewritten=True)


def dominant_label(mask: NumberedMask) -> str:
    """Class of the largest lesion; empty where it is not known."""
    if not mask.sizes:
        return ""
    largest = min(mask.sizes, key=lambda number: (-mask.sizes[number], number))
    return mask.labels.get(largest, "")
