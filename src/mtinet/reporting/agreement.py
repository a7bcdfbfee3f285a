"""Charts of agreement with the reference: methods side by side, enhancement, calibration, size."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mtinet.evaluation.calibration import ReliabilityBin
from mtinet.evaluation.enhancement import agreement, enhancement_values
from mtinet.evaluation.sections import Row
from mtinet.evaluation.tables import is_found
from mtinet.reporting.drawing import BLUE, GREY, INK, ORANGE, Picture, chart
from mtinet.reporting.words import Quantity, number, phase_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def method_picture(
    rows: Sequence[tuple[str, Row]], quantity: Quantity, title: str, unequal: Sequence[str] = ()
) -> Picture:
    """Values with their 95 % intervals, one line a method.

    Parameters
    ----------
    rows : sequence of (label, Row)
        From top to bottom.
    quantity : Quantity
    title : str
    unequal : sequence of str
        Labels of methods that saw more than the others (hollow marks).
    """
    labels = [label for label, _ in rows]

    def paint(axes: Axes) -> None:
        for place, (label, row) in enumerate(rows):
            value, low, high = (quantity.factor * v for v in (row.value, row.low, row.high))
            colour = GREY if label in unequal else BLUE if place == 0 else INK
            if math.isfinite(low) and math.isfinite(high):
                axes.plot(
                    [low, high], [place, place], color=colour, lw=2.2, solid_capstyle="round", alpha=0.55
                )
            axes.plot(value, place, "o", color=colour, ms=7, mfc="white" if label in unequal else colour)
            axes.annotate(
                quantity.text(row.value, unit=False), (value, place), xytext=(0, 7),
                textcoords="offset points", ha="center", fontsize=7.5, color=colour,
            )  # fmt: skip
        axes.set_yticks(range(len(labels)), [textwrap.fill(label, 24) for label in labels])
        axes.set_ylim(len(labels) - 0.4, -0.7)
        axes.grid(visible=False, axis="y")
        axes.set(title=title, xlabel=f"{quantity.unit}, {quantity.better} is better")
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))

    listed = ", ".join(f"{label} {quantity.text(row.value)}" for label, row in rows)
    return chart(paint, f"{title}: {listed}", (4.6, 0.95 + 0.42 * len(rows)))


def bland_altman_pictures(lesions: pd.DataFrame, phases: Sequence[str]) -> tuple[list[Picture], str]:
    """Difference against mean of true and regressed enhancement, one chart a phase; and their unit.

    Relative enhancement where the pre phase gives any (Bland and Altman 1986), raw signal otherwise.
    """
    values = enhancement_values(lesions, phases, "relative")
    unit = "% of pre signal"
    if values.rows.empty:
        values, unit = enhancement_values(lesions, phases, "raw"), "signal, a.u."
    if "head" not in values.rows or values.rows.empty:
        return [], unit
    rows = values.rows[values.rows["head"].notna()]
    order = [phase for phase in phases if phase in set(rows["phase"])]
    return [_bland_altman(rows[rows["phase"] == phase], phase, unit) for phase in order], unit


def _bland_altman(rows: pd.DataFrame, phase: str, unit: str) -> Picture:
    truth, predicted = rows["truth"].to_numpy(np.float64), rows["head"].to_numpy(np.float64)
    found = rows["found"].to_numpy(dtype=bool)
    scores = agreement(np.ones((1, len(rows))), truth, predicted)
    bias, low, high = (float(scores[name][0]) for name in ("bias", "loa_low", "loa_high"))
    mean, difference = (truth + predicted) / 2, predicted - truth

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=GREY, lw=0.8)
        for level, line in ((bias, "-"), (low, "--"), (high, "--")):
            if math.isfinite(level):
                axes.axhline(level, color=ORANGE, lw=1.3, ls=line)
                axes.annotate(
                    number(level, 1), (1.01, level), xycoords=("axes fraction", "data"), va="center",
                    fontsize=7.5, annotation_clip=False,
                )  # fmt: skip
        axes.plot(mean[found], difference[found], "o", color=BLUE, ms=4.5, alpha=0.75)
        axes.plot(mean[~found], difference[~found], "o", color=INK, mfc="none", ms=4.5)
        axes.margins(y=0.15)
        axes.set(
            title=phase_name(phase).capitalize(),
            xlabel=f"mean of truth and regressed ({unit})",
            ylabel="regressed − truth",
        )

    limits = f"limits of agreement {number(low, 1)} to {number(high, 1)}"
    return chart(paint, f"{phase_name(phase)}: bias {number(bias, 1)}, {limits}")


def reliability_picture(bins: Sequence[ReliabilityBin]) -> Picture | None:
    """Share of right classes against the stated probability; None without any prediction."""
    filled = [b for b in bins if b.n]
    if not filled:
        return None

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--", label="perfectly calibrated")
        total = sum(b.n for b in filled)
        axes.bar(
            [(b.low + b.high) / 2 for b in filled], [b.n / total for b in filled],
            width=[0.92 * (b.high - b.low) for b in filled], color=GREY, alpha=0.22, label="share of lesions",
        )  # fmt: skip
        axes.plot([b.confidence for b in filled], [b.accuracy for b in filled], "-o", color=BLUE, ms=5)
        for b in filled:
            axes.text((b.low + b.high) / 2, b.n / total, f"n = {b.n}", ha="center", va="bottom", fontsize=6.5)
        axes.set(
            title="Reliability", xlabel="probability of the predicted class", ylabel="share that was right",
            xlim=(0, 1.02), ylim=(0, 1.06),
        )  # fmt: skip
        axes.legend(loc="upper left")

    listed = "; ".join(f"{b.n} lesions at {b.confidence:.2f}: {b.accuracy:.2f} right" for b in filled)
    return chart(paint, f"Reliability diagram. {listed}", (3.6, 3.2))


def size_pictures(lesions: pd.DataFrame, phases: Sequence[str], edges_mm: Sequence[float]) -> list[Picture]:
    """Overlap, and error of the relative enhancement, against the diameter of the reference lesion."""
    reference = lesions[lesions["reference"].notna()]
    if reference.empty:
        return []
    pictures = [
        _by_size(
            reference["diameter_mm"], reference["dice"], is_found(reference), edges_mm, "Overlap", "Dice"
        )
    ]
    values = enhancement_values(lesions, phases, "relative").rows
    if "head" in values and len(values):
        error = (values["head"] - values["truth"]).abs().groupby(values["study_id"]).mean()
        largest = reference[reference["dominant"]].set_index("study_id")
        known = largest.loc[largest.index.intersection(error.dropna().index)]
        found = known["predicted"].notna()
        unit = "mean error (% of pre signal)"
        pictures.append(
            _by_size(known["diameter_mm"], error[known.index], found, edges_mm, "Enhancement error", unit)
        )
    return pictures


def _by_size(
    diameter_mm: pd.Series[float],
    score: pd.Series[float],
    found: pd.Series[bool],
    edges_mm: Sequence[float],
    title: str,
    unit: str,
) -> Picture:
    x, y, hit = diameter_mm.to_numpy(np.float64), score.to_numpy(np.float64), found.to_numpy(dtype=bool)

    def paint(axes: Axes) -> None:
        for edge in edges_mm:
            axes.axvline(edge, color=GREY, lw=0.8, ls=":")
        axes.plot(x[hit], y[hit], "o", color=BLUE, ms=4.5, alpha=0.75, label="found")
        axes.plot(x[~hit], y[~hit], "o", color=INK, mfc="none", ms=4.5, label="missed")
        axes.set(title=title, xlabel="diameter of the reference lesion (mm)", ylabel=unit)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=-0.03 * max(float(np.nanmax(y)), 1e-6))
        axes.legend()

    return chart(paint, f"{title} against lesion diameter, {len(x)} lesions")
