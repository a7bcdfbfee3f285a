"""What is drawn for a patient's circulation and organs: every number with its spread, unit and source.

The table is the whole of it: the functions that draw name a row, and the documentation prints the rows.
``published`` rows hold a number that the named work reports, ``assumed`` rows a choice within what physiology
allows, ``calibrated`` rows a number set by the enhancement indices that :mod:`mtinet.phantom.evidence`
marks as such; nothing else was set by enhancement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["published", "assumed", "calibrated"]

_CUT = 2.5
"""Draws are cut at so many standard deviations."""

_TRISTAN = "circulation of healthy volunteers, Min T et al., Proc ISMRM 2024, as in the library dcmri"
_BAZELAIRE = "de Bazelaire CMJ et al., Radiology 2004;230:652 (3 T: mean and SD)"
_VAN_BEERS = "Van Beers BE et al., AJR 2001;176:667 (CT, controls)"


@dataclass(frozen=True)
class Prior:
    """Distribution of one parameter over patients.

    Attributes
    ----------
    name : str
        ``where.what``.
    median : float
    spread : float
        Standard deviation: of the logarithm, or of the value where ``normal``.
    unit : str
    kind : {"published", "assumed", "calibrated"}
        Where the median comes from; a spread is assumed unless the source gives one.
    source : str
    normal : bool
        Normal instead of log-normal.
    """

    name: str
    median: float
    spread: float
    unit: str
    kind: Kind
    source: str
    normal: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        """One draw, cut at 2.5 standard deviations."""
        step = self.spread * float(np.clip(rng.normal(), -_CUT, _CUT))
        return self.median + step if self.normal else self.median * float(np.exp(step))

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value that can be drawn."""
        reach = _CUT * self.spread
        if self.normal:
            return self.median - reach, self.median + reach
        return self.median * float(np.exp(-reach)), self.median * float(np.exp(reach))


