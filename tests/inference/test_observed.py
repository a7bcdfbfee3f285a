"""The parts of a lesion."""

import numpy as np
import pytest

from mtinet.config import MeasurementSettings


@pytest.mark.parametrize("spacing_mm", [(2.0, 1.5, 1.5), (4.0, 1.0, 2.0), (1.0, 2.0, 1.0)])
def test_the_band_is_the_outline_of_the_middle_in_equal_eighths(scene, lesion_of, spacing_mm):
    observed = scene(spacing_mm=spacing_mm)
    region = lesion_of(observed, MeasurementSettings())
    areas = region.inside.sum((1, 2))
    assert np.array_equal(region.band.any((1, 2)), areas >= 0.5 * areas.max())
    shares = np.bincount(region.sector[region.inside], minlength=8) / region.inside.sum()
    assert shares == pytest.approx(np.full(8, 1 / 8), abs=0.035)
