"""What is known of a virtual patient beside the images: masks in every phase, tissues, displacement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtinet.config import Phase
from mtinet.phantom.acquisition import ScanGrid
from mtinet.phantom.disease import Grown
from mtinet.phantom.motion import Displacement
from mtinet.phantom.shapes import Box, FloatArray, box_mean
from mtinet.phantom.tissues import Tissue
from mtinet.volume import Volume


@dataclass(frozen=True)
class VirtualLesion:
    """What is known of one lesion.

    Attributes
    ----------
    number : int
        Its value in the masks.
    label, subtype : str
        Class and sub-form.
    diameter_mm : float
        Of the ball with the lesion's volume.
    enhancement : dict
        Mean of the noise-free image over the lesion where it lies in that phase, by acquired phase; a phase
        in which breathing has moved the lesion out of the slices is absent.
    kinetics : dict
        The numbers behind it, by name.
    """

    number: int
    label: str
    subtype: str
    diameter_mm: float
    enhancement: dict[Phase, float]
    kinetics: dict[str, float]


@dataclass(frozen=True)
class Truth:
    """What only a simulation can tell, on the scanner's grid.

    Attributes
    ----------
    tissue : Volume
        ``uint8``, in the reference phase: the group of tissues that fills most of the voxel.
    legend : dict
        Name of each group by its number in ``tissue``.
    noise_free : dict
        ``float32`` images by acquired phase, with everything but noise and rounding.
    displacement_mm : dict
        By acquired phase, ``float32``, shape (X, Y, Z, 3): along the grid's axes, how far what is seen in a
        voxel has moved since the reference phase (``moved(x) = object(x - d(x))``).
    tissues : tuple of Tissue
        Every part with its kinetic parameters; ``name`` is its group in ``legend``.
    """

    tissue: Volume
    legend: dict[int, str]
    noise_free: dict[Phase, Volume]
    displacement_mm: dict[Phase, NDArray[np.float32]]
    tissues: tuple[Tissue, ...]


def lesion_numbers(grid: ScanGrid, lesions: Sequence[Grown]) -> NDArray[np.uint8]:
    """Numbers 1..K of the lesions on the fine grid, 0 elsewhere."""
    numbers = np.zeros(grid.fine.shape, dtype=np.uint8)
    for number, lesion in enumerate(lesions, start=1):
        numbers[lesion.box][lesion.inside] = number
    return numbers


def lesion_mask(
    grid: ScanGrid, numbers: NDArray[np.uint8], lesions: Sequence[Grown], displacement: Displacement
) -> NDArray[np.uint8]:
    """Lesions on the scanner's grid, where they lie in a phase: voxels that they fill by half.

    A lesion thinner than a slice fills no voxel by half; it keeps those that it fills most.

    Parameters
    ----------
    grid : ScanGrid
    numbers : ndarray of uint8, shape of the fine grid
        From :func:`lesion_numbers`.
    lesions : sequence of Grown
    displacement : Displacement
    """
    mask = np.zeros(grid.matrix, dtype=np.uint8)
    mx, my, mz = grid.margin
    for number, lesion in enumerate(lesions, start=1):
        coarse, fine = grid.covering(_reached(lesion.box, displacement))
        if any(part.start >= part.stop for part in coarse):
            continue
        x, y, z = (slice(part.start - m, part.stop - m) for part, m in zip(fine, (mx, my, mz)))
        seen = displacement.view(numbers, x)[:, y, z] == number
        share = box_mean(seen.astype(np.float32), grid.factor)
        most = float(share.max(initial=0.0))
        if most > 0.0:
            mask[coarse][(share >= min(0.5, 0.8 * most)) & (mask[coarse] == 0)] = number
    return mask


def _reached(box: Box, displacement: Displacement) -> Box:
    """Voxels that the content of a box may have moved to."""
    x, y, z = (
        slice(part.start + min(int(moved.min()), 0), part.stop + max(int(moved.max()), 0))
        for part, moved in zip(box, displacement.voxels)
    )
    return x, y, z


def describe(
    lesions: Sequence[Grown],
    masks: Mapping[Phase, NDArray[np.uint8]],
    noise_free: Mapping[Phase, FloatArray],
) -> tuple[VirtualLesion, ...]:
    """What is known of each lesion; masks and noise-free images share their phases."""
    count = len(lesions) + 1
    sums, voxels = {}, {}
    for phase, mask in masks.items():
        flat = mask.ravel()
        voxels[phase] = np.bincount(flat, minlength=count)
        sums[phase] = np.bincount(flat, weights=noise_free[phase].ravel(), minlength=count)
    return tuple(
        VirtualLesion(
            number=number,
            label=lesion.label,
            subtype=lesion.pattern.subtype,
            diameter_mm=lesion.diameter_mm,
            enhancement={
                phase: float(sums[phase][number] / voxels[phase][number])
                for phase in masks
                if voxels[phase][number] > 0
            },
            kinetics=dict(lesion.pattern.kinetics),
        )
        for number, lesion in enumerate(lesions, start=1)
    )


def tissue_map(
    grid: ScanGrid, labels: NDArray[np.uint16], tissues: Sequence[Tissue]
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Group of tissues (by name) that fills most of each scanner voxel in the reference phase.

    Parameters
    ----------
    grid : ScanGrid
    labels : ndarray of uint16, shape of the fine grid
    tissues : sequence of Tissue

    Returns
    -------
    ndarray of uint8, shape (X, Y, Z)
    dict
        Name by number.
    """
    names = list(dict.fromkeys(tissue.name for tissue in tissues))
    group = np.array([names.index(tissue.name) for tissue in tissues], dtype=np.uint8)
    seen = group[grid.view(labels)]
    largest = np.full(grid.matrix, -1.0, dtype=np.float32)
    dominant = np.zeros(grid.matrix, dtype=np.uint8)
    for number in np.flatnonzero(np.bincount(seen.ravel(), minlength=len(names))):
        share = box_mean((seen == number).astype(np.float32), grid.factor)
        larger = share > largest
        largest[larger] = share[larger]
        dominant[larger] = number
    return dominant, dict(enumerate(names))
