"""Whether the receive gain changed between the phases of a study, and whether two phases were exchanged.

Fat does not enhance, muscle by about a fifth.  So the signal of the least enhancing tissue of the body hardly
changes from phase to phase, unless the scanner's receive gain (or the export's scaling) did: then
enhancement, which is a difference between phases, is wrong in every lesion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.config import PHASES, Phase
from mtinet.imaging.masks import body_mask, components
from mtinet.imaging.resampling import resample
from mtinet.volume import Volume

GAIN_THRESHOLD = 1.3
"""Ratio of an unenhancing tissue's signal to that of the other phases from which the gain has changed."""

MUSCLE_ENHANCEMENT = 1.2
"""What contrast alone does to that tissue after the injection, taken out before phases are compared."""

_LATTICE_MM = 5.0
_SMOOTHING_MM = 4.0
_QUANTILE = 5.0
_MIN_VOXELS = 100
_WALL_MM, _DEEP_MM = (3.0, 15.0), 40.0
_FLOOR = 1e-6


@dataclass(frozen=True)
class PhaseRatio:
    """The body's signal in a phase over that in the first phase present.

    Attributes
    ----------
    tissue : float
        In the least enhancing tissue.
    median : float
        In the middle of the body's voxels.
    inside : float
        Deep in the body, where organs and vessels lie, over the same just under its surface, where fat and
        muscle lie; no gain changes it.  Above 1 where contrast came in.
    """

    tissue: float
    median: float
    inside: float


def phase_ratios(images: Mapping[Phase, Volume]) -> dict[Phase, PhaseRatio]:
    """Compare the phases' signal in the body.

    The phases are brought to a common lattice and smoothed, so that noise hardly spreads the ratios; the
    ratio of two phases is formed voxel by voxel, so that the receive field cancels; only the more homogeneous
    half of the body's inside counts, where breathing does not put one tissue over another.  There a low
    quantile of the ratio is that of fat or muscle.

    Parameters
    ----------
    images : mapping of phase to Volume
        At least one.

    Returns
    -------
    dict
        By phase, 1 for the first; empty where too little of a body is found.
    """
    phases = [phase for phase in PHASES if phase in images]
    shape, affine = _lattice(images[phases[0]].canonical())
    sigma = _SMOOTHING_MM / np.linalg.norm(affine[:3, :3], axis=0)
    logs = {}
    for phase in phases:
        coarse = resample(images[phase].canonical(), shape, affine).array
        logs[phase] = np.log(np.maximum(ndimage.gaussian_filter(coarse, sigma), _FLOOR))
    body = components(body_mask(np.exp(logs[phases[0]]))) == 1
    chosen = _homogeneous(logs, body)
    wall, deep = _wall_and_deep(body, np.linalg.norm(affine[:3, :3], axis=0))
    if min(np.count_nonzero(part) for part in (chosen, wall, deep)) < _MIN_VOXELS:
        return {}
    ratios = {}
    for phase in phases:
        log_ratio = logs[phase] - logs[phases[0]]
        tissue, median = np.exp(np.percentile(log_ratio[chosen], (_QUANTILE, 50.0)))
        inside = np.exp(log_ratio[deep].mean() - log_ratio[wall].mean())
        ratios[phase] = PhaseRatio(float(tissue), float(median), float(inside))
    return ratios


def darker_than_first(ratios: Mapping[Phase, PhaseRatio]) -> list[Phase]:
    """Phases in which the body, and its inside most, is darker than in the first phase.

    Where the first is ``pre``, contrast cannot do that: the files are exchanged.
    """
    return [phase for phase, ratio in ratios.items() if ratio.median < 1.0 and ratio.inside < 1.0]


def changed_gains(ratios: Mapping[Phase, PhaseRatio]) -> dict[Phase, float]:
    """Phases whose unenhancing tissue stands apart from the other phases', with the ratio.

    The phase that stands furthest apart is taken out first, so that one phase with another gain does not
    accuse the rest.

    Parameters
    ----------
    ratios : mapping of phase to PhaseRatio
        From :func:`phase_ratios`.
    """
    expected = {phase: 1.0 if phase == "pre" else MUSCLE_ENHANCEMENT for phase in ratios}
    remaining = {phase: np.log(ratio.tissue / expected[phase]) for phase, ratio in ratios.items()}
    changed: dict[Phase, float] = {}
    while len(remaining) > 1:
        apart = {
            phase: level - float(np.median([v for other, v in remaining.items() if other != phase]))
            for phase, level in remaining.items()
        }
        # of two phases either may be the one that changed: the later is named
        furthest = max(reversed(apart), key=lambda phase: abs(apart[phase]))
        if abs(apart[furthest]) < np.log(GAIN_THRESHOLD):
            break
        changed[furthest] = float(np.exp(apart[furthest]))
        del remaining[furthest]
    return changed


def _lattice(volume: Volume) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """A grid over the same field of view with voxels of at least ``_LATTICE_MM``."""
    steps = np.maximum(_LATTICE_MM / np.asarray(volume.spacing_mm), 1.0)
    counts = np.maximum(1, np.floor(np.asarray(volume.shape) / steps)).astype(int)
    affine = volume.affine.copy()
    affine[:3, 3] = (volume.affine @ np.append((np.asarray(volume.shape) - 1 - (counts - 1) * steps) / 2, 1))[
        :3
    ]
    affine[:3, :3] *= steps
    return (int(counts[0]), int(counts[1]), int(counts[2])), affine


def _homogeneous(logs: Mapping[Phase, NDArray[np.float64]], body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The half of the body's inside with the smaller relative gradient, where every phase has signal.

    No gain changes it: the body is found in the first phase alone (before contrast it is most even, and
    fat-suppressed muscle is not lost beside bright organs), the gradient is that of the mean logarithm.
    """
    mean = np.mean(list(logs.values()), axis=0)
    inside = ndimage.binary_erosion(body, np.ones((3, 3, 1), dtype=bool))
    inside &= np.min(list(logs.values()), axis=0) > np.log(2 * _FLOOR)
    if not inside.any():
        return inside
    gradient = ndimage.gaussian_gradient_magnitude(mean, 1.0)
    return np.asarray(inside & (gradient < np.median(gradient[inside])))


def _wall_and_deep(
    body: NDArray[np.bool_], spacing_mm: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Voxels just under the skin, and far from it, by their distance in the slice."""
    depth = np.zeros(body.shape)
    for k in range(body.shape[2]):
        depth[..., k] = ndimage.distance_transform_edt(np.pad(body[..., k], 1), sampling=spacing_mm[:2])[
            1:-1, 1:-1
        ]
    low, high = _WALL_MM
    return (depth > low) & (depth < high), depth > _DEEP_MM
