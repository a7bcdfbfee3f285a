"""What the signal itself says: how vessels and liver brighten and fade over the volumes of a study.

No organ is segmented.  Against the darkest volume the strongest early enhancers (aorta, renal cortex, spleen)
give a vessel curve V, the even tissue of the body's right half gives a liver curve L.  After an injection V
peaks in the arterial phase and only falls from there, and L/V only rises: about 0.2 in the arterial phase,
0.7 in the portal venous one, 1 in the transitional and above 2 in the hepatobiliary one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.config import PHASES, Phase
from mtinet.errors import UserError
from mtinet.imaging.masks import body_mask
from mtinet.imaging.phases.candidate import Candidate
from mtinet.imaging.phases.deciding import NONE
from mtinet.imaging.resampling import resample
from mtinet.volume import Volume

_LATTICE_MM = 6.0
_DEPTH = 3
"""Steps of the lattice between the skin and what is looked at: subcutaneous fat does not tell."""

_RIGHT_STEPS = 3
_MIN_VOXELS = 300
_EARLY_SHARE = 99.0
_LOOKS_DYNAMIC = -1.5
"""Log-weight against "none of the phases" for a volume that enhances as a phase does."""

_NOTHING = 0.1
"""Enhancement over the unenhanced liver below which a study shows no contrast at all."""

_ALIKE, _EMPTY = 0.3, 0.2
"""Correlation with the other volumes, and the dark tenth of the ratio to them over the bright tenth, below
which a volume is none of theirs."""

_ADDS_UP = 0.08
"""Mean departure from a sum, over the smaller term, up to which a volume is the difference of two others."""

RATIOS: dict[Phase, tuple[float, float]] = {
    "arterial": (0.20, 0.45),
    "arterial_late": (0.33, 0.35),
    "portal_venous": (0.72, 0.30),
    "transitional": (1.10, 0.30),
    "delayed": (0.62, 0.30),
    "hepatobiliary": (3.0, 0.45),
}
"""L/V by phase, and the spread of its logarithm, read off virtual patients of both agents at six scanners."""


@dataclass(frozen=True)
class Signals:
    """What the pixels say of each candidate, by its key.

    Attributes
    ----------
    weights : dict
        Log-weights of the phases and of none.
    order : dict
        Rank in time as the signal tells it; empty where some volume was not compared.
    based : bool
        Some volume is unenhanced.  Otherwise the ranks can contradict another order but not replace it.
    words : dict
        The same for the reader.
    unlike : dict
        Volumes that do not look like the others, with the reason.
    """

    weights: dict[tuple[str, int], NDArray[np.float64]]
    order: dict[tuple[str, int], int]
    words: dict[tuple[str, int], str]
    unlike: dict[tuple[str, int], str]
    based: bool = False


def compare(candidates: Sequence[Candidate]) -> Signals | None:
    """Compare the volumes of a study; None where fewer than two of them can be read or show one body."""
    keys, volumes = [], []
    for candidate in candidates:
        if candidate.info is None or candidate.info.load is None:
            continue
        try:
            volume = candidate.info.load()
        except UserError:
            continue  # the reader of the files says so itself
        if volume.array.size and np.isfinite(volume.array).all():
            keys.append(candidate.key)
            volumes.append(volume)
    silent = np.zeros(NONE + 1)
    if len(volumes) < 2 or (stack := _stack(volumes)) is None:
        return None
    unlike = {**_differences(stack.inside, stack.rim), **_unlike(stack.whole, stack.body)}
    kept = [n for n in range(len(keys)) if n not in unlike]
    weights = {c.key: silent for c in candidates}
    order: dict[tuple[str, int], int] = {}
    words = {c.key: "its pixels were not used" for c in candidates}
    told = {keys[n]: reason for n, reason in unlike.items()}
    if len(kept) < 2 or told:
        return Signals(weights, order, words, told)
    vessel, liver, faded, brightness = curves(stack)
    unenhanced = _unenhanced(vessel.max(), faded, brightness)
    ranks = _ranks(vessel, liver, unenhanced > 0.0)
    for n, key in enumerate(keys):
        weights[key] = _weights(vessel[n], liver[n], vessel.max(), unenhanced)
        words[key] = _words(vessel[n], liver[n], unenhanced)
    if len(keys) == len(candidates):
        order = dict(zip(keys, ranks, strict=True))
    return Signals(weights, order, words, told, based=unenhanced > 0.0)


@dataclass(frozen=True)
class Stack:
    """The volumes on one coarse lattice.

    Attributes
    ----------
    whole : ndarray, shape (volumes, all voxels)
        Smoothed signal with the air, each volume over its own bright level.
    body : ndarray of bool, shape (all voxels,)
    inside : ndarray, shape (volumes, voxels)
        Smoothed signal of the voxels deep in the body.
    rim : ndarray, shape (volumes,)
        Mean signal between the skin and those voxels: fat and muscle.
    right : ndarray of bool, shape (voxels,)
        On the patient's right.
    uneven : ndarray, shape (voxels,)
        Gradient of the mean volume.
    """

    whole: NDArray[np.float64]
    body: NDArray[np.bool_]
    inside: NDArray[np.float64]
    rim: NDArray[np.float64]
    right: NDArray[np.bool_]
    uneven: NDArray[np.float64]


def _stack(volumes: Sequence[Volume]) -> Stack | None:
    shape, affine = _lattice(volumes)
    if min(shape) < 3:
        return None
    images = np.stack(
        [ndimage.gaussian_filter(resample(v, shape, affine).array, 0.7).astype(np.float64) for v in volumes]
    )
    scaled = images / np.maximum(np.percentile(images, 95, axis=(1, 2, 3), keepdims=True), 1e-6)
    mean = np.median(scaled, axis=0)
    body = body_mask(mean)
    deep = ndimage.binary_erosion(body, np.ones((3, 3, 1), dtype=bool), iterations=_DEPTH)
    if np.count_nonzero(deep) < _MIN_VOXELS:
        return None
    x = np.nonzero(deep)[0]
    uneven = ndimage.gaussian_gradient_magnitude(images.mean(axis=0), 1.0)[deep]
    whole = scaled.reshape(len(scaled), -1)
    rim = images[:, body & ~deep].mean(axis=1)
    return Stack(
        whole, body.ravel(), images[:, deep], rim, x > np.median(x) + _RIGHT_STEPS, np.asarray(uneven)
    )


def _lattice(volumes: Sequence[Volume]) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """A coarse grid along the patient's axes over what all volumes cover."""
    low, high = np.full(3, -np.inf), np.full(3, np.inf)
    for volume in volumes:
        ends = [(0, n - 1) for n in volume.shape]
        corners = np.array([volume.affine @ (*c, 1.0) for c in itertools.product(*ends)])[:, :3]
        low, high = np.maximum(low, corners.min(axis=0)), np.minimum(high, corners.max(axis=0))
    counts = np.maximum(np.floor((high - low) / _LATTICE_MM).astype(int) + 1, 0)
    affine = np.diag([_LATTICE_MM, _LATTICE_MM, _LATTICE_MM, 1.0])
    affine[:3, 3] = low
    return (int(counts[0]), int(counts[1]), int(counts[2])), affine


