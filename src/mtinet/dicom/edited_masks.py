"""A mask that somebody edited, on the grid of the image that it was edited on."""

from __future__ import annotations

from pathlib import Path

from mtinet.dicom.headers import MASK_CLASSES
from mtinet.dicom.mask_images import IMAGE_SUFFIXES, read_layers
from mtinet.dicom.masks import MaskError, Piece, number_pieces, place, read_dataset
from mtinet.results import Finding
from mtinet.volume import Volume


def read_edited(path: Path, grid: Volume) -> tuple[Volume, list[Finding]]:
    """Read a mask as 3D Slicer, ITK-SNAP and others write it: NIfTI, NRRD or DICOM SEG.

    Its axes may be permuted and flipped against the grid's, and it may cover a part of it (3D Slicer crops).

    Parameters
    ----------
    path : Path
    grid : Volume
        The image on whose grid it was edited.

    Returns
    -------
    labels : Volume
        ``uint8`` lesion numbers 1..K, in the order of the values or segments.
    findings : list of Finding
        Empty and overlapping segments.

    Raises
    ------
    MaskError
        It cannot be read or lies on another grid.
    """
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        _, affine, named = read_layers(path)
        pieces = [Piece(name, place(voxels, affine, grid, path)) for name, voxels in named]
    else:
        from mtinet.dicom.seg import pieces_of

        dataset = read_dataset(path)
        if MASK_CLASSES[dataset.SOPClassUID] != "SEG":
            raise MaskError(f"{path} is a structure set; export the edited mask as DICOM SEG, NIfTI or NRRD")
        pieces, _ = pieces_of(dataset, grid, path)
    labels, _, findings = number_pieces(path, grid, pieces)
    return labels, findings
