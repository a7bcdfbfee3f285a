"""How names and numbers are written for a reader."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtinet.cohort import NO_LESION
from mtinet.config import PHASES
from mtinet.results import Lesion

UNKNOWN = "–"
"""Stands where a number does not exist."""

ABBREVIATIONS = {"hcc": "HCC", "fnh": "FNH", "icc": "ICC"}
PHASE_NAMES = {"pre": "pre-contrast"}
SHORT_PHASE_NAMES = {
    "pre": "pre",
    "arterial_late": "late art.",
    "portal_venous": "portal v.",
    "transitional": "transit.",
    "hepatobiliary": "hepatob.",
}


@dataclass(frozen=True)
class Quantity:
    """How a score is written.

    Attributes
    ----------
    label : str
    unit : str
        Follows the number; ``%`` of a share means that the value is multiplied by 100.
    better : {"higher", "lower", ""}
        Direction in which a method is better; empty where there is none.
    digits : int or None
        Decimals; None = three significant digits.
    factor : float
        From the stored value to the one shown.
    """

    label: str
    unit: str = ""
    better: Literal["higher", "lower", ""] = ""
    digits: int | None = None
    factor: float = 1.0

    def text(self, value: float, *, unit: bool = True) -> str:
        """The value with (or without) its unit."""
        written = number(value * self.factor, self.digits)
        return written if written == UNKNOWN or not (unit and self.unit) else f"{written} {self.unit}"

    def interval(self, low: float, high: float) -> str:
        """``low to high``, empty where there is no interval."""
        if not (math.isfinite(low) and math.isfinite(high)):
            return ""
        return f"{number(low * self.factor, self.digits)} to {number(high * self.factor, self.digits)}"


def number(value: float, digits: int | None = None) -> str:
    """A number with ``digits`` decimals, or with three significant ones; a dash for NaN."""
    if not math.isfinite(value):
        return UNKNOWN
    if digits is None:
        size = abs(value)
        digits = 0 if size >= 100 or value == 0 else max(0, 2 - math.floor(math.log10(size)))
        digits = min(digits, 4)
    rounded = round(value, digits) + 0.0  # no "-0"
    return f"{rounded:.{digits}f}".replace("-", "−")


def class_name(name: str) -> str:
    """A lesion class for a reader."""
    if name == NO_LESION:
        return "no lesion"
    return ABBREVIATIONS.get(name, name.replace("_", " ")) or "unknown"


def phase_name(name: str) -> str:
    """A contrast phase for a reader."""
    return PHASE_NAMES.get(name, name.replace("_", " "))


def short_phase_name(name: str) -> str:
    """A contrast phase where room is short (axes)."""
    return SHORT_PHASE_NAMES.get(name, phase_name(name))


def sentence(text: str) -> str:
    """``text`` with a capital first letter."""
    return text[:1].upper() + text[1:]


def size_group_name(name: str) -> str:
    """A size group as it is printed."""
    return name.replace(">=", "≥").replace("-", "–")


def plain_name(name: str) -> str:
    """A technical name with its underscores gone."""
    return name.replace("_", " ").strip()


def spoken(text: str) -> str:
    """A sentence with its phases named as a reader calls them."""
    for phase in PHASES:
        if "_" in phase:
            text = text.replace(phase, phase_name(phase))
    return text


def diameter_of(lesion: Lesion) -> str:
    """How large a lesion is: its longest axial diameter, or that of the ball where it was not measured."""
    longest = lesion.longest_axial_mm
    if longest is None:
        return f"diameter of the ball {number(lesion.diameter_mm, 0)} mm"
    return f"longest axial diameter {number(longest, 0)} mm"


def count_of(n: int, singular: str, plural: str = "") -> str:
    """``1 study``, ``3 studies``."""
    return f"{n} {singular if n == 1 else plural or singular + 's'}"


def moved_by(record: Mapping[str, Any]) -> str:
    """How a phase was brought to the reference, from the record of its registration, and what was not trusted."""
    done = {"none": "as positioned by the scanner", "rigid": "moved rigidly", "bspline": "moved and deformed"}
    words = done[record["applied"]]
    if record["outcome"] == "agrees":
        words += ", where it agrees with the reference"
    return f"{words} ({record['reason']})" if record["reason"] else words
