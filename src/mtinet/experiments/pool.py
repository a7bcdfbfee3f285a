"""The runs of a grid on one machine: one after the other, or several processes with their share of threads.

A run has a process of its own.  One that is killed costs its own run only, which is tried again and goes on
from its last checkpoint.  A run that another campaign works on is waited for.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from mtinet.experiments.execute import Campaign, Outcome, execute
from mtinet.experiments.plan import Cell
from mtinet.results import Finding
from mtinet.workflows.pool import deaf_to_interruption, default_workers

TRIES = 3
"""How often a run whose process dies is begun."""

WAIT_S = 2.0
"""Seconds between two looks at runs that another process works on."""

TELL_S = 1.0
"""Seconds between two messages of a run about its steps."""


@dataclass(frozen=True)
class Progress:
    """What the runs tell while they go on; the defaults tell nobody.

    Attributes
    ----------
    step : callable
        Called as ``step(id, step, steps)``.
    done : callable
        Called as ``done(outcome)`` when a run has come to its end.
    """

    step: Callable[[str, int, int], None] = field(default=lambda _id, _step, _steps: None)
    done: Callable[[Outcome], None] = field(default=lambda _outcome: None)


def run_cells(
    campaign: Campaign, cells: Sequence[Cell], workers: int = 1, progress: Progress | None = None
) -> list[Outcome]:
    """Do the runs of cells.

    Parameters
    ----------
    campaign : Campaign
        Its cohort is prepared already (:func:`~mtinet.experiments.execute.prepare_once`).
    cells : sequence of Cell
        Runs that occur twice are done once.
    workers : int
        Processes; 1 = in this one.
    progress : Progress, optional

    Returns
    -------
    list of Outcome
        One a run, in the order of the cells.
    """
    progress = progress or Progress()
    by_id = {campaign.id(cell): cell for cell in cells}
    if workers <= 1:
        outcomes = _in_this_process(campaign, by_id, progress)
    else:
        outcomes = _Processes(campaign, by_id, min(workers, len(by_id)), progress).run()
    return [outcomes[id] for id in by_id]


def _in_this_process(campaign: Campaign, cells: Mapping[str, Cell], progress: Progress) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    waiting, busy = deque(cells), 0
    while waiting:
        id = waiting.popleft()

        def on_step(step: int, steps: int, _: Mapping[str, float], id: str = id) -> None:
            progress.step(id, step, steps)

        outcome = execute(campaign, cells[id], on_step)
        if outcome.state == "busy":
            waiting.append(id)
            busy += 1
            if busy >= len(waiting):
                time.sleep(WAIT_S)
                busy = 0
            continue
        busy = 0
        outcomes[id] = outcome
        progress.done(outcome)
    return outcomes


# ---------------------------------------------------------------------- several processes
@dataclass
class _Child:
    id: str
    process: SpawnProcess
    connection: Connection
    outcome: Outcome | None = None


class _Processes:
    """As many runs at a time as there are workers."""

    def __init__(
        self, campaign: Campaign, cells: Mapping[str, Cell], workers: int, progress: Progress
    ) -> None:
        self.campaign = campaign
        self.cells = cells
        self.workers = workers
        self.progress = progress
        self.cores = max(1, default_workers() // workers)
        # forked children of a process with threads can hang: they are started afresh
        self.context = multiprocessing.get_context("spawn")
        self.waiting = deque((id, 0.0) for id in cells)
        self.children: list[_Child] = []
        self.begun: dict[str, int] = {}
        self.outcomes: dict[str, Outcome] = {}

    def run(self) -> dict[str, Outcome]:
        """Work until every run has come to its end."""
        try:
            while self.waiting or self.children:
                self._start_those_due()
                self._listen()
        finally:
            for child in self.children:
                child.process.terminate()
                child.process.join()
        return self.outcomes

    def _start_those_due(self) -> None:
        for _ in range(len(self.waiting)):
            if len(self.children) >= self.workers:
                return
            id, due = self.waiting.popleft()
            if due > time.monotonic():
                self.waiting.append((id, due))
                continue
            self.begun[id] = self.begun.get(id, 0) + 1
            ours, theirs = self.context.Pipe(duplex=False)
            process = self.context.Process(
                target=_work, args=(theirs, self.campaign, self.cells[id], self.cores)
            )
            # Ctrl-C is for this process, which ends its children
            with deaf_to_interruption():
                process.start()
            theirs.close()  # so that the end of the child is the end of the pipe
            self.children.append(_Child(id, process, ours))

    def _listen(self) -> None:
        if not self.children:
            time.sleep(WAIT_S / 10)
            return
        ready = wait([child.connection for child in self.children], timeout=WAIT_S)
        for child in [child for child in self.children if child.connection in ready]:
            try:
                message = child.connection.recv()
            except (EOFError, OSError):
                self._ended(child)
                continue
            if isinstance(message, Outcome):
                child.outcome = message
            else:
                self.progress.step(child.id, *message)

    def _ended(self, child: _Child) -> None:
        child.process.join()
        self.children.remove(child)
        outcome = child.outcome
        if outcome is not None and outcome.state == "busy":
            self.begun[child.id] -= 1
            self.waiting.append((child.id, time.monotonic() + WAIT_S))
            return
        if outcome is None and self.begun[child.id] < TRIES:
            self.waiting.append((child.id, 0.0))
            return
        if outcome is None:
            outcome = Outcome(child.id, "failed", (_died(child.id, child.process.exitcode),))
        self.outcomes[child.id] = outcome
        self.progress.done(outcome)


def _work(connection: Connection, campaign: Campaign, cell: Cell, cores: int) -> None:
    """What a run's process does; it ends with the process that wants to hear of it."""
    import torch

    from mtinet.training.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(min(torch.get_num_threads(), cores))  # OMP_NUM_THREADS holds here too
    last = 0.0

    def on_step(step: int, steps: int, _: Mapping[str, Any]) -> None:
        nonlocal last
        if step == steps or time.monotonic() - last >= TELL_S:
            last = time.monotonic()
            connection.send((step, steps))

    # the campaign is gone: the run stops here and goes on with the next one
    with contextlib.suppress(BrokenPipeError):
        connection.send(execute(campaign, cell, on_step, cores))


def _died(id: str, code: int | None) -> Finding:
    return Finding(
        "run-died",
        "experiment",
        "error",
        f"its process ended {TRIES} times before its work (exit code {code}); -9 is often too little memory",
        "Give fewer --workers or a smaller training.batch_size, then the same command again.",
        id,
    )
