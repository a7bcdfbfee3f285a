from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtinet.cohort import Cohort
from mtinet.config import resolve_settings
from mtinet.config.variation import ScoringVariation
from mtinet.evaluation.convergence import is_at_rest
from mtinet.experiments import record as recording
from mtinet.experiments.execute import Campaign
from mtinet.inference.predictor import Predictor
from mtinet.inference.reader import Reader
from mtinet.records import RunRecord, StudyScore
from mtinet.runs import Run
from mtinet.workflows.claims import NetworkClaims
from mtinet.workflows.evaluate import Evaluation, evaluate
from mtinet.workflows.prepare import prepare

Finished = tuple[Campaign, tuple[RunRecord, ...]]


class Log:
    """A run of which only the log and the settings matter."""

    def __init__(self, run: Run, lines: list[dict], steps: int, *changes: str) -> None:
        self.config = resolve_settings(run.config, None, (f"training.steps={steps}", *changes))
        self.lines = lines

    def metrics(self) -> list[dict]:
        return self.lines


def test_every_field_of_a_record_is_explained(explained):
    assert explained("records/<id>.json") == {*RunRecord.model_fields, *StudyScore.model_fields}


@pytest.fixture(scope="module")
def run(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Run:
    campaign, records = finished
    place = tmp_path_factory.mktemp("record") / "run"
    shutil.copytree(campaign.run_folder(records[0].id), place)
    return Run.open(place)


@pytest.fixture(scope="module")
def evaluation(run: Run) -> Evaluation:
    return evaluate(run.path, workers=1)


def line(step: int, loss: float) -> dict:
    return {"step": step, "segmentation": loss, "regression": 0.0, "classification": 0.0}


def test_scores_are_those_of_the_tables(finished: Finished, run: Run):
    record = finished[1][0]
    studies = pd.read_csv(run.predictions / "studies.csv", dtype={"study_id": str})
    scored = record.scorings[0].studies
    assert [s.study_id for s in scored] == studies["study_id"].tolist() == list(run.document("split")["test"])
    assert record.scorings[0].variation == ScoringVariation()
    for score, (_, row) in zip(scored, studies.iterrows(), strict=True):
        assert (score.dice is None) == math.isnan(row["dice"])
        if score.dice is not None:
            assert score.dice == pytest.approx(row["dice"], rel=1e-5)
        assert score.volume_ml == pytest.approx(row["reference_volume_mm3"] / 1000, rel=1e-5)


def test_enhancement_errors_are_those_of_the_summary(run: Run, evaluation: Evaluation):
    """The mean of the studies' errors, weighted by their phases, is the summary's pooled error."""
    scores = recording.scoring(run, evaluation.folder, ScoringVariation()).studies
    with_lesion = [score for score in scores if score.true]
    phases = [len(score.true) for score in with_lesion]
    for field, method in (
        ("enhancement_error", "head"),
        ("measured_error", "read_out"),
        ("mean_error", "training_mean"),
        ("oracle_error", "oracle_mask"),
    ):
        expected = evaluation.scored.find("enhancement", "mae_raw", method).value
        mean = np.average([getattr(score, field) for score in with_lesion], weights=phases)
        assert mean == pytest.approx(expected, rel=1e-4)
        relative = evaluation.scored.find("enhancement", "mae_relative", method)
        name = {"head": "relative_error_percent"}.get(method, f"{field[:-6]}_relative_error_percent")
        values = [getattr(score, name) for score in with_lesion]
        assert np.average(values, weights=[n - 1 for n in phases]) == pytest.approx(relative.value, rel=1e-4)


def test_classes_are_those_of_the_summary(run: Run, evaluation: Evaluation):
    scores = recording.scoring(run, evaluation.folder, ScoringVariation()).studies
    known = [score for score in scores if score.label in run.classes]
    for method in ("logistic_regression", "majority"):
        right = np.mean([score.baselines[method] == score.label for score in known])
        assert right == pytest.approx(evaluation.scored.find("classification", "accuracy", method).value)
    right = np.mean([score.predicted_label == score.label for score in known])
    assert right == pytest.approx(evaluation.scored.find("classification", "accuracy").value)
    right = np.mean([score.oracle_label == score.label for score in known])
    oracle = evaluation.scored.find("classification", "accuracy", "oracle_mask")
    assert right == pytest.approx(oracle.value)


def test_the_network_that_is_scored_answers_as_the_one_that_predicts(run: Run, cohort: Path):
    prepared = prepare(Cohort.read(cohort), run.config, workers=1).studies
    predictor, claims = Predictor.load(run, "cpu"), NetworkClaims(Reader.of_run(run), run.classes)
    lesions = 0
    for study in prepared:
        said, predicted = claims.claim(study), predictor.predict_prepared(study, measured=False)
        np.testing.assert_array_equal(said.mask, predicted.result.mask.array)
        np.testing.assert_array_equal(said.labels, predicted.labels)
        assert said.label == predicted.result.label
        for lesion in predicted.result.lesions:
            assert said.probabilities[lesion.number] == lesion.probabilities
            curve = said.enhancement[lesion.number][np.asarray(study.present)] * study.gain
            assert curve.tolist() == pytest.approx(list(lesion.enhancement.values()))
            lesions += 1
    assert lesions


def test_a_missed_lesion_takes_the_training_mean_and_no_class(
    run: Run, evaluation: Evaluation, tmp_path: Path
):
    folder = tmp_path / "tables"
    folder.mkdir()
    for name in ("studies.csv", "lesions.csv"):
        (folder / name).write_bytes((evaluation.folder / name).read_bytes())
    lesions = pd.read_csv(folder / "lesions.csv", dtype={"study_id": str})
    lesions.loc[lesions["reference"].notna(), "predicted"] = np.nan
    lesions[lesions["reference"].notna()].to_csv(folder / "lesions.csv", index=False)
    for score in recording.scoring(run, folder, ScoringVariation()).studies:
        if score.true:
            assert score.enhancement_error == score.measured_error == score.mean_error
            assert score.predicted_label == "none"
            assert not score.probabilities
            assert not score.predicted
            assert score.oracle_label in run.classes


def test_read_outs_leave_probabilities_of_the_lesions_that_were_found(
    run: Run, evaluation: Evaluation, tmp_path: Path
):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "studies.csv").write_bytes((evaluation.folder / "studies.csv").read_bytes())
    lesions = pd.read_csv(evaluation.folder / "lesions.csv", dtype={"study_id": str})
    lesions = lesions[lesions["reference"].notna()].reset_index(drop=True)
    found = lesions.index > 0  # all but the first, exactly as they are
    lesions["predicted"] = np.where(found, lesions["reference"], np.nan)
    for phase in run.config.phases:
        lesions[f"measured_{phase}"] = lesions[f"true_{phase}"].where(found)
    for name in run.classes:
        lesions[f"p_{name}"] = np.where(found, 1 / len(run.classes), np.nan)
    lesions["predicted_label"] = np.where(found, run.classes[0], "")
    lesions.to_csv(folder / "lesions.csv", index=False)
    scores = {s.study_id: s for s in recording.scoring(run, folder, ScoringVariation()).studies if s.true}
    assert len(scores) > 1
    for study_id, there in zip(lesions["study_id"], found, strict=True):
        score = scores[study_id]
        for method in ("logistic_regression", "gradient_boosting"):
            given = score.baseline_probabilities.get(method, {})
            assert bool(given) == there
            if there:
                assert sum(given.values()) == pytest.approx(1.0, abs=1e-5)
                assert max(given, key=lambda name: given[name]) == score.baselines[method]
        assert "majority" not in score.baseline_probabilities


