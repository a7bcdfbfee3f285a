"""Liver lesions: shape, sub-form, and the parts that give each its pattern of enhancement.

A lesion is a perturbed ball cut into parts; each part has its own kinetics.  A hemangioma fills from nodules
on its rim towards its centre because perfusion falls with the distance from the nodules; an HCC takes
arterial blood early, holds less than the liver late, and may have a capsule and a mosaic of unlike nodules.

Which numbers are published, and which are not:

- T1 is moved: HCC has 1.15 s against a published 1.06 s, hemangioma 1.50 s against 2.52 s (EJRO 2020, 100312,
  gadoxetate, field taken as 3 T), and spreads are narrowed, so that the unenhanced image alone does not tell
  the classes apart.  Other fields follow the liver's law.
- Arterial fraction of HCC is 0.75, above the 0.66 of dual-input Tofts (Lee, Acad Radiol 2015), for a clear
  arterial phase; its plasma flow of 1.3 per minute is chosen for the same end, not taken from that work.
- Distribution volume of HCC, 0.15, is chosen below the liver's 0.20: that is its washout.  The direction is
  published (signal ratio to the liver, Kloeckner 2016), the number is not.
- All kinetics of hemangioma, the numbers of sub-forms, their rates and all spreads are assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mtinet.errors import UserError
from mtinet.phantom.anatomy import Canvas
from mtinet.phantom.shapes import BoolArray, Box, FloatArray, Grid, Point, bumps, waves
from mtinet.phantom.tissues import T1_S, Tissue, around_one, at_field

_FILL_LEVELS = 14
"""Steps in which a hemangioma's perfusion falls towards its centre."""

_REACH = 0.65
"""Distance from the nodules, in radii, beyond which a hemangioma is as slow as it gets."""


@dataclass(frozen=True)
class Ball:
    """A perturbed ball on the grid.

    Attributes
    ----------
    box : Box
        Voxels that it can reach.
    unit : ndarray of float32, shape (box, 3)
        Position relative to the surface: length 0 at the centre, 1 on the surface.
    depth : ndarray of float32, shape of the box
        Length of ``unit``.
    diameter_mm : float
    """

    box: Box
    unit: FloatArray
    depth: FloatArray
    diameter_mm: float


@dataclass(frozen=True)
class Pattern:
    """What fills a lesion.

    Attributes
    ----------
    subtype : str
    parts : tuple of Tissue
    chosen : ndarray of int, shape of the ball's box
        Index into ``parts``.
    kinetics : mapping
        The numbers drawn for the lesion as a whole.
    """

    subtype: str
    parts: tuple[Tissue, ...]
    chosen: NDArray[np.integer]
    kinetics: Mapping[str, float]


@dataclass(frozen=True)
class Host:
    """What a lesion depends on besides its shape: the field strength and the share of atypical ones."""

    field_T: float
    atypical_fraction: float


class LesionClassError(UserError):
    """A class of lesion that the phantom cannot make; the message names those it can."""


def make_ball(
    rng: np.random.Generator, grid: Grid, centre: Point, diameter_mm: float, irregularity: float
) -> Ball:
    """A ball with smooth bumps and slightly unequal axes, of about the volume of the true ball."""
    radius = diameter_mm / 2.0
    stretch = np.exp(rng.normal(0.0, 0.5 * irregularity, 3))
    stretch /= np.prod(stretch) ** (1.0 / 3.0)
    reach = radius * 1.6
    box = grid.box([c - reach for c in centre], [c + reach for c in centre])
    offset = np.stack(
        np.broadcast_arrays(
            *((axis - np.float32(c)) / np.float32(s) for axis, c, s in zip(grid.mesh(box), centre, stretch))
        ),
        axis=-1,
    )
    length = np.linalg.norm(offset, axis=-1)
    directions = offset / np.maximum(length, np.float32(1e-3))[..., None]
    surface = radius * np.clip(1.0 + bumps(rng, directions, irregularity), 0.6, 1.4).astype(np.float32)
    depth = length / surface
    # bumps change the volume a little; one factor restores it
    volume = np.count_nonzero(depth <= 1.0) * float(np.prod(grid.spacing_mm))
    correction = np.float32((volume / (np.pi / 6.0 * diameter_mm**3)) ** (1.0 / 3.0)) if volume > 0 else 1.0
    depth = np.asarray(depth * correction, dtype=np.float32)
    return Ball(box, directions * depth[..., None], depth, diameter_mm)


