"""What the exact tricks change in the demo's numbers: ``python benchmarks/plain_forms.py OUT``.

MdIEF filters by matrices and has its entropies' own derivatives; its plain form filters by Fourier transforms
and leaves the derivatives to PyTorch.  The two agree to rounding, which a training magnifies step by step.  So
the demo is trained in both, with the same seeds, patients and steps, and scores fresh patients whom no run has
seen: a patient's value is the mean over the trainings, the paired difference has its interval by resampling
patients, and the bounds are those of ``stem_cost.py``.  One training a seed says little, since rounding alone
sends another one elsewhere; so each is repeated from weights whose last digit is another, and the script says
how far the repeats of one form lie apart.

Writes ``plain-forms.csv`` and ``plain-forms-manifest.json`` into ``docs/`` and the table into
``docs/performance.md``.  What is finished in OUT is not done again; ``--train KIND SEED REPEAT`` only
trains and scores one, so that processes can share the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import torch
from page import DOCS, markdown, publish
from stem_cost import BOUNDS, SCORED, SCORED_SEED, SEEDS, compared, fresh_patients, page_text, patient_scores
from torch import Tensor

from mtinet.cohort import Cohort
from mtinet.config import Config, resolve, resolve_simulation
from mtinet.model import mdief
from mtinet.model.build import build_network
from mtinet.model.network import MultiTaskNetwork
from mtinet.workflows import train as training
from mtinet.workflows.demo import FOLDS
from mtinet.workflows.simulate import simulate

KINDS = ("fast", "plain")
REPEATS = 2


def plain_domains(self: mdief.Mdief, spatial: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor]:
    """The spectral maps and both entropies, as their formulas read."""
    shape, axes = tuple(spatial.shape[3:]), tuple(range(3, spatial.ndim))
    transfer = mdief.transfer_function(shape, self.settings, spatial.device, spatial.dtype)
    spectral = torch.fft.irfftn(torch.fft.rfftn(spatial, dim=axes) * transfer, s=shape, dim=axes)
    return spectral, torch.stack([mdief.space_entropy(maps) for maps in (spatial, spectral)], dim=2)


def scores_of(
    out: Path, kind: str, seed: int, repeat: int, scored: Cohort, given: Sequence[str]
) -> pd.DataFrame:
    """Train the demo of a seed in this form, its weights ``repeat`` last digits off at first, and score it."""
    folder = out / f"seed{seed}"
    run = folder / f"{kind}-{repeat}"
    simulate(folder / "cohort", resolve_simulation("demo", None, [f"seed={seed}"]))

    def nudged(config: Config, classes: int) -> MultiTaskNetwork:
        network = build_network(config, classes)
        with torch.no_grad():
            for weights in network.parameters():
                weights.mul_(1 + repeat * torch.finfo(weights.dtype).eps)
        return network

    domains = plain_domains if kind == "plain" else mdief.Mdief._domains
    with patch.object(mdief.Mdief, "_domains", domains), patch.object(training, "build_network", nudged):
        options = training.TrainOptions(folds=FOLDS, resume=True)
        training.train(folder / "cohort", run, config_of(seed, given), options)
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
    parser.add_argument(
        "--train", nargs=3, metavar=("KIND", "SEED", "REPEAT"), help="train and score this, then stop"
    )
    parser.add_argument("--steps", type=int, help="training steps instead of the preset's")
    parser.add_argument("--scored", type=int, default=SCORED, help="fresh patients")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write")
    options = parser.parse_args(arguments)
    scored = fresh_patients(options.out, options.scored)
    given = [] if options.steps is None else [f"training.steps={options.steps}"]
    if options.train:
        kind, seed, repeat = options.train
        print(scores_of(options.out, kind, int(seed), int(repeat), scored, given).mean().to_string())
        return
    config = config_of(SEEDS[0], given)
    trainings = [(seed, repeat) for seed in SEEDS for repeat in range(REPEATS)]
    scores = {k: [scores_of(options.out, k, *which, scored, given) for which in trainings] for k in KINDS}
    table = compared(scores, config.evaluation.bootstrap, config.training.seed)
    errors = pd.DataFrame(
        {k: [table["error"].mean() for table in tables] for k, tables in scores.items()},
        index=pd.MultiIndex.from_tuples(trainings, names=["seed", "repeat"]),
    )
    apart = float(errors.groupby("seed").var().to_numpy().mean()) ** 0.5
    chance = apart * (2 / len(trainings)) ** 0.5 / float(errors["plain"].mean())
    said = (
        f"{config.training.steps} steps, {len(trainings)} trainings each ({len(SEEDS)} seeds, {REPEATS} times), "
        f"scored on {table['n'].iloc[0]:.0f} patients with a lesion whom no run had seen. Brackets: 95 % intervals "
        f"over patients. The errors of one form's repeats have a standard deviation of {apart:.1f} within a seed, "
        f"which alone gives the ratio a standard error of {chance:.2f}."
    )
    text = page_text(table, said, ["fast forms", "plain forms", "fast against plain"])
    rows = [[*which, *values] for which, values in zip(trainings, errors.to_numpy(), strict=True)]
    text += "\n\n" + markdown(["seed", "repeat", "error of the fast form", "of the plain form"], rows)
    print(text)
    publish(
        options.docs,
        "plain-forms",
        table,
        text,
        command="python benchmarks/plain_forms.py OUT",
        seeds=list(SEEDS),
        repeats=REPEATS,
        scored={"patients": options.scored, "seed": SCORED_SEED},
        bounds=BOUNDS,
    )


if __name__ == "__main__":
    main()
