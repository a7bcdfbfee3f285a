"""Cyst: fluid without enhancement.

T1: EJRO 2020, 100312 (see :mod:`mtinet.phantom.lesions.common`), where it hardly changed with gadoxetate
(3793 to 3671 ms).  The share and the T1 of those with blood or protein are assumed.
"""

from __future__ import annotations

import numpy as np

from mtinet.phantom.host import Host
from mtinet.phantom.lesions.ball import Form
from mtinet.phantom.lesions.common import Bed, Pattern, Subtype, draw_t1
from mtinet.phantom.tissues import Tissue

SUBTYPES = (
    Subtype("cyst_simple", 0.95, 0.97, "assumed", "smooth, sharp, very dark in all phases"),
    Subtype("cyst_complicated", 0.05, 0.03, "assumed", "the same, less dark: blood or protein"),
)

FORMS = {"cyst_simple": Form(0.25), "cyst_complicated": Form(0.4)}


def draw_base(rng: np.random.Generator, host: Host, _liver: Tissue, subtype: str) -> Tissue:
    """Draw the fluid of a cyst."""
    return Tissue(
        "cyst",
        t1_s=draw_t1(rng, host, subtype),
        flow_per_min=0.0,
        arterial_fraction=1.0,
        distribution_volume=0.01,
    )


def make(rng: np.random.Generator, bed: Bed, subtype: str) -> Pattern:
    """Fill a ball with fluid."""
    base = draw_base(rng, bed.host, bed.liver, subtype)
    return Pattern(subtype, (base,), np.zeros(bed.ball.depth.shape, dtype=np.intp))
