"""The demo over several seeds, tabled: ``python benchmarks/demo_seeds.py OUT --seeds 0 1 2``.

Writes ``docs/demo.csv`` (one row a seed and number, with its interval) and ``docs/demo-manifest.json``, and
puts the tables into ``docs/demo.md`` and ``README.md``.  A seed that is finished in OUT is not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
from page import DOCS, put_into

from mtinet import files, provenance
from mtinet.cohort import Cohort
from mtinet.config import resolve
from mtinet.evaluation.readouts import readout_balanced_accuracy
from mtinet.runs import Run
from mtinet.workflows.demo import demo
from mtinet.workflows.prepare import prepare

ROWS = (
    ("segmentation", "dice", "network"),
    ("segmentation", "iou", "network"),
    ("segmentation", "hd95_mm", "network"),
    ("segmentation", "nsd", "network"),
    ("detection", "sensitivity", "network"),
    ("detection", "false_positives_per_study", "network"),
    ("detection", "specificity", "network"),
    ("classification", "accuracy", "network"),
    ("classification", "balanced_accuracy", "network"),
    ("classification", "auc", "network"),
    ("classification", "accuracy", "logistic_regression"),
    ("classification", "accuracy", "majority"),
    ("enhancement", "mae_raw", "head"),
    ("enhancement", "mae_raw", "read_out"),
    ("enhancement", "mae_raw", "training_mean"),
    ("enhancement", "mae_relative", "head"),
    ("enhancement", "mae_relative", "read_out"),
    ("enhancement", "mae_relative", "training_mean"),
)
README_ROWS = (
    ("segmentation", "dice", "network"),
    ("detection", "sensitivity", "network"),
    ("classification", "accuracy", "network"),
    ("classification", "accuracy", "logistic_regression"),
    ("enhancement", "mae_relative", "head"),
    ("enhancement", "mae_relative", "read_out"),
    ("enhancement", "mae_relative", "training_mean"),
)
TITLES = {
    ("segmentation", "dice"): "Dice",
    ("segmentation", "iou"): "IoU",
    ("segmentation", "hd95_mm"): "HD95 (mm)",
    ("segmentation", "nsd"): "NSD at 2 mm",
    ("detection", "sensitivity"): "share of lesions found",
    ("detection", "false_positives_per_study"): "false positives a study",
    ("detection", "specificity"): "share of lesion-free studies left empty",
    ("classification", "accuracy"): "class accuracy",
    ("classification", "balanced_accuracy"): "balanced accuracy",
    ("classification", "auc"): "AUC",
    ("enhancement", "mae_raw"): "enhancement error (raw signal)",
    ("enhancement", "mae_relative"): "enhancement error (% of the unenhanced signal)",
    ("difficulty", "balanced_accuracy"): "difficulty: balanced accuracy",
}
COMMAND = "python benchmarks/demo_seeds.py OUT --seeds 0 1 2"


def difficulty(cohort_folder: Path, run: Run) -> float:
    """Balanced accuracy of four true mean signals and logistic regression, cross-validated."""
    cohort = Cohort.read(cohort_folder)
    studies = prepare(cohort, run.config).studies
    rows = [
        {
            "patient_id": study.patient_id,
            "label": study.lesions[0].label,
            **{f"true_{p}": study.lesions[0].enhancement.get(p) for p in study.phases},
        }
        for study in studies
        if study.lesions
    ]
    table = pd.DataFrame(rows)
    signals = [column for column in table if column.startswith("true_")]
    table[signals] = table[signals].astype(float)
    return readout_balanced_accuracy(table, run.config.phases)


def run_seed(seed: int, out: Path) -> list[dict[str, object]]:
    """Run (or open) the demo of a seed and return its rows."""
    done = demo(out / f"seed{seed}", resolve("small"), seed=seed)
    run = Run.open(done.run)
    found = {(r["task"], r["metric"], r["method"]): r for r in _summary_rows(run)}
    rows = [{"seed": seed, **found[name]} for name in ROWS if name in found]
    value = difficulty(done.cohort, run)
    named = {"metric": "balanced_accuracy", "method": "four true means"}
    rows.append({"seed": seed, "task": "difficulty", **named, "value": value})
    return rows


def _summary_rows(run: Run) -> list[dict[str, object]]:
    summary = json.loads((run.predictions / "summary.json").read_text(encoding="utf-8"))
    keep = ("task", "metric", "method", "value", "low", "high", "n")
    return [
        {name: row[name] for name in keep}
        for row in summary["rows"]
        if row["site"] == "all" and row["group"] == "all"
    ]


def main() -> None:
    """Run, table, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    table = pd.DataFrame([row for seed in options.seeds for row in run_seed(seed, options.out)])
    files.write_text(DOCS / "demo.csv", table.to_csv(index=False))
    files.write_json(DOCS / "demo-manifest.json", provenance.manifest(command=COMMAND, seeds=options.seeds))
    put_into(DOCS / "demo.md", "table", markdown(table))
    names = table[["task", "metric", "method"]].apply(tuple, axis=1)
    put_into(DOCS.parent / "README.md", "table", markdown(table[names.isin(README_ROWS)]))


def markdown(table: pd.DataFrame) -> str:
    """The table of docs/demo.md: a row a number, a column a seed, and their mean."""
    seeds = sorted(table["seed"].unique())
    lines = [
        "| number | method | " + " | ".join(f"seed {s}" for s in seeds) + " | mean |",
        "|---|---|" + "---|" * (len(seeds) + 1),
    ]
    for (task, metric, method), rows in table.groupby(["task", "metric", "method"], sort=False):
        cells = []
        for seed in seeds:
            row = rows[rows["seed"] == seed]
            cells.append("" if row.empty else _cell(row.iloc[0]))
        title = TITLES.get((task, metric), f"{task}: {metric.replace('_', ' ')}")
        named = method.replace("_", " ")
        lines.append(f"| {title} | {named} | {' | '.join(cells)} | {rows['value'].mean():.3g} |")
    return "\n".join(lines)


def _cell(row: pd.Series) -> str:
    if pd.isna(row.get("low")):
        return f"{row['value']:.3g}"
    return f"{row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"


if __name__ == "__main__":
    main()
