"""Training on cohorts as they come: another program's files, missing parts, every network, 2-D and 3-D."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from lightning_fabric import Fabric

from mtinet.cohort import Cohort
from mtinet.config import Config, resolve
from mtinet.data.folds import Split
from mtinet.errors import UnusableError
from mtinet.inference.predictor import Predictor
from mtinet.runs import Run, RunError
from mtinet.volume import read_nifti
from mtinet.workflows.check import check
from mtinet.workflows.evaluate import evaluate
from mtinet.workflows.predict import predict
from mtinet.workflows.train import TrainOptions, enhancement_statistics, refuse_changes, train

OPTIONS = TrainOptions(folds=3, workers=1)
SHORT = ("training.steps=4", "training.validate_every=0", "training.checkpoint_every=2")


def short(*changes: str) -> Config:
    return resolve("tiny", assignments=[*SHORT, *changes])


@pytest.fixture
def foreign_cohort(tmp_path: Path, toy_maker: Callable) -> Path:
    """Files of SimpleITK and a CSV by hand: other spacings, orientations, types, and gaps of every kind."""
    folder = tmp_path / "foreign"
    rows = []
    for index in range(9):
        toy = toy_maker(index, spacing_mm=(7.0 + index % 3, 8.0, 9.0 + index % 2))
        angle = 0.15 * index
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        if index == 3:
            turn = turn @ np.diag([1, -1, -1])
        row = {
            "study_id": f"00{index}",
            "label": ("NO", "hcc")[index % 2],
            "site": "NA",
            "time_delayed_s": "180",
        }
        for phase, volume in toy.images.items():
            if index == 4 and phase == "arterial":
                continue
            kind = (np.int16, np.float32, np.uint16)[index % 3]
            image = sitk.GetImageFromArray(volume.array.T.astype(kind))
            row[phase] = f"{index}_{phase}.nii.gz"
            place(image, volume, turn, folder / row[phase])
        if index not in (2, 6):
            mask = sitk.GetImageFromArray(toy.mask.array.T.astype(np.uint8) * (index != 8))
            row["mask"] = f"{index}_mask.nii"
            place(mask, toy.mask, turn, folder / row["mask"])
        if index == 8:
            row["label"] = "none"
        if index == 6:
            row["label"] = ""
        rows.append(row)
    pd.DataFrame(rows).fillna("").to_csv(folder / "cohort.csv", index=False)
    (folder / "cohort.yaml").write_text(
        "name: foreign\nclasses: [NO, hcc]\nphases: [pre, arterial, portal_venous, delayed]\n"
    )
    return folder


def place(image: sitk.Image, volume, turn: np.ndarray, path: Path) -> None:
    image.SetSpacing(volume.spacing_mm)
    image.SetDirection(turn.ravel().tolist())
    image.SetOrigin([3.0, -20.0, 40.0])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.mark.slow
def test_a_cohort_of_another_program_needs_no_step_by_hand(foreign_cohort: Path, tmp_path: Path):
    assert [f for f in check(foreign_cohort) if f.severity == "error"] == []
    run = train(foreign_cohort, tmp_path / "run", short(), OPTIONS)
    assert run.finished
    assert [f for f in run.findings() if f.severity == "error"] == []
    assert run.classes == ("NO", "hcc")
    outcome = predict(run.path, foreign_cohort, tmp_path / "out")
    assert [r.study_id for r in outcome.results] == [f"00{i}" for i in range(9)]
    for result in outcome.results:
        reference = sitk.ReadImage(str(foreign_cohort / f"{int(result.study_id)}_portal_venous.nii.gz"))
        mask = sitk.ReadImage(str(tmp_path / "out" / result.study_id / "mask.nii.gz"))
        assert mask.GetSize() == reference.GetSize()
        assert np.allclose(mask.GetOrigin(), reference.GetOrigin(), atol=1e-3)
        assert np.allclose(mask.GetDirection(), reference.GetDirection(), atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        ("fusion=concat",),
        ("fusion=attention",),
        ("mdief.axes=space+phase", "mdief.entropy=channel", "mdief.filter=butterworth"),
        ("decoder.skips=raw", "head.levels=last"),
        ("head.pooling=global",),
        ("encoder.shared=false", "encoder.norm=group"),
        ("head.position=time", "tim.weighting=hard", "tim.against=truth"),
        ("tdd.pairs=shuffled", "tdd.loss=hinge", "objective.adversarial_from=0"),
        ("objective.weighting=uncertainty", "training.schedule=poly"),
        ("tim.enabled=false", "tdd.enabled=false"),
        ("head.readout=residual", "encoder.subtraction=true"),
    ],
)
def test_every_option_trains(toy_cohort: Cohort, tmp_path: Path, changes):
    run = train(toy_cohort.folder, tmp_path / "run", short(*changes), OPTIONS)
    assert run.finished
    assert all(np.isfinite(r["total"]) for r in run.metrics() if "total" in r)


def test_three_dimensions(toy_cohort: Cohort, tmp_path: Path):
    config = short("spatial_dims=3", "sampling.patch_size=8,24,24")
    run = train(toy_cohort.folder, tmp_path / "run", config, OPTIONS)
    scored = evaluate(run.path)
    assert scored.scored.studies == len(run.document("split")["test"])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["basic_unet", "dynunet", "swinunetr", "attention_unet"])
def test_every_baseline_trains_and_is_scored(toy_cohort: Cohort, tmp_path: Path, model):
    run = train(toy_cohort.folder, tmp_path / "run", short(f"model={model}"), OPTIONS)
    assert evaluate(run.path).scored.find("segmentation", "dice") is not None


def test_one_class_only(tmp_path: Path, toy_maker: Callable):
    folder = tmp_path / "cohort"
    studies = [toy_maker(i).write(folder, f"s{i}", "hcc") for i in range(4)]
    Cohort("one", tuple(studies), ("hcc",)).write(folder)
    run = train(folder, tmp_path / "run", short(), TrainOptions(folds=2, workers=1))
    assert run.finished
    assert evaluate(run.path).scored.find("classification", "accuracy") is not None


def test_batches_without_lesion_and_studies_with_one_phase(tmp_path: Path, toy_maker: Callable):
    folder = tmp_path / "cohort"
    studies = []
    for index in range(4):
        toy = toy_maker(index)
        if index:
            toy = replace(toy, mask=toy.mask.with_array(np.zeros_like(toy.mask.array)))
        else:
            toy = replace(toy, images={"delayed": toy.images["delayed"]})
        studies.append(toy.write(folder, f"s{index}", "none" if index else "hcc"))
    Cohort("bare", tuple(studies), ("hcc", "cyst")).write(folder)
    config = short("sampling.cases_per_class=natural", "training.batch_size=2", "training.steps=8")
    run = train(folder, tmp_path / "run", config, TrainOptions(fold=None, workers=1))
    assert run.finished
    assert run.document("split")["test"] == []


def test_what_no_training_study_shows_is_said_before_the_first_step(tmp_path: Path, toy_maker: Callable):
    folder = tmp_path / "cohort"
    studies = []
    for index in range(4):
        toy = toy_maker(index)
        images = {phase: image for phase, image in toy.images.items() if phase != "delayed"}
        images["hepatobiliary"] = toy.images["delayed"]
        studies.append(replace(toy, images=images).write(folder, f"s{index}", "hcc"))
    phases = ("pre", "arterial", "portal_venous", "hepatobiliary")

    def told(name: str, cohort: Cohort, *changes: str) -> dict[str, str]:
        cohort.write(folder)
        said = []
        options = TrainOptions(folds=2, workers=1)
        train(folder, tmp_path / name, short(*changes), options, on_finding=said.append)
        return {finding.id: finding.meaning for finding in said}

    asked = f"phases={','.join(phases)}"
    rare = Cohort("rare", tuple(studies), ("hcc", "cyst"), phases)
    lacking = told("lacking", rare)
    assert "cyst" in lacking["class-never-shown"]
    assert "hcc" not in lacking["class-never-shown"]
    assert "delayed" in lacking["phase-never-shown"]
    assert "hepatobiliary" in lacking["phase-not-asked-for"]
    predicted = Predictor.load(tmp_path / "lacking")(toy_maker(9).write(tmp_path / "new", "new", ""))
    never = {finding.id: finding.meaning for finding in predicted.findings if "never" in finding.id}
    assert "cyst" in never["class-never-shown"]
    assert "delayed" in never["phase-never-shown"]
    assert not any("never" in id for id in told("whole", replace(rare, classes=("hcc",)), asked))
    predicted = Predictor.load(tmp_path / "whole")(studies[0])
    assert not any("never" in finding.id for finding in predicted.findings)
    assert "class-never-shown" not in told("masks", rare, asked, "objective.classification=0")


def test_why_nothing_could_be_prepared_is_said(toy_cohort: Cohort, tmp_path: Path):
    with pytest.raises(UnusableError, match="transitional"):
        train(toy_cohort.folder, tmp_path / "run", short("phases=transitional,hepatobiliary"), OPTIONS)
    assert not (tmp_path / "run").exists()


def test_nothing_to_learn_is_said(tmp_path: Path, toy_maker: Callable):
    folder = tmp_path / "cohort"
    studies = [replace(toy_maker(i).write(folder, f"s{i}", ""), mask=None) for i in range(4)]
    Cohort("bare", tuple(studies), ("hcc",)).write(folder)
    with pytest.raises(UnusableError, match="nothing to learn"):
        train(folder, tmp_path / "run", short(), TrainOptions(folds=2, workers=1))
    assert not (tmp_path / "run").exists()


def test_held_out_patients_are_whole_and_everybody_can_train(toy_cohort: Cohort, tmp_path: Path):
    run = train(toy_cohort.folder, tmp_path / "fold", short(), OPTIONS)
    split = Split.from_dict(run.document("split"))
    assert split.test
    assert not set(split.train) & set(split.test)
    split.check(toy_cohort)
    everybody = train(toy_cohort.folder, tmp_path / "all", short(), TrainOptions(fold=None, workers=1))
    assert len(everybody.document("split")["train"]) == len(toy_cohort)
    with pytest.raises(UnusableError, match="trained on everybody"):
        evaluate(everybody.path)


def test_what_is_held_out_changes_nothing_of_what_is_learned(toy_cohort: Cohort, tmp_path: Path):
    config, options = short("training.steps=2"), replace(OPTIONS, cache=tmp_path / "cache")
    first = train(toy_cohort.folder, tmp_path / "first", config, options)
    shutil.copytree(toy_cohort.folder, tmp_path / "changed")
    changed, split = Cohort.read(tmp_path / "changed"), first.document("split")
    for study_id in split["test"]:
        for path in changed[study_id].images.values():
            image = read_nifti(path)
            image.with_array(image.array[::-1] + np.float32(50)).write_nifti(path)
    again = train(changed.folder, tmp_path / "again", config, options)
    assert split["test"]
    assert (again.document("split")["train"], again.document("split")["test"]) == (
        split["train"],
        split["test"],
    )
    assert again.document("preparation") == first.document("preparation")
    ours, theirs = first.load_model()[0], again.load_model()[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_statistics_ignore_missing_phases(toy_run: Run):
    cohort = Cohort.read(Path(toy_run.manifest["cohort_folder"]))
    from mtinet.workflows.prepare import prepare

    prepared = prepare(cohort, toy_run.config, workers=1).studies
    statistics = enhancement_statistics(prepared, 4)
    curves = np.array([[x.enhancement.get(p, np.nan) for p in s.phases] for s in prepared for x in s.lesions])
    assert np.isnan(curves).any()
    assert statistics["phase_mean"] == pytest.approx(np.nanmean(curves, axis=0).tolist())
    assert statistics["std"] == pytest.approx(float(np.nanstd(curves)))


def test_numbers_also_go_to_tensorboard(toy_cohort: Cohort, tmp_path: Path):
    options = TrainOptions(folds=3, workers=1, tensorboard=True)
    run = train(toy_cohort.folder, tmp_path / "run", short(), options)
    assert list((run.path / "tensorboard").glob("events.*"))


def test_a_fixed_division_takes_the_place_of_the_fold(toy_cohort: Cohort, tmp_path: Path):
    split = Split(("s0", "s1", "s2", "s3"), ("s4", "s5"), None, 1, toy_cohort.hash)
    (tmp_path / "split.json").write_text(json.dumps(split.to_dict()))
    options = TrainOptions(split=tmp_path / "split.json", workers=1)
    run = train(toy_cohort.folder, tmp_path / "run", short(), options)
    assert Split.from_dict(run.document("split")) == split


def test_a_resumed_run_refuses_what_it_was_not_begun_with(toy_cohort: Cohort, tmp_path: Path):
    config = short("training.steps=2")
    run = train(toy_cohort.folder, tmp_path / "run", config, OPTIONS)
    own = run.document("split")
    (tmp_path / "same.json").write_text(json.dumps(own))
    (tmp_path / "other.json").write_text(json.dumps(own | {"train": own["test"], "test": own["train"]}))
    refuse_changes(run, toy_cohort, config, {"fold": 0, "folds": 3}, tmp_path / "same.json")
    deeper = config.model_copy(update={"head": config.head.model_copy(update={"depth": 5})})
    for options, told in (
        ((deeper, {}), "head.depth is 1, not 5"),
        ((config, {"fold": 1}), "fold is 0, not 1"),
        ((config, {"fold": None}), "fold is 0, not None"),
        ((config, {"folds": 4}), "folds is 3, not 4"),
        ((config, {}, tmp_path / "other.json"), "other.json"),
        ((config, {}, None, run.path), "fresh weights"),
    ):
        with pytest.raises(RunError, match=told):
            refuse_changes(run, toy_cohort, *options)


def test_a_refused_training_leaves_no_folder(toy_cohort: Cohort, tmp_path: Path):
    config = short("training.steps=2")
    everybody = train(toy_cohort.folder, tmp_path / "all", config, TrainOptions(fold=None, workers=1))
    for init, told in ((everybody.path, "holds out"), (tmp_path / "typo", "not a run folder")):
        with pytest.raises(RunError, match=told):
            train(toy_cohort.folder, tmp_path / "run", config, replace(OPTIONS, init=init))
        assert not (tmp_path / "run").exists()


def test_processes_that_cannot_share_a_batch_are_refused_before_they_train(
    toy_cohort: Cohort, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(Fabric, "world_size", 3)
    with pytest.raises(RunError, match="batch_size=4 cannot be shared by 3"):
        train(toy_cohort.folder, tmp_path / "run", short(), OPTIONS)
    assert not (tmp_path / "run").exists()
