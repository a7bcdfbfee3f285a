"""The runs of a grid on a Ray cluster: a run a task with declared processors, all in one shared folder.

The campaign's folder, its cohort and its cache have to be seen under the same path from every node.  A task
whose node or process is lost is started again by Ray, on another node, and goes on from the run's last
checkpoint.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mtinet.errors import UserError
from mtinet.experiments.execute import Campaign, Outcome, execute
from mtinet.experiments.plan import Cell
from mtinet.experiments.pool import TRIES, WAIT_S, Progress
from mtinet.results import Finding


@dataclass(frozen=True)
class Cluster:
    """Where and with what the runs go.

    Attributes
    ----------
    address : str
        As Ray takes it: ``auto`` (the cluster that this machine is part of), ``ray://host:10001``, or
        ``local`` (a cluster of this machine alone).
    cpus, gpus : float
        Declared for each run; Ray runs as many at a time as the nodes have.
    """

    address: str
    cpus: float = 1
    gpus: float = 0


def run_cells_on_ray(
    campaign: Campaign, cells: Sequence[Cell], cluster: Cluster, progress: Progress | None = None
) -> list[Outcome]:
    """Do the runs of cells on a cluster (see :func:`~mtinet.experiments.pool.run_cells`).

    Raises
    ------
    UserError
        Ray is not installed, or there is no cluster at the address.
    """
    ray = _ray()
    progress = progress or Progress()
    by_id = {campaign.id(cell): cell for cell in cells}
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, cluster)
    # -1 would try for ever where a run kills its node every time
    options = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_retries": TRIES}
    task = ray.remote(**options)(_work)
    try:
        return _collect(ray, task, campaign, by_id, cluster, progress)
    finally:
        if ours:
            ray.shutdown()


def _collect(
    ray: Any,
    task: Any,
    campaign: Campaign,
    cells: dict[str, Cell],
    cluster: Cluster,
    progress: Progress,
) -> list[Outcome]:
    cores = max(1, int(cluster.cpus))
    running = {task.remote(campaign, cell, cores): id for id, cell in cells.items()}
    later: deque[tuple[str, float]] = deque()
    outcomes: dict[str, Outcome] = {}
    while running or later:
        while later and later[0][1] <= time.monotonic():
            id, _ = later.popleft()
            running[task.remote(campaign, cells[id], cores)] = id
        if not running:
            time.sleep(WAIT_S / 10)
            continue
        ready, _ = ray.wait(list(running), timeout=WAIT_S)
        for reference in ready:
            id = running.pop(reference)
            try:
                outcome = ray.get(reference)
            except ray.exceptions.RayError as error:
                outcome = Outcome(id, "failed", (_lost(id, error),))
            if outcome.state == "busy":
                later.append((id, time.monotonic() + WAIT_S))
                continue
            outcomes[id] = outcome
            progress.done(outcome)
    return [outcomes[id] for id in cells]


def _work(campaign: Campaign, cell: Cell, cores: int) -> Outcome:
    import torch

    from mtinet.training.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(cores)
    return execute(campaign, cell, cores=cores)


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise UserError(
            "--ray needs the package ray: pip install 'mtinet[ray]'; on one machine --workers does without"
        ) from None


def _connect(ray: Any, cluster: Cluster) -> None:
    try:
        ray.init(address=cluster.address, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"there is no Ray cluster at {cluster.address} ({error}); start one (ray start --head), or give "
            "--ray local"
        ) from None


def _lost(id: str, error: Exception) -> Finding:
    return Finding(
        "run-died",
        "experiment",
        "error",
        f"the cluster lost it {TRIES + 1} times ({type(error).__name__}: {str(error).splitlines()[0]})",
        "Look at the nodes' memory, declare more processors a run, then give the same command again.",
        id,
    )
