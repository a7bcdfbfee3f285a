"""What the images show of a study and of each lesion: signal by phase, core, shell, band and surroundings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.config import PHASES, MeasurementSettings, Phase
from mtinet.data.prepared import PreparedStudy
from mtinet.dicom.contrast import AgentKind, agent_kind
from mtinet.imaging.masks import Box

BoolArray = NDArray[np.bool_]

_EMPTY_SHARE = 0.05
"""A phase without signal in more of a tissue's voxels does not show it: it lies outside the field of view."""

_APART_MM = 1e6
"""Distance between slices that keeps a distance transform within them."""


@dataclass(frozen=True, eq=False)
class Observed:
    """A study's phases on one grid, and what is known about them.

    Attributes
    ----------
    signal : dict
        Signal by phase that is present, shape [Z, Y, X], axes closest to S, A, R; 0 outside the field of view.
    unit : float
        Signal of the value 1, in the study's own units.
    spacing_mm : tuple of float
        Along z, y, x.
    labels : ndarray of int, shape (Z, Y, X)
        Lesion numbers.
    liver : ndarray of bool, shape (Z, Y, X), or None
        A true mask of the liver; None where it is not known.
    agent : {"extracellular", "gadoxetate", ""}
    times_s : dict
        Seconds from the start of injection by phase; unknown ones are left out.
    """

    signal: Mapping[Phase, NDArray[np.float32]]
    unit: float
    spacing_mm: tuple[float, float, float]
    labels: NDArray[Any]
    liver: BoolArray | None
    agent: AgentKind
    times_s: Mapping[Phase, float]

    @classmethod
    def of(cls, study: PreparedStudy, labels: NDArray[Any], agent: str = "") -> Observed:
        """What a prepared study shows.

        Parameters
        ----------
        study : PreparedStudy
        labels : ndarray of int, shape (Z, Y, X)
            Lesion numbers on the prepared grid.
        agent : str
            As written in the cohort or header; empty = not known.
        """
        image = study.image
        there = [(n, p) for n, (p, present) in enumerate(zip(study.phases, study.present)) if present]
        return cls(
            signal={phase: image[n] for n, phase in there},
            unit=study.gain,
            spacing_mm=study.spacing_mm,
            labels=labels,
            liver=None if study.liver is None else study.liver > 0,
            agent=agent_kind(agent),
            times_s={phase: study.times_s[n] for n, phase in there if np.isfinite(study.times_s[n])},
        )

    @property
    def phases(self) -> list[Phase]:
        """The phases present, in the order of their acquisition."""
        return [phase for phase in PHASES if phase in self.signal]


@dataclass(frozen=True, eq=False)
class Region:
    """A lesion with its surroundings, cut out of a study.

    Attributes
    ----------
    number : int
    signal : dict
        By phase that shows the lesion, cut to its box and a margin [z, y, x].
    inside, core, shell, band, around : ndarray of bool
        The lesion; its inner and outer part; the voxels along its outline in the slices through its middle;
        the liver within the ring, with vessels.  A lesion that is too small to be divided has no shell, and
        all of it is core.
    sector : ndarray of int
        For the band: which eighth of the outline a voxel lies in, seen from the middle of its slice.
    """

    number: int
    signal: dict[Phase, NDArray[np.float32]]
    inside: BoolArray
    core: BoolArray
    shell: BoolArray
    band: BoolArray
    around: BoolArray
    sector: NDArray[np.intp]

    @property
    def divided(self) -> bool:
        """Whether core and shell can be told apart."""
        return bool(self.shell.any())

    def mean(self, phase: Phase, part: BoolArray) -> float:
        """Mean signal of a part of it in a phase, as far as the field of view covers it; 0 where it does not."""
        values = self.signal[phase][part]
        values = values[values != 0]
        return float(values.mean(dtype=np.float64)) if values.size else 0.0


def shows(voxels: NDArray[Any]) -> bool:
    """Whether a phase shows a tissue whose voxels have these signals; outside its field of view they are 0."""
    return bool(voxels.size) and bool(np.mean(voxels == 0) <= _EMPTY_SHARE)


