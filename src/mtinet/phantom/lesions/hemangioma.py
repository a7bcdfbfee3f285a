"""Hemangioma: a blood-filled sponge that fills from nodules on its rim towards its centre.

Sources
- T1: EJRO 2020, 100312 (see :mod:`mtinet.phantom.lesions.common`); sclerosed ones take its lower end, so that
  all forms together have the published distribution.
- Distribution volume: a cavernous hemangioma is blood in thin septa, so the agent reaches about the plasma
  of blood, 1 - haematocrit; 0.50 leaves some room for septa.  Derived, not
  measured.
- Does not fit: T1 15 min after gadoxetate comes out about 1.4 s against a published 1.07 s (the same).  To
  meet it the plasma in the lesion would have to hold 0.17 mM, more than the dose over the extracellular water
  of the body (0.025 mmol/kg over about 0.2 L/kg); field and regions of the source are not known.
- Flows, sizes of nodules and the fall of perfusion towards the centre are assumed.  Real filling is blood
  that moves inwards; a compartment knows no neighbour, so depth is given less flow and a later input.
- Rapidly filling, hyalinised (sclerosed) and large heterogeneous forms are the described atypical forms
  (Vilgrain, RadioGraphics 2000;20:379).  16 % of all and 42 % of those below 1 cm fill rapidly (Hanafusa,
  Radiology 1995;196:465, quoted there); the other rates are assumed.
- In cirrhosis 36 of 57 hemangiomas became sclerotic (Shin, Radiol med 2020, 10.1007/s11547-020-01221-y): the
  factor of 4 is assumed to that effect.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtinet.phantom.host import Host
from mtinet.phantom.lesions.ball import Form, ripples
from mtinet.phantom.lesions.common import Bed, Pattern, Subtype, draw_t1, graded, mottled
from mtinet.phantom.lesions.numbers import draw
from mtinet.phantom.tissues import Tissue, around_one

SUBTYPES = (
    Subtype(
        "hemangioma_typical",
        0.81,
        0.52,
        "assumed",
        "peripheral nodular discontinuous enhancement, as bright as the aorta, that fills in towards the "
        "centre; large ones fill incompletely; bright late",
    ),
    Subtype(
        "hemangioma_flash",
        0.12,
        0.42,
        "42 % below 1 cm, 16 % of all (Hanafusa 1995)",
        "small; uniformly bright in the arterial phase, stays as bright as blood",
    ),
    Subtype(
        "hemangioma_sclerosed",
        0.07,
        0.06,
        "assumed; more often in cirrhosis (Shin 2020)",
        "faint peripheral enhancement that fills little; may retract the capsule",
        with_cirrhosis=4.0,
    ),
)

FORMS = {
    "hemangioma_typical": Form(0.6, lobes=0.14),
    "hemangioma_flash": Form(0.6),
    "hemangioma_sclerosed": Form(1.0, lobes=0.16, fringe=0.02),
}

_REACH = 0.70
"""Distance from the nodules, in radii, at which perfusion has fallen all the way."""


def draw_base(rng: np.random.Generator, host: Host, _liver: Tissue, subtype: str) -> Tissue:
    """Draw the nodules of a typical hemangioma, or the tissue of the other forms."""
    # sclerosed ones: fibrous tissue instead of blood
    kind = subtype if subtype == "hemangioma_sclerosed" else "hemangioma"
    return Tissue(
        "hemangioma",
        t1_s=draw_t1(rng, host, kind),
        flow_per_min=draw(rng, f"{kind}.flow_per_min"),
        arterial_fraction=1.0,
        distribution_volume=draw(rng, f"{kind}.distribution_volume"),
    )


def make(rng: np.random.Generator, bed: Bed, subtype: str) -> Pattern:
    """Fill a ball with a hemangioma."""
    base = draw_base(rng, bed.host, bed.liver, subtype)
    diameter = bed.ball.diameter_mm
    if subtype == "hemangioma_flash":
        return mottled(rng, bed, subtype, base)
    if subtype == "hemangioma_sclerosed":
        return _filling(rng, bed, subtype, base, slowing=float(rng.uniform(2.0, 3.5)), nodule=0.12)
    # the larger, the slower the centre: fill-in is often incomplete in large ones
    slowing = float(np.clip(1.8 + 0.05 * diameter * around_one(rng, 0.4), 2.0, 6.0))
    pattern = _filling(rng, bed, subtype, base, slowing, nodule=float(rng.uniform(0.14, 0.28)))
    if diameter > 35.0 and rng.random() < 0.5:
        return _with_cleft(rng, bed, pattern, base)
    return pattern


def _filling(
    rng: np.random.Generator, bed: Bed, subtype: str, base: Tissue, slowing: float, nodule: float
) -> Pattern:
    """Flow falls by ``exp(-slowing)`` over ``_REACH`` radii from nodules of size ``nodule`` on the rim."""
    ball = bed.ball
    count = int(rng.integers(3, 8))
    seeds = rng.normal(size=(count, 3))
    seeds *= 0.88 / np.linalg.norm(seeds, axis=1, keepdims=True)
    sizes = nodule * np.exp(rng.normal(0.0, 0.35, count))
    # between the nodules the rim is only a little faster than the centre: enhancement is not a closed ring
    distance = np.asarray(1.4 - ball.depth, dtype=np.float32)
    for seed, size in zip(seeds.astype(np.float32), sizes):
        offset = ball.unit - seed
        np.minimum(
            distance, np.sqrt(np.einsum("...i,...i->...", offset, offset)) - np.float32(size), out=distance
        )
    distance += np.float32(0.05) * ripples(rng, ball, (0.25, 0.5))
    # blood reaches the depth through the outer spaces, late and spread out; the portal curve, late and spread
    # out by the gut, stands in for it
    slow = replace(base, flow_per_min=base.flow_per_min * float(np.exp(-slowing)), arterial_fraction=0.0)
    pattern = graded(subtype, base, slow, np.clip(distance / np.float32(_REACH), 0.0, 1.0), levels=14)
    return replace(pattern, kinetics={"slowing": slowing, "nodules": float(count)})


def _with_cleft(rng: np.random.Generator, bed: Bed, pattern: Pattern, base: Tissue) -> Pattern:
    """A cystic or fibrous cleft near the centre that does not fill."""
    cleft = replace(base, t1_s=1.1 * base.t1_s, flow_per_min=0.01, distribution_volume=0.10)
    normal = rng.normal(size=3)
    normal /= np.linalg.norm(normal)
    across = np.abs(bed.ball.unit @ normal.astype(np.float32))
    reach = float(rng.uniform(0.2, 0.4))
    width = float(rng.uniform(0.06, 0.14))
    where = (across / np.float32(width)) ** 2 + (bed.ball.depth / np.float32(reach)) ** 2 < 1.0
    return pattern.covered(where, cleft, cleft=1.0)
