"""The model that comes with the package."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mtinet
from mtinet.config import resolve_simulation
from mtinet.evaluation.detection import match_lesions
from mtinet.runs import PACKAGED, Run, RunError
from mtinet.volume import read_nifti
from mtinet.workflows.simulate import simulate


def test_reference_finds_the_lesion_of_a_virtual_patient(tmp_path):
    options = ["subjects=1", "seed=4242", "no_lesion_fraction=0", "missing_phase_rate=0", "extra_lesions=0"]
    options += ["classes=cyst", "diameter_mm=40,60"]
    study = simulate(tmp_path, resolve_simulation("multicentre", None, options), workers=1).studies[0]
    result = mtinet.load("reference")(study)
    assert "virtual-training" in [finding.id for finding in result.findings]
    assert result.model["virtual"] is True
    reference = read_nifti(study.mask, labels=True)
    found = [m for m in match_lesions(reference.array, result.mask.array, 0.3) if m.reference and m.predicted]
    assert len(found) == 1
    lesion = next(one for one in result.lesions if one.number == found[0].predicted)
    assert lesion.label == "cyst"
    assert lesion.certainty is not None
    truth = {p: float(read_nifti(i).array[reference.array > 0].mean()) for p, i in study.images.items()}
    for phase, signal in truth.items():
        assert lesion.enhancement[phase] == pytest.approx(signal, rel=0.3)


def test_reference_is_small_and_says_what_it_is():
    place = PACKAGED / "reference"
    assert sum(path.stat().st_size for path in place.rglob("*") if path.is_file()) < 5_000_000
    card = (place / "README.md").read_text(encoding="utf-8")
    assert "Research use only" in card
    assert "virtual patients only" in card
    # the card's numbers are the measured ones
    headlines = json.loads((place / "metrics.json").read_text(encoding="utf-8"))["headlines"]
    assert len(headlines) > 5
    for row in headlines:
        assert f"| {row['number']} | {row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}] |" in card


def test_its_calibration_is_of_its_weights():
    predictor = mtinet.load("reference")
    assert predictor.calibration is not None
    assert not predictor.outdated_calibration
    assert all(
        np.isfinite(i.half_width(0.9, 0.05, "hcc")) for i in predictor.calibration.enhancement.values()
    )


def test_a_folder_goes_before_a_model_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Run.find("reference").path == PACKAGED / "reference"
    (tmp_path / "reference").mkdir()
    with pytest.raises(RunError, match="not a run folder"):
        Run.find("reference")
    with pytest.raises(RunError, match="not a run folder"):
        Run.find("referense")
