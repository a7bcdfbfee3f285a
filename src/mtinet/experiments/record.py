"""From a finished run and its evaluations to the record that is kept of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mtinet.cohort import NO_LESION
from mtinet.config import Config
from mtinet.config.variation import ScoringVariation
from mtinet.evaluation.convergence import LAST_SHARE, TASKS
from mtinet.evaluation.enhancement import enhancement_values
from mtinet.evaluation.metrics import OVERLAPS
from mtinet.evaluation.readouts import CLASSIFIERS, Readouts
from mtinet.evaluation.sections import NETWORK, Population, class_predictions, classified_lesions
from mtinet.evaluation.statistics import PatientBootstrap
from mtinet.evaluation.tables import check_tables, dominant_lesions, is_found, read_table
from mtinet.records import Course, Scoring, StudyScore
from mtinet.runs import Run
from mtinet.workflows.evaluate import fit_readouts

DIGITS = 6
"""Significant digits that a record keeps."""

COURSE_DIGITS = 4
COURSE_POINTS = 50

ORACLE = "oracle_mask"
MM3_PER_ML = 1000.0


def scoring(run: Run, folder: Path, variation: ScoringVariation, study_s: float | None = None) -> Scoring:
    """Scores of every held-out study from the tables of one evaluation.

    Parameters
    ----------
    run : Run
        Finished.
    folder : Path
        Holds ``studies.csv`` and ``lesions.csv``.
    variation : ScoringVariation
        Under which the studies were scored.
    study_s : float, optional
        Seconds that a study took.
    """
    config, classes = run.config, run.classes
    studies, lesions = check_tables(
        read_table(folder / "studies.csv"), read_table(folder / "lesions.csv"), config.phases, classes
    )
    errors = {scale: _errors(lesions, config, scale) for scale in ("raw", "relative")}
    guesses = _class_guesses(studies, lesions, run)
    dominant = {str(row["study_id"]): row for row in dominant_lesions(lesions).to_dict("records")}
    scores = []
    for study in studies.to_dict("records"):
        study_id = str(study["study_id"])
        lesion = dominant.get(study_id)
        scores.append(
            StudyScore(
                study_id=study_id,
                patient_id=str(study["patient_id"]),
                site=str(study["site"]),
                label=_label(study, lesion),
                **_mask_scores(study, config),
                **_error_fields(study_id, errors, config),
                **_class_fields(study, lesion, guesses.get(study_id, {}), config, classes),
                **_curves(lesion, config),
            )
        )
    return Scoring(
        variation=variation,
        studies=tuple(scores),
        study_s=None if study_s is None else _rounded(study_s, COURSE_DIGITS),
    )


# ---------------------------------------------------------------------- a study
def _label(study: Mapping[Any, Any], lesion: Mapping[Any, Any] | None) -> str:
    return str(study["label"] if lesion is None else lesion["label"])


def _mask_scores(study: Mapping[Any, Any], config: Config) -> dict[str, float | None]:
    volumes = {
        "volume_ml": _rounded(study["reference_volume_mm3"] / MM3_PER_ML),
        "predicted_volume_ml": _rounded(study["predicted_volume_mm3"] / MM3_PER_ML),
    }
    scores = {name: _rounded(study[name]) for name in OVERLAPS}
    if config.objective.segmentation > 0:
        return {**scores, **volumes}
    return {**dict.fromkeys(scores, None), "volume_ml": volumes["volume_ml"]}


def _errors(lesions: pd.DataFrame, config: Config, scale: Any) -> pd.DataFrame:
    """Mean absolute error over phases by study (index) and method (column)."""
    values = enhancement_values(lesions, config.phases, scale)
    error = values.rows[values.methods].sub(values.rows["truth"], axis=0).abs()
    return error.astype(float).groupby(values.rows["study_id"]).mean()


def _error_fields(
    study_id: str, errors: Mapping[str, pd.DataFrame], config: Config
) -> dict[str, float | None]:
    fields = {"training_mean": "mean"}
    if config.objective.segmentation > 0:
        fields["read_out"] = "measured"
    if config.objective.regression > 0:
        fields[ORACLE] = "oracle"
    if len(fields) == 3:  # the head's own reading needs a mask and an enhancement
        fields["head"] = ""
    found: dict[str, float | None] = {}
    for scale, table in errors.items():
        for method, prefix in fields.items():
            name = "relative_error_percent" if scale == "relative" else "error"
            if scale == "raw" and not prefix:
                name = "enhancement_error"
            if method in table and study_id in table.index:
                found[f"{prefix}_{name}" if prefix else name] = _rounded(
                    float(table[method].to_dict()[study_id])
                )
    return found


class _Guess(NamedTuple):
    """A method's class of a lesion (``none`` = missed) and its probabilities, where the record keeps them."""

    label: str
    probabilities: dict[str, float]


