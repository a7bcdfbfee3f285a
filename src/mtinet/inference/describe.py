"""Lesions as results: where they are, how large, and what was read and measured in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.data.prepared import PreparedStudy
from mtinet.imaging.masks import bounding_boxes, equivalent_diameter_mm, voxel_counts
from mtinet.inference.forward import Reading
from mtinet.inference.lesions import measured_signal
from mtinet.results import Lesion, Measurement, relative_enhancement
from mtinet.volume import Volume


def describe_lesions(
    study: PreparedStudy,
    probability: NDArray[np.float32],
    labels: NDArray[np.int32],
    readings: Mapping[int, Reading],
    mask: Volume,
    classes: Sequence[str],
    measurements: Mapping[int, tuple[Measurement, ...]] | None = None,
) -> tuple[Lesion, ...]:
    """The lesions as results, largest first: sizes from the source grid, signal in the study's own units.

    A phase that does not show a lesion gives no signal of it, neither measured nor regressed.  A network that
    learned no enhancement has no regressed signal; of one that learned no classes ``classes`` is the one name of
    them all.
    """
    measured = measured_signal(study, labels)
    sizes = voxel_counts(mask.array)
    lesions = []
    boxes = bounding_boxes(labels)
    # on a coarser source grid a small lesion may have lost all its voxels: what the mask lacks is no result
    for number in sorted((n for n in boxes if n in sizes), key=lambda n: (-sizes[n], n)):
        box = boxes[number]
        inside = labels[box] == number
        volume = sizes[number] * mask.voxel_mm3
        centre = np.array([s.start for s in box]) + np.array(ndimage.center_of_mass(inside))
        world = study.affine @ np.array([*centre[::-1], 1.0])
        reading = readings[number]
        shown = np.flatnonzero(np.isfinite(measured[number]))
        regressed = reading.enhancement
        enhancement = {} if regressed is None else _by_phase(study, regressed, shown)
        lesions.append(
            Lesion(
                number=number,
                volume_mm3=volume,
                diameter_mm=equivalent_diameter_mm(volume),
                centre_mm=(float(world[0]), float(world[1]), float(world[2])),
                confidence=float(probability[box][inside].mean()),
                probabilities=dict(zip(classes, _probabilities(reading), strict=True)),
                enhancement=enhancement,
                relative_enhancement_percent=relative_enhancement(enhancement),
                measured=_by_phase(study, measured[number], shown),
                measurements=(measurements or {}).get(number, ()),
            )
        )
    return tuple(lesions)


def _by_phase(study: PreparedStudy, values: NDArray[Any], chosen: NDArray[np.intp]) -> dict[str, float]:
    """Normalised values [P] of the chosen phases, in the study's own units."""
    return {study.phases[n]: float(values[n] * study.gain) for n in chosen}


def _probabilities(reading: Reading) -> list[float]:
    """Of the model's classes; who learned none is sure of the one that every lesion has."""
    return [1.0] if reading.probabilities is None else list(map(float, reading.probabilities))
