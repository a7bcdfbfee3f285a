"""What tissues are made of: relaxation, kinetics, and the signal that follows.

A patient is a map of numbered parts; every part is one :class:`Tissue`.  Numbers without a source named here
are assumed.

Sources: T1 of liver, spleen, renal cortex and medulla, pancreas, muscle, marrow and fat from de Bazelaire CMJ
et al., Radiology 2004;230:652 (3 T; the 1.5 T column as commonly quoted from the same work); blood from
Zhang X et al., Magn Reson Med 2013;70:1082; relaxivity of gadobutrol from Szomolanyi P et al., Invest Radiol
2019;54:559 (its blood value at 1.5 T is assumed to keep the ratio that plasma shows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mtinet.config import SiteSettings
from mtinet.phantom.circulation import Circulation
from mtinet.phantom.kinetics import dual_input_one_compartment
from mtinet.phantom.signal import spgr_signal, t2star_decay

FloatArray = NDArray[np.float64]

T1_S: dict[str, tuple[float, float]] = {
    "liver": (0.586, 0.809),
    "spleen": (1.057, 1.328),
    "renal_cortex": (0.966, 1.142),
    "renal_medulla": (1.412, 1.545),
    "pancreas": (0.584, 0.725),
    "muscle": (0.856, 0.898),
    "marrow": (0.549, 0.586),
    "fat": (0.343, 0.382),
    "blood": (1.480, 1.649),
    "myocardium": (0.96, 1.16),
    "bowel": (1.1, 1.3),
    "water": (2.8, 3.2),
    "bile": (1.6, 1.9),
    "lung": (1.1, 1.3),
}
"""Longitudinal relaxation time without agent, seconds, at 1.5 T and 3 T."""

R1_PLASMA, R1_BLOOD = (4.78, 4.97), (3.34, 3.47)
"""Relaxivity of gadobutrol, 1/(mM·s), at 1.5 T and 3 T."""

R2STAR_TISSUE, R2STAR_BLOOD = 6.0, 15.0
"""Transverse relaxivity with susceptibility, 1/(mM·s); assumed."""

AGENTS = ("gadobutrol",)
"""Contrast agents that this form of the phantom knows."""


@dataclass(frozen=True)
class Tissue:
    """One part of a patient.

    Attributes
    ----------
    name : str
    t1_s : float
        Without agent, at the site's field.
    proton : float
        Signal of fully relaxed spins relative to water-rich tissue; small where fat suppression or
        susceptibility takes the signal.
    flow_per_min, arterial_fraction, distribution_volume : float
        Dual-input one-compartment kinetics, plasma inputs.
    plasma : float
        Volume fraction of arterial plasma besides the compartment (extended Tofts).
    vessel : {"", "arterial", "portal", "hepatic", "caval"}
        Whose blood fills the part; the kinetics above then do not apply.
    inflow : float
        Share of spins that entered the slab unsaturated (vessels).
    """

    name: str
    t1_s: float
    proton: float = 1.0
    flow_per_min: float = 0.0
    arterial_fraction: float = 1.0
    distribution_volume: float = 0.1
    plasma: float = 0.0
    vessel: str = ""
    inflow: float = 0.0


def at_field(values: tuple[float, float], field_T: float) -> float:
    """A value known at 1.5 T and 3 T, taken to another field by the power law through both."""
    low, high = values
    return float(low * (field_T / 1.5) ** np.log2(high / low))


def around_one(rng: np.random.Generator, spread: float) -> float:
    """Draw a positive factor with median 1: log-normal, cut at 2.5 standard deviations."""
    return float(np.exp(spread * np.clip(rng.normal(), -2.5, 2.5)))


def draw_organs(rng: np.random.Generator, field_T: float) -> dict[str, Tissue]:
    """Draw a patient's organs: published T1 with their spread, kinetics around physiological values.

    Flows are those of plasma.  Distribution volumes of liver (0.20) and spleen (0.33) are set by the
    published portal-venous enhancement (gadobutrol: liver 0.94, spleen 2.41), inside the published ranges;
    the inflow into the aorta by its arterial enhancement (2.24).
    """

    def t1(name: str, spread: float = 0.05) -> float:
        return at_field(T1_S[name], field_T) * around_one(rng, spread)

    def organ(name: str, flow: float, volume: float, proton: float = 1.0) -> Tissue:
        return Tissue(
            name,
            t1(name),
            proton,
            flow_per_min=flow * around_one(rng, 0.15),
            distribution_volume=volume * around_one(rng, 0.07),
        )

    # T1 of blood is a laboratory constant at a given haematocrit: one draw for all vessels
    blood = t1("blood", 0.04)
    arterial_fraction = float(np.clip(rng.normal(0.22, 0.06), 0.08, 0.45))
    liver = Tissue(
        "liver",
        t1("liver", 0.088),
        flow_per_min=0.44 * around_one(rng, 0.2),
        arterial_fraction=arterial_fraction,
        distribution_volume=0.20 * around_one(rng, 0.10),
    )
    organs = [
        Tissue("air", 1.0, proton=0.0),
        organ("fat", 0.03, 0.06, proton=0.22 * around_one(rng, 0.25)),
        replace(organ("fat", 0.03, 0.06, proton=0.26 * around_one(rng, 0.25)), name="visceral_fat"),
        organ("muscle", 0.10, 0.11),
        organ("marrow", 0.15, 0.12, proton=0.50 * around_one(rng, 0.15)),
        Tissue("cortical_bone", 0.5, proton=0.08),
        Tissue("spinal_canal", t1("water")),
        Tissue("lung", t1("lung"), proton=0.07),
        liver,
        organ("spleen", 1.6, 0.33),
        organ("pancreas", 1.2, 0.25),
        replace(organ("renal_cortex", 2.6, 0.36), plasma=0.05),
        organ("renal_medulla", 0.5, 0.45),
        replace(organ("myocardium", 0.9, 0.20), plasma=0.05),
        organ("bowel", 0.5, 0.16),
        Tissue("stomach_water", t1("water"), proton=0.9),
        replace(organ("bowel", 0.4, 0.18), name="stomach_wall"),
        Tissue("bile", t1("bile", 0.25)),
        Tissue("aorta", blood, vessel="arterial", inflow=0.11),
        Tissue("heart_blood", blood, vessel="arterial", inflow=0.11),
        Tissue("vena_cava", blood, vessel="caval", inflow=0.04),
        Tissue("portal_vein", blood, vessel="portal", inflow=0.01),
        Tissue("hepatic_vein", blood, vessel="hepatic", inflow=0.01),
    ]
    return {tissue.name: tissue for tissue in organs}


def concentrations(
    tissues: Sequence[Tissue], flow: Circulation, liver: Tissue, times_s: Sequence[float]
) -> FloatArray:
    """Concentration in every tissue at every time; blood concentration for vessels.

    Parameters
    ----------
    tissues : sequence of Tissue
    flow : Circulation
    liver : Tissue
        Parenchyma whose outflow fills the hepatic veins.
    times_s : sequence of float
        Seconds from the start of injection.

    Returns
    -------
    ndarray, shape (tissues, times)
        mM.
    """
    parameters = np.array([[x.flow_per_min, x.arterial_fraction, x.distribution_volume] for x in tissues])
    curves = dual_input_one_compartment(flow.t_s, flow.arterial_mM, flow.portal_mM, *parameters.T)
    curves += np.array([x.plasma for x in tissues])[:, None] * flow.arterial_mM
    outflow = dual_input_one_compartment(
        flow.t_s,
        flow.arterial_mM,
        flow.portal_mM,
        liver.flow_per_min,
        liver.arterial_fraction,
        liver.distribution_volume,
    )
    plasma: Mapping[str, FloatArray] = {
        "arterial": flow.arterial_mM,
        "portal": flow.portal_mM,
        "hepatic": outflow / liver.distribution_volume,
        "caval": flow.caval_mM,
    }
    for number, tissue in enumerate(tissues):
        if tissue.vessel:
            curves[number] = plasma[tissue.vessel] * (1.0 - flow.hct)
    return np.stack([np.interp(times_s, flow.t_s, curve) for curve in curves])


def relative_signals(tissues: Sequence[Tissue], conc_mM: FloatArray, site: SiteSettings) -> FloatArray:
    """Signal of every tissue, in units of a nominal liver without agent on that site's sequence.

    Vessels use the blood's relaxivity with blood concentration, all else the plasma's with tissue
    concentration: the two are never crossed.

    Parameters
    ----------
    tissues : sequence of Tissue
    conc_mM : ndarray, shape (tissues, times)
    site : SiteSettings

    Returns
    -------
    ndarray, shape (tissues, times)
    """
    tr_s, te_s = site.tr_ms / 1e3, site.te_ms / 1e3
    vessel = np.array([bool(x.vessel) for x in tissues])[:, None]
    r1 = np.where(vessel, at_field(R1_BLOOD, site.field_T), at_field(R1_PLASMA, site.field_T))
    t1 = np.array([x.t1_s for x in tissues])[:, None]
    proton = np.array([x.proton for x in tissues])[:, None]
    inflow = np.array([x.inflow for x in tissues])[:, None]
    steady = spgr_signal(conc_mM, t1, tr_s, site.flip_deg, r1)
    fresh = np.sin(np.deg2rad(site.flip_deg))
    decay = t2star_decay(conc_mM, te_s, np.where(vessel, R2STAR_BLOOD, R2STAR_TISSUE))
    nominal = spgr_signal(0.0, at_field(T1_S["liver"], site.field_T), tr_s, site.flip_deg, 0.0)
    return np.asarray(proton * decay * ((1.0 - inflow) * steady + inflow * fresh) / nominal)
