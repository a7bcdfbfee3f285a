"""A finished run on the toy cohort, trained once a session."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mtinet.config import resolve
from mtinet.dicom.exam import Exam
from mtinet.dicom.write import write_exam
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


@pytest.fixture
def taught(toy_run: Run, tmp_path: Path) -> Callable[..., Run]:
    """``taught(classification=0)``: the toy's run with other weights of the tasks in its settings."""

    def copy(**weights: float) -> Run:
        place = tmp_path / "-".join(weights)
        shutil.copytree(toy_run.path, place)
        settings = yaml.safe_load((place / "config.yaml").read_text())
        settings["objective"] |= weights
        (place / "config.yaml").write_text(yaml.safe_dump(settings))
        return Run.open(place)

    return copy


def write_toy_dicom(
    toy, folder: Path, patient_id: str = "Q4711", study_id: str = "st", habit="siemens", agent="gadobutrol"
) -> Exam:
    """A toy as its scanner would have written it, under a name that nothing else may show."""
    images = {p: v.like_axes_of(np.diag([-1.0, -1.0, 1.0, 1.0])) for p, v in toy.images.items()}
    times = {"arterial": 22.0, "portal_venous": 65.0, "delayed": 180.0}
    exam = Exam(
        patient_id, study_id, habit, images, {p: t for p, t in times.items() if p in images}, agent=agent
    )
    write_exam(folder, exam)
    return exam


@pytest.fixture(scope="session")
def toy_scanner() -> Callable[..., Exam]:
    """``write_toy_dicom``."""
    return write_toy_dicom


@pytest.fixture(scope="session")
def thick_toy(toy_maker):
    """A toy in enough slices to be taken for a liver, by its seed."""
    return lambda seed, **values: toy_maker(seed, shape=(40, 32, 14), spacing_mm=(8.0, 8.0, 8.0), **values)
