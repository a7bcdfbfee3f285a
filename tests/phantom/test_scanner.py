"""The imaging chain: partial volume, flip angle, truncation, noise, gain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rice

from mtinet.config import SiteSettings
from mtinet.phantom.acquisition import AcquisitionError, scan_grid
from mtinet.phantom.motion import Displacement, no_displacement
from mtinet.phantom.scanner import Scanner, draw_scanner, g_factor, truncated
from mtinet.phantom.shapes import box_mean

SITE = SiteSettings(name="A", spacing_mm=(4.0, 4.0, 8.0), matrix=(80, 64, 12), acceleration=1.0)
GRID = scan_grid(SITE, 5.0)


def _scanner(seed: int = 0, **changes: object) -> Scanner:
    return draw_scanner(np.random.default_rng(seed), SITE.model_copy(update=changes), GRID)


@pytest.mark.parametrize("habits", ["vibe", "lava", "thrive"])
def test_noise_is_what_the_site_says_over_the_nominal_liver(habits: str) -> None:
    scanner = _scanner(habits=habits, noise=0.05, gain=2000.0)
    liver = np.full(SITE.matrix, scanner.gain, dtype=np.complex64)
    stored = [scanner.stored(liver, scanner.noise(np.random.default_rng(s))) for s in range(3)]
    assert np.std(stored) == pytest.approx(0.05 * scanner.gain, rel=0.01)
    assert np.mean(stored) == pytest.approx(scanner.gain, rel=0.005)


def test_noise_is_rician_where_there_is_no_signal() -> None:
    scanner = _scanner(noise=0.05)
    sigma = 0.05 * scanner.gain
    noise = scanner.noise(np.random.default_rng(0))
    for signal in (0.0, sigma, 2.0 * sigma):
        faint = scanner.stored(np.full(SITE.matrix, signal, dtype=np.complex64), noise).astype(float)
        expected = rice.mean(signal / sigma, scale=sigma)
        assert faint.mean() == pytest.approx(expected, rel=0.01)
        assert faint.std() == pytest.approx(rice.std(signal / sigma, scale=sigma), rel=0.02)
    # the phase of the image makes no difference
    turned = np.full(SITE.matrix, 3j * sigma, dtype=np.complex64)
    assert scanner.stored(turned, noise).mean() == pytest.approx(rice.mean(3.0, scale=sigma), rel=0.01)


def test_acceleration_costs_noise_in_the_middle_of_the_body() -> None:
    np.testing.assert_array_equal(g_factor(1.0, (80, 64)), 1.0)
    g = g_factor(3.0, (80, 64))[..., 0]
    assert g[40, 32] > 1.5 > 1.1 > g[0, 0] >= 1.0
    scanner = _scanner(acceleration=3.0, noise=0.05)
    noise = np.concatenate([scanner.noise(np.random.default_rng(s)) for s in range(6)], axis=2)
    assert noise[37:43, 29:35].real.std() == pytest.approx(
        g[37:43, 29:35].mean() * 0.05 * scanner.gain, rel=0.05
    )


def test_truncation_keeps_what_the_matrix_can_hold() -> None:
    fine = (np.arange(96) + 0.5) / 96
    coarse = (np.arange(48) + 0.5) / 48

    def smooth(t: np.ndarray) -> np.ndarray:
        return 2.0 + np.cos(2 * np.pi * 3 * t) + 0.5 * np.sin(2 * np.pi * 17 * t + 0.3)

    image = np.broadcast_to(smooth(fine)[None, :, None], (4, 96, 2)).astype(np.float32)
    np.testing.assert_allclose(truncated(image, 1, 2)[0, :, 0], smooth(coarse), atol=1e-5)
    odd = np.broadcast_to(smooth((np.arange(90) + 0.5) / 90)[None, :, None], (4, 90, 2)).astype(np.float32)
    np.testing.assert_allclose(truncated(odd, 1, 2)[0, :, 0], smooth((np.arange(45) + 0.5) / 45), atol=1e-5)


def test_edges_ring_by_what_gibbs_says() -> None:
    largest = []
    for offset in range(16):
        # a long bar on a grid 16 times as fine; its edges pass all positions within a voxel
        bar = np.zeros((16 * 512, 1, 1), dtype=np.float32)
        bar[16 * 128 + offset : 16 * 384 + offset] = 1.0
        rung = truncated(bar, 0, 16)[:, 0, 0]
        assert rung.mean() == pytest.approx(0.5, abs=1e-5)
        # far from the edges it has died away
        assert rung[256] == pytest.approx(1.0, abs=0.01)
        largest.append((rung.max() - 1.0, -rung.min()))
    # Wilbraham and Gibbs: 8.95 % of the step on either side
    np.testing.assert_allclose(np.max(largest, axis=0), 0.0895, atol=0.002)


def test_tissue_signal_is_the_mean_through_the_slice_under_the_local_flip_angle() -> None:
    rng = np.random.default_rng(1)
    scanner = _scanner(b1=0.1)
    labels = rng.integers(0, 5, GRID.fine.shape).astype(np.uint16)
    table = rng.random((5, len(scanner.b1))).astype(np.float32)
    moved = Displacement(GRID, rng.integers(-1, 2, (3, 160, 128)))
    seen = scanner.tissue_signal(labels, table, moved)
    parts = moved.view(labels)
    each = table[parts, np.repeat(scanner.level, GRID.factor[2], axis=2)]
    np.testing.assert_allclose(seen, box_mean(each, (1, 1, GRID.factor[2])), rtol=1e-5)


def test_many_parts_do_not_overflow() -> None:
    scanner = _scanner()
    labels = np.full(GRID.fine.shape, 2999, dtype=np.uint16)
    table = np.zeros((3000, len(scanner.b1)), dtype=np.float32)
    table[2999] = 1.0
    np.testing.assert_allclose(scanner.tissue_signal(labels, table, no_displacement(GRID)), 1.0, rtol=1e-6)


def test_flip_angles_stay_within_the_sites_error() -> None:
    scanner = _scanner(b1=0.12)
    assert scanner.b1[0] == pytest.approx(0.88)
    assert scanner.b1[-1] == pytest.approx(1.12)
    actual = scanner.b1[scanner.level]
    assert actual.mean() == pytest.approx(1.0, abs=0.005)
    assert max(np.abs(np.diff(actual, axis=axis)).max() for axis in (0, 1)) < 0.016
    exact = _scanner(b1=0.0)
    assert exact.b1.tolist() == [1.0]
    assert not exact.level.any()


def test_an_even_object_shows_the_receive_field() -> None:
    scanner = _scanner(bias=0.3)
    ones = np.ones(scanner.level.shape, dtype=np.float32)
    image = scanner.received(ones, np.ones(SITE.matrix, dtype=np.float32))
    inner = (slice(10, -10), slice(10, -10))
    expected = box_mean(scanner.receive, (2, 2, 1))
    np.testing.assert_allclose(image[inner], expected[inner], atol=0.02)


def test_smoothing_keeps_the_mean_and_vibe_is_left_alone() -> None:
    image = np.random.default_rng(0).standard_normal((20, 18, 3)).astype(np.complex64)
    assert _scanner(habits="vibe").filtered(image) is image
    smooth = _scanner(habits="lava").filtered(image)
    assert smooth.sum() == pytest.approx(image.sum(), abs=1e-3)
    assert smooth.std() < image.std()


def test_noise_at_the_end_of_the_stored_range_is_cut_not_wrapped() -> None:
    scanner = _scanner(noise=0.05)
    full = np.full(SITE.matrix, 32767.0, dtype=np.complex64)
    stored = scanner.stored(full, scanner.noise(np.random.default_rng(0)))
    assert stored.dtype == np.int16
    assert stored.min() > 32000
    assert stored.max() == 32767


def test_a_gain_that_saturates_is_refused_by_name() -> None:
    scanner = _scanner()
    with pytest.raises(
        AcquisitionError, match=r"site A: with a gain of .* brightest voxel is 40000.* below 819"
    ):
        scanner.stored(np.full(SITE.matrix, 40_000.0, np.complex64), np.zeros(SITE.matrix, np.complex64))
