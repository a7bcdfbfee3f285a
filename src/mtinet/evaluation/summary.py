"""From the tables of studies and lesions to all results with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mtinet import files
from mtinet.config import EvaluationSettings
from mtinet.evaluation.calibration import ReliabilityBin, reliability_bins
from mtinet.evaluation.classification import ClassPredictions
from mtinet.evaluation.readouts import Readouts
from mtinet.evaluation.sections import (
    ALL,
    NETWORK,
    Population,
    Row,
    class_predictions,
    classification_rows,
    classified_lesions,
    count_outcomes,
    detection_rows,
    enhancement_rows,
    segmentation_rows,
)
from mtinet.evaluation.statistics import PatientBootstrap
from mtinet.evaluation.tables import check_tables, is_found


@dataclass(frozen=True)
class Summary:
    """All results of an evaluation.

    Attributes
    ----------
    phases, classes : tuple of str
    patients, studies : int
    counts : dict
        Studies by outcome (scored, missed, hallucinated, absent, unlabelled), by site; ``all`` is their sum.
    rows : tuple of Row
        Every number with its interval; those of all sites first, then by site where there are several.
    confusion : dict
        By method: rows are the true classes, columns the predicted ones and, last, missed.
    reliability : tuple of ReliabilityBin
        Of the network's probabilities for the lesions that it found; empty without probabilities.
    """

    phases: tuple[str, ...]
    classes: tuple[str, ...]
    patients: int
    studies: int
    counts: dict[str, dict[str, int]]
    rows: tuple[Row, ...]
    confusion: dict[str, list[list[int]]]
    reliability: tuple[ReliabilityBin, ...]

    def find(
        self, task: str, metric: str, method: str = NETWORK, group: str = ALL, site: str = ALL
    ) -> Row | None:
        """The row of that name, or None where it was not scored."""
        wanted = (site, task, group, metric, method)
        return next(
            (row for row in self.rows if (row.site, row.task, row.group, row.metric, row.method) == wanted),
            None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The summary in JSON's types; NaN becomes None."""
        return dict(files.plain(asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Summary:
        """A summary from JSON's types; None becomes NaN.

        Raises
        ------
        KeyError, TypeError, ValueError, AttributeError
            The values are not those of a summary.
        """
        return cls(
            phases=tuple(values["phases"]),
            classes=tuple(values["classes"]),
            patients=int(values["patients"]),
            studies=int(values["studies"]),
            counts={site: dict(counts) for site, counts in values["counts"].items()},
            rows=tuple(Row(**_with_nan(row)) for row in values["rows"]),
            confusion=dict(values["confusion"]),
            reliability=tuple(ReliabilityBin(**_with_nan(item)) for item in values["reliability"]),
        )


def summarise(
    studies: pd.DataFrame,
    lesions: pd.DataFrame,
    phases: Sequence[str],
    classes: Sequence[str],
    settings: EvaluationSettings,
    seed: int,
    readouts: Readouts | None = None,
) -> Summary:
    """Score the tables.

    Parameters
    ----------
    studies, lesions : DataFrame
        See :mod:`mtinet.evaluation.tables`.
    phases, classes : sequence of str
    settings : EvaluationSettings
    seed : int
        Of the bootstrap.
    readouts : Readouts, optional
        Baselines fitted to the training lesions; without them classifiers and majority are left out.

    Raises
    ------
    UserError
        The tables are not valid; every fault is listed.
    """
    studies, lesions = check_tables(studies, lesions, phases, classes)
    sites = sorted(studies["site"].unique())
    counts: dict[str, dict[str, int]] = {}
    scored: list[tuple[Population, dict[str, ClassPredictions]]] = []
    for site in [ALL, *sites] if len(sites) > 1 else [ALL]:
        # The first round is everybody's, whatever the sites are called.
        here = studies[studies["site"] == site] if scored else studies
        population = Population(
            site=site,
            studies=here.reset_index(drop=True),
            lesions=lesions[lesions["study_id"].isin(here["study_id"])].reset_index(drop=True),
            phases=tuple(phases),
            classes=tuple(classes),
            settings=settings,
            readouts=readouts,
            bootstrap=PatientBootstrap(here["patient_id"], settings.bootstrap, seed),
        )
        scored.append((population, class_predictions(population)))
        counts.setdefault(site, count_outcomes(here))
    pooled, predictions = scored[0]
    return Summary(
        phases=tuple(phases),
        classes=tuple(classes),
        patients=int(studies["patient_id"].nunique()),
        studies=len(studies),
        counts=counts,
        rows=tuple(row for part in scored for row in _rows(*part)),
        confusion={method: _confusion(predicted) for method, predicted in predictions.items()},
        reliability=_reliability(pooled, predictions),
    )


def to_table(summary: Summary) -> pd.DataFrame:
    """The results as a long table: ``site, task, group, metric, method, value, low, high, n``.

    The counts of scored, missed, hallucinated, absent and unlabelled studies are the rows
    ``studies_<outcome>`` of the task ``segmentation``.
    """
    return pd.DataFrame([asdict(row) for row in summary.rows])


def _with_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: numbers that do not exist are stored as null."""
    return {name: math.nan if value is None else value for name, value in values.items()}


def _rows(population: Population, predictions: dict[str, ClassPredictions]) -> list[Row]:
    return [
        *segmentation_rows(population),
        *detection_rows(population),
        *enhancement_rows(population),
        *classification_rows(population, predictions),
    ]


def _confusion(predicted: ClassPredictions) -> list[list[int]]:
    matrix = predicted.confusion(np.ones((1, len(predicted.truth))))[0]
    return [[int(count) for count in row] for row in matrix]


def _reliability(
    population: Population, predictions: dict[str, ClassPredictions]
) -> tuple[ReliabilityBin, ...]:
    network = predictions.get(NETWORK)
    if network is None or network.probabilities is None:
        return ()
    found = network.subset(is_found(classified_lesions(population)).to_numpy())
    assert found.probabilities is not None
    return reliability_bins(found.truth, found.probabilities, population.settings.calibration_bins)