def _class_guesses(studies: pd.DataFrame, lesions: pd.DataFrame, run: Run) -> dict[str, dict[str, _Guess]]:
    """What every method but the network itself says of the dominant lesion, by study and method."""
    config = run.config
    fitted: Readouts | None = fit_readouts(run)
    population = Population(
        site="",
        studies=studies,
        lesions=lesions,
        phases=config.phases,
        classes=run.classes,
        settings=config.evaluation,
        readouts=fitted,
        bootstrap=PatientBootstrap(studies["patient_id"], 1, config.training.seed),
    )
    ids = classified_lesions(population)["study_id"].astype(str)
    names = (*run.classes, NO_LESION)
    guesses: dict[str, dict[str, _Guess]] = {}
    for method, predictions in class_predictions(population).items():
        if method == NETWORK:
            continue
        for row, study_id in enumerate(ids):
            label = names[int(predictions.predicted[row])]
            probabilities: dict[str, float] = {}
            # of the classifiers only: those of the majority are the same for every lesion
            if method in CLASSIFIERS and predictions.probabilities is not None and label != NO_LESION:
                values = map(_rounded, predictions.probabilities[row])
                probabilities = {k: v for k, v in zip(run.classes, values, strict=True) if v is not None}
            guesses.setdefault(study_id, {})[method] = _Guess(label, probabilities)
    return guesses


def _class_fields(
    study: Mapping[Any, Any],
    lesion: Mapping[Any, Any] | None,
    guesses: Mapping[str, _Guess],
    config: Config,
    classes: Sequence[str],
) -> dict[str, Any]:
    objective = config.objective
    baselines = {method: guess for method, guess in guesses.items() if method != ORACLE}
    fields: dict[str, Any] = {
        "predicted_label": "",
        "baselines": {method: guess.label for method, guess in baselines.items()},
        "baseline_probabilities": {
            m: guess.probabilities for m, guess in baselines.items() if guess.probabilities
        },
    }
    if objective.classification == 0:
        return fields
    if ORACLE in guesses:
        fields["oracle_label"] = guesses[ORACLE].label
    if objective.segmentation == 0:
        return fields
    if lesion is None:
        fields["predicted_label"] = str(study["predicted_label"])
    elif not _is_found(lesion):
        fields["predicted_label"] = NO_LESION
    else:
        fields["predicted_label"] = str(lesion["predicted_label"])
        fields["probabilities"] = _named(lesion, "p", classes)
    return fields


def _curves(lesion: Mapping[Any, Any] | None, config: Config) -> dict[str, dict[str, float]]:
    """True, predicted and measured enhancement of the dominant lesion, and the attention to its phases."""
    if lesion is None:
        return {}
    curves = {"true": _named(lesion, "true", config.phases)}
    if not _is_found(lesion) or config.objective.segmentation == 0:
        return curves
    curves["measured"] = _named(lesion, "measured", config.phases)
    if config.objective.regression > 0:
        curves["predicted"] = _named(lesion, "predicted", config.phases)
    curves["attention"] = _named(lesion, "attention", config.phases)
    curves["discriminator_attention"] = _named(lesion, "tdd_attention", config.phases)
    return curves


