"""Charts of what the network looks at: attention over phases, weights of the fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mtinet.reporting.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, Picture, chart
from mtinet.reporting.words import class_name, short_phase_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS, MARKERS = (BLUE, ORANGE, GREEN, PURPLE), "os^D"
STREAM_JITTER = 401

KINDS = (
    ("attention", "Head: attention over phases", "attention", None),
    ("tdd_attention", "TDD: attention over phases", "attention", None),
    ("fusion", "{fusion}: weight of the high-frequency map", "weight (the rest: spatial map)", 0.5),
)
"""Prefix of the columns, title, unit, and the value that says "even" (None: one over the phases)."""

FUSIONS = {"mdief": "MdIEF", "attention": "Attention fusion"}
"""Names of the fusions that have weights."""


def attention_pictures(found: pd.DataFrame, phases: Sequence[str], fusion: str) -> list[Picture]:
    """One chart for each kind of weight that the table of found lesions holds.

    Parameters
    ----------
    found : DataFrame
        With any of the columns ``attention_<phase>``, ``tdd_attention_<phase>``, ``fusion_<phase>``.
    phases : sequence of str
    fusion : str
        ``config.fusion``.
    """
    pictures = []
    for prefix, pattern, unit, even in KINDS:
        title = pattern.format(fusion=FUSIONS.get(fusion, fusion))
        columns = {phase: f"{prefix}_{phase}" for phase in phases if f"{prefix}_{phase}" in found}
        values = found[list(columns.values())].astype(float)
        if not columns or not values.notna().any(axis=None):
            continue
        values.columns = pd.Index(columns)
        level = 1.0 / len(columns) if even is None else even
        pictures.append(by_phase(values, found["label"], title, unit, level))
    return pictures


def by_phase(values: pd.DataFrame, labels: pd.Series[str], title: str, unit: str, even: float) -> Picture:
    """A mark a row of ``values`` (columns: phases), a bar for the mean of each group of ``labels``."""
    groups = [name for name in dict.fromkeys(sorted(labels)) if (labels == name).any()]

    def paint(axes: Axes) -> None:
        rng = np.random.default_rng([0, STREAM_JITTER])
        axes.axhline(even, color=GREY, ls="--", lw=1)
        axes.annotate(
            "even",
            (1.01, even),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=7,
            color=GREY,
            annotation_clip=False,
        )
        width = 0.7 / len(groups)
        for place, name in enumerate(groups):
            own = values[labels == name]
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            for x, phase in enumerate(values.columns):
                at = x + (place - (len(groups) - 1) / 2) * width
                points = own[phase].dropna().to_numpy()
                jitter = rng.uniform(-0.25, 0.25, len(points)) * width
                axes.plot(at + jitter, points, marker, color=colour, ms=3, alpha=0.45)
                if len(points):
                    axes.plot([at - 0.4 * width, at + 0.4 * width], [points.mean()] * 2, color=colour, lw=2.5)
            axes.plot([], [], marker, color=colour, ms=4, label=f"{class_name(name)} (n = {len(own)})")
        axes.set_xticks(range(values.shape[1]), [short_phase_name(p) for p in values.columns])
        axes.set(title=title, ylabel=unit)
        axes.set_ylim(bottom=0)
        axes.grid(visible=False, axis="x")
        axes.figure.legend(loc="outside lower center", ncols=2)

    means = ", ".join(f"{short_phase_name(p)} {values[p].mean():.2f}" for p in values.columns)
    return chart(paint, f"{title}; means: {means}")
