"""Segments of a mask image: NIfTI, NRRD and whatever SimpleITK reads, also those of 3D Slicer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.cohort import MAX_LESIONS
from mtinet.dicom.pieces import BoolArray, MaskError
from mtinet.volume import LPS, MAX_VOXELS, ONE_LABEL_MAP, label_numbers, read_nifti

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Names of mask images end in one of these."""


def read_layers(path: Path) -> tuple[str, NDArray[np.float64], list[tuple[str, BoolArray]]]:
    """Kind, affine (RAS) and named segments of a mask image.

    Raises
    ------
    VolumeError, MaskError
        It cannot be read, states more voxels than any image has, holds anything but whole numbers from 0, or more
        of them than lesions can have.
    """
    if path.name.lower().endswith((".nii", ".nii.gz")):
        volume = read_nifti(path, labels=True)
        return "NIfTI", volume.affine, [(f"{n}", volume.array == n) for n in _values(volume.array, path)]
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        shape = reader.GetSize()
        if len(shape) != 3:
            raise MaskError(f"{path} has {len(shape)} axes; {ONE_LABEL_MAP}")
        # before they are read: they would take the whole machine
        if math.prod(shape) * reader.GetNumberOfComponents() > MAX_VOXELS:
            stated = " x ".join(map(str, shape))
            raise MaskError(
                f"{path} states {stated} voxels and is not read; export it on the grid of its images"
            )
        image = reader.Execute()
    except RuntimeError:
        raise MaskError(f"{path} cannot be read as an image; give NIfTI or NRRD") from None
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    array = SimpleITK.GetArrayFromImage(image)
    layers = array[..., None] if image.GetNumberOfComponentsPerPixel() == 1 else array
    layers = label_numbers(layers.transpose(2, 1, 0, 3), path)
    names = _slicer_segments(image, layers.shape[-1], path)
    if names:
        return "NRRD", LPS @ affine, [(name, layers[..., layer] == value) for name, layer, value in names]
    if layers.shape[-1] > 1:
        raise MaskError(f"{path} holds {layers.shape[-1]} numbers a voxel; save it as one label map")
    return "NRRD", LPS @ affine, [(f"{n}", layers[..., 0] == n) for n in _values(layers, path)]


def _values(array: NDArray[Any], path: Path) -> list[int]:
    values = [int(n) for n in np.unique(array) if n != 0]
    if len(values) > MAX_LESIONS:
        # an image of signals has thousands: each would become a volume
        raise MaskError(
            f"{path} holds {len(values)} different numbers: it is an image, not a mask; remove it"
        )
    return values


def _slicer_segments(image: Any, layers: int, path: Path) -> list[tuple[str, int, int]]:
    """Name, layer and value of each segment that 3D Slicer has written into an NRRD header."""
    keys = set(image.GetMetaDataKeys())
    found: list[tuple[str, int, int]] = []
    while (prefix := f"Segment{len(found)}_") + "LabelValue" in keys:
        name, layer, value = (
            image.GetMetaData(prefix + key) if prefix + key in keys else default
            for key, default in (("Name", prefix[:-1]), ("Layer", "0"), ("LabelValue", "1"))
        )
        if not (layer.isdecimal() and int(layer) < layers and value.isdecimal()):
            raise MaskError(
                f"{path} says of its segment {name} that it has the number {value} in layer {layer}, and it holds "
                f"{layers}; save it again in 3D Slicer"
            )
        found.append((name, int(layer), int(value)))
    return found
