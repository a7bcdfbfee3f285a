"""Registration of a phase to the reference phase: what was found, whether it is trusted, and why.

A rigid motion, then a smooth deformation of what it leaves.  Nothing is interpolated here: the rigid motion
is a change of the volume's affine, and a registered phase is resampled once, together with the deformation
and the change of grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from mtinet.imaging import mutual_information as search
from mtinet.imaging.deformation import Deformation
from mtinet.imaging.itk import one_thread
from mtinet.imaging.liver import Region
from mtinet.imaging.motion import Motion
from mtinet.volume import Volume

Applied = Literal["none", "rigid", "bspline"]
Outcome = Literal["applied", "agrees", "rejected"]

THIN_SLICES = 6
"""With fewer slices only the motion in the plane is estimated: there is no gradient across it."""

MIN_GAIN = 0.002
"""Smallest rise of mutual information (nats) that counts as help."""

MIN_DISPLACEMENT_VOXELS = 0.25
"""A motion that is below so much of the smallest voxel nearly everywhere is not worth an interpolation."""

_NEARLY_EVERYWHERE = 95.0
"""Percent of the region: of a body, the liver is a small part."""

MAX_DISPLACEMENT_MM = 60.0
"""A larger displacement is not breathing: the optimiser has lost its way."""

MIN_COVERED = 0.3
"""Share of the region that a phase has to show to be registered."""

_COVERED_KEPT = 0.8
"""Share of the voxels compared before that still have to be compared after."""


STIFFNESS_MM = 300.0
"""How much a change of volume counts against the deformation that was found: 1 % like 3 mm."""

_STIFF_POINTS = 4000
"""Points of the region that speak for it there: many times the coefficients of a coarse lattice."""


@dataclass(frozen=True)
class Registration:
    """How a phase was moved onto the reference.

    Attributes
    ----------
    applied : {"none", "rigid", "bspline"}
        What the phase is moved by.
    outcome : {"applied", "agrees", "rejected"}
        ``agrees``: the phases lie on each other already.  ``rejected``: a motion was found and is not
        trusted, or none could be found; ``applied`` says what is used instead.
    reason : str
        Why not more was applied; empty where everything asked for was.
    motion : Motion
        The identity where nothing is applied.
    around : {"liver", "body", "image"}
        Where the phases were compared.
    similarity_before, similarity_after : float
        Mattes mutual information with the reference there, nats; larger is better.
    median_mm, max_mm : float
        Displacement there.
    jacobian_min, jacobian_max : float
        Local change of volume there; 1 = none.
    """

    applied: Applied
    outcome: Outcome
    reason: str = ""
    motion: Motion = field(default_factory=Motion)
    around: Literal["liver", "body", "image"] = "image"
    similarity_before: float = float("nan")
    similarity_after: float = float("nan")
    median_mm: float = 0.0
    max_mm: float = 0.0
    jacobian_min: float = 1.0
    jacobian_max: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """The record in JSON's types, without the motion."""
        return {name: value for name, value in vars(self).items() if name != "motion"}


def register(
    moving: Volume,
    reference: Volume,
    region: Region | None = None,
    control_point_mm: float | None = None,
) -> Registration:
    """Find the motion that brings a phase onto the reference.

    Mattes mutual information, several resolutions, seeded sampling, one thread: the same input gives the same
    motion, whatever the machine's number of threads.  A step is taken only if it helps: a rigid motion that
    is not trusted leaves the phase where it is, and a deformation that is not trusted leaves the rigid
    motion.

    Parameters
    ----------
    moving, reference : Volume
        With canonical axes (:meth:`Volume.canonical`).
    region : Region, optional
        Where they are compared; None = everywhere.
    control_point_mm : float, optional
        Distance of the control points of a B-spline deformation after the rigid motion; None = rigid only.

    Returns
    -------
    Registration
    """
    thin = _thin_axis(moving, reference)
    inside = None if region is None or thin is not None else region.volume
    around = "image" if inside is None or region is None else region.around
    compared = (reference, moving)
    if thin is not None:
        slices = _shared_slices(reference, moving, thin)
        if slices is None:
            return _refused("the few slices of the phases do not lie at the same place")
        compared = (_thickened(reference, thin, slices[0]), _thickened(moving, thin, slices[1]))
    covered = _covered(*compared, inside)
    if covered < MIN_COVERED:
        return replace(
            _refused(
                f"it shows {100 * covered:.0f} % of the {around} that the reference shows, too little to "
                "register; export the whole phase"
            ),
            around=around,
        )
    with one_thread():
        attempt = _Attempt(*compared, inside, thin)
        try:
            found = replace(attempt.rigid(), around=around)
            if control_point_mm is None:
                return found
            if thin is not None:
                return replace(
                    found,
                    reason=found.reason or f"fewer than {THIN_SLICES} slices are moved in their plane only",
                )
            return attempt.bspline(found, control_point_mm)
        except RuntimeError as error:
            return replace(_refused(str(error).strip().splitlines()[-1]), around=around)


