"""What is wrong with a run as a whole, read from its results."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from mtinet.evaluation.sections import NETWORK
from mtinet.evaluation.summary import Summary
from mtinet.evaluation.tables import dominant_lesions, is_found
from mtinet.results import Finding, Severity

FRAGMENTS_PER_LESION = 3.0
MISSED_SHARE = 0.25
HALLUCINATED_SHARE = 0.5
MIN_CASES = 4
"""Fewer studies than this give no share that deserves a finding."""

ANOTHER_PROGRAM = "another-program"
"""Finding of an evaluation of masks that the run's network did not make."""


def run_findings(summary: Summary, lesions: pd.DataFrame) -> list[Finding]:
    """Findings about an evaluated run.

    Parameters
    ----------
    summary : Summary
    lesions : DataFrame
        The table that it was computed from (:mod:`mtinet.evaluation.tables`).

    Returns
    -------
    list of Finding
        Stage ``evaluate``; each with its value and threshold.
    """
    return [
        *_masks(summary, lesions),
        *_classes(summary),
        *_regression(summary),
    ]


def _masks(summary: Summary, lesions: pd.DataFrame) -> Iterator[Finding]:
    largest = dominant_lesions(lesions)
    missed = 1.0 - float(is_found(largest).mean()) if len(largest) else math.nan
    if len(largest) >= MIN_CASES and missed > MISSED_SHARE:
        yield _finding(
            "many-missed",
            missed,
            MISSED_SHARE,
            f"the largest lesion of {missed:.0%} of the studies was not found; it counts as "
            "misclassified, and the training mean as its enhancement",
            "Train longer, raise objective.segmentation, or lower inference.min_peak or inference.threshold.",
        )
    reference, predicted = int(lesions["reference"].notna().sum()), int(lesions["predicted"].notna().sum())
    fragments = predicted / reference if reference else math.nan
    if reference >= MIN_CASES and fragments > FRAGMENTS_PER_LESION:
        yield _finding(
            "masks-fragmented",
            fragments,
            FRAGMENTS_PER_LESION,
            f"the masks fall into {fragments:.1f} components for each reference lesion",
            "Raise inference.min_peak or inference.min_diameter_mm, or train longer.",
        )
    specificity = summary.find("detection", "specificity")
    if specificity is not None and specificity.n >= MIN_CASES:
        hallucinated = 1.0 - specificity.value
        if hallucinated > HALLUCINATED_SHARE:
            yield _finding(
                "many-hallucinated",
                hallucinated,
                HALLUCINATED_SHARE,
                f"the network draws a lesion in {hallucinated:.0%} of the studies without one",
                "Add studies without lesion to the training, lower sampling.lesion_fraction, or raise "
                "inference.min_peak.",
            )


def _classes(summary: Summary) -> Iterator[Finding]:
    if NETWORK not in summary.confusion:
        return
    confusion = summary.confusion[NETWORK]
    occurring = sum(sum(row) > 0 for row in confusion)
    named = [sum(row[k] for row in confusion) for k in range(len(summary.classes))]
    if sum(map(sum, confusion)) >= MIN_CASES and occurring == 1:
        yield _finding(
            "one-class-only",
            1.0,
            2.0,
            "all scored lesions are of one class: accuracy says nothing, and AUC is not defined",
            "Evaluate on studies of at least two classes.",
            "note",
        )
    if occurring < 2:
        return
    if sum(named) >= MIN_CASES and sum(count > 0 for count in named) == 1:
        only = summary.classes[max(range(len(named)), key=named.__getitem__)]
        yield _finding(
            "one-class-predicted",
            1.0,
            2.0,
            f"the network calls every lesion {only}",
            "Set sampling.cases_per_class=balanced, raise objective.classification, or train longer.",
        )
    balanced = summary.find("classification", "balanced_accuracy")
    chance = 1.0 / occurring
    if balanced is not None and balanced.n >= MIN_CASES and _lower(balanced.low, balanced.value) <= chance:
        yield _finding(
            "class-at-chance",
            _lower(balanced.low, balanced.value),
            chance,
            f"the balanced accuracy of the class, {balanced.value:.2f}, cannot be told from chance",
            "Check the labels, raise objective.classification, train longer, or score more patients.",
        )
    accuracy = summary.find("classification", "accuracy")
    majority = summary.find("classification", "accuracy", "majority")
    if accuracy and majority and accuracy.n >= MIN_CASES and accuracy.value < majority.value:
        yield _finding(
            "class-below-majority",
            accuracy.value,
            majority.value,
            "naming every lesion after the most frequent training class is right more often",
            "Do not use the predicted class; raise objective.classification or train longer.",
        )


def _regression(summary: Summary) -> Iterator[Finding]:
    behind = summary.find("enhancement", "mae_raw", "head_minus_read_out")
    if behind is not None and behind.low > 0:
        yield _finding(
            "regression-worse-than-read-out",
            behind.low,
            0.0,
            "the regressed enhancement is farther from the truth than the signal under the predicted mask: "
            f"mean error larger by {behind.value:.3g} (95 % interval from {behind.low:.3g})",
            "Use the measured values; raise objective.regression or train longer.",
        )
    head = summary.find("enhancement", "mae_raw", "head")
    mean = summary.find("enhancement", "mae_raw", "training_mean")
    if head and mean and head.n >= MIN_CASES and head.value >= mean.value:
        yield _finding(
            "regression-no-better-than-mean",
            head.value,
            mean.value,
            "the regressed enhancement is no nearer to the truth than the mean of the training lesions",
            "Raise objective.regression or train longer.",
        )


def _lower(low: float, value: float) -> float:
    """Lower end of the interval, or the value itself where there is no interval."""
    return value if math.isnan(low) else low


def _finding(
    id: str, value: float, threshold: float, meaning: str, action: str, severity: Severity = "warning"
) -> Finding:
    return Finding(id, "evaluate", severity, meaning, action, value=value, threshold=threshold)
