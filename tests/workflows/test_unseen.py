"""A patient who trained a network, or one that it was fine-tuned from, is never held out or scored."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mtinet.cohort import Cohort
from mtinet.config import resolve
from mtinet.errors import UnusableError
from mtinet.reporting.inputs import read_evaluated
from mtinet.reporting.overview import cohort_summary
from mtinet.runs import Run, RunError
from mtinet.workflows.evaluate import evaluate
from mtinet.workflows.imports.merge import merge_cohorts
from mtinet.workflows.train import TrainOptions, train

CONFIG = resolve("tiny", assignments=["training.steps=2", "training.validate_every=0"])
ALL = TrainOptions(fold=None, workers=1)


def fine_tuned(cohort: Path, out: Path, start: Run, fold: int | None = 0) -> Run:
    return train(cohort, out, CONFIG, TrainOptions(fold=fold, folds=3, workers=1, init=start.path))


@pytest.fixture
def start(toy_cohort: Cohort, tmp_path: Path) -> Run:
    """A run that trained on every patient of the toy cohort."""
    return train(toy_cohort.folder, tmp_path / "start", CONFIG, ALL)


@pytest.fixture
def others(toy_maker, tmp_path: Path) -> Cohort:
    """Other patients, under the ids of the toy cohort."""
    folder = tmp_path / "others"
    studies = [
        toy_maker(20 + i).write(folder, f"s{i}", ("hcc", "hemangioma")[i % 2], f"p{i}") for i in range(6)
    ]
    Cohort("others", tuple(studies), ("hemangioma", "hcc")).write(folder)
    return Cohort.read(folder)


@pytest.mark.parametrize("name", ["toy", "renamed"])
def test_an_edited_cohort_holds_out_the_same_patients(toy_cohort: Cohort, tmp_path: Path, start: Run, name):
    sites = tuple(replace(study, site="B") for study in toy_cohort.studies)
    replace(toy_cohort, name=name, studies=sites).write(tmp_path / "edited")
    with pytest.raises(RunError, match="holds out"):
        fine_tuned(tmp_path / "edited", tmp_path / "run", start)


def test_so_does_a_merged_cohort_under_new_ids(
    toy_cohort: Cohort, others: Cohort, tmp_path: Path, start: Run
):
    merge_cohorts([toy_cohort.folder, others.folder], tmp_path / "merged")
    merged = Cohort.read(tmp_path / "merged")
    assert not {s.study_id for s in merged.studies} & {s.study_id for s in toy_cohort.studies}
    with pytest.raises(RunError, match="holds out"):
        fine_tuned(merged.folder, tmp_path / "run", start)
    run = fine_tuned(merged.folder, tmp_path / "all", start, fold=None)
    with pytest.raises(UnusableError, match="trained the model"):
        evaluate(run.path, cohort=toy_cohort.folder)


@pytest.mark.slow
def test_what_was_learned_before_fine_tuning_is_never_scored_and_is_reported(
    toy_cohort: Cohort, others: Cohort, toy_maker, tmp_path: Path, start: Run
):
    second = fine_tuned(others.folder, tmp_path / "second", start)
    third = fine_tuned(others.folder, tmp_path / "third", second)
    # neither the start run nor its cohort's state is needed to know them
    newcomer = toy_maker(70).write(tmp_path / "later", "new", "hcc", "newcomer")
    replace(toy_cohort, studies=(*toy_cohort.studies, newcomer)).write(tmp_path / "later")
    for run in (second, third):
        scored = evaluate(run.path, cohort=tmp_path / "later")
        assert {f.case for f in scored.findings if f.id == "trained-on"} == {
            s.study_id for s in toy_cohort.studies
        }
        assert scored.scored.studies == 1
        facts = dict(cohort_summary(read_evaluated(run, scored.folder)).facts)
        assert re.search(r"trained on 6 patients of toy\b", facts["Fine-tuned from"])
    assert facts["Fine-tuned from"] == "second, trained on 6 patients of toy, then 4 patients of others"
    # its own held-out patients are new to it
    assert evaluate(third.path).scored.studies == 2
