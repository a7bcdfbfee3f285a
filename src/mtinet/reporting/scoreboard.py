"""The results as tables for a reader: which method beats which, with intervals and counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mtinet.evaluation.detection import size_group_names
from mtinet.evaluation.metrics import OUTCOMES
from mtinet.evaluation.sections import ALL, DETECTED_ONLY, NETWORK, SECOND_READER, TWO_READERS, Row
from mtinet.evaluation.summary import Summary
from mtinet.reporting.words import UNKNOWN, Quantity, number, phase_name, sentence, size_group_name

QUANTITIES: dict[str, Quantity] = {
    "dice": Quantity("Dice", "", "higher", 2),
    "iou": Quantity("IoU", "", "higher", 2),
    "hd95_mm": Quantity("HD95", "mm", "lower", 1),
    "nsd": Quantity("NSD", "", "higher", 2),
    "sensitivity": Quantity("lesions found", "%", "higher", 0, 100.0),
    "false_positives_per_study": Quantity("false positives a study", "", "lower", 2),
    "precision": Quantity("predicted components that are lesions", "%", "higher", 0, 100.0),
    "specificity": Quantity("healthy studies left empty", "%", "higher", 0, 100.0),
    "mae_relative": Quantity("mean absolute error, relative enhancement", "% of pre", "lower", 1),
    "mae_raw": Quantity("mean absolute error, raw signal", "a.u.", "lower"),
    "bias_relative": Quantity("bias, relative", "% of pre", "", 1),
    "bias_raw": Quantity("bias, raw", "a.u.", ""),
    "ccc_relative": Quantity("concordance (CCC), relative", "", "higher", 2),
    "ccc_raw": Quantity("concordance (CCC), raw", "", "higher", 2),
    "loa_low_relative": Quantity("lower limit of agreement, relative", "% of pre", "", 1),
    "loa_high_relative": Quantity("upper limit of agreement, relative", "% of pre", "", 1),
    "balanced_accuracy": Quantity("balanced accuracy", "%", "higher", 1, 100.0),
    "accuracy": Quantity("accuracy", "%", "higher", 1, 100.0),
    "macro_f1": Quantity("macro F1", "", "higher", 2),
    "auc": Quantity("AUC", "", "higher", 2),
    "kappa": Quantity("Cohen's kappa", "", "higher", 2),
    "ece": Quantity("expected calibration error", "", "lower", 2),
    "brier": Quantity("Brier score (0 to 2)", "", "lower", 2),
}

METHODS = {
    "head": "regression head",
    NETWORK: "network",
    "read_out": "signal under predicted mask",
    "training_mean": "training mean",
    "logistic_regression": "logistic regression on the measured signal",
    "gradient_boosting": "gradient boosting on the measured signal",
    "majority": "majority class",
}
UNEQUAL = {
    "head" + DETECTED_ONLY: "head, found lesions only",
    "read_out" + DETECTED_ONLY: "signal, found lesions only",
    NETWORK + DETECTED_ONLY: "network, found lesions only",
    "oracle_mask": "head under the reference mask (oracle)",
}
"""Methods that saw other lesions, or more, than those of :data:`METHODS`: not to be compared with them."""

ENHANCEMENT_METRICS = (
    "mae_relative",
    "mae_raw",
    "bias_relative",
    "loa_low_relative",
    "loa_high_relative",
    "ccc_relative",
)
CLASS_METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "auc", "kappa")
MASK_METRICS = ("dice", "iou", "nsd", "hd95_mm")


Key = tuple[str, str, str]
"""Task, metric and group of a row."""


@dataclass(frozen=True)
class Cell:
    """A value with its interval; ``best`` marks the best of the comparable methods."""

    value: str
    interval: str = ""
    n: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes
    ----------
    corner : str
    columns : tuple of str
    unequal : int
        From this column on the methods are not comparable with those before.
    rows : tuple of (str, cells)
    """

    corner: str
    columns: tuple[str, ...]
    unequal: int
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Verdict:
    """What beats what, in a sentence; ``kind`` is better, worse or undecided."""

    kind: str
    text: str


# ---------------------------------------------------------------------- tables
def method_table(summary: Summary, task: str, metrics: Sequence[str]) -> Table | None:
    """Methods side by side, a row a metric; None where nothing was scored."""
    return _table(summary, "", [(label_of(m), (task, m, ALL)) for m in metrics])


def phase_table(summary: Summary, metric: str) -> Table | None:
    """Methods side by side in the enhancement, a row a phase."""
    rows = [(phase_name(phase), ("enhancement", metric, phase)) for phase in summary.phases]
    return _table(summary, label_of(metric), rows)


def _table(summary: Summary, corner: str, wanted: Sequence[tuple[str, Key]]) -> Table | None:
    methods = [m for m in (*METHODS, *UNEQUAL) if any(_find(summary, key, m) for _, key in wanted)]
    if not methods:
        return None
    fair = [m for m in methods if m in METHODS]
    rows = []
    for label, key in wanted:
        found = {m: row for m in methods if (row := _find(summary, key, m)) is not None}
        if not found:
            continue
        best = _best([m for m in fair if m in found], found, QUANTITIES[key[1]])
        cells = (cell(found[m], m == best) if m in found else Cell("") for m in methods)
        rows.append((label, tuple(cells)))
    names = tuple({**METHODS, **UNEQUAL}[m] for m in methods)
    return Table(corner, names, len(fair), tuple(rows)) if rows else None


