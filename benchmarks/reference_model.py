"""The small model that comes with the package: ``python benchmarks/reference_model.py OUT``.

Simulates three groups of virtual patients (six classes, six sites), trains MTI-Net on the first, calibrates
it on the second as ``mtinet calibrate`` does, evaluates it on the third, and writes the model folder
``OUT/reference`` with its card.  No patient is in two groups, and nothing was chosen on the third.  What is
finished in OUT is not done again.

``--weights MODEL`` takes those of a model folder instead of training: the patients are calibrated and scored on
anew, with the code of today.  ``--install`` puts the folder into the package.  On one core the whole takes an
hour or two: ``OMP_NUM_THREADS=1 nice python benchmarks/reference_model.py OUT``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from page import markdown

from mtinet import files
from mtinet.cohort import Cohort
from mtinet.config import Config, difference, resolve, resolve_simulation
from mtinet.errors import UserError
from mtinet.evaluation.summary import Summary
from mtinet.runs import Run
from mtinet.workflows.calibrate import calibrate
from mtinet.workflows.evaluate import evaluate
from mtinet.workflows.simulate import simulate
from mtinet.workflows.train import TrainOptions, train

PACKAGE = Path(__file__).parents[1] / "src" / "mtinet" / "models" / "reference"

SEED = 6000
"""Of the patients learned from; those of the calibration and of the evaluation have the next two."""

GROUPS = ("learned", "calibration", "scored")

SETTINGS = (
    # the widths at which held-out Dice is not inferior to DynUNet's (docs/performance.md)
    "encoder.channels=[24,48,96,192]",
    "decoder.channels=[96,48,24,24]",
    "encoder.stem=2",
    "head.readout=residual",  # enhancement starts from the signal under the mask
    "augmentation.phase_dropout=0.1",  # the studies of a user may lack a phase
    "training.validate_every=0",
    "training.workers=0",
)

KEPT = ("config.yaml", "split.json", "preparation.json", "classes.json", "calibration.json")
"""What the model folder holds of the run as it is, beside the weights."""

LARGEST_BYTES = 5_000_000

HEADLINES = (
    ("Dice of a study's lesions", "segmentation", "all", "dice", "network"),
    ("share of lesions found", "detection", "all", "sensitivity", "network"),
    ("false components a study", "detection", "all", "false_positives_per_study", "network"),
    ("class accuracy, six classes", "classification", "all", "accuracy", "network"),
    ("class accuracy of the most frequent class", "classification", "all", "accuracy", "majority"),
    ("enhancement error (% of the unenhanced signal)", "enhancement", "all", "mae_relative", "head"),
    ("the same, signal read under the mask", "enhancement", "all", "mae_relative", "read_out"),
    ("the same, training mean", "enhancement", "all", "mae_relative", "training_mean"),
)
"""Numbers of the card: title and where they stand in the summary."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, train, calibrate, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--patients", type=int, nargs=3, default=(400, 240, 160), metavar="N", help=", ".join(GROUPS)
    )
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--simulation", default="multicentre")
    parser.add_argument(
        "--set", dest="settings", nargs="*", default=SETTINGS, help="settings of the training"
    )
    parser.add_argument("--weights", type=Path, metavar="MODEL", help="model folder, instead of a training")
    parser.add_argument("--install", action="store_true", help=f"put the folder into {PACKAGE}")
    options = parser.parse_args(arguments)
    config = resolve(options.preset, None, [*options.settings, f"training.steps={options.steps}"])
    cohorts = [
        patients(options.out / name, name, SEED + number, count, options.simulation)
        for number, (name, count) in enumerate(zip(GROUPS, options.patients, strict=True))
    ]
    run = (
        trained(options.out / "run", cohorts[0], config)
        if options.weights is None
        else taken(options.weights, options.out / "run", config)
    )
    if not run.has_document("calibration"):
        say(calibrate(run.path, folder(cohorts[1])).text)
    summary = scored(run, cohorts[2])
    place = write_model(run, cohorts, summary, options.out / "reference")
    say((place / "README.md").read_text(encoding="utf-8"))
    if options.install:
        shutil.rmtree(PACKAGE, ignore_errors=True)
        with files.atomic_folder(PACKAGE) as temporary:
            shutil.copytree(place, temporary, dirs_exist_ok=True)


