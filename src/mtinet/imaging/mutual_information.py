"""Rigid and B-spline motion that raises the mutual information of two volumes, coarse to fine (SimpleITK).

Levels are volumes resampled to larger voxels along each axis that has smaller ones: thick slices stay whole
where the plane is coarsened, which shrinking by one factor for all axes would not do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from mtinet.imaging.deformation import Deformation
from mtinet.imaging.itk import from_itk, rigid_matrix, to_itk
from mtinet.imaging.resampling import grid_with_spacing, resample
from mtinet.volume import LPS, Volume

RIGID_LEVELS_MM = (8.0, 4.0, 2.0)
"""Smallest voxels of each level of the rigid search."""

BSPLINE_LEVELS_MM = (4.0, 2.0)
"""Smallest voxels of each level of the B-spline search."""

FINEST_MM = min(*RIGID_LEVELS_MM, *BSPLINE_LEVELS_MM)

_BINS = 32
_SEED = 20_251
_RIGID_SAMPLES = 20_000
_BSPLINE_SAMPLES = 12_000
_RIGID_ITERATIONS = 60
_BSPLINE_ITERATIONS = 12


class Pair(NamedTuple):
    """Two volumes at one resolution and where they are compared.

    Attributes
    ----------
    fixed, moving : SimpleITK.Image
    inside : SimpleITK.Image or None
        On the grid of ``fixed``; None = everywhere.
    voxels : int
        That are compared.
    """

    fixed: sitk.Image
    moving: sitk.Image
    inside: sitk.Image | None
    voxels: int


def at_least(volume: Volume, spacing_mm: float) -> Volume:
    """The volume with voxels of at least ``spacing_mm`` along each axis."""
    own = volume.spacing_mm
    # an axis that is nearly there keeps its voxels: interpolating them gains nothing
    wanted = [spacing_mm if step < 0.75 * spacing_mm else None for step in own]
    if wanted == [None, None, None]:
        return volume
    return resample(volume, *grid_with_spacing(volume, wanted))


def pair(reference: Volume, moving: Volume, region: Volume | None, spacing_mm: float) -> Pair:
    """Both volumes at one level.

    Parameters
    ----------
    reference, moving : Volume
        Canonical axes.
    region : Volume or None
        Non-zero where they are compared; any grid that covers the reference.
    spacing_mm : float
    """
    fixed, floating = at_least(reference, spacing_mm), at_least(moving, spacing_mm)
    if region is None:
        return Pair(to_itk(fixed), to_itk(floating), None, fixed.array.size)
    inside = resample(region.with_array((region.array != 0).astype(np.float32)), fixed.shape, fixed.affine)
    chosen = inside.array >= 0.5
    mask = to_itk(fixed.with_array(chosen), np.uint8)
    return Pair(to_itk(fixed), to_itk(floating), mask, int(chosen.sum()))


def moved(compared: Pair, matrix: NDArray[np.float64]) -> Pair:
    """The pair with the moving volume brought to the reference's world by a rigid motion (RAS)."""
    moving = sitk.Image(compared.moving)
    rigid = LPS @ matrix @ LPS
    direction = rigid[:3, :3] @ np.reshape(moving.GetDirection(), (3, 3))
    moving.SetDirection(direction.ravel().tolist())
    moving.SetOrigin((rigid[:3, :3] @ moving.GetOrigin() + rigid[:3, 3]).tolist())
    return compared._replace(moving=moving)


def similarity(compared: Pair, transform: sitk.Transform) -> float:
    """Mattes mutual information over all voxels of the region, nats (ITK minimises its negative)."""
    method = _metric(compared, None)
    method.SetInitialTransform(transform)
    return -float(method.MetricEvaluate(compared.fixed, compared.moving))


def find_rigid(levels: Sequence[Pair], axis: int | None = None) -> sitk.Euler3DTransform:
    """Rotation about the middle of the region and translation, from the identity.

    Parameters
    ----------
    levels : sequence of Pair
        From coarse to fine.
    axis : int, optional
        Only turns about this axis and shifts across it.

    Returns
    -------
    SimpleITK.Euler3DTransform
        World of the reference to world of the moving volume (ITK's LPS).
    """
    transform = sitk.Euler3DTransform()
    transform.SetCenter(_middle(levels[-1]))
    for level in levels:
        method = _metric(level, _RIGID_SAMPLES)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=2.0, minStep=1e-2, numberOfIterations=_RIGID_ITERATIONS, relaxationFactor=0.6
        )
        method.SetOptimizerScalesFromPhysicalShift()
        if axis is not None:
            turns = [float(a == axis) for a in range(3)]
            method.SetOptimizerWeights([*turns, *(1.0 - turn for turn in turns)])
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(level.fixed, level.moving)
    return transform


