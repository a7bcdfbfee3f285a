"""Charts of an experiment: differences, a number's effect, attention, and how the trainings went."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mtinet.evaluation.compared import Comparison, PairedDifference
from mtinet.evaluation.pooling import RowRecords, scored_studies
from mtinet.evaluation.sureness import Sureness
from mtinet.reporting.attention import by_phase
from mtinet.reporting.drawing import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Picture,
    chart,
)
from mtinet.reporting.experiment_tables import QUANTITIES
from mtinet.reporting.words import Quantity, plain_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILLION, SKY, INK, GREY)
DASHES = ("-", "--", ":", "-.")
VERDICT_COLOURS = {"better": GREEN, "worse": VERMILLION, "described": INK}
MAX_CURVES = 8
"""More curves than this cannot be told apart in one chart."""

DISCRIMINATOR = (
    ("TDD: share judged rightly", "accuracy", ("discriminator_accuracy",), 0.5),
    ("TDD: real − fake", "logit gap", ("logit_gap", "discriminator_gap"), 0.0),
    ("TDD: gradient", "norm", ("discriminator_gradient",), None),
)
"""Title, unit, names in the course, and the value that means "cannot tell"."""

PROGRESS = (
    ("Loss", "total", ("total",), None),
    ("Dice on watched studies", "Dice", ("held_out_dice", "dice"), None),
)


# ---------------------------------------------------------------------- differences
def forest_picture(comparison: Comparison, endpoint: str) -> Picture | None:
    """Paired differences from the reference with their 95 % intervals, one line a row; None without any."""
    items = [item for item in comparison.of(endpoint) if math.isfinite(item.difference.value)]
    if not items:
        return None
    quantity = QUANTITIES[endpoint]
    titles = [textwrap.fill(comparison.row(item.row).title, 34) for item in items]

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, lw=1)
        for place, item in enumerate(items):
            _forest_line(axes, place, item, quantity)
        axes.set_yticks(range(len(items)), titles)
        axes.set_ylim(len(items) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        better = {"higher": "right is better", "lower": "left is better"}.get(quantity.better, "0 is best")
        unit = f" ({quantity.unit})" if quantity.unit else ""
        axes.set(title=quantity.label, xlabel=f"difference{unit}; {better}")
        axes.margins(x=0.06)
        axes.locator_params(axis="x", nbins=6)

    listed = "; ".join(
        f"{comparison.row(item.row).title} {quantity.text(item.difference.value)} "
        f"({quantity.interval(item.difference.low, item.difference.high) or 'no interval'}), {item.verdict}"
        for item in items
    )
    lines = sum(title.count("\n") + 1 for title in titles)
    alt = f"{quantity.label}, difference from {comparison.row(comparison.reference).title}: {listed}"
    return chart(paint, alt, (5.4, 0.95 + 0.2 * len(items) + 0.12 * lines))


def _forest_line(axes: Axes, place: int, item: PairedDifference, quantity: Quantity) -> None:
    value, low, high = (
        quantity.factor * v for v in (item.difference.value, item.difference.low, item.difference.high)
    )
    colour = VERDICT_COLOURS.get(item.verdict, GREY)
    if math.isfinite(item.detectable):
        half = quantity.factor * item.detectable
        axes.barh(place, 2 * half, left=-half, height=0.62, color=FAINT, lw=0, zorder=0.5)
    if math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [place, place], color=colour, lw=2.0, solid_capstyle="round")
    hollow = item.verdict in ("no claim", "not distinguishable")
    marker = "D" if item.verdict == "no claim" else "o"
    axes.plot(value, place, marker, color=colour, mfc="white" if hollow else colour, ms=6)


def number_picture(comparison: Comparison, endpoint: str, axis: str) -> Picture | None:
    """An endpoint against the number that the rows vary, with 95 % intervals; None with fewer than two.

    Parameters
    ----------
    comparison : Comparison
    endpoint : str
    axis : str
        What the number is, with its unit.
    """
    placed = [
        row for row in comparison.rows if row.number is not None and math.isfinite(row.values[endpoint].value)
    ]
    if len({row.number for row in placed}) < 2:
        return None
    quantity = QUANTITIES[endpoint]
    curves = list(dict.fromkeys(row.curve for row in placed))

    def paint(axes: Axes) -> None:
        for place, curve in enumerate(curves):
            own = sorted((row for row in placed if row.curve == curve), key=lambda row: row.number or 0.0)
            colour = COLOURS[place % len(COLOURS)]
            x = np.array([row.number for row in own], dtype=np.float64)
            value, low, high = (
                quantity.factor * np.array([getattr(row.values[endpoint], name) for row in own])
                for name in ("value", "low", "high")
            )
            axes.fill_between(x, low, high, color=colour, alpha=0.14, lw=0)
            axes.plot(x, value, "-o", color=colour, ms=4.5, label=curve or None)
            for row in own:
                seeds = list(row.by_seed[endpoint].values())
                if len(seeds) > 1:
                    at = np.full(len(seeds), row.number, dtype=np.float64)
                    axes.plot(at, quantity.factor * np.array(seeds), "_", color=colour)
        if quantity.better == "":
            axes.axhline(0, color=GREY, lw=1)
        axes.set(title=quantity.label, xlabel=axis, ylabel=quantity.unit)
        if len(curves) > 1:
            axes.legend()

    listed = ", ".join(f"{row.number:g}: {quantity.text(row.values[endpoint].value)}" for row in placed)
    return chart(paint, f"{quantity.label} against {axis}: {listed}", (4.2, 3.0))


# ---------------------------------------------------------------------- attention
def attention_table(row: RowRecords) -> pd.DataFrame:
    """Shares by phase of every scored study with attention, a column a phase, and ``group`` right or wrong.

    Studies without a known class, or of a network without classes, have the group ``""``.
    """
    lines = []
    for record in row.records:
        for score in scored_studies(row, record):
            if score.attention:
                known = bool(score.predicted_label) and score.label in record.classes
                right = "right" if score.predicted_label == score.label else "wrong"
                lines.append({**score.attention, "group": right if known else ""})
    return pd.DataFrame(lines)


def attention_picture(row: RowRecords) -> Picture | None:
    """The head's attention by phase, rightly against wrongly classified lesions; None without any."""
    table = attention_table(row)
    if table.empty or not (table["group"] != "").any():
        return None
    known = table[table["group"] != ""]
    values = known.drop(columns="group").astype(float)
    title = textwrap.fill(row.title, 36)
    return by_phase(values, known["group"], title, "attention", 1.0 / values.shape[1])


