"""Cross-validation: every patient is scored once, by the model that never saw him."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from mtinet import files
from mtinet.errors import UserError
from mtinet.evaluation.areas import area_of
from mtinet.evaluation.classification import ClassPredictions
from mtinet.evaluation.pooling import RowRecords, class_scores
from mtinet.evaluation.sections import ALL, DETECTED_ONLY, NETWORK
from mtinet.evaluation.sections import Row as ResultRow
from mtinet.evaluation.statistics import PatientBootstrap
from mtinet.evaluation.summary import Summary, summarise, to_table
from mtinet.evaluation.tables import read_table
from mtinet.experiments.gather import Gathered
from mtinet.experiments.grid import Grid
from mtinet.experiments.plan import Experiment, Row
from mtinet.experiments.tuned import NOBODY
from mtinet.records import RunRecord, StudyScore

FOLDS = 5
ROW = "crossval"

EXPERIMENT = Experiment(
    name="crossval",
    title="Cross-validation",
    question="How does one setting do on patients that it never saw?",
    reference=ROW,
    # the recipe that `mtinet train` follows, or the estimate would be of another model
    rows=(Row(ROW, "Cross-validation", trials=NOBODY),),
    folds=tuple(range(FOLDS)),
    of_folds=FOLDS,
)


@dataclass(frozen=True)
class Crossval:
    """The pooled out-of-fold result.

    Attributes
    ----------
    summary : Summary
    notes : tuple of str
        What has to be said beside it.
    """

    summary: Summary
    notes: tuple[str, ...]


def pool_folds(grid: Grid, gathered: Gathered) -> Crossval:
    """Pool the folds' tables, score them as one, and write ``studies.csv, lesions.csv, table.csv,
    summary.json`` into the campaign's folder.

    The read-out baselines were fitted fold by fold, so each patient has the answer of his own fold's.

    Raises
    ------
    UserError
        Folds are missing, or the tables of a fold are gone.
    """
    if gathered.missing:
        raise UserError(
            f"{len(gathered.missing[ROW])} of {FOLDS} folds have not been finished; give the same command "
            "again when the cause is mended"
        )
    records = gathered.records[ROW]
    parts = [_tables(grid, record) for record in records]
    studies, lesions = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    config = records[0].config
    summary = summarise(
        studies, lesions, config.phases, records[0].classes, config.evaluation, config.training.seed
    )
    rows = ranked_within_folds(summary.rows, records, studies)
    summary = replace(summary, rows=(*rows, *_readout_rows(records)))
    out = grid.campaign.folder
    files.write_text(out / "studies.csv", studies.to_csv(index=False))
    files.write_text(out / "lesions.csv", lesions.to_csv(index=False))
    files.write_text(out / "table.csv", to_table(summary).to_csv(index=False))
    files.write_json(out / "summary.json", summary.to_dict())
    return Crossval(summary, gathered.notes)


def _tables(grid: Grid, record: RunRecord) -> tuple[pd.DataFrame, pd.DataFrame]:
    folder = grid.campaign.run_folder(record.id) / "predictions"
    if not (folder / "studies.csv").is_file():
        raise UserError(
            f"the tables of fold {record.fold} are gone ({folder}); remove "
            f"{grid.campaign.record_path(record.id)} and the fold is done again"
        )
    return read_table(folder / "studies.csv"), read_table(folder / "lesions.csv")


def ranked_within_folds(
    rows: Sequence[ResultRow], records: tuple[RunRecord, ...], studies: pd.DataFrame
) -> list[ResultRow]:
    """The areas under ROC curves within folds, pooled, with DeLong's interval.

    Probabilities of two networks have no common scale: ranked together they would measure the folds' offsets too.
    """
    scores = class_scores(RowRecords(ROW, "", records), records[0].classes)
    found = {
        study.study_id for record in records for study in record.scorings[0].studies if study.probabilities
    }
    asked = {NETWORK: scores, NETWORK + DETECTED_ONLY: scores[scores["study_id"].isin(found)]}
    ranked = []
    for row in rows:
        if row.metric != "auc" or row.method not in asked:
            ranked.append(row)
            continue
        here = studies if row.site == ALL else studies[studies["site"] == row.site]
        own = asked[row.method]
        area = area_of(own[own["study_id"].isin(here["study_id"])])
        low, high = (math.nan, math.nan) if area is None else area.interval()
        ranked.append(
            replace(
                row,
                value=math.nan if area is None else area.value,
                low=max(low, 0.0),
                high=min(high, 1.0),
                n=0 if area is None else area.n,
            )
        )
    return ranked


def _readout_rows(records: tuple[RunRecord, ...]) -> list[ResultRow]:
    """Class scores of the read-out baselines, each lesion's by the baseline that never saw it."""
    scored: list[StudyScore] = [study for record in records for study in record.scorings[0].studies]
    classes, settings = records[0].classes, records[0].config.evaluation
    known = [study for study in scored if study.label in classes]
    bootstrap = PatientBootstrap(
        pd.Series([study.patient_id for study in scored]), settings.bootstrap, records[0].seed
    )
    rows = []
    for method in sorted({name for study in known for name in study.baselines}):
        own = [study for study in known if method in study.baselines]
        guesses = ClassPredictions.from_labels(
            classes, [study.label for study in own], [study.baselines[method] for study in own]
        )
        patients = [study.patient_id for study in own]
        for metric, found in bootstrap.estimates(patients, guesses.scores).items():
            rows.append(
                ResultRow(
                    ALL, "classification", ALL, metric, method, found.value, found.low, found.high, found.n
                )
            )
    return rows
