"""Tissue that a lesion is compared with: the liver around it, the liver as a whole, the aorta."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.config import MeasurementSettings, Phase
from mtinet.imaging.masks import body_mask
from mtinet.inference.observed import BoolArray, Observed, Region, shows

AORTA_MM = (12.0, 36.0)
"""Diameters of an aorta, from a slender one to one short of an aneurysm."""

_PERCENTILE, _THRESHOLD = 99.7, 0.5
_ROUNDNESS = 0.6
_ACROSS, _BACK = 0.2, (0.1, 0.65)
_STEP_MM, _GAP_SLICES = 6.0, 3
_LENGTH_MM, _SLICES, _SHARE = 30.0, 3, 0.4
_RISE = 1.5
_COVERED = 0.5
_SUBSAMPLED = 2


@dataclass(frozen=True, eq=False)
class Tissue:
    """Voxels of a tissue.

    Attributes
    ----------
    signal : dict
        Their values by phase that shows the tissue, each of shape (n,); empty where it was not found.
    reason : str
        Why it was not found.
    not_shown : dict
        By phase of the study that does not show the tissue: why.
    """

    signal: Mapping[Phase, NDArray[np.float64]] = field(default_factory=dict)
    reason: str = ""
    not_shown: Mapping[Phase, str] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether there is anything to compare with."""
        return bool(self.signal)

    @property
    def count(self) -> int:
        """Number of voxels."""
        return len(next(iter(self.signal.values()), ()))

    def mean(self, phase: Phase) -> float:
        """Mean signal in a phase."""
        return float(self.signal[phase].mean())

    def sd(self, phase: Phase) -> float:
        """Standard deviation of the voxels' signal in a phase."""
        return float(self.signal[phase].std(ddof=1))


def liver_around(observed: Observed, region: Region, settings: MeasurementSettings) -> Tissue:
    """The liver at some distance from a lesion, without vessels and other lesions.

    Vessels, ducts and perfusion differences are voxels off the median in any phase by more than
    ``settings.outlier_sd`` robust standard deviations (1.4826 times the median absolute deviation).

    Parameters
    ----------
    observed : Observed
    region : Region
    settings : MeasurementSettings
    """
    if observed.liver is None:
        return Tissue(reason="the liver is not known: no liver mask was given")
    near, far = settings.liver_ring_mm
    values = {p: image[region.around].astype(np.float64) for p, image in region.signal.items()}
    return _without_vessels(values, settings, f"liver within {near:g} to {far:g} mm")


def whole_liver(observed: Observed, settings: MeasurementSettings) -> Tissue:
    """The liver outside all lesions, without vessels as in :func:`liver_around`."""
    if observed.liver is None:
        return Tissue(reason="the liver is not known: no liver mask was given")
    free = observed.liver & (observed.labels == 0)
    values = {phase: observed.signal[phase][free].astype(np.float64) for phase in observed.phases}
    shown = {phase: signal for phase, signal in values.items() if shows(signal)}
    found = _without_vessels(shown, settings, "liver outside lesions")
    return replace(found, not_shown=_not_covered(values.keys() - shown.keys(), observed, "the liver"))


def _not_covered(lost: Set[Phase], observed: Observed, tissue: str) -> dict[Phase, str]:
    return {p: f"the phase's field of view does not cover {tissue}" for p in observed.phases if p in lost}


def _without_vessels(
    values: Mapping[Phase, NDArray[np.float64]], settings: MeasurementSettings, where: str
) -> Tissue:
    count = len(next(iter(values.values()), ()))
    covered = np.ones(count, dtype=bool)
    for signal in values.values():
        covered &= signal != 0  # 0 lies outside the field of view
    kept = covered.copy()
    for signal in values.values() if covered.any() else ():
        off = np.abs(signal - np.median(signal[covered]))
        kept &= off <= settings.outlier_sd * 1.4826 * np.median(off[covered])
    if np.count_nonzero(kept) < settings.min_liver_voxels:
        return Tissue(
            reason=f"{np.count_nonzero(kept)} voxels of {where} are left, fewer than "
            f"{settings.min_liver_voxels}"
        )
    return Tissue({phase: signal[kept] for phase, signal in values.items()})


# ---------------------------------------------------------------------- aorta
class _Disc(NamedTuple):
    """A bright round spot in a slice: where it lies (mm), how wide and how bright it is."""

    slice: int
    y_mm: float
    x_mm: float
    radius_mm: float
    gain: float


