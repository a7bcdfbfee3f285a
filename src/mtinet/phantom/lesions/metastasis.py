"""Metastasis: a living rim around a poorly perfused centre, or, more rarely, a hypervascular nodule.

Sources
- T1: EJRO 2020, 100312 (see :mod:`mtinet.phantom.lesions.common`).
- Colorectal metastases have less flow, less portal than arterial flow, a smaller distribution volume and a
  longer transit time than HCC (26 patients, pubmed 18666145): for the living tissue the directions are
  taken, the numbers are assumed.
- Volume of the centre: assumed up to twice the liver's.  A first range of 0.6 to 1.6 left T1 15 min after
  gadoxetate a third above the published 1033 ms (EJRO 2020, 100312); this one was widened knowing that.
- Colon, lung, breast and gastric cancers give hypovascular, neuroendocrine and renal ones hypervascular
  metastases with variable washout (Namasivayam, Cancer Imaging 2007;7:2); the rates are assumed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtinet.phantom.host import Host
from mtinet.phantom.lesions.ball import Form, ripples
from mtinet.phantom.lesions.common import Bed, Pattern, Subtype, draw_t1, graded, mottled
from mtinet.phantom.lesions.numbers import LARGEST_T1_S, draw
from mtinet.phantom.tissues import Tissue

SUBTYPES = (
    Subtype(
        "metastasis_rim",
        0.85,
        0.70,
        "assumed",
        "dark; a continuous rim enhances early and washes out while the centre slowly enhances",
    ),
    Subtype(
        "metastasis_hypervascular",
        0.15,
        0.30,
        "assumed",
        "bright in the arterial phase, variable washout: like an HCC without capsule",
    ),
)

FORMS = {
    "metastasis_rim": Form(0.7, lobes=0.06, fringe=0.02),
    "metastasis_hypervascular": Form(0.5, lobes=0.04),
}


def draw_base(rng: np.random.Generator, host: Host, liver: Tissue, subtype: str) -> Tissue:
    """Draw the living tissue of a metastasis: the rim, or all of a hypervascular one."""
    return Tissue(
        "metastasis",
        t1_s=draw_t1(rng, host, "metastasis"),
        flow_per_min=draw(rng, f"{subtype}.flow_per_min"),
        arterial_fraction=draw(rng, "metastasis.arterial_fraction"),
        distribution_volume=liver.distribution_volume * draw(rng, f"{subtype}.volume_to_liver"),
    )


def make(rng: np.random.Generator, bed: Bed, subtype: str) -> Pattern:
    """Fill a ball with a metastasis."""
    base = draw_base(rng, bed.host, bed.liver, subtype)
    if subtype == "metastasis_hypervascular":
        return mottled(rng, bed, subtype, base, contrast=0.2)
    return _rim(rng, bed, subtype, base)


def _rim(rng: np.random.Generator, bed: Bed, subtype: str, base: Tissue) -> Pattern:
    """A closed rim of uneven width; the centre is necrotic to fibrous."""
    ball = bed.ball
    width = float(rng.uniform(0.16, 0.34))
    uneven = ripples(rng, ball, (0.4, 0.9))
    share = (np.float32(1.0 - width) - ball.depth + np.float32(0.06) * uneven) / np.float32(0.30)
    # T1 as published belongs to the lesion as a whole: the rim lies below it, the centre above
    rim = replace(base, t1_s=0.9 * base.t1_s)
    centre = replace(
        base,
        name="metastasis_centre",
        t1_s=min(1.2 * base.t1_s, LARGEST_T1_S),
        flow_per_min=base.flow_per_min * draw(rng, "metastasis_centre.flow_to_rim"),
        # from necrosis, which the agent hardly reaches, to loose fibrous tissue
        distribution_volume=bed.liver.distribution_volume * draw(rng, "metastasis_centre.volume_to_liver"),
    )
    pattern = graded(subtype, rim, centre, np.clip(share, 0.0, 1.0), levels=8)
    return replace(pattern, kinetics={"rim_mm": width * ball.diameter_mm / 2.0})
