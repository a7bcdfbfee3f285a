"""Hepatocellular carcinoma: arterial supply, washout, capsule, mosaic.

Sources, and what was taken where they conflict
- T1: EJRO 2020, 100312 (see :mod:`mtinet.phantom.lesions.common`).
- Flow: 157 mL/min/100 g of blood in advanced HCC by dual-input Tofts (Lee, Acad Radiol 2015); with
  haematocrit 0.42 and 1.06 g/mL, 0.96 mL plasma a minute and mL.  Spread assumed.
- Arterial fraction: 0.66 ± 0.28 (the same).  Hypovascular HCC takes the draws below 0.40, the other forms
  those above, so that all forms together have the published distribution.
- Distribution volume: the interstitial volume of the same work is 0.27, beside a liver of 0.29 (Pahwa,
  quoted in a review in QIMS): a ratio of 0.93 to the patient's own liver.  Pahwa's own HCC, 49 % against
  that liver's 29 %, contradicts washout and the statement that washout comes of a reduced extracellular
  volume, rapid drainage and little portal blood (Radiol Oncol 2018;52:353); it is not used.  The choice
  between the two was made knowing the direction of the measured washout (Kloeckner 2016); no number was
  fitted to it.  What is described of a sub-form is part of its definition: a classic HCC washes out and a
  hypovascular one stays darker than the liver, so they take the draws with less volume than the liver;
  a mosaic takes all.
- Capsule in about 80 % (Radiol Oncol 2018;52:353).  Typical wash-in and washout in 60 % of small HCC
  (Rimola, Semin Liver Dis 2020;40:61): small ones have a volume spread about the liver's own.  Iso- or
  hyperintense with gadoxetate in 8 of 40 (Radiology 2010;256:817) and 10 of 69 (Zhou, Cancer Manag Res
  2021;13:1169).
- Rates of sub-forms, mosaic and necrosis, and all spreads not named here are assumed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtinet.phantom.host import Host
from mtinet.phantom.lesions.ball import Form
from mtinet.phantom.lesions.common import Bed, Pattern, Subtype, draw_t1, fibrous_volume, mottled
from mtinet.phantom.lesions.numbers import draw
from mtinet.phantom.tissues import Tissue, around_one

UPTAKE_RATE = 18.0 / 109.0
CAPSULE_RATE = 0.8

SUBTYPES = (
    Subtype(
        "hcc_small",
        0.05,
        0.72,
        "assumed",
        "small; uniformly bright in the arterial phase, washout in about 60 %, rarely a capsule",
    ),
    Subtype(
        "hcc_classic",
        0.46,
        0.10,
        "assumed",
        "bright in the arterial phase, darker than the liver from the portal venous or delayed phase on, "
        "capsule bright late",
    ),
    Subtype(
        "hcc_mosaic",
        0.31,
        0.0,
        "assumed",
        "unlike nodules, some necrotic or fatty, between septa; capsule",
    ),
    Subtype(
        "hcc_hypovascular",
        0.18,
        0.18,
        "share of the published arterial fraction below 0.40",
        "no arterial hyperenhancement; darker than the liver in all phases",
    ),
)

FORMS = {
    "hcc_small": Form(0.5),
    "hcc_classic": Form(0.5, lobes=0.06),
    "hcc_mosaic": Form(0.8, lobes=0.10),
    "hcc_hypovascular": Form(0.8, lobes=0.04, fringe=0.05),
}


def draw_base(rng: np.random.Generator, host: Host, liver: Tissue, subtype: str) -> Tissue:
    """Draw the tissue of an HCC, without capsule, necrosis or septa."""
    supply = subtype if subtype == "hcc_hypovascular" else "hcc"
    volume = {"hcc_mosaic": "hcc", "hcc_small": "hcc_small"}.get(subtype, "hcc_washout")
    takes_up = rng.random() < UPTAKE_RATE
    uptake = draw(rng, "hcc.uptake_to_liver" if takes_up else "hcc.lost_uptake_to_liver")
    return Tissue(
        "hcc",
        t1_s=draw_t1(rng, host, "hcc"),
        flow_per_min=draw(rng, f"{supply}.flow_per_min"),
        arterial_fraction=draw(rng, f"{supply}.arterial_fraction"),
        distribution_volume=liver.distribution_volume * draw(rng, f"{volume}.volume_to_liver"),
        uptake_per_min=uptake * liver.uptake_per_min,
        excretion_per_min=liver.excretion_per_min,
    )


def make(rng: np.random.Generator, bed: Bed, subtype: str) -> Pattern:
    """Fill a ball with an HCC."""
    base = draw_base(rng, bed.host, bed.liver, subtype)
    if subtype == "hcc_mosaic":
        pattern = _mosaic(rng, bed, subtype, base)
    else:
        pattern = mottled(rng, bed, subtype, base, contrast=0.2)
    rate = {"hcc_small": 0.2, "hcc_hypovascular": 0.15}.get(subtype, CAPSULE_RATE)
    return _with_capsule(rng, bed, pattern, base) if rng.random() < rate else pattern


def _mosaic(rng: np.random.Generator, bed: Bed, subtype: str, base: Tissue) -> Pattern:
    """Unlike nodules side by side, some necrotic, some fatty, with septa between."""
    ball = bed.ball
    count = int(np.clip(0.45 * ball.diameter_mm * around_one(rng, 0.25), 6, 28))
    seeds = (rng.normal(size=(count, 3)) * 0.5).astype(np.float32)
    parts = [_nodule(rng, base) for _ in range(count)]
    parts.append(_fibrous(rng, base, bed.liver))
    inside = ball.depth <= 1.2
    places = ball.unit[inside]
    squared = (seeds**2).sum(axis=1) - 2.0 * places @ seeds.T
    nearest = squared.argmin(axis=1)
    first = np.take_along_axis(squared, nearest[:, None], axis=1)[:, 0]
    np.put_along_axis(squared, nearest[:, None], np.inf, axis=1)
    second = squared.argmin(axis=1)
    gap = squared[np.arange(second.size), second] - first
    # distance to the plane between two nodules is the gap over twice the distance of their centres
    apart = np.linalg.norm(seeds[nearest] - seeds[second], axis=1)
    half_mm = float(rng.uniform(0.3, 0.7))
    septum = gap / (2.0 * apart + 1e-6) * (ball.diameter_mm / 2.0) < half_mm
    chosen = np.zeros(ball.depth.shape, dtype=np.intp)
    chosen[inside] = np.where(septum, count, nearest)
    return Pattern(subtype, tuple(parts), chosen, {"mosaic_nodules": float(count)})


def _nodule(rng: np.random.Generator, base: Tissue) -> Tissue:
    """One nodule of a mosaic: like the tumour, or necrotic (12 %), or with fat (10 %)."""
    kind = rng.random()
    nodule = replace(
        base,
        t1_s=base.t1_s * around_one(rng, 0.12),
        flow_per_min=base.flow_per_min * around_one(rng, 0.4),
        distribution_volume=base.distribution_volume * around_one(rng, 0.15),
    )
    if kind < 0.12:
        return replace(
            nodule, name="hcc_necrosis", t1_s=1.5 * base.t1_s, flow_per_min=0.03, distribution_volume=0.08
        )
    if kind < 0.22:
        return replace(nodule, proton=float(rng.uniform(0.6, 0.85)))
    return nodule


def _fibrous(rng: np.random.Generator, base: Tissue, liver: Tissue) -> Tissue:
    """Capsule and septa: slow inflow and a large volume, hence bright late; no hepatocytes."""
    return replace(
        base,
        name="hcc_capsule",
        t1_s=1.1 * base.t1_s,
        flow_per_min=draw(rng, "hcc_capsule.flow_per_min"),
        arterial_fraction=0.6,
        distribution_volume=fibrous_volume(rng, liver, "hcc_capsule"),
        uptake_per_min=0.0,
    )


def _with_capsule(rng: np.random.Generator, bed: Bed, pattern: Pattern, base: Tissue) -> Pattern:
    """A fibrous rim of about 1 to 2 mm (assumed)."""
    thickness_mm = draw(rng, "hcc_capsule.thickness_mm")
    rim = bed.ball.depth > 1.0 - 2.0 * thickness_mm / bed.ball.diameter_mm
    return pattern.covered(rim, _fibrous(rng, base, bed.liver), capsule_mm=thickness_mm)
