"""What the exact tricks change in the demo's numbers: ``python benchmarks/plain_forms.py OUT``.

MdIEF filters by matrices and has its entropies' own derivatives; its plain form filters by Fourier transforms
and leaves the derivatives to PyTorch.  The two agree to rounding, which a training magnifies step by step.  So
the demo is trained in both, with the same seeds, patients and steps, and scores fresh patients whom no run has
seen: a patient's value is the mean over the trainings, the paired difference has its interval by resampling
patients, and the bounds are those of ``stem_cost.py``.

Writes ``plain-forms.csv`` and ``plain-forms-manifest.json`` into ``docs/`` and the table into
``docs/performance.md``.  OUT may be that of ``demo_seeds.py``, whose runs then are the fast ones.  What is
finished in OUT is not done again; ``--train plain SEED`` only trains and scores one, so that processes can
share the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch
from page import DOCS, publish
from stem_cost import BOUNDS, SCORED, SCORED_SEED, SEEDS, compared, fresh_patients, page_text, patient_scores
from torch import Tensor

from mtinet.cohort import Cohort
from mtinet.config import Config, resolve, resolve_simulation
from mtinet.model import mdief
from mtinet.workflows.demo import FOLDS
from mtinet.workflows.simulate import simulate
from mtinet.workflows.train import TrainOptions, train

KINDS = ("fast", "plain")


def plain_domains(self: mdief.Mdief, spatial: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
    """The spectral maps and both entropies, as their formulas read."""
    shape, axes = tuple(spatial.shape[3:]), tuple(range(3, spatial.ndim))
    transfer = mdief.transfer_function(shape, self.settings, spatial.device, spatial.dtype)
    spectral = torch.fft.irfftn(torch.fft.rfftn(spatial, dim=axes) * transfer, s=shape, dim=axes)
    return spectral, torch.stack([mdief.space_entropy(maps) for maps in (spatial, spectral)], dim=2)


def scores_of(out: Path, kind: str, seed: int, scored: Cohort, given: Sequence[str]) -> pd.DataFrame:
    """Train the demo of a seed in this form, and score it."""
    folder = out / f"seed{seed}"
    run = folder / ("run" if kind == "fast" else "plain")
    simulate(folder / "cohort", resolve_simulation("demo", None, [f"seed={seed}"]))
    domains = plain_domains if kind == "plain" else mdief.Mdief._domains
    with patch.object(mdief.Mdief, "_domains", domains):
        train(folder / "cohort", run, config_of(seed, given), TrainOptions(folds=FOLDS, resume=True))
        return patient_scores(run, scored)


def config_of(seed: int, given: Sequence[str] = ()) -> Config:
    """The demo's settings, for which the plain form above is the whole of it."""
    config = resolve("small", None, [f"training.seed={seed}", *given])
    assert (config.mdief.axes, config.mdief.entropy) == ("space", "space")
    return config


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", nargs=2, metavar=("KIND", "SEED"), help="train and score this, then stop")
    parser.add_argument("--steps", type=int, help="training steps instead of the preset's")
    parser.add_argument("--scored", type=int, default=SCORED, help="fresh patients")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write")
    options = parser.parse_args(arguments)
    scored = fresh_patients(options.out, options.scored)
    given = [] if options.steps is None else [f"training.steps={options.steps}"]
    if options.train:
        kind, seed = options.train
        print(scores_of(options.out, kind, int(seed), scored, given).mean().to_string())
        return
    config = config_of(SEEDS[0], given)
    scores = {k: [scores_of(options.out, k, seed, scored, given) for seed in SEEDS] for k in KINDS}
    table = compared(scores, config.evaluation.bootstrap, config.training.seed)
    said = (
        f"{config.training.steps} steps, {len(SEEDS)} trainings each, scored on {table['n'].iloc[0]:.0f} "
        "patients with a lesion whom no run had seen. Brackets: 95 % intervals over patients."
    )
    text = page_text(table, said, ["fast forms", "plain forms", "fast against plain"])
    print(text)
    publish(
        options.docs,
        "plain-forms",
        table,
        text,
        command="python benchmarks/plain_forms.py OUT",
        seeds=list(SEEDS),
        scored={"patients": options.scored, "seed": SCORED_SEED},
        bounds=BOUNDS,
    )


if __name__ == "__main__":
    main()