def find_bspline(levels: Sequence[Pair], control_point_mm: float) -> sitk.BSplineTransform:
    """Smooth deformation of the reference's world, from the identity.

    The lattice covers the box around the region only: ITK's cost of an iteration is the number of samples
    times that of all control points.

    Parameters
    ----------
    levels : sequence of Pair
        From coarse to fine, all of one field of view.
    control_point_mm : float
        Largest distance between control points.
    """
    box = _box(levels[-1])
    extent = np.multiply(box.GetSize(), box.GetSpacing())
    mesh = [max(1, int(np.ceil(length / control_point_mm))) for length in extent]
    transform = sitk.BSplineTransformInitializer(box, mesh, order=3)
    for level in levels:
        method = _metric(level, _BSPLINE_SAMPLES)
        method.SetOptimizerAsLBFGSB(
            gradientConvergenceTolerance=1e-6,
            numberOfIterations=_BSPLINE_ITERATIONS,
            maximumNumberOfCorrections=5,
            maximumNumberOfFunctionEvaluations=2 * _BSPLINE_ITERATIONS,
            costFunctionConvergenceFactor=1e10,
        )
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(level.fixed, level.moving)
    return transform  # type: ignore[no-any-return]


def rigid_to_ras(transform: sitk.Euler3DTransform) -> NDArray[np.float64]:
    """World of the moving volume to world of the reference (RAS) by a rigid transform."""
    return np.asarray(np.linalg.inv(LPS @ rigid_matrix(transform) @ LPS), dtype=np.float64)


def bspline_to_ras(transform: sitk.BSplineTransform) -> Deformation:
    """The deformation of a B-spline transform in RAS."""
    images = [from_itk(image) for image in transform.GetCoefficientImages()]
    along = np.stack([image.array for image in images], axis=-1).astype(np.float64)
    return Deformation(along * np.diag(LPS)[:3], images[0].affine)


def bspline_from_ras(transform: sitk.BSplineTransform, deformation: Deformation) -> sitk.BSplineTransform:
    """A B-spline transform on the lattice of ``transform`` with the coefficients of a deformation (RAS)."""
    changed = sitk.BSplineTransform(transform)
    along = deformation.coefficients * np.diag(LPS)[:3]
    changed.SetParameters(np.concatenate([along[..., axis].ravel(order="F") for axis in range(3)]).tolist())
    return changed


def _metric(compared: Pair, samples: int | None) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=_BINS)
    method.SetInterpolator(sitk.sitkLinear)
    if compared.inside is not None:
        method.SetMetricFixedMask(compared.inside)
    if samples is None or samples >= compared.voxels:
        method.SetMetricSamplingStrategy(method.NONE)
    else:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(samples / compared.voxels, _SEED)
    return method


def _box(compared: Pair) -> sitk.Image:
    """The smallest part of the reference that holds the region, with a voxel around it."""
    if compared.inside is None:
        return compared.fixed
    inside = np.argwhere(sitk.GetArrayViewFromImage(compared.inside))
    low = np.maximum(inside.min(axis=0) - 1, 0)[::-1]
    high = np.minimum(inside.max(axis=0)[::-1] + 2, compared.fixed.GetSize())
    return sitk.RegionOfInterest(compared.fixed, (high - low).tolist(), low.tolist())  # type: ignore[no-any-return]


def _middle(compared: Pair) -> list[float]:
    """Centre of the region, in ITK's world."""
    size = compared.fixed.GetSize()
    centre = [(n - 1) / 2 for n in size]
    if compared.inside is not None:
        inside = np.argwhere(sitk.GetArrayViewFromImage(compared.inside))
        centre = [float(c) for c in inside.mean(axis=0)[::-1]]
    return list(compared.fixed.TransformContinuousIndexToPhysicalPoint(centre))
