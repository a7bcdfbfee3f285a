"""A mask that somebody edited, on the grid of the image that it was edited on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from mtinet.cohort import MAX_LESIONS
from mtinet.dicom import seg
from mtinet.dicom.headers import MASK_CLASSES
from mtinet.dicom.mask_images import IMAGE_SUFFIXES, read_layers
from mtinet.dicom.masks import read_dataset
from mtinet.dicom.pieces import MaskError, Piece, mask_finding, number_pieces, place
from mtinet.results import Finding
from mtinet.volume import Volume

_NUMBERED = re.compile(r"(?:(?:lesion|segment)[ _]?)?0*([1-9]\d*)", re.IGNORECASE)
"""Names that tell a lesion's number: a value of a label map, mtinet's ``Lesion 2``, 3D Slicer's ``Segment_2``."""


def read_edited(path: Path, grid: Volume, after: int = 0) -> tuple[Volume, list[Finding]]:
    """Read a mask as 3D Slicer, ITK-SNAP and others write it: NIfTI, NRRD or DICOM SEG.

    Its axes may be permuted and flipped against the grid's, and it may cover a part of it (3D Slicer crops).  A
    lesion keeps its number: the value of a label map, or that in the name of a segment.

    Parameters
    ----------
    path : Path
    grid : Volume
        The image on whose grid it was edited.
    after : int
        Highest number of a lesion before it was edited; lesions without a number get the next ones.

    Returns
    -------
    labels : Volume
        ``uint8`` lesion numbers, 1 to 255.
    findings : list of Finding
        Empty and overlapping segments, and the numbers of those without one of their own.

    Raises
    ------
    MaskError
        It cannot be read or lies on another grid.
    """
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        _, affine, named = read_layers(path)
        pieces = [Piece(name, place(voxels, affine, grid, path)) for name, voxels in named]
    else:
        dataset = read_dataset(path)
        if MASK_CLASSES[dataset.SOPClassUID] != "SEG":
            raise MaskError(f"{path} is a structure set; export the edited mask as DICOM SEG, NIfTI or NRRD")
        pieces, _ = seg.pieces_of(dataset, grid, path)
    pieces = [replace(piece, number=_number_in(piece.name)) for piece in pieces]
    labels, names, findings = number_pieces(path, grid, pieces, after)
    drawn = [piece for piece in pieces if piece.voxels.any()]
    given = [
        f"{piece.name!r} is lesion {n}" for piece, n in zip(drawn, names, strict=True) if piece.number != n
    ]
    if given:
        meaning = f"segments without a lesion number of their own got the next ones: {', '.join(given)}"
        action = "To number lesions yourself, call segments Lesion 1, Lesion 2, ..., or save a label map."
        findings.append(mask_finding("lesions-numbered", "note", path, meaning, action))
    return labels, findings


def _number_in(name: str) -> int:
    """The lesion number that the name of a segment tells; 0 where it tells none that a lesion can have."""
    found = _NUMBERED.fullmatch(name.strip())
    number = int(found.group(1)) if found else 0
    return number if number <= MAX_LESIONS else 0
