"""Live progress on stderr: bars for long work, a line a minute where there is no terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

QUIET_SECONDS = 30.0
"""Seconds between two lines where stderr is not a terminal."""

Advance = Callable[[int, int], None]
"""Called as ``advance(done, total)``."""


@contextmanager
def bar(title: str, total: int | None = None) -> Iterator[Advance]:
    """A progress bar; the block gets ``advance(done, total)``."""
    console = Console(stderr=True)
    if not console.is_terminal:
        last = [time.monotonic()]

        def line(done: int, total: int) -> None:
            if time.monotonic() - last[0] >= QUIET_SECONDS or done == total:
                last[0] = time.monotonic()
                console.print(f"{title}: {done}/{total}", highlight=False, soft_wrap=True)

        yield line
        return
    with _rich(console) as progress:
        task = progress.add_task(title, total=total, text="")
        yield lambda done, total: progress.update(task, completed=done, total=total)


class StageProgress:
    """Bars of a workflow with several stages: each stage its own bar, the training with its numbers."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = _rich(self._console)
        self._tasks: dict[str, TaskID] = {}
        self._last = time.monotonic()

    def __enter__(self) -> StageProgress:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def stage(self, title: str) -> Advance:
        """``advance(done, total)`` of a stage."""
        return lambda done, total: self._show(title, done, total, "")

    def prepared(self, done: int, total: int) -> None:
        """Studies prepared."""
        self._show("Preparing", done, total, "")

    def step(self, step: int, total: int, numbers: Mapping[str, float]) -> None:
        """A training step done, with its numbers."""
        shown = ("total", "segmentation", "regression", "classification", "held_out_dice")
        text = "  ".join(
            f"{name.replace('_', ' ')} {numbers[name]:.3f}"
            for name in shown
            if name in numbers and math.isfinite(numbers[name])
        )
        self._show("Training", step, total, text)

    def say(self, text: str) -> None:
        """A line that stays above the bars."""
        self._console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def _show(self, title: str, done: int, total: int, text: str) -> None:
        if not self._console.is_terminal:
            if done == total or time.monotonic() - self._last >= QUIET_SECONDS:
                self._last = time.monotonic()
                self._console.print(
                    f"{title}: {done}/{total}  {text}".rstrip(), highlight=False, soft_wrap=True
                )
            return
        if title not in self._tasks:
            self._tasks[title] = self._progress.add_task(title, total=total, text="")
        self._progress.update(self._tasks[title], completed=done, total=total, text=text)


class GridProgress:
    """The progress of many trainings at once: runs and steps done, and the time left.

    Parameters
    ----------
    title : str
    runs, steps : int
        Of the whole grid; what is done already is taken off as it is met.
    """

    def __init__(self, title: str, runs: int, steps: int) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            console=self._console,
        )
        self._task = self._bar.add_task(title, total=steps, text="")
        self._title, self._runs, self._steps = title, runs, steps
        self._ended = 0
        self._first: dict[str, int] = {}
        self._reached: dict[str, int] = {}
        self._begun = time.monotonic()
        self._last = 0.0

    def __enter__(self) -> GridProgress:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, run: str, step: int) -> None:
        """A run has reached a step."""
        # a resumed run begins late: what it did before says nothing of the pace
        self._first.setdefault(run, step - 1)
        self._reached[run] = step
        self._show()

    def done(self, run: str, steps: int) -> None:
        """A run of so many steps has ended, or needs nothing."""
        self._ended += 1
        self._first.setdefault(run, steps)
        self._reached[run] = steps
        self._show(self._ended == self._runs)

    @property
    def seconds_left(self) -> float | None:
        """At the pace since the start; None before there is one."""
        made = sum(self._reached[run] - self._first[run] for run in self._reached)
        left = self._steps - sum(self._reached.values())
        return (time.monotonic() - self._begun) * left / made if made > 0 else None

    def _show(self, always: bool = False) -> None:
        reached = sum(self._reached.values())
        left = self.seconds_left
        text = f"{self._ended}/{self._runs} runs, {100 * reached / max(self._steps, 1):.0f} % of steps"
        if left is not None and reached < self._steps:
            text += f", about {duration(left)} left"
        if self._console.is_terminal:
            self._bar.update(self._task, completed=reached, text=text)
        elif always or time.monotonic() - self._last >= QUIET_SECONDS:
            self._last = time.monotonic()
            self._console.print(f"{self._title}: {text}", highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _rich(console: Console) -> Progress:
    # in a narrow terminal the numbers are cut, never how far it is and how long it takes
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        console=console,
        expand=True,
    )
