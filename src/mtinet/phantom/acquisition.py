"""What is acquired: where the scanner's voxels lie, in the patient and in the world, and which phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mtinet.config import Phase, SiteSettings
from mtinet.errors import UserError
from mtinet.phantom.shapes import Box, FloatArray, Grid

Value = TypeVar("Value", bound=np.generic)

IN_PLANE_FACTOR = 2
"""Fine voxels a scanner voxel along x and y: what partial volume is made of."""

LATERAL, SAGITTAL = 0.15, 0.3
"""Breathing left-right and front-back, as a share of the cranio-caudal (assumed)."""

_LARGEST_MOVE = 3.1
"""The margin holds displacements of so many standard deviations."""

_SMALLEST_FIELD_MM = (220.0, 180.0, 40.0)
"""Fields of view below this cannot hold a liver."""


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

    def view(self, array: NDArray[Value]) -> NDArray[Value]:
        """What the scanner sees of a fine array whose content has not moved."""
        return array[self.scanned]

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
        return self.filled(self.view(inside))

    def filled(self, seen: NDArray[np.bool_]) -> FloatArray:
        """Share of every scanner voxel that a mask fills of which the field of view is seen finely."""
        total: NDArray[np.uint16] = seen.view(np.uint8).astype(np.uint16)
        # counted as integers, the contiguous axis first: this is done for the whole field of view
        for axis in (2, 1, 0):
            step = self.factor[axis]
            pieces = [total[(slice(None),) * axis + (slice(k, None, step),)] for k in range(step)]
            total = sum(pieces[1:], start=pieces[0])
        return np.asarray(total, dtype=np.float32) / np.float32(np.prod(self.factor))


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
        int(np.ceil(reach * share / step)) for share, step in zip((LATERAL, SAGITTAL, 1.0), (fx, fy, fz))
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


def draw_missing(
    rng: np.random.Generator, rate: float, phases: Sequence[Phase], reference: Phase
) -> Phase | None:
    """The phase that the study lacks, if any: never ``pre``, never the reference."""
    candidates = [phase for phase in phases if phase not in ("pre", reference)]
    lacking, which = rng.random() < rate, int(rng.integers(max(len(candidates), 1)))
    return candidates[which] if lacking and candidates else None