def _unlike(whole: NDArray[np.float64], body: NDArray[np.bool_]) -> dict[int, str]:
    """Volumes of another contrast, and differences: bright nowhere else than the others, or empty in fat."""
    if len(whole) < 3:
        return {}
    found = {}
    for n, image in enumerate(whole):
        others = np.median(np.delete(whole, n, axis=0), axis=0)
        low, high = np.percentile(image[body] / np.maximum(others[body], 1e-6), (10.0, 90.0))
        if float(np.corrcoef(image, others)[0, 1]) < _ALIKE:
            found[n] = "its pixels have another contrast than the dynamic series"
        elif low < _EMPTY * high:
            found[n] = "its pixels look like a difference of volumes: no signal in most of the body"
    return found if len(whole) - len(found) >= 2 else {}


def _differences(inside: NDArray[np.float64], rim: NDArray[np.float64]) -> dict[int, str]:
    """Subtractions: volumes that add up with another one to a third.

    Of the two terms the difference is the one that is emptier under the skin, where hardly anything enhances.
    """
    found = {}
    for total in range(len(inside)):
        for a, b in itertools.combinations([n for n in range(len(inside)) if n != total], 2):
            rest = np.abs(inside[total] - inside[a] - inside[b]).mean()
            if rest < _ADDS_UP * min(inside[a].mean(), inside[b].mean()):
                emptier = a if rim[a] < rim[b] else b
                found[emptier] = "its pixels are the difference of two other volumes"
    return found if len(inside) - len(found) >= 2 else {}