PRIORS: tuple[Prior, ...] = (
    # ---------------------------------------------------------------- circulation
    Prior("circulation.weight_kg", 73.0, 0.17, "kg", "published", f"{_TRISTAN}; spread assumed"),
    Prior(
        "circulation.cardiac_output_ml_s_kg",
        97.0 / 73.0,
        0.18,
        "mL/s/kg",
        "published",
        f"97 mL/s at 73 kg: {_TRISTAN}; spread assumed",
    ),
    Prior(
        "circulation.central_ml_kg",
        97.0 * 13.0 / 73.0,
        0.10,
        "mL/kg",
        "published",
        f"heart and lungs, from a transit of 13 s: {_TRISTAN}; spread assumed",
    ),
    Prior(
        "circulation.central_dispersion",
        0.38,
        0.12,
        "1",
        "assumed",
        "standard deviation over mean of the transit through heart and lungs; about as sharp as Parker's "
        "population curve, where two compartments in a row (0.71, dcmri) give half its peak",
    ),
    Prior("circulation.vein_s", 8.0, 0.25, "s", "assumed", "from the arm to the heart"),
    Prior(
        "circulation.blood_ml_kg",
        53.0,
        0.10,
        "mL/kg",
        "assumed",
        "blood beyond heart and lungs: 70 mL/kg in all",
    ),
    Prior(
        "circulation.permeability_ml_s_kg",
        0.18 / 0.82 * 97.0 / 73.0,
        0.15,
        "mL/s/kg",
        "published",
        f"exchange with the interstitium, from an extraction of 0.18: {_TRISTAN}; spread assumed",
    ),
    Prior(
        "circulation.interstitium_s",
        600.0,
        0.15,
        "s",
        "assumed",
        "mean transit through the interstitium; between 350 s (dcmri) and the 1000 s that a distribution "
        "volume of 0.2 L/kg would need",
    ),
    Prior("circulation.gfr_ml_min_kg", 112.0 / 73.0, 0.20, "mL/min/kg", "assumed", "normal renal function"),
    Prior(
        "circulation.hepatic_ml_min_kg",
        112.0 / 73.0,
        0.20,
        "mL/min/kg",
        "published",
        "clearance of gadoxetate by the liver: what remains of the body's extraction of 0.07 after the "
        f"kidneys: {_TRISTAN}; spread assumed",
    ),
    Prior("circulation.gut_s", 18.0, 0.15, "s", "assumed", "from the aorta through gut to the portal vein"),
    Prior(
        "circulation.spleen_s", 8.0, 0.15, "s", "assumed", "from the aorta through spleen to the portal vein"
    ),
    Prior("circulation.splenic_share", 0.28, 0.06, "1", "assumed", "of the portal flow", normal=True),
    Prior("circulation.legs_s", 35.0, 0.15, "s", "assumed", "from the aorta through the legs to the cava"),
    Prior("circulation.kidney_s", 5.0, 0.15, "s", "assumed", "from the aorta through kidneys to the cava"),
    Prior(
        "circulation.renal_share",
        0.60,
        0.06,
        "1",
        "assumed",
        "of the caval flow below the liver",
        normal=True,
    ),
    Prior("circulation.hct", 0.42, 0.03, "1", "assumed", "adults of both sexes", normal=True),
    # ---------------------------------------------------------------- relaxation without agent
    Prior("liver.t1", 1.0, 0.088, "factor", "published", f"spread: {_BAZELAIRE}"),
    Prior("spleen.t1", 1.0, 0.023, "factor", "published", f"spread: {_BAZELAIRE}"),
    Prior("renal_cortex.t1", 1.0, 0.135, "factor", "published", f"spread: {_BAZELAIRE}"),
    Prior("renal_medulla.t1", 1.0, 0.092, "factor", "published", f"spread: {_BAZELAIRE}"),
    Prior("pancreas.t1", 1.0, 0.098, "factor", "published", f"spread: {_BAZELAIRE}"),
    Prior("muscle.t1", 1.0, 0.037, "factor", "published", f"spread: {_BAZELAIRE}"),
    Prior("marrow.t1", 1.0, 0.125, "factor", "published", f"spread: {_BAZELAIRE}"),
    Prior("fat.t1", 1.0, 0.034, "factor", "published", f"spread: {_BAZELAIRE}"),
    Prior("blood.t1", 1.0, 0.04, "factor", "assumed", "varies with haematocrit and oxygenation"),
    Prior("bile.t1", 1.0, 0.25, "factor", "assumed", "varies with fasting"),
    Prior("other.t1", 1.0, 0.05, "factor", "assumed", "tissues not listed"),
    # ---------------------------------------------------------------- liver
    Prior(
        "liver.flow_per_min",
        0.63,
        0.25,
        "mL/min/mL",
        "published",
        f"plasma: 1.08 of blood times 0.58: {_VAN_BEERS}; narrower than its spread, which holds noise",
    ),
    Prior(
        "liver.arterial_fraction",
        0.20,
        0.06,
        "1",
        "published",
        f"between 0.17 +- 0.16: {_VAN_BEERS}; and 0.24 +- 0.11: Materne R, Magn Reson Med 2002;47:135",
        normal=True,
    ),
    Prior(
        "liver.distribution_volume",
        0.259,
        0.17,
        "1",
        "published",
        "extracellular volume 0.259 +- 0.045, 22 controls: Mesropyan N et al., "
        "doi 10.1038/s41598-022-13340-9",
    ),
    Prior(
        "liver.uptake_per_min",
        0.085,
        0.20,
        "mL/min/mL",
        "assumed",
        "gadoxetate: so that 1.5 L of liver clear what circulation.hepatic_ml_min_kg takes from the blood; "
        "half of the 0.003 mL/s/mL where the library dcmri begins its fits",
    ),
    Prior(
        "liver.excretion_per_min",
        1.0 / 30.0,
        0.20,
        "1/min",
        "assumed",
        "gadoxetate: transit through hepatocytes of 30 min, where the library dcmri begins its fits",
    ),
    # ---------------------------------------------------------------- other organs
    Prior(
        "spleen.flow_per_min",
        0.75,
        0.15,
        "mL/min/mL",
        "published",
        "plasma: 1.29 of blood times 0.58: electron-beam CT of 26 controls; spread assumed",
    ),
    Prior("spleen.distribution_volume", 0.35, 0.07, "1", "calibrated", "gadobutrol portal-venous index"),
    Prior(
        "pancreas.flow_per_min",
        0.88,
        0.12,
        "mL/min/mL",
        "published",
        "plasma: 1.52 (1.25 to 1.66) of blood times 0.58: CT of 8 controls, Measurement of human pancreatic "
        "perfusion using dynamic computed tomography",
    ),
    Prior(
        "pancreas.distribution_volume",
        0.265,
        0.20,
        "1",
        "published",
        "extracellular volume: median 0.25 at 3 T and 0.28 at 1.5 T, 120 subjects: Tirkes T et al., Abdom "
        "Radiol 2019;44:3133",
    ),
    Prior("renal_cortex.flow_per_min", 2.3, 0.15, "mL/min/mL", "assumed", "plasma"),
    Prior("renal_cortex.distribution_volume", 0.30, 0.10, "1", "assumed", "plasma and interstitium"),
    Prior(
        "renal_cortex.filtration_per_min",
        0.50,
        0.15,
        "mL/min/mL",
        "assumed",
        "about 110 mL/min in 220 mL of cortex",
    ),
    Prior(
        "renal_cortex.tubular_per_min", 1.0, 0.2, "1/min", "assumed", "filtrate leaves the cortex in 1 min"
    ),
    Prior("renal_medulla.flow_per_min", 0.5, 0.15, "mL/min/mL", "assumed", "plasma"),
    Prior("renal_medulla.distribution_volume", 0.45, 0.07, "1", "assumed", "with its tubules"),
    Prior("fat.flow_per_min", 0.03, 0.15, "mL/min/mL", "assumed", "plasma"),
    Prior("fat.distribution_volume", 0.06, 0.07, "1", "assumed", ""),
    Prior("muscle.flow_per_min", 0.10, 0.15, "mL/min/mL", "assumed", "plasma leaking out (Ktrans)"),
    Prior("muscle.distribution_volume", 0.11, 0.07, "1", "assumed", ""),
    Prior("marrow.flow_per_min", 0.15, 0.15, "mL/min/mL", "assumed", "plasma"),
    Prior("marrow.distribution_volume", 0.12, 0.07, "1", "assumed", ""),
    Prior("myocardium.flow_per_min", 0.55, 0.15, "mL/min/mL", "assumed", "plasma"),
    Prior("myocardium.distribution_volume", 0.26, 0.07, "1", "assumed", "extracellular volume"),
    Prior("bowel.flow_per_min", 0.50, 0.15, "mL/min/mL", "assumed", "plasma"),
    Prior("bowel.distribution_volume", 0.17, 0.07, "1", "assumed", ""),
    # ---------------------------------------------------------------- what fat suppression leaves
    Prior("fat.proton", 0.22, 0.25, "1", "assumed", "subcutaneous"),
    Prior("visceral_fat.proton", 0.26, 0.25, "1", "assumed", ""),
    Prior("marrow.proton", 0.50, 0.15, "1", "assumed", "half of it is fat"),
)
"""Every prior of the circulation and of the organs."""

_BY_NAME = {prior.name: prior for prior in PRIORS}


def prior(name: str) -> Prior:
    """The prior of that name."""
    return _BY_NAME[name]


def draw(rng: np.random.Generator, name: str) -> float:
    """Draw from the prior of that name."""
    return _BY_NAME[name].draw(rng)
