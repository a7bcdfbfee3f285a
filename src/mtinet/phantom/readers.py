"""A second reader: the same lesions, outlined by somebody else.

Two readers of one image differ, so no method can be expected to agree with one of them better than they do
with each other.  Between observers, Dice on HCC in MRI is 0.79 +- 0.10 (EJNMMI Phys 2022); the three
strengths below were chosen so that lesions of the class hcc reach that mean and spread over studies.  The
form of the disagreement and every rate are assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.phantom.shapes import BoolArray, FloatArray, Grid, waves

CASE_SD = 0.12
"""How much larger or smaller a reader outlines all lesions of a case, as a share of the radius (SD)."""

LESION_SD = 0.04
"""The same for each lesion by itself."""

LOCAL_SD = 0.12
"""Smooth differences along the outline, as a share of the radius (SD)."""

REFERENCE_RADIUS_MM = 17.0
"""Shares hold for this radius.  In mm the disagreement grows with the square root of the radius: relative to
their size small lesions are outlined less alike."""

LARGEST_SHIFT = 0.4
"""The outline moves by at most this share of the lesion's radius."""

CORE = 0.5
"""Voxels deeper than this share of the lesion's depth belong to it for every reader."""

CLARITY: dict[str, float] = {
    "cyst": 0.5,
    "hemangioma": 0.75,
    "fnh": 0.9,
    "metastasis": 0.9,
    "hcc": 1.0,
    "icc": 1.15,
}
"""Disagreement by class relative to HCC (assumed): the border of a cyst is sharp, that of an ICC is not."""

MISSED = ((10.0, 0.2), (20.0, 0.05))
"""Share of lesions below a diameter in mm that the second reader misses (assumed); never the largest one."""

MERGED_GAP_MM, MERGED = 5.0, 0.3
"""Share of neighbours closer than this that the second reader outlines as one lesion (assumed)."""


def second_reader(
    rng: np.random.Generator,
    mask: NDArray[np.uint8],
    spacing_mm: Sequence[float],
    label_by_number: Mapping[int, str] | None = None,
    within: BoolArray | None = None,
) -> NDArray[np.uint8]:
    """Lesions as a second reader outlines them.

    Parameters
    ----------
    rng : numpy.random.Generator
        The result is a function of its state and the other arguments.
    mask : ndarray of uint8, shape (X, Y, Z)
        Lesion numbers 1..K of the first reader on the scanner's grid, 0 elsewhere.
    spacing_mm : sequence of 3 float
    label_by_number : mapping, optional
        Class by lesion number; a number or class that is not known counts as HCC.
    within : ndarray of bool, shape (X, Y, Z), optional
        The liver: where the first reader's lesion does not lie, the second draws only here.

    Returns
    -------
    ndarray of uint8, shape (X, Y, Z)
        The reader's own numbers 1..L, in the order of the first reader's; L < K where lesions are missed or
        merged.  The largest lesion is always there.
    """
    labels = label_by_number or {}
    voxel_mm3 = float(np.prod(spacing_mm))
    counts = np.bincount(mask.ravel())
    case = CASE_SD * float(np.clip(rng.normal(), -2.5, 2.5))
    nearest: FloatArray = np.zeros(mask.shape, dtype=np.float32)
    drawn: NDArray[np.uint8] = np.zeros_like(mask)
    for number in np.flatnonzero(counts[1:]) + 1:
        diameter = float((6.0 * counts[number] * voxel_mm3 / np.pi) ** (1.0 / 3.0))
        # drawn for every lesion, so that a rate changes no other lesion's outline
        luck, own = float(rng.random()), float(np.clip(rng.normal(), -2.5, 2.5))
        seed = int(rng.integers(2**32))
        if counts[number] < counts[1:].max() and luck < _missed(diameter):
            continue
        strength = CLARITY.get(labels.get(int(number), "hcc"), 1.0)
        shift = (case + LESION_SD * own, LOCAL_SD)
        _outline(
            np.random.default_rng(seed),
            mask,
            int(number),
            diameter,
            shift,
            strength,
            spacing_mm,
            drawn,
            nearest,
        )
    if within is not None:
        drawn[~within & (mask == 0)] = 0
    return _numbered(_merge(rng, drawn, spacing_mm))


