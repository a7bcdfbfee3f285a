"""Cost against Dice, MTI-Net beside nnU-Net's architecture: ``python benchmarks/cost_dice.py OUT``.

MTI-Net (in blocks of 2x2 pixels) and DynUNet in three widths, and BasicUNet, learn from one virtual cohort
with the same steps, patches, batches and augmentation, and are scored on the patients of another.  The same
run then measures what a training step and the prediction of a study cost each, all networks in turn within
each repeat.  A configuration of MTI-Net counts as not inferior where the lower end of the 95 % interval of
the paired difference of Dice (resampling patients) is above -0.02.

Writes ``cost-dice.csv``, ``cost-dice-manifest.json`` and ``images/cost-dice.png`` into ``docs/`` and the
table into ``docs/performance.md``.  What is finished in OUT is not done again.  ``--train NAME ...`` only
trains and scores the networks named, so that several processes can share the work, each on its own core.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from page import DOCS, markdown, publish

from mtinet import files
from mtinet.cohort import Cohort
from mtinet.config import Config, difference, resolve, resolve_simulation
from mtinet.errors import UserError
from mtinet.evaluation.statistics import Estimate, PatientBootstrap
from mtinet.evaluation.tables import read_table
from mtinet.runs import Run
from mtinet.workflows.bench_cases import Case, cases, virtual_patients
from mtinet.workflows.bench_measures import Contender
from mtinet.workflows.evaluate import evaluate
from mtinet.workflows.simulate import simulate
from mtinet.workflows.train import TrainOptions, train

SEED = 3000
"""Of the patients learned from; those scored have the next.  No other result comes from them."""

LEARNED, SCORED = 240, 160
STEPS = 1500
MARGIN = -0.02
RIVAL = "dynunet-32"
"""DynUNet with nnU-Net's 2-D defaults."""

SIZES: dict[str, tuple[str, ...]] = {
    **{
        f"mtinet-{first}": (
            f"encoder.channels=[{first},{2 * first},{4 * first},{8 * first}]",
            f"decoder.channels=[{4 * first},{2 * first},{first},{first}]",
            "encoder.stem=2",
            "head.readout=none",
        )
        for first in (8, 12, 24)
    },
    **{f"dynunet-{first}": ("model=dynunet", f"baseline.width={first}") for first in (8, 16, 32)},
    "basic_unet-12": ("model=basic_unet", "baseline.width=12"),
}
"""The networks by name, as what they change in the preset ``small``; the number is the first width."""


def config_of(name: str, steps: int) -> Config:
    """The settings of a network: the preset ``small`` but for size and steps."""
    return resolve("small", None, [*SIZES[name], f"training.steps={steps}", "training.validate_every=0"])


# ---------------------------------------------------------------------- learning and scoring
def cohorts(out: Path, learned: int, scored: int) -> tuple[Cohort, Cohort]:
    """The patients learned from and those scored, simulated or taken up."""
    found = []
    for number, (name, subjects) in enumerate((("learned", learned), ("scored", scored))):
        given = [f"name=cost-dice-{name}", f"seed={SEED + number}", f"subjects={subjects}"]
        found.append(simulate(out / name, resolve_simulation("development", None, given)))
    return found[0], found[1]


def dice_of(out: Path, name: str, config: Config, learned: Cohort, scored: Cohort) -> pd.DataFrame:
    """Train and score a network: the table of studies with a lesion; one that was missed has Dice 0."""
    folder = out / "runs" / name
    if (folder / "config.yaml").is_file():
        changed = difference(Run.open(folder).config, config)
        if changed:
            raise UserError(f"{folder} was trained with other settings ({', '.join(changed)}); remove it")
    assert learned.folder is not None, "it was read from its folder"
    train(learned.folder, folder, config, TrainOptions(fold=None, resume=True))
    table = Run.open(folder).predictions_on(scored.name) / "studies.csv"
    if not table.is_file():
        evaluate(folder, cohort=scored.folder)
    studies = read_table(table)
    with_lesion = {study.study_id for study in scored.studies if study.label in scored.classes}
    return studies[studies["study_id"].isin(with_lesion)].sort_values("study_id")


