"""What is wrong with a patient's liver: lesions of the patient's class, incidental cysts, shunts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtinet.cohort import NO_LESION
from mtinet.config import SimulationSettings
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.host import Host
from mtinet.phantom.lesions import LESION_CLASSES, Pattern, grow, make_ball
from mtinet.phantom.placement import NEAR_SURFACE, draw_diameters, draw_places
from mtinet.phantom.shapes import BoolArray, Box

CYST = "cyst"

_CYST_MM = (4.0, 14.0)
"""Diameter of incidental cysts (assumed)."""

_CYST_SHARE = 0.6
"""An incidental cyst is at most that large compared with the lesion that gives the study its label."""

_MOST_CYSTS = 3


@dataclass(frozen=True)
class Grown:
    """A lesion on the fine grid.

    Attributes
    ----------
    label : str
    box : Box
        Voxels that it can reach.
    inside : ndarray of bool, shape of the box
    pattern : Pattern
    diameter_mm : float
        Of the ball with the lesion's volume.
    """

    label: str
    box: Box
    inside: BoolArray
    pattern: Pattern
    diameter_mm: float


def grow_lesions(
    rng: np.random.Generator,
    settings: SimulationSettings,
    label: str,
    canvas: Canvas,
    liver: BoolArray,
    room: BoolArray,
    host: Host,
) -> list[Grown]:
    """Paint the lesions that give a patient the label, largest first; each takes its own voxels.

    Parameters
    ----------
    rng : numpy.random.Generator
    settings : SimulationSettings
    label : str
        ``none`` paints nothing.
    canvas : Canvas
    liver : ndarray of bool, shape of the fine grid
        Loses the voxels that a lesion draws in from the surface.
    room : ndarray of bool, shape of the fine grid
        Where lesions may lie; loses the voxels that they take.
    host : Host
    """
    if label == NO_LESION:
        return []
    diameters = draw_diameters(rng, settings.diameter_mm, settings.median_diameter_mm, settings.extra_lesions)
    smallest = settings.diameter_mm[0]
    return _grow_all(rng, settings, label, canvas, liver, room, host, diameters, smallest, (0.05, 0.13))


def grow_cysts(
    rng: np.random.Generator,
    settings: SimulationSettings,
    lesions: Sequence[Grown],
    canvas: Canvas,
    liver: BoolArray,
    room: BoolArray,
    host: Host,
) -> list[Grown]:
    """Paint one to three small cysts into some patients; parameters as in :func:`grow_lesions`.

    Where ``cyst`` is a class of the cohort a cyst is a lesion: then patients without lesion get none.  They
    stay clearly smaller than the patient's largest lesion.
    """
    affected, count = rng.random() < settings.cyst_fraction, int(rng.integers(1, _MOST_CYSTS + 1))
    drawn = rng.uniform(*_CYST_MM, _MOST_CYSTS)
    a_lesion = CYST in settings.classes
    if not affected or CYST not in LESION_CLASSES or (a_lesion and not lesions):
        return []
    smallest = max(_CYST_MM[0], settings.diameter_mm[0]) if a_lesion else _CYST_MM[0]
    largest = _CYST_SHARE * max((lesion.diameter_mm for lesion in lesions), default=np.inf)
    if largest < smallest:
        return []
    diameters = sorted((float(np.clip(d, smallest, largest)) for d in drawn[:count]), reverse=True)
    return _grow_all(rng, settings, CYST, canvas, liver, room, host, diameters, smallest, (0.02, 0.05))


def _grow_all(
    rng: np.random.Generator,
    settings: SimulationSettings,
    label: str,
    canvas: Canvas,
    liver: BoolArray,
    room: BoolArray,
    host: Host,
    diameters: list[float],
    smallest_mm: float,
    irregularity: tuple[float, float],
) -> list[Grown]:
    grown = []
    fine_mm3 = float(np.prod(canvas.grid.spacing_mm))
    near = NEAR_SURFACE[label]
    for centre, diameter in draw_places(rng, canvas.grid, room, diameters, smallest_mm, near):
        ball = make_ball(rng, canvas.grid, centre, diameter, float(rng.uniform(*irregularity)))
        before = room[ball.box].copy()
        pattern, inside = grow(rng, canvas, room, label, ball, host, settings.subtypes.get(label))
        # what the lesion drew in from the surface is liver no more
        liver[ball.box] &= ~(before & ~room[ball.box] & ~inside)
        room[ball.box] &= ~inside
        volume = np.count_nonzero(inside) * fine_mm3
        grown.append(Grown(label, ball.box, inside, pattern, float((6.0 * volume / np.pi) ** (1.0 / 3.0))))
    return grown
