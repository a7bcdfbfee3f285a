"""Breathing: the stored field is the one that was applied, and the liver moves as asked."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.config import DEFAULT_PHASES, SiteSettings
from mtinet.phantom import motion
from mtinet.phantom.acquisition import ScanGrid, scan_grid
from mtinet.phantom.motion import Displacement, draw_displacements, draw_unrest, mobility, no_displacement
from mtinet.phantom.tissues import Tissue

SITE = SiteSettings(name="A", spacing_mm=(4.0, 4.0, 8.0), matrix=(80, 64, 12))
GRID = scan_grid(SITE, 5.0)
COLUMNS = (160, 128)


def _moved_by(grid: ScanGrid, shift: tuple[int, int, int]) -> Displacement:
    return Displacement(grid, np.broadcast_to(np.array(shift)[:, None, None], (3, *COLUMNS)).copy())


@pytest.fixture(scope="module")
def share() -> np.ndarray:
    """A round body of fat around a cavity of liver, with a spine."""
    x, y, _ = GRID.fine.mesh(GRID.fine.whole)
    labels = np.zeros(GRID.fine.shape, dtype=np.uint16)
    labels[np.broadcast_to(np.hypot(x / 140.0, y / 110.0) <= 1.0, labels.shape)] = 1
    labels[np.broadcast_to(np.hypot(x / 115.0, y / 85.0) <= 1.0, labels.shape)] = 2
    labels[np.broadcast_to(np.hypot(x, y + 55.0) <= 24.0, labels.shape)] = 3
    tissues = [Tissue(name, 1.0) for name in ("air", "fat", "liver", "marrow")]
    return mobility(GRID, labels, tissues, labels == 2)


def test_a_marker_lies_where_the_field_says() -> None:
    labels = np.zeros(GRID.fine.shape, dtype=np.uint16)
    x, y, z = (m + 20 for m in GRID.margin)
    labels[x, y, z] = 7
    for shift in ((1, -2, 3), (0, 1, -4), (0, 0, 0)):
        seen = _moved_by(GRID, shift).view(labels)
        assert np.argwhere(seen == 7).tolist() == [[20 + shift[0], 20 + shift[1], 20 + shift[2]]]


def test_an_uneven_field_shows_the_object_at_x_minus_d(share: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    drawn = draw_displacements(rng, GRID, share, 5.0, DEFAULT_PHASES, "portal_venous")["arterial"]
    assert len(np.unique(drawn.voxels[2])) > 2
    where = np.arange(np.prod(GRID.fine.shape)).reshape(GRID.fine.shape)
    seen = np.stack(np.unravel_index(drawn.view(where), GRID.fine.shape))
    here = np.stack(np.meshgrid(*(np.arange(n) for n in seen.shape[1:]), indexing="ij"))
    came = here - drawn.voxels[..., None] + np.array(GRID.margin)[:, None, None, None]
    np.testing.assert_array_equal(seen, came)
    np.testing.assert_array_equal(drawn.view(where, slice(30, 44)), drawn.view(where)[30:44])


def test_the_stored_field_is_the_applied_one_in_mm(share: np.ndarray) -> None:
    field = _moved_by(GRID, (1, -2, 3)).field_mm()
    assert field.shape == (*SITE.matrix, 3)
    expected = np.array([1, -2, 3]) * GRID.fine.spacing_mm
    np.testing.assert_allclose(field, np.broadcast_to(expected, field.shape), rtol=1e-6)
    assert _moved_by(GRID, (1, -2, 3)).mean_mm(np.ones(COLUMNS)) == pytest.approx(tuple(expected))
    assert no_displacement(GRID).still
    assert not no_displacement(GRID).field_mm().any()


def test_the_liver_takes_part_and_wall_and_spine_hardly(share: np.ndarray) -> None:
    x, y = GRID.fine.mesh(GRID.scanned)[:2]
    x, y = x[..., 0], y[..., 0]
    inside = np.broadcast_to(np.hypot(x / 70.0, (y - 20.0) / 40.0) <= 1.0, COLUMNS)
    wall = np.abs(np.hypot(x / 140.0, y / 110.0) - 0.95) < 0.05
    assert share[inside].mean() == pytest.approx(1.1, abs=0.15)
    assert share[wall].max() < 0.1
    assert share[np.hypot(x, y + 55.0) < 5.0].max() < 0.5
    # the share fades over two centimetres or more, not at once
    assert max(np.abs(np.diff(share, axis=axis)).max() for axis in (0, 1)) / GRID.fine.spacing_mm[0] < 0.06


def test_content_is_sheared_but_never_folded(share: np.ndarray) -> None:
    for seed in range(30):
        drawn = draw_displacements(
            np.random.default_rng(seed), GRID, share, 5.0, DEFAULT_PHASES, "pre", "arterial"
        )
        for displacement in drawn.values():
            for axis in (0, 1):
                # whence a column came never runs backwards along the axis
                assert np.diff(displacement.voxels[axis], axis=axis).max() <= 1


def test_the_liver_moves_mainly_up_and_down_by_what_was_asked(share: np.ndarray) -> None:
    weight = share > 0.5
    means = np.array(
        [
            draw_displacements(np.random.default_rng(s), GRID, share, 5.0, DEFAULT_PHASES, "portal_venous")[
                "arterial"
            ].mean_mm(weight)
            for s in range(250)
        ]
    )
    x, y, z = means.std(axis=0)
    assert z == pytest.approx(5.0, rel=0.15)
    assert x < y < 0.5 * z
    assert np.abs(means.mean(axis=0)).max() < 1.0


def test_the_reference_stays_and_does_not_change_the_others(share: np.ndarray) -> None:
    first, second = (
        draw_displacements(np.random.default_rng(2), GRID, share, 5.0, DEFAULT_PHASES, reference)
        for reference in ("portal_venous", "delayed")
    )
    assert first["portal_venous"].still
    assert second["delayed"].still
    np.testing.assert_array_equal(first["arterial"].voxels, second["arterial"].voxels)


def test_no_displacement_leaves_what_was_drawn(share: np.ndarray) -> None:
    for seed in range(40):
        drawn = draw_displacements(
            np.random.default_rng(seed), GRID, share, 5.0, DEFAULT_PHASES, "portal_venous", "arterial"
        )
        for displacement in drawn.values():
            assert displacement.view(np.zeros(GRID.fine.shape, dtype=np.uint8)).shape == (*COLUMNS, 48)


@pytest.mark.parametrize(
    ("agent", "fails", "severe"), [("gadoxetate", 0.162, 0.023), ("gadobutrol", 0.117, 0.0)]
)
def test_breath_holds_fail_as_often_as_published(agent: str, fails: float, severe: float) -> None:
    drawn = np.array([draw_unrest(np.random.default_rng(s), agent) for s in range(4000)])
    assert np.mean(drawn > 0.0) == pytest.approx(fails, abs=0.02)
    assert np.mean(drawn > 0.5) == pytest.approx(severe, abs=0.01)
    assert motion.RESTLESS_RATE[agent] == fails
