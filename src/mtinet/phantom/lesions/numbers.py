"""What is drawn for the tissue of lesions: every number with its law, range and source.

The table is the whole of it for T1 and kinetics: the lesions' files name a row and hold the reasons.
Volumes, uptake and excretion are shares of those of the patient's own liver where the name says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri

LARGEST_T1_S = 4.3
"""Free water at body temperature and 3 T (assumed): no lesion has a longer T1."""

_EJRO = "EJRO 2020, 100312; taken as at 3 T"
_LEE = "Lee, Acad Radiol 2015"


@dataclass(frozen=True)
class Number:
    """Distribution of one number over lesions.

    Attributes
    ----------
    name : str
        ``where.what``; the unit ends the name, none = a share.
    law : {"normal", "log-normal", "uniform"}
    middle, spread : float
        Mean and standard deviation before the cut (normal), median and standard deviation of the logarithm
        (log-normal), centre and half width (uniform).
    low, high : float
        Smallest and largest value that can be drawn.
    source : str
        Of the middle, or ``assumed``; spreads are assumed unless the source is said to give them.
    """

    name: str
    law: Literal["normal", "log-normal", "uniform"]
    middle: float
    spread: float
    low: float
    high: float
    source: str

    def draw(self, rng: np.random.Generator) -> float:
        """One draw; takes one number from ``rng``."""
        if self.law == "uniform":
            return float(rng.uniform(self.low, self.high))
        if self.law == "normal":
            return truncated_normal(rng, self.middle, self.spread, self.low, self.high)
        middle, low, high = (float(np.log(value)) for value in (self.middle, self.low, self.high))
        return float(np.exp(truncated_normal(rng, middle, self.spread, low, high)))


def truncated_normal(
    rng: np.random.Generator, mean: float, sd: float, lowest: float, highest: float
) -> float:
    """Draw from a normal distribution cut at both ends; takes one number from ``rng``."""
    low, high = (ndtr((end - mean) / sd) for end in (lowest, highest))
    value = mean + sd * ndtri(low + float(rng.random()) * (high - low))
    return float(np.clip(value, lowest, highest))


def _factor(name: str, median: float, spread: float, source: str = "assumed") -> Number:
    """Log-normal, cut at 2.5 standard deviations."""
    reach = float(np.exp(2.5 * spread))
    return Number(name, "log-normal", median, spread, median / reach, median * reach, source)


def _between(name: str, low: float, high: float, source: str = "assumed") -> Number:
    return Number(name, "uniform", (low + high) / 2.0, (high - low) / 2.0, low, high, source)


def _t1(name: str, mean_s: float, sd_s: float, low_s: float, high_s: float, source: str) -> Number:
    return Number(f"{name}.t1_s", "normal", mean_s, sd_s, low_s, high_s, source)


def _skewed_t1(name: str, mean_s: float, sd_s: float, low_s: float, source: str) -> Number:
    """Log-normal with that mean and SD: a normal one so wide would lose its mean at the lower end."""
    spread = float(np.sqrt(np.log1p((sd_s / mean_s) ** 2)))
    median = mean_s * float(np.exp(-(spread**2) / 2.0))
    return Number(f"{name}.t1_s", "log-normal", median, spread, low_s, LARGEST_T1_S, source)


NUMBERS: tuple[Number, ...] = (
    # ---------------------------------------------------------------- hemangioma
    _t1("hemangioma", 2.524, 0.908, 1.45, LARGEST_T1_S, f"{_EJRO} (mean, SD)"),
    _t1("hemangioma_sclerosed", 2.524, 0.908, 0.90, 1.45, f"{_EJRO} (mean, SD); its lower end"),
    _factor("hemangioma.flow_per_min", 2.5, 0.35),
    _factor("hemangioma.distribution_volume", 0.50, 0.10, "derived: plasma of blood in thin septa"),
    _factor("hemangioma_sclerosed.flow_per_min", 0.35, 0.35),
    Number("hemangioma_sclerosed.distribution_volume", "normal", 0.28, 0.06, 0.15, 0.45, "assumed"),
    # ---------------------------------------------------------------- hepatocellular carcinoma
    _t1("hcc", 1.056, 0.292, 0.55, LARGEST_T1_S, f"{_EJRO} (mean, SD)"),
    _factor(
        "hcc.flow_per_min",
        1.57 * 1.06 * (1.0 - 0.42),
        0.40,
        f"157 mL/min/100 g of blood ({_LEE}), haematocrit 0.42, 1.06 g/mL",
    ),
    _factor("hcc_hypovascular.flow_per_min", 0.4 * 1.57 * 1.06 * (1.0 - 0.42), 0.40),
    Number("hcc.arterial_fraction", "normal", 0.66, 0.28, 0.40, 1.0, f"{_LEE} (mean, SD); from 0.40 on"),
    Number(
        "hcc_hypovascular.arterial_fraction",
        "normal",
        0.66,
        0.28,
        0.05,
        0.40,
        f"{_LEE} (mean, SD); below 0.40",
    ),
    _factor("hcc.volume_to_liver", 0.27 / 0.29, 0.20, f"0.27 ({_LEE}) over a liver of 0.29 (Pahwa)"),
    Number(
        "hcc_washout.volume_to_liver",
        "log-normal",
        0.27 / 0.29,
        0.20,
        0.56,
        1.0,
        "as hcc; below the liver's",
    ),
    _factor("hcc_small.volume_to_liver", 1.0, 0.20),
    _between("hcc.uptake_to_liver", 0.7, 1.3),
    _between("hcc.lost_uptake_to_liver", 0.0, 0.1),
    _factor("hcc_capsule.flow_per_min", 0.40, 0.20),
    _factor("hcc_capsule.volume_to_liver", 1.8, 0.12),
    _between("hcc_capsule.thickness_mm", 0.8, 2.2),
    # ---------------------------------------------------------------- focal nodular hyperplasia
    _t1("fnh", 0.890, 0.097, 0.60, LARGEST_T1_S, "assumed: 1.10 ± 0.12 of the liver's"),
    _factor("fnh.flow_per_min", 1.4, 0.25),
    _between("fnh.arterial_fraction", 0.85, 1.0),
    _factor("fnh.volume_to_liver", 1.15, 0.10),
    _between("fnh.uptake_to_liver", 0.9, 1.5),
    _between("fnh.excretion_to_liver", 0.5, 1.0),
    _factor("fnh_scar.flow_per_min", 0.15, 0.30),
    _factor("fnh_scar.volume_to_liver", 2.0, 0.12),
    # ---------------------------------------------------------------- metastasis
    _skewed_t1("metastasis", 1.757, 0.723, 0.70, f"{_EJRO} (mean, SD)"),
    _factor("metastasis_rim.flow_per_min", 0.85, 0.35),
    _factor("metastasis_hypervascular.flow_per_min", 1.1, 0.35),
    _between("metastasis.arterial_fraction", 0.7, 1.0),
    _factor("metastasis_rim.volume_to_liver", 0.85, 0.20),
    _factor("metastasis_hypervascular.volume_to_liver", 0.95, 0.20),
    _between("metastasis_centre.flow_to_rim", 0.05, 0.25),
    _between("metastasis_centre.volume_to_liver", 0.8, 2.0),
    # ---------------------------------------------------------------- intrahepatic cholangiocarcinoma
    _skewed_t1("icc", 1.757, 0.723, 0.70, "assumed: as that of metastases"),
    _factor("icc_rim.flow_per_min", 0.85, 0.30),
    _factor("icc_hypervascular.flow_per_min", 1.1, 0.30),
    _between("icc.arterial_fraction", 0.7, 1.0),
    _factor("icc_rim.volume_to_liver", 1.1, 0.15),
    _factor("icc_hypervascular.volume_to_liver", 1.5, 0.15),
    _factor("icc_centre.flow_per_min", 0.16, 0.30),
    _factor("icc_centre.volume_to_liver", 2.1, 0.12),
    # ---------------------------------------------------------------- cyst
    _t1("cyst_simple", 3.793, 0.207, 3.0, LARGEST_T1_S, f"{_EJRO} (mean, SD)"),
    _t1("cyst_complicated", 1.3, 0.5, 0.50, LARGEST_T1_S, "assumed"),
)
"""Every number drawn for the tissue of lesions."""

_BY_NAME = {number.name: number for number in NUMBERS}


def draw(rng: np.random.Generator, name: str) -> float:
    """Draw a number of the table by its name."""
    return _BY_NAME[name].draw(rng)
