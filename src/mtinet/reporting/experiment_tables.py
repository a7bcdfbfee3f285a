"""The numbers of an experiment as tables: for a program (CSV) and for a reader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mtinet.config.comparison import ComparisonSettings
from mtinet.evaluation.compared import Comparison, PairedDifference, RowSummary
from mtinet.evaluation.occlusion import agreements
from mtinet.evaluation.pooling import RowRecords
from mtinet.evaluation.statistics import NO_ESTIMATE, Estimate
from mtinet.evaluation.sureness import Sureness
from mtinet.reporting.texts import Text
from mtinet.reporting.words import UNKNOWN, Quantity, number

QUANTITIES: dict[str, Quantity] = {
    "enhancement_error": Quantity("Enhancement error, raw", "a.u.", "lower"),
    "relative_error_percent": Quantity("Enhancement error, relative", "% of pre", "lower", 1),
    "dice": Quantity("Dice", "", "higher", 3),
    "iou": Quantity("IoU", "", "higher", 3),
    "nsd": Quantity("NSD", "", "higher", 3),
    "hd95_mm": Quantity("HD95", "mm", "lower", 1),
    "accuracy": Quantity("Accuracy", "%", "higher", 1, 100.0),
    "auroc": Quantity("AUROC", "", "higher", 3),
    "volume_bias_ml": Quantity("Volume, predicted − true", "mL", "", 2),
    "enhancement_bias": Quantity("Enhancement, predicted − true", "a.u.", ""),
}
"""How each endpoint is written."""

SURENESS: dict[str, Quantity] = {
    "ece": Quantity("Calibration error", "", "lower", 3),
    "brier": Quantity("Brier score", "", "lower", 3),
    "risk_area": Quantity("Area under risk against coverage", "", "lower", 3),
}
"""How each measure of sureness is written."""

OCCLUSION_EFFECTS = {
    "class": "probability of the true class falls",
    "enhancement": "enhancement error in the other phases rises",
}


# ---------------------------------------------------------------------- CSV
def to_frame(comparison: Comparison) -> pd.DataFrame:
    """All numbers, one line a row and endpoint; the reference has no difference."""
    lines = []
    for row in comparison.rows:
        for endpoint in (endpoint.name for endpoint in comparison.endpoints):
            reference = row.name == comparison.reference
            against = (
                {"verdict": "reference"} if reference else _against(comparison.difference(row.name, endpoint))
            )
            lines.append({**_own(row, endpoint), **against})
    return pd.DataFrame(lines)


def _own(row: RowSummary, endpoint: str) -> dict[str, Any]:
    value = row.values[endpoint]
    return {
        "row": row.name,
        "title": row.title,
        "number": row.number,
        "curve": row.curve,
        "runs": row.runs,
        "planned": row.planned or None,
        "moved_loss_percent": row.moved["loss_percent"],
        "moved_loss_low": row.moved["loss_low"],
        "moved_loss_high": row.moved["loss_high"],
        "moved_dice_points": row.moved["dice_points"],
        "at_rest": row.at_rest,
        "seeds": " ".join(map(str, row.seeds)),
        "held_out": "; ".join(row.blocks),
        "step_s": row.step_s,
        "endpoint": endpoint,
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "patients": value.n,
        "by_seed": "; ".join(f"{seed}: {mean:.6g}" for seed, mean in row.by_seed[endpoint].items()),
    }


def _against(item: PairedDifference) -> dict[str, Any]:
    return {
        "family": item.family,
        "difference": item.difference.value,
        "difference_low": item.difference.low,
        "difference_high": item.difference.high,
        "paired_patients": item.difference.n,
        "effect": item.effect.value,
        "effect_low": item.effect.low,
        "effect_high": item.effect.high,
        "test": item.test,
        "p": item.p,
        "p_holm": item.p_holm,
        "detectable": item.detectable,
        "verdict": item.verdict,
        "reason": item.reason,
    }


# ---------------------------------------------------------------------- tables of text
def value_table(comparison: Comparison) -> Text:
    """What every row scored by itself."""
    quantities = [QUANTITIES[endpoint.name] for endpoint in comparison.endpoints]
    return Text(
        "Out-of-fold values with 95 % intervals over patients; in braces the seeds one by one",
        ("", "runs", "patients", "s a step", *(_head(quantity) for quantity in quantities)),
        tuple(
            (
                _title(row, comparison.reference),
                _runs(row),
                str(row.patients),
                number(row.step_s),
                *(_value(row, endpoint.name) for endpoint in comparison.endpoints),
            )
            for row in comparison.rows
        ),
    )


def difference_table(comparison: Comparison) -> Text:
    """Every row minus the reference, by endpoint, with test and verdict."""
    return Text(
        f"Differences from {comparison.row(comparison.reference).title}, on patients that both scored",
        (
            "endpoint",
            "row",
            "difference [95 %]",
            "patients",
            "d_z [95 %]",
            "test",
            "p",
            "p, Holm",
            "detectable",
            "verdict",
        ),
        tuple(
            _difference_row(comparison, item)
            for endpoint in comparison.endpoints
            for item in comparison.of(endpoint.name)
        ),
    )


def _difference_row(comparison: Comparison, item: PairedDifference) -> tuple[str, ...]:
    quantity = QUANTITIES[item.endpoint]
    difference, effect = item.difference, item.effect
    verdict = f"{item.verdict} ({item.reason})" if item.reason else item.verdict
    return (
        _head(quantity),
        comparison.row(item.row).title,
        with_interval(quantity, difference.value, difference.low, difference.high),
        str(difference.n),
        with_interval(Quantity("", digits=2), effect.value, effect.low, effect.high),
        item.test or UNKNOWN,
        p_value(item.p),
        p_value(item.p_holm),
        quantity.text(item.detectable, unit=False),
        verdict,
    )


def movement_table(comparison: Comparison) -> Text:
    """How far every row still moved at its end."""
    return Text(
        "Movement over the last fifth of the steps, all runs of a row together",
        ("", "loss (%) [95 %]", "watched Dice (points)", "at rest"),
        tuple(
            (
                row.title,
                _signed(row.moved["loss_percent"], row.moved["loss_low"], row.moved["loss_high"]),
                _signed(row.moved["dice_points"]),
                "yes" if row.at_rest else "no",
            )
            for row in comparison.rows
        ),
    )


def _signed(value: float | None, *interval: float | None) -> str:
    if value is None:
        return UNKNOWN
    # what rounds to 0 has no sign of its own: -0.04 is +0.0
    first, *bounds = (f"{round(part, 1) + 0.0:+.1f}" for part in (value, *interval) if part is not None)
    low_high = f" [{', '.join(bounds)}]" if bounds else ""
    return f"{first}{low_high}".replace("-", "−")


def occlusion_table(rows: Sequence[RowRecords], settings: ComparisonSettings) -> Text | None:
    """Attention against the effect of hiding each phase; None where no row was scored that way."""
    lines = [
        (
            row.title,
            OCCLUSION_EFFECTS[item.effect],
            item.group.replace("-", "−"),
            with_interval(Quantity("", digits=2), item.estimate.value, item.estimate.low, item.estimate.high),
            str(item.estimate.n),
            p_value(item.p),
        )
        for row in rows
        for item in agreements(row, settings)
    ]
    if not lines:
        return None
    return Text(
        "Rank correlation of attention with the effect of hiding each phase, mean over patients",
        ("row", "effect of hiding a phase", "lesions classified", "correlation [95 %]", "patients", "p"),
        tuple(lines),
    )


def sureness_table(found: Sequence[Sureness]) -> Text | None:
    """How well each way of asking knows when it is wrong, and what it costs; None without any."""
    if not found:
        return None

    def cells(estimates: Mapping[str, Estimate]) -> list[str]:
        known = (estimates.get(name, NO_ESTIMATE) for name in SURENESS)
        return [
            with_interval(quantity, e.value, e.low, e.high) for quantity, e in zip(SURENESS.values(), known)
        ]

    heads = [_head(quantity) for quantity in SURENESS.values()]
    lines = [
        (
            one.title,
            str(one.values["ece"].n),
            *cells(one.values),
            *cells(one.differences),
            UNKNOWN if one.study_s is None else number(one.study_s),
        )
        for one in found
    ]
    return Text(
        "How sure, and rightly so? Class probabilities as the networks give them, with 95 % intervals over patients",
        ("", "lesions", *heads, *(f"{head}, difference" for head in heads), "s a study"),
        tuple(lines),
    )


def reading(comparison: Comparison) -> list[str]:
    """How the tables are to be read, a sentence each."""
    settings = comparison.settings
    sizes = {family: comparison.family_size(family) for family in ("primary", "secondary")}
    families = " and ".join(f"the {size} {family}" for family, size in sizes.items() if size)
    corrected = f", over {families} tests" if families else ""
    return [
        "Every study is scored by the run that held it out; a patient counts once, with the mean over its "
        "studies and seeds.",
        f"Tests are paired by patient and two-sided; Holm's procedure keeps the family-wise error of "
        f"each family at {settings.level:g}{corrected}. Primary: enhancement error and Dice; secondary: accuracy "
        "and AUROC; the rest is described, not tested.",
        f"Detectable: the smallest true difference that a test at the first Holm step finds with "
        f"{100 * settings.power:.0f} % power, from the spread of the paired differences. "
        '"Not distinguishable" does not mean equal.',
        "Intervals cover patients, not another training.",
        *comparison.notes,
    ]


# ---------------------------------------------------------------------- words
def p_value(p: float) -> str:
    """A p-value as it is printed."""
    if math.isnan(p):
        return UNKNOWN
    if p < 0.001:
        return "< 0.001"
    # on which side of the level it lies is never rounded away
    return f"{p:.4f}" if f"{p:.3f}" == "0.050" else f"{p:.3f}"


def with_interval(quantity: Quantity, value: float, low: float, high: float) -> str:
    """``0.81 [0.78, 0.84]`` without the unit."""
    if not math.isfinite(value):
        return UNKNOWN
    text = quantity.text(value, unit=False)
    if not (math.isfinite(low) and math.isfinite(high)):
        return text
    return f"{text} [{quantity.text(low, unit=False)}, {quantity.text(high, unit=False)}]"


def _head(quantity: Quantity) -> str:
    return f"{quantity.label} ({quantity.unit})" if quantity.unit else quantity.label


def _title(row: RowSummary, reference: str) -> str:
    marks = ["reference"] if row.name == reference else []
    if not row.at_rest:
        marks.append("not converged")
    return f"{row.title} ({', '.join(marks)})" if marks else row.title


def _runs(row: RowSummary) -> str:
    return f"{row.runs} of {row.planned}" if row.planned > row.runs else str(row.runs)


def _value(row: RowSummary, endpoint: str) -> str:
    quantity, value = QUANTITIES[endpoint], row.values[endpoint]
    text = with_interval(quantity, value.value, value.low, value.high)
    seeds = row.by_seed[endpoint]
    if len(seeds) < 2:
        return text
    return f"{text} {{{', '.join(quantity.text(mean, unit=False) for mean in seeds.values())}}}"