@pytest.mark.parametrize(
    ("lacks", "gone", "stays"),
    [
        (
            "segmentation",
            ("dice", "predicted_volume_ml", "enhancement_error", "measured_error"),
            ("oracle_error",),
        ),
        ("regression", ("enhancement_error", "oracle_error"), ("dice", "measured_error")),
        ("classification", (), ("dice", "enhancement_error")),
    ],
)
def test_a_task_that_was_not_learned_has_no_score(run: Run, evaluation: Evaluation, lacks, gone, stays):
    class Without(Run):
        @property
        def config(self):
            return resolve_settings(run.config, None, [f"objective.{lacks}=0"])

    scores = recording.scoring(Without(run.path), evaluation.folder, ScoringVariation()).studies
    with_lesion = [score for score in scores if score.true]
    assert with_lesion
    for score in with_lesion:
        assert [getattr(score, name) for name in gone] == [None] * len(gone)
        assert None not in [getattr(score, name) for name in stays]
        assert (score.predicted_label == "") == (lacks in ("segmentation", "classification"))
        assert (score.oracle_label == "") == (lacks == "classification")


# ---------------------------------------------------------------------- course and rest
def test_the_course_keeps_means_of_spans(run: Run):
    lines = [{"step": n, "total": float(n)} for n in range(1, 1001)]
    lines += [{"step": 500, "held_out_dice": 0.5}]
    course = recording.course(Log(run, lines, 1000))
    assert len(course.step) == 50
    assert course.step[-1] == 1000
    assert course.numbers["total"][:2] == (10.5, 30.5)
    dice = course.numbers["held_out_dice"]
    assert [v for v in dice if v is not None] == [0.5]
    assert course.step[dice.index(0.5)] == 500


