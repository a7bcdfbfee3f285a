"""What ``encoder.stem`` saves and what it loses: ``python benchmarks/stem_cost.py OUT``.

With ``encoder.stem=2`` the encoder reads the image in blocks of 2x2 pixels; the presets read it pixel
by pixel.  Both are trained for the same steps, on the demo's patients of seeds 0 to 2, and score fresh
patients whom no run has seen.  A patient's value is the mean over the three trainings, and the paired
difference of the two has its interval by resampling patients.  Blocks are kept only if Dice loses less
than 0.02 and the class accuracy less than 0.05 (lower ends of the 95 % intervals) and the enhancement error
grows by less than a twentieth.  The same run times a step and a study of both, in turn.

Writes ``stem-cost.csv`` and ``stem-cost-manifest.json`` into ``docs/`` and the table into
``docs/performance.md``.  What is finished in OUT is not done again; ``--train KIND SEED`` only trains and
scores one, so that processes can share the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from cost_dice import costs
from page import DOCS, markdown, publish

from mtinet.cohort import Cohort
from mtinet.config import Config, resolve, resolve_simulation
from mtinet.evaluation.enhancement import enhancement_values
from mtinet.evaluation.statistics import Estimate, FloatArray, PatientBootstrap, safe_ratio
from mtinet.evaluation.tables import dominant_lesions, read_table
from mtinet.runs import Run
from mtinet.workflows.demo import FOLDS
from mtinet.workflows.evaluate import evaluate
from mtinet.workflows.simulate import simulate
from mtinet.workflows.train import TrainOptions, train

KINDS: dict[str, tuple[str, ...]] = {"blocks": ("encoder.stem=2",), "pixels": ("encoder.stem=1",)}
"""What each changes in the preset ``small``."""

COMMON = ("head.readout=none", "training.steps=2400")
"""What both change: the head alone, whose enhancement then depends on what it sees."""

SEEDS = (0, 1, 2)
SCORED, SCORED_SEED = 160, 3002
_COLUMNS = ("number", "apart", "apart_low", "apart_high", "n", "kept")
"""Those of the table beside the two kinds."""

BOUNDS = {"dice": -0.02, "accuracy": -0.05, "enhancement error": 1.05}
"""Lower ends of the differences that are borne, and the largest ratio of errors."""


def config_of(kind: str, seed: int, extra: Sequence[str] = ()) -> Config:
    """The settings of a training."""
    return resolve("small", None, [*COMMON, *KINDS[kind], f"training.seed={seed}", *extra])


# ---------------------------------------------------------------------- learning and scoring
def scores_of(
    out: Path, kind: str, seed: int, scored: Cohort, subjects: Sequence[str], extra: Sequence[str]
) -> pd.DataFrame:
    """Train and score one; see :func:`patient_scores`."""
    cohort, folder = out / f"cohort{seed}", out / kind / f"seed{seed}" / "run"
    simulate(cohort, resolve_simulation("demo", None, [f"seed={seed}", *subjects]))
    train(cohort, folder, config_of(kind, seed, extra), TrainOptions(folds=FOLDS, resume=True))
    return patient_scores(folder, scored)


def patient_scores(folder: Path, scored: Cohort) -> pd.DataFrame:
    """What a run scores: a row a patient with a lesion, whose ``dice``, ``accuracy`` and ``error`` it holds.

    A lesion that was missed has Dice 0, a wrong class and the training mean's error.
    """
    run = Run.open(folder)
    tables = run.predictions_on(scored.name)
    if not (tables / "studies.csv").is_file():
        evaluate(folder, cohort=scored.folder)
    studies = read_table(tables / "studies.csv").set_index("patient_id")
    lesions = read_table(tables / "lesions.csv")
    largest = dominant_lesions(lesions).set_index("patient_id")
    values = enhancement_values(lesions, run.config.phases, "raw").rows
    error = (values["head"] - values["truth"]).abs().groupby(values["patient_id"]).mean()
    found = pd.DataFrame({"dice": studies.loc[largest.index, "dice"]})
    found["accuracy"] = (largest["label"] == largest["predicted_label"]).astype(float)
    found["error"] = error
    return found.sort_index()


def fresh_patients(out: Path, subjects: int) -> Cohort:
    """Virtual patients to score whom no training has seen."""
    given = ["name=stem-scored", f"seed={SCORED_SEED}", f"subjects={subjects}"]
    return simulate(out / "scored", resolve_simulation("demo", None, given))


# ---------------------------------------------------------------------- the table
def compared(scores: dict[str, list[pd.DataFrame]], resamples: int, seed: int) -> pd.DataFrame:
    """A row a number: the values of both kinds, and the first one's paired difference from the second.

    Of errors it is the ratio.  A patient's value is the mean over the trainings.
    """
    mean = {kind: sum(tables[1:], tables[0]) / len(tables) for kind, tables in scores.items()}
    ours, theirs = mean.values()
    assert list(ours.index) == list(theirs.index), "the same patients were scored"
    patients = ours.index.to_numpy()
    bootstrap = PatientBootstrap(patients, resamples, seed)

    def ratio(weights: FloatArray) -> dict[str, FloatArray]:
        return {"ratio": safe_ratio(weights @ ours["error"].to_numpy(), weights @ theirs["error"].to_numpy())}

    rows = []
    for number, name in (("dice", "dice"), ("accuracy", "accuracy"), ("enhancement error", "error")):
        if name == "error":
            apart = bootstrap.estimates(patients, ratio)["ratio"]
            kept = apart.value < BOUNDS[number]
        else:
            apart = bootstrap.mean(patients, ours[name] - theirs[name])
            kept = apart.low > BOUNDS[number]
        sides = {kind: float(values[name].mean()) for kind, values in mean.items()}
        rows.append({"number": number, **sides, **_spread(apart), "kept": kept})
    return pd.DataFrame(rows)


def _spread(found: Estimate) -> dict[str, float]:
    return {"apart": found.value, "apart_low": found.low, "apart_high": found.high, "n": found.n}


def cost_rows(seconds: pd.DataFrame) -> pd.DataFrame:
    """Median seconds of a step and of a study, and the median of the ratios within the repeats."""
    cost = {name: frame.set_index("repeat") for name, frame in seconds.groupby("network")}
    rows = []
    for number, name in (("training step (s)", "step_s"), ("study (s)", "study_s")):
        ratios = cost["blocks"][name] / cost["pixels"][name]
        low, high = np.quantile(ratios, (0.25, 0.75))
        spread = {"apart": float(ratios.median()), "apart_low": float(low), "apart_high": float(high)}
        sides = {kind: float(cost[kind][name].median()) for kind in KINDS}
        rows.append({"number": number, **sides, **spread, "n": len(ratios)})
    return pd.DataFrame(rows)


def page_text(table: pd.DataFrame, said: str, heads: Sequence[str]) -> str:
    """The table of the page and what was ``said`` of it; ``heads`` name both kinds and their difference."""
    first, second = [name for name in table.columns if name not in _COLUMNS]
    rows = []
    for row in table.to_dict("records"):
        difference = row["number"] in ("dice", "accuracy")
        form = "{:+.3f} [{:+.3f}, {:+.3f}]" if difference else "ratio {:.2f} [{:.2f}, {:.2f}]"
        apart = form.format(row["apart"], row["apart_low"], row["apart_high"])
        kept = {True: "yes", False: "no"}.get(row["kept"], "")
        name = {"dice": "Dice", "accuracy": "class accuracy"}.get(row["number"], row["number"])
        rows.append([name, row[first], row[second], apart, kept])
    return said + "\n\n" + markdown(["number", *heads, "within the bound"], rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, score, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", nargs=2, metavar=("KIND", "SEED"), help="train and score this, then stop")
    parser.add_argument("--subjects", type=int, help="patients a seed; by default the demo's")
    parser.add_argument("--steps", type=int, help="training steps instead of 2400")
    parser.add_argument("--scored", type=int, default=SCORED, help="fresh patients")
    parser.add_argument("--repeats", type=int, default=7, help="of the timing; 0 = no timing")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write")
    options = parser.parse_args(arguments)
    scored = fresh_patients(options.out, options.scored)
    subjects = [] if options.subjects is None else [f"subjects={options.subjects}"]
    extra = [] if options.steps is None else [f"training.steps={options.steps}"]
    if options.train:
        kind, seed = options.train
        print(scores_of(options.out, kind, int(seed), scored, subjects, extra).mean().to_string())
        return
    scores = {
        kind: [scores_of(options.out, kind, seed, scored, subjects, extra) for seed in SEEDS]
        for kind in KINDS
    }
    configs = {kind: config_of(kind, SEEDS[0], extra) for kind in KINDS}
    base = configs["blocks"]
    table = compared(scores, base.evaluation.bootstrap, base.training.seed)
    if options.repeats:
        timed = cost_rows(costs(configs, options.repeats, base.tdd.r1_every))
        table = pd.concat([table, timed], ignore_index=True)
    said = (
        f"{base.training.steps} steps on the demo's patients, {len(SEEDS)} trainings each, scored on "
        f"{table['n'].iloc[0]:.0f} patients with a lesion whom no run had seen. Brackets: 95 % intervals over "
        "patients; for the seconds, quartiles over repeats."
    )
    text = page_text(table, said, ["blocks of 2x2", "pixels", "blocks against pixels"])
    print(text)
    publish(
        options.docs,
        "stem-cost",
        table,
        text,
        command=f"python benchmarks/stem_cost.py OUT --repeats {options.repeats}",
        seeds=list(SEEDS),
        scored={"patients": options.scored, "seed": SCORED_SEED},
        bounds=BOUNDS,
    )


if __name__ == "__main__":
    main()
