"""How sure MTI-Net is, and whether it is right to be: ``python benchmarks/certainty.py OUT --docs docs``.

Trains MTI-Net (preset ``small``) on the demo's virtual patients with three seeds and once with dropout,
calibrates the first on fresh patients and tests it on others, makes studies strange to see whether they are
flagged, and compares ensemble, Monte-Carlo dropout and flips.  What is finished in OUT is not done again.
Writes ``results/certainty.csv`` and its manifest, and the tables of ``certainty.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from certainty_cases import Answer, answers, strange_looks
from certainty_tables import (
    Row,
    compared,
    coverage_rows,
    familiarity_rows,
    one_width,
    risk_rows,
    size_rows,
    split_rows,
    tables,
)
from page import put_into

from mtinet import files, provenance
from mtinet.cohort import Cohort
from mtinet.config import Config, difference, resolve, resolve_simulation
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError
from mtinet.inference.ensemble import Ensemble
from mtinet.inference.panel import Opinions
from mtinet.runs import Run
from mtinet.workflows.calibrate import fit_calibration
from mtinet.workflows.prepare import prepare
from mtinet.workflows.simulate import simulate
from mtinet.workflows.train import TrainOptions, train
from mtinet.workflows.unseen import never_seen

CALIBRATION_SEED, COMPARED_SEED, TEST_SEED = 8000, 8001, 8002
DROPOUT = ("head.dropout=0.1", "decoder.dropout=0.1")
SAMPLES = 10
COMMAND = "python benchmarks/certainty.py OUT --docs docs"


@dataclass(frozen=True)
class Patients:
    """A cohort and its studies with known lesions, prepared."""

    cohort: Cohort
    studies: list[PreparedStudy]


def patients(out: Path, name: str, seed: int, subjects: int, config: Config, simulation: str) -> Patients:
    """Simulate and prepare fresh virtual patients."""
    settings = resolve_simulation(simulation, None, [f"seed={seed}", f"subjects={subjects}"])
    cohort = simulate(out / name, settings, workers=1)
    prepared = prepare(cohort, config, workers=1).studies
    return Patients(cohort, [study for study in prepared if study.has_mask])


def trained(out: Path, seed: int, simulation: str, settings: Sequence[str], name: str = "run") -> Run:
    """Simulate and train as the demo does, a fifth held out; goes on where it was broken off."""
    place = out / f"seed{seed}"
    cohort = simulate(place / "cohort", resolve_simulation(simulation, None, [f"seed={seed}"]), workers=1)
    config = resolve("small", None, [f"training.seed={seed}", *settings])
    run = Run.open(place / name) if (place / name / "config.yaml").is_file() else None
    if run is not None and difference(run.config, config):
        raise UserError(f"{run.path} was trained with other settings; give another OUT")
    if run is not None and run.finished:
        return run
    return train(cohort.folder, place / name, config, TrainOptions(folds=5, resume=True, workers=1))


def main() -> None:
    """Train, calibrate, test, table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--docs", type=Path, default=None, help="folder of certainty.md; default: print only")
    parser.add_argument("--calibration", type=int, default=600, help="calibration patients")
    parser.add_argument(
        "--more", type=int, default=1200, help="patients of the larger calibration that is shown beside it"
    )
    parser.add_argument("--test", type=int, default=640, help="test patients")
    parser.add_argument(
        "--compare",
        type=int,
        default=160,
        help="others, who are made strange, and on whom methods are compared",
    )
    parser.add_argument("--simulation", default="demo")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], help="settings of the training"
    )
    options = parser.parse_args()
    rows = measure(options)
    text = tables(rows)
    table = pd.DataFrame(rows)
    if options.docs is None:
        for block in text.values():
            print(block, end="\n\n")
        return
    files.write_text(options.docs / "results" / "certainty.csv", table.to_csv(index=False))
    files.write_json(
        options.docs / "results" / "certainty-manifest.json",
        provenance.manifest(
            command=COMMAND,
            calibration={"seed": CALIBRATION_SEED, "subjects": options.calibration, "more": options.more},
            test={"seed": TEST_SEED, "subjects": options.test},
            compared={"seed": COMPARED_SEED, "subjects": options.compare},
        ),
    )
    for name, block in text.items():
        put_into(options.docs / "certainty.md", name, block)


def measure(options: argparse.Namespace) -> list[Row]:
    """Every number, as rows of ``certainty.csv``."""
    out: Path = options.out
    runs = [trained(out, seed, options.simulation, options.settings) for seed in (0, 1, 2)]
    config = runs[0].config
    subjects = max(options.calibration, options.more)
    calibration = patients(out, "calibration", CALIBRATION_SEED, subjects, config, options.simulation)
    test = patients(out, "test", TEST_SEED, options.test, config, options.simulation)
    others = patients(out, "compared", COMPARED_SEED, options.compare, config, options.simulation)
    for group in (calibration, test, others):
        for run in runs:
            if never_seen(run, group.cohort, group.studies)[1]:
                raise UserError(f"patients of {group.cohort.name} trained {run.path}; give another OUT")
    deployed = Ensemble.open(runs[:1])
    deployed.calibration = None
    kept = out / "answers"
    learned = answers(kept / "calibration.jsonl", deployed, calibration.cohort, calibration.studies)
    tested = answers(kept / "test.jsonl", deployed, test.cohort, test.studies)
    # studies are in the cohort's order, and the first patients of a cohort are the same in a larger one
    first = {study.study_id for study in calibration.cohort.studies[: options.calibration]}
    every, asked = [a.case for a in learned], [a.case for a in tested]
    cases = [case for case in every if case.study_id in first]
    fitted = fit_calibration(cases, deployed, 0.9, 0, cohort=calibration.cohort.name)
    larger = fit_calibration(every, deployed, 0.9, 0, cohort=calibration.cohort.name)
    rows = coverage_rows(fitted, asked, deployed.classes)
    rows += size_rows(fitted, f"{options.calibration} patients", asked)
    rows += size_rows(one_width(fitted, cases, 0), f"{options.calibration} patients, one width", asked)
    rows += size_rows(larger, f"{subjects} patients in all", asked)
    rows += split_rows(deployed, cases, asked, 0.9)
    rows += risk_rows(fitted, tested, deployed.classes)
    looks = strange_looks(kept / "strange.jsonl", deployed, others.studies)
    rows += familiarity_rows(fitted.familiarity, [case.look for case in asked], looks)
    return rows + compared(methods(options, runs, others), deployed.classes)


def methods(options: argparse.Namespace, runs: Sequence[Run], others: Patients) -> dict[str, list[Answer]]:
    """The answers of every method on the same patients."""
    dropped = trained(options.out, 0, options.simulation, [*options.settings, *DROPOUT], "run-dropout")
    asked = {
        "one network": Ensemble.open(runs[:1]),
        "ensemble of 3 seeds": Ensemble.open(runs),
        "flips": Ensemble.open(runs[:1], Opinions(flips=True)),
        "network trained with dropout": Ensemble.open([dropped]),
        f"dropout, {SAMPLES} masks": Ensemble.open([dropped], Opinions(dropout=SAMPLES)),
    }
    found = {}
    for name, ensemble in asked.items():
        ensemble.calibration = None
        path = options.out / "answers" / f"{name.replace(' ', '-').replace(',', '')}.jsonl"
        found[name] = answers(path, ensemble, others.cohort, others.studies)
    return found


if __name__ == "__main__":
    main()