def test_a_falling_loss_moves_by_its_slope(run: Run):
    # from 1.0 at step 800 to 0.9 at step 1000: a tenth of the value at the fifth's start
    lines = [line(n, 1.0 - 0.1 * (n - 800) / 200) for n in range(10, 1001, 10)]
    moved = recording.plateau(Log(run, lines, 1000))
    assert moved["loss_percent"] == pytest.approx(-10.0)
    assert moved["dice_points"] is None
    assert not is_at_rest(moved)


def test_noise_around_a_rest_is_rest(run: Run):
    rng = np.random.default_rng(3)
    lines = [line(n, 1.0 + 0.1 * rng.standard_normal()) for n in range(10, 1001, 10)]
    lines += [{"step": n, "held_out_dice": 0.8} for n in (250, 500, 750, 1000)]
    moved = recording.plateau(Log(run, lines, 1000))
    assert moved == {"loss_percent": 0.0, "dice_points": 0.0}
    assert is_at_rest(moved)


def test_one_odd_batch_does_not_decide(run: Run):
    lines = [line(n, 1.0 + 1e-6 * n) for n in range(10, 1001, 10)]
    lines[-1] = line(1000, 50.0)
    assert abs(recording.plateau(Log(run, lines, 1000))["loss_percent"]) < 0.5


@pytest.mark.parametrize(("last", "rests"), [(0.804, True), (0.81, False), (0.79, False)])
def test_dice_may_move_by_half_a_point(run: Run, last, rests):
    lines = [line(n, 1.0) for n in range(10, 1001, 10)]
    lines += [{"step": 800, "held_out_dice": 0.8}, {"step": 1000, "held_out_dice": last}]
    moved = recording.plateau(Log(run, lines, 1000))
    assert moved["dice_points"] == pytest.approx(100 * (last - 0.8))
    assert is_at_rest(moved) == rests


def test_what_was_not_logged_shows_no_rest(run: Run):
    assert recording.plateau(Log(run, [], 1000)) == {"loss_percent": None, "dice_points": None}
    assert not is_at_rest({"loss_percent": None, "dice_points": None})


def test_terms_outside_the_tasks_do_not_count(run: Run):
    lines = [{**line(n, 1.0), "adversarial": n / 10, "total": 1 + n / 10} for n in range(10, 1001, 10)]
    assert recording.plateau(Log(run, lines, 1000))["loss_percent"] == 0.0


def test_a_record_survives_its_file_and_holds_no_path(finished: Finished, tmp_path: Path):
    campaign, records = finished
    record = records[0]
    record.write(tmp_path / "r.json")
    assert RunRecord.read(tmp_path / "r.json") == record
    text = (tmp_path / "r.json").read_text()
    assert str(campaign.folder) not in text
    assert str(campaign.cohort) not in text
    assert record.step_s > 0
    assert record.seconds > 0
    assert record.manifest["threads"] >= 1
    assert record.manifest["processor"]
    assert record.manifest["virtual"] is False


def test_a_record_is_small_and_an_earlier_one_is_read(record_maker, tmp_path: Path):
    """As one of five folds of 238 patients leaves it; the numbers here have all their digits."""
    (record,) = record_maker(patients=48, folds=1).row()
    rng = np.random.default_rng(0)
    numbers = {f"number_{n}": tuple(np.round(rng.random(50), 4).tolist()) for n in range(40)}
    course = record.course.model_copy(update={"step": tuple(range(50)), "numbers": numbers})
    record = record.model_copy(update={"course": course})
    record.write(tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text()
    assert len(text) < 100_000
    assert RunRecord.read(tmp_path / "r.json") == record
    assert all(f'\n{{"study_id":"{score.study_id}"' in text for score in record.scorings[0].studies)
    earlier = {**record.model_dump(mode="json"), "format": 1}
    for scoring in earlier["scorings"]:
        for score in scoring["studies"]:
            del score["baseline_probabilities"]
    (tmp_path / "old.json").write_text(json.dumps(earlier, indent=2))
    read = RunRecord.read(tmp_path / "old.json")
    assert [s.dice for s in read.scorings[0].studies] == [s.dice for s in record.scorings[0].studies]
