"""What spoils the image besides noise: ghosts of what moves during a scan, signal lost near gas.

Ghosts run along the phase-encode direction, front to back (axis y) in axial liver imaging.  A source whose
signal changes as ``1 + 2 a cos(2π f t + φ)`` while lines of k-space are taken one after another leaves copies
of itself at ``± f T`` voxels, T the length of the scan (each of ``a`` times its signal, with phases ``± φ``);
one whose position changes as ``δ cos(2π f t + φ)`` leaves copies of ``δ/2`` times its derivative: the first
order of the phase modulation of the lines.  The second order blurs the source itself: ``δ²/4`` times its
second derivative is added.  Copies that leave the field of view enter it on the other side.

All strengths, rates and lengths are assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.config import SiteSettings
from mtinet.phantom.acquisition import ScanGrid
from mtinet.phantom.fields import resample
from mtinet.phantom.motion import Displacement
from mtinet.phantom.shapes import BoolArray, FloatArray
from mtinet.phantom.tissues import Tissue

ComplexArray = NDArray[np.complex64]

_SCAN_S = (12.0, 18.0)
_HEART_HZ = (0.9, 1.5)
_BREATH_HZ = (0.2, 0.4)
_HARMONICS = (1.0, 0.4)
"""Strength of the first and the second copy on each side."""

_PULSATION = 0.04
"""Median strength of the first copy of heart and aorta."""

_WALL_MM = 0.35
"""Median amplitude of the anterior wall's motion in a breath-hold that holds."""

_UNREST_MM = 2.6
"""Amplitude of all that moves in one that fails altogether."""

_MOST_BLUR = 0.25
"""Share that each neighbour gives at most: beyond it the second order does not hold."""

_COARSE_MM = 5.0
_GAS_REACH_MM = 6.0
_GAS_LOSS = 0.9
"""Signal falls by ``exp(-loss · share of gas around)`` at 3 T and TE 1.35 ms; the loss grows with both."""


@dataclass(frozen=True)
class Sources:
    """What moves during a scan, as shares of the scanner's voxels.

    Attributes
    ----------
    pulsating : ndarray of float32, shape (X, Y, Z)
        Heart and aorta.
    wall : ndarray of float32, shape (X, Y, 1)
        Anterior abdominal wall.
    breathing : ndarray of float32, shape (X, Y, 1)
        All that takes part in breathing, and the anterior wall.
    """

    pulsating: FloatArray
    wall: FloatArray
    breathing: FloatArray


@dataclass(frozen=True)
class Ghosts:
    """What was drawn about the ghosts of one phase.

    Attributes
    ----------
    heart_shift, breath_shift : int
        Distance of the copies, voxels.
    pulsation : float
        Strength of the first copy.
    wall_mm, unrest_mm : float
        Amplitudes of motion.
    phases : tuple of float
        Of the modulations, radians.
    """

    heart_shift: int
    breath_shift: int
    pulsation: float
    wall_mm: float
    unrest_mm: float
    phases: tuple[float, float, float]


