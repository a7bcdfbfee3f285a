"""Every experiment, cell by cell, on one tiny cohort that is prepared once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from mtinet.cohort import Cohort
from mtinet.experiments.catalogue import EXPERIMENTS
from mtinet.experiments.execute import Campaign, execute, prepare_once
from mtinet.experiments.gather import gather, read_folder
from mtinet.experiments.plan import Choice, Plan, plan
from mtinet.workflows.train import TrainOptions, train

# two steps, so that the terms that enter late are in force at the second
STEPS = ("training.steps=2", "training.batch_size=2", "training.validate_every=0", "training.log_every=1")
SMALLEST = (*STEPS, "training.diagnose_every=1", "evaluation.bootstrap=10", "sampling.patch_size=32,32")


def tiny(name: str, cohort: Path) -> Plan:
    sites = [study.site for study in Cohort.read(cohort).studies]
    return plan(EXPERIMENTS[name], Choice(preset="tiny", assignments=SMALLEST, folds=(0,), seeds=1), sites)


@pytest.fixture(scope="module")
def prepared(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    campaign = Campaign.of(cohort, tmp_path_factory.mktemp("catalogue"))
    prepare_once(campaign, tiny("depth", cohort).cells, 1)
    return campaign


def cells_of_all(cohort: Path):
    """Cells by what is trained: experiments share some."""
    found = {}
    for name in EXPERIMENTS:
        for row, cells in tiny(name, cohort).rows.items():
            found.setdefault(repr((cells[0].config, cells[0].learning)), (f"{name}: {row}", cells[0]))
    return found.values()


@pytest.mark.slow
def test_every_cell_of_every_experiment_trains(prepared: Campaign, cohort: Path, tmp_path: Path):
    for number, (name, cell) in enumerate(cells_of_all(cohort)):
        options = TrainOptions(fold=cell.fold, folds=cell.folds, learning=cell.learning, workers=1)
        try:
            run = train(cohort, tmp_path / str(number), cell.config, options)
        except Exception as error:
            error.add_note(name)
            raise
        totals = [line["total"] for line in run.metrics() if "total" in line]
        assert len(totals) == 2, name
        assert all(map(math.isfinite, totals)), name


@pytest.mark.slow
def test_two_rows_of_every_experiment_leave_records(prepared: Campaign, cohort: Path):
    for name in EXPERIMENTS:
        planned = tiny(name, cohort)
        reference = planned.experiment.reference
        other = next(row for row in planned.rows if row != reference)
        rows = {row: planned.rows[row][:1] for row in (reference, other)}
        for row, (cell,) in rows.items():
            # one further scoring says as much as fifteen
            rows[row] = (replace(cell, scorings=cell.scorings[:1]),)
            outcome = execute(prepared, rows[row][0])
            assert outcome.state in ("done", "skipped"), (name, row, outcome.findings)
        gathered = gather(Plan(planned.experiment, rows), read_folder(prepared.records)[0])
        assert not gathered.missing
        assert [row.name for row in gathered.rows if row.name in (reference, other)]
