"""A volume is an array with its geometry; NIfTI in and out, orientation.

World coordinates are millimetres in NIfTI's convention: x to the patient's left-to-right (R), y to anterior
(A), z to superior (S).  ``array[i, j, k]`` lies at ``affine @ (i, j, k, 1)``.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mtinet import files
from mtinet.errors import UnusableError

FloatArray = NDArray[np.floating[Any]]

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""World of NIfTI (R, A, S) to that of DICOM and ITK (L, P, S), and back."""

MAX_VOXELS = 512 << 20
"""Voxels of a file beyond which it is a slip of a converter: a sequence of an abdomen has a tenth of them."""

_MOST_COMPRESSED = 250
"""Times that an image, which has noise, may be larger than its file; a mask may be without a lesion."""

_ALWAYS_READ = 64 << 20
"""Bytes up to which compression does not matter."""

EXTENT_MM = (1.0, 2500.0)
"""Longest side of a field of view: metres taken for millimetres are below it, and a whole body has room to spare."""

SNAP_VOXELS = 0.1
"""Distance between a mask's grid and its image's, in voxels, below which they count as the same grid."""

ONE_LABEL_MAP = (
    "a mask has one volume: save one label map with lesions numbered 1, 2, ... (or, of 3D Slicer, .seg.nrrd or DICOM "
    "SEG)"
)
"""Repair of a mask with more axes than three."""


class VolumeError(UnusableError):
    """A file cannot be read as a volume, or its geometry cannot be used; the message names the repair."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D array and the 4 x 4 matrix from voxel indices to world millimetres (RAS).

    Attributes
    ----------
    array : ndarray, shape (X, Y, Z)
    affine : ndarray of float64, shape (4, 4)
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise VolumeError(f"a volume has three axes, not {self.array.ndim} (shape {self.array.shape})")
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64).reshape(4, 4))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three axes."""
        x, y, z = self.array.shape
        return (x, y, z)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along the three axes, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(x), float(y), float(z))

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel, mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def with_array(self, array: NDArray[Any]) -> Volume:
        """Another array of the same shape on this grid."""
        if array.shape != self.array.shape:
            raise VolumeError(f"shape {array.shape} does not fit the grid of shape {self.array.shape}")
        return Volume(array, self.affine)

    def corner_distance_mm(self, other: Volume) -> float:
        """Largest distance between matching corners of the two grids, mm; infinite if the shapes differ."""
        return grid_distance_mm(self.shape, self.affine, other.shape, other.affine)

    def canonical(self) -> Volume:
        """The same voxels with axes permuted and flipped so that they run closest to R, A, S."""
        orientation = nib.orientations.io_orientation(self.affine)
        return self._oriented(orientation)

    def like_axes_of(self, affine: NDArray[np.float64]) -> Volume:
        """The same voxels with axes permuted and flipped to run as those of ``affine`` do."""
        ours = nib.orientations.io_orientation(self.affine)
        wanted = nib.orientations.io_orientation(affine)
        return self._oriented(nib.orientations.ornt_transform(ours, wanted))

    def _oriented(self, orientation: NDArray[Any]) -> Volume:
        array = nib.orientations.apply_orientation(self.array, orientation)
        affine = self.affine @ nib.orientations.inv_ornt_aff(orientation, self.array.shape)
        return Volume(np.ascontiguousarray(array), affine)

    def write_nifti(self, path: Path) -> None:
        """Write ``.nii`` or ``.nii.gz`` atomically; booleans are stored as uint8."""
        array = self.array.astype(np.uint8) if self.array.dtype == np.bool_ else self.array
        image = nib.Nifti1Image(array, self.affine)
        image.set_sform(self.affine, code=1)
        image.set_qform(self.affine, code=1)
        image.header.set_xyzt_units("mm")
        with files.atomic_path(path) as temporary:
            nib.save(image, temporary)


def grid_distance_mm(
    shape_a: Sequence[int], affine_a: FloatArray, shape_b: Sequence[int], affine_b: FloatArray
) -> float:
    """Largest distance between matching corners of two grids, mm; infinite if the shapes differ."""
    if tuple(shape_a) != tuple(shape_b):
        return float("inf")
    corners = np.array([(*c, 1.0) for c in itertools.product(*((0, n - 1) for n in shape_a))])
    return float(np.linalg.norm((corners @ (affine_a - affine_b).T)[:, :3], axis=1).max())


