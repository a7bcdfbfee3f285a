"""Tracer kinetics: how much contrast agent a tissue holds at each time.

Times are seconds, rates per minute, concentrations mM.  Inputs are linear between their samples; for such
inputs the convolutions are exact, whatever the step.  Parameters may be arrays: they broadcast with each
other, and curves come back with time as the last axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def parker_aif(t_min: ArrayLike) -> FloatArray:
    """Population arterial input function, whole blood, after about 0.1 mmol/kg.

    Parameters
    ----------
    t_min : array_like
        Minutes from the arrival of the bolus; the concentration is 0 before.

    Returns
    -------
    ndarray
        Whole-blood concentration, mM, of the shape of ``t_min``.

    Notes
    -----
    Parker GJM et al., Magn Reson Med 2006;56:993: two Gaussians and an exponential modulated by a sigmoid.
    """
    t = np.asarray(t_min, dtype=np.float64)
    after = np.maximum(t, 0.0)
    concentration = 1.050 * np.exp(-0.1685 * after) / (1.0 + np.exp(-38.078 * (after - 0.483)))
    for area, centre, width in ((0.809, 0.17046, 0.0563), (0.330, 0.365, 0.132)):
        gaussian = np.exp(-((after - centre) ** 2) / (2.0 * width**2))
        concentration = concentration + area / (width * np.sqrt(2.0 * np.pi)) * gaussian
    return np.where(t >= 0.0, concentration, 0.0)


def blood_to_plasma(c: ArrayLike, hct: ArrayLike) -> FloatArray:
    """Plasma concentration from whole-blood concentration: the agent does not enter red cells.

    Parameters
    ----------
    c : array_like
        Whole-blood concentration, mM.
    hct : array_like
        Haematocrit, 0 <= hct < 1.

    Raises
    ------
    ValueError
        The haematocrit is outside its range.
    """
    fraction = np.asarray(hct, dtype=np.float64)
    if np.any((fraction < 0.0) | (fraction >= 1.0)):
        raise ValueError("a haematocrit is outside 0 to 1; give it as a fraction, not in percent")
    return np.asarray(np.asarray(c, dtype=np.float64) / (1.0 - fraction))


def exponential_convolution(t_s: ArrayLike, input_mM: ArrayLike, rate_per_min: ArrayLike) -> FloatArray:
    """``y(t) = ∫ input(u) exp(-rate (t - u)) du`` from the first time on, in mM·min.

    Parameters
    ----------
    t_s : array_like, shape (T,)
        Increasing times, seconds; the steps need not be equal.
    input_mM : array_like, shape (..., T)
        Input, linear between its samples; leading axes broadcast with ``rate_per_min``.
    rate_per_min : array_like
        Washout rates, >= 0; 0 is plain integration.

    Returns
    -------
    ndarray, shape (broadcast shape, T)
    """
    t_min = _times(t_s) / 60.0
    source, rate = np.asarray(input_mM, dtype=np.float64), np.asarray(rate_per_min, dtype=np.float64)
    if source.shape[-1:] != t_min.shape:
        raise ValueError(f"the input has shape {source.shape} but there are {t_min.size} times")
    if np.any(rate < 0.0) or not np.all(np.isfinite(rate)):
        raise ValueError("a washout rate is negative or not finite; rates are >= 0 per minute")
    step = np.diff(t_min)
    x = rate[..., None] * step
    decay = np.exp(-x)
    first, second = _interval_weights(x)
    gained = step * (source[..., :-1] * (first - second) + source[..., 1:] * second)
    held = np.zeros((*gained.shape[:-1], t_min.size))
    for n in range(step.size):
        held[..., n + 1] = held[..., n] * decay[..., n] + gained[..., n]
    return held


def _interval_weights(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``(1 - e^-x)/x`` and ``(x - 1 + e^-x)/x²``: what an interval adds of a constant and of a unit ramp.

    The series takes over where the differences would cancel.
    """
    small = x < 1e-3
    safe = np.where(small, 1.0, x)
    first = np.where(small, 1.0 - x / 2.0 + x**2 / 6.0, -np.expm1(-safe) / safe)
    second = np.where(small, 0.5 - x / 6.0 + x**2 / 24.0, (safe + np.expm1(-safe)) / safe**2)
    return first, second