def say(text: str) -> None:
    """A line for the log."""
    print(text, flush=True)


# ---------------------------------------------------------------------- patients, training, scores
def patients(out: Path, name: str, seed: int, count: int, simulation: str) -> Cohort:
    """A group of virtual patients, simulated or taken up."""
    given = [f"name=reference-{name}", f"seed={seed}", f"subjects={count}"]
    cohort = simulate(out, resolve_simulation(simulation, None, given), workers=1)
    say(f"{name}: {count} patients")
    return cohort


def folder(cohort: Cohort) -> Path:
    """Where a cohort lies."""
    assert cohort.folder is not None, "it was read from its folder"
    return cohort.folder


def trained(out: Path, cohort: Cohort, config: Config) -> Run:
    """Train on everybody of a cohort, and keep the weights as they are shipped."""
    if (out / "config.yaml").is_file() and (changed := difference(Run.open(out).config, config)):
        raise UserError(f"{out} was trained with other settings ({', '.join(changed)}); remove it")
    began = time.monotonic()

    def report(step: int, steps: int, numbers: Any) -> None:
        if step % 100 == 0:
            loss = numbers.get("segmentation", 0.0)
            say(f"step {step} of {steps}, {time.monotonic() - began:.0f} s, segmentation {loss:.3f}")

    run = train(folder(cohort), out, config, TrainOptions(fold=None, resume=True, workers=1), on_step=report)
    tensors, facts = run.load_model()
    # halves before calibration and evaluation: what is measured is what is shipped
    run.save_model({name: halved(tensor) for name, tensor in tensors.items()}, facts)
    return run


def taken(model: Path, out: Path, config: Config) -> Run:
    """A model folder as a run that was not calibrated."""
    if not out.is_dir():
        with files.atomic_folder(out) as temporary:
            unmade = shutil.ignore_patterns("calibration.json", "metrics.json", "README.md")
            shutil.copytree(model, temporary, dirs_exist_ok=True, ignore=unmade)
    run = Run.open(out)
    if changed := difference(run.config, config):
        raise UserError(f"{model} was trained with other settings ({', '.join(changed)}); train it anew")
    return run


def halved(tensor: torch.Tensor) -> torch.Tensor:
    """Kernels and matrices in half precision; biases, statistics and the like as they are."""
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor


def scored(run: Run, cohort: Cohort) -> Summary:
    """The evaluation on the last group, made or taken up."""
    place = run.predictions_on(cohort.name)
    if not (place / "summary.json").is_file():
        return evaluate(run.path, cohort=folder(cohort), workers=1).scored
    return Summary.from_dict(json.loads((place / "summary.json").read_text(encoding="utf-8")))


# ---------------------------------------------------------------------- the folder and its card
def write_model(run: Run, cohorts: Sequence[Cohort], summary: Summary, out: Path) -> Path:
    """The model folder: a run folder without what only training needs, with metrics and a card."""
    found = [
        {"number": title, **headline(summary, *where)}
        for title, *where in HEADLINES
        if summary.find(where[0], where[2], where[3], where[1]) is not None
    ]
    shutil.rmtree(out, ignore_errors=True)
    with files.atomic_folder(out) as temporary:
        for name in KEPT:
            shutil.copyfile(run.path / name, temporary / name)
        # where the patients lay on this machine helps nobody
        files.write_json(
            temporary / "manifest.json",
            {**run.manifest, "cohort_folder": "", "command": ["reference_model.py", "OUT"]},
        )
        made = temporary / "checkpoints" / "model.safetensors"
        made.parent.mkdir()
        shutil.copyfile(run.path / "checkpoints" / "model.safetensors", made)
        files.write_json(temporary / "metrics.json", {"headlines": found, "summary": overall(summary)})
        files.write_text(temporary / "README.md", card(run, cohorts, summary, found, made.stat().st_size))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if size > LARGEST_BYTES:
        raise UserError(
            f"{out} has {size / 1e6:.1f} MB, more than {LARGEST_BYTES / 1e6:g}: take fewer channels"
        )
    say(f"{out}: {size / 1e6:.2f} MB")
    return out


def headline(summary: Summary, task: str, group: str, metric: str, method: str) -> dict[str, Any]:
    """Value, interval and count of a row of the summary."""
    row = summary.find(task, metric, method, group)
    assert row is not None
    return {"value": row.value, "low": row.low, "high": row.high, "n": row.n}