def read_geometry(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape and affine of an image file, without reading its voxels.

    Raises
    ------
    VolumeError
        The file is missing, is not an image, or has no usable geometry.
    """
    image = _open(path)
    return _shape(image, path), _usable_affine(image.affine, path)


def wrong_size(shape: Sequence[int], spacing_mm: Sequence[float]) -> str:
    """Why no image of a body has such voxels; empty where one may.

    Parameters
    ----------
    shape : sequence of int
    spacing_mm : sequence of float
        In millimetres, as NIfTI and DICOM have it.
    """
    sides = [count * step for count, step in zip(shape, spacing_mm, strict=True)]
    if EXTENT_MM[0] <= max(sides) <= EXTENT_MM[1]:
        return ""
    shown, voxel = (" x ".join(f"{value:.4g}" for value in values) for values in (sides, spacing_mm))
    return f"shows {shown} mm with voxels of {voxel} mm, which is no part of a body"


def read_nifti(path: Path, *, labels: bool = False) -> Volume:
    """Read an image file (NIfTI or whatever nibabel reads).

    Parameters
    ----------
    path : Path
    labels : bool
        The file holds a mask, whole numbers from 0: they are returned as ``int32``, and others are an error.

    Returns
    -------
    Volume
        ``float32`` values with the file's scaling applied, or ``int32`` labels.

    Raises
    ------
    VolumeError
        The file is missing, damaged, not 3-D, sheared, of a size that no body has, states more than memory should be
        asked for, or (``labels``) holds anything but whole numbers from 0.
    """
    image = _open(path)
    affine = _usable_affine(image.affine, path)
    shape = _shape(image, path, labels)
    if why := wrong_size(shape, np.linalg.norm(affine[:3, :3], axis=0).tolist()):
        raise VolumeError(
            f"{path} {why}; correct its voxel size (millimetres, not metres or micrometres), or export it again"
        )
    _refuse_swollen(image, path, labels)
    if image.get_data_dtype().kind == "c":
        raise VolumeError(f"{path} holds complex numbers; export the magnitude")
    try:
        array = np.asanyarray(image.dataobj)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise VolumeError(f"{path} is damaged ({error}); export or copy it again") from None
    array = array.reshape(shape)
    if not labels:
        return Volume(np.asarray(array, dtype=np.float32), affine)
    return Volume(label_numbers(array, path), affine)


def label_numbers(array: NDArray[Any], path: Path) -> NDArray[np.int32]:
    """The numbers of a mask, which are whole and not below 0.

    Parameters
    ----------
    array : ndarray
        As they were read.
    path : Path
        Where from, for the message.

    Returns
    -------
    ndarray of int32, same shape

    Raises
    ------
    VolumeError
        A voxel is NaN, infinite, a fraction or negative.
    """
    if unknown := int(array.size - np.count_nonzero(np.isfinite(array))):
        raise VolumeError(
            f"{path} is a mask with {unknown} voxels that are NaN or infinite; write 0 there if they are background"
        )
    rounded = np.rint(array)
    if np.abs(array - rounded).max(initial=0.0) > 1e-3:
        raise VolumeError(
            f"{path} holds fractions where lesion numbers are expected; save it as whole numbers"
        )
    if array.size and (lowest := int(rounded.min())) < 0:
        raise VolumeError(
            f"{path} is a mask with negative numbers (down to {lowest}); lesions are numbered 1, 2, ..., and 0 is "
            "background: correct them"
        )
    return np.asarray(rounded, dtype=np.int32)


def _open(path: Path) -> Any:
    try:
        return nib.load(path)
    except FileNotFoundError:
        raise VolumeError(f"{path} does not exist; correct the path") from None
    except (nib.filebasedimages.ImageFileError, OSError, EOFError, zlib.error) as error:
        raise VolumeError(f"{path} cannot be read as an image ({error}); export or copy it again") from None


def _refuse_swollen(image: Any, path: Path, labels: bool) -> None:
    """Refuse a file whose voxels would take the whole machine, before they are read."""
    voxels = math.prod(image.shape)
    size = voxels * image.get_data_dtype().itemsize
    # of a pair of files that with the voxels
    stored = Path(image.file_map["image"].filename).stat().st_size
    swollen = not labels and size > max(_ALWAYS_READ, _MOST_COMPRESSED * stored)
    if voxels > MAX_VOXELS or swollen:
        shape = " x ".join(map(str, image.shape))
        why = f"more than {MAX_VOXELS >> 20} Mi" if voxels > MAX_VOXELS else f"in {stored} bytes, so no image"
        raise VolumeError(
            f"{path} states {shape} voxels ({why}) and is not read; export it again, or resample it to the scanner's "
            "grid"
        )


def _shape(image: Any, path: Path, labels: bool = False) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3:
        if labels:
            raise VolumeError(f"{path} has shape {shape}; {ONE_LABEL_MAP}")
        raise VolumeError(f"{path} has shape {shape}; split it into one 3-D file a phase")
    return shape[0], shape[1], shape[2]


def _usable_affine(affine: NDArray[Any] | None, path: Path) -> NDArray[np.float64]:
    """The affine, refusing shear; a departure from right angles below a thousandth is taken as rounding."""
    if affine is None or not np.all(np.isfinite(affine)):
        raise VolumeError(f"{path} has no usable geometry; export it with its orientation and spacing")
    affine = np.asarray(affine, dtype=np.float64)
    columns = affine[:3, :3]
    norms = np.linalg.norm(columns, axis=0)
    if norms.min() <= 0:
        raise VolumeError(f"{path} has a voxel size of 0; export it with its spacing")
    cosines = (columns / norms).T @ (columns / norms) - np.eye(3)
    if np.abs(cosines).max() > 0.02:
        raise VolumeError(f"{path} is sheared (axes are not at right angles); resample it to a regular grid")
    return affine
