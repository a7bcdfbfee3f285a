"""The liver around a lesion and the aorta, where they are known; nothing where they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtinet.config import MeasurementSettings
from mtinet.inference.curves import tissue_signal
from mtinet.inference.reference_tissue import aorta, liver_around, whole_liver

SETTINGS = MeasurementSettings()


def test_the_ring_keeps_its_distances(scene, lesion_of):
    observed = scene(noise=0.0)
    around = lesion_of(observed).around
    z, y, x = np.nonzero(around)
    middle = [(n - 1) / 2 for n in around.shape]
    apart = np.linalg.norm((np.stack([z, y, x], -1) - middle) * observed.spacing_mm, axis=1)
    assert apart.min() == pytest.approx(12.0 + 5.0, abs=1.5)
    assert apart.max() == pytest.approx(12.0 + 20.0, abs=1.5)


def test_vessels_and_other_lesions_are_left_out(scene, lesion_of):
    observed = scene(noise=1.0)
    for image in observed.signal.values():
        image[:, 26, 6:46] *= 1.8
    labels = observed.labels.copy()
    labels[18:23, 8:14, 8:14] = 2
    for image in observed.signal.values():
        image[labels == 2] = 5000.0
    observed = replace(observed, labels=labels)
    region = lesion_of(observed)
    found = liver_around(observed, region, SETTINGS)
    assert found.mean("arterial") == pytest.approx(120.0, abs=0.2)
    assert found.sd("arterial") == pytest.approx(1.0, rel=0.15)
    assert found.signal["pre"].max() < 110.0
    assert whole_liver(observed, SETTINGS).mean("delayed") == pytest.approx(160.0, abs=0.2)


def test_the_ring_is_read_where_all_phases_cover_it(scene, lesion_of):
    observed = scene(noise=1.0)
    whole = lesion_of(observed)
    y = np.argwhere(whole.inside)[:, 1].min() + (observed.labels.shape[1] - whole.inside.shape[1]) // 2
    observed.signal["delayed"][:, :y] = 0.0  # the lesion is covered, much of its ring is not
    region = lesion_of(observed)
    assert 0.2 < np.mean(region.signal["delayed"][region.around] == 0) < 0.95
    found = liver_around(observed, region, SETTINGS)
    assert found.mean("delayed") == pytest.approx(160.0, abs=0.2)
    assert found.mean("arterial") == pytest.approx(120.0, abs=0.2)


def test_a_lesion_just_behind_the_ring_keeps_it_away(scene, lesion_of):
    observed = scene(noise=0.0, size_mm=120.0)
    alone = lesion_of(observed).around
    z, y, x = np.indices(observed.labels.shape).astype(float)
    middle = [(n - 1) / 2 for n in observed.labels.shape]
    # its surface lies 22 mm from that of the lesion, the ring's outer edge 20 mm
    apart = np.sqrt(
        ((z - middle[0]) * 2.0) ** 2 + ((y - middle[1]) * 1.5) ** 2 + ((x - middle[2]) * 1.5 - 42.0) ** 2
    )
    other = apart <= 8.0
    region = lesion_of(replace(observed, labels=observed.labels + 2 * other))
    assert not (region.around & ~alone).any()
    # places in the whole grid: the region is cut around the lesion
    far, wide = np.zeros_like(observed.labels, dtype=bool), region.around.shape
    start = [(n - m) // 2 for n, m in zip(far.shape, wide)]
    far[tuple(slice(a, a + m) for a, m in zip(start, wide))] = region.around
    assert far.any()
    assert apart[far].min() >= 8.0 + 5.0 - 1.5


def test_a_body_is_no_liver(scene, lesion_of):
    observed = scene(with_liver=False)
    found = liver_around(observed, lesion_of(observed), SETTINGS)
    assert not found.found
    assert "no liver mask" in found.reason


def test_too_little_liver_is_said(scene, lesion_of):
    observed = scene()
    observed.liver[...] = False
    observed.liver[0, 0, :5] = True
    assert "fewer than 30" in liver_around(observed, lesion_of(observed), SETTINGS).reason


# ---------------------------------------------------------------------- aorta
def trunk(scene, *, aorta_signal=900.0, tilt=0.0, noise=4.0, **options):
    """An elliptic body with a liver, kidneys as bright as the aorta, and a vessel before the spine."""
    observed = scene(spacing_mm=(5.0, 2.5, 2.5), size_mm=300.0, noise=noise, **options)
    z, y, x = np.indices(observed.labels.shape).astype(float)
    y, x = (y - 60) * 2.5, (x - 60) * 2.5
    body = (x / 140) ** 2 + (y / 100) ** 2 <= 1
    for phase, image in observed.signal.items():
        image[~body] = 0.0
        if phase == "arterial":
            for side in (-60.0, 60.0):
                image[((x - side) / 22) ** 2 + ((y + 50) / 16) ** 2 <= 1] = 700.0
        if phase != "pre":
            image[(x + 8) ** 2 + (y + 35 + tilt * (z - 30)) ** 2 <= 10.0**2] = (
                aorta_signal if phase == "arterial" else 400.0
            )
    liver = ((x - 60) / 50) ** 2 + (y / 60) ** 2 <= 1
    return replace(observed, liver=liver)


@pytest.mark.parametrize("tilt", [0.0, 0.4])
def test_the_aorta_is_found_before_the_spine(scene, tilt):
    observed = trunk(scene, tilt=tilt)
    found = aorta(observed)
    assert found.mean("arterial") == pytest.approx(900.0, rel=0.02)
    assert found.mean("delayed") == pytest.approx(400.0, rel=0.02)


@pytest.mark.parametrize(("covered", "known"), [(1.0, True), (0.6, True), (0.4, False)])
def test_the_aorta_is_read_where_a_phase_covers_it(scene, covered, known):
    observed = trunk(scene)
    delayed = observed.signal["delayed"].copy()
    delayed[round(covered * len(delayed)) :] = 0.0
    found = aorta(replace(observed, signal={**observed.signal, "delayed": delayed}))
    assert found.mean("arterial") == pytest.approx(900.0, rel=0.02)
    assert ("delayed" in found.signal) == known
    if known:
        assert found.mean("delayed") == pytest.approx(400.0, rel=0.02)


@pytest.mark.parametrize("without", ["arterial", "slices", "vessel", "body"])
def test_where_it_is_not_seen_it_is_not_found(scene, without):
    observed = trunk(scene, aorta_signal=125.0 if without == "vessel" else 900.0)
    signal = dict(observed.signal)
    if without == "arterial":
        del signal["arterial"]
    elif without == "slices":
        signal = {phase: image[:2] for phase, image in signal.items()}
        observed = replace(observed, labels=observed.labels[:2])
    elif without == "body":
        signal["arterial"] = np.zeros_like(signal["arterial"])
    found = aorta(replace(observed, signal=signal))
    assert not found.found
    assert found.reason.startswith("not found")


def test_a_late_arterial_phase_shows_the_aorta_where_there_is_no_other(scene):
    observed = trunk(scene)
    late = {"arterial_late" if phase == "arterial" else phase: v for phase, v in observed.signal.items()}
    assert aorta(replace(observed, signal=late)).mean("arterial_late") == pytest.approx(900.0, rel=0.02)


@pytest.mark.parametrize("tissue", ["liver", "aorta"])
@pytest.mark.parametrize("phase", ["pre", "delayed"])
def test_a_phase_that_does_not_show_a_tissue_says_so(scene, tissue, phase):
    observed = trunk(scene)
    image = observed.signal[phase].copy()
    image[round(0.4 * len(image)) :] = 0.0
    observed = replace(observed, signal={**observed.signal, phase: image})
    read = aorta(observed) if tissue == "aorta" else whole_liver(observed, MeasurementSettings())
    found = {(m.name, m.phase): m for m in tissue_signal(tissue, read, 1.0)}
    missing = found[f"{tissue}_signal", phase]
    assert (missing.finding, missing.value) == ("not assessable", None)
    assert tissue in missing.reason
    assert found[f"{tissue}_signal", "arterial"].value > 0
    relative = [m for (name, _), m in found.items() if name == f"{tissue}_relative_enhancement"]
    if phase == "pre":
        assert [(m.value, m.reason) for m in relative] == [(None, missing.reason)]
    else:
        assert {m.phase for m in relative} == {"arterial", "portal_venous"}
