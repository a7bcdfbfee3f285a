from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest

from mtinet.config import resolve_settings
from mtinet.experiments.execute import Campaign, Outcome
from mtinet.experiments.plan import Cell
from mtinet.experiments.pool import TRIES, Progress, run_cells
from mtinet.records import RunRecord


def test_runs_that_occur_twice_are_done_once(campaign: Campaign, cells: tuple[Cell, ...]):
    ended: list[Outcome] = []
    outcomes = run_cells(campaign, [cells[0], cells[0]], progress=Progress(done=ended.append))
    assert [outcome.state for outcome in outcomes] == ["done"]
    assert ended == outcomes


@pytest.mark.slow
def test_a_killed_process_costs_its_own_run_only(campaign: Campaign, cells: tuple[Cell, ...], finished):
    killed = []

    def kill_one(_id: str, _step: int, _steps: int) -> None:
        if not killed:
            killed.append(multiprocessing.active_children()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    # as many steps as let the kill come before the end
    longer = [
        replace(cell, config=resolve_settings(cell.config, None, ("training.steps=60",))) for cell in cells
    ]
    outcomes = run_cells(campaign, longer, 2, Progress(step=kill_one))
    assert killed
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    for outcome in outcomes:
        assert RunRecord.read(campaign.record_path(outcome.id)).course.step[-1] == 60


@pytest.mark.slow
def test_a_process_that_always_dies_is_a_finding(campaign: Campaign, cells: tuple[Cell, ...]):
    begun = []

    def kill(_id: str, _step: int, _steps: int) -> None:
        begun.append(multiprocessing.active_children()[0].pid)
        os.kill(begun[-1], signal.SIGKILL)

    endless = resolve_settings(cells[0].config, None, ("training.steps=100000",))
    outcomes = run_cells(campaign, [replace(cells[0], config=endless)], 2, Progress(step=kill))
    assert outcomes[0].state == "failed"
    assert outcomes[0].findings[0].id == "run-died"
    assert len(set(begun)) == TRIES
