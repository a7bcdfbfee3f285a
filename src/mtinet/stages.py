"""Seconds of the stages of a piece of work, for whoever wants to know them; nobody else pays.

A function says once what it is part of, as in ``@stage("network")``, and a block of it by ``with stage("read")``.
Within ``with timed() as seconds`` their seconds are added up.  A stage inside another takes its seconds from
the outer one, so that the stages of a work add up to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class _Watch:
    """Gives the time since it was last looked at to the innermost stage that runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.running: list[str] = []
        self.looked = time.perf_counter()

    def look(self) -> None:
        now = time.perf_counter()
        if self.running:
            name = self.running[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self.looked
        self.looked = now


_watch: ContextVar[_Watch | None] = ContextVar("watch", default=None)


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Seconds by stage, filled while the block runs."""
    watch = _Watch()
    token = _watch.set(watch)
    try:
        yield watch.seconds
    finally:
        _watch.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """A stage of a work: a block, or as a decorator a function."""
    watch = _watch.get()
    if watch is None:
        yield
        return
    watch.look()
    watch.running.append(name)
    try:
        yield
    finally:
        watch.look()
        watch.running.pop()
