"""The scanner: from a map of parts and their signals to a stored image.

Order: the content has moved, every part gives its signal under the local flip angle on a grid twice as fine
in plane, receive sensitivity and susceptibility act, k-space is cut to the matrix (Gibbs ringing), ghosts,
complex Gaussian noise with the g-factor, the vendor's filter, magnitude, one gain a study, integers.

Through the slices a voxel sees the mean over its thickness (an ideal slice profile); the object has no phase
of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from mtinet.config import SiteSettings
from mtinet.phantom.acquisition import AcquisitionError, ScanGrid
from mtinet.phantom.artefacts import ComplexArray
from mtinet.phantom.fields import draw_field
from mtinet.phantom.motion import Displacement
from mtinet.phantom.shapes import FloatArray

B1_LEVELS = 33
"""Steps in which the error of the flip angle is told apart: at an amplitude of 0.12, of 0.0075."""

FILTER = {"vibe": 0.0, "lava": 0.06, "thrive": 0.04}
"""Weight of each in-plane neighbour in the reconstruction's smoothing by habit of the vendor (assumed):
a raised-cosine window on k-space, ``1 - 2 w + 2 w cos``."""

_G_RISE = 0.35
"""How much the g-factor exceeds 1 in the middle of the body for every step of acceleration (assumed)."""

_SLAB = 16
"""Columns along x worked on together: what fits a processor's cache."""


@dataclass(frozen=True)
class Scanner:
    """What is the same in all phases of a study.

    Attributes
    ----------
    grid : ScanGrid
    site : SiteSettings
    gain : float
        Stored value of the nominal liver without agent.
    b1 : ndarray, shape (levels,)
        Actual over nominal flip angle.
    level : ndarray of uint16, shape (2X, 2Y, Z)
        Index into ``b1``.
    receive : ndarray of float32, shape (2X, 2Y, Z)
        Sensitivity about 1.
    g : ndarray of float32, shape (X, Y, 1)
        Noise over that without acceleration.
    """

    grid: ScanGrid
    site: SiteSettings
    gain: float
    b1: NDArray[np.float64]
    level: NDArray[np.uint16]
    receive: FloatArray
    g: FloatArray

    def tissue_signal(
        self, labels: NDArray[np.uint16], table: FloatArray, displacement: Displacement
    ) -> FloatArray:
        """Signal of what lies in the field of view, before reception.

        Parameters
        ----------
        labels : ndarray of uint16, shape of the fine grid
        table : ndarray of float32, shape (parts, levels)
            Signal by part and flip angle.
        displacement : Displacement

        Returns
        -------
        ndarray of float32, shape (2X, 2Y, Z)
        """
        slices, levels = self.grid.factor[2], table.shape[1]
        kind = np.uint16 if table.size <= np.iinfo(np.uint16).max else np.uint32
        flat = np.ascontiguousarray(table.ravel() / slices, dtype=np.float32)
        total: FloatArray = np.empty(self.level.shape, dtype=np.float32)
        for start in range(0, len(total), _SLAB):
            rows = slice(start, min(start + _SLAB, len(total)))
            parts: NDArray[Any] = displacement.view(labels, rows)
            level = self.level[rows]
            summed = np.zeros(level.shape, dtype=np.float32)
            for k in range(slices):
                cell = np.multiply(parts[..., k::slices], levels, dtype=kind)
                summed += flat.take(np.add(cell, level, dtype=kind))
            total[rows] = summed
        return total

    def received(self, signal: FloatArray, kept: FloatArray) -> FloatArray:
        """Image on the scanner's grid, without noise: sensitivity, signal lost near gas, truncated k-space.

        Parameters
        ----------
        signal : ndarray of float32, shape (2X, 2Y, Z)
            Overwritten.
        kept : ndarray of float32, shape (X, Y, Z)
            Share of the signal that susceptibility leaves.
        """
        fx, fy, _ = self.grid.factor
        nx, ny, nz = self.grid.matrix
        signal *= self.receive
        by_voxel = signal.reshape(nx, fx, ny, fy, nz)
        by_voxel *= kept[:, None, :, None, :]
        return truncated(truncated(signal, 0, fx), 1, fy)

    def filtered(self, image: ComplexArray) -> ComplexArray:
        """The reconstruction's smoothing, in plane."""
        weight = np.float32(FILTER[self.site.habits])
        if weight == 0.0:
            return image
        for axis in (0, 1):
            around = np.roll(image, 1, axis) + np.roll(image, -1, axis)
            image = (1 - 2 * weight) * image + weight * around
        return image

    def noise(self, rng: np.random.Generator) -> ComplexArray:
        """Complex noise after filtering; its SD in either channel is ``site.noise · gain`` where g is 1."""
        weight = FILTER[self.site.habits]
        # smoothing averages noise: it is drawn larger by what each of the two axes will take away
        sigma = self.site.noise * self.gain / ((1.0 - 2.0 * weight) ** 2 + 2.0 * weight**2)
        drawn = rng.standard_normal((*self.grid.matrix, 2), dtype=np.float32)
        drawn *= np.float32(sigma) * self.g[..., None]
        return self.filtered(drawn.view(np.complex64)[..., 0])

    def stored(self, image: ComplexArray, noise: ComplexArray) -> NDArray[np.int16]:
        """Magnitude as integers.

        Raises
        ------
        AcquisitionError
            The gain leaves no room for the brightest voxel.
        """
        brightest, limit = float(np.abs(image).max()), np.iinfo(np.int16).max
        if brightest > limit:
            raise AcquisitionError(
                f"site {self.site.name}: with a gain of {self.gain:.0f} the brightest voxel is "
                f"{brightest:.0f}, and images hold at most {limit}; set the site's gain (now "
                f"{self.site.gain:g}) below {self.site.gain * limit / brightest:.0f}"
            )
        magnitude = np.rint(np.abs(image + noise))
        # only noise on a voxel just below the limit is cut here
        return np.asarray(np.minimum(magnitude, limit), dtype=np.int16)


