"""Does a method know when it is wrong?  Calibration, and what leaving the unsure lesions out would bring.

The lesions are those of the AUROC: of known class, one a patient; a missed one has equal probabilities, stands
so among the unsure ones, and is wrong.  Nothing is tempered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtinet.config.comparison import ComparisonSettings
from mtinet.evaluation.calibration import calibration_scores, is_right
from mtinet.evaluation.conformal import risk_coverage, risk_coverage_areas
from mtinet.evaluation.pooling import RowRecords, class_scores
from mtinet.evaluation.statistics import Estimate, FloatArray, PatientBootstrap

BINS = 10
MEASURES = ("ece", "brier", "risk_area")
"""Expected calibration error, Brier score, and area under risk against coverage; of each, less is better."""


@dataclass(frozen=True)
class Sureness:
    """How sure a row's method is, and whether it is right to be.

    Attributes
    ----------
    row, title : str
    values : dict of Estimate
        By :data:`MEASURES`, with 95 % intervals over patients.
    differences : dict of Estimate
        From the reference, on the lesions that both scored; empty for the reference itself.
    coverage, risk : ndarray
        Share of the lesions that are answered, from the surest on, and the share of wrong ones among them.
    study_s : float or None
        Median seconds a study.
    """

    row: str
    title: str
    values: dict[str, Estimate]
    differences: dict[str, Estimate]
    coverage: FloatArray
    risk: FloatArray
    study_s: float | None


def sureness(rows: Sequence[RowRecords], reference: str, settings: ComparisonSettings) -> list[Sureness]:
    """Of every row with class probabilities, if any of them asks several networks or looks; else nothing.

    Parameters
    ----------
    rows : sequence of RowRecords
    reference : str
        Name of the row that the others are compared with.
    settings : ComparisonSettings
    """
    if not any(row.scoring.asks_several and row.records for row in rows):
        return []
    tables = {row.name: class_scores(row, row.records[0].classes) for row in rows if row.records}
    tables = {name: table for name, table in tables.items() if len(table)}
    if not tables:
        return []
    everybody = pd.concat(tables.values())["patient_id"]
    bootstrap = PatientBootstrap(everybody, settings.bootstrap, settings.seed)
    base = tables.get(reference)
    return [
        _of_row(row, tables[row.name], None if row.name == reference else base, bootstrap)
        for row in rows
        if row.name in tables
    ]


def _of_row(
    row: RowRecords, table: pd.DataFrame, base: pd.DataFrame | None, bootstrap: PatientBootstrap
) -> Sureness:
    truth, probabilities = _classes(table)
    coverage, risk = risk_coverage(probabilities.max(1), ~is_right(truth, probabilities))
    seconds = [s.study_s for r in row.records for s in r.scorings if s.variation == row.scoring and s.study_s]
    return Sureness(
        row=row.name,
        title=row.title,
        values=bootstrap.estimates(table["patient_id"], lambda w: measures(w, truth, probabilities)),
        differences={} if base is None else _differences(table, base, bootstrap),
        coverage=coverage,
        risk=risk,
        study_s=float(np.median(seconds)) if seconds else None,
    )


def _differences(own: pd.DataFrame, base: pd.DataFrame, bootstrap: PatientBootstrap) -> dict[str, Estimate]:
    """``own`` minus ``base`` on the studies of both; each resample draws the same patients for both."""
    own = own[own["study_id"].isin(base["study_id"])]
    base = base[base["study_id"].isin(own["study_id"])]
    if not len(own):
        return {}

    def minus(weights: FloatArray) -> dict[str, FloatArray]:
        first = measures(weights[:, : len(own)], *_classes(own))
        second = measures(weights[:, len(own) :], *_classes(base))
        return {name: first[name] - second[name] for name in MEASURES}

    return bootstrap.estimates(pd.concat([own, base])["patient_id"], minus)


def measures(
    weights: FloatArray, truth: NDArray[np.intp], probabilities: NDArray[Any]
) -> dict[str, FloatArray]:
    """:data:`MEASURES` under each row of ``weights`` [resamples, rows], of class probabilities [rows, classes]."""
    scores = calibration_scores(weights, truth, probabilities, BINS)
    wrong = ~is_right(truth, probabilities)
    return {**scores, "risk_area": risk_coverage_areas(weights, probabilities.max(1), wrong)}


def _classes(table: pd.DataFrame) -> tuple[NDArray[np.intp], FloatArray]:
    return table["truth"].to_numpy(dtype=np.intp), np.stack(table["scores"].tolist())
