"""A picture of one prediction: the slice with the largest lesion, its curves and class probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtinet import files
from mtinet.reporting import slices
from mtinet.reporting.drawing import BLUE, FAINT, GREY, INK, STYLE
from mtinet.reporting.kinetics import Curve, paint_kinetics
from mtinet.reporting.words import class_name, count_of, diameter_of, phase_name
from mtinet.results import RESEARCH_USE, Lesion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

MAX_LESIONS = 3
MAX_OUTLINED = 12
OUTLINE = "#ffb000"
SCALE_BAR_MM = 50.0

# Fixed places, as shares of a part: to find them by drawing every text once took a third of the picture's time.
SLICES: dict[str, Any] = {"left": 0.01, "right": 0.99, "wspace": 0.03, "hspace": 0.04}
LESIONS: dict[str, Any] = {
    "left": 0.085, "right": 0.915, "bottom": 0.16, "top": 0.86, "wspace": 0.62, "hspace": 0.55
}  # fmt: skip


def study_picture(
    images: NDArray[Any],
    phases_present: Sequence[bool],
    phases: Sequence[str],
    labels: NDArray[Any],
    spacing_zyx_mm: Sequence[float],
    lesions: Sequence[Lesion],
    path: Path,
    title: str,
) -> None:
    """Write a PNG of a prediction.

    Parameters
    ----------
    images : ndarray [P, Z, Y, X]
        Any one unit for all phases; the grid runs to the patient's right, anterior and superior.
    phases_present : sequence of bool
    phases : sequence of str
    labels : ndarray of int [Z, Y, X]
        Predicted lesion numbers.
    spacing_zyx_mm : sequence of float
    lesions : sequence of Lesion
        From the largest to the smallest (:attr:`mtinet.results.Result.lesions`).
    path : Path
    title : str
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    index = shown_slice(labels, lesions)
    shown = lesions[:MAX_LESIONS]
    plane = np.asarray(images)[:, index]
    outline = slices.only(np.asarray(labels)[index], [lesion.number for lesion in lesions[:MAX_OUTLINED]])
    with rc_context(STYLE):
        figure = Figure(figsize=(11.5, 8.8 if shown else 3.0))
        found = count_of(len(lesions), "lesion") if lesions else "no lesion"
        # a dollar sign in an id would start a formula
        figure.suptitle(f"{title}: {found}, slice {index + 1} of {labels.shape[0]}", y=0.99, parse_math=False)
        figure.supxlabel(_footer(len(lesions) - len(shown)), fontsize=8, color=GREY)
        ratios = [1.1, 1.0] if shown else [1.0]
        parts = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
        _paint_slices(parts[0], plane, np.asarray(phases_present), phases, outline, spacing_zyx_mm[1:])
        if shown:
            _paint_lesions(parts[1], shown, phases)
        with files.atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110, pil_kwargs={"compress_level": 3})


def shown_slice(labels: NDArray[Any], lesions: Sequence[Lesion]) -> int:
    """The slice in which the largest lesion covers most, the middle one without lesion."""
    if lesions:
        area = np.count_nonzero(np.asarray(labels) == lesions[0].number, axis=(1, 2))
        if area.any():
            return int(np.argmax(area))
    return int(labels.shape[0]) // 2


def _footer(left_out: int) -> str:
    more = f"{count_of(left_out, 'smaller lesion')} not shown.  " if left_out else ""
    return f"{more}One window for all phases; R, L: patient's right and left; bar: 5 cm.  {RESEARCH_USE}"


