"""Capsular retraction: a lesion near the liver's surface draws it in."""

from __future__ import annotations

import numpy as np

from mtinet.phantom.canvas import Canvas
from mtinet.phantom.lesions.ball import Ball
from mtinet.phantom.shapes import BoolArray

OUTSIDE = frozenset({"visceral_fat", "fat", "muscle", "lung", "ascites", "diaphragm"})
"""Parts, by name, that border on the liver's capsule."""

_NEAR = (0.5, 1.35)
"""How far from the lesion's centre, in its radii, the capsule may lie to be drawn in."""


def retract(rng: np.random.Generator, canvas: Canvas, liver: BoolArray, ball: Ball) -> float:
    """Dent the surface of the liver above a lesion.

    Where the surface comes near the ball, a smooth dimple of 4 to 9 mm is taken from the liver: its voxels
    become ``visceral_fat`` and are cleared in ``liver``, in place.  Elsewhere nothing happens.

    Parameters
    ----------
    rng : numpy.random.Generator
        Takes two numbers whether or not there is a dent.
    canvas : Canvas
    liver : ndarray of bool, shape of the grid
        Changed in place.
    ball : Ball

    Returns
    -------
    float
        Depth of the dimple in mm, 0 without one.
    """
    radius = ball.diameter_mm / 2.0
    deep_mm = min(float(rng.uniform(4.0, 9.0)), 0.5 * radius)
    wide_mm = radius * float(rng.uniform(0.5, 0.8))
    borders = np.array([tissue.name in OUTSIDE for tissue in canvas.tissues])
    outside = borders[canvas.labels[ball.box]] & ~liver[ball.box] & (ball.depth < np.float32(_NEAR[1]))
    if not outside.any():
        return 0.0
    nearest = np.argmin(np.where(outside, ball.length_mm, np.inf))
    if ball.depth.flat[nearest] < _NEAR[0]:
        return 0.0
    axis = ball.directions.reshape(-1, 3)[nearest]
    along = ball.directions @ axis * ball.length_mm
    aside = np.sqrt(np.maximum(ball.length_mm**2 - along**2, 0.0))
    dimple = np.float32(deep_mm) * np.exp(-np.square(aside / np.float32(wide_mm)))
    drawn_in = (along > ball.length_mm.flat[nearest] - dimple) & (dimple > 0.15 * deep_mm) & liver[ball.box]
    canvas.paint(ball.box, drawn_in, "visceral_fat")
    liver[ball.box] &= ~drawn_in
    return deep_mm if drawn_in.any() else 0.0