def _refused(reason: str) -> Registration:
    return Registration("none", "rejected", reason)


class _Attempt:
    """Two volumes at several resolutions, and what is made of a motion that was found between them."""

    def __init__(self, reference: Volume, moving: Volume, region: Volume | None, thin: int | None) -> None:
        sizes = sorted({*search.RIGID_LEVELS_MM, *search.BSPLINE_LEVELS_MM}, reverse=True)
        self.moving = moving
        self.levels = {size: search.pair(reference, moving, region, size) for size in sizes}
        self.thin = thin
        self.grid = search.at_least(reference, search.FINEST_MM)
        finest = self.levels[search.FINEST_MM]
        inside = None if finest.inside is None else sitk.GetArrayFromImage(finest.inside).T
        self.inside = np.ones(self.grid.shape, dtype=bool) if inside is None else inside > 0
        self.points_mm = _world(np.argwhere(self.inside), self.grid.affine)
        self.smallest_mm = min(*reference.spacing_mm, *moving.spacing_mm)

    def similarity(self, transform: sitk.Transform) -> float:
        return search.similarity(self.levels[search.FINEST_MM], transform)

    def rigid(self) -> Registration:
        """The rigid motion, if it helps."""
        before = self.similarity(sitk.Euler3DTransform())
        transform = search.find_rigid([self.levels[size] for size in search.RIGID_LEVELS_MM], self.thin)
        after = self.similarity(transform)
        matrix = search.rigid_to_ras(transform)
        still = Registration("none", "agrees", similarity_before=before, similarity_after=before)
        found = replace(
            still, applied="rigid", outcome="applied", motion=Motion(matrix), similarity_after=after
        )
        found = self._measured(found)
        return self._judged(found, still, self._displacement_mm(found.motion))

    def bspline(self, rigid: Registration, control_point_mm: float) -> Registration:
        """The deformation of what the rigid motion leaves, without its changes of volume, if it helps."""
        levels = [search.moved(self.levels[s], rigid.motion.matrix) for s in search.BSPLINE_LEVELS_MM]
        transform = search.find_bspline(levels, control_point_mm)
        deformation = search.bspline_to_ras(transform)
        lowest = float(self._jacobian(deformation).min())
        if lowest <= 0.0:
            reason = f"the deformation folds (Jacobian determinant {lowest:.2f})"
            return replace(rigid, outcome="rejected", reason=reason)
        every = max(1, len(self.points_mm) // _STIFF_POINTS)
        deformation = deformation.incompressible(self.points_mm[::every], STIFFNESS_MM)
        transform = search.bspline_from_ras(transform, deformation)
        found = replace(
            rigid,
            applied="bspline",
            outcome="applied",
            reason=rigid.reason,
            motion=replace(rigid.motion, deformation=deformation),
            similarity_after=search.similarity(levels[-1], transform),
        )
        found = self._measured(found)
        return self._judged(found, rigid, self._displacement_mm(Motion(deformation=deformation)))

    def _judged(self, found: Registration, instead: Registration, moved_mm: NDArray[Any]) -> Registration:
        """What was found, or what is used instead of it, with the reason."""
        gain = found.similarity_after - instead.similarity_after
        moved = np.percentile(moved_mm, _NEARLY_EVERYWHERE) / self.smallest_mm
        close = moved < MIN_DISPLACEMENT_VOXELS or (gain < MIN_GAIN and moved < 1.0)
        name = {"rigid": "the rigid motion", "bspline": "the deformation"}[found.applied]
        reason = ""
        if close:
            # nothing better was found close by: what came before stands, with its own verdict
            return instead
        if found.max_mm > MAX_DISPLACEMENT_MM:
            reason = f"{name} moves by {found.max_mm:.0f} mm, which is not breathing"
        elif gain < MIN_GAIN:
            reason = f"{name} does not raise the similarity"
        elif self._still_compared(found) < _COVERED_KEPT * self._still_compared(instead):
            reason = f"{name} moves much of the region out of the phase's field of view"
        return replace(instead, outcome="rejected", reason=reason) if reason else found

    def _measured(self, found: Registration) -> Registration:
        moved = self._displacement_mm(found.motion)
        low, high = 1.0, 1.0
        if found.motion.deformation is not None:
            jacobian = self._jacobian(found.motion.deformation)
            low, high = float(jacobian.min()), float(jacobian.max())
        return replace(
            found,
            median_mm=float(np.median(moved)),
            max_mm=float(moved.max()),
            jacobian_min=low,
            jacobian_max=high,
        )

    def _jacobian(self, deformation: Deformation) -> NDArray[np.float64]:
        """Its determinant at the region's voxels."""
        return deformation.jacobian(self.grid.affine, (0, 0, 0), self.grid.shape)[self.inside]

    def _mapped(self, motion: Motion) -> NDArray[np.float64]:
        """Where the region's points of the reference lie in the phase."""
        points = self.points_mm
        if motion.deformation is not None:
            moved = motion.deformation.on_grid(self.grid.affine, (0, 0, 0), self.grid.shape)
            points = points + moved[self.inside]
        return _world(points, np.asarray(np.linalg.inv(motion.matrix), dtype=np.float64))

    def _displacement_mm(self, motion: Motion) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(self._mapped(motion) - self.points_mm, axis=1))

    def _still_compared(self, found: Registration) -> float:
        return covered_fraction(self._mapped(found.motion), self.moving)


