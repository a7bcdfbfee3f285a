"""A finished run on the toy cohort, trained once a session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtinet.cohort import Cohort
from mtinet.config import resolve
from mtinet.runs import Run
from mtinet.workflows.train import TrainOptions, train


def write_toy_cohort(folder: Path, maker: Callable, n: int = 9) -> Cohort:
    studies = []
    for index in range(n):
        toy = maker(index, gain=1.0 + index)
        label = ("hcc", "hemangioma")[index % 2]
        if index == 4:
            toy = replace(toy, mask=toy.mask.with_array(np.zeros_like(toy.mask.array)))
            label = "none"
        if index == 5:
            toy = replace(toy, images={p: v for p, v in toy.images.items() if p != "arterial"})
        studies.append(toy.write(folder, f"s{index}", label, f"p{index}"))
    Cohort("toy", tuple(studies), ("hemangioma", "hcc")).write(folder)
    return Cohort.read(folder)


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory, toy_maker: Callable) -> Run:
    """A tiny network trained long enough to find the toy's lesion."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("toy")
    write_toy_cohort(place / "cohort", toy_maker)
    config = resolve(
        "tiny",
        assignments=["training.steps=150", "training.validate_every=0", "training.learning_rate=0.01"],
    )
    return train(place / "cohort", place / "run", config, TrainOptions(folds=3, workers=1))
