"""What tissues are made of: relaxation and kinetics of every part of a patient.

A patient is a map of numbered parts; every part is one :class:`Tissue`.  What is drawn, and its sources, is
the table :data:`mtinet.phantom.priors.PRIORS`; relaxation times without agent are in :data:`T1_TABLE`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from mtinet.phantom.host import Host
from mtinet.phantom.priors import draw


class T1(NamedTuple):
    """Longitudinal relaxation time without agent: at 1.5 T and 3 T, s, and the source of each."""

    at_1_5T_s: float
    at_3T_s: float
    source: str


_BAZELAIRE = (
    "3 T: de Bazelaire CMJ et al., Radiology 2004;230:652; 1.5 T: assumed, as usually quoted from that work"
)
_BLOOD = "assumed, as usually quoted from Zhang X et al., Magn Reson Med 2013;70:1082"

T1_TABLE: dict[str, T1] = {
    "liver": T1(0.586, 0.809, _BAZELAIRE),
    "spleen": T1(1.057, 1.328, _BAZELAIRE),
    "renal_cortex": T1(0.966, 1.142, _BAZELAIRE),
    "renal_medulla": T1(1.412, 1.545, _BAZELAIRE),
    "pancreas": T1(0.654, 0.717, "medians of 120 subjects, Tirkes T et al., Abdom Radiol 2019;44:3133"),
    "muscle": T1(0.856, 0.898, _BAZELAIRE),
    "marrow": T1(0.549, 0.586, _BAZELAIRE),
    "fat": T1(0.343, 0.382, _BAZELAIRE),
    "blood": T1(1.480, 1.649, _BLOOD),
    "myocardium": T1(1.07, 1.22, "Sharma P et al., doi 10.1002/jmri.20504"),
    "bowel": T1(1.1, 1.3, "assumed"),
    "water": T1(2.8, 3.2, "assumed"),
    "bile": T1(1.6, 1.9, "assumed"),
    "lung": T1(1.1, 1.3, "assumed"),
}
"""Relaxation times of the tissues and where they come from."""

T1_S: dict[str, tuple[float, float]] = {
    name: (entry.at_1_5T_s, entry.at_3T_s) for name, entry in T1_TABLE.items()
}
"""Longitudinal relaxation time without agent, seconds, at 1.5 T and 3 T."""


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
        Dual-input compartment, plasma inputs: inflow (or Ktrans), share of it that is arterial, volume
        fraction.
    plasma : float
        Volume fraction of plasma besides the compartment, filled by the mixed input (extended Tofts).
    uptake_per_min : float
        Uptake from the compartment into hepatocytes, mL/min/mL of tissue (hepatobiliary agents only).
    excretion_per_min : float
        Rate at which hepatocytes pass on what they took up.
    vessel : {"", "arterial", "portal", "hepatic", "caval"}
        Whose blood fills the part; the kinetics above then do not apply.
    inflow : float
        Share of spins that entered the slab unsaturated (vessels).
    filtration_per_min : float
        Filtration from the compartment into tubules (kidney), mL/min/mL of tissue.
    tubular_per_min : float
        Rate at which tubules carry the filtrate out of the part.
    """

    name: str
    t1_s: float
    proton: float = 1.0
    flow_per_min: float = 0.0
    arterial_fraction: float = 1.0
    distribution_volume: float = 0.1
    plasma: float = 0.0
    uptake_per_min: float = 0.0
    excretion_per_min: float = 0.0
    vessel: str = ""
    inflow: float = 0.0
    filtration_per_min: float = 0.0
    tubular_per_min: float = 0.0


def at_field(values: tuple[float, float], field_T: float) -> float:
    """A value known at 1.5 T and 3 T, taken to another field by the power law through both (assumed)."""
    low, high = values
    return float(low * (field_T / 1.5) ** np.log2(high / low))


def around_one(rng: np.random.Generator, spread: float) -> float:
    """Draw a positive factor with median 1: log-normal, cut at 2.5 standard deviations."""
    return float(np.exp(spread * np.clip(rng.normal(), -2.5, 2.5)))


def draw_t1(rng: np.random.Generator, name: str, field_T: float) -> float:
    """Relaxation time of a tissue of :data:`T1_TABLE` at a field, seconds, with its spread over people."""
    listed = name if name in _T1_SPREAD else "other"
    return at_field(T1_S[name], field_T) * draw(rng, f"{listed}.t1")


_T1_SPREAD = frozenset(
    (
        "liver",
        "spleen",
        "renal_cortex",
        "renal_medulla",
        "pancreas",
        "muscle",
        "marrow",
        "fat",
        "blood",
        "bile",
    )
)


