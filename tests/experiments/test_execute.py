from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mtinet.cohort import Cohort
from mtinet.config import resolve_settings
from mtinet.config.variation import ScoringVariation
from mtinet.errors import UserError
from mtinet.experiments import execute as execution
from mtinet.experiments.execute import Campaign, execute, prepare_once
from mtinet.experiments.plan import Cell, Choice, Experiment, plan
from mtinet.experiments.pool import run_cells
from mtinet.inference.ensemble import Ensemble
from mtinet.records import RunRecord
from mtinet.runs import Run
from mtinet.workflows.prepare import prepare

DRIVER = """
import sys
from pathlib import Path
import torch
from mtinet.experiments.execute import Campaign
from mtinet.experiments.plan import Cell
from mtinet.experiments.pool import run_cells
from mtinet.config import Config
torch.set_num_threads(1)
cohort, folder, *files = map(Path, sys.argv[1:])
cells = []
for file in files:
    config = Config.model_validate_json(file.read_text())
    cells.append(Cell(config, *DEFAULTS, config.training.seed, 0, 5))
for outcome in run_cells(Campaign.of(cohort, folder), cells):
    print(outcome.id, outcome.state, flush=True)
""".replace("*DEFAULTS", "__import__('mtinet.config.variation', fromlist=['x']).LearningVariation(), ()")


def numbers(record: RunRecord) -> tuple:
    scored = [(scoring.variation, scoring.studies) for scoring in record.scorings]
    return scored, record.course, record.plateau, record.converged, record.findings


def start(campaign: Campaign, cells: list[Cell], place: Path) -> subprocess.Popen:
    """Another process that runs the cells in the campaign's folder."""
    files = []
    for number, cell in enumerate(cells):
        files.append(place / f"cell-{number}.json")
        files[-1].write_text(cell.config.model_dump_json())
    call = [sys.executable, "-c", DRIVER, campaign.cohort, campaign.folder, *files]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, call)), stdout=subprocess.PIPE, text=True, env=environment)


def test_a_finished_run_is_not_done_again(finished, cells: tuple[Cell, ...]):
    campaign, records = finished
    path = campaign.record_path(records[0].id)
    before = path.stat().st_mtime_ns
    outcome = execute(campaign, cells[0])
    assert (outcome.state, outcome.id) == ("skipped", records[0].id)
    assert path.stat().st_mtime_ns == before


def test_only_what_is_light_stays(finished):
    campaign, records = finished
    folder = campaign.run_folder(records[0].id)
    assert not list(folder.rglob("step-*.safetensors"))
    assert not list(folder.rglob("masks"))
    assert (folder / "checkpoints" / "model.safetensors").is_file()
    assert (folder / "predictions" / "studies.csv").is_file()


def test_all_stays_where_it_is_to_be_kept(campaign: Campaign, cells: tuple[Cell, ...]):
    outcome = execute(replace(campaign, keep=True), cells[0])
    folder = campaign.run_folder(outcome.id)
    assert list(folder.rglob("step-*.safetensors"))
    assert list((folder / "predictions" / "masks").iterdir())


def test_a_run_claimed_by_another_is_busy(campaign: Campaign, cells: tuple[Cell, ...]):
    with campaign.claim(campaign.id(cells[0])) as claimed:
        assert claimed
        assert execute(campaign, cells[0]).state == "busy"
    with campaign.claim(campaign.id(cells[0])) as claimed:
        assert claimed


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 1}', ""])
def test_a_damaged_record_is_a_finding_and_done_again(finished, cells: tuple[Cell, ...], damage):
    campaign, records = finished
    path = campaign.record_path(records[0].id)
    path.write_text(damage)
    assert not campaign.is_done(cells[0])
    outcome = execute(campaign, cells[0])
    assert outcome.state == "done"
    assert [finding.id for finding in outcome.findings] == ["record-damaged"]
    assert numbers(RunRecord.read(path)) == numbers(records[0])