def covered_fraction(points_mm: NDArray[np.float64], volume: Volume) -> float:
    """Share of points (n, 3) of the world that lie in a volume's field of view."""
    at = _world(points_mm, np.asarray(np.linalg.inv(volume.affine), dtype=np.float64))
    within = (at >= -0.5) & (at <= np.array(volume.shape) - 0.5)
    return float(within.all(axis=1).mean())


def _covered(reference: Volume, moving: Volume, region: Volume | None) -> float:
    grid = search.at_least(reference if region is None else region, 2 * search.FINEST_MM)
    inside = np.ones(grid.shape, dtype=bool) if region is None else grid.array >= 0.5
    return covered_fraction(_world(np.argwhere(inside), grid.affine), moving) if inside.any() else 0.0


def _world(points: NDArray[Any], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def _thin_axis(moving: Volume, reference: Volume) -> int | None:
    shape = np.minimum(reference.shape, moving.shape)
    return int(shape.argmin()) if shape.min() < THIN_SLICES else None


def _shared_slices(reference: Volume, moving: Volume, axis: int) -> tuple[int, int] | None:
    """The slice of each in the middle of what both show along ``axis``; None if it is less than half one."""
    to_reference = np.linalg.inv(reference.affine) @ moving.affine
    centre = (np.array(moving.shape) - 1) / 2
    step = float(to_reference[axis, axis])
    # where the moving slices lie, in slices of the reference, on the line through the field of view's centre
    first = float((to_reference @ [*centre, 1.0])[axis]) - step * centre[axis]
    last = first + step * (moving.shape[axis] - 1)
    low, high = max(-0.5, first - step / 2), min(reference.shape[axis] - 0.5, last + step / 2)
    if step <= 0 or high - low < 0.5 * min(1.0, step):
        return None
    middle = (low + high) / 2
    places = (middle, (middle - first) / step)
    own, other = (min(max(round(p), 0), v.shape[axis] - 1) for p, v in zip(places, (reference, moving)))
    return own, other


def _thickened(volume: Volume, axis: int, index: int) -> Volume:
    """One slice, repeated: ITK's 3-D filters need several."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (index - THIN_SLICES // 2)
    return Volume(np.repeat(np.take(volume.array, [index], axis), THIN_SLICES, axis), affine)
