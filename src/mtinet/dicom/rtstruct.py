"""Structures of an RTSTRUCT file on the grid of a volume: contours by parity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtinet.dicom.pieces import MaskError, Piece, Reference, Sources
from mtinet.results import Finding
from mtinet.volume import LPS, SNAP_VOXELS, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def sources_of(dataset: Dataset) -> Sources:
    """Images and series that a structure set refers to."""
    references = [
        Reference(
            str(image.get("ReferencedSOPInstanceUID", "")), int(image.get("ReferencedFrameNumber") or 0)
        )
        for _, contour in _contours(dataset)
        for image in contour.get("ContourImageSequence", [])
    ]
    series_uids, frame_of_reference = [], ""
    for frame in dataset.get("ReferencedFrameOfReferenceSequence", []):
        frame_of_reference = frame_of_reference or str(frame.get("FrameOfReferenceUID", ""))
        for study in frame.get("RTReferencedStudySequence", []):
            for series in study.get("RTReferencedSeriesSequence", []):
                series_uids.append(str(series.get("SeriesInstanceUID", "")))
                if not references:
                    references += [
                        Reference(str(image.get("ReferencedSOPInstanceUID", "")))
                        for image in series.get("ContourImageSequence", [])
                    ]
    return Sources(references, series_uids, frame_of_reference or str(dataset.get("FrameOfReferenceUID", "")))


def pieces_of(dataset: Dataset, grid: Volume, path: Path) -> tuple[list[Piece], list[Finding]]:
    """The structures of a file on a grid; contours that enclose no area are named and left out.

    Raises
    ------
    MaskError
        Contours across or between the slices, damaged ones, or none that encloses a voxel.
    """
    findings: list[Finding] = []
    try:
        pieces = []
        for roi in dataset.StructureSetROISequence:
            number = int(roi.ROINumber)
            name = str(roi.get("ROIName", "") or f"structure {number}")
            contours = [contour for owner, contour in _contours(dataset) if owner == number]
            voxels, left_out = _rasterised(contours, grid, path, name)
            pieces.append(Piece(name, voxels))
            if left_out:
                findings.append(
                    Finding(
                        id="open-contours",
                        stage="import",
                        severity="note",
                        meaning=f"{path.name}: {left_out} contours of {name!r} enclose no area",
                        action="Nothing, unless the structure looks incomplete.",
                    )
                )
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, MaskError):
            raise
        raise MaskError(f"{path} is damaged or incomplete ({error}); export it again") from None
    if next(_contours(dataset), None) is not None and not any(piece.voxels.any() for piece in pieces):
        raise MaskError(
            f"{path}: its contours enclose no voxel of the volume that they belong to; draw them again"
        )
    return pieces, findings


def fill(points: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centres a polygon encloses by the even-odd rule.

    Parameters
    ----------
    points : ndarray, shape (N, 2)
        Corners in pixels; the centre of the first pixel is (0, 0).
    shape : tuple of int

    Returns
    -------
    ndarray of bool
    """
    from skimage.measure import grid_points_in_poly

    filled = np.zeros(shape, dtype=bool)
    low = np.maximum(np.floor(points.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + 1, shape)
    if np.any(high <= low):
        return filled
    box = grid_points_in_poly(tuple(high - low), points - low)  # type: ignore[no-untyped-call]
    filled[low[0] : high[0], low[1] : high[1]] = box
    return filled


def _rasterised(
    contours: list[Dataset], grid: Volume, path: Path, name: str
) -> tuple[NDArray[np.bool_], int]:
    """Voxels of a structure, and how many of its contours enclose no area."""
    voxels = np.zeros(grid.shape, dtype=bool)
    left_out = 0
    to_index = np.linalg.inv(grid.affine) @ LPS
    for contour in contours:
        points = np.asarray(contour.get("ContourData", []), dtype=float)
        if str(contour.get("ContourGeometricType", "")) not in _CLOSED or points.size < 9:
            left_out += 1
            continue
        at = points.reshape(-1, 3) @ to_index[:3, :3].T + to_index[:3, 3]
        if np.ptp(at[:, 2]) > 2 * SNAP_VOXELS:
            raise MaskError(
                f"{path}: contours of {name!r} run across the slices of the volume that they belong to; "
                "export the structure on that series"
            )
        k = round(float(at[:, 2].mean()))
        if not 0 <= k < grid.shape[2]:
            raise MaskError(
                f"{path}: contours of {name!r} lie beyond the volume that they belong to; import the whole "
                "series"
            )
        if abs(float(at[:, 2].mean()) - k) > SNAP_VOXELS:
            # several would meet in one slice and cancel each other by parity
            raise MaskError(
                f"{path}: contours of {name!r} lie between the slices of the volume that they belong to: they were "
                "drawn on another slice spacing; draw or resample the structure on that series"
            )
        voxels[:, :, k] ^= fill(at[:, :2], grid.shape[:2])
    return voxels, left_out


def _contours(dataset: Dataset) -> Iterator[tuple[int, Any]]:
    """Number of the structure and contour."""
    for item in dataset.get("ROIContourSequence", []):
        for contour in item.get("ContourSequence", []):
            yield int(item.get("ReferencedROINumber", -1)), contour
