"""One smooth receive field for all phases of a study, by N4.

Tustison NJ et al., IEEE Trans Med Imaging 2010;29:1310.  A field estimated a phase would take enhancement for
inhomogeneity and remove part of it.  One field is estimated on the phases' geometric mean and divides them
all, so that the ratio of two phases stays voxel by voxel what it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from mtinet.imaging.itk import from_itk, one_thread, to_itk
from mtinet.imaging.masks import body_mask
from mtinet.imaging.resampling import grid_with_spacing, resample
from mtinet.volume import Volume

_COARSE_MM = 5.0
"""The field is smooth: it is estimated on voxels of at least this size."""

_ITERATIONS = (40, 40, 30)
_FIRST_MESH_MM = 200.0
"""Distance of the first level's control points; each further level halves it."""


def common_field(images: Sequence[NDArray[np.float32]], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """The field by which every phase of a study is to be divided.

    Parameters
    ----------
    images : sequence of ndarray, shape (X, Y, Z)
        The phases on one grid; NaN outside a phase's field of view.
    affine : ndarray, shape (4, 4)

    Returns
    -------
    ndarray of float32, same shape
        Positive, with a geometric mean of 1 in the body; 1 everywhere without a body to estimate it from.
    """
    logs = np.zeros(images[0].shape, dtype=np.float32)
    count = np.zeros(images[0].shape, dtype=np.uint8)
    # a phase that covers part of the grid would leave an edge: its own level is taken out first
    for image in images:
        usable = np.isfinite(image) & (image > 0)
        level = float(np.log(np.median(image[usable]))) if usable.any() else 0.0
        logs[usable] += np.log(image[usable]) - level
        count += usable
    mean = np.exp(np.divide(logs, count, out=np.full_like(logs, -np.inf), where=count > 0))
    volume = Volume(mean, affine)
    wanted = [_COARSE_MM if step < _COARSE_MM else None for step in volume.spacing_mm]
    coarse = resample(volume, *grid_with_spacing(volume, wanted))
    body = body_mask(coarse.array)
    if min(coarse.shape) < 2 or not body.any():
        return np.ones(images[0].shape, dtype=np.float32)
    log_field = _n4(coarse, body)
    log_field -= log_field[body].mean()
    fine = resample(Volume(log_field, coarse.affine), volume.shape, affine, fill=np.nan)
    return np.asarray(np.exp(np.nan_to_num(fine.array, nan=0.0)), dtype=np.float32)


def _n4(coarse: Volume, body: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Logarithm of the field, on the grid of ``coarse``."""
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations(list(_ITERATIONS))
    extent = np.multiply(coarse.shape, coarse.spacing_mm)
    correction.SetNumberOfControlPoints([max(1, round(e / _FIRST_MESH_MM)) + 3 for e in extent])
    image = to_itk(coarse)
    with one_thread():
        correction.Execute(image, to_itk(coarse.with_array(body), np.uint8))
        field = correction.GetLogBiasFieldAsImage(image)
    return np.asarray(from_itk(field).array, dtype=np.float32)
