"""Does the enhancement of each phase look like that phase?  The signal alone, without names, order or times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mtinet.config import PHASES, Phase
from mtinet.dicom.series import SeriesInfo, VolumeInfo
from mtinet.imaging.phases import identify
from mtinet.volume import Volume

SURE = 0.8
"""Probability of another phase from which an image counts as misnamed."""

_ALIKE: tuple[frozenset[Phase], ...] = (
    frozenset({"arterial", "arterial_late"}),
    frozenset({"arterial_late", "portal_venous"}),
    frozenset({"portal_venous", "transitional"}),
    frozenset({"transitional", "delayed"}),
)
"""Phases that the signal does not tell apart well enough to contradict a name."""


@dataclass(frozen=True)
class Misnamed:
    """An image whose enhancement is that of another phase.

    Attributes
    ----------
    named, looks_like : str
        The phase of its column, and the one that its signal says.
    probability : float
    evidence : str
        How vessels and liver enhance in it.
    """

    named: Phase
    looks_like: Phase
    probability: float
    evidence: str


def misnamed_phases(images: Mapping[Phase, Volume], agent: str = "") -> list[Misnamed]:
    """Images that enhance like another phase than that whose name they have.

    Parameters
    ----------
    images : mapping of str to Volume
        At least two, of one study; they may lie on several grids.
    agent : str
        Contrast agent, empty where unknown.

    Returns
    -------
    list of Misnamed
        Empty where every image looks as it is named, or the signal does not tell.
    """
    series = [
        SeriesInfo(
            "", phase, "", n_images=image.shape[2], agent=agent,
            volumes=(VolumeInfo(0, image.shape[2], load=lambda image=image: image),),  # type: ignore[misc]
        )
        for phase, image in images.items()
    ]  # fmt: skip
    found = []
    for phase, choice in identify(series).phases.items():
        if choice is None or choice.confidence <= SURE:
            continue
        named: Phase = next(p for p in PHASES if p == choice.series_uid)
        if named != phase and frozenset({named, phase}) not in _ALIKE:
            found.append(Misnamed(named, phase, choice.confidence, choice.evidence[-1]))
    return found
