"""What flows into the tissues of one patient: plasma of the aorta, the portal vein and the vena cava.

The whole body is one closed loop: the injection enters a vein, passes heart and lungs with dispersion, is
divided by the cardiac output, returns from the organs after exchange with their interstitium, less what
kidneys (and, for gadoxetate, liver) clear, and passes heart and lungs again.  The form of the loop and most
of its numbers follow the whole-body model of Min T et al., Proc ISMRM 2024, in the library dcmri.  Volumes
are fixed, so that cardiac output shapes the first pass and leaves the tail.

Each piece has a closed Laplace transform; the loop is solved there and transformed back numerically with a
damped Fourier series (method of Dubner and Abate).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mtinet.errors import UserError
from mtinet.phantom.agents import Agent
from mtinet.phantom.priors import PRIORS

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

_SOLVE_STEP_S = 0.5
"""Step in which the loop is solved."""

_KEPT_STEPS: tuple[tuple[float, float], ...] = ((60.0, 0.5), (240.0, 1.0), (np.inf, 10.0))
"""Steps in which curves are kept, s, each until its time: curves change slowly late."""

_ALIAS = 1e-6
"""Share by which later periods of the Fourier series are damped."""

_ARRIVED = 0.1
"""The bolus has arrived in the aorta when it reaches this share of its first peak."""

_LEGS_DELAY_S, _GUT_DELAY_S, _KIDNEY_DELAY_S = 8.0, 3.0, 1.0
"""Time in large arteries and veins, part of the transit; assumed."""

_OWN = {
    prior.name.removeprefix("circulation."): prior
    for prior in PRIORS
    if prior.name.startswith("circulation.")
}
"""Priors of the circulation, by the names of the parameters."""

_REFERENCE_OUTPUT_ML_S_KG = _OWN["cardiac_output_ml_s_kg"].median
"""Cardiac output to which the transit times of gut, spleen, legs and kidneys belong."""


class InjectionError(UserError):
    """An injection that no patient can get."""


@dataclass(frozen=True)
class Circulation:
    """Concentration curves of one patient, on a common time axis.

    Attributes
    ----------
    t_s : ndarray, shape (T,)
        Seconds from the start of injection; the steps are larger late.
    arterial_mM, portal_mM : ndarray, shape (T,)
        Plasma of the aorta and of the portal vein.
    caval_mM : ndarray, shape (T,)
        Plasma of the inferior vena cava below the liver.
    hct : float
    parameters : mapping
        What was drawn, by name, and ``arrival_s``: when the bolus reaches the aorta, seconds from the start
        of injection.
    """

    t_s: FloatArray
    arterial_mM: FloatArray
    portal_mM: FloatArray
    caval_mM: FloatArray
    hct: float
    parameters: Mapping[str, float]


def draw_circulation(
    rng: np.random.Generator,
    agent: Agent,
    dose_mmol_kg: float,
    injection_ml_s: float | None,
    until_s: float,
) -> Circulation:
    """Draw a patient's circulation from the priors and inject the agent.

    Parameters
    ----------
    rng : numpy.random.Generator
    agent : Agent
    dose_mmol_kg : float
    injection_ml_s : float or None
        Rate of injection; None = the agent's usual one.
    until_s : float
        Last time needed, seconds from the start of injection.
    """
    drawn = {name: prior.draw(rng) for name, prior in _OWN.items()}
    return circulation(drawn, agent, dose_mmol_kg, injection_ml_s, until_s)


def typical_circulation(
    agent: Agent, dose_mmol_kg: float, injection_ml_s: float | None, until_s: float
) -> Circulation:
    """The circulation at the median of every prior."""
    middle = {name: prior.median for name, prior in _OWN.items()}
    return circulation(middle, agent, dose_mmol_kg, injection_ml_s, until_s)


def circulation(
    parameters: Mapping[str, float],
    agent: Agent,
    dose_mmol_kg: float,
    injection_ml_s: float | None,
    until_s: float,
) -> Circulation:
    """The inputs that belong to given parameters.

    Parameters
    ----------
    parameters : mapping
        By the names of the priors ``circulation.*``.
    agent, dose_mmol_kg, injection_ml_s, until_s
        As in :func:`draw_circulation`.

    Raises
    ------
    InjectionError
        A dose, a rate of injection or a time that is not above 0.
    """
    rate = agent.injection_ml_s if injection_ml_s is None else injection_ml_s
    if dose_mmol_kg <= 0.0 or rate <= 0.0 or until_s < 0.0:
        raise InjectionError(
            f"dose {dose_mmol_kg} mmol/kg, injection {rate} mL/s, until {until_s} s: dose and rate must be "
            "above 0 and the time not negative; correct the settings"
        )
    duration_s = dose_mmol_kg * parameters["weight_kg"] / agent.concentration_M / rate
    solve_t_s = np.arange(0.0, until_s + 2.0 * _KEPT_STEPS[-1][1], _SOLVE_STEP_S)
    s, back = _laplace(solve_t_s.size)
    aorta = _aorta(s, parameters, agent, dose_mmol_kg, duration_s)
    curves = back(np.stack([aorta, aorta * _gut(s, parameters), aorta * _cava(s, parameters)]))
    curves /= 1.0 - parameters["hct"]
    t_s = _kept_times(until_s)
    arterial, portal, caval = (np.interp(t_s, solve_t_s, curve) for curve in curves)
    known = {**parameters, "arrival_s": _arrival_s(solve_t_s, curves[0]), "duration_s": duration_s}
    return Circulation(t_s, arterial, portal, caval, parameters["hct"], known)


def _aorta(
    s: ComplexArray, p: Mapping[str, float], agent: Agent, dose_mmol_kg: float, duration_s: float
) -> ComplexArray:
    """Transform of the concentration in the aorta's blood, mmol/L."""
    output = p["cardiac_output_ml_s_kg"]
    injected = dose_mmol_kg * -np.expm1(-s * duration_s) / (s * duration_s) * np.exp(-s * p["vein_s"])
    central = _spread(s, p["central_ml_kg"] / output, p["central_dispersion"])
    cleared = p["gfr_ml_min_kg"] + (p["hepatic_ml_min_kg"] if agent.hepatobiliary else 0.0)
    # clearances are of plasma, the loop carries blood
    extraction = cleared / 60.0 / (output * (1.0 - p["hct"]))
    organs = (1.0 - extraction) * _exchange(s, p, p["blood_ml_kg"])
    return np.asarray(1e3 * central * injected / (1.0 - central * organs) / output)


