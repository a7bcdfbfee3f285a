"""Predict one study or every study of a cohort, one folder each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mtinet.cohort import Cohort, Study
from mtinet.errors import UserError
from mtinet.inference.predictor import Predictor, StudyPrediction
from mtinet.reporting.picture import study_picture
from mtinet.results import Finding, Result, save
from mtinet.runs import Run


@dataclass(frozen=True)
class Predictions:
    """What was predicted, and what a user should know about it."""

    results: tuple[Result, ...]
    findings: tuple[Finding, ...]


def predict(
    model: Path, source: Path, out: Path, *, on_progress: Callable[[int, int], None] | None = None
) -> Predictions:
    """Predict ``source``, a folder with ``<phase>.nii.gz`` files or a cohort.

    Each study gets ``mask.nii.gz``, ``result.json`` and ``picture.png``: in ``out`` itself for one study, in
    ``out/<study_id>`` for a cohort.  A study that fails becomes a finding and does not stop the others.
    """
    is_cohort = (source / "cohort.csv").is_file()
    studies = Cohort.read(source).studies if is_cohort else (Study.from_folder(source),)
    predictor = Predictor.load(Run.open(model))
    results: list[Result] = []
    findings: list[Finding] = []
    for done, study in enumerate(studies, start=1):
        try:
            prediction = predictor.explain(study)
            write_prediction(prediction, out / study.study_id if is_cohort else out)
        except UserError as error:
            findings.append(
                Finding(
                    "not-predicted",
                    "predict",
                    "error",
                    str(error),
                    "Mend the study and predict it again.",
                    study.study_id,
                )
            )
        else:
            results.append(prediction.result)
            findings += prediction.result.findings
        if on_progress is not None:
            on_progress(done, len(studies))
    return Predictions(tuple(results), tuple(findings))


def write_prediction(prediction: StudyPrediction, folder: Path) -> None:
    """Write a prediction's mask, JSON and picture."""
    save(prediction.result, folder)
    study = prediction.study
    study_picture(
        study.image,
        study.present,
        study.phases,
        prediction.labels,
        study.spacing_mm,
        prediction.result.lesions,
        folder / "picture.png",
        title=study.study_id,
    )