def test_the_record_of_another_run_does_not_count(finished, cells: tuple[Cell, ...], tmp_path: Path):
    campaign, records = finished
    elsewhere = replace(campaign, records=tmp_path)
    elsewhere.record_path(records[0].id).write_bytes(campaign.record_path(records[1].id).read_bytes())
    assert not elsewhere.is_done(cells[0])
    assert "another run" in elsewhere.find_record(records[0].id)[1][0].meaning


def test_another_scoring_needs_no_other_training(finished, cells: tuple[Cell, ...]):
    campaign, records = finished
    model = campaign.run_folder(records[1].id) / "checkpoints" / "model.safetensors"
    before = model.stat().st_mtime_ns
    noisy = ScoringVariation(noise=0.2)
    outcome = execute(campaign, replace(cells[1], scorings=(noisy,)))
    assert outcome.state == "done"
    record = RunRecord.read(campaign.record_path(records[1].id))
    assert [scoring.variation for scoring in record.scorings] == [ScoringVariation(), noisy]
    assert record.scorings[0] == records[1].scorings[0]
    assert record.scorings[1].studies != record.scorings[0].studies
    assert model.stat().st_mtime_ns == before
    assert campaign.is_done(cells[1])


@pytest.mark.slow
def test_several_trainings_are_asked_together(pair: Experiment, fast: Choice, campaign: Campaign):
    together = ScoringVariation(networks=2)
    row = replace(pair.row("full"), scorings=(together, ScoringVariation(flips=True)))
    cells = plan(replace(pair, rows=(row,), seeds=2), fast).cells
    assert [(cell.seed, together in cell.scorings) for cell in cells] == [(1, False), (0, True)]
    first = cells[1]
    with campaign.claim(campaign.id(cells[0])):  # another process works on the other network
        assert execute(campaign, first).state == "busy"
    assert not campaign.is_done(first)
    assert [outcome.state for outcome in run_cells(campaign, cells)] == ["done", "done"]
    plain, flipped, mean = RunRecord.read(campaign.record_path(campaign.id(first))).scorings
    assert (mean.variation, flipped.variation) == (together, ScoringVariation(flips=True))
    assert all(scoring.study_s for scoring in (plain, mean, flipped))
    studies = Cohort.read(campaign.cohort)
    runs = [Run(campaign.run_folder(campaign.id(cell))) for cell in (first, cells[0])]
    both = Ensemble.open(runs)
    for score in mean.studies:
        prepared = prepare(studies.subset([score.study_id]), both.config, campaign.cache, 1).studies[0]
        found = both.predict_prepared(prepared, measured=False).result
        volume = sum(lesion.volume_mm3 for lesion in found.lesions) / 1000
        assert score.predicted_volume_ml == pytest.approx(volume, rel=1e-4)
    assert mean.studies != plain.studies != flipped.studies


def test_a_run_folder_that_cannot_be_resumed_is_done_anew(
    campaign: Campaign, cells: tuple[Cell, ...], finished
):
    id = campaign.id(cells[0])
    folder = campaign.run_folder(id)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model: nothing\n")
    outcome = execute(campaign, cells[0])
    assert outcome.state == "done"
    assert [finding.id for finding in outcome.findings] == ["run-restarted"]


def test_what_one_run_fails_by_stops_no_other(campaign: Campaign, cells: tuple[Cell, ...]):
    exploding = resolve_settings(
        cells[0].config, None, ("training.learning_rate=1e30", "training.clip=0", "training.optimizer=sgd")
    )
    bad = replace(cells[0], config=exploding)
    outcomes = run_cells(campaign, [bad, cells[1]])
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert outcomes[0].findings[0].id == "run-failed"
    assert "not finite" in outcomes[0].findings[0].meaning


def test_a_cohort_that_changes_meanwhile_leaves_no_record(
    cells: tuple[Cell, ...], toy_cohort_writer, tmp_path: Path
):
    written = toy_cohort_writer(tmp_path / "cohort", 6)
    campaign = Campaign.of(written.folder, tmp_path / "campaign")
    image = next((written.folder).rglob("arterial*"))
    image.write_bytes(image.read_bytes() + b"0")
    outcome = execute(campaign, cells[0])
    assert outcome.state == "failed"
    assert "changed since this command began" in outcome.findings[-1].meaning
    assert not campaign.record_path(outcome.id).exists()


