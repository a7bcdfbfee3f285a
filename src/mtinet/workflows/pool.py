"""One function on many studies, in this process or in several."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any, TypeVar

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
    try:
        with _workers(1) as submit:
            outcome: Outcome = submit(function, item).result()
            return outcome
    except BrokenProcessPool:
        raise UserError(
            f"{what} ended before its work: memory ran out, or the script that starts it is not guarded by "
            f"if __name__ == '__main__'; {repair}"
        ) from None


@contextlib.contextmanager
def deaf_to_interruption() -> Iterator[None]:
    """Processes started here do not hear Ctrl-C, which goes to all processes of a terminal; this one hears it after.

    A process that is being started would answer with the traceback of its imports.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # to start it unblocks the signal
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


class _Worker:
    """What the process of a worker knows of itself."""

    working = False
    interrupted = False


def _start_worker() -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _hear)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _hear(_signal: int, _frame: FrameType | None) -> None:
    """Break off a worker's work; one that waits keeps quiet and begins nothing more."""
    _Worker.interrupted = True
    if _Worker.working:
        raise KeyboardInterrupt


def _work(function: Callable[[Item], Outcome], item: Item) -> Outcome:
    try:
        _Worker.working = True
        if _Worker.interrupted:  # what a worker was handed before cannot be cancelled
            raise KeyboardInterrupt
        return function(item)
    finally:
        _Worker.working = False


@contextlib.contextmanager
def _workers(count: int) -> Iterator[Callable[..., Future[Any]]]:
    """``submit(function, item)`` of some processes, whose work ends with the block."""
    # forked children of a process with threads (torch, SimpleITK) can hang: they are started afresh
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start_worker)

    def submit(function: Callable[[Item], Outcome], item: Item) -> Future[Outcome]:
        with deaf_to_interruption():  # the processes are started with the first item
            return executor.submit(_work, function, item)

    try:
        yield submit
    finally:
        executor.shutdown(cancel_futures=True)


def _outcomes(
    function: Callable[[Item], Outcome], items: Sequence[Item], count: int
) -> Iterator[tuple[int, Outcome]]:
    if count <= 1:
        yield from ((index, function(item)) for index, item in enumerate(items))
        return
    try:
        with _workers(count) as submit:
            futures = {submit(function, item): index for index, item in enumerate(items)}
            for future in as_completed(futures):
                yield futures[future], future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process ended before its work: memory ran out, or a script that starts workers is not "
            "guarded by if __name__ == '__main__'; guard it, or use workers=1"
        ) from None
