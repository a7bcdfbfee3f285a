"""Numbers and tables of the measurements of certainty, from cases alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from certainty_cases import Answer
from page import markdown
from sklearn.metrics import roc_auc_score

from mtinet.evaluation.calibration import apply_temperature, calibration_scores
from mtinet.evaluation.conformal import Difficulty, Intervals, covered_share, risk_coverage
from mtinet.evaluation.sureness import measures
from mtinet.inference.certainty import Calibration
from mtinet.inference.familiar import Familiarity, Look
from mtinet.inference.predictor import Predictor
from mtinet.results import Certainty, Lesion
from mtinet.workflows.calibrate import (
    LesionCase,
    StudyCase,
    divide,
    fit_calibration,
    log_volume_error,
    signal_error,
)

SPLITS = 20
STREAM_SPLITS = 74

Row = dict[str, Any]
"""``table, what, group, value, low, high, n``; what does not apply is left out."""


def row(table: str, what: str, group: str, value: float, n: int, low: Any = None, high: Any = None) -> Row:
    """A row of ``certainty.csv``."""
    return {"table": table, "what": what, "group": group, "value": value, "low": low, "high": high, "n": n}


# ---------------------------------------------------------------------- coverage
Judged = tuple[StudyCase, LesionCase, Certainty]


def judged(calibration: Calibration, cases: Sequence[StudyCase]) -> list[Judged]:
    """Each study's largest lesion with what the calibration says about it."""
    return [
        (case, case.main, calibration.certainty(case.main.lesion, case.gain))
        for case in cases
        if case.main is not None
    ]


def coverages(found: Sequence[Judged], phases: Sequence[str]) -> dict[str, np.ndarray]:
    """Whether class, volume and curve lie inside, by quantity; only lesions of which the truth is known."""
    held = {
        "class set": np.array([m.label in (c.class_set or ()) for _, m, c in found if m.label], dtype=bool),
        "volume interval": np.array([_within(m.volume_mm3, c.volume_interval_mm3) for _, m, c in found]),
    }
    for phase in phases:
        known = [
            _within(m.enhancement[phase], c.enhancement_interval.get(phase))
            for _, m, c in found
            if phase in m.enhancement and phase in m.lesion.enhancement
        ]
        held[f"{phase} interval"] = np.array(known, dtype=bool)
    return held


def _within(value: float, interval: tuple[float, float] | None) -> bool:
    return interval is None or interval[0] <= value <= interval[1]


def coverage_rows(calibration: Calibration, cases: Sequence[StudyCase], classes: Sequence[str]) -> list[Row]:
    """Coverage of the deployed model's sets and intervals on test patients: all, by class, by site."""
    found = judged(calibration, cases)
    phases = list(calibration.enhancement)
    groups: dict[str, list[Judged]] = {"all": found}
    groups |= {f"class {name}": [j for j in found if j[1].label == name] for name in classes}
    groups |= {f"site {s}": [j for j in found if j[0].site == s] for s in sorted({c.site for c in cases})}
    rows = []
    for group, members in groups.items():
        for what, inside in coverages(members, phases).items():
            rows.append(row("coverage", what, group, *_share(inside)))
        sizes = np.array([len(c.class_set or ()) for _, _, c in members])
        for name, chosen in (("empty", sizes == 0), ("one class", sizes == 1), ("several", sizes > 1)):
            rows.append(row("set size", name, group, float(chosen.mean()), len(sizes)))
        rows.append(row("set size", "mean size", group, float(sizes.mean()), len(sizes)))
    others = [
        (case, lesion, calibration.certainty(lesion.lesion, case.gain))
        for case in cases
        for lesion in case.lesions
        if lesion.is_lesion and lesion is not case.main
    ]
    for what, inside in coverages(others, phases).items():
        rows.append(row("coverage", what, "smaller lesions", *_share(inside)))
    rows += width_rows(calibration, "all", [main.lesion for _, main, _ in found])
    return rows + width_rows(calibration, "smaller lesions", [lesion.lesion for _, lesion, _ in others])


def width_rows(calibration: Calibration, group: str, lesions: Sequence[Lesion]) -> list[Row]:
    """Median width over lesions, with the 10th and 90th percentile as low and high; infinite ones left out."""
    half = [calibration.half_widths(lesion) for lesion in lesions]
    widths = {"volume factor": np.exp([min(volume, 700.0) for volume, _ in half])}
    for phase in calibration.enhancement:
        widths[f"{phase} (share of the gain)"] = np.array([signals[phase] for _, signals in half])
    rows = []
    for what, values in widths.items():
        known = values[np.isfinite(values)]
        low, middle, high = np.percentile(known, [10, 50, 90]) if len(known) else [math.nan] * 3
        rows.append(row("width", what, group, middle, len(known), low, high))
    return rows