def overall(summary: Summary) -> dict[str, Any]:
    """The summary without the rows by site: those of a few patients each say little."""
    values = summary.to_dict()
    return {**values, "rows": [row for row in values["rows"] if row["site"] == "all"]}


def card(
    run: Run, cohorts: Sequence[Cohort], summary: Summary, found: Sequence[dict[str, Any]], size: int
) -> str:
    """The model card."""
    learned, calibration, others = cohorts
    config = run.config
    settings = ", ".join(f"`{name}`" for name in SETTINGS if not name.startswith("training."))
    known, steps = run.document("calibration")["counts"], run.load_model()[1]["step"]
    fine, smallest = config.preparation.spacing_mm[0], config.inference.min_diameter_mm
    numbers = [[row["number"], spread(row["value"], row["low"], row["high"]), row["n"]] for row in found]
    sizes = [
        [row.group, spread(row.value, row.low, row.high), row.n]
        for row in summary.rows
        if (row.site, row.task, row.metric) == ("all", "detection", "sensitivity") and row.group != "all"
    ]
    confusion = zip(summary.classes, summary.confusion["network"], strict=True)
    classes = [[name, sum(counts), *counts] for name, counts in confusion]
    return f"""# The reference model

A small MTI-Net that comes with mtinet, so that `mtinet predict reference STUDY -o OUT` works at once. It was trained
on **virtual patients only** and has never seen an image of a person.

**Research use only. Not a medical device; not for diagnosis. What it says about real studies means nothing until it
has been measured on yours.**

## What it is for

To try the software, to test what is built on it, and to be the start of a training on your own cohort
(`mtinet train COHORT --out RUN --config config.yaml --init reference` with the `config.yaml` of this folder). It is not
for reading studies.

## How it was made

```
python benchmarks/reference_model.py OUT
```

- Patients: {len(learned)} learned from, {len(calibration)} for the calibration, {len(others)} to score, of
  `mtinet simulate --preset multicentre` with the seeds {SEED} to {SEED + 2}: {", ".join(summary.classes)} or
  no lesion; {", ".join(config.phases)}; {others.agent};
  sites {", ".join(sorted({study.site for study in learned.studies}))} in all three groups.
- Training: preset `small` with
  {settings};
  {steps} steps, one seed. All settings are in `config.yaml`, versions and hashes in `manifest.json`.
- Weights: {size / 1e6:.1f} MB in safetensors, kernels and matrices in half precision (rounded before calibration and
  scoring), computed in single precision.
- Calibration (`calibration.json`): {known["patients"]} patients, {known["lesions"]} lesions for the coverage.

## Held-out numbers

{summary.patients} virtual patients whom neither training nor calibration saw, with 95 % intervals over patients. The
numbers are defined in docs/metrics.md, and `metrics.json` has more of them. They come from the same simulation and the
same sites as the training, so they say nothing about MRI of people, nor about other scanners. One training: the
spread between trainings is not in the intervals.

{markdown(["number", "value", "n"], numbers)}

Lesions found, by size:

{markdown(["diameter", "share found", "n"], sizes)}

Classes of each study's largest lesion (rows: truth; columns: predicted, last the missed):

{markdown(["truth", "n", *summary.classes, "missed"], classes)}

## Limits

- Most lesions below 20 mm are missed, and there are false components: see the tables.
- Malignant lesions are mistaken for each other, and for benign ones: see the last table. The class is no basis
  for anything.
- The regressed enhancement is no better than the signal read under the mask.
- Virtual patients lack most of what scanners and bodies do (docs/virtual-patients.md). A lesion of another kind gets
  one of the {len(summary.classes)} classes.
- Extracellular contrast agent and the phases named above; the hepatobiliary phase is unknown to it.
- Slices are read one by one on a grid of {fine:g} mm; lesions below {smallest:g} mm are dropped.
- Phases are taken as they are, without registration; breathing of some millimetres was simulated.
- The calibration holds for studies like the simulated ones. Real ones will often, not always, be flagged as
  unfamiliar.

Licence: Apache-2.0, like mtinet. Everybody can simulate its training data.
"""


def spread(value: float, low: float, high: float) -> str:
    """A number with its interval."""
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


if __name__ == "__main__":
    main(sys.argv[1:])
