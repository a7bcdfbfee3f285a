"""From what flows in to what the scanner measures: relaxation of every tissue, and its signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtinet.config import SiteSettings
from mtinet.phantom.agents import Agent
from mtinet.phantom.circulation import Circulation
from mtinet.phantom.kinetics import dual_input_hepatocyte
from mtinet.phantom.signal import spgr_signal
from mtinet.phantom.tissues import T1_S, Tissue, at_field

FloatArray = NDArray[np.float64]

R2STAR_TISSUE, R2STAR_BLOOD = 6.0, 15.0
"""Transverse relaxivity with susceptibility, 1/(mM·s); assumed."""


@dataclass(frozen=True)
class Relaxation:
    """What the agent adds to the relaxation rates, 1/s.

    Attributes
    ----------
    r1, r2star : ndarray, shape (tissues, times)
    """

    r1: FloatArray
    r2star: FloatArray


def relaxation(
    tissues: Sequence[Tissue],
    flow: Circulation,
    agent: Agent,
    liver: Tissue,
    field_T: float,
    times_s: Sequence[float],
) -> Relaxation:
    """Relaxation that the agent adds in every tissue at every time.

    Vessels use the blood's relaxivity with blood concentration, all else the plasma's with tissue
    concentration, hepatocytes their own: they are never crossed.  Filtrate in tubules counts as plasma
    (assumed).

    Parameters
    ----------
    tissues : sequence of Tissue
    flow : Circulation
    agent : Agent
    liver : Tissue
        Parenchyma whose outflow fills the hepatic veins.
    field_T : float
    times_s : sequence of float
        Seconds from the start of injection.

    Returns
    -------
    Relaxation

    Notes
    -----
    Kinetics: :func:`mtinet.phantom.kinetics.dual_input_hepatocyte`, with the plasma of the extended Tofts
    model beside the compartment; water in all parts of a tissue exchanges fast.
    """

    def column(name: str) -> FloatArray:
        return np.array([getattr(tissue, name) for tissue in (*tissues, liver)], dtype=np.float64)

    # hepatocytes and tubules are both filled from the compartment and emptied at a rate of their own; a
    # tissue has one or the other
    filtration = column("filtration_per_min")
    tubules = filtration > 0.0
    outside, inside = dual_input_hepatocyte(
        flow.t_s,
        flow.arterial_mM,
        flow.portal_mM,
        column("flow_per_min"),
        column("arterial_fraction"),
        column("distribution_volume"),
        np.where(tubules, filtration, column("uptake_per_min") * float(agent.hepatobiliary)),
        np.where(tubules, column("tubular_per_min"), column("excretion_per_min")),
    )
    share, in_plasma = column("arterial_fraction")[:, None], column("plasma")[:, None]
    extracellular = outside + in_plasma * (share * flow.arterial_mM + (1.0 - share) * flow.portal_mM)
    plasma = {
        "arterial": flow.arterial_mM,
        "portal": flow.portal_mM,
        "hepatic": outside[-1] / liver.distribution_volume,
        "caval": flow.caval_mM,
    }
    r1_plasma = at_field(agent.r1_plasma, field_T)
    r1_inside = np.where(tubules, r1_plasma, at_field(agent.r1_hepatocyte, field_T))
    r1 = r1_plasma * extracellular + r1_inside[:, None] * inside
    r2star = R2STAR_TISSUE * (extracellular + inside)
    for number, tissue in enumerate(tissues):
        if tissue.vessel:
            blood = plasma[tissue.vessel] * (1.0 - flow.hct)
            r1[number] = at_field(agent.r1_blood, field_T) * blood
            r2star[number] = R2STAR_BLOOD * blood
    return Relaxation(*(_at(times_s, flow.t_s, rows[: len(tissues)]) for rows in (r1, r2star)))


def _at(times_s: Sequence[float], t_s: FloatArray, rows: FloatArray) -> FloatArray:
    """Rows, linear between samples and constant beyond, at other times."""
    place = np.interp(times_s, t_s, np.arange(t_s.size, dtype=np.float64))
    before = np.minimum(place.astype(np.intp), t_s.size - 2)
    return np.asarray(rows[:, before] + (place - before) * (rows[:, before + 1] - rows[:, before]))


def signals(
    tissues: Sequence[Tissue], added: Relaxation, site: SiteSettings, b1: ArrayLike = 1.0
) -> FloatArray:
    """Signal of every tissue, in units of a nominal liver without agent on that site's sequence.

    Parameters
    ----------
    tissues : sequence of Tissue
    added : Relaxation
    site : SiteSettings
    b1 : array_like
        Flip angle over the nominal one.

    Returns
    -------
    ndarray, shape (tissues, times, *shape of b1)

    Notes
    -----
    :func:`mtinet.phantom.signal.spgr_signal`, mixed with the unsaturated signal of spins that flow in.
    """
    tr_s, te_s = site.tr_ms / 1e3, site.te_ms / 1e3
    angle = np.asarray(b1, dtype=np.float64) * site.flip_deg
    extra = (...,) + (None,) * angle.ndim

    def column(name: str) -> FloatArray:
        return np.array([getattr(tissue, name) for tissue in tissues], dtype=np.float64)[:, None][extra]

    steady = spgr_signal(added.r1[extra], column("t1_s"), tr_s, angle, 1.0)
    fresh = np.sin(np.deg2rad(angle))
    decay = np.exp(-te_s * added.r2star[extra])
    nominal = spgr_signal(0.0, at_field(T1_S["liver"], site.field_T), tr_s, site.flip_deg, 0.0)
    inflow = column("inflow")
    return np.asarray(column("proton") * decay * ((1.0 - inflow) * steady + inflow * fresh) / nominal)