def one_width(calibration: Calibration, cases: Sequence[StudyCase], seed: int) -> Calibration:
    """The calibration with one width for all lesions, from the same second part."""
    found = [(case, case.main) for case in divide(cases, seed)[1] if case.main is not None]

    def intervals(errors: Sequence[float]) -> Intervals:
        return Intervals.fit(np.array(errors), np.ones(len(errors)), [""] * len(errors), Difficulty(), ())

    return replace(
        calibration,
        volume=intervals([log_volume_error(main) for _, main in found]),
        enhancement={
            phase: intervals([signal_error(main, phase) / case.gain for case, main in found])
            for phase in calibration.enhancement
        },
    )


def _share(inside: np.ndarray) -> tuple[float, int, float, float]:
    """Covered share, how many lesions, and the share's interval."""
    share, low, high = covered_share(inside)
    return share, len(inside), low, high


def size_rows(calibration: Calibration, group: str, cases: Sequence[StudyCase]) -> list[Row]:
    """Coverage of a calibration on so many patients."""
    held = coverages(judged(calibration, cases), list(calibration.enhancement))
    return [row("sizes", what, group, *_share(inside)) for what, inside in held.items()]


def split_rows(
    predictor: Predictor, learned: Sequence[StudyCase], tested: Sequence[StudyCase], coverage: float
) -> list[Row]:
    """Mean coverage over 20 random divisions of all patients, also with one width for all lesions."""
    every = [*learned, *tested]
    collected: dict[tuple[str, str], list[float]] = {}
    for split in range(SPLITS):
        order = np.random.default_rng([0, STREAM_SPLITS, split]).permutation(len(every))
        shuffled = [every[i] for i in order]
        own, new = shuffled[: len(learned)], shuffled[len(learned) :]
        fitted = fit_calibration(own, predictor, coverage, split)
        for suffix, used in (("", fitted), (", one width", one_width(fitted, own, split))):
            found = judged(used, new)
            groups = {"all": found}
            groups |= {f"class {n}": [j for j in found if j[1].label == n] for n in predictor.classes}
            for group, members in groups.items():
                for what, inside in coverages(members, list(used.enhancement)).items():
                    collected.setdefault((what, group + suffix), []).append(float(inside.mean()))
    return [
        row("splits", what, group, float(np.mean(v)), SPLITS, float(np.min(v)), float(np.max(v)))
        for (what, group), v in collected.items()
    ]


