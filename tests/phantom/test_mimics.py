"""Transient perfusion differences: where they are, and what changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mtinet.phantom.anatomy import draw_anatomy
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.host import Host
from mtinet.phantom.mimics import add_shunt
from mtinet.phantom.shapes import Grid
from mtinet.phantom.tissues import draw_organs

GRID = Grid((112, 88, 44), (3.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def patient() -> tuple[Canvas, np.ndarray]:
    host = Host(3.0, cirrhosis=0.6)
    canvas = Canvas(GRID, draw_organs(np.random.default_rng(1), host))
    return canvas, draw_anatomy(np.random.default_rng(1), canvas, host)


def _copy(canvas: Canvas) -> Canvas:
    twin = Canvas(canvas.grid, {tissue.name: tissue for tissue in canvas.tissues[:3]})
    twin.tissues, twin.labels = list(canvas.tissues), canvas.labels.copy()
    return twin


@pytest.mark.parametrize("seed", range(8))
def test_only_parenchyma_changes_and_only_its_inflow(seed: int, patient: tuple[Canvas, np.ndarray]) -> None:
    before, liver = patient
    canvas = _copy(before)
    changed = add_shunt(np.random.default_rng(seed), canvas, liver)
    assert changed.any()
    assert not np.any(changed & ~liver)
    np.testing.assert_array_equal(canvas.labels != before.labels, changed)
    for old, new in set(zip(before.labels[changed].tolist(), canvas.labels[changed].tolist())):
        was, now = canvas.tissues[old], canvas.tissues[new]
        assert now.arterial_fraction >= max(was.arterial_fraction, 0.6)
        assert was.flow_per_min <= now.flow_per_min <= 1.4 * was.flow_per_min
        assert (now.name, now.t1_s, now.proton) == (was.name, was.t1_s, was.proton)
        assert now.distribution_volume == was.distribution_volume
        assert not was.vessel


def test_shunts_lie_under_the_surface_and_are_small(patient: tuple[Canvas, np.ndarray]) -> None:
    before, liver = patient
    # the slab cuts the liver above and below: only the sides are surface
    depth = ndimage.distance_transform_edt(np.pad(liver, ((1, 1), (1, 1), (1, 1)), mode="edge")) * 3.0
    depth = depth[1:-1, 1:-1, 1:-1]
    volumes = []
    for seed in range(20):
        changed = add_shunt(np.random.default_rng(seed), _copy(before), liver)
        assert depth[changed].min() <= 9.0
        volumes.append(changed.sum() * 0.027)
    assert max(volumes) < 0.15 * liver.sum() * 0.027
    assert np.std(volumes) > 1.0


def test_the_same_numbers_give_the_same_shunt(patient: tuple[Canvas, np.ndarray]) -> None:
    before, liver = patient
    first, second = (add_shunt(np.random.default_rng(5), _copy(before), liver) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_nothing_happens_without_liver(patient: tuple[Canvas, np.ndarray]) -> None:
    canvas = _copy(patient[0])
    assert not add_shunt(np.random.default_rng(0), canvas, np.zeros(GRID.shape, dtype=bool)).any()
    np.testing.assert_array_equal(canvas.labels, patient[0].labels)
