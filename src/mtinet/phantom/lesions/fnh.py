"""Focal nodular hyperplasia: hepatocytes fed by arteries alone, around a scar.

Sources
- Tissue and signs: hepatocytes with fibrous septa and a central scar, iso- to hypointense without agent,
  intense and homogeneous in the arterial phase, near the liver's signal later; the scar is dark early and
  enhances late (textbook chapter at doctorabel.us, mri-of-liver; grayscalecourses.com, case 18).
- Scar: not seen in 86 % of lesions below 3 cm (the same chapter), seen in about half of all (scirp.org
  58293).
- Uptake of gadoxetate like the liver's or more: FNH is iso- to hyperintense in the hepatobiliary phase
  (Vernuccio, Insights Imaging 2021;12:8).
- T1 (1.10 of the liver's), flow, distribution volumes, uptake factors: assumed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtinet.phantom.host import Host
from mtinet.phantom.lesions.ball import Form
from mtinet.phantom.lesions.common import Bed, Pattern, Subtype, draw_t1, fibrous_volume, mottled
from mtinet.phantom.lesions.numbers import draw
from mtinet.phantom.tissues import Tissue

SUBTYPES = (
    Subtype(
        "fnh_scar",
        0.65,
        0.05,
        "86 % of lesions below 3 cm show no scar, about half of all do; assumed between",
        "strong homogeneous arterial enhancement but for a central scar, near the liver's signal later; scar "
        "dark without agent and bright late; iso- to hyperintense in the hepatobiliary phase",
    ),
    Subtype(
        "fnh_plain",
        0.35,
        0.95,
        "the remainder",
        "the same without a visible scar",
    ),
)

FORMS = {"fnh_scar": Form(0.5, lobes=0.12), "fnh_plain": Form(0.5, lobes=0.08)}


def draw_base(rng: np.random.Generator, host: Host, liver: Tissue, _subtype: str) -> Tissue:
    """Draw the hepatocellular tissue of an FNH."""
    return Tissue(
        "fnh",
        t1_s=draw_t1(rng, host, "fnh"),
        flow_per_min=draw(rng, "fnh.flow_per_min"),
        arterial_fraction=draw(rng, "fnh.arterial_fraction"),
        distribution_volume=liver.distribution_volume * draw(rng, "fnh.volume_to_liver"),
        # malformed bile ducts drain slowly: what is taken up stays
        uptake_per_min=liver.uptake_per_min * draw(rng, "fnh.uptake_to_liver"),
        excretion_per_min=liver.excretion_per_min * draw(rng, "fnh.excretion_to_liver"),
    )


def make(rng: np.random.Generator, bed: Bed, subtype: str) -> Pattern:
    """Fill a ball with an FNH."""
    base = draw_base(rng, bed.host, bed.liver, subtype)
    pattern = mottled(rng, bed, subtype, base, contrast=0.06)
    return _with_scar(rng, bed, pattern, base) if subtype == "fnh_scar" else pattern


def _with_scar(rng: np.random.Generator, bed: Bed, pattern: Pattern, base: Tissue) -> Pattern:
    """A star: a core and thin septa through it that thin towards the rim."""
    ball, radius = bed.ball, bed.ball.diameter_mm / 2.0
    scar = replace(
        base,
        name="fnh_scar",
        t1_s=1.7 * base.t1_s,
        flow_per_min=draw(rng, "fnh_scar.flow_per_min"),
        distribution_volume=fibrous_volume(rng, bed.liver, "fnh_scar"),
        uptake_per_min=0.0,
    )
    core = float(rng.uniform(0.14, 0.26))
    where = ball.depth < np.float32(core)
    for _ in range(4):
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        half_mm, reach = float(rng.uniform(0.8, 1.8)), float(rng.uniform(0.55, 0.9))
        across_mm = np.abs(ball.unit @ normal.astype(np.float32)) * np.float32(radius)
        where |= across_mm < half_mm * (1.0 - ball.depth / np.float32(reach))
    return pattern.covered(where, scar, scar_radius_mm=core * radius)
