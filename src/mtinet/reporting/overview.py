"""The parts of a report that say what was done: key figures, findings, cohort, settings."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mtinet import config as settings
from mtinet.config import Config
from mtinet.evaluation.sections import ALL, NETWORK, Row
from mtinet.evaluation.summary import Summary
from mtinet.reporting.inputs import Evaluated
from mtinet.reporting.scoreboard import QUANTITIES
from mtinet.reporting.words import UNKNOWN, class_name, count_of, number, phase_name, sentence, spoken
from mtinet.results import Finding

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class KeyFigure:
    """One of the numbers at the head of the report."""

    label: str
    value: str
    unit: str
    interval: str
    note: str


@dataclass(frozen=True)
class FindingGroup:
    """Findings of one kind: one of them in full, and how the others of the kind put it.

    Attributes
    ----------
    finding : Finding
        The first.
    cases : tuple of str
        Studies of which its very words are true.
    others : tuple of (str, tuple of str)
        Further meanings, as sentences (with the repair where it is another), each with its studies.
    """

    finding: Finding
    cases: tuple[str, ...]
    others: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def meaning(self) -> str:
        """What is wrong, as a sentence."""
        return _as_sentence(self.finding)

    @property
    def measure(self) -> str:
        """Value against threshold, empty where there is none."""
        if self.finding.value is None:
            return ""
        limit = "" if self.finding.threshold is None else f", limit {self.finding.threshold:.3g}"
        return f"value {self.finding.value:.3g}{limit}"


@dataclass(frozen=True)
class CohortSummary:
    """Who trained and who was scored.

    Attributes
    ----------
    facts : tuple of (name, value)
    classes : tuple of str
        Columns of ``sites``.
    sites : tuple of (site, counts)
        Scored studies by class; the last row is the total.
    warnings : tuple of str
    """

    facts: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]
    sites: tuple[tuple[str, tuple[int, ...]], ...]
    warnings: tuple[str, ...]


# ---------------------------------------------------------------------- key figures
def key_figures(summary: Summary) -> list[KeyFigure]:
    """Dice, lesions found, class and enhancement, each with what it must be read against."""
    counts = summary.counts[ALL]
    zeros = f"{counts.get('missed', 0)} missed, {counts.get('hallucinated', 0)} hallucinated (Dice 0)"
    false = summary.find("detection", "false_positives_per_study")
    majority = _beside(summary.find("classification", "accuracy", "majority"), "always naming the majority")
    mean = _beside(summary.find("enhancement", "mae_relative", "training_mean"), "training mean instead")
    raw = _beside(summary.find("enhancement", "mae_raw", "head"), "raw signal")
    return [
        _figure("Dice", summary.find("segmentation", "dice"), zeros),
        _figure(
            "Lesions found",
            summary.find("detection", "sensitivity"),
            _beside(false, "false positives a study"),
        ),
        _figure("Class accuracy", summary.find("classification", "accuracy"), majority),
        _figure(
            "Enhancement error",
            summary.find("enhancement", "mae_relative", "head"),
            "; ".join(part for part in (mean, raw) if part),
        ),
    ]


def _figure(label: str, row: Row | None, note: str) -> KeyFigure:
    if row is None or not math.isfinite(row.value):
        return KeyFigure(label, UNKNOWN, "", "", "not scored")
    quantity = QUANTITIES[row.metric]
    interval = quantity.interval(row.low, row.high)
    value = quantity.text(row.value, unit=False)
    return KeyFigure(label, value, quantity.unit, interval and f"95 % interval {interval}", note)


def _beside(row: Row | None, label: str) -> str:
    if row is None or not math.isfinite(row.value):
        return ""
    return f"{label}: {QUANTITIES[row.metric].text(row.value)}"


# ---------------------------------------------------------------------- findings
def grouped_findings(findings: Iterable[Finding]) -> list[FindingGroup]:
    """Findings of one id and stage together, errors first; what only some of them say is told of those alone."""
    groups: dict[tuple[str, str, str], dict[tuple[str, str], list[Finding]]] = {}
    for finding in findings:
        kind = groups.setdefault((finding.severity, finding.stage, finding.id), {})
        kind.setdefault((_as_sentence(finding), finding.action), []).append(finding)
    ordered = sorted(groups.items(), key=lambda kind: SEVERITIES.index(kind[0][0]))
    return [_group(wordings) for _, wordings in ordered]


def _group(wordings: Mapping[tuple[str, str], Sequence[Finding]]) -> FindingGroup:
    (_, first), *rest = wordings.items()
    repair = first[0].action
    others = (
        (meaning if action == repair else f"{meaning}. {action}", _cases(said))
        for (meaning, action), said in rest
    )
    return FindingGroup(first[0], _cases(first), tuple(others))


def _as_sentence(finding: Finding) -> str:
    return sentence(spoken(finding.meaning))


def _cases(findings: Iterable[Finding]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(finding.case for finding in findings if finding.case))


# ---------------------------------------------------------------------- cohort
def cohort_summary(evaluated: Evaluated) -> CohortSummary:
    """Who trained and who was scored."""
    studies = evaluated.studies
    reference = evaluated.lesions[evaluated.lesions["reference"].notna()]
    counts = evaluated.summary.counts[ALL]
    without = counts.get("absent", 0) + counts.get("hallucinated", 0)
    facts = [
        *_origin(evaluated),
        (
            "Scored",
            f"{count_of(len(studies), 'study', 'studies')} of "
            f"{count_of(int(studies['patient_id'].nunique()), 'patient')}; {without} without lesion",
        ),
        ("Lesions scored", _lesion_text(reference)),
        ("Phases", ", ".join(phase_name(phase) for phase in evaluated.phases)),
    ]
    names, sites = _by_site(studies, evaluated.classes)
    return CohortSummary(tuple(facts), names, sites, tuple(_split_warnings(evaluated)))


def _origin(evaluated: Evaluated) -> list[tuple[str, str]]:
    """Which studies trained, and which were kept for scoring."""
    split, manifest = evaluated.split, evaluated.manifest
    cohort = f"{manifest.get('cohort', UNKNOWN)} (hash {manifest.get('cohort_hash', UNKNOWN)})"
    licence = ("Licence", str(manifest.get("licence") or "not stated"))
    trained = count_of(len(split["train"]), "study", "studies")
    start = _start(evaluated)
    if evaluated.other:
        return [("Scored on", evaluated.other), ("Trained on", f"{trained} of {cohort}"), *start, licence]
    held_out = f"{count_of(len(split['test']), 'study', 'studies')}, {_fold_text(evaluated)}"
    return [("Cohort", cohort), licence, ("Trained on", trained), *start, ("Held out", held_out)]


def _start(evaluated: Evaluated) -> list[tuple[str, str]]:
    """The run whose weights a fine-tuned one began with, and who had trained those."""
    init = evaluated.manifest.get("init")
    if init is None:
        return []
    before = [
        f"{count_of(len(one['patients']), 'patient')} of {one['cohort']}" for one in evaluated.inherited
    ]
    return [
        ("Fine-tuned from", f"{Path(init).name}, trained on {', then '.join(reversed(before)) or UNKNOWN}")
    ]


def _fold_text(evaluated: Evaluated) -> str:
    fold, folds = evaluated.split.get("fold"), evaluated.split.get("folds")
    if fold is not None:
        return f"fold {fold} of {folds}, by patient"
    return "by a division of its own" if evaluated.split["test"] else "none: everybody trained"


def _lesion_text(reference: pd.DataFrame) -> str:
    if reference.empty:
        return "none"
    diameter = reference["diameter_mm"]
    low, middle, high = (number(float(diameter.quantile(q)), 0) for q in (0.0, 0.5, 1.0))
    return f"{len(reference)}, median diameter {middle} mm (range {low} to {high} mm)"


def _by_site(
    studies: pd.DataFrame, classes: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[int, ...]], ...]]:
    others = [name for name in sorted(set(studies["label"])) if name not in classes]
    labels = [*classes, *others]
    counts = Counter(zip(studies["site"], studies["label"]))
    sites = sorted(set(studies["site"]))
    rows = [(site or "unknown", tuple(counts[site, label] for label in labels)) for site in sites]
    total = tuple(sum(row[1][i] for row in rows) for i in range(len(labels)))
    return tuple(class_name(label) for label in labels), (*rows, ("all", total))


def _split_warnings(evaluated: Evaluated) -> Iterable[str]:
    if evaluated.other:
        return  # another cohort may use the same ids; its evaluation leaves out whoever trained
    train, test = set(evaluated.split["train"]), set(evaluated.split["test"])
    scored = set(evaluated.studies["study_id"])
    if scored & train:
        yield (
            f"{count_of(len(scored & train), 'scored study was', 'scored studies were')} seen in training: "
            "these numbers do not say how the network does on new patients."
        )
    if lost := test - scored:
        studies = count_of(len(lost), "held-out study is", "held-out studies are")
        yield f"{studies} not scored: see the findings."


# ---------------------------------------------------------------------- method
def changed_settings(config: Config) -> list[tuple[str, str, str]]:
    """Settings that differ from the defaults: name, default, this run."""
    changed = settings.difference(Config(), config)
    return [(name, str(default), str(own)) for name, (default, own) in changed.items()]


def command_line(evaluated: Evaluated) -> list[str]:
    """The commands that make this report again."""
    command = evaluated.manifest.get("command")
    run = shlex.quote(str(evaluated.run.path))
    trained = [shlex.join(map(str, command))] if command else []
    if evaluated.of_another_program:
        scored = f"mtinet evaluate {run} --predictions FOLDER"
        return [*trained, scored, f"mtinet report {run} --on {shlex.quote(evaluated.other)}"]
    if evaluated.other:
        return [*trained, f"mtinet report {run} --on {shlex.quote(evaluated.other)}"]
    return [*trained, f"mtinet evaluate {run}", f"mtinet report {run}"]


def confusion(summary: Summary, method: str = NETWORK) -> list[tuple[str, list[tuple[int, float]]]]:
    """Rows of the confusion matrix: true class, then count and share by predicted class or missed (last)."""
    rows = []
    for name, counts in zip(summary.classes, summary.confusion.get(method, [])):
        total = sum(counts)
        if total:
            rows.append((class_name(name), [(n, n / total) for n in counts]))
    return rows
