"""The rows of the results table, task by task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mtinet.cohort import ALL_SITES
from mtinet.config import EvaluationSettings
from mtinet.errors import UserError
from mtinet.evaluation.calibration import calibration_scores
from mtinet.evaluation.classification import ClassPredictions
from mtinet.evaluation.detection import size_group_names, size_groups
from mtinet.evaluation.enhancement import (
    FALLS_BACK,
    EnhancementValues,
    Reference,
    Scale,
    agreement,
    enhancement_values,
)
from mtinet.evaluation.metrics import OUTCOMES, OVERLAPS
from mtinet.evaluation.readouts import CLASSIFIERS, Readouts
from mtinet.evaluation.statistics import Estimate, FloatArray, PatientBootstrap, Statistic
from mtinet.evaluation.tables import dominant_lesions, is_found

ALL = ALL_SITES
NETWORK = "network"
DETECTED_ONLY = "_detected_only"
SECOND_READER, TWO_READERS = "second_reader", "two_readers"
"""The method that a second reader's masks are, and the group of the studies that have them."""

REFERENCES: dict[str, Reference] = {"enhancement": "true", "enhancement_noise_free": "noise_free"}
SCALES: tuple[Scale, ...] = ("raw", "relative")


@dataclass(frozen=True)
class Row:
    """One number of the results.

    Attributes
    ----------
    site : str
        ``all``, or the one site that it is about.
    task : str
    group : str
        Phase, size group or subset that it is about; ``all`` otherwise.
    metric, method : str
    value, low, high : float
        With its 95 % interval.
    n : int
        Studies, lesions or values that it was computed from.
    """

    site: str
    task: str
    group: str
    metric: str
    method: str
    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Population:
    """Studies that are scored together, and what they are scored with."""

    site: str
    studies: pd.DataFrame
    lesions: pd.DataFrame
    phases: tuple[str, ...]
    classes: tuple[str, ...]
    settings: EvaluationSettings
    readouts: Readouts | None
    bootstrap: PatientBootstrap

    def row(self, task: str, group: str, metric: str, method: str, estimate: Estimate) -> Row:
        """An estimate as a row of this population."""
        return Row(
            self.site, task, group, metric, method, estimate.value, estimate.low, estimate.high, estimate.n
        )

    def mean_row(
        self, task: str, group: str, metric: str, table: pd.DataFrame, values: pd.Series[Any]
    ) -> Row:
        """The network's mean of ``values``, one a row of ``table``."""
        return self.row(
            task, group, metric, NETWORK, self.bootstrap.mean(table["patient_id"], values.astype(float))
        )


def count_outcomes(studies: pd.DataFrame) -> dict[str, int]:
    """Studies by outcome of their mask."""
    return {outcome: int((studies["outcome"] == outcome).sum()) for outcome in OUTCOMES}


def segmentation_rows(population: Population) -> Iterator[Row]:
    """Mask scores: counts of outcomes, means over all studies, over those with both masks, and a second reader's."""
    studies = population.studies
    for outcome, count in count_outcomes(studies).items():
        estimate = Estimate(float(count), np.nan, np.nan, len(studies))
        yield population.row("segmentation", ALL, f"studies_{outcome}", NETWORK, estimate)
    scored = studies[studies["outcome"] == "scored"]
    for group, table in ((ALL, studies), ("scored", scored)):
        for metric in OVERLAPS:
            yield population.mean_row("segmentation", group, metric, table, table[metric])
    yield from _second_reader_rows(population)


def _second_reader_rows(population: Population) -> Iterator[Row]:
    """How well a second reader agrees with the first, and the network with the same on the same studies."""
    for metric in OVERLAPS:
        if f"second_{metric}" not in population.studies:
            continue
        both = population.studies[population.studies[[metric, f"second_{metric}"]].notna().all(axis=1)]
        methods = {
            NETWORK: both[metric],
            SECOND_READER: both[f"second_{metric}"],
            f"{NETWORK}_minus_{SECOND_READER}": both[metric] - both[f"second_{metric}"],
        }
        for method, values in methods.items():
            estimate = population.bootstrap.mean(both["patient_id"], values)
            yield population.row("segmentation", TWO_READERS, metric, method, estimate)


def detection_rows(population: Population) -> Iterator[Row]:
    """Sensitivity and false positives by size, precision, and how often healthy studies stay empty."""
    studies = population.studies[population.studies["outcome"] != "unlabelled"]
    lesions = population.lesions[population.lesions["study_id"].isin(studies["study_id"])]
    edges = population.settings.size_edges_mm
    names = size_group_names(edges)
    place = size_groups(lesions["diameter_mm"].to_numpy(dtype=np.float64), edges)
    groups = {ALL: lesions, **{name: lesions[place == index] for index, name in enumerate(names)}}
    for group, table in groups.items():
        reference = table[table["reference"].notna()]
        false = table[table["reference"].isna()]
        yield population.mean_row("detection", group, "sensitivity", reference, is_found(reference))
        counts = studies["study_id"].map(false["study_id"].value_counts()).fillna(0.0)
        yield population.mean_row("detection", group, "false_positives_per_study", studies, counts)
    components = lesions[lesions["predicted"].notna()]
    yield population.mean_row("detection", ALL, "precision", components, components["reference"].notna())
    healthy = studies[studies["outcome"].isin(["absent", "hallucinated"])]
    yield population.mean_row("detection", ALL, "specificity", healthy, healthy["outcome"] == "absent")