def _gut(s: ComplexArray, p: Mapping[str, float]) -> ComplexArray:
    """From the aorta to the portal vein: gut and spleen side by side; nothing is lost."""
    slow = _REFERENCE_OUTPUT_ML_S_KG / p["cardiac_output_ml_s_kg"]
    delay = np.exp(-s * _GUT_DELAY_S)
    gut = _spread(s, slow * p["gut_s"] - _GUT_DELAY_S, 0.7) * _exchange(s, p, 0.0)
    spleen = _spread(s, slow * p["spleen_s"] - _GUT_DELAY_S, 1.0)
    share = p["splenic_share"]
    return np.asarray(delay * (share * spleen + (1.0 - share) * gut))


def _cava(s: ComplexArray, p: Mapping[str, float]) -> ComplexArray:
    """From the aorta to the cava below the liver: legs and kidneys, which keep what they filter."""
    slow = _REFERENCE_OUTPUT_ML_S_KG / p["cardiac_output_ml_s_kg"]
    legs = np.exp(-s * _LEGS_DELAY_S) * _spread(s, slow * p["legs_s"] - _LEGS_DELAY_S, 0.7)
    kidneys = np.exp(-s * _KIDNEY_DELAY_S) * _spread(s, slow * p["kidney_s"] - _KIDNEY_DELAY_S, 1.0)
    # a fifth of the cardiac output passes the kidneys
    filtered = p["gfr_ml_min_kg"] / 60.0 / (0.2 * p["cardiac_output_ml_s_kg"] * (1.0 - p["hct"]))
    share = p["renal_share"]
    return np.asarray(share * (1.0 - filtered) * kidneys + (1.0 - share) * legs * _exchange(s, p, 0.0))


def _spread(s: ComplexArray, mean_s: float, dispersion: float) -> ComplexArray:
    """Transit with a gamma distribution; ``dispersion`` is its standard deviation over its mean."""
    if mean_s <= 0.0:
        return np.ones_like(s)
    shape = dispersion**-2
    return np.asarray((1.0 + s * mean_s / shape) ** -shape)


def _exchange(s: ComplexArray, p: Mapping[str, float], blood_ml_kg: float) -> ComplexArray:
    """Two compartments, blood and interstitium, that exchange by permeability."""
    output, leak = p["cardiac_output_ml_s_kg"], p["permeability_ml_s_kg"]
    return np.asarray(output / (s * blood_ml_kg + output + leak - leak / (1.0 + s * p["interstitium_s"])))


def _arrival_s(t_s: FloatArray, curve: FloatArray) -> float:
    peak = int(curve.argmax())
    return float(np.interp(_ARRIVED * curve[peak], curve[: peak + 1], t_s[: peak + 1]))


def _kept_times(until_s: float) -> FloatArray:
    pieces, start = [], 0.0
    for end, step in _KEPT_STEPS:
        count = int(np.ceil((min(end, until_s) - start) / step))
        pieces.append(start + step * np.arange(max(count, 0)))
        start += step * max(count, 0)
    return np.concatenate([*pieces, [start]]) if start > 0.0 else np.array([0.0, _SOLVE_STEP_S])


class _Back:
    """Back from the Laplace domain to ``count`` samples in steps of ``_SOLVE_STEP_S``."""

    def __init__(self, count: int, length: int, damping: float) -> None:
        self._count, self._length = count, length
        self._growth = np.exp(damping * _SOLVE_STEP_S * np.arange(count)) / _SOLVE_STEP_S

    def __call__(self, transform: ComplexArray) -> FloatArray:
        values = fft.irfft(transform, self._length, axis=-1)[..., : self._count] * self._growth
        # rounding leaves about 1e-6 of the peak before the bolus arrives
        return np.asarray(np.maximum(values, 0.0))


def _laplace(count: int) -> tuple[ComplexArray, _Back]:
    """Points of the damped Fourier series, and the way back."""
    length = fft.next_fast_len(4 * count, real=True)
    period_s = length * _SOLVE_STEP_S
    damping = -np.log(_ALIAS) / period_s
    s = damping + 2j * np.pi * np.arange(length // 2 + 1) / period_s
    return s, _Back(count, length, damping)
