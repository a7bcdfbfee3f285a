"""What flows into the tissues of one patient: plasma of the aorta, the portal vein and the vena cava."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtinet.phantom.kinetics import blood_to_plasma, exponential_convolution, parker_aif

FloatArray = NDArray[np.float64]

PARKER_DOSE_MMOL_KG = 0.1
"""Dose behind the population curve."""

_STEP_S = 0.5


@dataclass(frozen=True)
class Circulation:
    """Concentration curves of one patient, on a common time axis.

    Attributes
    ----------
    t_s : ndarray, shape (T,)
        Seconds from the start of injection.
    arterial_mM, portal_mM : ndarray, shape (T,)
        Plasma of the aorta and of the portal vein.
    caval_mM : ndarray, shape (T,)
        Plasma of the inferior vena cava.
    hct : float
    parameters : mapping
        What was drawn, by name.
    """

    t_s: FloatArray
    arterial_mM: FloatArray
    portal_mM: FloatArray
    caval_mM: FloatArray
    hct: float
    parameters: Mapping[str, float]


def draw_circulation(rng: np.random.Generator, dose_mmol_kg: float, until_s: float) -> Circulation:
    """Draw a patient's inputs: Parker's curve, delayed, stretched and scaled, and what the gut makes of it.

    A slow heart widens and lowers the bolus at the same area (``stretch``).  The gut is two well-mixed
    compartments in a row plus a delay.  Priors: arrival 10 ± 1.5 s and gut 9 ± 1.5 s are assumed, so that the
    late arterial phase falls on the first pass; haematocrit 0.42 ± 0.03.

    Parameters
    ----------
    rng : numpy.random.Generator
    dose_mmol_kg : float
    until_s : float
        Last time needed, seconds from the start of injection.
    """
    drawn = {
        "arrival_s": float(np.clip(rng.normal(10.0, 1.5), 6.0, 15.0)),
        "stretch": float(np.exp(np.clip(rng.normal(0.0, 0.12), -0.3, 0.3))),
        "scale": float(np.exp(np.clip(rng.normal(0.0, 0.10), -0.25, 0.25))),
        "gut_transit_s": float(np.clip(rng.normal(9.0, 1.5), 5.0, 14.0)),
        "hct": float(np.clip(rng.normal(0.42, 0.03), 0.33, 0.50)),
    }
    return circulation(drawn, dose_mmol_kg, until_s)


def circulation(parameters: Mapping[str, float], dose_mmol_kg: float, until_s: float) -> Circulation:
    """The inputs that belong to given parameters (names as drawn by :func:`draw_circulation`)."""
    t_s = np.arange(0.0, until_s + 2 * _STEP_S, _STEP_S)
    stretch, hct = parameters["stretch"], parameters["hct"]
    blood = parker_aif((t_s - parameters["arrival_s"]) / 60.0 / stretch) / stretch
    arterial = blood_to_plasma(blood * parameters["scale"] * dose_mmol_kg / PARKER_DOSE_MMOL_KG, hct)
    gut = parameters["gut_transit_s"]
    portal = _delayed(t_s, _mixed(t_s, _mixed(t_s, arterial, gut), gut), 3.0)
    legs = _delayed(t_s, _mixed(t_s, _mixed(t_s, arterial, 25.0), 10.0), 12.0)
    kidneys = _delayed(t_s, _mixed(t_s, arterial, 6.0), 2.0)
    return Circulation(t_s, arterial, portal, 0.6 * legs + 0.4 * kidneys, hct, dict(parameters))


def _mixed(t_s: FloatArray, curve: FloatArray, transit_s: float) -> FloatArray:
    """What leaves a well-mixed compartment of that mean transit time; the amount is kept."""
    rate = 60.0 / transit_s
    return rate * exponential_convolution(t_s, curve, rate)


def _delayed(t_s: FloatArray, curve: FloatArray, delay_s: float) -> FloatArray:
    return np.interp(t_s - delay_s, t_s, curve, left=0.0)
