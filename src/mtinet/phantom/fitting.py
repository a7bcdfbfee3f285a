"""The phantom's gadoxetate model fitted to measured signals of aorta and liver.

The aorta's signal becomes blood concentration with the blood's relaxivity, then plasma; the portal vein
carries the same plasma after a delay and dispersion in the gut; liver and hepatocytes follow
:func:`~mtinet.phantom.kinetics.dual_input_hepatocyte`; the signal equation closes the loop.

What is fixed: relaxation rates before the agent (measured), haematocrit, relaxivities (those of
:mod:`~mtinet.phantom.agents`), and the baselines of both signals: the mean of the samples before the
injection, without the first, which may not be in the steady state.  A scale of the liver's signal is no free
parameter.

Fresh spins that flow into the slab are not corrected: they raise the aorta's baseline, so the concentrations
found in the aorta are too low.  Flow, distribution volume and uptake, which multiply them, are then too high
by about one common factor; the shape of the curve, and with it R², hardly depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, optimize

from mtinet.phantom.agents import AGENTS
from mtinet.phantom.kinetics import blood_to_plasma, dual_input_hepatocyte, exponential_convolution
from mtinet.phantom.signal import spgr_concentration, spgr_signal
from mtinet.phantom.tissues import at_field

FloatArray = NDArray[np.float64]


class Bounds(NamedTuple):
    """Range of a free parameter."""

    low: float
    high: float
    unit: str


BOUNDS: dict[str, Bounds] = {
    "flow": Bounds(0.0, 6.0, "1/min"),
    "arterial_fraction": Bounds(0.0, 1.0, ""),
    "distribution_volume": Bounds(0.01, 0.6, ""),
    "gut_transit": Bounds(0.1, 60.0, "s"),
    "uptake": Bounds(0.0, 6.0, "1/min"),
    "excretion": Bounds(1.0 / 600.0, 0.1, "1/min"),
}
"""The six free parameters and their ranges: those of the published library dcmri (dual-inlet liver model for
intracellular agents, github.com/dcmri/dcmri, ``AortaPortalLiver``): plasma flow 0 to 0.1 mL/s/mL, arterial
fraction 0 to 1, extracellular volume 0.01 to 0.6, gut transit 0.1 to 60 s, uptake 0 to 0.1 mL/s/mL,
hepatocyte transit time 600 to 36000 s (excretion is its inverse)."""

STARTS: tuple[tuple[float, ...], ...] = (
    (1.0, 0.2, 0.2, 15.0, 0.03, 0.02),
    (0.6, 0.4, 0.3, 8.0, 0.10, 0.05),
    (1.5, 0.1, 0.12, 25.0, 0.01, 0.01),
)
"""Where the search begins, in the order of :data:`BOUNDS`; the best end counts."""


@dataclass(frozen=True)
class Visit:
    """One measured examination.

    Attributes
    ----------
    name : str
    t_s : ndarray, shape (T,)
    aorta, liver : ndarray, shape (T,)
        Signals, any unit.
    r10_blood_per_s, r10_liver_per_s : float
        Longitudinal relaxation rates before the agent.
    hct : float
    injection_s : float
        Start of the injection; samples before are the baseline.
    tr_s, flip_deg, field_T : float
    """

    name: str
    t_s: FloatArray
    aorta: FloatArray
    liver: FloatArray
    r10_blood_per_s: float
    r10_liver_per_s: float
    hct: float
    injection_s: float
    tr_s: float
    flip_deg: float
    field_T: float

    @property
    def before(self) -> int:
        """How many samples lie before the injection."""
        return int(np.count_nonzero(self.t_s < self.injection_s))

    @property
    def liver_relative(self) -> FloatArray:
        """The liver's signal over its baseline, shape (T,)."""
        return np.asarray(self.liver / self.liver[1 : self.before].mean())

    @property
    def plasma(self) -> FloatArray:
        """Concentration in the plasma of the aorta, mM, shape (T,)."""
        r1 = at_field(AGENTS["gadoxetate"].r1_blood, self.field_T)
        blood = spgr_concentration(
            self.aorta, self.before, 1.0 / self.r10_blood_per_s, self.tr_s, self.flip_deg, r1
        )
        if not np.all(np.isfinite(blood)):
            raise ValueError(
                f"{self.name}: no concentration gives some of the aorta's signals; check R10, TR, FA"
            )
        return blood_to_plasma(blood, self.hct)


@dataclass(frozen=True)
class LiverFit:
    """What a fit found.

    Attributes
    ----------
    parameters : mapping
        By the names of :data:`BOUNDS`.
    errors : mapping
        Standard errors, from the curvature at the optimum with independent residuals: breathing makes
        neighbouring samples alike, so they are too small.  0 for a parameter at a bound.
    at_bound : tuple of str
        Parameters that ended at an end of their range.
    curve : ndarray, shape (T,)
        Signal of the liver over its baseline.
    r_squared : float
    """

    parameters: Mapping[str, float]
    errors: Mapping[str, float]
    at_bound: tuple[str, ...]
    curve: FloatArray
    r_squared: float


