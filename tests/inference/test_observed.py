"""The parts of a lesion."""

from dataclasses import replace

import numpy as np
import pytest

from mtinet.config import MeasurementSettings
from mtinet.inference.reference_tissue import liver_around
from mtinet.inference.signs import signs_of


@pytest.mark.parametrize("spacing_mm", [(2.0, 1.5, 1.5), (4.0, 1.0, 2.0), (1.0, 2.0, 1.0)])
def test_the_band_is_the_outline_of_the_middle_in_equal_eighths(scene, lesion_of, spacing_mm):
    observed = scene(spacing_mm=spacing_mm)
    region = lesion_of(observed, MeasurementSettings())
    areas = region.inside.sum((1, 2))
    assert np.array_equal(region.band.any((1, 2)), areas >= 0.5 * areas.max())
    shares = np.bincount(region.sector[region.inside], minlength=8) / region.inside.sum()
    assert shares == pytest.approx(np.full(8, 1 / 8), abs=0.035)


def without_the_last_slice(observed, phase, share):
    """The phase ends where the lesion's last slices hold at most ``share`` of it."""
    image = observed.signal[phase].copy()
    inside = (observed.labels == 1).sum((1, 2))
    end = next(z for z in range(len(inside)) if inside[z:].sum() <= share * inside.sum())
    image[end:] = 0.0
    assert (image[observed.labels == 1] == 0).any()
    return replace(observed, signal={**observed.signal, phase: image})


@pytest.mark.parametrize("phase", ["pre", "arterial", "delayed"])
def test_what_a_field_of_view_leaves_out_of_a_lesion_changes_neither_signal_nor_signs(
    scene, lesion_of, curves, phase
):
    settings = MeasurementSettings()
    whole = scene(core={**curves["liver"], "delayed": curves["liver"]["delayed"] * 0.995}, noise=0.5)
    cut = without_the_last_slice(whole, phase, 0.05)
    regions = [lesion_of(observed, settings) for observed in (whole, cut)]
    means = [region.mean(phase, region.inside) for region in regions]
    assert means[1] == pytest.approx(means[0], rel=1e-3)
    signs = [
        {
            (m.name, m.phase): m.finding
            for m in signs_of(observed, region, liver_around(observed, region, settings), settings)
        }
        for observed, region in zip((whole, cut), regions, strict=True)
    ]
    assert signs[0] == signs[1]


@pytest.mark.parametrize("spacing_mm", [(2.5, 2.5, 2.5), (5.0, 2.5, 2.5), (8.0, 2.5, 2.5), (1.25, 5.0, 1.25)])
@pytest.mark.parametrize("radius_mm", [16.0, 20.0])
def test_the_shell_is_the_outer_half_of_the_way_in_whatever_the_voxels_are(
    scene, lesion_of, spacing_mm, radius_mm
):
    region = lesion_of(scene(spacing_mm=spacing_mm, radius_mm=radius_mm))
    places = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(region.inside.shape, spacing_mm)]
    z, y, x = np.meshgrid(*places, indexing="ij")
    outer = np.sqrt(z**2 + y**2 + x**2) > radius_mm / 2
    assert np.mean(region.shell[region.inside] == outer[region.inside]) > 0.9
    assert np.mean(outer[region.core]) < 0.1


@pytest.mark.parametrize("spacing_mm", [(2.5, 2.5, 2.5), (5.0, 2.5, 2.5), (8.0, 2.5, 2.5)])
def test_a_bright_outer_half_is_a_rim_in_thick_slices_too(scene, lesion_of, curves, spacing_mm):
    settings = MeasurementSettings()
    observed = scene(
        core=curves["still"], rim=curves["hypervascular"], rim_mm=8.0, radius_mm=16.0, spacing_mm=spacing_mm
    )
    region = lesion_of(observed, settings)
    found = signs_of(observed, region, liver_around(observed, region, settings), settings)
    signs = {m.name: m.finding for m in found}
    assert signs["arterial_hyperenhancement"] == "absent"
    assert signs["rim_arterial_hyperenhancement"] == "present"
