"""``mtinet calibrate``: learn from patients with masks, whom the model never saw, how sure it may be.

The patients are divided at random in two.  On the first part class probabilities are tempered, the existence
of a lesion is fitted, and it is learned what studies look like and how errors grow with a lesion's doubt; on
the second the conformal scores and the limit of unlikeness are taken.  Class, volume and curve are calibrated
on one lesion a study, the largest component that a reference lesion confirms: so cases are as exchangeable as
patients are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtinet.cohort import Cohort, Study
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UnusableError
from mtinet.evaluation.calibration import apply_temperature, fit_temperature
from mtinet.evaluation.conformal import ClassSets, Difficulty, Intervals, groups_of
from mtinet.evaluation.detection import match_lesions
from mtinet.imaging.masks import voxel_counts
from mtinet.inference.certainty import (
    Calibration,
    document_name,
    doubt,
    existence_features,
    method_key,
)
from mtinet.inference.ensemble import Ensemble
from mtinet.inference.familiar import Familiarity, Look, look_at_study
from mtinet.inference.panel import ALONE, Opinions
from mtinet.inference.predictor import Predictor, StudyPrediction
from mtinet.results import Finding, Lesion
from mtinet.runs import Run
from mtinet.workflows.prepare import prepare
from mtinet.workflows.scored_rows import reference_mask
from mtinet.workflows.unseen import never_seen

OnProgress = Callable[[int, int], None]

STREAM_PARTS = 72
"""Random stream of the division of the patients."""

FIRST_PART = 0.3
"""Share of the patients on whom temperature, existence, likeness and difficulty are fitted."""

FEWEST_IN_A_GROUP = 20
"""Lesions of a predicted class in the first part, without which it shares intervals with others."""

FEWEST_PATIENTS = 10
"""With fewer there is no use in dividing them."""


@dataclass(frozen=True)
class LesionCase:
    """A predicted component beside what is known about it.

    Attributes
    ----------
    lesion : Lesion
    label : str
        Class of the reference lesion; empty where unknown or where there is none.
    is_lesion : bool
        Whether a reference lesion confirms it.
    volume_mm3 : float
        Of the reference lesion; NaN without one.
    enhancement : dict
        Observed truth by phase, in the study's own units.
    """

    lesion: Lesion
    label: str
    is_lesion: bool
    volume_mm3: float
    enhancement: dict[str, float]


@dataclass(frozen=True)
class StudyCase:
    """A study's components, from the largest to the smallest, and what the study looks like."""

    study_id: str
    patient_id: str
    site: str
    gain: float
    lesions: tuple[LesionCase, ...]
    look: Look

    @property
    def main(self) -> LesionCase | None:
        """The largest component that is a lesion."""
        return next((case for case in self.lesions if case.is_lesion), None)


@dataclass(frozen=True)
class Calibrated:
    """What :func:`calibrate` learned, and where it lies.

    Attributes
    ----------
    path : Path
    calibration : Calibration
    lesions : tuple of Lesion
        Those whose errors the sets and intervals are taken from.
    findings : tuple of Finding
    """

    path: Path
    calibration: Calibration
    lesions: tuple[Lesion, ...]
    findings: tuple[Finding, ...]

    @property
    def text(self) -> str:
        """The outcome in a few lines."""
        learned = self.calibration
        counts = learned.counts
        widths = [learned.half_widths(lesion) for lesion in self.lesions]
        log_factor = float(np.median([volume for volume, _ in widths]))
        factor = f"within a factor of {math.exp(log_factor):.3g}" if log_factor < 700 else "no interval"
        signals = {p: float(np.median([by_phase[p] for _, by_phase in widths])) for p in learned.enhancement}
        return "\n".join(
            [
                f"calibrated on {counts['patients']} patients, {counts['studies']} studies of {counts['cohort']}: "
                f"{counts['first_part']} patients for temperature and likeness, {counts['second_part']} for coverage",
                f"temperature {learned.temperature:.3g}; sets and intervals of {learned.coverage:.0%} coverage",
                f"intervals of a usual lesion: volume {factor}; signal within "
                + ", ".join(
                    f"{w:.3g} ({p})" if math.isfinite(w) else f"none ({p})" for p, w in signals.items()
                )
                + " of the study's gain",
                f"written: {self.path}",
            ]
        )


