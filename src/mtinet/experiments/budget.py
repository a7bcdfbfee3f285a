"""What a grid will cost, said before it starts: seconds a step by kind of run, times steps, times runs."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtinet.cohort import Cohort
from mtinet.config import Config, resolve_settings
from mtinet.experiments.execute import Campaign
from mtinet.experiments.identity import decisive_settings
from mtinet.experiments.plan import Cell, Plan
from mtinet.progress import duration
from mtinet.records import RunRecord

PROBE_STEPS = 8
"""One period of the discriminator's gradient penalty."""

ENTRIES = ("regression", "classification", "tim", "adversarial")


@dataclass(frozen=True)
class Price:
    """What the runs of a row cost.

    Attributes
    ----------
    row : str
    runs : int
        Those that have no record yet, and that no row before it does already.
    steps : int
    step_s : float
        Seconds a training step.
    source : {"records", "measured"}
        From earlier runs with the same settings, or from a few steps just now.
    """

    row: str
    runs: int
    steps: int
    step_s: float
    source: str

    @property
    def seconds(self) -> float:
        """Of training; scoring and the monitor come on top."""
        return self.runs * self.steps * self.step_s


@dataclass(frozen=True)
class Budget:
    """Prices by row.

    Attributes
    ----------
    prices : tuple of Price
    workers : int
        Runs at a time.
    """

    prices: tuple[Price, ...]
    workers: int

    @property
    def seconds(self) -> float:
        """Of training, with all workers busy."""
        return sum(price.seconds for price in self.prices) / self.workers

    @property
    def text(self) -> str:
        """A line a row, and the sum."""
        lines = [
            f"{p.row}: {p.runs} runs x {p.steps} steps x {p.step_s:.3f} s ({p.source}) = {duration(p.seconds)}"
            for p in self.prices
            if p.runs
        ]
        runs = sum(price.runs for price in self.prices)
        if not runs:
            return "every run is done"
        total = f"training of {runs} runs: about {duration(self.seconds)}"
        at_a_time = f", {self.workers} at a time" if self.workers > 1 else ""
        return "\n".join([*lines, f"{total}{at_a_time}; looks at held-out studies and scoring come on top"])

    def to_dict(self) -> dict[str, Any]:
        """The prices, and their sum, in JSON's types."""
        return {
            "rows": [{**asdict(price), "seconds": price.seconds} for price in self.prices],
            "runs": sum(price.runs for price in self.prices),
            "workers": self.workers,
            "seconds": self.seconds,
        }


def budget(
    campaign: Campaign,
    plan: Plan,
    records: Iterable[RunRecord],
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Budget:
    """Price the runs that are still to be done.

    A kind of run that no record prices is measured: it trains for a few steps with every term of its objective
    in force, on studies that are prepared already (:func:`~mtinet.experiments.execute.prepare_once`).

    Parameters
    ----------
    campaign : Campaign
    plan : Plan
    records : iterable of RunRecord
    workers : int
        Runs at a time; each measures with its share of threads.
    on_progress : callable, optional
        Called as ``on_progress(rows done, rows)``.
    """
    known = _known_steps(records)
    measured: dict[str, float] = {}
    seen: set[str] = set()
    prices = []
    probe = _Probe(campaign, workers)
    for number, (name, cells) in enumerate(plan.rows.items(), start=1):
        config = cells[0].config
        kind = _kind(config)
        left = _not_done(campaign, cells, seen)
        if kind in known:
            price = Price(name, left, config.training.steps, statistics.median(known[kind]), "records")
        elif not left:
            price = Price(name, 0, config.training.steps, 0.0, "records")
        else:
            if kind not in measured:
                measured[kind] = probe.step_s(config)
            price = Price(name, left, config.training.steps, measured[kind], "measured")
        prices.append(price)
        if on_progress is not None:
            on_progress(number, len(plan.rows))
    return Budget(tuple(prices), workers)


# ---------------------------------------------------------------------- parts
def _kind(config: Config) -> str:
    """What decides the cost of a step: all settings but the seed's and the number of steps."""
    values = decisive_settings(config)
    del values["training"]["steps"]
    return json.dumps(values, sort_keys=True)


def _known_steps(records: Iterable[RunRecord]) -> Mapping[str, Sequence[float]]:
    known: dict[str, list[float]] = {}
    for record in records:
        if record.step_s > 0:
            known.setdefault(_kind(record.config), []).append(record.step_s)
    return known


def _not_done(campaign: Campaign, cells: Sequence[Cell], seen: set[str]) -> int:
    left = 0
    for cell in cells:
        id = campaign.id(cell)
        if id not in seen and not campaign.is_done(cell):
            left += 1
        seen.add(id)
    return left


class _Probe:
    """Measures steps with the real trainer."""

    def __init__(self, campaign: Campaign, workers: int) -> None:
        self.campaign = campaign
        self.workers = workers
        self.cohort = Cohort.read(campaign.cohort)

    def step_s(self, config: Config) -> float:
        """Seconds a step."""
        import torch

        from mtinet.workflows.bench_cases import Case, Patients
        from mtinet.workflows.bench_measures import Contender
        from mtinet.workflows.pool import default_workers
        from mtinet.workflows.prepare import prepare

        changes = [f"objective.{term}_from=0" for term in ENTRIES]
        # no loader processes: they would take longer to start than the steps
        config = resolve_settings(config, None, [*changes, "training.workers=0"])
        studies = prepare(self.cohort, config, self.campaign.cache, workers=1).studies
        before = torch.get_num_threads()
        torch.set_num_threads(min(before, max(1, default_workers() // self.workers)))
        try:
            with tempfile.TemporaryDirectory() as place:
                patients = Patients(studies, studies[0], self.cohort.classes)
                device = "cuda" if torch.cuda.is_available() else "cpu"
                contender = Contender(Case("probe", config), patients, Path(place), device, PROBE_STEPS + 1)
                contender.train(1)
                return contender.train(PROBE_STEPS).step_s
        finally:
            torch.set_num_threads(before)
