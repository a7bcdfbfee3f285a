"""A small cohort in memory and the networks' batch, shared by the training tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mtinet.cohort import Cohort
from mtinet.config import Config, resolve
from mtinet.data.dataset import PatchDataset, Sample, collate
from mtinet.data.prepared import PreparedStudy
from mtinet.workflows.prepare import prepare


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def prepared(toy_cohort: Cohort, tmp_path: Path) -> list[PreparedStudy]:
    return prepare(toy_cohort, resolve("tiny"), tmp_path / "cache", workers=1).studies


@pytest.fixture
def make_batch(prepared: list[PreparedStudy]) -> Callable[..., Sample]:
    """``make_batch(config, step=0, size=4)``: a batch of the toy cohort."""

    def make(config: Config, step: int = 0, size: int = 4) -> Sample:
        data = PatchDataset(prepared, config, ("hemangioma", "hcc"), seed=0)
        return collate([data.sample(step, slot) for slot in range(size)])

    return make