def cut_out(observed: Observed, number: int, box: Box, settings: MeasurementSettings) -> Region:
    """Cut a lesion and what lies around it out of a study, and divide it.

    Parameters
    ----------
    observed : Observed
    number : int
    box : tuple of slice
        Smallest box around it.
    settings : MeasurementSettings
    """
    near, far = settings.liver_ring_mm
    # a lesion just behind the ring still keeps it away
    reach = [int(np.ceil((near + far) / step)) + 1 for step in observed.spacing_mm]
    wide = tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(box, reach))
    labels = observed.labels[wide]
    inside = labels == number
    shell = _shell(inside, observed.spacing_mm, settings)
    signal = {phase: observed.signal[phase][wide] for phase in observed.phases}
    around = np.zeros_like(inside)
    if observed.liver is not None:
        distance = ndimage.distance_transform_edt(~inside, sampling=observed.spacing_mm)
        around = observed.liver[wide] & (distance >= near) & (distance <= far)
        others = (labels != 0) & ~inside
        if others.any():
            around &= ndimage.distance_transform_edt(~others, sampling=observed.spacing_mm) >= near
    band = _band(inside, observed.spacing_mm, settings.capsule_mm)
    return Region(
        number=number,
        signal={phase: image for phase, image in signal.items() if shows(image[inside])},
        inside=inside,
        core=inside & ~shell,
        shell=shell,
        band=band,
        around=around,
        sector=_sectors(inside, observed.spacing_mm),
    )


def _shell(
    inside: BoolArray, spacing_mm: tuple[float, float, float], settings: MeasurementSettings
) -> BoolArray:
    """The outer part of a lesion; nothing where the inner part would hold too few voxels.

    Depth is the distance to the sides of the voxels outside, however thick those are.  The deepest point may lie
    between voxels: where slices are thick, the deepest middle of a voxel is far from it.
    """
    (box,) = ndimage.find_objects(inside.astype(np.uint8))
    lesion = np.pad(inside[box], 1)
    # every second point of this lattice is a voxel's middle, those between lie on the sides
    outside = np.zeros([2 * n + 1 for n in lesion.shape], dtype=bool)
    outside[1::2, 1::2, 1::2] = ~lesion
    outside = ndimage.binary_dilation(outside, np.ones((3, 3, 3), dtype=bool))
    depth = ndimage.distance_transform_edt(~outside, sampling=[step / 2 for step in spacing_mm])
    within = depth[1::2, 1::2, 1::2][1:-1, 1:-1, 1:-1]
    shell = np.zeros_like(inside)
    shell[box] = inside[box] & (within <= settings.shell_share * depth.max())
    if np.count_nonzero(inside & ~shell) < settings.min_core_voxels:
        return np.zeros_like(inside)
    return shell


def _band(inside: BoolArray, spacing_mm: tuple[float, float, float], thickness_mm: float) -> BoolArray:
    """Voxels along the outline in the plane, at least one deep, in slices with half of the largest area.

    Towards the poles the outline runs through the thickness of a slice.
    """
    _, y, x = spacing_mm
    depth = ndimage.distance_transform_edt(inside, sampling=(_APART_MM, y, x)) - 0.5 * min(y, x)
    areas = inside.sum(axis=(1, 2))
    middle = (areas >= 0.5 * areas.max())[:, None, None]
    return np.asarray(inside & middle & (depth <= max(thickness_mm, 0.75 * max(y, x))))


def _sectors(inside: BoolArray, spacing_mm: tuple[float, float, float]) -> NDArray[np.intp]:
    """Eighth of the circle around the middle of each slice."""
    z, y, x = np.nonzero(inside)
    count = np.maximum(np.bincount(z, minlength=len(inside)), 1)
    middle_y = np.bincount(z, y, minlength=len(inside)) / count
    middle_x = np.bincount(z, x, minlength=len(inside)) / count
    angle = np.arctan2((y - middle_y[z]) * spacing_mm[1], (x - middle_x[z]) * spacing_mm[2])
    sector = np.zeros(inside.shape, dtype=np.intp)
    sector[inside] = np.floor((angle / (2.0 * np.pi) + 0.5) * 8).astype(np.intp) % 8
    return sector
