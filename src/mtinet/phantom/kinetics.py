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
    times = _times(t_s)
    source, rate = np.asarray(input_mM, dtype=np.float64), np.asarray(rate_per_min, dtype=np.float64)
    if source.shape[-1:] != times.shape:
        raise ValueError(f"the input has shape {source.shape} but there are {times.size} times")
    if np.any(rate < 0.0) or not np.all(np.isfinite(rate)):
        raise ValueError("a washout rate is negative or not finite; rates are >= 0 per minute")
    lead = np.broadcast_shapes(rate.shape, source.shape[:-1])
    length = int(np.ceil(np.sqrt(times.size)))
    blocks = -(-times.size // length)
    held = np.zeros((*lead, blocks * length))
    if times.size > 1:
        step, which = _distinct_steps(times)
        x = rate[..., None] * step
        first, second = _interval_weights(x)
        before, after = (step * (first - second))[..., which], (step * second)[..., which]
        gained = held[..., 1 : times.size]
        np.multiply(source[..., :-1], before, out=gained)
        gained += source[..., 1:] * after
        _accumulate(held.reshape(*lead, blocks, length), np.exp(-x)[..., which])
    return held[..., : times.size]


def _distinct_steps(t_s: FloatArray) -> tuple[FloatArray, NDArray[np.intp]]:
    """Distinct steps in minutes, and which of them each interval has (one entry if all are equal).

    Exponentials are then taken once for each distinct step.  Steps that differ by rounding count as equal.
    """
    step = np.diff(t_s) / 60.0
    if np.ptp(step) <= 1e-9 * step.max():
        return np.array([step.mean()]), np.zeros(1, dtype=np.intp)
    distinct, which = np.unique(step, return_inverse=True)
    return distinct, which.astype(np.intp)


def _accumulate(held: FloatArray, decay: FloatArray) -> None:
    """In place ``y[n] = decay[n - 1] · y[n - 1] + held[n]`` along the last two axes, read as one time axis.

    All blocks (the last axis but one) advance together as if each began at zero, then what is left of the
    block before is added: with √T blocks of √T samples 2 √T steps in Python instead of T.  The last axis of
    ``decay`` may have length 1.
    """
    blocks, length = held.shape[-2:]
    if decay.shape[-1] == 1:
        each = np.broadcast_to(decay[..., None], (*decay.shape[:-1], 1, length))
    else:
        each = np.zeros((*decay.shape[:-1], blocks * length))
        each[..., 1 : decay.shape[-1] + 1] = decay
        each = each.reshape(*decay.shape[:-1], blocks, length)
    left = np.cumprod(each, axis=-1)
    for n in range(1, length):
        held[..., n] += each[..., n] * held[..., n - 1]
    for block in range(1, blocks):
        held[..., block, :] += left[..., min(block, left.shape[-2] - 1), :] * held[..., block - 1, -1:]


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
    _check(flow, volume)
    source = _mixed_input(ca_mM, cv_mM, arterial_fraction)
    held = exponential_convolution(t_s, source, flow / volume)
    held *= flow[..., None]
    return held


def dual_input_extended_tofts(
    t_s: ArrayLike,
    ca_mM: ArrayLike,
    cv_mM: ArrayLike,
    ktrans_per_min: ArrayLike,
    arterial_fraction: ArrayLike,
    ve: ArrayLike,
    vp: ArrayLike = 0.0,
) -> FloatArray:
    """Extended Tofts model with two inputs: ``C = Ktrans · c ⊗ exp(-Ktrans t / ve) + vp · c``.

    The plasma of the tissue holds the mixed input ``c = a ca + (1 - a) cv``.

    Parameters
    ----------
    t_s, ca_mM, cv_mM, arterial_fraction
        As in :func:`dual_input_one_compartment`.
    ktrans_per_min, ve, vp
        As in :func:`extended_tofts`; ``vp`` 0 is the dual-input Tofts model.

    Returns
    -------
    ndarray, shape (broadcast shape of the parameters, T)
        Tissue concentration, mM.

    Notes
    -----
    Tofts PS et al., J Magn Reson Imaging 1999;10:223, with the mixed input of Materne R et al., Magn Reson
    Med 2002;47:135.
    """
    plasma = np.asarray(vp, dtype=np.float64)
    if np.any(plasma < 0.0):
        raise ValueError("a plasma volume fraction is negative; correct the parameters")
    leaked = dual_input_one_compartment(t_s, ca_mM, cv_mM, ktrans_per_min, arterial_fraction, ve)
    return np.asarray(leaked + plasma[..., None] * _mixed_input(ca_mM, cv_mM, arterial_fraction))


def dual_input_hepatocyte(
    t_s: ArrayLike,
    ca_mM: ArrayLike,
    cv_mM: ArrayLike,
    flow_per_min: ArrayLike,
    arterial_fraction: ArrayLike,
    distribution_volume: ArrayLike,
    uptake_per_min: ArrayLike,
    excretion_per_min: ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """Liver model with two inputs, uptake into hepatocytes and excretion into bile, for gadoxetate.

    ``dE/dt = F (a ca + (1 - a) cv) - (F + k) E / DV`` and ``dH/dt = k E / DV - x H``: the parts are returned
    apart because their relaxivities differ.

    Parameters
    ----------
    t_s, ca_mM, cv_mM, flow_per_min, arterial_fraction, distribution_volume
        As in :func:`dual_input_one_compartment`; the volume is that outside the hepatocytes.
    uptake_per_min : array_like
        k, mL plasma cleared into hepatocytes a minute and mL tissue; 0 = none.
    excretion_per_min : array_like
        x, rate constant of what hepatocytes hold: excretion per mL tissue over their volume fraction.

    Returns
    -------
    extracellular, hepatocyte : ndarray, shape (broadcast shape of the parameters, T)
        mM of TISSUE (E and H above: concentration in the compartment times its volume fraction).

    Notes
    -----
    Two-compartment uptake model with a dual inlet: Sourbron S et al., Radiology 2012;263:874; with the
    excretion: Georgiou L et al., Invest Radiol 2017;52:111.  Both convolutions are exact for inputs linear
    between samples: the response of H is a difference of two exponentials.
    """
    uptake, excretion = np.asarray(uptake_per_min, dtype=float), np.asarray(excretion_per_min, dtype=float)
    if np.any(uptake < 0.0) or np.any(excretion < 0.0):
        raise ValueError("an uptake or excretion rate is negative; correct the parameters")
    flow, volume = np.asarray(flow_per_min, dtype=np.float64), np.asarray(distribution_volume, dtype=float)
    _check(flow, volume)
    source = _mixed_input(ca_mM, cv_mM, arterial_fraction)
    emptying = (flow + uptake) / volume
    rows = np.broadcast_shapes(emptying.shape, source.shape[:-1], excretion.shape)
    emptying, uptake, excretion, volume, flow = (
        np.broadcast_to(values, rows) for values in (emptying, uptake, excretion, volume, flow)
    )
    outside = exponential_convolution(t_s, source, emptying)
    inside = np.zeros(outside.shape)
    active = uptake * flow > 0.0  # most tissues have no hepatocytes: nothing to compute for them
    if np.any(active):
        fast = emptying[active]
        # equal rates would divide 0 by 0: moved apart by a millionth, which changes the curve as little
        slow = np.where(np.abs(fast - excretion[active]) < 1e-6 * fast, fast * (1 - 1e-6), excretion[active])
        kept = exponential_convolution(t_s, np.broadcast_to(source, outside.shape)[active], slow)
        scale = (flow * uptake / volume)[active] / (fast - slow)
        inside[active] = scale[:, None] * (kept - outside[active])
    outside *= flow[..., None]
    return outside, inside


def _mixed_input(ca_mM: ArrayLike, cv_mM: ArrayLike, arterial_fraction: ArrayLike) -> FloatArray:
    share = np.asarray(arterial_fraction, dtype=np.float64)[..., None]
    if np.any((share < 0.0) | (share > 1.0)):
        raise ValueError("an arterial fraction is outside 0 to 1; correct the parameters")
    return np.asarray(share * np.asarray(ca_mM, dtype=float) + (1.0 - share) * np.asarray(cv_mM, dtype=float))


def _check(flow: FloatArray, volume: FloatArray) -> None:
    if np.any(volume <= 0.0) or np.any(flow < 0.0):
        raise ValueError("a volume fraction is not above 0, or a flow is negative; correct the parameters")


def _times(t_s: ArrayLike) -> NDArray[Any]:
    times = np.asarray(t_s, dtype=np.float64)
    if times.ndim != 1 or times.size < 1 or np.any(np.diff(times) <= 0.0):
        raise ValueError("times must be one row of increasing seconds; sort them and remove repeats")
    return times
