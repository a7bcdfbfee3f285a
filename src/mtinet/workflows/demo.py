"""The main job on virtual patients, from nothing to a report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtinet.config import Config, difference, resolve_simulation
from mtinet.errors import UserError
from mtinet.progress import StageProgress
from mtinet.results import RESEARCH_USE
from mtinet.runs import Run
from mtinet.workflows.evaluate import evaluate
from mtinet.workflows.report import report
from mtinet.workflows.simulate import simulate
from mtinet.workflows.train import TrainOptions, train

FOLDS = 5
"""The demo holds out a fifth of its patients."""


@dataclass(frozen=True)
class Demo:
    """What the demo made."""

    cohort: Path
    run: Path
    report: Path
    seconds: dict[str, float]
    text: str

    def to_dict(self) -> dict[str, Any]:
        """The outcome in JSON's types."""
        return {
            "cohort": str(self.cohort),
            "run": str(self.run),
            "report": str(self.report),
            "seconds": self.seconds,
        }


def demo(
    out: Path,
    config: Config,
    *,
    seed: int = 0,
    subjects: int | None = None,
    simulation: str = "demo",
    progress: StageProgress | None = None,
) -> Demo:
    """Simulate patients, train with a fifth held out, evaluate on those, write the report.

    Whatever is finished in ``out`` already is not done again.  Nothing fails on a poor result: the demo
    reports what came out.

    Parameters
    ----------
    out : Path
    config : Config
        Its training seed is replaced by ``seed``.
    seed : int
        Of the patients and of the training.
    subjects : int, optional
        Number of patients; by default the simulation preset's.
    simulation : str
        Simulation preset.
    """
    config = config.model_copy(update={"training": config.training.model_copy(update={"seed": seed})})
    assignments = [f"seed={seed}", *([] if subjects is None else [f"subjects={subjects}"])]
    settings = resolve_simulation(simulation, None, assignments)
    cohort, run = out / "cohort", out / "run"
    seconds: dict[str, float] = {}

    def stage(name: str) -> Any:
        return None if progress is None else progress.stage(name)

    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name] = round(time.perf_counter() - clock, 1)
        clock = time.perf_counter()

    if (run / "config.yaml").is_file():
        changed = difference(Run.open(run).config, config)
        if changed:
            raise UserError(
                f"{run} was trained with other settings ({', '.join(changed)}); give another folder"
            )
    simulate(cohort, settings, on_progress=stage("Simulating"))
    lap("simulate")
    train(
        cohort,
        run,
        config,
        TrainOptions(folds=FOLDS, resume=True),
        on_prepared=None if progress is None else progress.prepared,
        on_step=None if progress is None else progress.step,
    )
    lap("train")
    scored = evaluate(run, on_progress=stage("Evaluating"))
    lap("evaluate")
    page = report(run)
    lap("report")
    opened = Run.open(run)
    split = opened.document("split")
    lines = [
        f"{len(split['train'])} virtual patients trained, {len(split['test'])} held out",
        scored.text,
        ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()),
        "Virtual patients are not patients: the numbers say that the software works, not how it does on MRI.",
        RESEARCH_USE,
        f"report: {page}",
    ]
    return Demo(cohort, run, page, seconds, "\n".join(lines))
