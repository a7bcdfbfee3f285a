"""One function on many studies, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mtinet.errors import UserError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

OnProgress = Callable[[int, int], None]
"""Called with the number of studies done and their total."""


def default_workers() -> int:
    """Processes that this machine gives us."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def for_each(
    function: Callable[[Item], Outcome],
    items: Sequence[Item],
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[Outcome]:
    """Outcomes of a function in the order of its items, however many processes work.

    Parameters
    ----------
    function : callable
        Importable by name (it is sent to the processes); what it raises is raised here.
    items : sequence
    workers : int, optional
        0 or 1 = in this process; None = as many as the machine has.
    on_progress : callable, optional
    """
    count = min(default_workers() if workers is None else workers, len(items))
    outcomes: dict[int, Outcome] = {}
    for index, outcome in _outcomes(function, items, count):
        outcomes[index] = outcome
        if on_progress is not None:
            on_progress(len(outcomes), len(items))
    return [outcomes[index] for index in range(len(items))]


def apart(function: Callable[[Item], Outcome], item: Item, what: str, repair: str) -> Outcome:
    """The outcome of a function in a fresh process of its own.

    Parameters
    ----------
    function : callable
        Importable by name; what it raises is raised here.
    item : object
    what, repair : str
        For the error: what the process is, and what to do where it ends before its work.

    Raises
    ------
    UserError
        The process ended before its work.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        try:
            return executor.submit(function, item).result()
        except BrokenProcessPool:
            raise UserError(
                f"{what} ended before its work: memory ran out, or the script that starts it is not guarded by "
                f"if __name__ == '__main__'; {repair}"
            ) from None


def _outcomes(
    function: Callable[[Item], Outcome], items: Sequence[Item], count: int
) -> Iterator[tuple[int, Outcome]]:
    if count <= 1:
        yield from ((index, function(item)) for index, item in enumerate(items))
        return
    # forked children of a process with threads (torch, SimpleITK) can hang: they are started afresh
    executor = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        futures = {executor.submit(function, item): index for index, item in enumerate(items)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process ended before its work: memory ran out, or a script that starts workers is not "
            "guarded by if __name__ == '__main__'; guard it, or use workers=1"
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)
