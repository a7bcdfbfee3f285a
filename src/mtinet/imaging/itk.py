"""Volumes for SimpleITK and back; one thread where the result must not depend on their number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from mtinet.volume import LPS, Volume


@contextmanager
def one_thread() -> Iterator[None]:
    """ITK on one thread: with several, sums are formed in another order from call to call."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def to_itk(volume: Volume, dtype: type[np.generic] = np.float32) -> sitk.Image:
    """The volume as an ITK image of another number type."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T, dtype=dtype))
    affine = LPS @ volume.affine
    spacing = np.asarray(volume.spacing_mm)
    # ITK wants right angles exactly: the nearest rotation takes out what rounding left
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((left @ right).ravel().tolist())
    return image


def from_itk(image: sitk.Image) -> Volume:
    """An ITK image as a volume."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return Volume(sitk.GetArrayFromImage(image).T, LPS @ affine)


def rigid_matrix(transform: sitk.Euler3DTransform) -> NDArray[np.float64]:
    """The 4 x 4 matrix of a rigid transform, in ITK's world."""
    rotation = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + np.array(transform.GetTranslation()) - rotation @ centre
    return matrix
