"""Ghosts against the modulation of k-space that makes them; signal lost near gas."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.config import SiteSettings
from mtinet.phantom import artefacts
from mtinet.phantom.acquisition import scan_grid
from mtinet.phantom.artefacts import Ghosts, Sources, draw_ghosts, kept, signal_near_gas, with_ghosts
from mtinet.phantom.motion import Displacement, no_displacement
from mtinet.phantom.tissues import Tissue

SITE = SiteSettings(name="A", spacing_mm=(4.0, 4.0, 8.0), matrix=(80, 64, 12))
GRID = scan_grid(SITE, 5.0)
TISSUES = [Tissue(name, 1.0) for name in ("air", "muscle", "lung")]


def _blob(width: float) -> np.ndarray:
    x, y = np.arange(32)[:, None, None], np.arange(96)[None, :, None]
    blob = np.exp(-(((x - 15) / 6.0) ** 2) - ((y - 40) / width) ** 2) * np.ones(5)
    return blob.astype(np.float32)


def _lines(shift: int, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequency of every phase-encode line, and the phase of the motion while it is taken."""
    line = np.fft.fftfreq(96, 1.0 / 96)
    return line, -2.0 * np.pi * shift * line / 96 + phase


def test_pulsation_is_the_modulation_of_the_lines() -> None:
    image = _blob(6.0)
    full = Sources(np.ones_like(image), np.zeros((32, 96, 1), np.float32), np.zeros((32, 96, 1), np.float32))
    ghosts = Ghosts(17, 5, pulsation=0.03, wall_mm=0.0, unrest_mm=0.0, phases=(0.7, 0.0, 0.0))
    seen = with_ghosts(image, full, ghosts, (4.0, 4.0, 8.0))
    _, angle = _lines(17, 0.7)
    first, second = artefacts._HARMONICS
    change = 1.0 + 0.06 * (first * np.cos(angle) + second * np.cos(2.0 * angle))
    expected = np.fft.ifft(np.fft.fft(image, axis=1) * change[None, :, None], axis=1)
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_a_moving_wall_is_the_phase_modulation_of_the_lines_to_first_order() -> None:
    image = _blob(8.0)
    one, none = np.ones((32, 96, 1), np.float32), np.zeros((32, 96, 1), np.float32)
    ghosts = Ghosts(17, 12, pulsation=0.0, wall_mm=0.3, unrest_mm=0.0, phases=(0.0, 1.1, 0.0))
    seen = with_ghosts(image, Sources(image * 0, one, none), ghosts, (4.0, 4.0, 8.0)) - image
    line, angle = _lines(12, 1.1)
    shift = np.exp(2j * np.pi * line / (96 * 4.0) * 0.3 * np.cos(angle))
    expected = np.fft.ifft(np.fft.fft(image, axis=1) * shift[None, :, None], axis=1) - image
    assert np.abs(seen - expected).max() < 0.06 * np.abs(expected).max()


def test_a_failed_breath_hold_leaves_more_than_one_that_holds() -> None:
    image = _blob(8.0)
    one, none = np.ones((32, 96, 1), np.float32), np.zeros((32, 96, 1), np.float32)
    change = [
        np.abs(
            with_ghosts(
                image, Sources(image * 0, none, one), Ghosts(17, 5, 0.0, 0.2, u, (0.0,) * 3), (4.0,) * 3
            )
            - image
        ).max()
        for u in (0.0, 1.0, 2.6)
    ]
    assert change[0] == 0.0
    assert change[2] > 2.0 * change[1] > 0.0


def test_a_site_without_artefacts_has_none() -> None:
    clean = SITE.model_copy(update={"artefacts": 0.0})
    image = _blob(8.0)
    one = np.ones((32, 96, 1), np.float32)
    ghosts = draw_ghosts(np.random.default_rng(0), clean, unrest=1.0)
    np.testing.assert_array_equal(with_ghosts(image, Sources(image, one, one), ghosts, (4.0,) * 3), image)
    labels = np.full(GRID.fine.shape, 2, dtype=np.uint16)
    np.testing.assert_allclose(signal_near_gas(GRID, labels, TISSUES, clean), 1.0)


def _body_with_lung() -> np.ndarray:
    labels = np.zeros(GRID.fine.shape, dtype=np.uint16)
    labels[20:-20, 20:-20] = 1
    labels[20:-20, 20:-20, GRID.fine.shape[2] // 2 :] = 2
    return labels


def test_signal_is_lost_near_lung_but_not_at_the_skin_or_far_away() -> None:
    near = signal_near_gas(GRID, _body_with_lung(), TISSUES, SITE)
    border = GRID.fine.shape[2] // 2
    x, y = SITE.matrix[0] // 2, SITE.matrix[1] // 2
    assert 0.3 < near[x, y, border - 2] < 0.85
    assert near[x, y, border - 20] > 0.99
    assert near[12, y, 5] > 0.99
    later = signal_near_gas(GRID, _body_with_lung(), TISSUES, SITE.model_copy(update={"te_ms": 2.7}))
    np.testing.assert_allclose(later, near**2, rtol=0.03)


def test_lost_signal_moves_with_the_lung() -> None:
    near = signal_near_gas(GRID, _body_with_lung(), TISSUES, SITE)
    still = no_displacement(GRID)
    down = Displacement(GRID, still.voxels + np.array([0, 0, -4])[:, None, None])
    # a slice is four fine voxels: what was in one slice is now seen in the slice below
    np.testing.assert_array_equal(kept(GRID, near, down)[..., :-1], kept(GRID, near, still)[..., 1:])


def test_ghost_strengths_vary_about_their_medians() -> None:
    drawn = [draw_ghosts(np.random.default_rng(s), SITE) for s in range(400)]
    assert np.median([g.pulsation for g in drawn]) == pytest.approx(artefacts._PULSATION, rel=0.1)
    assert np.median([g.wall_mm for g in drawn]) == pytest.approx(artefacts._WALL_MM, rel=0.1)
    assert all(g.unrest_mm == 0.0 and g.heart_shift > g.breath_shift > 0 for g in drawn)
