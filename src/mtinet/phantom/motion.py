"""Breathing: where the organs lie in each breath-hold.

A displacement belongs to the place where content is seen: ``moved(x) = object(x - d(x))``.  With
``d = (0, 0, +5 mm)`` the content lies 5 mm further along the third axis than in the reference phase.  It is
constant along a column of voxels (along z) and smooth across columns; it is given in whole fine voxels, so
that the field that is stored is exactly the one that was applied.

The sizes of lateral and sagittal motion and how motion fades towards the wall are assumed; that the liver
moves mainly cranio-caudally between breath-holds is common knowledge of liver imaging.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.config import Phase
from mtinet.phantom.acquisition import LATERAL, SAGITTAL, ScanGrid
from mtinet.phantom.fields import resample
from mtinet.phantom.shapes import BoolArray, FloatArray
from mtinet.phantom.tissues import Tissue

Value = TypeVar("Value", bound=np.generic)

FIXED = ("air", "fat", "muscle", "marrow", "cortical_bone", "cartilage", "disc", "spinal_canal", "cord")
"""Parts that hardly take part in breathing: body wall, spine and what is outside."""

RESTLESS_RATE = {"gadoxetate": 0.162, "gadobutrol": 0.117}
"""Share of patients whose breath-hold fails in the arterial phase.

Motosugi U et al., Radiology 2016;279:93: 21 of 130 with gadoxetate at 0.025 mmol/kg, 15 of 130 with
gadobenate; the latter is taken for gadobutrol (assumed).
"""

SEVERE_SHARE = {"gadoxetate": 0.15, "gadobutrol": 0.0}
"""Share of failed breath-holds that spoil the image: 3 of 130 patients with gadoxetate, none of 130 with the
other agent (same source)."""

_RESTLESS_FACTOR = 2.0
"""How much larger the displacement is when the breath-hold fails (assumed)."""

_CUT = 2.5
"""Displacements of the liver are cut at so many standard deviations."""

_COARSE_MM = 5.0
_FADE_MM = 12.0
_UNEVEN = 0.15
"""Spread of the slope of the displacement across the body, as a share of it (assumed)."""


@dataclass(frozen=True)
class Displacement:
    """How far the content of each column has moved, seen from where it is now.

    Attributes
    ----------
    grid : ScanGrid
    voxels : ndarray of int, shape (3, columns along x, columns along y)
        Fine voxels along x, y and z, for every column of the scanner's field of view.
    """

    grid: ScanGrid
    voxels: NDArray[np.intp]

    @property
    def still(self) -> bool:
        """Whether nothing has moved."""
        return not self.voxels.any()

    def view(self, array: NDArray[Value], rows: slice = slice(None)) -> NDArray[Value]:
        """What the scanner sees of a fine array whose content has moved.

        Parameters
        ----------
        array : ndarray, shape of the fine grid
        rows : slice
            Columns along x that are wanted, counted within the field of view.

        Returns
        -------
        ndarray, shape (rows, fine voxels along y, fine voxels along z) of the field of view
        """
        if self.still:
            return self.grid.view(array)[rows]
        _, across, along = (f * n for f, n in zip(self.grid.factor, self.grid.matrix))
        mx, my, mz = self.grid.margin
        dx, dy, dz = self.voxels[:, rows]
        x = mx + np.arange(self.voxels.shape[1])[rows, None] - dx
        y = my + np.arange(across)[None, :] - dy
        # whole columns are copied: a field that is constant along z costs little
        return np.asarray(sliding_window_view(array, along, axis=2)[x, y, mz - dz])

    def field_mm(self) -> NDArray[np.float32]:
        """Displacement at the scanner's voxels along the grid's axes, mm, shape (X, Y, Z, 3)."""
        fx, fy, _ = self.grid.factor
        nx, ny, nz = self.grid.matrix
        mean = self.voxels.reshape(3, nx, fx, ny, fy).mean(axis=(2, 4))
        moved = np.moveaxis(mean, 0, -1) * np.array(self.grid.fine.spacing_mm)
        return np.broadcast_to(moved[:, :, None].astype(np.float32), (nx, ny, nz, 3)).copy()

    def mean_mm(self, weight: NDArray[Any]) -> tuple[float, float, float]:
        """Mean displacement along the grid's axes, mm, weighted by column (shape of the columns)."""
        total = float(weight.sum())
        x, y, z = (
            float((component * weight).sum() / total * step) if total > 0.0 else 0.0
            for component, step in zip(self.voxels, self.grid.fine.spacing_mm)
        )
        return x, y, z


