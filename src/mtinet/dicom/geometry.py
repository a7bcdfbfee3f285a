"""Where the voxels of a stack of images lie, and whether the stack is whole.

DICOM's world runs to the left, posterior, superior (LPS); mtinet's to the right, anterior, superior (RAS).
Formulas: DICOM PS3.3, C.7.6.2.1.1 (Equation C.7.6.2.1-1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtinet.dicom.headers import Image
from mtinet.volume import LPS

SAME_PLACE_MM = 0.05
"""Images nearer than this along the normal lie at the same place."""
UNEQUAL = 0.03
"""Slices may be off an even grid by this share of their distance (or by SAME_PLACE_MM, if that is more)."""
SHEAR_MM = 0.1
"""A slice may be off the line of the others by this much within its plane."""
SAME_DIRECTION = 1e-3
"""Direction cosines that differ by less run the same way."""

_RAS = LPS[:3, :3]


class StackError(ValueError):
    """The images are no whole stack; ``id`` names the finding, ``repair`` what to do."""

    def __init__(self, id: str, why: str, repair: str) -> None:
        super().__init__(why)
        self.id, self.repair = id, repair


@dataclass(frozen=True)
class Axes:
    """Unit vectors in LPS: along a row (columns rising), along a column (rows rising), and their normal."""

    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]


def axes(image: Image) -> Axes | None:
    """The axes of an image; None where they are missing or are no right angle."""
    if image.orientation is None or image.position is None:
        return None
    row, column = np.array(image.orientation[:3]), np.array(image.orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not all(0.9 < length < 1.1 for length in lengths):
        return None
    row, column = row / lengths[0], column / lengths[1]
    if abs(row @ column) > 0.01:
        return None
    normal = np.cross(row, column)
    return Axes(row, column, normal / np.linalg.norm(normal))


def places_mm(images: Sequence[Image], along: Axes) -> NDArray[np.float64]:
    """Position of each image along the normal, mm."""
    return np.array([image.position for image in images], dtype=np.float64) @ along.normal


def slots(places: NDArray[np.float64]) -> NDArray[np.int64]:
    """The same number for the images at one place, rising along the normal."""
    order = np.argsort(places, kind="stable")
    steps = np.diff(places[order]) > SAME_PLACE_MM
    numbers = np.empty(len(places), dtype=np.int64)
    numbers[order] = np.concatenate([[0], np.cumsum(steps)])
    return numbers


def is_whole(places: NDArray[np.float64]) -> bool:
    """The places, in any order, are distinct and evenly spaced."""
    gaps = np.diff(np.sort(places))
    if not len(gaps):
        return True
    step = float(np.median(gaps))
    if step <= SAME_PLACE_MM:
        return False
    even = np.sort(places)[0] + step * np.arange(len(places))
    slack = max(SAME_PLACE_MM, UNEQUAL * step)
    # a long stack written with few digits drifts: the mean step, not the median, is then the true one
    mean = np.linspace(places.min(), places.max(), len(places))
    off = min(np.abs(np.sort(places) - grid).max() for grid in (even, mean))
    return bool(off <= slack and abs(gaps - step).max() <= slack)


def affine_ras(images: Sequence[Image]) -> NDArray[np.float64]:
    """Matrix from (column, row, slice) to RAS millimetres for images sorted along the normal.

    Raises
    ------
    StackError
        A place is repeated or missing, the distances differ, or the slices are shifted in their plane.
    """
    along = axes(images[0])
    spacing = images[0].spacing
    if along is None or spacing is None or min(spacing) <= 0:
        raise StackError("no-geometry", "its images have no usable geometry", "Export the original images.")
    places = places_mm(images, along)
    if len(images) == 1:
        step = along.normal * (images[0].thickness_mm or 1.0)
    else:
        _refuse_gaps(places)
        positions = np.array([image.position for image in images], dtype=np.float64)
        step = (positions[-1] - positions[0]) / (len(images) - 1)
        _refuse_shear(positions, step, along)
    affine = np.eye(4)
    affine[:3, 0] = _RAS @ (along.row * spacing[1])
    affine[:3, 1] = _RAS @ (along.column * spacing[0])
    affine[:3, 2] = _RAS @ step
    affine[:3, 3] = _RAS @ np.array(images[0].position)
    return affine


def _refuse_gaps(places: NDArray[np.float64]) -> None:
    gaps = np.diff(places)
    if gaps.min() <= SAME_PLACE_MM:
        at = int(np.argmin(gaps))
        raise StackError(
            "duplicated-slice",
            f"{int((gaps <= SAME_PLACE_MM).sum())} slices lie where another lies (slices {at + 1}, {at + 2})",
            "Export the series once more; if it was exported twice into one folder, remove one copy.",
        )
    if is_whole(places):
        return
    step = float(np.median(gaps))
    wide = gaps / step
    missing = np.rint(wide).astype(int) - 1
    if np.abs(wide - np.rint(wide)).max() < 0.1 and 0 < missing.sum() <= len(places):
        at = int(np.argmax(missing))
        lacking = "1 slice is" if missing.sum() == 1 else f"{missing.sum()} slices are"
        raise StackError(
            "missing-slice",
            f"{lacking} missing (the first after slice {at + 1} of {len(places)})",
            "Export the series again and compare the number of images with the PACS.",
        )
    raise StackError(
        "unequal-spacing",
        f"its slices are unequally spaced ({gaps.min():.2f} to {gaps.max():.2f} mm)",
        "Use a series of even spacing, or resample it before the import.",
    )


def _refuse_shear(positions: NDArray[np.float64], step: NDArray[np.float64], along: Axes) -> None:
    in_plane = np.stack([along.row, along.column])
    ideal = positions[0] + np.arange(len(positions))[:, None] * step
    jump = float(np.abs((positions - ideal) @ in_plane.T).max())
    lean = float(np.abs(in_plane @ step).max()) * (len(positions) - 1)
    if jump > SHEAR_MM:
        raise StackError(
            "shifted-slices",
            f"its slices are shifted against each other within their plane, by up to {jump:.1f} mm",
            "Export the original series: these images do not come from one acquisition.",
        )
    if lean > SHEAR_MM and lean / (np.linalg.norm(step) * (len(positions) - 1)) > SAME_DIRECTION:
        raise StackError(
            "shear",
            f"its slices lean: the last is {lean:.1f} mm off the first within the plane",
            "Resample the series to a grid with right angles before the import.",
        )