def draw_organs(rng: np.random.Generator, host: Host) -> dict[str, Tissue]:
    """Draw a patient's organs from the priors.

    Parameters
    ----------
    rng : numpy.random.Generator
    host : Host
        Field, and the condition of the liver: see :func:`draw_liver`.  Cirrhosis also lowers the flow
        through the spleen, from 1.29 to 0.87 mL/min/mL of blood in patients (CT).

    Returns
    -------
    dict of str to Tissue
    """
    t1 = partial(draw_t1, rng, field_T=host.field_T)
    organ = partial(_organ, rng, t1)
    # T1 of blood is a laboratory constant at a given haematocrit: one draw for all vessels
    blood = t1("blood")
    spleen = organ("spleen")
    cortex = replace(
        organ("renal_cortex"),
        filtration_per_min=draw(rng, "renal_cortex.filtration_per_min"),
        tubular_per_min=draw(rng, "renal_cortex.tubular_per_min"),
    )
    organs = [
        Tissue("air", 1.0, proton=0.0),
        organ("fat", proton=draw(rng, "fat.proton")),
        replace(organ("fat", proton=draw(rng, "visceral_fat.proton")), name="visceral_fat"),
        organ("muscle"),
        organ("marrow", proton=draw(rng, "marrow.proton")),
        Tissue("cortical_bone", 0.5, proton=0.08),
        Tissue("spinal_canal", t1("water")),
        Tissue("lung", t1("lung"), proton=0.07),
        draw_liver(rng, host),
        replace(spleen, flow_per_min=spleen.flow_per_min * (1.0 - 0.45 * host.cirrhosis)),
        organ("pancreas"),
        cortex,
        organ("renal_medulla"),
        organ("myocardium"),
        organ("bowel"),
        Tissue("stomach_water", t1("water"), proton=0.9),
        replace(organ("bowel"), name="stomach_wall"),
        Tissue("bile", t1("bile")),
        Tissue("aorta", blood, vessel="arterial", inflow=_AORTIC_INFLOW),
        Tissue("heart_blood", blood, vessel="arterial", inflow=_AORTIC_INFLOW),
        Tissue("vena_cava", blood, vessel="caval", inflow=0.04),
        Tissue("portal_vein", blood, vessel="portal", inflow=0.01),
        Tissue("hepatic_vein", blood, vessel="hepatic", inflow=0.01),
    ]
    return {tissue.name: tissue for tissue in organs}


_AORTIC_INFLOW = 0.05
"""Share of the aorta's spins that entered a thick slab unsaturated; assumed."""


def _organ(rng: np.random.Generator, t1: Callable[[str], float], name: str, proton: float = 1.0) -> Tissue:
    return Tissue(
        name,
        t1(name),
        proton,
        flow_per_min=draw(rng, f"{name}.flow_per_min"),
        distribution_volume=draw(rng, f"{name}.distribution_volume"),
    )


def draw_liver(rng: np.random.Generator, host: Host) -> Tissue:
    """Draw the parenchyma of the liver, healthy, cirrhotic or fatty.

    Notes
    -----
    Cirrhosis of severity 0.65 takes the medians to those of patients: flow from 1.08 to 0.67 mL/min/mL of
    blood and arterial fraction from 0.17 to 0.41 (Van Beers BE et al., AJR 2001;176:667, CT), extracellular
    volume from 0.26 to 0.40 (Mesropyan N et al., doi 10.1038/s41598-022-13340-9).  T1 grows by a quarter at
    severity 1 (assumed; 1.34 from Child-Pugh A to C in the latter work); uptake falls by 0.7 and excretion by
    0.4 at severity 1 (assumed).  Fat suppression takes the fat's share of the signal (assumed complete).
    """
    severity = host.cirrhosis
    flow, share = draw(rng, "liver.flow_per_min"), max(draw(rng, "liver.arterial_fraction"), 0.05)
    arterial = flow * share * (1.0 + 0.75 * severity)
    portal = flow * (1.0 - share) * (1.0 - 0.85 * severity)
    return Tissue(
        "liver",
        draw_t1(rng, "liver", host.field_T) * (1.0 + 0.25 * severity),
        proton=1.0 - host.fat_fraction,
        flow_per_min=arterial + portal,
        arterial_fraction=arterial / (arterial + portal),
        distribution_volume=draw(rng, "liver.distribution_volume") + 0.22 * severity,
        uptake_per_min=draw(rng, "liver.uptake_per_min") * (1.0 - 0.7 * severity),
        excretion_per_min=draw(rng, "liver.excretion_per_min") * (1.0 - 0.4 * severity),
    )