def aorta(observed: Observed) -> Tissue:
    """The aorta, from the arterial phase: the brightest row of round spots before the spine.

    In each slice, voxels that gain at least half of what the brightest 0.3 % of the body gain form spots;
    those of an aorta's width, about as long as wide, near the body's middle and in its back half are linked
    from slice to slice.  The row has to run through 40 % of the slices and 30 mm, and to be half as bright
    again as the body in the arterial phase.  Its signal is read in the inner half of its radius, in each phase
    where the field of view covers it, and in none that covers less than half of it.

    Parameters
    ----------
    observed : Observed
    """
    arterial = observed.signal.get("arterial", observed.signal.get("arterial_late"))
    if arterial is None:
        return Tissue(reason="not found: there is no arterial phase")
    slices = len(arterial)
    if slices < _SLICES:
        return Tissue(reason=f"not found: the study has fewer than {_SLICES} slices")
    body = body_mask(arterial[:, ::_SUBSAMPLED, ::_SUBSAMPLED])
    if not body.any():
        return Tissue(reason="not found: the arterial phase shows no body")
    before = observed.signal.get("pre")
    gain = arterial if before is None else arterial - before
    gain = np.where(observed.labels == 0, gain, 0.0)
    in_body = gain[:, ::_SUBSAMPLED, ::_SUBSAMPLED][body]
    bright = gain >= _THRESHOLD * float(np.percentile(in_body, _PERCENTILE))
    row = _brightest_row(list(_discs(bright, gain, body, observed.spacing_mm)))
    long_enough = max(_SLICES, _SHARE * slices, _LENGTH_MM / observed.spacing_mm[0])
    if len(row) < long_enough:
        return Tissue(reason="not found: no bright vessel runs through the slices before the spine")
    inside = _inner_half(row, arterial.shape, observed.spacing_mm)
    if arterial[inside].mean() < _RISE * np.median(arterial[:, ::_SUBSAMPLED, ::_SUBSAMPLED][body]):
        return Tissue(reason="not found: the vessel before the spine is hardly brighter than the body")
    read = {phase: observed.signal[phase][inside].astype(np.float64) for phase in observed.phases}
    # 0 lies outside the field of view
    shown = {phase: v[v != 0] for phase, v in read.items() if np.mean(v != 0) >= _COVERED}
    return Tissue(shown, not_shown=_not_covered(read.keys() - shown.keys(), observed, "the aorta"))


def _discs(
    bright: BoolArray, gain: NDArray[np.float32], body: BoolArray, spacing_mm: tuple[float, float, float]
) -> Iterator[_Disc]:
    """Spots that could be a cut through the aorta."""
    _, step_y, step_x = spacing_mm
    rows, columns = (np.flatnonzero(body.any(axis=axes)) * _SUBSAMPLED for axes in ((0, 2), (0, 1)))
    middle, width = 0.5 * (columns[0] + columns[-1]), columns[-1] - columns[0]
    low, high = (rows[0] + share * (rows[-1] - rows[0]) for share in _BACK)
    # spots are separate from slice to slice
    numbers, _ = ndimage.label(bright, structure=np.array([_NOTHING, _CROSS, _NOTHING]))
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        spot = numbers[box][0] == number
        area_mm2 = np.count_nonzero(spot) * step_y * step_x
        diameter = 2.0 * np.sqrt(area_mm2 / np.pi)
        longest = max(spot.shape[0] * step_y, spot.shape[1] * step_x)
        if not AORTA_MM[0] <= diameter <= AORTA_MM[1] or area_mm2 < _ROUNDNESS * np.pi / 4 * longest**2:
            continue
        z = box[0].start
        y, x = (float(np.mean(found)) + part.start for found, part in zip(np.nonzero(spot), box[1:]))
        if abs(x - middle) <= _ACROSS * width and low <= y <= high:
            yield _Disc(z, y * step_y, x * step_x, diameter / 2.0, float(gain[box][0][spot].mean()))


_NOTHING = np.zeros((3, 3), dtype=bool)
_CROSS = np.array([[False, True, False], [True, True, True], [False, True, False]])


def _brightest_row(discs: list[_Disc]) -> list[_Disc]:
    """Of the rows of spots that lie one above the other that with the largest sum of gains."""
    best: list[tuple[float, int]] = []
    for here, disc in enumerate(discs):
        found = (disc.gain, -1)
        for there in range(here - 1, -1, -1):
            gap = disc.slice - discs[there].slice
            if gap > _GAP_SLICES:
                break
            apart = np.hypot(disc.y_mm - discs[there].y_mm, disc.x_mm - discs[there].x_mm)
            if gap > 0 and apart <= _STEP_MM * gap:
                found = max(found, (best[there][0] + disc.gain, there))
        best.append(found)
    if not best:
        return []
    at = max(range(len(best)), key=lambda n: best[n][0])
    row = []
    while at >= 0:
        row.append(discs[at])
        at = best[at][1]
    return row[::-1]


def _inner_half(
    row: list[_Disc], shape: tuple[int, ...], spacing_mm: tuple[float, float, float]
) -> BoolArray:
    """Voxels within half the radius of each spot's middle, its middle voxel at least."""
    inside = np.zeros(shape, dtype=bool)
    y = np.arange(shape[1])[:, None] * spacing_mm[1]
    x = np.arange(shape[2])[None, :] * spacing_mm[2]
    for disc in row:
        apart = np.hypot(y - disc.y_mm, x - disc.x_mm)
        inside[disc.slice] |= apart <= max(0.5 * disc.radius_mm, float(apart.min()))
    return inside
