"""Masks of another program: what their values mean."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mtinet.config import resolve
from mtinet.data.preparation import prepare_study
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UnusableError
from mtinet.volume import Volume
from mtinet.workflows.claims import OutsideClaims

CLASSES = ("hemangioma", "hcc")


@pytest.fixture
def prepared(toy, tmp_path: Path) -> PreparedStudy:
    config = resolve("tiny")
    return prepare_study(toy.write(tmp_path, "007"), config.phases, config.preparation, tmp_path / "cache")


@pytest.fixture
def outside(toy, tmp_path: Path) -> Path:
    """Two separate HCC (value 2) and a hemangioma (value 1), as nnU-Net writes them."""
    values = np.zeros(toy.mask.shape, np.uint8)
    values[4:8, 4:8, 2:4] = 2
    values[20:23, 20:23, 2:4] = 2
    values[30:32, 10:12, 2:4] = 1
    folder = tmp_path / "predicted"
    Volume(values, toy.mask.affine).write_nifti(folder / "007.nii.gz")
    return folder


def description(labels: dict[str, int]) -> str:
    return json.dumps({"channel_names": {"0": "pre"}, "labels": {"background": 0, **labels}})


def test_without_a_description_values_are_lesion_numbers(prepared, outside):
    claim = OutsideClaims(outside, CLASSES).claim(prepared)
    assert set(np.unique(claim.mask)) == {0, 1, 2}
    assert (claim.label, claim.probabilities) == ("", {})


def test_with_nnunets_description_values_are_classes(prepared, outside):
    (outside / "dataset.json").write_text(description({"hemangioma": 1, "hcc": 2}))
    claim = OutsideClaims(outside, CLASSES).claim(prepared)
    assert [int((claim.mask == n).sum()) for n in (1, 2, 3)] == [32, 18, 8]
    said = {number: max(p, key=p.get) for number, p in claim.probabilities.items()}
    assert said == {1: "hcc", 2: "hcc", 3: "hemangioma"}
    assert claim.label == "hcc"


def test_liver_is_no_lesion_and_a_plain_tumour_has_no_class(prepared, outside):
    (outside / "dataset.json").write_text(description({"liver": 1, "tumour": 2}))
    claim = OutsideClaims(outside, CLASSES).claim(prepared)
    assert [int((claim.mask == n).sum()) for n in (1, 2, 3)] == [32, 18, 0]
    assert (claim.label, claim.probabilities) == ("", {})


def test_labels_that_the_run_does_not_know_are_refused(outside):
    (outside / "dataset.json").write_text(description({"spleen": 1}))
    with pytest.raises(UnusableError, match="the run knows hemangioma, hcc"):
        OutsideClaims(outside, CLASSES)
