"""A slice as radiologists look at it: the patient's right on the left, anterior up, true proportions.

Arrays have the axes (y, x) of a grid that runs to the patient's anterior and right; displayed, both are
turned round.  Positions are millimetres from the upper left corner of the displayed slice, so that a page
and a drawing share them whatever the voxel size.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.imaging.masks import bounding_boxes
from mtinet.reporting.drawing import data_address

WINDOW_PERCENTILE = 99.0
BODY_MARGIN_MM = 6.0
ZOOM_MARGIN_MM = 12.0
SMALLEST_ZOOM_MM = 56.0
ZOOM_ASPECT = 4 / 3
Polygon = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """A rectangle of the displayed slice, mm."""

    left: float
    top: float
    width: float
    height: float


def displayed(plane: NDArray[Any]) -> NDArray[Any]:
    """``plane`` [..., Y, X] in the radiological orientation: rows from anterior, columns from the right."""
    return plane[..., ::-1, ::-1]


def window(images: NDArray[Any], present: NDArray[np.bool_]) -> tuple[float, float]:
    """Black and white level for all phases of a study alike; black is no signal.

    Parameters
    ----------
    images : ndarray [P, ...]
    present : ndarray of bool [P]
    """
    seen = np.asarray(images, dtype=np.float64)[np.asarray(present, dtype=bool)]
    seen = seen[np.isfinite(seen) & (seen > 0)]
    high = float(np.percentile(seen, WINDOW_PERCENTILE)) if seen.size else 1.0
    return 0.0, high


def grey(plane: NDArray[Any], levels: tuple[float, float]) -> str:
    """A displayed slice as a PNG's ``data:`` address, one pixel a voxel, 256 greys."""
    from PIL import Image

    low, high = levels[0], max(levels[1], 1e-6)
    share = (np.nan_to_num(np.asarray(plane, dtype=np.float64)) - low) / (high - low)
    pixels = np.clip(256.0 * share, 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(displayed(pixels))).save(stream, format="png")
    return data_address(stream.getvalue(), "image/png")


def outlines(labels: NDArray[Any], spacing_yx_mm: Sequence[float]) -> list[Polygon]:
    """Closed outlines of every lesion number, each an array [points, (x, y)] in mm of the displayed slice."""
    return [polygon for found in numbered_outlines(labels, spacing_yx_mm).values() for polygon in found]


def numbered_outlines(labels: NDArray[Any], spacing_yx_mm: Sequence[float]) -> dict[int, list[Polygon]]:
    """The closed outlines by lesion number, as in :func:`outlines`."""
    # matplotlib draws its contours with it: figures and axes would be most of the work
    from contourpy import contour_generator

    shown = displayed(labels)
    height, width = spacing_yx_mm[0], spacing_yx_mm[1]
    # the outline runs through the border voxels' outer halves; a margin closes it at the image's edge
    x = (np.arange(-1, shown.shape[1] + 1) + 0.5) * width
    y = (np.arange(-1, shown.shape[0] + 1) + 0.5) * height
    found = {}
    for number, (rows, columns) in bounding_boxes(shown).items():
        inside = np.pad((shown[rows, columns] == number).astype(np.float64), 1)
        near = x[columns.start : columns.stop + 2], y[rows.start : rows.stop + 2]
        lines = contour_generator(*near, inside).lines(0.5)
        found[number] = [np.asarray(line, dtype=np.float64) for line in lines]
    return found


def only(labels: NDArray[Any], numbers: Sequence[int]) -> NDArray[Any]:
    """The labels with every other number taken out."""
    return np.where(np.isin(labels, list(numbers)), labels, 0)


def path_data(polygons: Sequence[Polygon]) -> str:
    """Outlines as the ``d`` of an SVG path."""
    return " ".join("M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in polygon) + "Z" for polygon in polygons)


def size_mm(shape_yx: Sequence[int], spacing_yx_mm: Sequence[float]) -> tuple[float, float]:
    """Width and height of a slice."""
    return float(shape_yx[1] * spacing_yx_mm[1]), float(shape_yx[0] * spacing_yx_mm[0])


def body_box(images: NDArray[Any], present: NDArray[np.bool_], spacing_yx_mm: Sequence[float]) -> Box:
    """The part of the displayed slice that holds the body; all of it where no body stands out."""
    seen = np.nan_to_num(np.asarray(images, dtype=np.float64))[np.asarray(present, dtype=bool)]
    highest = seen.max(0) if len(seen) else np.zeros(images.shape[1:])
    body = displayed(highest > 0.1 * np.percentile(highest, WINDOW_PERCENTILE))
    width, height = size_mm(body.shape, spacing_yx_mm)
    # a row of noise holds a few bright voxels, a row of body many
    columns, rows = np.flatnonzero(body.mean(0) > 0.1), np.flatnonzero(body.mean(1) > 0.1)
    if not len(columns) or not len(rows):
        return Box(0.0, 0.0, width, height)
    left = max(columns[0] * spacing_yx_mm[1] - BODY_MARGIN_MM, 0.0)
    top = max(rows[0] * spacing_yx_mm[0] - BODY_MARGIN_MM, 0.0)
    right = min((columns[-1] + 1) * spacing_yx_mm[1] + BODY_MARGIN_MM, width)
    bottom = min((rows[-1] + 1) * spacing_yx_mm[0] + BODY_MARGIN_MM, height)
    return Box(left, top, right - left, bottom - top)


def zoom_box(polygons: Sequence[Polygon], slice_mm: tuple[float, float]) -> Box | None:
    """A frame of 4 to 3 around the largest outline, or None without one."""
    if not polygons:
        return None
    spans = [(p.min(0), p.max(0)) for p in polygons]
    low, high = max(spans, key=lambda span: float(np.prod(span[1] - span[0])))
    span = high - low + 2 * ZOOM_MARGIN_MM
    width = max(float(span[0]), float(span[1]) * ZOOM_ASPECT, SMALLEST_ZOOM_MM)
    size = np.array([width, width / ZOOM_ASPECT])
    size *= min(1.0, float((np.asarray(slice_mm) / size).min()))
    corner = np.clip((low + high) / 2 - size / 2, 0.0, np.asarray(slice_mm) - size)
    return Box(float(corner[0]), float(corner[1]), float(size[0]), float(size[1]))
