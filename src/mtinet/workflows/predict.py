"""Predict one study or every study of a cohort, one folder each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtinet.cohort import Cohort, Study
from mtinet.data.prepared import to_source_grid
from mtinet.errors import UserError
from mtinet.inference.ensemble import ALONE, Ensemble, Opinions
from mtinet.inference.predictor import StudyPrediction
from mtinet.reporting.picture import study_picture
from mtinet.results import Finding, Result, save
from mtinet.runs import Run
from mtinet.volume import Volume
from mtinet.workflows.unseen import training_patients


@dataclass(frozen=True)
class Predictions:
    """What was predicted, and what a user should know about it."""

    results: tuple[Result, ...]
    findings: tuple[Finding, ...]


def predict(
    model: Path,
    source: Path,
    out: Path,
    *,
    ensemble: Sequence[Path] = (),
    opinions: Opinions = ALONE,
    maps: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Predict ``source``, a folder with ``<phase>.nii.gz`` files or a cohort.

    Each study gets ``mask.nii.gz``, ``result.json`` and ``picture.png``: in ``out`` itself for one study, in
    ``out/<study_id>`` for a cohort.  A study that fails becomes a finding and does not stop the others.

    Parameters
    ----------
    model, source, out : Path
    ensemble : sequence of Path
        Other runs that are asked too.  A patient of the cohort who trained any of the runs is refused: the
        mean of models that know a patient and models that do not says nothing about new ones.
    opinions : Opinions
        Flips and dropout.
    maps : bool
        Also write ``probability.nii.gz`` and ``entropy.nii.gz`` (bits), and of several opinions
        ``information.nii.gz`` (mutual information, bits).
    on_progress : callable, optional
        Called as ``on_progress(done, total)``.
    """
    is_cohort = (source / "cohort.csv").is_file()
    cohort = Cohort.read(source) if is_cohort else None
    studies = (Study.from_folder(source),) if cohort is None else cohort.studies
    runs = [Run.open(path) for path in (model, *ensemble)]
    trained = _trained_on(runs, cohort)
    predictor = Ensemble.open(runs, opinions)
    results: list[Result] = []
    findings: list[Finding] = []
    for done, study in enumerate(studies, start=1):
        try:
            if study.patient_id in trained:
                raise UserError(
                    f"study {study.study_id}: patient {study.patient_id} trained one of the runs of the "
                    "ensemble; predict with a run that did not see the patient"
                )
            prediction = predictor.explain(study)
            folder = out / study.study_id if is_cohort else out
            write_prediction(prediction, folder)
            if maps:
                write_maps(prediction, folder)
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


def _trained_on(runs: Sequence[Run], cohort: Cohort | None) -> set[str]:
    """Patients of a cohort who trained one run of an ensemble."""
    if cohort is None or len(runs) == 1:
        return set()
    return {patient for run in runs for patient in training_patients(run, cohort)}


def write_maps(prediction: StudyPrediction, folder: Path) -> None:
    """Write lesion probability, its entropy and what the opinions disagree about, on the source grid."""
    vote, study = prediction.vote, prediction.study
    named = {"probability": vote.probability, "entropy": vote.entropy, "information": vote.information}
    for name, values in named.items():
        if values is not None:
            volume = Volume(to_source_grid(values, study).astype(np.float32), study.source_affine)
            volume.write_nifti(folder / f"{name}.nii.gz")


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
