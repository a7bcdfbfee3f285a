"""Segments of a DICOM segmentation (binary, fractional, label map) on the grid of a volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtinet.dicom.pieces import MaskError, Piece, Reference, Sources, place
from mtinet.dicom.quiet import silence
from mtinet.results import Finding
from mtinet.volume import LPS, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

HALF = 0.5
"""A fractional segment counts from this share on."""


def sources_of(dataset: Dataset) -> Sources:
    """Images that a segmentation refers to: those of its frames, else those of the whole."""
    references = []
    shared = list(dataset.get("SharedFunctionalGroupsSequence", []))
    for group in [*shared, *dataset.get("PerFrameFunctionalGroupsSequence", [])]:
        for derivation in group.get("DerivationImageSequence", []):
            for item in derivation.get("SourceImageSequence", []):
                uid = str(item.get("ReferencedSOPInstanceUID", ""))
                frames = item.get("ReferencedFrameNumber") or 0
                several = (
                    frames if isinstance(frames, (list, tuple)) or hasattr(frames, "__iter__") else [frames]
                )
                references += [Reference(uid, int(frame)) for frame in several]
    listed = dataset.get("ReferencedSeriesSequence", [])
    if not references:
        references = [
            Reference(str(item.ReferencedSOPInstanceUID))
            for series in listed
            for item in series.get("ReferencedInstanceSequence", [])
        ]
    return Sources(
        references=references,
        series_uids=[str(series.get("SeriesInstanceUID", "")) for series in listed],
        frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID", "")),
    )


def pieces_of(dataset: Dataset, grid: Volume, path: Path) -> tuple[list[Piece], list[Finding]]:
    """The segments of a file on a grid.

    Raises
    ------
    MaskError
        Damaged, or off the grid.
    """
    try:
        described = list(dataset.SegmentSequence)
        frames = _frames(dataset, path)
        groups = list(dataset.PerFrameFunctionalGroupsSequence)
        if len(groups) != len(frames):
            raise MaskError(
                f"{path} is damaged: {len(frames)} frames, {len(groups)} described; export it again"
            )
        kind = str(dataset.SegmentationType)
        placed = {int(item.SegmentNumber): np.zeros(grid.shape, dtype=bool) for item in described}
        for frame, group in zip(frames, groups):
            affine = _affine(dataset, group, grid)
            for segment, inside in _segments_in(dataset, kind, frame, group):
                if segment in placed and inside.any():
                    placed[segment] |= place(inside.T[:, :, None], affine, grid, path)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, MaskError):
            raise
        raise MaskError(f"{path} is damaged or incomplete ({error}); export it again") from None
    pieces = []
    for item in described:
        name = str(item.get("SegmentLabel", "") or f"segment {item.SegmentNumber}")
        codes = item.get("SegmentedPropertyTypeCodeSequence", [])
        meaning = ", ".join(str(code.get("CodeMeaning", "")) for code in codes)
        # the background of a label map may be described as segment 0
        if int(item.SegmentNumber) > 0:
            pieces.append(Piece(name, placed[int(item.SegmentNumber)], meaning))
    return pieces, []


def _frames(dataset: Dataset, path: Path) -> NDArray[Any]:
    """Stored values, shape (frames, rows, columns)."""
    try:
        with silence():
            frames = np.asarray(dataset.pixel_array)
    except Exception as error:
        # decoders raise whatever they like on damaged data
        raise MaskError(f"{path}: its frames cannot be decoded ({error}); export it again") from None
    return frames[None] if frames.ndim == 2 else frames


def _segments_in(
    dataset: Dataset, kind: str, frame: NDArray[Any], group: Dataset
) -> list[tuple[int, NDArray[np.bool_]]]:
    """Numbers of the segments that a frame shows, and where."""
    if kind == "LABELMAP":
        return [(int(n), frame == n) for n in np.unique(frame) if n > 0]
    identified = (
        group if "SegmentIdentificationSequence" in group else dataset.SharedFunctionalGroupsSequence[0]
    )
    segment = int(identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    if kind == "FRACTIONAL":
        return [(segment, frame >= HALF * float(dataset.MaximumFractionalValue))]
    return [(segment, frame > 0)]


def _affine(dataset: Dataset, group: Dataset, grid: Volume) -> NDArray[np.float64]:
    """Columns, rows and the grid's own step to RAS: a frame as a slab of one slice."""
    shared = dataset.SharedFunctionalGroupsSequence[0]

    def item(name: str) -> Any:
        return (group if name in group else shared)[name][0]

    position = np.asarray(item("PlanePositionSequence").ImagePositionPatient, dtype=float)
    orientation = np.asarray(item("PlaneOrientationSequence").ImageOrientationPatient, dtype=float)
    down_mm, along_mm = (float(step) for step in item("PixelMeasuresSequence").PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * along_mm
    affine[:3, 1] = orientation[3:] * down_mm
    normal = np.cross(orientation[:3], orientation[3:])
    affine[:3, 3] = position
    affine = LPS @ affine
    # through the frame any step will do that leads to the grid's neighbouring slice
    steps = grid.affine[:3, :3].T @ (LPS[:3, :3] @ normal) / np.asarray(grid.spacing_mm)
    axis = int(np.argmax(np.abs(steps)))
    affine[:3, 2] = grid.affine[:3, axis]
    return affine
