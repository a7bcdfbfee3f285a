"""Tiny volumes laid out as data sets are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mtinet.volume import Volume
from mtinet.workflows.check import check
from mtinet.workflows.imports.writing import ImportOptions

SHAPE = (14, 12, 6)
AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])
ONE = ImportOptions(workers=0)
"""In this process."""


@pytest.fixture
def one() -> ImportOptions:
    return ONE


def _write_image(path: Path, seed: int = 0, level: float = 200.0, affine=AFFINE, shape=SHAPE) -> Path:
    rng = np.random.default_rng([seed, len(str(path)), *path.name.encode()])
    Volume((level + 5 * rng.standard_normal(shape)).astype(np.float32), affine).write_nifti(path)
    return path


def _write_mask(path: Path, boxes, affine=AFFINE, shape=SHAPE) -> Path:
    """``boxes``: a value and its three slices each."""
    array = np.zeros(shape, np.uint8)
    for value, *box in boxes:
        array[tuple(slice(a, b) for a, b in box)] = value
    Volume(array, affine).write_nifti(path)
    return path


@pytest.fixture
def write_image():
    return _write_image


@pytest.fixture
def write_mask():
    return _write_mask


@pytest.fixture
def no_errors():
    """Every import promises this of what it made."""

    def assert_no_errors(folder: Path) -> None:
        errors = [f for f in check(folder, workers=0) if f.severity == "error"]
        assert errors == []

    return assert_no_errors


@pytest.fixture
def found():
    """Ids of an outcome's findings."""
    return lambda outcome: {finding.id for finding in outcome.findings}


@pytest.fixture
def counts():
    """Lines of an outcome's inclusion table: studies by step, and the whole adds up."""

    def by_step(outcome) -> dict[str, int]:
        table: dict[str, int] = {}
        for row in outcome.inclusion:
            table[row.step] = table.get(row.step, 0) + row.studies
        assert table["found"] == sum(n for step, n in table.items() if step != "found")
        assert (outcome.folder / "inclusion.csv").is_file()
        return table

    return by_step


@pytest.fixture
def write_json():
    def write(path: Path, content) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write
