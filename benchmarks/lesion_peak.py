"""What ``inference.min_peak`` keeps and drops: ``python benchmarks/lesion_peak.py MODEL OUT``.

A component of the predicted mask whose probability stays below ``inference.min_peak`` everywhere is dropped.
MODEL finds the lesions of virtual patients (preset ``demo``, a seed of the development ones, on which the
default was chosen) with several values of it; reported are the lesions found, the false components a study,
the lesion-free studies left empty, and Dice.

Writes the table into ``docs/predict.md``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from page import markdown, put_into

from mtinet.config import resolve_simulation
from mtinet.data.prepared import PreparedStudy
from mtinet.evaluation.detection import count_lesions, match_lesions
from mtinet.evaluation.metrics import score_masks
from mtinet.inference.lesions import find_lesions
from mtinet.inference.predictor import Predictor
from mtinet.workflows.prepare import prepare
from mtinet.workflows.simulate import simulate

SEED = 100
PEAKS = (0.5, 0.8, 0.9, 0.95, 0.99)


def scores_of(predictor: Predictor, study: PreparedStudy) -> list[dict[str, float]]:
    """A row a value of ``min_peak``, on the prepared grid."""
    config = predictor.config
    probability = predictor.vote(study).probability
    reference = np.asarray(study.mask)
    rows = []
    for peak in PEAKS:
        settings = config.inference.model_copy(update={"min_peak": peak})
        found = find_lesions(probability, study.spacing_mm, settings)
        counts = count_lesions(match_lesions(reference, found, config.evaluation.detection_iou))
        tolerance = config.evaluation.nsd_tolerance_mm
        dice = score_masks(reference > 0, found > 0, study.spacing_mm, tolerance).dice
        rows.append(
            {
                "peak": peak,
                "lesions": counts.n_reference,
                "found": counts.n_found,
                "false": counts.n_false_positive,
                "empty": float(counts.n_predicted == 0) if counts.n_reference == 0 else math.nan,
                "dice": dice if counts.n_reference else math.nan,
            }
        )
    return rows


def page_text(table: pd.DataFrame, model: str, default: float) -> str:
    """The table of the page and the sentence before it."""
    rows = []
    for peak, own in table.groupby("peak"):
        rows.append(
            [
                f"{peak:g} (default)" if peak == default else f"{peak:g}",
                float(own["found"].sum() / own["lesions"].sum()),
                float(own["false"].mean()),
                float(own["empty"].mean()),
                float(own["dice"].mean()),
            ]
        )
    one = table[table["peak"] == PEAKS[0]]
    said = (
        f"Model `{model}`, {len(one)} virtual patients with {int(one['lesions'].sum())} lesions, "
        f"{int(one['empty'].notna().sum())} of them without any; Dice is the mean over those with lesions."
    )
    heads = ["`min_peak`", "lesions found", "false components a study", "lesion-free left empty", "Dice"]
    return said + "\n\n" + markdown(heads, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, predict, table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="run folder, or reference")
    parser.add_argument("out", type=Path, help="for the patients")
    parser.add_argument("--subjects", type=int, default=100)
    parser.add_argument("--docs", type=Path, default=None, help="folder of predict.md; default: print only")
    options = parser.parse_args(arguments)
    given = [f"seed={SEED}", f"subjects={options.subjects}"]
    cohort = simulate(options.out / "cohort", resolve_simulation("demo", None, given))
    predictor = Predictor.load(options.model)
    rows = []
    for study in prepare(cohort, predictor.config, options.out / "cache").studies:
        rows += scores_of(predictor, study)
    text = page_text(pd.DataFrame(rows), options.model, predictor.config.inference.min_peak)
    print(text)
    if options.docs is not None:
        put_into(options.docs / "predict.md", "lesion-peak", text)


if __name__ == "__main__":
    main()
