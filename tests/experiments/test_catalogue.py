"""Every experiment, cell by cell, on one tiny cohort that is prepared once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from lightning_fabric import Fabric

from mtinet.cohort import Cohort
from mtinet.data.dataset import PatchDataset
from mtinet.data.variation import learned
from mtinet.experiments.catalogue import EXPERIMENTS
from mtinet.experiments.execute import Campaign, execute, prepare_once
from mtinet.experiments.gather import gather, read_folder
from mtinet.experiments.plan import Choice, Plan, plan
from mtinet.runs import Run
from mtinet.training.loop import Trainer
from mtinet.workflows.prepare import prepare
from mtinet.workflows.train import networks

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
    read = Cohort.read(cohort)
    by_preparation: dict[str, list] = {}
    for number, (name, cell) in enumerate(cells_of_all(cohort)):
        key = repr((cell.config.phases, cell.config.preparation))
        if key not in by_preparation:
            by_preparation[key] = prepare(read, cell.config, workers=1).studies
        studies = [learned(study, cell.learning, cell.seed) for study in by_preparation[key]]
        network, discriminator = networks(studies, cell.config, read.classes)
        data = PatchDataset(studies, cell.config, read.classes, cell.seed)
        run = Run.create(tmp_path / str(number), cell.config, {"manifest": {}})
        trainer = Trainer(run, cell.config, network, discriminator, data, [], Fabric(devices=1))
        trainer.set_up()
        totals = [trainer.step(batch)["total"] for batch in trainer.batches()]
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
