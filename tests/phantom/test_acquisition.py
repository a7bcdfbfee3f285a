"""Where the scanner's voxels lie, and which phases there are."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.config import DEFAULT_PHASES, SiteSettings
from mtinet.phantom.acquisition import AcquisitionError, draw_affine, draw_missing, scan_grid

SITE = SiteSettings(name="A", spacing_mm=(6.0, 6.0, 12.0), matrix=(56, 44, 10), oblique_deg=8.0)


def test_fine_grid_covers_the_scanner_and_what_breathing_brings_in() -> None:
    grid = scan_grid(SITE, 4.0)
    assert grid.factor == (2, 2, 4)
    for step, factor, spacing in zip(grid.fine.spacing_mm, grid.factor, SITE.spacing_mm):
        assert step * factor == pytest.approx(spacing)
    assert grid.margin[2] * grid.fine.spacing_mm[2] >= 12.0
    assert grid.view(np.zeros(grid.fine.shape)).shape == (112, 88, 40)


def test_covering_voxels_hold_the_box() -> None:
    grid = scan_grid(SITE, 4.0)
    box = (slice(33, 47), slice(20, 21), slice(9, 30))
    coarse, fine = grid.covering(box)
    assert all(f.start <= b.start and f.stop >= b.stop for f, b in zip(fine, box))
    whole = grid.fraction(np.ones(grid.fine.shape, dtype=bool))
    assert whole[coarse].shape == tuple((f.stop - f.start) // n for f, n in zip(fine, grid.factor))


def test_affine_keeps_the_spacing_and_right_angles() -> None:
    for seed in range(5):
        affine = draw_affine(np.random.default_rng(seed), SITE)[:3, :3]
        np.testing.assert_allclose(affine.T @ affine, np.diag(np.square(SITE.spacing_mm)), atol=1e-9)
        tilt = np.rad2deg(np.arccos(affine[2, 2] / SITE.spacing_mm[2]))
        assert tilt <= np.hypot(8.0, 8.0)


def test_a_field_of_view_too_small_for_a_liver_is_refused() -> None:
    small = SITE.model_copy(update={"matrix": (20, 20, 4)})
    with pytest.raises(AcquisitionError, match="field of view is 120 x 120 x 48 mm"):
        scan_grid(small, 3.0)


def test_missing_phases_come_at_their_rate_and_never_pre_or_reference() -> None:
    rng = np.random.default_rng(3)
    drawn = [draw_missing(rng, 0.3, DEFAULT_PHASES, "portal_venous") for _ in range(2000)]
    assert set(drawn) == {None, "arterial", "delayed"}
    assert 1.0 - drawn.count(None) / 2000 == pytest.approx(0.3, abs=0.04)
    assert draw_missing(rng, 1.0, ("pre", "portal_venous"), "portal_venous") is None
