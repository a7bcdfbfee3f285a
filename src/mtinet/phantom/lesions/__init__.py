"""Liver lesions: six classes with their sub-forms, outlines and parts with kinetics of their own.

``ball`` is the outline, ``common`` what the classes share; one file a class states its sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from mtinet.phantom.canvas import Canvas
from mtinet.phantom.host import Host
from mtinet.phantom.lesions import cyst, fnh, hcc, hemangioma, icc, metastasis
from mtinet.phantom.lesions.ball import Ball, Form, make_ball, shaped, trimmed
from mtinet.phantom.lesions.common import Bed, LesionClassError, Pattern, Subtype, whole_lesion
from mtinet.phantom.lesions.numbers import NUMBERS, Number
from mtinet.phantom.lesions.retraction import retract
from mtinet.phantom.shapes import BoolArray
from mtinet.phantom.tissues import Tissue

__all__ = [
    "LESION_CLASSES",
    "NUMBERS",
    "SUBTYPES",
    "Ball",
    "Bed",
    "LesionClass",
    "LesionClassError",
    "Number",
    "Pattern",
    "Subtype",
    "check_classes",
    "check_weights",
    "draw_subtype",
    "draw_tissue",
    "grow",
    "make_ball",
]


@dataclass(frozen=True)
class LesionClass:
    """How a class of lesion is made.

    Attributes
    ----------
    subtypes : tuple of Subtype
    forms : mapping
        Outline by sub-form.
    draw_base : callable
        ``(rng, host, liver, subtype)`` to its main, living tissue.
    make : callable
        ``(rng, bed, subtype)`` to its pattern.
    """

    subtypes: tuple[Subtype, ...]
    forms: Mapping[str, Form]
    draw_base: Callable[[np.random.Generator, Host, Tissue, str], Tissue]
    make: Callable[[np.random.Generator, Bed, str], Pattern]


LESION_CLASSES: dict[str, LesionClass] = {
    "hemangioma": LesionClass(hemangioma.SUBTYPES, hemangioma.FORMS, hemangioma.draw_base, hemangioma.make),
    "hcc": LesionClass(hcc.SUBTYPES, hcc.FORMS, hcc.draw_base, hcc.make),
    "fnh": LesionClass(fnh.SUBTYPES, fnh.FORMS, fnh.draw_base, fnh.make),
    "metastasis": LesionClass(metastasis.SUBTYPES, metastasis.FORMS, metastasis.draw_base, metastasis.make),
    "icc": LesionClass(icc.SUBTYPES, icc.FORMS, icc.draw_base, icc.make),
    "cyst": LesionClass(cyst.SUBTYPES, cyst.FORMS, cyst.draw_base, cyst.make),
}
"""The classes that can be simulated."""

SUBTYPES: dict[str, tuple[Subtype, ...]] = {name: made.subtypes for name, made in LESION_CLASSES.items()}
"""Sub-forms by class, with rates and sources."""

_RETRACTION = {"icc_rim": icc.RETRACTION_RATE, "hemangioma_sclerosed": 0.3}
"""Share of lesions near the surface that retract it (assumed)."""


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


def check_weights(label: str, weights: Mapping[str, float]) -> None:
    """Refuse weights of sub-forms from which none can be drawn.

    Raises
    ------
    LesionClassError
        An unknown sub-form, a negative weight, or no weight above 0.
    """
    check_classes((label,))
    valid = [subtype.name for subtype in SUBTYPES[label]]
    unknown = [name for name in weights if name not in valid]
    if unknown:
        raise LesionClassError(
            f"subtypes.{label}: {', '.join(map(repr, unknown))} is no sub-form of {label}; "
            f"valid: {', '.join(valid)}"
        )
    if any(weight < 0.0 for weight in weights.values()) or not any(weights.values()):
        raise LesionClassError(
            f"subtypes.{label}: the weights are {dict(weights)}; give weights of 0 or more, one at least "
            f"above 0, or leave the class out to keep the phantom's rates"
        )


def draw_subtype(
    rng: np.random.Generator,
    label: str,
    diameter_mm: float,
    weights: Mapping[str, float] | None = None,
    cirrhosis: float = 0.0,
) -> str:
    """Draw the sub-form of a lesion.

    Parameters
    ----------
    rng : numpy.random.Generator
        One number is taken.
    label : str
    diameter_mm : float
    weights : mapping, optional
        Weights by sub-form instead of the rates; sub-forms not named are not drawn.
    cirrhosis : float
        Severity, 0 to 1.

    Raises
    ------
    LesionClassError
        As :func:`check_weights`.
    """
    if weights is not None:
        check_weights(label, weights)
        rates = [float(weights.get(subtype.name, 0.0)) for subtype in SUBTYPES[label]]
    else:
        check_classes((label,))
        rates = [subtype.weight(diameter_mm, cirrhosis) for subtype in SUBTYPES[label]]
    edges = np.cumsum(rates)
    number = int(np.searchsorted(edges, float(rng.random()) * edges[-1], side="right"))
    return SUBTYPES[label][min(number, len(rates) - 1)].name


def draw_tissue(rng: np.random.Generator, label: str, subtype: str, host: Host, liver: Tissue) -> Tissue:
    """Draw the main tissue of a lesion alone: what a reader's region of interest is put on.

    Without capsule, scar, necrosis or the fall of perfusion towards the centre.
    """
    return LESION_CLASSES[label].draw_base(rng, host, liver, subtype)


def grow(
    rng: np.random.Generator,
    canvas: Canvas,
    liver: BoolArray,
    label: str,
    ball: Ball,
    host: Host,
    weights: Mapping[str, float] | None = None,
) -> tuple[Pattern, BoolArray]:
    """Paint a lesion of class ``label`` into the liver.

    Parameters
    ----------
    rng : numpy.random.Generator
    canvas : Canvas
        Changed in place; its part ``liver`` is the patient's parenchyma.
    liver : ndarray of bool, shape of the grid
        Where the lesion may grow.  Where it retracts the capsule, voxels are cleared in place.
    label : str
    ball : Ball
        Place and size; the class gives it its outline, at the same volume.
    host : Host
    weights : mapping, optional
        Weights of the sub-forms (:func:`draw_subtype`).

    Returns
    -------
    Pattern
        With the means of the lesion's voxels in ``kinetics``.
    ndarray of bool, shape of the ball's box
        The voxels that became lesion.

    Raises
    ------
    LesionClassError
    """
    subtype = draw_subtype(rng, label, ball.diameter_mm, weights, host.cirrhosis)
    made = LESION_CLASSES[label]
    ball = shaped(rng, canvas.grid, ball, made.forms[subtype])
    small, within = trimmed(ball)
    parenchyma = canvas.tissues[canvas.number("liver")]
    pattern = made.make(rng, Bed(small, host, parenchyma), subtype)
    kinetics = dict(pattern.kinetics)
    if rng.random() < _RETRACTION.get(subtype, 0.0):
        kinetics["retraction_mm"] = retract(rng, canvas, liver, ball)
    chosen = np.zeros(ball.depth.shape, dtype=np.intp)
    chosen[within] = pattern.chosen
    inside = (ball.depth <= 1.0) & liver[ball.box]
    first = canvas.add(pattern.parts[0])
    for part in pattern.parts[1:]:
        canvas.add(part)
    np.copyto(canvas.labels[ball.box], (chosen + first).astype(np.uint16), where=inside)
    kinetics = {**whole_lesion(pattern.parts, chosen[inside]), **kinetics}
    return replace(pattern, chosen=chosen, kinetics=kinetics), inside