def draw_scanner(rng: np.random.Generator, site: SiteSettings, grid: ScanGrid) -> Scanner:
    """Draw a study's gain and fields: flip angle, sensitivity, g-factor."""
    (fx, fy, _), (nx, ny, nz) = grid.factor, grid.matrix
    fine = (fx * nx, fy * ny, nz)
    gain = site.gain * float(np.exp(0.15 * np.clip(rng.normal(), -2.0, 2.0)))
    receive = draw_field(rng, fine, site.bias)
    error = draw_field(rng, fine, site.b1)
    b1 = np.linspace(1.0 - site.b1, 1.0 + site.b1, B1_LEVELS if site.b1 > 0.0 else 1)
    step = 2.0 * site.b1 / max(len(b1) - 1, 1)
    level = np.rint((error - np.float32(b1[0])) / np.float32(step)) if step else np.zeros(fine)
    return Scanner(
        grid=grid,
        site=site,
        gain=gain,
        b1=b1,
        level=np.clip(level, 0, len(b1) - 1).astype(np.uint16),
        receive=receive,
        g=g_factor(site.acceleration, (nx, ny)),
    )


def g_factor(acceleration: float, shape: tuple[int, int]) -> FloatArray:
    """Noise over that of full sampling, in plane: 1 at the rim, most in the middle; shape (X, Y, 1).

    The loss by fewer samples is part of ``site.noise``.
    """
    x, y = (np.linspace(-1.0, 1.0, n) for n in shape)
    bump = np.exp(-(x[:, None] ** 2 + y[None, :] ** 2) / 0.35)
    return np.asarray(1.0 + _G_RISE * (acceleration - 1.0) * bump, dtype=np.float32)[:, :, None]


def truncated(image: FloatArray, axis: int, factor: int) -> FloatArray:
    """Keep the central part of k-space along an axis: the image on voxels ``factor`` times as large.

    The centres of the larger voxels lie between those of the finer ones; the shift is made in k-space.

    Parameters
    ----------
    image : ndarray of float32
        ``factor · n`` voxels along ``axis``.
    axis, factor : int

    Returns
    -------
    ndarray of float32
        ``n`` voxels along ``axis``; the mean of the image is kept.
    """
    fine = image.shape[axis]
    coarse = fine // factor
    lines = fft.rfft(image, axis=axis, workers=1)
    kept = [slice(None)] * image.ndim
    kept[axis] = slice(0, coarse // 2 + 1)
    frequency = np.arange(coarse // 2 + 1)
    shift = np.exp(2j * np.pi * frequency * (0.5 * (factor - 1)) / fine) / factor
    shape = [1] * image.ndim
    shape[axis] = -1
    central = lines[tuple(kept)] * shift.astype(np.complex64).reshape(shape)
    return np.asarray(fft.irfft(central, n=coarse, axis=axis, workers=1), dtype=np.float32)
