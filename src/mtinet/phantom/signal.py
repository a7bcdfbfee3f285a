"""MR signal of a spoiled gradient echo, from concentration and back.

Times in seconds, angles in degrees, concentrations mM, relaxivities 1/(mM·s).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def spgr_signal(
    conc_mM: ArrayLike,
    t10_s: ArrayLike,
    tr_s: float,
    flip_deg: ArrayLike,
    r1_per_mM_s: ArrayLike,
    s0: ArrayLike = 1.0,
) -> FloatArray:
    """Steady-state signal of a spoiled gradient echo, without T2* decay.

    Parameters
    ----------
    conc_mM : array_like
        Concentration in the tissue.  With blood, use blood concentration and the blood's relaxivity.
    t10_s : array_like
        Longitudinal relaxation time without agent; broadcasts with ``conc_mM``.
    tr_s : float
        Repetition time.
    flip_deg : array_like
        Flip angle.
    r1_per_mM_s : array_like
        Longitudinal relaxivity.
    s0 : array_like
        Signal of fully relaxed spins at a flip angle of 90 degrees.

    Returns
    -------
    ndarray

    Notes
    -----
    ``S = s0 sin α (1 - E) / (1 - cos α E)``, ``E = exp(-TR (1/T10 + r1 C))`` (Ernst equation).
    """
    rate = 1.0 / np.asarray(t10_s, dtype=np.float64) + np.asarray(r1_per_mM_s) * np.asarray(conc_mM)
    recovered = -np.expm1(-tr_s * rate)
    alpha = np.deg2rad(flip_deg)
    left = 1.0 - np.cos(alpha) * (1.0 - recovered)
    return np.asarray(np.asarray(s0) * np.sin(alpha) * recovered / left)


def spgr_concentration(
    signal: ArrayLike,
    n_baseline: int,
    t10_s: ArrayLike,
    tr_s: float,
    flip_deg: float,
    r1_per_mM_s: ArrayLike,
) -> FloatArray:
    """Concentration from the signal of a spoiled gradient echo; the inverse of :func:`spgr_signal`.

    Parameters
    ----------
    signal : array_like, shape (..., T)
        Time last.
    n_baseline : int
        Samples before the agent arrives.  The first is skipped: it may not be in the steady state.
    t10_s, tr_s, flip_deg, r1_per_mM_s
        As in :func:`spgr_signal`; arrays broadcast with the leading axes of ``signal``.

    Returns
    -------
    ndarray, shape (..., T)
        mM; NaN where no concentration gives the signal.

    Raises
    ------
    ValueError
        ``n_baseline`` leaves no sample for the baseline.
    """
    values = np.asarray(signal, dtype=np.float64)
    if not 2 <= n_baseline <= values.shape[-1]:
        raise ValueError(
            f"n_baseline is {n_baseline} of {values.shape[-1]} samples; the first sample is skipped, so give "
            "between 2 and the number of samples"
        )
    reference = values[..., 1:n_baseline].mean(axis=-1)
    t10 = np.asarray(t10_s, dtype=np.float64)[..., None]
    relaxivity = np.asarray(r1_per_mM_s, dtype=np.float64)[..., None]
    full = reference[..., None] / spgr_signal(0.0, t10, tr_s, flip_deg, relaxivity)
    alpha = np.deg2rad(flip_deg)
    with np.errstate(divide="ignore", invalid="ignore"):
        decay = (full * np.sin(alpha) - values) / (full * np.sin(alpha) - values * np.cos(alpha))
        valid = (decay > 0.0) & (decay < 1.0)
        rate = -np.log(np.where(valid, decay, np.nan)) / tr_s
    return np.asarray((rate - 1.0 / t10) / relaxivity)
