"""What all lesions share: their sub-forms, their T1, and tissue that changes from rim to core.

T1 of hemangioma, HCC, metastasis and cyst is the mean and standard deviation published in EJRO 2020, 100312
(87 patients, phase-sensitive inversion recovery, before gadoxetate; its field strength is not stated in
what was read).  The values are taken as ratios to the liver at 3 T (0.809 s, de Bazelaire 2004): that they
were measured at 3 T, and that the ratio holds at other fields, is assumed.  Spreads are the published ones;
draws are cut only where T1 would not be physical.

Distribution volumes of solid lesions are ratios to the volume of the patient's own liver, because published
absolute values of lesion and liver come from different models.  Each lesion's file says which source it
took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mtinet.errors import UserError
from mtinet.phantom.host import Host
from mtinet.phantom.lesions.ball import Ball, ripples
from mtinet.phantom.lesions.numbers import draw
from mtinet.phantom.shapes import FloatArray
from mtinet.phantom.tissues import T1_S, Tissue, at_field

_SMALL_MM, _LARGE_MM = 10.0, 25.0
"""Up to the first diameter the rates of small lesions hold, from the second those of large ones (assumed)."""


class LesionClassError(UserError):
    """A class or sub-form of lesion that the phantom cannot make; the message names those it can."""


@dataclass(frozen=True)
class Subtype:
    """One form of a class of lesion.

    Attributes
    ----------
    name : str
    rate, small_rate : float
        Share of the class's lesions from 25 mm on, and up to 10 mm; linear between.
    source : str
        Where the rates come from, or ``assumed``.
    signs : str
        What a radiologist sees.
    with_cirrhosis : float
        Factor of the rates in a fully cirrhotic liver; linear in the severity.
    """

    name: str
    rate: float
    small_rate: float
    source: str
    signs: str
    with_cirrhosis: float = 1.0

    def weight(self, diameter_mm: float, cirrhosis: float = 0.0) -> float:
        """Rate, not normalised, of a lesion of that diameter in a liver with that severity of cirrhosis."""
        large = float(np.clip((diameter_mm - _SMALL_MM) / (_LARGE_MM - _SMALL_MM), 0.0, 1.0))
        rate = self.small_rate + large * (self.rate - self.small_rate)
        return rate * (1.0 + cirrhosis * (self.with_cirrhosis - 1.0))


@dataclass(frozen=True)
class Bed:
    """Where a lesion grows.

    Attributes
    ----------
    ball : Ball
    host : Host
    liver : Tissue
        The patient's parenchyma.
    """

    ball: Ball
    host: Host
    liver: Tissue


@dataclass(frozen=True)
class Pattern:
    """What fills a lesion.

    Attributes
    ----------
    subtype : str
    parts : tuple of Tissue
        Fewer than 40.
    chosen : ndarray of int, shape of the ball's box
        Index into ``parts``.
    kinetics : mapping
        The numbers of the lesion as a whole, by name: means over its voxels once it has been grown.
    """

    subtype: str
    parts: tuple[Tissue, ...]
    chosen: NDArray[np.intp]
    kinetics: Mapping[str, float] = field(default_factory=dict)

    def covered(self, where: NDArray[np.bool_], tissue: Tissue, **kinetics: float) -> Pattern:
        """The same with one more part over it, where marked."""
        chosen = np.where(where, len(self.parts), self.chosen)
        return replace(
            self, parts=(*self.parts, tissue), chosen=chosen, kinetics={**self.kinetics, **kinetics}
        )


def draw_t1(rng: np.random.Generator, host: Host, name: str) -> float:
    """T1 at the patient's field: the number ``name.t1_s``, which is one at 3 T.

    Lesion and (nominal) liver keep their ratio at every field: assumed, see above.
    """
    return draw(rng, f"{name}.t1_s") * at_field(T1_S["liver"], host.field_T) / T1_S["liver"][1]


def fibrous_volume(rng: np.random.Generator, liver: Tissue, name: str) -> float:
    """Distribution volume of fibrous tissue: its share of the liver's, within 0.2 to 0.6 (assumed)."""
    return float(np.clip(draw(rng, f"{name}.volume_to_liver") * liver.distribution_volume, 0.2, 0.6))


def mottled(
    rng: np.random.Generator, bed: Bed, subtype: str, tissue: Tissue, contrast: float = 0.15
) -> Pattern:
    """Tissue whose flow and T1 vary a little, in blotches.

    Parameters
    ----------
    contrast : float
        Relative standard deviation of the flow; T1 varies by a quarter of it.
    """
    blotches = ripples(rng, bed.ball, (0.3, 0.8))
    levels = np.linspace(-1.5, 1.5, 5)
    parts = tuple(
        replace(
            tissue,
            flow_per_min=tissue.flow_per_min * float(np.exp(contrast * level)),
            t1_s=tissue.t1_s * float(np.exp(contrast * level / 4.0)),
        )
        for level in levels
    )
    chosen = np.clip(np.rint((blotches + 1.5) / 0.75), 0, len(parts) - 1).astype(np.intp)
    return Pattern(subtype, parts, chosen)


def graded(subtype: str, rim: Tissue, core: Tissue, share: FloatArray, levels: int) -> Pattern:
    """Tissue that changes from ``rim`` (share 0) to ``core`` (share 1) in steps.

    Flow and T1 change by equal factors, all else by equal differences.
    """
    parts = tuple(between(rim, core, float(level)) for level in np.linspace(0.0, 1.0, levels))
    chosen = np.clip(np.rint(share * np.float32(levels - 1)), 0, levels - 1).astype(np.intp)
    return Pattern(subtype, parts, chosen)


def between(rim: Tissue, core: Tissue, share: float) -> Tissue:
    """A tissue between two others."""

    def factor(name: str) -> float:
        first, last = max(getattr(rim, name), 1e-6), max(getattr(core, name), 1e-6)
        return float(first ** (1.0 - share) * last**share)

    def difference(name: str) -> float:
        return float((1.0 - share) * getattr(rim, name) + share * getattr(core, name))

    return replace(
        rim,
        t1_s=factor("t1_s"),
        flow_per_min=factor("flow_per_min"),
        proton=difference("proton"),
        arterial_fraction=difference("arterial_fraction"),
        distribution_volume=difference("distribution_volume"),
        uptake_per_min=difference("uptake_per_min"),
        excretion_per_min=difference("excretion_per_min"),
    )


AVERAGED = (
    "t1_s",
    "flow_per_min",
    "arterial_fraction",
    "distribution_volume",
    "uptake_per_min",
    "excretion_per_min",
)
"""Numbers of tissue that a lesion as a whole is described by."""


def whole_lesion(parts: Sequence[Tissue], chosen: NDArray[np.intp]) -> dict[str, float]:
    """Mean of the parts' numbers, weighted by voxels; ``chosen`` holds the lesion's own voxels only."""
    share = np.bincount(chosen, minlength=len(parts)) / max(chosen.size, 1)
    return {
        name: float(share @ np.array([getattr(part, name) for part in parts], dtype=np.float64))
        for name in AVERAGED
    }
