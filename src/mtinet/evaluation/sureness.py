"""Does a method know when it is wrong?  Calibration, and what leaving the unsure lesions out would bring.

The lesions are those of the AUROC: of known class, one a patient; a missed one has equal probabilities, stands
so among the unsure ones, and is wrong.  Nothing is tempered.  A row's seeds are measured one by one and
averaged: a calibration error falls with the number of lesions, so that pooled ones would not compare with a mean of
networks, which answers each lesion once.  The lesions of all folds are ranked together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtinet.config.comparison import ComparisonSettings
from mtinet.evaluation.calibration import calibration_scores, is_right
from mtinet.evaluation.conformal import risk_coverage, risk_coverage_areas
from mtinet.evaluation.pooling import RowRecords, class_scores
from mtinet.evaluation.statistics import Estimate, FloatArray, PatientBootstrap, mean_of_defined

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
    coverage, risk = _curve(table)
    lesions = table["study_id"].nunique()
    found = bootstrap.estimates(table["patient_id"], lambda w: measures(w, table))
    seconds = [s.study_s for r in row.records for s in r.scorings if s.variation == row.scoring and s.study_s]
    return Sureness(
        row=row.name,
        title=row.title,
        values={name: replace(estimate, n=lesions) for name, estimate in found.items()},
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
        first, second = measures(weights[:, : len(own)], own), measures(weights[:, len(own) :], base)
        return {name: first[name] - second[name] for name in MEASURES}

    return bootstrap.estimates(pd.concat([own, base])["patient_id"], minus)


def measures(weights: FloatArray, table: pd.DataFrame) -> dict[str, FloatArray]:
    """:data:`MEASURES` under each row of ``weights`` [resamples, rows]: means over the seeds of ``table`` [rows]."""
    by_seed = []
    for own in _seeds(table):
        truth, probabilities = _classes(table[own])
        scores = calibration_scores(weights[:, own], truth, probabilities, BINS)
        wrong = ~is_right(truth, probabilities)
        area = risk_coverage_areas(weights[:, own], probabilities.max(1), wrong)
        by_seed.append({**scores, "risk_area": area})
    return {name: mean_of_defined(np.stack([one[name] for one in by_seed], axis=-1)) for name in MEASURES}


def _curve(table: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Coverage, and the risk at it: the mean over seeds."""
    curves = []
    for own in _seeds(table):
        truth, probabilities = _classes(table[own])
        curves.append(risk_coverage(probabilities.max(1), ~is_right(truth, probabilities)))
    coverage = max((shares for shares, _ in curves), key=len)
    return coverage, np.mean([np.interp(coverage, shares, risk) for shares, risk in curves], axis=0)


def _seeds(table: pd.DataFrame) -> list[NDArray[np.bool_]]:
    """Which rows are of each seed."""
    seeds = table["seed"].to_numpy()
    return [seeds == seed for seed in np.unique(seeds)]


def _classes(table: pd.DataFrame) -> tuple[NDArray[np.intp], FloatArray]:
    return table["truth"].to_numpy(dtype=np.intp), np.stack(table["scores"].tolist())
