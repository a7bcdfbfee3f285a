"""The signal equation, its inverse, and the OSIPI curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtinet.phantom.signal import spgr_concentration, spgr_signal

OSIPI = Path(__file__).parents[1] / "data" / "osipi"
SEQUENCE = (0.00335, 12.0)


def test_concentration_matches_osipi() -> None:
    table = pd.read_csv(OSIPI / "SI2Conc_data.csv", encoding="utf-8-sig")
    assert len(table) == 5
    for _, row in table.iterrows():
        signal, expected = (np.array(text.split(), dtype=float) for text in (row.s, row.conc))
        ours = spgr_concentration(signal, int(row.numbaselinepts), row.T1base, row.TR, row.FA, row.r1)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_inverse_undoes_the_signal_for_many_tissues_at_once() -> None:
    conc = np.concatenate([np.zeros((3, 4)), np.geomspace(0.01, 4.0, 60).reshape(3, 20)], axis=1)
    t10 = np.array([0.4, 0.8, 2.0])
    signal = spgr_signal(conc, t10[:, None], *SEQUENCE, 4.97, s0=np.array([[10.0], [20.0], [3.0]]))
    np.testing.assert_allclose(spgr_concentration(signal, 4, t10, *SEQUENCE, 4.97), conc, atol=1e-9)


def test_signal_grows_with_concentration_up_to_sin_alpha() -> None:
    signal = spgr_signal(np.geomspace(1e-3, 1e4, 200), 0.8, *SEQUENCE, 4.97)
    assert np.all(np.diff(signal) >= 0.0)
    assert signal[-1] == pytest.approx(np.sin(np.deg2rad(12.0)))


def test_samples_without_a_concentration_are_nan() -> None:
    base = float(spgr_signal(0.0, 0.8, *SEQUENCE, 4.97))
    signal = np.array([base, base, 0.0, 10.0, base])
    conc = spgr_concentration(signal, 2, 0.8, *SEQUENCE, 4.97)
    assert np.isnan(conc).tolist() == [False, False, True, True, False]


def test_baseline_skips_the_first_sample_and_needs_one() -> None:
    base = float(spgr_signal(0.0, 0.8, *SEQUENCE, 4.97))
    conc = spgr_concentration(
        [9 * base, base, base],
        3,
        0.8,
        *SEQUENCE,
        4.97,
    )
    assert conc[1] == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="n_baseline"):
        spgr_concentration([base, base], 1, 0.8, *SEQUENCE, 4.97)


def test_a_map_of_flip_angles_is_each_angle_by_itself() -> None:
    angles = np.array([[8.0, 12.0, 14.0]])
    conc = np.array([[0.0], [0.5]])
    together = spgr_signal(conc, 0.8, 0.00335, angles, 4.97)
    assert together.shape == (2, 3)
    for n, angle in enumerate(angles[0]):
        np.testing.assert_allclose(together[:, n], spgr_signal(conc[:, 0], 0.8, 0.00335, angle, 4.97))


def test_the_signal_without_agent_peaks_at_the_ernst_angle() -> None:
    angles = np.linspace(0.5, 40.0, 8000)
    ernst = np.rad2deg(np.arccos(np.exp(-0.00335 / 0.8)))
    assert angles[np.argmax(spgr_signal(0.0, 0.8, 0.00335, angles, 0.0))] == pytest.approx(ernst, abs=0.01)