def _is_found(lesion: Mapping[Any, Any]) -> bool:
    return bool(is_found(pd.DataFrame([lesion])).iloc[0])


def _named(lesion: Mapping[Any, Any], prefix: str, names: Sequence[str]) -> dict[str, float]:
    """The defined values of the columns ``<prefix>_<name>``, by name."""
    values = {name: _rounded(lesion.get(f"{prefix}_{name}", math.nan)) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _rounded(value: float, digits: int = DIGITS) -> float | None:
    """The value with so many significant digits; None where it is not a number."""
    return float(f"{float(value):.{digits}g}") if math.isfinite(value) else None


# ---------------------------------------------------------------------- the training
def course(run: Run) -> Course:
    """How the training went: means of the log's numbers over at most :data:`COURSE_POINTS` spans of steps.

    A span's step is its last; a number that was measured at none of its steps is None.
    """
    log = pd.DataFrame(run.metrics()).apply(pd.to_numeric, errors="coerce")
    if log.empty:
        return Course(step=(), numbers={})
    by_step = log.groupby("step").mean()
    width = math.ceil(len(by_step) / COURSE_POINTS)
    spans = np.arange(len(by_step)) // width
    means = by_step.groupby(spans).mean()
    last = pd.Series(by_step.index, dtype=int).groupby(spans).max()
    return Course(
        step=tuple(int(step) for step in last),
        numbers={
            str(name): tuple(_rounded(value, COURSE_DIGITS) for value in means[name])
            for name in means.columns
            if means[name].notna().any()
        },
    )


def plateau(run: Run) -> dict[str, float | None]:
    """How far loss and held-out Dice still moved over the last fifth of the steps.

    A movement is the slope of the median line (Theil 1950, Sen 1968) through the logged values, over the
    length of the fifth: a single odd batch or study does not decide.

    - ``loss_percent``: of the three tasks' terms with their settings' weights (without the terms that enter
      late or play against each other, and without learned weights, under which a loss is not comparable with
      itself), in percent of the line's value at the fifth's start.  It is 0 where the 95 % interval of the
      slope holds 0: batches differ, and that is no movement.
    - ``dice_points``: of the monitored held-out studies, in percent; the last value before the fifth counts
      too, because few fall into it.

    None where fewer than three values of the loss, or two of the Dice, were logged.
    """
    log, config = run.metrics(), run.config
    steps = config.training.steps
    start = (1 - LAST_SHARE) * steps
    weights = {task: getattr(config.objective, task) for task in TASKS}
    losses = [
        (record["step"], sum(weights[task] * record[task] for task in TASKS))
        for record in log
        if record["step"] > start and all(task in record for task in TASKS)
    ]
    dices = [(r["step"], 100 * r["held_out_dice"]) for r in log if r.get("held_out_dice") is not None]
    before = [point for point in dices if point[0] <= start][-1:]
    points = [*before, *(point for point in dices if point[0] > start)]
    return {
        "loss_percent": _loss_movement(losses, start, LAST_SHARE * steps),
        "dice_points": _movement(points, LAST_SHARE * steps),
    }


def _loss_movement(points: Sequence[tuple[float, float]], start: float, length: float) -> float | None:
    if len(points) < 3:
        return None
    line = stats.theilslopes([y for _, y in points], [x for x, _ in points])
    if line.low_slope <= 0 <= line.high_slope:
        return 0.0
    at_start = line.intercept + line.slope * start
    return _rounded(100 * line.slope * length / max(abs(at_start), 1e-12))


def _movement(points: Sequence[tuple[float, float]], length: float) -> float | None:
    if len(points) < 2:
        return None
    return _rounded(stats.theilslopes([y for _, y in points], [x for x, _ in points]).slope * length)