def mask_table(summary: Summary) -> Table | None:
    """Mask scores over all studies, over those with both masks, and beside a second reader's."""
    columns = {
        (ALL, NETWORK): "all studies with a lesion in either mask",
        ("scored", NETWORK): "both masks have a lesion",
        (TWO_READERS, NETWORK): "network, where a second reader drew",
        (TWO_READERS, SECOND_READER): "second reader there",
        (TWO_READERS, f"{NETWORK}_minus_{SECOND_READER}"): "network minus second reader, paired",
    }
    if summary.find("segmentation", MASK_METRICS[0], SECOND_READER, TWO_READERS) is None:
        columns = {key: title for key, title in columns.items() if key[0] != TWO_READERS}
    rows = []
    for metric in MASK_METRICS:
        found = [summary.find("segmentation", metric, method, group) for group, method in columns]
        if any(row is not None and row.n for row in found):
            cells = tuple(cell(row) if row is not None else Cell("") for row in found)
            rows.append((label_of(metric), cells))
    return Table("", tuple(columns.values()), 1, tuple(rows)) if rows else None


def detection_table(summary: Summary, size_edges_mm: Sequence[float]) -> Table | None:
    """Sensitivity and false positives by size of the lesion."""
    metrics = ("sensitivity", "false_positives_per_study")
    rows = []
    for group in (ALL, *size_group_names(size_edges_mm)):
        found = [summary.find("detection", metric, NETWORK, group) for metric in metrics]
        cells = tuple(cell(row) if row is not None else Cell("") for row in found)
        rows.append(("all sizes" if group == ALL else size_group_name(group), cells))
    return Table("diameter", tuple(label_of(m) for m in metrics), len(metrics), tuple(rows))


def site_table(summary: Summary) -> Table | None:
    """The main scores by site; None for a single site."""
    sites = [site for site in summary.counts if site != ALL]
    if len(sites) < 2:
        return None
    wanted = (
        ("segmentation", "dice", NETWORK),
        ("detection", "sensitivity", NETWORK),
        ("enhancement", "mae_relative", "head"),
        ("enhancement", "mae_raw", "head"),
        ("classification", "balanced_accuracy", NETWORK),
    )
    rows = []
    for site in sites:
        found = [summary.find(task, metric, method, ALL, site) for task, metric, method in wanted]
        studies = Cell(str(sum(summary.counts[site].values())))
        cells = (studies, *(cell(row) if row is not None else Cell(UNKNOWN) for row in found))
        rows.append((site or "unknown", cells))
    columns = ("studies", *(label_of(metric) for _, metric, _ in wanted))
    return Table("site", columns, len(columns), tuple(rows))


def outcome_counts(summary: Summary) -> list[tuple[str, int, str]]:
    """Studies by outcome of the mask, with what it means."""
    meaning = {
        "scored": "lesion in both masks",
        "missed": "lesion not found: Dice 0",
        "hallucinated": "lesion drawn where there is none: Dice 0",
        "absent": "no lesion in either mask: counted, not averaged",
        "unlabelled": "no reference mask",
    }
    counts = summary.counts[ALL]
    return [(outcome, counts.get(outcome, 0), meaning[outcome]) for outcome in OUTCOMES]


def method_rows(summary: Summary, task: str, metric: str) -> list[tuple[str, Row]]:
    """Label and row of each method that has a value, the comparable ones first."""
    found = ((label, summary.find(task, metric, m)) for m, label in {**METHODS, **UNEQUAL}.items())
    return [(label, row) for label, row in found if row is not None and math.isfinite(row.value)]


# ---------------------------------------------------------------------- sentences
def verdicts(summary: Summary) -> list[Verdict]:
    """What beats what, by the paired differences."""
    wanted = (
        ("enhancement", "mae_relative", "head", "training_mean"),
        ("enhancement", "mae_relative", "head", "read_out"),
        ("classification", "balanced_accuracy", NETWORK, "majority"),
        ("classification", "balanced_accuracy", NETWORK, "logistic_regression"),
    )
    found = []
    for task, metric, method, other in wanted:
        row = summary.find(task, metric, f"{method}_minus_{other}")
        if row is not None and math.isfinite(row.value):
            found.append(_verdict(row, QUANTITIES[metric], METHODS[method], METHODS[other]))
    return found


def _verdict(row: Row, quantity: Quantity, method: str, other: str) -> Verdict:
    gain = -row.value if quantity.better == "lower" else row.value
    unit = "percentage points" if quantity.unit.startswith("%") else quantity.unit
    difference = f"{number(row.value * quantity.factor, quantity.digits)} {unit}".strip()
    interval = quantity.interval(row.low, row.high)
    detail = f"{sentence(quantity.label)}: difference {difference}" + (f" ({interval})" if interval else "")
    method = sentence(method)
    if not interval or row.low <= 0 <= row.high:
        return Verdict("undecided", f"{method} and {other} cannot be told apart. {detail}.")
    if gain > 0:
        return Verdict("better", f"{method} beats {other}. {detail}.")
    return Verdict("worse", f"{method} loses against {other}. {detail}.")


# ---------------------------------------------------------------------- cells
def cell(row: Row, best: bool = False) -> Cell:
    """A row of the results as a cell."""
    quantity = QUANTITIES[row.metric]
    return Cell(quantity.text(row.value), quantity.interval(row.low, row.high), f"n = {row.n}", best)


def label_of(metric: str) -> str:
    """A metric for a reader."""
    return QUANTITIES[metric].label


def _find(summary: Summary, key: Key, method: str) -> Row | None:
    task, metric, group = key
    row = summary.find(task, metric, method, group)
    return row if row is not None and row.n else None


def _best(methods: Sequence[str], rows: dict[str, Row], quantity: Quantity) -> str:
    usable = [m for m in methods if math.isfinite(rows[m].value)]
    if not quantity.better or len(usable) < 2:
        return ""
    sign = 1.0 if quantity.better == "higher" else -1.0
    return max(usable, key=lambda m: sign * rows[m].value)