def read_visits(folder: Path) -> list[Visit]:
    """Read ``meta.json`` and ``curves.csv`` (columns record, curve, time_s, signal) of TRISTAN."""
    curves = pd.read_csv(folder / "curves.csv")
    visits = []
    for entry in json.loads((folder / "meta.json").read_text(encoding="utf-8")):
        rows = curves[curves.record == entry["record"]]
        aorta, liver = (rows[rows.curve == f"signal1{where}"] for where in ("aorta", "liver"))
        visits.append(
            Visit(
                name=f"{entry['subject']} {entry['visit']}",
                t_s=aorta.time_s.to_numpy(dtype=np.float64),
                aorta=aorta.signal.to_numpy(dtype=np.float64),
                liver=liver.signal.to_numpy(dtype=np.float64),
                r10_blood_per_s=entry["R10b"],
                r10_liver_per_s=entry["R10l"],
                hct=entry["Hct"],
                injection_s=entry["t0"],
                tr_s=entry["TR"],
                flip_deg=entry["FA"],
                field_T=entry["field_strength"],
            )
        )
    return visits


def liver_curve(visit: Visit, plasma_mM: FloatArray, parameters: Mapping[str, float]) -> FloatArray:
    """Signal of the liver over its baseline that the model predicts.

    Parameters
    ----------
    visit : Visit
        Times, sequence and relaxation rates; its signals are not used.
    plasma_mM : ndarray, shape (T,)
        Plasma of the hepatic artery.
    parameters : mapping
        By the names of :data:`BOUNDS`.

    Returns
    -------
    ndarray, shape (T,)

    Notes
    -----
    The gut is two well-mixed compartments in a row, each of half the transit time, as in
    :mod:`~mtinet.phantom.circulation`; it delays and disperses, and keeps the amount.
    """
    rate = 120.0 / parameters["gut_transit"]
    portal = plasma_mM
    for _ in range(2):
        portal = rate * exponential_convolution(visit.t_s, portal, rate)
    outside, inside = dual_input_hepatocyte(
        visit.t_s,
        plasma_mM,
        portal,
        parameters["flow"],
        parameters["arterial_fraction"],
        parameters["distribution_volume"],
        parameters["uptake"],
        parameters["excretion"],
    )
    agent = AGENTS["gadoxetate"]
    added = at_field(agent.r1_plasma, visit.field_T) * outside
    added = added + at_field(agent.r1_hepatocyte, visit.field_T) * inside
    sequence = (1.0 / visit.r10_liver_per_s, visit.tr_s, visit.flip_deg, 1.0)
    return np.asarray(spgr_signal(added, *sequence) / spgr_signal(0.0, *sequence))


def fit_liver(visit: Visit, uptake: bool = True) -> LiverFit:
    """Least-squares fit of :func:`liver_curve` to a visit's liver signal, from every start of :data:`STARTS`.

    Parameters
    ----------
    visit : Visit
    uptake : bool
        False = the dual-input one-compartment model: no uptake, no excretion, four free parameters.

    Raises
    ------
    ValueError
        The aorta's signal cannot be turned into concentrations.
    """
    names = list(BOUNDS) if uptake else list(BOUNDS)[:4]
    low, high = (np.array([getattr(BOUNDS[name], end) for name in names]) for end in ("low", "high"))
    plasma, measured = visit.plasma, visit.liver_relative

    scale = np.array(STARTS[0][: len(names)])

    def curve(values: FloatArray) -> FloatArray:
        chosen = {"uptake": 0.0, "excretion": 0.0, **dict(zip(names, map(float, values), strict=True))}
        return liver_curve(visit, plasma, chosen)

    def residual(values: FloatArray) -> FloatArray:
        return curve(values) - measured

    def search(start: tuple[float, ...]) -> optimize.OptimizeResult:
        first = start[: len(names)]
        return optimize.least_squares(
            residual, first, bounds=(low, high), x_scale=scale, ftol=1e-6, xtol=1e-6
        )

    searches = [search(start) for start in STARTS]
    best = min(searches, key=lambda search: float(search.cost))
    close = np.minimum(best.x - low, high - best.x) < 1e-3 * scale
    free = np.asarray(best.jac)[:, ~close]
    variance = 2.0 * float(best.cost) / (measured.size - free.shape[1])
    errors = np.zeros(len(names))
    errors[~close] = np.sqrt(variance * np.diag(np.linalg.pinv(free.T @ free)))
    found = curve(best.x)
    return LiverFit(
        parameters=dict(zip(names, map(float, best.x), strict=True)),
        errors=dict(zip(names, map(float, errors), strict=True)),
        at_bound=tuple(name for name, is_close in zip(names, close, strict=True) if is_close),
        curve=found,
        r_squared=r_squared(measured, found),
    )


def running_mean(values: ArrayLike, points: int = 15) -> FloatArray:
    """Centred mean over ``points`` samples (odd); at the ends over those that there are."""
    curve = np.asarray(values, dtype=np.float64)
    total, count = (
        ndimage.uniform_filter1d(part, points, mode="constant") for part in (curve, np.ones_like(curve))
    )
    return np.asarray(total / count)


def r_squared(measured: ArrayLike, model: ArrayLike) -> float:
    """Share of variance explained, ``1 - Σ(y - f)² / Σ(y - mean y)²``; negative if worse than the mean."""
    values = np.asarray(measured, dtype=np.float64)
    return float(1.0 - np.sum((values - np.asarray(model)) ** 2) / np.sum((values - values.mean()) ** 2))
