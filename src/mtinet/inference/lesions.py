"""From a probability map to numbered lesions on the prepared and on the source grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.config import InferenceSettings
from mtinet.data.prepared import PreparedStudy, to_source_grid
from mtinet.imaging.masks import bounding_boxes, components, equivalent_diameter_mm, voxel_counts
from mtinet.inference.observed import shows
from mtinet.volume import Volume


def find_lesions(
    probability: NDArray[np.float32], spacing_mm: Sequence[float], settings: InferenceSettings
) -> NDArray[np.int32]:
    """Number the connected parts of a thresholded probability map from the largest to the smallest.

    Parts smaller than a ball of ``settings.min_diameter_mm`` are dropped, and so are those whose probability
    stays below ``settings.min_peak``: thresholding with hysteresis (Canny, IEEE TPAMI 1986).
    """
    labels = components(probability >= settings.threshold)
    counts = voxel_counts(labels)
    peaks = ndimage.maximum(probability, labels, list(counts))
    voxel_mm3 = float(np.prod(spacing_mm))
    kept = [
        number
        for (number, count), peak in zip(counts.items(), peaks, strict=True)
        if peak >= settings.min_peak and equivalent_diameter_mm(count * voxel_mm3) >= settings.min_diameter_mm
    ]
    numbers = np.zeros(len(counts) + 1, dtype=labels.dtype)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[labels]


def numbered_as_written(labels: NDArray[np.int32], mask: Volume) -> tuple[NDArray[np.int32], Volume]:
    """Number the lesions of both grids 1..K by their size in the mask that is written, largest first.

    Components that have no voxel of the source grid, as those of noise on a finer prepared grid, are no
    lesions: they are left out.
    """
    sizes = voxel_counts(mask.array)
    ranked = sorted(sizes, key=lambda n: (-sizes[n], n))
    number = np.zeros(int(max(labels.max(initial=0), mask.array.max(initial=0))) + 1, dtype=np.int32)
    number[ranked] = np.arange(1, len(ranked) + 1)
    written = number[mask.array]
    return number[labels], mask.with_array(written.astype(np.uint8 if len(ranked) < 256 else np.uint16))


def measured_signal(study: PreparedStudy, labels: NDArray[Any]) -> dict[int, NDArray[np.float64]]:
    """Mean normalised signal [P] under each lesion; NaN where a phase lacks or does not show the lesion."""
    image = study.image
    found = {}
    for number, box in bounding_boxes(labels).items():
        inside = labels[box] == number
        voxels = [part[inside] for part in image[(slice(None), *box)]]
        found[number] = np.array(
            [
                signal.mean(dtype=np.float64) if present and shows(signal) else np.nan
                for signal, present in zip(voxels, study.present, strict=True)
            ]
        )
    return found


def mask_on_source(
    study: PreparedStudy, probability: NDArray[np.float32], labels: NDArray[np.int32], threshold: float
) -> Volume:
    """The lesions' mask on the reference phase's own grid.

    The outline follows the interpolated probability, which is smoother than an interpolated mask; each voxel
    takes the number of the nearest lesion, if that is within a voxel of the prepared grid.
    """
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    numbers = np.where(distance <= np.sqrt(3.0), labels[tuple(nearest)], 0)
    matrix = np.linalg.inv(study.affine) @ study.source_affine
    out = ndimage.affine_transform(
        numbers.astype(np.uint16).transpose(2, 1, 0),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=study.source_shape,
        order=0,
        mode="nearest",
    )
    out[to_source_grid(probability, study) < threshold] = 0
    return Volume(out.astype(np.uint8) if out.max(initial=0) < 256 else out, study.source_affine)