def no_displacement(grid: ScanGrid) -> Displacement:
    """Nothing has moved."""
    return Displacement(grid, np.zeros((3, *_columns(grid)), dtype=np.intp))


def mobility(
    grid: ScanGrid, labels: NDArray[np.uint16], tissues: Sequence[Tissue], liver: BoolArray
) -> FloatArray:
    """Share of the liver's mean displacement that each column takes: about 1 inside, 0 at wall and spine.

    Parameters
    ----------
    grid : ScanGrid
    labels : ndarray of uint16, shape of the fine grid
    tissues : sequence of Tissue
    liver : ndarray of bool, shape of the fine grid

    Returns
    -------
    ndarray of float32, shape (columns along x, columns along y)
        Its mean over the liver is 1.
    """
    fixed = np.array([tissue.name in FIXED for tissue in tissues])
    sx, sy, sz = (max(1, round(_COARSE_MM / step)) for step in grid.fine.spacing_mm)
    thin = grid.view(labels)[sx // 2 :: sx, sy // 2 :: sy, ::sz]
    moving = 1.0 - fixed[thin].mean(axis=2, dtype=np.float64)
    sigma = [_FADE_MM / (s * step) for s, step in zip((sx, sy), grid.fine.spacing_mm)]
    smooth = ndimage.gaussian_filter(moving, sigma, mode="constant")
    weight = np.clip((smooth - 0.2) / 0.7, 0.0, 1.0)
    columns = grid.view(liver)[sx // 2 :: sx, sy // 2 :: sy].sum(axis=2)
    mean = float((weight * columns).sum() / max(float(columns.sum()), 1.0))
    fine = resample(weight / max(mean, 0.2), _columns(grid))
    return np.asarray(np.clip(fine, 0.0, 1.25), dtype=np.float32)


def draw_unrest(rng: np.random.Generator, agent: str) -> float:
    """How badly the breath-hold of the arterial phase fails: 0 = it holds, 1 = the image is spoilt.

    Mild failures lie between 0.1 and 0.4, severe ones between 0.7 and 1 (assumed).
    """
    fails, severe = rng.random() < RESTLESS_RATE.get(agent, 0.0), rng.random() < SEVERE_SHARE.get(agent, 0.0)
    mild, bad = float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.7, 1.0))
    return 0.0 if not fails else bad if severe else mild


def draw_displacements(
    rng: np.random.Generator,
    grid: ScanGrid,
    share: FloatArray,
    breathing_mm: float,
    phases: Sequence[Phase],
    reference: Phase,
    restless: Phase | None = None,
) -> dict[Phase, Displacement]:
    """Draw where the content lies in each phase; the reference phase stays.

    Parameters
    ----------
    rng : numpy.random.Generator
    grid : ScanGrid
    share : ndarray, shape of the columns
        From :func:`mobility`.
    breathing_mm : float
        Standard deviation of the liver's mean cranio-caudal displacement; left-right and front-back are
        smaller by fixed shares.
    phases : sequence of str
    reference : str
    restless : str, optional
        Phase in which the displacement is twice as large.
    """
    nx, ny = _columns(grid)
    x, y = np.linspace(-1.0, 1.0, nx)[:, None], np.linspace(-1.0, 1.0, ny)[None, :]
    drawn: dict[Phase, Displacement] = {}
    for phase in phases:
        unit = np.clip(rng.normal(size=3), -_CUT, _CUT)
        slope = _UNEVEN * np.clip(rng.normal(size=2), -_CUT, _CUT)
        if phase == reference:
            drawn[phase] = no_displacement(grid)
            continue
        if phase == restless:
            unit = np.clip(_RESTLESS_FACTOR * unit, -_CUT, _CUT)
        shape = share * (1.0 + slope[0] * x + slope[1] * y)
        voxels = np.zeros((3, nx, ny), dtype=np.intp)
        for axis, part in enumerate((LATERAL, SAGITTAL, 1.0)):
            moved = np.rint(unit[axis] * breathing_mm * part / grid.fine.spacing_mm[axis] * shape)
            # what breathing may bring into view is all that has been drawn
            voxels[axis] = np.clip(moved, -grid.margin[axis], grid.margin[axis])
        drawn[phase] = Displacement(grid, voxels)
    return drawn


def _columns(grid: ScanGrid) -> tuple[int, int]:
    """Columns of fine voxels in the field of view, along x and y."""
    return grid.factor[0] * grid.matrix[0], grid.factor[1] * grid.matrix[1]