def calibrate(
    run_folder: Path,
    cohort_folder: Path,
    *,
    ensemble: Sequence[Path] = (),
    opinions: Opinions = ALONE,
    coverage: float = 0.9,
    seed: int = 0,
    cache: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Calibrated:
    """Calibrate a model on a cohort and write ``calibration.json`` into its run folder.

    Parameters
    ----------
    run_folder, cohort_folder : Path
    ensemble : sequence of Path
        Other runs that are asked too; the calibration then holds for all of them together.
    opinions : Opinions
        Flips and dropout, likewise.
    coverage : float
        Nominal coverage of class sets and intervals.
    seed : int
        Of the division of the patients.
    cache : Path, optional
        Where prepared studies are kept.
    on_progress : callable, optional
        Called as ``on_progress(done, total)``.

    Raises
    ------
    UserError
        Fewer than 10 patients are left who did not train one of the runs, or no component is a lesion.
    """
    runs = [Run.open(path) for path in (run_folder, *ensemble)]
    predictor = Ensemble.open(runs, opinions)
    predictor.calibration = None  # an older one has no say
    cohort = Cohort.read(cohort_folder)
    prepared, findings = prepare(cohort, predictor.config, cache)
    for run in runs:
        prepared, trained_on = never_seen(run, cohort, prepared, "calibrate")
        findings += trained_on
    known = [study for study in prepared if study.has_mask]
    if len({study.patient_id for study in known}) < FEWEST_PATIENTS:
        raise UnusableError(
            f"{cohort.name} has {len({s.patient_id for s in known})} patients with masks who did not train the "
            f"model, too few to calibrate on (at least {FEWEST_PATIENTS}, some hundred for narrow intervals); "
            "give another cohort"
        )
    cases = []
    for done, study in enumerate(known, start=1):
        cases.append(study_case(predictor, cohort[study.study_id], study))
        if on_progress is not None:
            on_progress(done, len(known))
    calibration = fit_calibration(cases, predictor, coverage, seed, cohort=cohort.name, hash=cohort.hash)
    name = document_name(predictor.facts)
    runs[0].write_document(name, calibration.to_dict())
    second = one_a_patient(divide(cases, seed)[1])
    lesions = tuple(case.main.lesion for case in second if case.main is not None)
    return Calibrated(runs[0].path / f"{name}.json", calibration, lesions, tuple(findings))


def study_case(
    predictor: Predictor, study: Study, prepared: PreparedStudy, prediction: StudyPrediction | None = None
) -> StudyCase:
    """Predict a study with known lesions (where that is not done yet) and lay the truth beside it."""
    prediction = prediction or predictor.predict_prepared(prepared, measured=False)
    return StudyCase(
        study_id=prepared.study_id,
        patient_id=prepared.patient_id,
        site=prepared.site,
        gain=prepared.gain,
        lesions=tuple(_lesion_cases(predictor, study, prepared, prediction)),
        look=look_at_study(predictor.seen(prepared), prediction.vote.description),
    )


def _lesion_cases(
    predictor: Predictor, study: Study, prepared: PreparedStudy, prediction: StudyPrediction
) -> list[LesionCase]:
    reference, mask = reference_mask(study, prepared), prediction.result.mask
    assert reference is not None  # only studies with known lesions come here
    assert mask is not None
    matches = match_lesions(reference, mask.array, predictor.config.evaluation.detection_iou)
    partner = {m.predicted: m.reference for m in matches if m.predicted is not None}
    sizes, known = voxel_counts(reference), {lesion.number: lesion for lesion in prepared.lesions}
    cases = []
    for lesion in prediction.result.lesions:
        number = partner.get(lesion.number)
        truth = None if number is None else known.get(number)
        cases.append(
            LesionCase(
                lesion=lesion,
                label=truth.label if truth is not None and truth.label in predictor.classes else "",
                is_lesion=number is not None,
                volume_mm3=math.nan if number is None else sizes[number] * mask.voxel_mm3,
                enhancement={}
                if truth is None
                else {phase: value * prepared.gain for phase, value in truth.enhancement.items()},
            )
        )
    return cases


def divide(cases: Sequence[StudyCase], seed: int) -> tuple[list[StudyCase], list[StudyCase]]:
    """The studies of the first and of the second part's patients."""
    patients = sorted({case.patient_id for case in cases})
    order = np.random.default_rng([seed, STREAM_PARTS]).permutation(len(patients))
    first = {patients[i] for i in order[: round(FIRST_PART * len(patients))]}
    return [c for c in cases if c.patient_id in first], [c for c in cases if c.patient_id not in first]


def one_a_patient(cases: Sequence[StudyCase]) -> list[StudyCase]:
    """Each patient's first study by name, where the model found a lesion if there is one.

    Follow-ups of one patient err alike: with them some patients would count several times, and coverage would scatter
    more than the number of cases says.
    """
    chosen: dict[str, StudyCase] = {}
    for case in sorted(cases, key=lambda case: (case.main is None, case.study_id)):
        chosen.setdefault(case.patient_id, case)
    return sorted(chosen.values(), key=lambda case: case.study_id)


def fit_calibration(
    cases: Sequence[StudyCase], predictor: Predictor, coverage: float, seed: int, **facts: Any
) -> Calibration:
    """A calibration from studies that the predictor did not train on; ``facts`` go into its counts.

    Raises
    ------
    UnusableError
        No component is a lesion in one of the two parts.
    """
    first, second = divide(cases, seed)
    second = one_a_patient(second)
    mains = [case.main for case in second if case.main is not None]
    if not mains:
        raise UnusableError(
            "the model found no lesion of the calibration patients: there is nothing to calibrate"
        )
    classes = predictor.classes
    temperature = fit_temperature(*_labelled([c.main for c in first if c.main is not None], classes))
    truth, probabilities = _labelled(mains, classes)
    phases = predictor.config.phases
    return Calibration(
        method=method_key(predictor.facts),
        coverage=coverage,
        temperature=temperature,
        existence=_fit_existence([lesion for case in first for lesion in case.lesions]),
        class_sets=ClassSets.fit(classes, truth, apply_temperature(probabilities, temperature)),
        volume=_fit_intervals(first, second, coverage, lambda _, lesion: log_volume_error(lesion)),
        enhancement={
            phase: _fit_intervals(first, second, coverage, partial(_normalised_error, phase))
            for phase in phases
        },
        familiarity=Familiarity.fit([c.look for c in first], [c.look for c in second], phases),
        counts={
            "patients": len({case.patient_id for case in cases}),
            "studies": len(cases),
            "first_part": len({case.patient_id for case in first}),
            "second_part": len({case.patient_id for case in second}),
            "lesions": len(mains),
            "seed": seed,
            **facts,
        },
    )


def _fit_intervals(
    first: Sequence[StudyCase],
    second: Sequence[StudyCase],
    coverage: float,
    error: Callable[[StudyCase, LesionCase], float],
) -> Intervals:
    """Intervals from the second part; what they are wider for, and the groups, from the first."""

    def mains(cases: Sequence[StudyCase]) -> tuple[Any, Any, list[str]]:
        """Error, doubt and predicted class of each study's largest lesion whose error is known."""
        found = [(error(case, case.main), case.main.lesion) for case in cases if case.main is not None]
        known = [(value, lesion) for value, lesion in found if math.isfinite(value)]
        doubts = np.array([doubt(lesion.confidence) for _, lesion in known])
        return np.array([value for value, _ in known]), doubts, [lesion.label for _, lesion in known]

    errors, doubts, names = mains(first)
    # enough for a quantile: a group's second part is more than twice its first
    groups = groups_of(names, max(FEWEST_IN_A_GROUP, math.ceil(1 / (1 - coverage))))
    return Intervals.fit(*mains(second), Difficulty.fit(errors, doubts), groups)


def log_volume_error(case: LesionCase) -> float:
    """Logarithm of the predicted over the true volume."""
    return math.log(case.lesion.volume_mm3 / case.volume_mm3)


def signal_error(case: LesionCase, phase: str) -> float:
    """Predicted less true signal in a phase; NaN where one of them is unknown."""
    return case.lesion.enhancement.get(phase, math.nan) - case.enhancement.get(phase, math.nan)


def _normalised_error(phase: str, case: StudyCase, lesion: LesionCase) -> float:
    return signal_error(lesion, phase) / case.gain


def _labelled(cases: Sequence[LesionCase], classes: Sequence[str]) -> tuple[Any, Any]:
    """Index of the true class [rows] and class probabilities [rows, classes] of lesions of known class."""
    known = [case for case in cases if case.label]
    truth = np.array([classes.index(case.label) for case in known], dtype=np.intp)
    rows = [[case.lesion.probabilities[name] for name in classes] for case in known]
    return truth, np.array(rows, dtype=np.float64).reshape(len(known), len(classes))


def _fit_existence(cases: Sequence[LesionCase]) -> tuple[float, float, float] | None:
    """Logistic regression of what tells a lesion from a false component; None with one kind only."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    truth = np.array([case.is_lesion for case in cases])
    if len(set(truth.tolist())) < 2:
        return None
    features = np.array([existence_features(c.lesion.confidence, c.lesion.volume_mm3) for c in cases])
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, truth)
    scaler, logistic = fitted[0], fitted[1]
    weights = logistic.coef_[0] / scaler.scale_
    return (
        float(logistic.intercept_[0] - weights @ scaler.mean_),
        float(weights[0]),
        float(weights[1]),
    )