# ---------------------------------------------------------------------- cost
def costs(configs: Mapping[str, Config], repeats: int, steps: int) -> pd.DataFrame:
    """Seconds of a training step and of a study's prediction, a row a network and repeat."""
    base = next(iter(configs.values()))
    rows = []
    with tempfile.TemporaryDirectory(prefix="mtinet-cost-") as place:
        patients = virtual_patients(Path(place) / "patients", base)
        ready = {}
        for name, config in configs.items():
            started = cases(config, [config.model])[0].config
            contender = Contender(Case(name, started), patients, Path(place), "cpu", 3 + repeats * steps)
            contender.train(2)
            contender.infer()
            ready[name] = contender
        for repeat in range(repeats):
            for name in np.roll(list(ready), -repeat):
                step, study = ready[name].train(steps).step_s, ready[name].infer()
                rows.append({"network": str(name), "repeat": repeat, "step_s": step, "study_s": study})
            print(f"cost: repeat {repeat + 1} of {repeats}", file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------- the table
def compared(
    scores: Mapping[str, pd.DataFrame], seconds: pd.DataFrame, resamples: int, seed: int
) -> pd.DataFrame:
    """A row a network: Dice, its paired difference to the rival's, cost and the ratio to the rival's."""
    rival = scores[RIVAL]
    patients = rival["patient_id"].to_numpy()
    bootstrap = PatientBootstrap(patients, resamples, seed)
    cost = {name: frame.set_index("repeat") for name, frame in seconds.groupby("network")}
    rows = []
    for name, own in scores.items():
        if list(own["study_id"]) != list(rival["study_id"]):
            raise UserError(f"{name} and {RIVAL} were scored on different studies; remove their runs")
        value = bootstrap.mean(patients, own["dice"])
        apart = bootstrap.mean(patients, own["dice"].to_numpy() - rival["dice"].to_numpy())
        accuracy = float((own["predicted_label"] == own["label"]).mean())
        ratio = {what: cost[name][what] / cost[RIVAL][what] for what in ("step_s", "study_s")}
        rows.append(
            {
                "network": name,
                "n": value.n,
                **_spread("dice", value),
                **_spread("difference", apart),
                "not_inferior": apart.low > MARGIN,
                "accuracy": accuracy,
                "step_s": float(cost[name]["step_s"].median()),
                "study_s": float(cost[name]["study_s"].median()),
                "step_vs_rival": float(ratio["step_s"].median()),
                "study_vs_rival": float(ratio["study_s"].median()),
            }
        )
    return pd.DataFrame(rows)


def _spread(name: str, found: Estimate) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def page_text(table: pd.DataFrame, steps: int, learned: int) -> str:
    """The table of the page and the sentence before it."""
    heads = ["network", "Dice", f"difference to {RIVAL}", "not inferior", "class accuracy"]
    heads += ["step (s)", f"step vs {RIVAL}", "study (s)", f"study vs {RIVAL}"]
    rows = []
    for row in table.to_dict("records"):
        dice, apart = ((row[k], row[f"{k}_low"], row[f"{k}_high"]) for k in ("dice", "difference"))
        rows.append(
            [
                row["network"],
                "{:.3f} [{:.3f}, {:.3f}]".format(*dice),
                "" if row["network"] == RIVAL else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*apart),
                "" if row["network"] == RIVAL else ("yes" if row["not_inferior"] else "no"),
                f"{row['accuracy']:.3f}",
                *(
                    f"{row[what]:.3f}" if what.endswith("_s") else f"{row[what]:.2f}"
                    for what in ("step_s", "step_vs_rival", "study_s", "study_vs_rival")
                ),
            ]
        )
    said = (
        f"{steps} steps on {learned} virtual patients, scored on the {int(table['n'].iloc[0])} of others "
        "that have a lesion; one training a network, so the intervals are over patients, not over trainings."
    )
    return said + "\n\n" + markdown(heads, rows)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Dice against the seconds of a training step and of a study, a line a kind of network."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    table = table.assign(kind=table["network"].str.rpartition("-")[0])
    for panel, what, label in zip(
        panels, ("step_s", "study_s"), ("training step (s)", "study predicted (s)")
    ):
        for kind, line in table.groupby("kind", sort=False):
            line = line.sort_values(what)
            spread = [line["dice"] - line["dice_low"], line["dice_high"] - line["dice"]]
            panel.errorbar(line[what], line["dice"], spread, marker="o", capsize=2, label=kind)
            for row in line.to_dict("records"):
                width = row["network"].rpartition("-")[2]
                panel.annotate(width, (row[what], row["dice"]), (4, 4), textcoords="offset points")
        panel.set(xscale="log", xlabel=label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("Dice, studies with a lesion")
    panels[0].legend(frameon=False)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, score, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", nargs="+", choices=list(SIZES), help="train and score these, then stop")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--learned", type=int, default=LEARNED, help="patients to learn from")
    parser.add_argument("--scored", type=int, default=SCORED, help="patients to score")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write")
    options = parser.parse_args(arguments)
    learned, scored = cohorts(options.out, options.learned, options.scored)
    configs = {name: config_of(name, options.steps) for name in options.train or SIZES}
    scores = {}
    for name, config in configs.items():
        scores[name] = dice_of(options.out, name, config, learned, scored)
        print(f"{name}: Dice {scores[name]['dice'].mean():.3f}", flush=True)
    if options.train:
        return
    base = next(iter(configs.values()))
    seconds = costs(configs, options.repeats, base.tdd.r1_every)
    table = compared(scores, seconds, base.evaluation.bootstrap, base.training.seed)
    text = page_text(table, options.steps, options.learned)
    print(text)
    publish(
        options.docs,
        "cost-dice",
        table,
        text,
        command="python benchmarks/cost_dice.py OUT",
        seed=SEED,
        patients={"learned": options.learned, "scored": options.scored},
        margin=MARGIN,
        settings={name: config.model_dump(mode="json") for name, config in configs.items()},
    )
    draw(table, options.docs / "images" / "cost-dice.png")


if __name__ == "__main__":
    main()