# ---------------------------------------------------------------------- probabilities and risk
def class_table(cases: Sequence[StudyCase], classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """True class and class probabilities of each study's largest lesion of known class."""
    mains = [case.main for case in cases if case.main is not None and case.main.label]
    truth = np.array([classes.index(main.label) for main in mains])
    return truth, np.array([[main.lesion.probabilities[name] for name in classes] for main in mains])


def class_scores(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, calibration error, Brier score and area under risk against coverage."""
    found = measures(np.ones((1, len(truth))), truth, probabilities)
    return {
        "class accuracy": float((probabilities.argmax(1) == truth).mean()),
        "class ECE": found["ece"].item(),
        "class Brier": found["brier"].item(),
        "class risk-coverage area": found["risk_area"].item(),
    }


def risk_rows(calibration: Calibration, tested: Sequence[Answer], classes: Sequence[str]) -> list[Row]:
    """Calibration before and after, and what abstaining buys."""
    cases = [answer.case for answer in tested]
    truth, raw = class_table(cases, classes)
    tempered = apply_temperature(raw, calibration.temperature)
    rows = [row("probability", "temperature", "class", calibration.temperature, len(truth))]
    for name, probabilities in (("raw", raw), ("tempered", tempered)):
        rows += [
            row("probability", what, name, value, len(truth))
            for what, value in class_scores(truth, probabilities).items()
        ]
    share, risk = risk_coverage(tempered.max(1), tempered.argmax(1) != truth)
    for wanted in (0.5, 0.8, 0.9, 1.0):
        place = max(0, math.ceil(wanted * len(share)) - 1)
        rows.append(row("risk", f"{wanted:.0%} answered", "class error", float(risk[place]), place + 1))
    parts = [lesion for case in cases for lesion in case.lesions]
    real = np.array([part.is_lesion for part in parts])
    stated = [calibration.existence_probability(p.lesion.confidence, p.lesion.volume_mm3) for p in parts]
    for name, p in (
        ("mean lesion probability", np.array([part.lesion.confidence for part in parts])),
        ("calibrated", np.array([np.nan if s is None else s for s in stated])),
    ):
        if np.isfinite(p).all() and 0 < real.sum() < len(real):
            both = np.stack([1 - p, p], 1)
            scores = calibration_scores(np.ones((1, len(p))), real.astype(int), both, 10)
            rows.append(row("existence", "ECE", name, scores["ece"].item(), len(p)))
            rows.append(row("existence", "Brier", name, scores["brier"].item() / 2, len(p)))
            rows.append(row("existence", "AUROC", name, float(roc_auc_score(real, p)), len(p)))
    rows.append(
        row("existence", "share of components that are lesions", "all", float(real.mean()), len(real))
    )
    return rows


# ---------------------------------------------------------------------- strange studies
def familiarity_rows(
    familiarity: Familiarity, usual: Sequence[Look], strange: Mapping[str, Sequence[Look]]
) -> list[Row]:
    """Flag rate of ordinary test studies, share of strange ones that is flagged, AUROC of the distance."""

    def flagged(looks: Sequence[Look]) -> np.ndarray:
        return np.array([bool(familiarity.findings(look, "")) for look in looks])

    rows = [row("flags", "flagged", "test patients", *_share(flagged(usual)))]
    own = np.array([familiarity.distance(look) for look in usual])
    grouped: dict[str, list[np.ndarray]] = {}
    for name, looks in strange.items():
        hits = flagged(looks)
        grouped.setdefault(name.partition(":")[0], []).append(hits)
        rows.append(row("flags", "flagged", name, *_share(hits)))
        distances = np.clip([familiarity.distance(look) for look in looks], -1e6, 1e6)
        truth = np.repeat([0, 1], [len(own), len(distances)])
        area = float(roc_auc_score(truth, np.concatenate([own, distances])))
        rows.append(row("flags", "AUROC of the distance", name, area, len(truth)))
    for name, parts in grouped.items():
        if len(parts) > 1:
            rows.append(row("flags", "flagged", name, *_share(np.concatenate(parts))))
    return rows


# ---------------------------------------------------------------------- methods
def compared(methods: Mapping[str, Sequence[Answer]], classes: Sequence[str]) -> list[Row]:
    """Ensemble, dropout and flips beside one network, on the same patients, nothing tempered."""
    rows = []
    for name, found in methods.items():
        cases = [answer.case for answer in found]
        truth, probabilities = class_table(cases, classes)
        for what, value in class_scores(truth, probabilities).items():
            rows.append(row("methods", what, name, value, len(truth)))
        dice = np.array([answer.dice for answer in found])
        known = np.isfinite(dice)
        rows.append(row("methods", "Dice", name, float(dice[known].mean()), int(known.sum())))
        parts = [lesion for case in cases for lesion in case.lesions]
        real = np.array([part.is_lesion for part in parts])
        sure = np.array([part.lesion.confidence for part in parts])
        if 0 < real.sum() < len(real):
            rows.append(
                row("methods", "AUROC of existence", name, float(roc_auc_score(real, sure)), len(real))
            )
        false = float(np.sum(~real) / len(cases))
        rows.append(row("methods", "false components a study", name, false, len(cases)))
        seconds = float(np.median([answer.seconds for answer in found]))
        rows.append(row("methods", "processor seconds a study", name, seconds, len(found)))
    return rows


# ---------------------------------------------------------------------- text
def tables(rows: Sequence[Row]) -> dict[str, str]:
    """The blocks of ``certainty.md`` by name."""
    return {
        "coverage": _wide(rows, "coverage", "patients"),
        "sizes": _wide(rows, "sizes", "patients"),
        "splits": _wide(rows, "splits", "of 20 divisions"),
        "sets": _wide(rows, "set size", "patients"),
        "widths": _long(rows, ("width",)),
        "probability": _long(rows, ("probability", "risk", "existence")),
        "flags": _long(rows, ("flags",)),
        "methods": _wide(rows, "methods", "components"),
    }


def _wide(rows: Sequence[Row], table: str, over: str) -> str:
    """A row a group, a column a quantity."""
    chosen = [r for r in rows if r["table"] == table]
    columns = list(dict.fromkeys(r["what"] for r in chosen))
    body = []
    for group in dict.fromkeys(r["group"] for r in chosen):
        cells = {r["what"]: r for r in chosen if r["group"] == group}
        body.append([group, *(_cell(cells.get(c)) for c in columns), max(r["n"] for r in cells.values())])
    heads = ["", *columns, f"n ({over})"]
    return markdown(heads, body)


def _long(rows: Sequence[Row], names: Sequence[str]) -> str:
    """A row a number."""
    chosen = [r for r in rows if r["table"] in names]
    body = [[r["what"], r["group"], _cell(r), r["n"]] for r in chosen]
    return markdown(["number", "of", "value", "n"], body)


def _cell(found: Row | None) -> str:
    if found is None or found["value"] != found["value"]:
        return ""
    text = f"{found['value']:.3g}"
    return text if found["low"] is None else f"{text} [{found['low']:.3g}, {found['high']:.3g}]"
