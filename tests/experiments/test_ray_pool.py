from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mtinet.config import resolve_settings
from mtinet.errors import UserError
from mtinet.experiments.execute import Campaign
from mtinet.experiments.plan import Cell
from mtinet.experiments.ray_pool import Cluster, run_cells_on_ray
from mtinet.records import RunRecord


def test_without_ray_the_message_says_what_to_do(campaign: Campaign, cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'mtinet\[ray\]'.*--workers"):
        run_cells_on_ray(campaign, cells, Cluster("local"))


def _working() -> Iterator[int]:
    """Processes of Ray that work on a run: they bear the name of what they do."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::_work"):
                yield int(path.parent.name)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's list of processes")
def test_a_lost_worker_is_replaced_and_goes_on(campaign: Campaign, cells: tuple[Cell, ...]):
    """A cluster of this machine with two workers; the first to write a checkpoint is killed."""
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'mtinet[ray]')")
    longer = [
        replace(cell, config=resolve_settings(cell.config, None, ("training.steps=60",))) for cell in cells
    ]
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    killed: list[int] = []

    def kill_one() -> None:
        folders = [campaign.run_folder(campaign.id(cell)) for cell in longer]
        while not any(list(folder.glob("checkpoints/step-*.safetensors")) for folder in folders):
            time.sleep(0.05)
        killed.append(next(pid for pid in _working()))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    try:
        outcomes = run_cells_on_ray(campaign, longer, Cluster("local"))
    finally:
        ray.shutdown()
    assert killed
    assert [outcome.state for outcome in outcomes] == ["done", "done"]
    for outcome in outcomes:
        assert RunRecord.read(campaign.record_path(outcome.id)).course.step[-1] == 60
