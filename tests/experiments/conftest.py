"""A toy cohort of two sites, prepared once, and an experiment of two rows that takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtinet.cohort import Cohort
from mtinet.experiments.execute import Campaign, execute, prepare_once
from mtinet.experiments.plan import Cell, Choice, Experiment, Row, plan
from mtinet.records import RunRecord

FAST = (
    "training.steps=4",
    "training.validate_every=2",
    "training.checkpoint_every=2",
    "training.log_every=1",
    "training.diagnose_every=2",
    "evaluation.bootstrap=10",
)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory, toy_cohort_writer: Callable) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("experiments") / "cohort"
    written = toy_cohort_writer(folder, 12)
    studies = [replace(study, site="AB"[n // 2 % 2]) for n, study in enumerate(written.studies)]
    replace(written, studies=tuple(studies)).write(folder)
    return folder


@pytest.fixture(scope="session")
def pair() -> Experiment:
    return Experiment(
        name="pair",
        title="Two rows",
        question="Does the discriminator matter?",
        reference="full",
        rows=(Row("full", "Full"), Row("no-tdd", "No TDD", ("tdd.enabled=false",))),
        folds=(0,),
        preset="tiny",
    )


@pytest.fixture(scope="session")
def fast() -> Choice:
    return Choice(assignments=FAST)


@pytest.fixture(scope="session")
def cells(pair: Experiment, fast: Choice) -> tuple[Cell, ...]:
    return plan(pair, fast).cells


@pytest.fixture
def campaign(cohort: Path, tmp_path: Path, cells: tuple[Cell, ...]) -> Campaign:
    opened = Campaign.of(cohort, tmp_path / "campaign")
    prepare_once(opened, cells, 1)
    return opened


@pytest.fixture(scope="session")
def finished(
    cohort: Path, cells: tuple[Cell, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Campaign, tuple[RunRecord, ...]]:
    """A campaign whose cells are done, and their records."""
    campaign = Campaign.of(cohort, tmp_path_factory.mktemp("finished"))
    prepare_once(campaign, cells, 1)
    outcomes = [execute(campaign, cell) for cell in cells]
    assert [outcome.state for outcome in outcomes] == ["done", "done"], outcomes
    return campaign, tuple(RunRecord.read(campaign.record_path(outcome.id)) for outcome in outcomes)


@pytest.fixture
def whole_cohort(cohort: Path) -> Cohort:
    return Cohort.read(cohort)
