"""The scanner: where voxels lie, when images are taken, what noise and motion do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rice

from mtinet.config import DEFAULT_PHASES, SiteSettings
from mtinet.phantom import acquisition
from mtinet.phantom.acquisition import AcquisitionError, scan_grid

SITE = SiteSettings(name="A", spacing_mm=(6.0, 6.0, 12.0), matrix=(56, 44, 10), oblique_deg=8.0)


def test_fine_grid_covers_the_scanner_and_what_breathing_brings_in() -> None:
    grid = scan_grid(SITE, 4.0)
    assert grid.factor == (2, 2, 4)
    for step, factor, spacing in zip(grid.fine.spacing_mm, grid.factor, SITE.spacing_mm):
        assert step * factor == pytest.approx(spacing)
    assert grid.margin[2] * grid.fine.spacing_mm[2] >= 12.0
    assert grid.view(np.zeros(grid.fine.shape)).shape == (112, 88, 40)


def test_moved_content_shows_where_it_moved_to() -> None:
    grid = scan_grid(SITE, 8.0)
    labels = np.zeros(grid.fine.shape, dtype=np.uint16)
    x, y, z = (m + f * 5 for m, f in zip(grid.margin, grid.factor))
    labels[x : x + 2, y : y + 2, z : z + 4] = 1
    signals = np.array([0.0, 1.0], dtype=np.float32)
    still = acquisition.clean_image(grid, labels, signals, (0, 0, 0))
    moved = acquisition.clean_image(grid, labels, signals, (0, 2, -4))
    assert np.argwhere(still).tolist() == [[5, 5, 5]]
    assert np.argwhere(moved).tolist() == [[5, 6, 4]]


def test_covering_voxels_hold_the_box() -> None:
    grid = scan_grid(SITE, 4.0)
    box = (slice(33, 47), slice(20, 21), slice(9, 30))
    coarse, fine = grid.covering(box)
    assert all(f.start <= b.start and f.stop >= b.stop for f, b in zip(fine, box))
    whole = grid.fraction(np.ones(grid.fine.shape, dtype=bool))
    assert whole[coarse].shape == tuple((f.stop - f.start) // n for f, n in zip(fine, grid.factor))


def test_affine_keeps_the_spacing_and_right_angles() -> None:
    for seed in range(5):
        affine = acquisition.draw_affine(np.random.default_rng(seed), SITE)[:3, :3]
        np.testing.assert_allclose(affine.T @ affine, np.diag(np.square(SITE.spacing_mm)), atol=1e-9)
        tilt = np.rad2deg(np.arccos(affine[2, 2] / SITE.spacing_mm[2]))
        assert tilt <= np.hypot(8.0, 8.0)


def test_times_rise_in_order_even_with_wild_jitter() -> None:
    site = SITE.model_copy(update={"timing_jitter_s": 80.0})
    for seed in range(20):
        times = acquisition.draw_times(np.random.default_rng(seed), site, DEFAULT_PHASES)
        assert list(times) == ["arterial", "portal_venous", "delayed"]
        values = list(times.values())
        assert values == sorted(values)
        assert values[0] > 0.0


def test_a_phase_without_a_time_is_refused_by_name() -> None:
    with pytest.raises(AcquisitionError, match=r"site A.*hepatobiliary.*times_s"):
        acquisition.draw_times(np.random.default_rng(0), SITE, (*DEFAULT_PHASES, "hepatobiliary"))


def test_a_field_of_view_too_small_for_a_liver_is_refused() -> None:
    small = SITE.model_copy(update={"matrix": (20, 20, 4)})
    with pytest.raises(AcquisitionError, match="field of view is 120 x 120 x 48 mm"):
        scan_grid(small, 3.0)


def test_reference_phase_stays_and_breathing_is_mostly_cranio_caudal() -> None:
    grid = scan_grid(SiteSettings(name="B"), 5.0)
    moves = [
        acquisition.draw_moves(np.random.default_rng(s), grid, 5.0, DEFAULT_PHASES, "portal_venous")
        for s in range(300)
    ]
    assert {move["portal_venous"] for move in moves} == {(0, 0, 0)}
    x, y, z = np.std([move["arterial"] for move in moves], axis=0) * grid.fine.spacing_mm
    assert z == pytest.approx(5.0, rel=0.15)
    assert x < y < 0.5 * z


def test_missing_phases_come_at_their_rate_and_never_pre_or_reference() -> None:
    rng = np.random.default_rng(3)
    drawn = [acquisition.draw_missing(rng, 0.3, DEFAULT_PHASES, "portal_venous") for _ in range(2000)]
    assert set(drawn) == {None, "arterial", "delayed"}
    assert 1.0 - drawn.count(None) / 2000 == pytest.approx(0.3, abs=0.04)
    assert acquisition.draw_missing(rng, 1.0, ("pre", "portal_venous"), "portal_venous") is None


def test_receive_field_is_smooth_about_one_and_as_strong_as_asked() -> None:
    field = acquisition.draw_receive_field(np.random.default_rng(0), (40, 30, 10), 0.2)
    assert np.abs(field - 1.0).max() == pytest.approx(0.2, abs=1e-5)
    assert field.mean() == pytest.approx(1.0, abs=1e-4)
    assert np.abs(np.diff(field, axis=0)).max() < 0.05


def test_noise_is_rician() -> None:
    rng = np.random.default_rng(0)
    shape = (60, 60, 10)
    air = acquisition.measured(rng, np.zeros(shape, np.float32), 50.0).astype(float)
    assert air.mean() == pytest.approx(50.0 * np.sqrt(np.pi / 2.0), rel=0.01)
    # at a signal-to-noise ratio of one the mean is half as large again as the signal: Gaussian noise keeps it
    for signal in (50.0, 100.0):
        faint = acquisition.measured(rng, np.full(shape, signal, np.float32), 50.0).astype(float)
        assert faint.mean() == pytest.approx(rice.mean(signal / 50.0, scale=50.0), rel=0.01)
        assert faint.std() == pytest.approx(rice.std(signal / 50.0, scale=50.0), rel=0.02)
    assert rice.mean(1.0, scale=50.0) > 1.5 * 50.0


def test_noise_at_the_end_of_the_stored_range_is_cut_not_wrapped() -> None:
    stored = acquisition.measured(np.random.default_rng(0), np.full((9, 9, 9), 32767.0, np.float32), 50.0)
    assert stored.dtype == np.int16
    assert stored.min() > 32000
    assert stored.max() == 32767


def test_a_gain_that_saturates_is_refused_by_name() -> None:
    acquisition.check_range(np.full((2, 2), 32767.0, np.float32), SITE, 1000.0)
    with pytest.raises(AcquisitionError, match=r"site A: with a gain of 1100 .* 40000.* below 819"):
        acquisition.check_range(np.full((2, 2), 40_000.0, np.float32), SITE, 1100.0)