def enhancement_rows(population: Population) -> Iterator[Row]:
    """Error and agreement of each method, raw and relative, pooled over phases and by phase."""
    for task, reference in REFERENCES.items():
        if not any(f"{reference}_{phase}" in population.lesions for phase in population.phases):
            continue
        for scale in SCALES:
            values = enhancement_values(population.lesions, population.phases, scale, reference)
            yield from _agreement_rows(population, task, ALL, values)
            for phase, rows in values.rows.groupby("phase", sort=False):
                yield from _agreement_rows(population, task, str(phase), EnhancementValues(scale, rows))


def _agreement_rows(
    population: Population, task: str, group: str, values: EnhancementValues
) -> Iterator[Row]:
    subsets = {method: (method, values.rows) for method in values.methods}
    found = values.rows[values.rows["found"].astype(bool)]
    subsets |= {m + DETECTED_ONLY: (m, found) for m in FALLS_BACK if m in values.methods}
    for name, (method, rows) in subsets.items():
        rows = rows[rows[method].notna()]
        estimates = population.bootstrap.estimates(rows["patient_id"], _agreement_of(rows, method))
        for metric, estimate in estimates.items():
            yield population.row(task, group, f"{metric}_{values.scale}", name, estimate)
    for other in ("read_out", "training_mean"):
        if {"head", other} <= set(values.methods):
            rows = values.rows[values.rows[["head", other]].notna().all(axis=1)]
            difference = population.bootstrap.difference(
                rows["patient_id"], _agreement_of(rows, "head"), _agreement_of(rows, other)
            )
            yield population.row(task, group, f"mae_{values.scale}", f"head_minus_{other}", difference["mae"])


def _agreement_of(rows: pd.DataFrame, method: str) -> Statistic:
    truth, predicted = rows["truth"].to_numpy(np.float64), rows[method].to_numpy(np.float64)
    return lambda weights: agreement(weights, truth, predicted)


def classified_lesions(population: Population) -> pd.DataFrame:
    """The dominant lesions with a known class."""
    largest = dominant_lesions(population.lesions)
    return largest[largest["label"] != ""].reset_index(drop=True)


def class_predictions(population: Population) -> dict[str, ClassPredictions]:
    """True and predicted class of each dominant lesion (:func:`classified_lesions`), by method."""
    lesions, classes, readouts = classified_lesions(population), population.classes, population.readouts
    truth, found = list(lesions["label"]), is_found(lesions)
    methods = {}
    if "predicted_label" in lesions:
        methods[NETWORK] = ClassPredictions.from_labels(
            classes,
            truth,
            list(lesions["predicted_label"].where(found, "")),
            _probabilities(lesions, classes),
        )
    if readouts is not None:
        if readouts.classes != classes:
            raise UserError(
                f"the read-outs were fitted to the classes {', '.join(readouts.classes)}, the tables have "
                f"{', '.join(classes)}; fit them to the same"
            )
        signals = _normalised_signals(population, lesions, readouts.phases)
        for method in CLASSIFIERS:
            guess = readouts.predict(signals, method)
            names = np.asarray(classes, dtype=object)[guess.argmax(-1)]
            methods[method] = ClassPredictions.from_labels(
                classes, truth, list(np.where(found, names, "")), guess
            )
        frequencies = np.tile([readouts.class_frequencies[name] for name in classes], (len(lesions), 1))
        methods["majority"] = ClassPredictions.from_labels(
            classes, truth, [readouts.majority] * len(lesions), frequencies
        )
    if "oracle_label" in lesions:
        methods["oracle_mask"] = ClassPredictions.from_labels(classes, truth, list(lesions["oracle_label"]))
    return methods


def classification_rows(population: Population, predictions: Mapping[str, ClassPredictions]) -> Iterator[Row]:
    """Class scores of each method, of the network on the lesions that it found, and paired differences."""
    lesions = classified_lesions(population)
    bootstrap, patients = population.bootstrap, lesions["patient_id"]
    for method, predicted in predictions.items():
        for metric, estimate in bootstrap.estimates(patients, predicted.scores).items():
            yield population.row("classification", ALL, metric, method, estimate)
    if NETWORK not in predictions:
        return
    network, found = predictions[NETWORK], is_found(lesions).to_numpy()
    detected = network.subset(found)
    for metric, estimate in bootstrap.estimates(patients[found], detected.scores).items():
        yield population.row("classification", ALL, metric, NETWORK + DETECTED_ONLY, estimate)
    for other in (*CLASSIFIERS, "majority"):
        if other in predictions:
            differences = bootstrap.difference(patients, network.scores, predictions[other].scores)
            for metric, estimate in differences.items():
                yield population.row("classification", ALL, metric, f"{NETWORK}_minus_{other}", estimate)
    if detected.probabilities is not None:
        truth, probabilities = detected.truth, detected.probabilities
        scores = bootstrap.estimates(
            patients[found],
            lambda w: calibration_scores(w, truth, probabilities, population.settings.calibration_bins),
        )
        for metric, estimate in scores.items():
            yield population.row("calibration", ALL, metric, NETWORK + DETECTED_ONLY, estimate)


def _probabilities(lesions: pd.DataFrame, classes: tuple[str, ...]) -> FloatArray | None:
    columns = [f"p_{name}" for name in classes]
    return lesions[columns].to_numpy(np.float64) if set(columns) <= set(lesions.columns) else None


def _normalised_signals(population: Population, lesions: pd.DataFrame, phases: tuple[str, ...]) -> FloatArray:
    """Mean signal under the predicted components over each study's gain [rows, phases]."""
    if "gain" not in population.studies:
        raise UserError("studies lack the column gain, by which the read-outs normalise the measured signal")
    gain = lesions["study_id"].map(population.studies.set_index("study_id")["gain"]).to_numpy(np.float64)
    signals = lesions.reindex(columns=[f"measured_{phase}" for phase in phases]).to_numpy(np.float64)
    return np.asarray(signals / gain[:, None])
