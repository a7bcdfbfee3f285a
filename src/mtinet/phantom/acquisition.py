"""The scanner: grid, timing, breathing, receive field, noise, and which phases there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mtinet.config import Phase, SiteSettings
from mtinet.errors import UserError
from mtinet.phantom.shapes import Box, FloatArray, Grid, box_mean

Value = TypeVar("Value", bound=np.generic)

IN_PLANE_FACTOR = 2
"""Fine voxels a scanner voxel along x and y: what partial volume is made of."""

_LATERAL, _SAGITTAL = 0.15, 0.3
"""Breathing left-right and front-back, as a share of the cranio-caudal."""

_LARGEST_MOVE = 3.0
"""Displacements are cut at so many standard deviations."""


_SMALLEST_FIELD_MM = (220.0, 180.0, 40.0)


class AcquisitionError(UserError):
    """The settings ask for an acquisition that a site cannot make; the message names the repair."""


@dataclass(frozen=True)
class ScanGrid:
    """How the scanner's voxels lie on the fine grid.

    Attributes
    ----------
    fine : Grid
        Covers the scanner's grid and a margin that breathing can bring into view.
    factor : tuple of int
        Fine voxels a scanner voxel.
    margin : tuple of int
        Fine voxels before the scanner's first voxel.
    matrix : tuple of int
        Scanner voxels.
    """

    fine: Grid
    factor: tuple[int, int, int]
    margin: tuple[int, int, int]
    matrix: tuple[int, int, int]

    def view(self, array: NDArray[Value], moved: Sequence[int] = (0, 0, 0)) -> NDArray[Value]:
        """What the scanner sees of a fine array whose content has moved by ``moved`` fine voxels."""
        x, y, z = (
            slice(margin - shift, margin - shift + factor * n)
            for margin, shift, factor, n in zip(self.margin, moved, self.factor, self.matrix)
        )
        return array[x, y, z]

    @property
    def scanned(self) -> Box:
        """Fine voxels inside the scanner's grid."""
        x, y, z = (slice(m, m + f * n) for m, f, n in zip(self.margin, self.factor, self.matrix))
        return x, y, z

    def covering(self, box: Box) -> tuple[Box, Box]:
        """The scanner voxels that a fine box touches, and all fine voxels under those."""
        coarse, fine = [], []
        for part, margin, factor, count in zip(box, self.margin, self.factor, self.matrix):
            first = max((part.start - margin) // factor, 0)
            last = min(-((margin - part.stop) // factor), count)
            coarse.append(slice(first, last))
            fine.append(slice(margin + factor * first, margin + factor * last))
        return (coarse[0], coarse[1], coarse[2]), (fine[0], fine[1], fine[2])

    def fraction(self, inside: NDArray[np.bool_]) -> FloatArray:
        """Share of every scanner voxel that a fine mask (whole fine grid) fills."""
        return box_mean(self.view(inside).astype(np.float32), self.factor)


def scan_grid(site: SiteSettings, breathing_mm: float) -> ScanGrid:
    """The fine grid for a site: twice as fine in plane, and about as fine through the slices.

    Raises
    ------
    AcquisitionError
        The field of view cannot hold a liver.
    """
    extent_mm = [n * step for n, step in zip(site.matrix, site.spacing_mm)]
    if any(given < needed for given, needed in zip(extent_mm, _SMALLEST_FIELD_MM)):
        raise AcquisitionError(
            f"site {site.name}: the field of view is {' x '.join(f'{e:g}' for e in extent_mm)} mm; give at "
            f"least {' x '.join(f'{e:g}' for e in _SMALLEST_FIELD_MM)} mm by a larger matrix or spacing_mm"
        )
    dx, dy, dz = site.spacing_mm
    in_plane = min(dx, dy) / IN_PLANE_FACTOR
    factor = (IN_PLANE_FACTOR, IN_PLANE_FACTOR, max(1, round(dz / in_plane)))
    fx, fy, fz = (step / n for step, n in zip(site.spacing_mm, factor))
    reach = _LARGEST_MOVE * breathing_mm
    mx, my, mz = (
        int(np.ceil(reach * share / step)) for share, step in zip((_LATERAL, _SAGITTAL, 1.0), (fx, fy, fz))
    )
    nx, ny, nz = (n * f + 2 * m for n, f, m in zip(site.matrix, factor, (mx, my, mz)))
    return ScanGrid(Grid((nx, ny, nz), (fx, fy, fz)), factor, (mx, my, mz), site.matrix)


def draw_affine(rng: np.random.Generator, site: SiteSettings) -> NDArray[np.float64]:
    """Where the scanner's voxels lie in the world: axial, tilted by up to ``oblique_deg``, off centre."""
    about_x, about_y = np.deg2rad(rng.uniform(-1.0, 1.0, 2) * site.oblique_deg)
    tilt_x = np.array(
        [[1, 0, 0], [0, np.cos(about_x), -np.sin(about_x)], [0, np.sin(about_x), np.cos(about_x)]]
    )
    tilt_y = np.array(
        [[np.cos(about_y), 0, np.sin(about_y)], [0, 1, 0], [-np.sin(about_y), 0, np.cos(about_y)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = tilt_y @ tilt_x @ np.diag(site.spacing_mm)
    centre = (np.array(site.matrix) - 1.0) / 2.0
    affine[:3, 3] = np.round(rng.normal(0.0, (4.0, 8.0, 20.0)), 1) - affine[:3, :3] @ centre
    return affine


def draw_times(rng: np.random.Generator, site: SiteSettings, phases: Sequence[Phase]) -> dict[Phase, float]:
    """Seconds from the start of injection to the centre of k-space, for every phase after ``pre``.

    Raises
    ------
    AcquisitionError
        The site has no time for a phase.
    """
    late = [phase for phase in phases if phase != "pre"]
    unknown = [phase for phase in late if phase not in site.times_s]
    if unknown:
        raise AcquisitionError(
            f"site {site.name}: no time for the phase {', '.join(unknown)}; add it to the site's times_s "
            f"(it has {', '.join(site.times_s)}) or leave the phase out of phases"
        )
    times: dict[Phase, float] = {}
    earliest = 5.0
    for phase in sorted(late, key=lambda name: site.times_s[name]):
        jitter = site.timing_jitter_s * float(np.clip(rng.normal(), -2.5, 2.5))
        times[phase] = round(max(site.times_s[phase] + jitter, earliest), 1)
        earliest = times[phase] + 5.0
    return {phase: times[phase] for phase in late}


def draw_moves(
    rng: np.random.Generator, grid: ScanGrid, breathing_mm: float, phases: Sequence[Phase], reference: Phase
) -> dict[Phase, tuple[int, int, int]]:
    """Displacement of the content in each phase, in fine voxels; the reference phase stays."""
    moves: dict[Phase, tuple[int, int, int]] = {}
    for phase in phases:
        unit = np.clip(rng.normal(size=3), -_LARGEST_MOVE, _LARGEST_MOVE)
        moved_mm = unit * breathing_mm * np.array([_LATERAL, _SAGITTAL, 1.0])
        x, y, z = (round(d / step) for d, step in zip(moved_mm, grid.fine.spacing_mm))
        moves[phase] = (0, 0, 0) if phase == reference else (x, y, z)
    return moves


def draw_missing(
    rng: np.random.Generator, rate: float, phases: Sequence[Phase], reference: Phase
) -> Phase | None:
    """The phase that the study lacks, if any: never ``pre``, never the reference."""
    candidates = [phase for phase in phases if phase not in ("pre", reference)]
    lacking, which = rng.random() < rate, int(rng.integers(max(len(candidates), 1)))
    return candidates[which] if lacking and candidates else None


def draw_receive_field(rng: np.random.Generator, matrix: Sequence[int], amplitude: float) -> FloatArray:
    """Smooth sensitivity about 1, common to all phases; its extremes differ from 1 by ``amplitude``."""
    field: NDArray[np.float64] = np.zeros(tuple(matrix))
    axes = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in matrix), indexing="ij", sparse=True)
    for powers in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (0, 2, 0), (1, 1, 0), (0, 1, 1)):
        x, y, z = (axis**power for axis, power in zip(axes, powers))
        field = field + rng.normal() * (x * y * z)
    field -= field.mean()
    return np.asarray(1.0 + amplitude * field / np.abs(field).max(), dtype=np.float32)


def clean_image(
    grid: ScanGrid, labels: NDArray[np.uint16], signals: FloatArray, moved: Sequence[int]
) -> FloatArray:
    """Noise-free image before the receive field: every part's signal, seen by the scanner's voxels.

    Parameters
    ----------
    labels : ndarray of uint16, shape of the fine grid
    signals : ndarray of float32, shape (parts,)
    moved : sequence of int
        Displacement of the content, fine voxels.
    """
    return box_mean(signals[grid.view(labels, moved)], grid.factor)


def check_range(clean: FloatArray, site: SiteSettings, gain: float) -> None:
    """Refuse a gain at which the brightest voxel cannot be stored.

    Raises
    ------
    AcquisitionError
        Named site, gain and repair.
    """
    brightest, limit = float(clean.max()), np.iinfo(np.int16).max
    if brightest > limit:
        raise AcquisitionError(
            f"site {site.name}: with a gain of {gain:.0f} the brightest voxel is {brightest:.0f}, and images "
            f"hold at most {limit}; set the site's gain (now {site.gain:g}) below "
            f"{site.gain * limit / brightest:.0f}"
        )


def measured(rng: np.random.Generator, clean: FloatArray, sigma: float) -> NDArray[np.int16]:
    """Magnitude of the complex signal with Gaussian noise of ``sigma`` in both channels, as integers."""
    real = clean + np.float32(sigma) * rng.standard_normal(clean.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(clean.shape, dtype=np.float32)
    magnitude = np.rint(np.hypot(real, imaginary))
    # only noise on a voxel just below the limit is cut here: see check_range
    return np.asarray(np.minimum(magnitude, np.iinfo(np.int16).max), dtype=np.int16)


def moves_mm(
    grid: ScanGrid, moves: Mapping[Phase, tuple[int, int, int]]
) -> dict[Phase, tuple[float, float, float]]:
    """Displacements in mm along the scanner's axes."""
    sx, sy, sz = grid.fine.spacing_mm
    return {phase: (x * sx, y * sy, z * sz) for phase, (x, y, z) in moves.items()}
