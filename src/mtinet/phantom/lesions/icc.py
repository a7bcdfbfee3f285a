"""Intrahepatic cholangiocarcinoma, mass-forming: a thin living rim around fibrous tissue that fills slowly.

Sources
- Pattern: rim enhancement in the arterial phase, then progressive, in 80 of 93, and with a hepatobiliary
  agent a dark periphery around a brighter centre (Yang, Int J Clin Exp Med 2017;10:2992); hypervascular
  forms exist, mostly of small ducts (review of mass-forming ICC, encyclopedia.pub 54648).  Lobulated
  outline and capsular retraction are named there and at radiopaedia.org; how often the capsule is retracted
  is assumed.
- T1: no source was found; as that of metastases (EJRO 2020, 100312), both being adenocarcinomas with
  fibrous stroma.  Flows and distribution volumes: assumed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtinet.phantom.host import Host
from mtinet.phantom.lesions.ball import Form, ripples
from mtinet.phantom.lesions.common import Bed, Pattern, Subtype, draw_t1, fibrous_volume, graded, mottled
from mtinet.phantom.lesions.numbers import LARGEST_T1_S, draw
from mtinet.phantom.tissues import Tissue

SUBTYPES = (
    Subtype(
        "icc_rim",
        80.0 / 93.0,
        80.0 / 93.0,
        "80 of 93 (Yang 2017)",
        "lobulated; irregular rim in the arterial phase, then slow concentric enhancement of the centre; may "
        "retract the capsule",
    ),
    Subtype(
        "icc_hypervascular",
        13.0 / 93.0,
        13.0 / 93.0,
        "the remainder of the 93",
        "bright as a whole in the arterial phase, no washout",
    ),
)

FORMS = {"icc_rim": Form(1.2, lobes=0.22, fringe=0.04), "icc_hypervascular": Form(1.0, lobes=0.15)}

RETRACTION_RATE = 0.5
"""Share of those near the liver's surface that retract it (assumed)."""


def draw_base(rng: np.random.Generator, host: Host, liver: Tissue, subtype: str) -> Tissue:
    """Draw the living tissue of an ICC: the rim, or all of a hypervascular one."""
    return Tissue(
        "icc",
        t1_s=draw_t1(rng, host, "icc"),
        flow_per_min=draw(rng, f"{subtype}.flow_per_min"),
        arterial_fraction=draw(rng, "icc.arterial_fraction"),
        distribution_volume=liver.distribution_volume * draw(rng, f"{subtype}.volume_to_liver"),
    )


def make(rng: np.random.Generator, bed: Bed, subtype: str) -> Pattern:
    """Fill a ball with an ICC."""
    base = draw_base(rng, bed.host, bed.liver, subtype)
    if subtype == "icc_hypervascular":
        return mottled(rng, bed, subtype, base, contrast=0.25)
    ball = bed.ball
    width = float(rng.uniform(0.08, 0.20))
    uneven = ripples(rng, ball, (0.2, 0.6))
    share = (np.float32(1.0 - width) - ball.depth + np.float32(0.09) * uneven) / np.float32(0.40)
    fibrous = replace(
        base,
        name="icc_centre",
        t1_s=min(1.1 * base.t1_s, LARGEST_T1_S),
        flow_per_min=draw(rng, "icc_centre.flow_per_min"),
        distribution_volume=fibrous_volume(rng, bed.liver, "icc_centre"),
    )
    pattern = graded(
        subtype, replace(base, t1_s=0.9 * base.t1_s), fibrous, np.clip(share, 0.0, 1.0), levels=10
    )
    return replace(pattern, kinetics={"rim_mm": width * ball.diameter_mm / 2.0})