def sources(
    grid: ScanGrid, labels: NDArray[np.uint16], tissues: Sequence[Tissue], share: FloatArray
) -> Sources:
    """Find what moves, in the reference phase.

    Parameters
    ----------
    grid : ScanGrid
    labels : ndarray of uint16, shape of the fine grid
    tissues : sequence of Tissue
    share : ndarray, shape of the columns
        From :func:`mtinet.phantom.motion.mobility`.
    """
    fx, fy, fz = grid.factor
    nx, ny, nz = grid.matrix
    arterial = np.array([tissue.vessel == "arterial" for tissue in tissues])
    # one fine column and every second slice of a scanner voxel: the edges need not be sharp
    thin = arterial[grid.view(labels)[::fx, ::fy, fz // 4 :: max(1, fz // 2)]]
    per = thin.shape[2] // nz
    pulsating = thin[:, :, : per * nz].reshape(nx, ny, nz, per).mean(axis=3, dtype=np.float32)
    columns = resample(share, (nx, ny))
    body = (grid.view(labels)[::fx, ::fy, ::fz] != grid.view(labels)[0, 0, 0]).any(axis=2)
    depth = np.linspace(-1.0, 1.0, ny)
    front = np.clip((depth - 0.1) / 0.3, 0.0, 1.0) * body
    wall = (front * np.clip(1.0 - columns, 0.0, 1.0)).astype(np.float32)
    breathing = np.clip(columns + wall, 0.0, 1.0).astype(np.float32)
    return Sources(pulsating, wall[:, :, None], breathing[:, :, None])


def draw_ghosts(rng: np.random.Generator, site: SiteSettings, unrest: float = 0.0) -> Ghosts:
    """Draw the ghosts of one phase; ``unrest`` is how badly the breath-hold fails, 0 to 1."""
    scan_s, heart, breath = rng.uniform(*_SCAN_S), rng.uniform(*_HEART_HZ), rng.uniform(*_BREATH_HZ)
    factors = np.exp(0.5 * np.clip(rng.normal(size=2), -2.0, 2.0))
    first, second, third = (float(phase) for phase in rng.uniform(0.0, 2.0 * np.pi, 3))
    return Ghosts(
        heart_shift=round(heart * scan_s),
        breath_shift=round(breath * scan_s),
        pulsation=site.artefacts * _PULSATION * float(factors[0]),
        wall_mm=site.artefacts * _WALL_MM * float(factors[1]),
        unrest_mm=site.artefacts * _UNREST_MM * unrest,
        phases=(first, second, third),
    )


def with_ghosts(
    image: FloatArray, found: Sources, ghosts: Ghosts, spacing_mm: Sequence[float]
) -> ComplexArray:
    """Add the copies of what moved.

    Parameters
    ----------
    image : ndarray of float32, shape (X, Y, Z)
    found : Sources
    ghosts : Ghosts
    spacing_mm : sequence of float
        Of the scanner's voxels.

    Returns
    -------
    ndarray of complex64, shape (X, Y, Z)
    """
    result = image.astype(np.complex64)
    if ghosts.pulsation > 0.0:
        beating = image * found.pulsating
        for order, strength in enumerate(_HARMONICS, start=1):
            size, phase = ghosts.pulsation * strength, order * ghosts.phases[0]
            _copies(result, beating, size, phase, order * ghosts.heart_shift)
    if ghosts.wall_mm > 0.0:
        slope = _slope(image, 1, spacing_mm[1])
        _copies(result, slope * found.wall, ghosts.wall_mm / 2.0, ghosts.phases[1], ghosts.breath_shift)
        if ghosts.unrest_mm > 0.0:
            # the chest rises while the organs go down
            slope += _slope(image, 2, spacing_mm[2])
            slope *= found.breathing
            for order, strength in enumerate(_HARMONICS, start=1):
                size, phase = strength * ghosts.unrest_mm / 2.0, order * ghosts.phases[2]
                _copies(result, slope, size, phase, order * ghosts.breath_shift)
            blur = min((ghosts.unrest_mm / spacing_mm[1]) ** 2 / 4.0, _MOST_BLUR)
            bend = np.roll(image, 1, axis=1) + np.roll(image, -1, axis=1) - 2.0 * image
            result += np.float32(blur) * found.breathing * bend
    return result


def _copies(result: ComplexArray, source: FloatArray, size: float, phase: float, shift: int) -> None:
    """Add the two copies of a source, in place."""
    for side in (1, -1):
        weight = np.complex64(size * np.exp(1j * side * phase))
        rolled = np.roll(source, side * shift, axis=1)
        result += weight * rolled


def _slope(image: FloatArray, axis: int, step_mm: float) -> FloatArray:
    """Derivative along an axis, per mm; what lies beyond the edges is taken to go on."""
    ahead, behind = np.roll(image, -1, axis), np.roll(image, 1, axis)
    slope = np.asarray((ahead - behind) / np.float32(2.0 * step_mm))
    ends: list[slice | list[int]] = [slice(None)] * 3
    ends[axis] = [0, -1]
    slope[tuple(ends)] = 0.0
    return slope


def signal_near_gas(
    grid: ScanGrid, labels: NDArray[np.uint16], tissues: Sequence[Tissue], site: SiteSettings
) -> FloatArray:
    """Share of the signal that susceptibility leaves near lung and gas inside the body.

    The dephasing field of a real interface depends on its direction; here it depends on the share of gas
    within about a centimetre alone.

    Returns
    -------
    ndarray of float32, shape (X, Y, fine voxels along z with their margin)
        For :func:`kept`.
    """
    mx, my, _ = grid.margin
    nx, ny, _ = grid.matrix
    columns = labels[mx : mx + grid.factor[0] * nx, my : my + grid.factor[1] * ny]
    steps = tuple(max(1, round(_COARSE_MM / step)) for step in grid.fine.spacing_mm)
    thin = columns[steps[0] // 2 :: steps[0], steps[1] // 2 :: steps[1], steps[2] // 2 :: steps[2]]
    names = [tissue.name for tissue in tissues]
    gas = np.array([name in ("air", "lung") for name in names])[thin] & ~_outside(thin, names)
    sigma = [_GAS_REACH_MM / (n * step) for n, step in zip(steps, grid.fine.spacing_mm)]
    around = ndimage.gaussian_filter(gas.astype(np.float32), sigma, mode="nearest", truncate=2.5)
    strength = site.artefacts * _GAS_LOSS * (site.te_ms / 1.35) * (site.field_T / 3.0)
    return resample(np.exp(-strength * around), (nx, ny, labels.shape[2]))


def kept(grid: ScanGrid, near_gas: FloatArray, displacement: Displacement) -> FloatArray:
    """What :func:`signal_near_gas` leaves at the scanner's voxels once the content has moved, (X, Y, Z)."""
    fx, fy, fz = grid.factor
    nx, ny, nz = grid.matrix
    dx, dy, dz = displacement.voxels[:, ::fx, ::fy]
    x = np.clip(np.arange(nx)[:, None] - np.rint(dx / fx).astype(np.intp), 0, nx - 1)
    y = np.clip(np.arange(ny)[None, :] - np.rint(dy / fy).astype(np.intp), 0, ny - 1)
    middle = grid.margin[2] + fz * np.arange(nz) + fz // 2
    return np.asarray(near_gas[x[..., None], y[..., None], middle - dz[..., None]])


def _outside(thin: NDArray[np.uint16], names: Sequence[str]) -> BoolArray:
    """Air around the body: all that hangs together with the first voxel."""
    number, _ = ndimage.label(np.array([name == "air" for name in names])[thin])
    return np.asarray((number == number[0, 0, 0]) & (number > 0))
