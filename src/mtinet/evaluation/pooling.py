"""Out-of-fold scores of a row of an experiment, pooled from the records of its runs.

A study is scored by the run that held it out, once a seed.  A patient's value is the mean over its studies,
then over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mtinet.cohort import NO_LESION
from mtinet.config.variation import ScoringVariation
from mtinet.errors import UserError
from mtinet.evaluation.classification import ClassPredictions
from mtinet.evaluation.convergence import is_at_rest, mean_movement
from mtinet.evaluation.metrics import OVERLAPS
from mtinet.records import RunRecord, StudyScore

ENHANCEMENT_ERRORS = {
    "head": ("enhancement_error", "relative_error_percent"),
    "read_out": ("measured_error", "measured_relative_error_percent"),
    "training_mean": ("mean_error", "mean_relative_error_percent"),
    "oracle_mask": ("oracle_error", "oracle_relative_error_percent"),
}
"""Fields of a score that hold the raw and the relative error, by the method a row stands for."""

NETWORK, ORACLE, NONE = "network", "oracle_mask", "none"
AUROC = "auroc"
WITHOUT_PROBABILITIES = (ORACLE, NONE, "majority")


@dataclass(frozen=True)
class RowRecords:
    """A row of an experiment with the records of its runs.

    Attributes
    ----------
    name, title : str
    records : tuple of RunRecord
        Of all its folds (or sites) and seeds that are finished.
    enhancement : str
        Whose enhancement the row stands for: one of :data:`ENHANCEMENT_ERRORS`, or ``none``.
    classes : str
        ``network``, ``oracle_mask``, the name of a read-out baseline, or ``none``.
    scoring : ScoringVariation
        Which of the records' scorings counts.
    number : float or None
        Where the row stands on the axis of an experiment that varies a number.
    curve : str
        Rows of one curve are joined along that axis.
    cells : tuple of str
        What tells the runs apart that the row has when it is finished, those without a record too; empty = not known.
    masks : bool
        Whether it learns a mask, so that overlaps say something of it.
    """

    name: str
    title: str
    records: tuple[RunRecord, ...]
    enhancement: str = "head"
    classes: str = "network"
    scoring: ScoringVariation = field(default_factory=ScoringVariation)
    number: float | None = None
    curve: str = ""
    cells: tuple[str, ...] = ()
    masks: bool = True

    def can_have(self, endpoint: str) -> bool:
        """Whether the row has such a number once its runs are done."""
        if endpoint in (*OVERLAPS, "volume_bias_ml"):
            return self.masks
        return endpoint != AUROC or self.classes not in WITHOUT_PROBABILITIES

    @property
    def planned(self) -> int:
        """Runs that the row has when it is finished; 0 = not known."""
        return len(self.cells)

    @property
    def unfinished(self) -> bool:
        """Whether runs are missing."""
        return len(self.records) < self.planned

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a study and seed.

        ``study_id, patient_id, site, label, seed, block`` (the fold or site that held it out), the endpoints
        ``enhancement_error, relative_error_percent, dice, iou, nsd, hd95_mm, accuracy, volume_bias_ml,
        enhancement_bias`` (NaN = not defined) and ``probabilities`` (None = the row has none).  Overlaps are
        those of studies with a lesion: without one they are 0 or undefined by what was predicted, and a pair
        would be left out just where one row was right.

        Raises
        ------
        UserError
            Two runs of one seed scored the same study, or a run was not scored under the variation.
        """
        rows = [
            {"seed": record.seed, "block": block_of(record), **_endpoints(self, record, score, has)}
            for record in self.records
            for has in (_classifies(self, record),)
            for score in scored_studies(self, record)
        ]
        table = pd.DataFrame(rows, columns=None if rows else ["study_id", "patient_id", "seed", "block"])
        twice = table[table.duplicated(["study_id", "seed"])]
        if len(twice):
            first = twice.iloc[0]
            raise UserError(
                f"row {self.name}: study {first['study_id']} was scored twice with seed {first['seed']}; give "
                "the records of one division into folds only"
            )
        return table

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that have a record."""
        return tuple(sorted({record.seed for record in self.records}))

    @property
    def blocks(self) -> tuple[str, ...]:
        """Folds or sites that have a record."""
        return tuple(sorted({block_of(record) for record in self.records}))

    @cached_property
    def moved(self) -> dict[str, float | None]:
        """How its runs moved at their end (:mod:`mtinet.evaluation.convergence`)."""
        return mean_movement(self.records)

    @property
    def at_rest(self) -> bool:
        """Whether its runs had come to rest."""
        return is_at_rest(self.moved)

    def patients(self, endpoint: str) -> pd.Series[float]:
        """Values by patient: the mean over studies, then over seeds; undefined ones are left out."""
        by_seed = self._by_seed(endpoint)
        return by_seed.groupby("patient_id").mean() if len(by_seed) else by_seed

    def seed_means(self, endpoint: str) -> dict[int, float]:
        """Mean over patients by seed."""
        by_seed = self._by_seed(endpoint)
        if not len(by_seed):
            return {}
        means = by_seed.groupby("seed").mean()
        return {int(seed): float(mean) for seed, mean in zip(means.index.to_numpy(), means.to_numpy())}

    def _by_seed(self, endpoint: str) -> pd.Series[float]:
        if endpoint not in self.table:
            return pd.Series(dtype=float)
        known = self.table[self.table[endpoint].notna()]
        return known.groupby(["patient_id", "seed"])[endpoint].mean()


def block_of(record: RunRecord) -> str:
    """The part of the cohort that a run held out: ``fold 2 of 5`` or ``site B``."""
    site = record.learning.held_out_site
    return f"fold {record.fold} of {record.folds}" if site is None else f"site {site}"


def scored_studies(row: RowRecords, record: RunRecord) -> Sequence[StudyScore]:
    """The record's scores under the row's variation.

    Raises
    ------
    UserError
        It was not scored under that variation.
    """
    for scoring in record.scorings:
        if scoring.variation == row.scoring:
            return scoring.studies
    changed = row.scoring.model_dump(exclude_defaults=True)
    raise UserError(
        f"row {row.name}: run {record.id} was not scored with {changed or 'unchanged studies'}; run the "
        "experiment again, finished trainings are kept"
    )


def class_scores(row: RowRecords, classes: Sequence[str]) -> pd.DataFrame:
    """The studies that the AUROC is computed from: known class, probabilities, one a patient.

    Returns
    -------
    DataFrame
        ``study_id, patient_id, seed, block, truth`` (index of the class) and ``scores`` (array [classes]); a
        missed lesion has equal scores.  Of a patient with several studies the first by name is kept, because
        the test takes lesions as independent.  Empty for a row without probabilities.
    """
    columns = ["study_id", "patient_id", "seed", "block", "truth", "scores"]
    table = row.table
    if "probabilities" not in table or len(classes) < 2:
        return pd.DataFrame(columns=columns)
    known = table[table["label"].isin(list(classes)) & table["probabilities"].notna()]
    known = known.sort_values("study_id").drop_duplicates(["patient_id", "seed"])
    given = [[item.get(name, math.nan) for name in classes] for item in known["probabilities"]]
    missed = [not item for item in known["probabilities"]]
    predictions = ClassPredictions.from_labels(
        classes,
        list(known["label"]),
        ["" if lost else classes[0] for lost in missed],
        np.array(given, dtype=np.float64).reshape(len(known), len(classes)),
    )
    scores = predictions.probabilities
    assert scores is not None
    return known.assign(truth=predictions.truth, scores=list(scores))[columns]


def _classifies(row: RowRecords, record: RunRecord) -> tuple[bool, bool]:
    """Whether the run gives classes at all, and probabilities, by the method that the row stands for.

    A run that found no lesion still does: its probabilities are equal.
    """
    studies = [score for score in scored_studies(row, record) if _has_class(record, score)]
    said = [score for score in studies if _class_of(row, score) not in ("", NO_LESION)]
    classifies = any(_class_of(row, score) for score in studies)
    return classifies, classifies and (not said or any(_probabilities_of(row, score) for score in said))


def _endpoints(
    row: RowRecords, record: RunRecord, score: StudyScore, has: tuple[bool, bool]
) -> dict[str, Any]:
    has_classes, has_probabilities = has
    errors = ENHANCEMENT_ERRORS.get(row.enhancement, ())  # none: nothing
    raw, relative = [getattr(score, name) for name in errors] or (None, None)
    read = {"head": score.predicted, "read_out": score.measured}.get(row.enhancement, {})
    known = has_classes and _has_class(record, score)
    probabilities, missed = _probabilities_of(row, score), _class_of(row, score) in ("", NO_LESION)
    return {
        "study_id": score.study_id,
        "patient_id": score.patient_id,
        "site": score.site,
        "label": score.label,
        "enhancement_error": _number(raw),
        "relative_error_percent": _number(relative),
        **{name: _number(getattr(score, name)) if score.volume_ml else math.nan for name in OVERLAPS},
        "accuracy": float(_class_of(row, score) == score.label) if known else math.nan,
        "volume_bias_ml": _number(score.predicted_volume_ml) - _number(score.volume_ml),
        "enhancement_bias": _bias(read, score.true),
        "probabilities": probabilities if known and has_probabilities and (probabilities or missed) else None,
    }


def _has_class(record: RunRecord, score: StudyScore) -> bool:
    """Whether the study has a lesion of known class: one without a mask was shown to no method."""
    return bool(score.volume_ml) and score.label in record.classes


def _class_of(row: RowRecords, score: StudyScore) -> str:
    if row.classes == NETWORK:
        return score.predicted_label
    return score.oracle_label if row.classes == ORACLE else score.baselines.get(row.classes, "")


def _probabilities_of(row: RowRecords, score: StudyScore) -> dict[str, float]:
    """Empty for a missed lesion, and for a method without."""
    if row.classes == NETWORK:
        return score.probabilities
    return score.baseline_probabilities.get(row.classes, {})


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _bias(values: dict[str, float], truth: dict[str, float]) -> float:
    """Mean signed error over phases; NaN for a missed lesion."""
    shared = [values[phase] - truth[phase] for phase in truth if phase in values]
    return float(np.mean(shared)) if shared else math.nan
