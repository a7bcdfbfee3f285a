"""The measures of one patient that all organs share: habitus, body wall, diaphragm, landmarks.

All sizes are assumed around those of an adult, so that the body fits a field of view of 330 x 255 mm.
Landmarks are given for a reference body (cavity 244 mm wide and 162 mm deep, dome of the diaphragm 50 mm
above the middle of the slab) and scaled to the patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtinet.phantom.shapes import FloatArray, Mesh, Point, smooth_max

_REFERENCE_HALF_WIDTH, _REFERENCE_HALF_DEPTH, _REFERENCE_DOME = 122.0, 81.0, 50.0

DOME_DROP_MM = 72.0
"""From the top of the diaphragm to the bottom of the costophrenic recess; assumed."""


@dataclass(frozen=True)
class Frame:
    """The measures of one patient.

    Attributes
    ----------
    half_width, half_depth : float
        Outer body, left-right and front-back, mm.
    rim, wall : float
        Thickness of the subcutaneous fat and of the muscular wall with the ribs, mm.
    power : float
        Exponent of the outline: 2 is an ellipse, more is nearer to a box.
    dome_z, left_dome_z : float
        Top of the right and of the left half of the diaphragm, mm.
    taper, taper_phase : float
        How far the outline comes and goes from slice to slice, mm, and where.
    waves : tuple of (amplitude in mm, phase)
        What the outline departs from the rounded box by: waves of two, three and four periods round the body.
    """

    half_width: float
    half_depth: float
    rim: float
    wall: float
    power: float
    dome_z: float
    left_dome_z: float
    taper: float
    taper_phase: float
    waves: tuple[tuple[float, float], ...]

    @property
    def scale(self) -> tuple[float, float]:
        """Width and depth of the abdominal cavity relative to the reference body."""
        inside = self.rim + self.wall
        return (
            (self.half_width - inside) / _REFERENCE_HALF_WIDTH,
            (self.half_depth - inside) / _REFERENCE_HALF_DEPTH,
        )

    def at(self, x: float, y: float, z: float) -> Point:
        """A landmark of the reference body in this one."""
        across, along = self.scale
        return x * across, y * along, z + self.dome_z - _REFERENCE_DOME

    @property
    def spine_y(self) -> float:
        """Centre of the vertebral bodies."""
        return self.at(0.0, -49.0, 0.0)[1]

    @property
    def hilum(self) -> Point:
        """Where the portal vein divides."""
        return self.at(33.0, 9.0, -4.0)

    @property
    def caval_mouth(self) -> Point:
        """Where the hepatic veins enter the vena cava."""
        return self.at(24.0, -15.0, 36.0)

    def depth(self, mesh: Mesh) -> FloatArray:
        """Distance below the skin towards the body's axis, mm, without the taper; shape (X, Y, 1)."""
        x, y, _ = mesh
        level = np.abs(x / self.half_width) ** self.power + np.abs(y / self.half_depth) ** self.power
        level = np.maximum(level, np.float32(1e-6)) ** np.float32(1.0 / self.power)
        radius = np.sqrt(x * x + y * y)
        # the groove over the spine, and a slightly flat back
        groove = np.float32(7.0) * np.exp(-((x / np.float32(24.0)) ** 2)) * (y < 0)
        depth = radius * (1.0 / level - 1.0) - groove
        angle = np.arctan2(y, x)
        for periods, (amplitude, phase) in enumerate(self.waves, start=2):
            depth += np.float32(amplitude) * np.sin(periods * angle + np.float32(phase))
        return np.asarray(depth, dtype=np.float32)

    def tapered(self, z: FloatArray) -> FloatArray:
        """What to add to the depth in every slice, mm."""
        return np.asarray(
            np.float32(self.taper) * np.sin(z * np.float32(1.0 / 45.0) + np.float32(self.taper_phase))
        )

    def rim_mm(self, mesh: Mesh) -> FloatArray:
        """Thickness of the subcutaneous fat, thinner in front of the upper abdomen; shape (X, Y, 1)."""
        x, y, _ = mesh
        forward = y / np.sqrt(x * x + y * y + np.float32(1.0))
        return np.asarray(np.float32(self.rim) * (1.0 - np.float32(0.22) * forward), dtype=np.float32)

    def cavity_depth(self, mesh: Mesh) -> FloatArray:
        """Distance below the inner surface of the body wall, mm."""
        inner = self.depth(mesh) - self.rim_mm(mesh) - np.float32(self.wall)
        return np.asarray(inner + self.tapered(mesh[2]))

    def diaphragm_z(self, mesh: Mesh) -> FloatArray:
        """Height of the diaphragm, mm; far below in the recess along the wall; shape (X, Y, 1)."""
        x, y, _ = mesh
        across, along = self.scale
        halves: list[FloatArray] = []
        for top, middle, width in ((self.dome_z, 62.0, 66.0), (self.left_dome_z, -64.0, 64.0)):
            u = (x - np.float32(middle * across)) / np.float32(width * across)
            v = (y + np.float32(4.0)) / np.float32(92.0 * along)
            level = np.clip(1.0 - u * u - v * v, 0.0, None)
            height = np.float32(top) - np.float32(DOME_DROP_MM) * (1.0 - np.sqrt(level))
            halves.append(height.astype(np.float32))
        # between the halves the central tendon carries the heart; it lies in front, the crura behind
        tendon_top = 0.5 * (self.dome_z + self.left_dome_z) - 12.0
        tendon = np.float32(tendon_top) - (x / np.float32(55.0)) ** 2 * 8.0 - ((y - 10.0) / 60.0) ** 2 * 26.0
        both = smooth_max(halves[0], halves[1], 14.0)
        return smooth_max(both, tendon.astype(np.float32), 14.0)


def draw_frame(rng: np.random.Generator) -> Frame:
    """Draw a patient's measures: slim to stout, with width, depth and fat rising together (assumed)."""
    stout = float(np.clip(rng.normal(), -2.0, 2.0))
    dome = float(np.clip(rng.normal(49.0, 5.0), 38.0, 58.0))
    return Frame(
        half_width=float(np.clip(rng.normal(146.0 + 6.0 * stout, 4.0), 130.0, 158.0)),
        half_depth=float(np.clip(rng.normal(104.0 + 7.0 * stout, 4.0), 88.0, 118.0)),
        rim=float(np.clip(np.exp(rng.normal(np.log(12.0) + 0.28 * stout, 0.2)), 5.0, 24.0)),
        wall=float(np.clip(rng.normal(12.5, 1.2), 10.0, 15.0)),
        power=float(rng.uniform(2.05, 2.6)),
        dome_z=dome,
        left_dome_z=dome - float(np.clip(rng.normal(9.0, 3.5), 0.0, 17.0)),
        taper=float(rng.uniform(0.5, 3.5)),
        taper_phase=float(rng.uniform(0.0, 2.0 * np.pi)),
        waves=tuple((float(rng.uniform(0.0, 2.2)), float(rng.uniform(0.0, 2.0 * np.pi))) for _ in range(3)),
    )