def _paint_slices(
    part: SubFigure,
    planes: NDArray[Any],
    present: NDArray[np.bool_],
    phases: Sequence[str],
    labels: NDArray[Any],
    spacing_yx_mm: Sequence[float],
) -> None:
    """A row of whole slices, and below it one of the largest lesion enlarged."""
    width, height = slices.size_mm(labels.shape, spacing_yx_mm)
    outlines = slices.numbered_outlines(labels, spacing_yx_mm)
    zoom = slices.zoom_box([polygon for found in outlines.values() for polygon in found], (width, height))
    boxes = [box for box in (slices.body_box(planes, present, spacing_yx_mm), zoom) if box is not None]
    levels = slices.window(planes, present)
    # room for the title of the figure above, and below where nothing follows for its footer
    ends = {"top": 0.87, "bottom": 0.02} if len(boxes) > 1 else {"top": 0.8, "bottom": 0.1}
    grid = part.subplots(len(boxes), len(phases), squeeze=False, gridspec_kw=SLICES | ends)
    for column, phase, plane, exists in zip(grid.T, phases, planes, present):
        column[0].set_title(phase_name(phase))
        shown = slices.displayed(np.nan_to_num(np.asarray(plane, dtype=np.float64)))
        for axes, box in zip(column, boxes):
            _frame(axes, box)
            if not exists:
                axes.text(0.5, 0.5, "not acquired", ha="center", transform=axes.transAxes, color=GREY)
                continue
            axes.imshow(
                shown, cmap="gray", vmin=levels[0], vmax=levels[1], extent=(0, width, height, 0),
                interpolation="bilinear",
            )  # fmt: skip
            _paint_outlines(axes, outlines, box)
        if exists:
            _paint_marks(column[0], boxes[0])


def _frame(axes: Axes, box: slices.Box) -> None:
    axes.set(xlim=(box.left, box.left + box.width), ylim=(box.top + box.height, box.top), autoscale_on=False)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _paint_outlines(axes: Axes, outlines: Mapping[int, Sequence[slices.Polygon]], box: slices.Box) -> None:
    from matplotlib.patheffects import withStroke

    for number, polygons in outlines.items():
        for polygon in polygons:
            axes.plot(*polygon.T, color="black", lw=2.4, alpha=0.6)
            axes.plot(*polygon.T, color=OUTLINE, lw=1.3, ls=(0, (4, 1.5)))
        x, y = max(polygons, key=len).max(0)
        if box.left <= x <= box.left + box.width and box.top <= y <= box.top + box.height:
            effects = [withStroke(linewidth=2.5, foreground="black")]
            axes.text(x, y, str(number), color=OUTLINE, fontsize=8, weight="bold", path_effects=effects)


def _paint_marks(axes: Axes, box: slices.Box) -> None:
    for x, side in ((0.02, "R"), (0.98, "L")):
        axes.text(
            x, 0.5, side, transform=axes.transAxes, color="white", weight="bold", va="center",
            ha="left" if side == "R" else "right",
        )  # fmt: skip
    left, bottom = box.left + 0.04 * box.width, box.top + 0.96 * box.height
    axes.plot([left, left + SCALE_BAR_MM], [bottom, bottom], color="white", lw=2)


def _paint_lesions(part: SubFigure, lesions: Sequence[Lesion], phases: Sequence[str]) -> None:
    grid = part.add_gridspec(2, MAX_LESIONS, height_ratios=[2.4, 1.0], **LESIONS)
    for column, lesion in enumerate(lesions):
        curves, bars = (part.add_subplot(grid[row, column]) for row in range(2))
        signal = [Curve("predicted", lesion.enhancement), Curve("measured", lesion.measured)]
        paint_kinetics(curves, phases, signal)
        curves.set_title(_headline(lesion), pad=19, x=-0.14)
        if lesion.is_named:
            _paint_probabilities(bars, lesion)
        else:
            bars.set_axis_off()


def _headline(lesion: Lesion) -> str:
    name = f": {class_name(lesion.label)}" if lesion.is_named else ""
    return f"Lesion {lesion.number}{name}\n{diameter_of(lesion)}"


def _paint_probabilities(axes: Axes, lesion: Lesion) -> None:
    ranked = sorted(lesion.probabilities.items(), key=lambda item: -item[1])
    names, values = [class_name(name) for name, _ in ranked], [100.0 * p for _, p in ranked]
    axes.barh(names, values, color=[BLUE, *[GREY] * (len(values) - 1)], height=0.6)
    for place, value in enumerate(values):
        if math.isfinite(value):
            # Behind the bar, or at its end within where the axes leave no room behind it.
            place_x, side, ink = (value + 1.5, "left", INK) if value < 86 else (value - 1.5, "right", "white")
            axes.text(place_x, place, f"{value:.0f} %", va="center", ha=side, fontsize=7.5, color=ink)
    axes.set(xlim=(0, 100), xlabel="class probability (%)")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_facecolor(FAINT + "40")