def _missed(diameter_mm: float) -> float:
    return next((rate for below, rate in MISSED if diameter_mm < below), 0.0)


def _outline(
    rng: np.random.Generator,
    mask: NDArray[np.uint8],
    number: int,
    diameter_mm: float,
    shift: tuple[float, float],
    strength: float,
    spacing_mm: Sequence[float],
    drawn: NDArray[np.uint8],
    nearest: FloatArray,
) -> None:
    """Draw one lesion with its border moved; where two meet, the one that lies deeper wins."""
    radius = diameter_mm / 2.0
    unit = strength * float(np.sqrt(radius * REFERENCE_RADIUS_MM))
    limit = LARGEST_SHIFT * radius
    box = _box(mask == number, spacing_mm, limit)
    inside = mask[box] == number
    grid = Grid(inside.shape, (float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2])))
    common, local = shift
    field = waves(rng, grid, grid.whole, (1.2 * diameter_mm, 3.0 * diameter_mm), 6)
    moved = np.clip(np.float32(unit) * (np.float32(common) + np.float32(local) * field), -limit, limit)
    signed = _signed_distance(inside, spacing_mm)
    # the core stays: whoever sees the lesion marks its middle
    core = signed <= np.float32(CORE) * signed.min()
    depth = np.where(core, np.maximum(moved - signed, np.float32(1e-3)), moved - signed)
    pieces, _ = ndimage.label(depth > 0.0)
    chosen = pieces == pieces[np.unravel_index(int(signed.argmin()), signed.shape)]
    chosen &= depth > nearest[box]
    nearest[box][chosen] = depth[chosen]
    drawn[box][chosen] = number


def _box(inside: BoolArray, spacing_mm: Sequence[float], reach_mm: float) -> tuple[slice, slice, slice]:
    found = ndimage.find_objects(inside.astype(np.uint8))[0]
    x, y, z = (
        slice(max(part.start - int(reach_mm / step) - 2, 0), min(part.stop + int(reach_mm / step) + 2, size))
        for part, step, size in zip(found, spacing_mm, inside.shape)
    )
    return x, y, z


def _signed_distance(inside: BoolArray, spacing_mm: Sequence[float]) -> FloatArray:
    """Distance from the lesion's surface, mm; negative inside.

    The transform measures between voxel centres and the surface lies halfway, so half of the smallest step
    is taken off.  Smoothing by half a voxel undoes the steps that voxels put into it.
    """
    half = 0.5 * min(spacing_mm)
    padded = np.pad(inside, 1)
    outer = ndimage.distance_transform_edt(~padded, sampling=spacing_mm)
    inner = ndimage.distance_transform_edt(padded, sampling=spacing_mm)
    signed = np.where(padded, half - inner, outer - half)
    smooth = ndimage.gaussian_filter(signed.astype(np.float32), 0.5)
    return np.asarray(smooth[1:-1, 1:-1, 1:-1], dtype=np.float32)


def _merge(
    rng: np.random.Generator, drawn: NDArray[np.uint8], spacing_mm: Sequence[float]
) -> NDArray[np.uint8]:
    """Give some close neighbours one number."""
    merged = drawn.copy()
    numbers = [int(n) for n in np.unique(drawn) if n]
    for position, number in enumerate(numbers[1:], start=1):
        luck = float(rng.random())
        if luck >= MERGED:
            continue
        box = _box(drawn == number, spacing_mm, MERGED_GAP_MM)
        away = ndimage.distance_transform_edt(drawn[box] != number, sampling=spacing_mm)
        close = [n for n in numbers[:position] if np.any((drawn[box] == n) & (away <= MERGED_GAP_MM))]
        if close:
            merged[drawn == number] = merged[drawn == close[0]][0]
    return merged


def _numbered(drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same lesions numbered without gaps."""
    present = np.unique(drawn[drawn > 0])
    table = np.zeros(256, dtype=np.uint8)
    table[present] = np.arange(1, present.size + 1, dtype=np.uint8)
    return table[drawn]