@pytest.mark.slow
def test_what_needs_no_other_run_stands_when_the_other_fails(
    pair: Experiment, fast: Choice, campaign: Campaign, monkeypatch
):
    together = ScoringVariation(networks=2)
    rows = (replace(pair.rows[0], scorings=(together,)),)
    cells = plan(replace(pair, rows=rows), replace(fast, seeds=2)).cells
    first = next(cell for cell in cells if cell.networks == 2)
    train = execution.train

    def failing(cohort, out, config, *rest, **options):
        if config.training.seed != first.seed:
            raise UserError("the loss is not finite")
        return train(cohort, out, config, *rest, **options)

    monkeypatch.setattr(execution, "train", failing)
    outcome = execute(campaign, first)
    assert outcome.state == "failed"
    assert f"of seed {first.seed + 1}" in outcome.findings[-1].meaning
    record = RunRecord.read(campaign.record_path(outcome.id))
    assert [scoring.variation for scoring in record.scorings] == [ScoringVariation()]
    monkeypatch.undo()
    assert execute(campaign, first).state == "done"
    assert together in [s.variation for s in RunRecord.read(campaign.record_path(outcome.id)).scorings]


def test_a_record_that_cannot_be_written_fails_the_run_alone(
    campaign: Campaign, cells: tuple[Cell, ...], tmp_path: Path
):
    blocked = tmp_path / "file"
    blocked.write_text("")
    outcome = execute(replace(campaign, records=blocked / "records"), cells[0])
    assert outcome.state == "failed"
    assert "file" in outcome.findings[-1].meaning


def test_preparation_is_done_once(campaign: Campaign, cells: tuple[Cell, ...]):
    done = []
    prepare_once(campaign, [*cells, *cells], 1, lambda *numbers: done.append(numbers))
    assert {total for _, total in done} == {12}
    assert [n for n, _ in done].count(12) == 1  # one pass over twelve studies for both kinds of cell


# ---------------------------------------------------------------------- other processes
@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(
    campaign: Campaign, cells: tuple[Cell, ...], cohort, tmp_path
):
    longer = resolve_settings(cells[0].config, None, ("training.steps=60", "training.validate_every=20"))
    cell = replace(cells[0], config=longer)
    folder = campaign.run_folder(campaign.id(cell))
    child = start(campaign, [cell], tmp_path)
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoints/step-*.safetensors")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not campaign.record_path(campaign.id(cell)).exists()
    # the lock went with its owner
    resumed: list[int] = []
    assert execute(campaign, cell, lambda step, *_: resumed.append(step)).state == "done"
    assert resumed[0] > 1
    whole = Campaign.of(cohort, tmp_path / "whole")
    assert execute(whole, cell).state == "done"
    id = campaign.id(cell)
    again, straight = (RunRecord.read(place.record_path(id)) for place in (campaign, whole))
    assert numbers(again) == numbers(straight)


@pytest.mark.slow
def test_two_campaigns_on_one_folder_share_the_work(campaign: Campaign, cells: tuple[Cell, ...], tmp_path):
    more = [
        replace(
            cell, config=resolve_settings(cell.config, None, (f"training.seed={seed}", "training.steps=20"))
        )
        for seed in (0, 1)
        for cell in cells
    ]
    both = [start(campaign, more, tmp_path) for _ in range(2)]
    states = [dict(line.split() for line in child.communicate(timeout=240)[0].splitlines()) for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert set(states[0]) == set(states[1])
    for id in states[0]:
        assert sorted(state[id] for state in states) == ["done", "skipped"]
        steps = [line["step"] for line in Run(campaign.run_folder(id)).metrics() if "total" in line]
        assert len(steps) == len(set(steps))  # nobody trained into the other's folder
        assert json.loads(campaign.record_path(id).read_text())["id"] == id