# ---------------------------------------------------------------- hemangioma
def _hemangioma(rng: np.random.Generator, grid: Grid, ball: Ball, host: Host) -> Pattern:
    """Peripheral nodules that fill in; atypical ones flash at once (small) or are sclerosed."""
    base = Tissue(
        "lesion",
        t1_s=_lesion_t1(rng, host, 1.50, 0.22),
        flow_per_min=2.0 * around_one(rng, 0.35),
        arterial_fraction=1.0,
        distribution_volume=0.46 * around_one(rng, 0.18),
    )
    if rng.random() < host.atypical_fraction:
        # flash filling is a form of small lesions; large atypical ones are mostly sclerosed
        if rng.random() < (0.85 if ball.diameter_mm < 20.0 else 0.3):
            flash = replace(base, distribution_volume=0.27 * around_one(rng, 0.18))
            return _uniform(rng, grid, ball, "hemangioma_flash", flash)
        dense = replace(
            base,
            t1_s=0.85 * base.t1_s,
            flow_per_min=0.25 * base.flow_per_min,
            distribution_volume=0.20 * around_one(rng, 0.2),
        )
        return _filling(rng, ball, "hemangioma_sclerosed", dense, slowing=2.0, nodule=0.15)
    # the larger, the slower the centre: fill-in is often incomplete in large ones
    slowing = float(np.clip(1.6 + 0.07 * ball.diameter_mm * around_one(rng, 0.4), 1.8, 5.5))
    return _filling(rng, ball, "hemangioma_typical", base, slowing, nodule=float(rng.uniform(0.14, 0.30)))


def _filling(
    rng: np.random.Generator, ball: Ball, subtype: str, base: Tissue, slowing: float, nodule: float
) -> Pattern:
    """Flow falls by ``exp(-slowing)`` over ``_REACH`` radii from nodules of size ``nodule`` on the rim."""
    count = int(rng.integers(4, 8))
    seeds = rng.normal(size=(count, 3))
    seeds *= 0.85 / np.linalg.norm(seeds, axis=1, keepdims=True)
    sizes = nodule * np.exp(rng.normal(0.0, 0.3, count))
    # between the nodules the rim is only a little faster than the centre: enhancement is not a closed ring
    distance = np.asarray(1.4 - ball.depth, dtype=np.float32)
    for seed, size in zip(seeds.astype(np.float32), sizes):
        np.minimum(distance, np.linalg.norm(ball.unit - seed, axis=-1) - np.float32(size), out=distance)
    levels = np.linspace(0.0, 1.0, _FILL_LEVELS)
    parts = tuple(replace(base, flow_per_min=base.flow_per_min * float(np.exp(-slowing * d))) for d in levels)
    chosen = np.clip(np.rint(distance / _REACH * (_FILL_LEVELS - 1)), 0, _FILL_LEVELS - 1).astype(np.int64)
    return Pattern(subtype, parts, chosen, {**_numbers(base), "slowing": slowing, "nodules": float(count)})


# ---------------------------------------------------------------- hepatocellular carcinoma
def _hcc(rng: np.random.Generator, grid: Grid, ball: Ball, host: Host) -> Pattern:
    """Arterial hyperenhancement and washout; atypical ones lack washout or arterial supply."""
    base = Tissue(
        "lesion",
        t1_s=_lesion_t1(rng, host, 1.15, 0.20),
        flow_per_min=1.3 * around_one(rng, 0.35),
        arterial_fraction=float(np.clip(rng.normal(0.75, 0.15), 0.4, 1.0)),
        distribution_volume=0.15 * around_one(rng, 0.20),
    )
    subtype = "hcc_classic"
    if rng.random() < host.atypical_fraction:
        if rng.random() < 0.5:
            subtype, base = "hcc_no_washout", replace(base, distribution_volume=0.28 * around_one(rng, 0.15))
        else:
            subtype = "hcc_hypovascular"
            base = replace(
                base, flow_per_min=0.30 * base.flow_per_min, arterial_fraction=0.5 * base.arterial_fraction
            )
    if ball.diameter_mm > 28.0 and rng.random() < 0.6:
        pattern = _mosaic(rng, ball, subtype, base)
    else:
        pattern = _uniform(rng, grid, ball, subtype, base)
    if subtype != "hcc_hypovascular" and ball.diameter_mm > 15.0 and rng.random() < 0.6:
        return _with_capsule(rng, ball, pattern, base)
    return pattern