# ---------------------------------------------------------------------- how sure
def risk_pictures(found: Sequence[Sureness]) -> list[Picture]:
    """Share of wrong classes against the share of lesions that are answered, from the surest on."""
    groups = [found[start : start + MAX_CURVES] for start in range(0, len(found), MAX_CURVES)]
    return [_risks(group) for group in groups]


def _risks(found: Sequence[Sureness]) -> Picture:
    def paint(axes: Axes) -> None:
        for place, one in enumerate(found):
            colour, dashes = COLOURS[place % len(COLOURS)], DASHES[place // 4 % len(DASHES)]
            label = textwrap.fill(one.title, 34)
            axes.plot(100 * one.coverage, 100 * one.risk, dashes, color=colour, label=label)
        axes.set(title="Leaving the unsure out", xlabel="lesions answered (%)", ylabel="of these wrong (%)")
        axes.set_xlim(0, 100)
        axes.set_ylim(bottom=0)
        axes.figure.legend(loc="outside lower left", ncols=1)

    listed = "; ".join(
        f"{one.title}: {100 * one.risk[-1]:.1f} % of all, {100 * one.risk[len(one.risk) // 2]:.1f} % of the surer half"
        for one in found
    )
    alt = f"Share of wrong classes among the lesions that are answered, from the surest on. {listed}"
    return chart(paint, alt, (4.2, 2.8 + 0.2 * len(found)))


# ---------------------------------------------------------------------- courses
def course_table(row: RowRecords, names: Sequence[str]) -> pd.DataFrame:
    """Mean over the row's runs of the first of ``names`` that they logged: ``step, value, low, high``.

    ``low`` and ``high`` are the smallest and largest run.
    """
    parts = [
        pd.DataFrame({"step": record.course.step, "value": record.course.numbers[name]})
        for record in row.records
        if (name := next((n for n in names if n in record.course.numbers), None)) is not None
    ]
    if not parts:
        return pd.DataFrame(columns=["step", "value", "low", "high"])
    known = pd.concat(parts).astype(float).dropna()
    by_step = known.groupby("step")["value"].agg(value="mean", low="min", high="max")
    return by_step.reset_index()


def course_pictures(
    rows: Iterable[RowRecords], wanted: Sequence[tuple[str, str, tuple[str, ...], float | None]]
) -> list[Picture]:
    """Curves over the training of each row, a chart for each of ``wanted`` that any row logged."""
    distinct = distinct_rows(rows)
    pictures = []
    for title, unit, names, level in wanted:
        tables = [(row.title, course_table(row, names)) for row in distinct]
        tables = [(label, table) for label, table in tables if len(table) > 1]
        pictures += [
            _curves(tables[start : start + MAX_CURVES], title, unit, level)
            for start in range(0, len(tables), MAX_CURVES)
        ]
    return pictures


def cosine_pictures(rows: Iterable[RowRecords]) -> list[Picture]:
    """Cosines between the gradients of every two tasks over the training, a chart a row that measured them.

    Below 0 the tasks pull apart.
    """
    pictures = []
    for row in distinct_rows(rows):
        names = sorted({n for r in row.records for n in r.course.numbers if n.startswith("cosine_")})
        tables = [(_pair(name), course_table(row, (name,))) for name in names]
        tables = [(label, table) for label, table in tables if len(table) > 1]
        if tables:
            pictures.append(_curves(tables, row.title, "cosine of gradients", 0.0, (-1.05, 1.05)))
    return pictures


def cosine_summary(rows: Iterable[RowRecords]) -> Picture | None:
    """Where tasks compete: the median and the middle 80 % of each pair's cosine over the training, by row."""
    lines = [
        (row.title, _pair(name), table["value"].quantile([0.1, 0.5, 0.9]).to_numpy())
        for row in distinct_rows(rows)
        for name in sorted({n for r in row.records for n in r.course.numbers if n.startswith("cosine_")})
        if len(table := course_table(row, (name,))) > 1
    ]
    if not lines:
        return None
    titles = list(dict.fromkeys(title for title, _, _ in lines))
    pairs = list(dict.fromkeys(pair for _, pair, _ in lines))

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, lw=1)
        for title, pair, (low, middle, high) in lines:
            rank = pairs.index(pair)
            colour = COLOURS[rank % len(COLOURS)]
            y = titles.index(title) + 0.22 * (rank - (len(pairs) - 1) / 2)
            axes.plot([low, high], [y, y], color=colour, lw=1.8, alpha=0.6)
            axes.plot(middle, y, "osD^v"[rank % 5], color=colour, ms=4.5)
        for rank, pair in enumerate(pairs):
            axes.plot([], [], "osD^v"[rank % 5], color=COLOURS[rank % len(COLOURS)], label=pair)
        axes.set_yticks(range(len(titles)), [textwrap.fill(title, 34) for title in titles])
        axes.set_ylim(len(titles) - 0.4, -0.6)
        axes.set(title="Do the tasks agree?", xlabel="cosine of gradients; below 0 they pull apart")
        axes.set_xlim(-1.05, 1.05)
        axes.set_xticks([-1.0, -0.5, 0.0, 0.5, 1.0])
        axes.grid(visible=False, axis="y")
        axes.figure.legend(loc="outside lower left", ncols=1)

    listed = "; ".join(f"{title}, {pair}: median {values[1]:.2f}" for title, pair, values in lines)
    height = 1.1 + 0.34 * len(titles) + 0.17 * len(pairs)
    return chart(paint, f"Cosines between the tasks' gradients. {listed}", (5.4, height))


