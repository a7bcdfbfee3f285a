"""Everything that is measured in a study: size, place, enhancement and signs of each lesion, liver, aorta."""

from __future__ import annotations

from dataclasses import dataclass, field

from mtinet.config import MeasurementSettings
from mtinet.imaging.masks import bounding_boxes
from mtinet.inference.curves import kinetics_of, signal_of, tissue_signal
from mtinet.inference.observed import Observed, cut_out
from mtinet.inference.reference_tissue import aorta, liver_around, whole_liver
from mtinet.inference.signs import signs_of
from mtinet.inference.size import extent_of, place_of, size_of
from mtinet.results import Measurement
from mtinet.volume import Volume


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes
    ----------
    study : tuple of Measurement
        Liver and aorta, and the number of lesions.
    lesions : dict
        Measurements by lesion number.
    """

    study: tuple[Measurement, ...] = ()
    lesions: dict[int, tuple[Measurement, ...]] = field(default_factory=dict)


def measure(observed: Observed, mask: Volume, settings: MeasurementSettings) -> Measured:
    """Measure a study and each of its lesions.

    Parameters
    ----------
    observed : Observed
        The phases, on the prepared grid.
    mask : Volume
        Lesion numbers on the grid on which they were drawn or predicted: sizes come from here.
    settings : MeasurementSettings

    Returns
    -------
    Measured
        Lesions that both ``mask`` and ``observed.labels`` hold.
    """
    liver, vessel, extent = whole_liver(observed, settings), aorta(observed), extent_of(observed.liver)
    on_mask, on_grid = bounding_boxes(mask.array), bounding_boxes(observed.labels)
    lesions = {}
    for number in sorted(on_mask.keys() & on_grid.keys()):
        region = cut_out(observed, number, on_grid[number], settings)
        around = liver_around(observed, region, settings)
        lesions[number] = (
            *size_of(mask, number, on_mask[number]),
            *place_of(extent, observed.labels, number, on_grid[number]),
            *signal_of(region, around, vessel, observed.unit),
            *kinetics_of(region, observed, settings),
            *signs_of(observed, region, around, settings),
        )
    study = (
        Measurement("lesions", float(len(lesions))),
        *tissue_signal("liver", liver, observed.unit),
        *tissue_signal("aorta", vessel, observed.unit),
    )
    return Measured(study, lesions)