def curves(stack: Stack) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Vessel and liver curves against the darkest volume, over its liver's signal; and how far vessels fall.

    Returns
    -------
    vessel, liver : ndarray, shape (volumes,)
    faded : float
        Mean of the deepest fall below the darkest volume; near 0 where that volume is unenhanced.
    brightness : float
        Signal of the vessels over that of the liver in the darkest volume.
    """
    inside = stack.inside
    darkest = int(inside.mean(axis=1).argmin())
    even = stack.right & (stack.uneven < np.median(stack.uneven[stack.right]))
    liver_like = even & (inside[darkest] > np.percentile(inside[darkest][stack.right], 40.0))
    if np.count_nonzero(liver_like) < _MIN_VOXELS // 10:
        liver_like = stack.right
    gained = (inside - inside[darkest]) / max(float(np.median(inside[darkest][liver_like])), 1e-6)
    liver = np.median(gained[:, liver_like], axis=1)
    early = np.max(gained - liver[:, None], axis=0)
    enhancers = early >= np.percentile(early, _EARLY_SHARE)
    vessel = gained[:, enhancers].mean(axis=1)
    own = inside[darkest]
    brightness = float(np.median(own[enhancers]) / max(float(np.median(own[liver_like])), 1e-6))
    deepest = gained.min(axis=0)
    faded = float(deepest[deepest <= np.percentile(deepest, 1.0)].mean())
    return vessel, liver, faded, brightness


def _unenhanced(peak: float, faded: float, brightness: float) -> float:
    """Log-odds that the darkest volume was taken before contrast.

    Vessels then gain more than the unenhanced liver's own signal (1.2 to 5 times in virtual patients, under
    0.9 against a later volume); nothing falls below it, up to motion (-0.2); its vessels are darker than
    its liver.
    """
    gained = float(np.clip(10.0 * (peak - 1.05), -4.0, 5.0))
    return gained + float(np.clip(25.0 * (faded + 0.2), -3.0, 3.0)) - (1.0 if brightness > 0.95 else 0.0)


def _ranks(vessel: NDArray[np.float64], liver: NDArray[np.float64], based: bool) -> list[int]:
    """Order in time: the unenhanced volume, any that comes before the vessels' peak, then as they fade."""
    ratio = liver / np.maximum(vessel, 1e-3)
    darkest = int(np.argmin(np.abs(vessel) + np.abs(liver)))
    peak = int(np.argmax(vessel))

    def key(n: int) -> tuple[int, float]:
        if not based:
            return (2, -float(vessel[n]))
        if n == darkest:
            return (0, 0.0)
        rising = ratio[n] < 0.6 * ratio[peak] and ratio[n] < 0.5
        return (1, float(liver[n])) if rising else (2, -float(vessel[n]))

    ranked = sorted(range(len(vessel)), key=key)
    return [ranked.index(n) for n in range(len(vessel))]


def _weights(vessel: float, liver: float, peak: float, unenhanced: float) -> NDArray[np.float64]:
    weights = np.zeros(NONE + 1)
    if peak < _NOTHING:  # nothing enhances: no volume is after contrast, as far as pixels tell
        weights[1:NONE] = -2.0
        return weights
    if abs(vessel) < 1e-9 and abs(liver) < 1e-9:
        weights[0] = min(unenhanced, 0.0)
        weights[1:NONE] = -2.0 * max(unenhanced, 0.0)
        return weights
    weights[NONE] = _LOOKS_DYNAMIC
    weights[0] = -1.0 if vessel < 0.05 * peak and abs(liver) < 0.1 else -10.0
    ratio = max(liver, 0.02) / max(vessel, 0.02)
    for index, phase in enumerate(PHASES[1:], start=1):
        centre, spread = RATIOS[phase]
        apart = math.log(ratio / centre) / spread
        if phase == "arterial":
            apart = max(apart, 0.0)  # earlier than usual is still arterial
        if phase == "hepatobiliary":
            apart = min(apart, 0.0)
        weights[index] = max(-0.5 * apart * apart, -10.0)
    if unenhanced <= 0.0:  # the curves do not start from zero
        weights[1:NONE] = 0.0
    return weights


def _words(vessel: float, liver: float, unenhanced: float) -> str:
    if abs(vessel) < 1e-9 and abs(liver) < 1e-9:
        if unenhanced <= 0.0:
            return "the darkest volume, but other volumes fall below it: it holds contrast already"
        return "the darkest volume: neither vessels nor liver enhance"
    if unenhanced <= 0.0:
        return "no volume before contrast to compare with: the signal tells no phase"
    ratio = liver / max(vessel, 0.02)
    return (
        f"against the darkest volume vessels gain {100 * vessel:.0f} %, the liver {100 * liver:.0f} % of the "
        f"liver's signal (ratio {ratio:.2f})"
    )
