"""What the liver is made of from place to place: texture, fat, fibrous septa.

The amounts are assumed.  Fat is spared in the places where radiologists expect it: beside the gallbladder and
beside the falciform ligament.  In cirrhosis a net of septa surrounds the nodules: it holds more extracellular
space, is darker without agent, and enhances late.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtinet.phantom.anatomy.liver import LiverPlan
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.host import Host
from mtinet.phantom.shapes import BoolArray, Box, Ellipsoid, FloatArray, Lattice, extent, noise
from mtinet.phantom.tissues import Tissue

_TEXTURE_LEVELS = 5
_FAT_LEVELS = (0.25, 0.8, 1.0, 1.2)
"""Fat relative to the liver's fat fraction; the first is focal sparing."""

_SEPTUM_VOLUME = 1.6
"""Distribution volume of septa relative to the liver as a whole."""

SEPTUM = "liver_septum"
PARENCHYMA = ("liver", SEPTUM)
"""Names of the parts that are liver, not vessel and not lesion."""


def draw_parenchyma(
    rng: np.random.Generator, canvas: Canvas, liver: BoolArray, host: Host, plan: LiverPlan
) -> None:
    """Replace the liver's single part by finely mixed kinds of parenchyma."""
    box = extent(liver)
    if box is None:
        return
    base = canvas.tissues[canvas.number("liver")]
    net = _net(rng, canvas, box, host) & liver[box] if host.cirrhosis > 0.0 else None
    nodules = base
    if net is not None:
        # the patient's numbers are those of nodules and septa together
        septa = np.count_nonzero(net) / np.count_nonzero(liver[box])
        volume = (base.distribution_volume - septa * _septum_volume(base)) / (1.0 - septa)
        nodules = replace(base, distribution_volume=volume)
    strength = float(rng.uniform(0.01, 0.035)) * (1.0 + 0.8 * host.cirrhosis)
    scale_mm = float(rng.uniform(2.0, 3.5)) + 1.5 * host.cirrhosis
    lattice = _around(canvas, box, 0.8 * scale_mm)
    mixture = _refined(
        canvas, lattice, 0.75 * noise(rng, lattice, scale_mm) + 0.66 * noise(rng, lattice, 14.0)
    )
    top = _TEXTURE_LEVELS - 1
    level = np.clip(np.rint(mixture * np.float32(top / 3.6) + np.float32(top / 2)), 0, top).astype(np.uint8)
    fat = _fat(rng, canvas, box, host, plan)
    numbers = np.zeros((len(_FAT_LEVELS), _TEXTURE_LEVELS), dtype=np.uint16)
    for row, share in enumerate(_FAT_LEVELS):
        if fat is None and row != 2:
            continue
        for column, z in enumerate(np.linspace(-1.8, 1.8, _TEXTURE_LEVELS)):
            numbers[row, column] = canvas.add(_mixed(nodules, host, share, strength * float(z)))
    chosen = numbers[2][level] if fat is None else numbers[fat, level]
    if net is not None:
        np.copyto(chosen, np.uint16(_add_septum(canvas, base)), where=net)
    np.copyto(canvas.labels[box], chosen, where=liver[box])


def _mixed(base: Tissue, host: Host, fat_share: float, step: float) -> Tissue:
    """Parenchyma with another share of fat, longer or shorter T1, and the volume that goes with it."""
    # with fat suppression the liver has lost about its fat fraction of signal; a place with another share
    # loses that many times as much
    water = 1.0 - host.fat_fraction * fat_share
    return replace(
        base,
        t1_s=base.t1_s * float(np.exp(step)),
        distribution_volume=base.distribution_volume * float(np.exp(-step)),
        proton=base.proton * water / (1.0 - host.fat_fraction),
    )


def _septum_volume(base: Tissue) -> float:
    return min(_SEPTUM_VOLUME * base.distribution_volume, max(0.75, base.distribution_volume))


def _add_septum(canvas: Canvas, base: Tissue) -> int:
    return canvas.add(
        replace(
            base,
            name=SEPTUM,
            t1_s=1.12 * base.t1_s,
            flow_per_min=0.55 * base.flow_per_min,
            distribution_volume=_septum_volume(base),
            uptake_per_min=0.2 * base.uptake_per_min,
        )
    )


def _around(canvas: Canvas, box: Box, step_mm: float) -> Lattice:
    axes = canvas.grid.axes
    low = [float(axis[part.start]) for axis, part in zip(axes, box)]
    high = [float(axis[part.stop - 1]) + 1e-3 for axis, part in zip(axes, box)]
    # a box of one voxel still needs two points
    high = [max(b, a + 1e-2) for a, b in zip(low, high)]
    return Lattice.cover(low, high, max(step_mm, 1.25))


def _refined(canvas: Canvas, lattice: Lattice, values: FloatArray) -> FloatArray:
    return lattice.refine(values.astype(np.float32), canvas.grid)[1]


def _net(rng: np.random.Generator, canvas: Canvas, box: Box, host: Host) -> BoolArray:
    """Thin sheets between nodules: where a smooth field changes its sign."""
    size_mm = float(rng.uniform(2.4, 4.5))
    lattice = _around(canvas, box, size_mm)
    width = np.float32(0.08 + 0.12 * host.cirrhosis)
    # fibrosis is patchy: thin here, confluent there
    patchy = 1.0 + 0.6 * noise(rng, lattice, 18.0)
    sheets = np.abs(_refined(canvas, lattice, noise(rng, lattice, size_mm)))
    return np.asarray(sheets < width * _refined(canvas, lattice, patchy))


def _fat(
    rng: np.random.Generator, canvas: Canvas, box: Box, host: Host, plan: LiverPlan
) -> NDArray[np.uint8] | None:
    """Index of the level of fat for every voxel of the box; None in a liver without fat."""
    if host.fat_fraction < 0.05:
        return None
    lattice = _around(canvas, box, 6.0)
    geographic = noise(rng, lattice, 15.0) * np.float32(rng.uniform(0.2, 1.0))
    spared = np.full(lattice.shape, -1e3, dtype=np.float32)
    if rng.random() < 0.6:
        spared = plan.gallbladder.depth(lattice.mesh) + np.float32(rng.uniform(5.0, 11.0))
    if rng.random() < 0.5:
        teres = plan.fissures[0]
        x, y, z = teres.centre
        side = Ellipsoid((x + rng.choice((-1.0, 1.0)) * 10.0, y, z + 8.0), (9.0, 13.0, 15.0))
        spared = np.maximum(spared, side.depth(lattice.mesh))
    spared = spared + 1.5 * noise(rng, lattice, 6.0)
    wide = _refined(canvas, lattice, geographic)
    level = 1 + (wide > -0.6).astype(np.uint8) + (wide > 0.6).astype(np.uint8)
    level[_refined(canvas, lattice, spared) > 0.0] = 0
    return level