def tofts(t_s: ArrayLike, ca_mM: ArrayLike, ktrans_per_min: ArrayLike, ve: ArrayLike) -> FloatArray:
    """Tofts model: ``C = Ktrans · ca ⊗ exp(-Ktrans t / ve)``.

    Parameters
    ----------
    t_s : array_like, shape (T,)
        Seconds.
    ca_mM : array_like, shape (T,)
        Arterial PLASMA concentration.
    ktrans_per_min, ve : array_like
        Transfer constant, per minute, and extracellular extravascular volume fraction, > 0.

    Returns
    -------
    ndarray, shape (broadcast shape of the parameters, T)
        Tissue concentration, mM.

    Notes
    -----
    Tofts PS et al., J Magn Reson Imaging 1999;10:223.
    """
    return extended_tofts(t_s, ca_mM, ktrans_per_min, ve, 0.0)


def extended_tofts(
    t_s: ArrayLike, ca_mM: ArrayLike, ktrans_per_min: ArrayLike, ve: ArrayLike, vp: ArrayLike
) -> FloatArray:
    """Extended Tofts model: the Tofts model (:func:`tofts`) plus plasma in the tissue, ``vp · ca``.

    Parameters
    ----------
    t_s, ca_mM, ktrans_per_min, ve
        As in :func:`tofts`.
    vp : array_like
        Plasma volume fraction.

    Returns
    -------
    ndarray, shape (broadcast shape of the parameters, T)
        Tissue concentration, mM.
    """
    plasma = np.asarray(ca_mM, dtype=np.float64)
    fraction = np.asarray(vp, dtype=np.float64)[..., None]
    return dual_input_one_compartment(t_s, plasma, plasma, ktrans_per_min, 1.0, ve) + fraction * plasma


def dual_input_one_compartment(
    t_s: ArrayLike,
    ca_mM: ArrayLike,
    cv_mM: ArrayLike,
    flow_per_min: ArrayLike,
    arterial_fraction: ArrayLike,
    distribution_volume: ArrayLike,
) -> FloatArray:
    """Liver model with two inputs: ``C = F · (a ca + (1 - a) cv) ⊗ exp(-F t / DV)``.

    Parameters
    ----------
    t_s : array_like, shape (T,)
        Seconds.
    ca_mM, cv_mM : array_like, shape (T,)
        Plasma concentrations of the hepatic artery and of the portal vein.
    flow_per_min : array_like
        Total inflow F, mL plasma a minute and mL tissue.
    arterial_fraction : array_like
        Share a of the inflow that is arterial, 0 to 1.
    distribution_volume : array_like
        Volume fraction DV that the agent reaches, > 0.

    Returns
    -------
    ndarray, shape (broadcast shape of the parameters, T)
        Tissue concentration, mM.

    Notes
    -----
    Materne R et al., Magn Reson Med 2002;47:135.
    """
    flow, volume = np.asarray(flow_per_min, dtype=np.float64), np.asarray(distribution_volume, dtype=float)
    if np.any(volume <= 0.0) or np.any(flow < 0.0):
        raise ValueError("a volume fraction is not above 0, or a flow is negative; correct the parameters")
    share = np.asarray(arterial_fraction, dtype=np.float64)[..., None]
    if np.any((share < 0.0) | (share > 1.0)):
        raise ValueError("an arterial fraction is outside 0 to 1; correct the parameters")
    source = share * np.asarray(ca_mM, dtype=float) + (1.0 - share) * np.asarray(cv_mM, dtype=float)
    return flow[..., None] * exponential_convolution(t_s, source, flow / volume)


def _times(t_s: ArrayLike) -> NDArray[Any]:
    times = np.asarray(t_s, dtype=np.float64)
    if times.ndim != 1 or times.size < 1 or np.any(np.diff(times) <= 0.0):
        raise ValueError("times must be one row of increasing seconds; sort them and remove repeats")
    return times
