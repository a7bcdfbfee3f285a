"""Charts of how the training went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from mtinet.config import ObjectiveSettings
from mtinet.reporting.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, Painter, Picture, chart
from mtinet.reporting.words import plain_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, GREY)
SMOOTHING = 25
"""A curve is smoothed over this part of its points (one in so many)."""

Extra = Callable[["Axes"], None]


def learning_pictures(metrics: pd.DataFrame, objective: ObjectiveSettings, steps: int) -> list[Picture]:
    """A chart for each group of numbers that the training recorded.

    Parameters
    ----------
    metrics : DataFrame
        Sparse records with a column ``step``.
    objective : ObjectiveSettings
        Says when the late terms enter.
    steps : int
        Planned steps.
    """
    late = {"tim": objective.tim_from * steps, "adversarial": objective.adversarial_from * steps}
    cosines = [name for name in map(str, metrics) if name.startswith("cosine_")]
    wanted: list[tuple[str, str, Sequence[str], Extra | None]] = [
        ("Total loss", "loss", ["total"], None),
        ("Supervised terms", "loss (unweighted)", ["segmentation", "regression", "classification"], None),
        ("Interaction terms", "loss (unweighted)", ["tim", "adversarial"], _starts(late)),
        ("Dice on held-out studies", "Dice", ["held_out_dice"], _unit_range),
        ("Discriminator", "accuracy", ["discriminator_accuracy"], _accuracy_band),
        ("Discriminator: real − fake", "logit gap", ["discriminator_gap"], _zero),
        ("Do the tasks agree?", "cosine of gradients", cosines, _cosine_range),
        ("Fusion weights", "spread over channels", ["fusion_spread"], _from_zero),
        ("Gradient", "norm before clipping", ["gradient"], _from_zero),
        ("Learning rate", "rate", ["learning_rate"], _from_zero),
    ]
    pictures = []
    for title, unit, names, extra in wanted:
        columns = [name for name in names if name in metrics and metrics[name].notna().sum() > 1]
        if columns:
            alt = f"{title} against training step"
            pictures.append(chart(_curves(metrics, columns, title, unit, extra), alt))
    return pictures


def _curves(
    metrics: pd.DataFrame, columns: Sequence[str], title: str, unit: str, extra: Extra | None
) -> Painter:
    def paint(axes: Axes) -> None:
        for name, colour in zip(columns, COLOURS * len(columns)):
            known = metrics[["step", name]].dropna()
            sparse = len(known) < 2 * SMOOTHING
            if sparse:
                axes.plot(known["step"], known[name], "-o", ms=3, color=colour, label=_label(name))
                continue
            width = len(known) // SMOOTHING
            smooth = known[name].rolling(width, min_periods=1, center=True).mean()
            axes.plot(known["step"], known[name], color=colour, lw=0.6, alpha=0.35)
            axes.plot(known["step"], smooth, color=colour, label=_label(name))
        axes.set(title=title, xlabel="training step", ylabel=unit, xlim=(0, metrics["step"].max()))
        if extra is not None:
            extra(axes)
        if len(columns) > 1 or columns[0].startswith("cosine_"):
            axes.legend()

    return paint


def _label(name: str) -> str:
    if name.startswith("cosine_"):
        return plain_name(name.removeprefix("cosine_")).replace(" ", " / ")
    return {"tim": "TIM (read-out)", "adversarial": "TDD (adversarial)"}.get(name, plain_name(name))


def _starts(late: dict[str, float]) -> Extra:
    def extra(axes: Axes) -> None:
        for step in sorted({value for value in late.values() if value > 0}):
            axes.axvline(step, color=GREY, ls=":", lw=1)
            axes.annotate(
                "enter here", (step, 0.02), xycoords=("data", "axes fraction"), fontsize=7, color=GREY,
                xytext=(3, 0), textcoords="offset points",
            )  # fmt: skip

    return extra


def _unit_range(axes: Axes) -> None:
    axes.set_ylim(0, 1)


def _from_zero(axes: Axes) -> None:
    axes.set_ylim(bottom=0)


def _zero(axes: Axes) -> None:
    axes.axhline(0, color=GREY, lw=1)


def _cosine_range(axes: Axes) -> None:
    axes.set_ylim(-1.05, 1.05)
    axes.axhline(0, color=GREY, lw=1)


def _accuracy_band(axes: Axes) -> None:
    axes.set_ylim(0, 1.02)
    for level, text in ((0.5, "chance"), (0.95, "saturated")):
        axes.axhline(level, color=GREY, lw=1, ls="--")
        axes.annotate(
            text,
            (1, level),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=7,
            color=GREY,
        )