def _mosaic(rng: np.random.Generator, ball: Ball, subtype: str, base: Tissue) -> Pattern:
    """Unlike nodules side by side, some hardly perfused."""
    count = int(np.clip(0.5 * ball.diameter_mm * around_one(rng, 0.25), 8, 40))
    seeds = (rng.normal(size=(count, 3)) * 0.5).astype(np.float32)
    nearest = np.full(ball.depth.shape, np.inf, dtype=np.float32)
    chosen = np.zeros(ball.depth.shape, dtype=np.int64)
    for number, seed in enumerate(seeds):
        distance = np.square(ball.unit - seed).sum(axis=-1)
        closer = distance < nearest
        np.copyto(chosen, number, where=closer)
        np.minimum(nearest, distance, out=nearest)
    parts = []
    for _ in range(count):
        faint = 0.15 if rng.random() < 0.12 else 1.0
        parts.append(
            replace(
                base,
                t1_s=base.t1_s * around_one(rng, 0.10),
                flow_per_min=base.flow_per_min * around_one(rng, 0.4) * faint,
                distribution_volume=base.distribution_volume * around_one(rng, 0.15),
            )
        )
    return Pattern(subtype, tuple(parts), chosen, {**_numbers(base), "mosaic": 1.0})


def _with_capsule(rng: np.random.Generator, ball: Ball, pattern: Pattern, base: Tissue) -> Pattern:
    """A fibrous rim of 2 to 3.5 mm: slow inflow, large distribution volume, hence bright late."""
    thickness_mm = float(rng.uniform(2.0, 3.5))
    capsule = replace(
        base,
        t1_s=1.05 * base.t1_s,
        flow_per_min=0.45 * around_one(rng, 0.2),
        arterial_fraction=0.8,
        distribution_volume=0.40 * around_one(rng, 0.12),
    )
    rim = ball.depth > 1.0 - 2.0 * thickness_mm / ball.diameter_mm
    chosen = np.where(rim, len(pattern.parts), pattern.chosen)
    kinetics = {**pattern.kinetics, "capsule_mm": thickness_mm}
    return Pattern(pattern.subtype, (*pattern.parts, capsule), chosen, kinetics)


# ---------------------------------------------------------------- common
LESION_CLASSES: dict[str, Callable[[np.random.Generator, Grid, Ball, Host], Pattern]] = {
    "hemangioma": _hemangioma,
    "hcc": _hcc,
}
"""How each class is made."""


def check_classes(classes: tuple[str, ...]) -> None:
    """Refuse classes that the phantom cannot make.

    Raises
    ------
    LesionClassError
    """
    unknown = [name for name in classes if name not in LESION_CLASSES]
    if unknown or not classes:
        raise LesionClassError(
            f"classes: {', '.join(map(repr, unknown)) or 'none given'} cannot be simulated; "
            f"valid: {', '.join(LESION_CLASSES)}"
        )


def grow(
    rng: np.random.Generator, canvas: Canvas, liver: BoolArray, label: str, ball: Ball, host: Host
) -> tuple[Pattern, BoolArray]:
    """Paint a lesion of class ``label`` into the liver.

    Returns
    -------
    Pattern
    ndarray of bool, shape of the ball's box
        The voxels that became lesion.
    """
    pattern = LESION_CLASSES[label](rng, canvas.grid, ball, host)
    first = canvas.add(pattern.parts[0])
    for part in pattern.parts[1:]:
        canvas.add(part)
    inside = (ball.depth <= 1.0) & liver[ball.box]
    np.copyto(canvas.labels[ball.box], (pattern.chosen + first).astype(np.uint16), where=inside)
    return pattern, inside


def _uniform(rng: np.random.Generator, grid: Grid, ball: Ball, subtype: str, base: Tissue) -> Pattern:
    """One kind of tissue with slight variation of flow, in blotches."""
    size = max(ball.diameter_mm, 8.0)
    blotches = waves(rng, grid, ball.box, (0.4 * size, 0.9 * size), 4)
    factors = (0.75, 0.9, 1.1, 1.3)
    parts = tuple(replace(base, flow_per_min=base.flow_per_min * factor) for factor in factors)
    chosen = np.clip(np.floor(blotches + 2.0), 0, len(factors) - 1).astype(np.int64)
    return Pattern(subtype, parts, chosen, _numbers(base))


def _lesion_t1(rng: np.random.Generator, host: Host, t1_3t_s: float, spread: float) -> float:
    """T1 at the site's field, from one at 3 T: lesion and liver keep their ratio."""
    return t1_3t_s * at_field(T1_S["liver"], host.field_T) / T1_S["liver"][1] * around_one(rng, spread)


def _numbers(tissue: Tissue) -> dict[str, float]:
    return {
        "t1_s": tissue.t1_s,
        "flow_per_min": tissue.flow_per_min,
        "arterial_fraction": tissue.arterial_fraction,
        "distribution_volume": tissue.distribution_volume,
    }