def distinct_rows(rows: Iterable[RowRecords]) -> list[RowRecords]:
    """Rows of which none repeats another's runs: rows may read one training in several ways."""
    kept: list[RowRecords] = []
    seen: list[set[str]] = []
    for row in rows:
        ids = {record.id for record in row.records}
        if ids and not any(ids <= earlier for earlier in seen):
            kept.append(row)
            seen.append(ids)
    return kept


def _pair(name: str) -> str:
    return plain_name(name.removeprefix("cosine_")).replace(" ", " / ")


def _curves(
    tables: Sequence[tuple[str, pd.DataFrame]],
    title: str,
    unit: str,
    level: float | None,
    limits: tuple[float, float] | None = None,
) -> Picture:
    labels = [textwrap.fill(label, 30) for label, _ in tables]

    def paint(axes: Axes) -> None:
        if level is not None:
            axes.axhline(level, color=GREY, lw=1, ls="--")
        for place, (label, (_, table)) in enumerate(zip(labels, tables)):
            colour = COLOURS[place % len(COLOURS)]
            dashes = DASHES[place // 4 % len(DASHES)]
            axes.fill_between(table["step"], table["low"], table["high"], color=colour, alpha=0.1, lw=0)
            axes.plot(table["step"], table["value"], dashes, color=colour, label=label)
        axes.set(title=textwrap.fill(title, 44), xlabel="training step", ylabel=unit)
        axes.set_xlim(left=0)
        if limits is not None:
            axes.set_ylim(*limits)
        axes.figure.legend(loc="outside lower left", ncols=columns)

    columns = 2 if len(labels) > 3 and max(map(len, labels)) < 64 else 1
    lines = sum(label.count("\n") + 1 for label in labels) / columns
    last = ", ".join(f"{label} {table['value'].iloc[-1]:.3g}" for label, table in tables)
    return chart(paint, f"{title} over the training; at the end: {last}", (4.2, 2.6 + 0.17 * lines))
