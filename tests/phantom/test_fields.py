"""Smooth fields, and smooth arrays on other grids."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.fields import draw_field, resample


def test_a_field_is_smooth_about_one_and_as_strong_as_asked() -> None:
    for seed in range(10):
        field = draw_field(np.random.default_rng(seed), (40, 30, 10), 0.2)
        assert np.abs(field - 1.0).max() == pytest.approx(0.2, abs=1e-5)
        assert field.mean() == pytest.approx(1.0, abs=1e-4)
        assert np.abs(np.diff(field, axis=0)).max() < 0.05


def test_the_same_draw_is_the_same_field_on_a_finer_grid() -> None:
    coarse = draw_field(np.random.default_rng(4), (40, 30, 10), 0.2)
    fine = draw_field(np.random.default_rng(4), (80, 60, 10), 0.2)
    np.testing.assert_allclose(fine.reshape(40, 2, 30, 2, 10).mean(axis=(1, 3)), coarse, atol=0.01)


def test_no_amplitude_no_field() -> None:
    assert np.all(draw_field(np.random.default_rng(0), (5, 4, 3), 0.0) == 1.0)


def test_resampling_keeps_what_is_linear() -> None:
    ramp = (np.arange(8) + 0.5)[:, None] * np.ones(3)
    finer = resample(ramp, (32, 3))
    expected = np.clip((np.arange(32) + 0.5) / 4.0, 0.5, 7.5)
    np.testing.assert_allclose(finer, np.repeat(expected[:, None], 3, axis=1), rtol=1e-5)
    np.testing.assert_allclose(resample(np.full((5, 7, 2), 3.0), (11, 4, 9)), 3.0, rtol=1e-5)
