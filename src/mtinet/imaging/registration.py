"""Rigid registration of a phase to the reference phase, with a record of whether it helped.

A rigid motion is a change of the volume's affine: nothing is interpolated here, and a registered phase is
resampled once, together with the change of grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from mtinet.volume import Volume

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""World of NIfTI (R, A, S) to world of ITK (L, P, S), and back."""

THIN_SLICES = 6
"""With fewer slices only the motion in the plane is estimated: there is no gradient across it."""

MIN_GAIN = 0.002
"""Smallest rise of mutual information (nats) that counts as help."""

MAX_DISPLACEMENT_MM = 60.0
"""A larger displacement is not breathing: the optimiser has lost its way."""

_SEED = 20_251
_SAMPLES = 0.2


@dataclass(frozen=True)
class Registration:
    """How a phase was moved onto the reference.

    Attributes
    ----------
    matrix : ndarray, shape (4, 4)
        World of the phase to world of the reference (RAS, mm); the identity where it was not kept.
    similarity_before, similarity_after : float
        Mattes mutual information with the reference, nats; larger is better.
    displacement_mm : float
        Largest displacement of a corner of the middle half of the reference's field of view.
    kept : bool
        False where the motion found did not help and the phase stays as it was.
    reason : str
        Why it was not kept; empty otherwise.
    """

    matrix: NDArray[np.float64]
    similarity_before: float
    similarity_after: float
    displacement_mm: float
    kept: bool
    reason: str = ""

    def move(self, volume: Volume) -> Volume:
        """A volume of the phase's world in the reference's world."""
        return Volume(volume.array, self.matrix @ volume.affine)

    def to_dict(self) -> dict[str, Any]:
        """The record in JSON's types."""
        return {
            "matrix": self.matrix.tolist(),
            "similarity_before": self.similarity_before,
            "similarity_after": self.similarity_after,
            "displacement_mm": self.displacement_mm,
            "kept": self.kept,
            "reason": self.reason,
        }


def register_rigid(moving: Volume, reference: Volume) -> Registration:
    """Find the rigid motion that brings a phase onto the reference.

    Mattes mutual information, three resolutions, seeded sampling on one thread: the same input gives the same
    motion.

    Parameters
    ----------
    moving, reference : Volume
        With canonical axes (:meth:`Volume.canonical`).

    Returns
    -------
    Registration
        With ``kept=False`` and the identity where the motion does not raise the similarity, is implausibly
        large, or cannot be computed.
    """
    shape = np.minimum(reference.shape, moving.shape)
    thin = int(shape.argmin()) if shape.min() < THIN_SLICES else None
    compared = (reference, moving)
    if thin is not None:
        slices = _shared_slices(reference, moving, thin)
        if slices is None:
            return _left_alone("the few slices of the phases do not lie at the same place")
        compared = (_thickened(reference, thin, slices[0]), _thickened(moving, thin, slices[1]))
    fixed, floating = map(_to_itk, compared)
    start = sitk.Euler3DTransform()
    start.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()]))
    found = sitk.Euler3DTransform(start)
    try:
        with _one_thread():
            before = _similarity(fixed, floating, start)
            _optimiser(thin, fixed, found).Execute(fixed, floating)
            after = _similarity(fixed, floating, found)
    except RuntimeError as error:
        return _left_alone(str(error).strip().splitlines()[-1])
    matrix = np.asarray(np.linalg.inv(_LPS @ _matrix(found) @ _LPS), dtype=np.float64)
    displacement = _displacement_mm(matrix, reference)
    reason = ""
    if after - before < MIN_GAIN:
        reason = "the similarity does not rise"
    elif displacement > MAX_DISPLACEMENT_MM:
        reason = f"a displacement of {displacement:.0f} mm is not breathing"
    kept = not reason
    return Registration(matrix if kept else np.eye(4), before, after, displacement, kept, reason)


def _left_alone(reason: str) -> Registration:
    return Registration(np.eye(4), float("nan"), float("nan"), 0.0, False, reason)


@contextmanager
def _one_thread() -> Iterator[None]:
    """ITK on one thread: with several, sums are formed in another order from call to call."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _optimiser(thin: int | None, fixed: sitk.Image, transform: sitk.Euler3DTransform) -> Any:
    method = _metric()
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SAMPLES, _SEED)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=60, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    if thin is not None:
        turns = [float(axis == thin) for axis in range(3)]
        method.SetOptimizerWeights([*turns, *(1.0 - turn for turn in turns)])
    coarsest = 4 if min(fixed.GetSize()[:2]) >= 128 else 2
    method.SetShrinkFactorsPerLevel([coarsest, 2, 1])
    method.SetSmoothingSigmasPerLevel([4.0, 2.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _metric() -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _similarity(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Mutual information over all voxels (ITK minimises, so its metric is the negative)."""
    method = _metric()
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInitialTransform(transform)
    return -float(method.MetricEvaluate(fixed, moving))


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


def _to_itk(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T, dtype=np.float32))
    affine = _LPS @ volume.affine
    spacing = np.asarray(volume.spacing_mm)
    # ITK wants right angles exactly: the nearest rotation takes out what rounding left
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((left @ right).ravel().tolist())
    return image


def _matrix(transform: sitk.Euler3DTransform) -> NDArray[np.float64]:
    """The 4 x 4 matrix of a rigid transform (ITK: reference world to phase world)."""
    rotation = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + np.array(transform.GetTranslation()) - rotation @ centre
    return matrix


def _displacement_mm(matrix: NDArray[np.float64], reference: Volume) -> float:
    quarter = [((n - 1) * 0.25, (n - 1) * 0.75) for n in reference.shape]
    corners = np.array([(*c, 1.0) for c in itertools.product(*quarter)]) @ reference.affine.T
    return float(np.linalg.norm((corners @ matrix.T - corners)[:, :3], axis=1).max())
