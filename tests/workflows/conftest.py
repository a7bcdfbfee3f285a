"""A finished run on the toy cohort, trained once a session."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mtinet.config import resolve
from mtinet.runs import Run
from mtinet.workflows.train import TrainOptions, train


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory, toy_cohort_writer: Callable) -> Run:
    """A tiny network trained long enough to find the toy's lesion."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("toy")
    toy_cohort_writer(place / "cohort", 9)
    config = resolve(
        "tiny",
        assignments=["training.steps=150", "training.validate_every=0", "training.learning_rate=0.01"],
    )
    return train(place / "cohort", place / "run", config, TrainOptions(folds=3, workers=1))
