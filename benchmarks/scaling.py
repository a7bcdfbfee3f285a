"""How a campaign's cost grows, and what 10,000 studies would cost: ``python benchmarks/scaling.py OUT``.

Virtual cohorts are simulated in three sizes of each of four things (patients, voxels, phases, runs), the others
held; each is prepared, trained for some steps and scored.  Costs are processor seconds of one thread, which a
busy machine changes less than the clock.  A power law through the three sizes gives the exponent.  The
extrapolation multiplies the largest measured cost a study by the voxels it lacks, and says each factor.

Writes ``scaling.csv`` and ``scaling-manifest.json`` into ``docs/results`` and the tables into
``docs/scaling.md``.
"""

from __future__ import annotations

import argparse
import math
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from page import DOCS, markdown, put_into

from mtinet import files, provenance
from mtinet.cohort import Cohort
from mtinet.config import Config, SimulationSettings, resolve, resolve_simulation
from mtinet.experiments.crossval import EXPERIMENT
from mtinet.experiments.grid import Grid
from mtinet.experiments.plan import Choice
from mtinet.workflows.evaluate import evaluate
from mtinet.workflows.prepare import prepare
from mtinet.workflows.simulate import simulate
from mtinet.workflows.train import TrainOptions, train

SEED = 4000
PATIENTS = (8, 16, 32)
SPACING_MM = (5.0, 2.5, 1.25)
"""In the slice; 2.5 mm is the demo's."""

PHASES = (
    ("pre", "portal_venous"),
    ("pre", "arterial", "portal_venous", "delayed"),
    ("pre", "arterial", "arterial_late", "portal_venous", "transitional", "delayed"),
)
RUNS = (2, 4, 8)
STEPS = 120
MEASURES = ("prepare_s", "score_s", "step_s", "disk_mb")
"""Of a study, but for the step."""

TARGET_STUDIES, TARGET_MATRIX, TARGET_PHASES = 10_000, (192, 192, 48), 4
TARGET_ROWS, TARGET_FOLDS, TARGET_STEPS = 4, 5, (1_500, 40_000)
NODES, CORES = 16, 8
"""Of the cluster that the extrapolation divides by."""


@contextmanager
def processor_seconds(into: dict[str, float], name: str) -> Iterator[None]:
    """Add what this process and its finished children take within to ``into[name]``."""

    def used() -> float:
        both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(one.ru_utime + one.ru_stime for one in both)

    before = used()
    yield
    into[name] = into.get(name, 0.0) + used() - before


# ---------------------------------------------------------------------- measuring
def cost_of(folder: Path, settings: SimulationSettings, config: Config) -> dict[str, float]:
    """Processor seconds and megabytes a study, and processor seconds a step."""
    cohort = simulate(folder / "cohort", settings)
    used: dict[str, float] = {}
    with processor_seconds(used, "prepare_s"):
        prepare(Cohort.read(folder / "cohort"), config, folder / "cache", workers=1)
    size = sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file())
    options = TrainOptions(folds=2, cache=folder / "cache")
    with processor_seconds(used, "step_s"):
        run = train(folder / "cohort", folder / "run", config, options)
    with processor_seconds(used, "score_s"):
        evaluate(folder / "run")
    studies = len(cohort.studies)
    return {
        "prepare_s": used["prepare_s"] / studies,
        "score_s": used["score_s"] / len(run.document("split")["test"]),
        "step_s": used["step_s"] / config.training.steps,
        "disk_mb": size / studies / 1e6,
    }


def settings_of(name: str, patients: int, spacing_mm: float, phases: Sequence[str]) -> SimulationSettings:
    """A cohort of the demo's kind in another size."""
    given = [f"name={name}", f"seed={SEED}", f"subjects={patients}", f"phases=[{','.join(phases)}]"]
    settings = resolve_simulation("demo", None, given).with_sites(["A"])
    return settings.with_spacing((spacing_mm, spacing_mm, settings.sites[0].spacing_mm[2]))


def config_of(steps: int, phases: Sequence[str]) -> Config:
    """The preset ``small``, on each study's own grid."""
    given = [f"training.steps={steps}", "training.validate_every=0", "training.workers=0"]
    return resolve(
        "small", None, [*given, "preparation.spacing_mm=[null,null,null]", f"phases=[{','.join(phases)}]"]
    )


def grid_seconds(folder: Path, settings: SimulationSettings, runs: int, steps: int) -> float:
    """Processor seconds of a campaign of so many short runs, on a cohort that is prepared already."""
    simulate(folder / "cohort", settings)
    choice = Choice("small", None, (f"training.steps={steps}", "training.validate_every=0"))
    experiment = replace(EXPERIMENT, folds=tuple(range(runs)), of_folds=max(RUNS))
    grid = Grid.open(experiment, folder / "cohort", folder / f"{runs}", choice)
    used: dict[str, float] = {}
    with processor_seconds(used, "grid"):
        failed = [outcome for outcome in grid.run() if outcome.state == "failed"]
    if failed:
        raise SystemExit(f"{len(failed)} of {runs} runs failed: {failed[0]}")
    return used["grid"]


def measure(out: Path, quick: bool) -> pd.DataFrame:
    """A row a size of each thing."""
    patients, spacing, steps = ((8, 10, 12), (10.0, 7.5, 5.0), 4) if quick else (PATIENTS, SPACING_MM, STEPS)
    runs = (1, 2, 3) if quick else RUNS
    held = (patients[0], spacing[1], PHASES[1])
    cases = [("patients", float(n), (n, *held[1:])) for n in patients]
    cases += [("voxels", s, (held[0], s, held[2])) for s in spacing]
    cases += [("phases", float(len(p)), (*held[:2], p)) for p in PHASES]
    rows = []
    for number, (thing, size, (count, step, phases)) in enumerate(cases):
        settings = settings_of(f"scaling-{number}", count, step, phases)
        if thing == "voxels":
            size = float(math.prod(settings.sites[0].matrix))
        found = cost_of(out / f"{thing}-{number}", settings, config_of(steps, phases))
        rows.append({"thing": thing, "size": size, **found})
        print(rows[-1], flush=True)
    for count in runs:
        seconds = grid_seconds(
            out / "runs", settings_of("scaling-runs", patients[-1], *held[1:]), count, steps
        )
        rows.append({"thing": "runs", "size": float(count), "run_s": seconds / count})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------- reading
def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """The power of each cost in each thing, through its three sizes."""
    rows = []
    for thing, part in table.groupby("thing", sort=False):
        row: dict[str, object] = {"against": thing}
        row["sizes"] = ", ".join(f"{size:.0f}" for size in part["size"])
        for name in (*MEASURES, "run_s"):
            values = part[name].to_numpy(dtype=float)
            known = bool(np.isfinite(values).all())
            row[name] = float(np.polyfit(np.log(part["size"]), np.log(values), 1)[0]) if known else None
        rows.append(row)
    return pd.DataFrame(rows)


def extrapolated(table: pd.DataFrame) -> tuple[list[str], list[list[object]]]:
    """The lines of the arithmetic for the target, from the largest grid that was measured."""
    voxels = table[table["thing"] == "voxels"].sort_values("size").iloc[-1]
    wanted = math.prod(TARGET_MATRIX)
    factor = wanted / voxels["size"]
    share = f"x {factor:.2f} (voxels)"
    runs = TARGET_ROWS * TARGET_FOLDS
    lines: list[list[object]] = []

    def line(what: str, arithmetic: str, seconds: float, longest: float = 0.0) -> None:
        hours = seconds / 3600
        # a part that cannot be divided (a run on its core) takes its time however many cores there are
        least = max(hours / (NODES * CORES), longest / 3600)
        lines.append([what, arithmetic, f"{hours:.0f}", f"{least:.1f}"])

    prepared = TARGET_STUDIES * voxels["prepare_s"] * factor
    line("prepare, once", f"{TARGET_STUDIES} x {voxels['prepare_s']:.2f} s {share}", prepared)
    for steps in TARGET_STEPS:
        trained = runs * steps * voxels["step_s"]
        line(
            f"train, {steps} steps",
            f"{runs} runs x {steps} x {voxels['step_s']:.2f} s",
            trained,
            trained / runs,
        )
    scored = TARGET_ROWS * TARGET_STUDIES * voxels["score_s"] * factor
    line(
        "score, out of fold",
        f"{TARGET_ROWS} rows x {TARGET_STUDIES} x {voxels['score_s']:.2f} s {share}",
        scored,
        scored / runs,
    )
    disk = TARGET_STUDIES * voxels["disk_mb"] * factor / 1e6
    lines.append(
        ["prepared studies on disk", f"{TARGET_STUDIES} x {voxels['disk_mb']:.1f} MB {share}", "", ""]
    )
    lines[-1][0] = f"prepared studies on disk: {disk:.1f} TB"
    heads = ["", "arithmetic", "processor hours", f"hours on {NODES} nodes of {CORES} cores, a core a run"]
    return heads, lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write")
    parser.add_argument("--quick", action="store_true", help="few small patients: does it run?")
    options = parser.parse_args(arguments)
    if options.quick and options.docs.resolve() == DOCS.resolve():
        parser.error("--quick is not for the documentation; name another folder by --docs")
    torch.set_num_threads(1)
    table = measure(options.out, options.quick)
    results = options.docs / "results"
    files.write_text(results / "scaling.csv", table.to_csv(index=False))
    facts = {"command": "python benchmarks/scaling.py OUT", "seed": SEED, "steps": STEPS}
    files.write_json(results / "scaling-manifest.json", provenance.manifest(**facts))
    page = options.docs / "scaling.md"
    sizes = markdown(list(table.columns), table.astype(object).to_numpy().tolist())
    powers = exponents(table)
    growth = markdown(list(powers.columns), powers.astype(object).to_numpy().tolist())
    target = markdown(*extrapolated(table))
    print("\n\n".join([sizes, growth, target]))
    if page.is_file():
        put_into(page, "sizes", sizes)
        put_into(page, "growth", growth)
        put_into(page, "target", target)


if __name__ == "__main__":
    main()
