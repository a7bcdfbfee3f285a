from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mtinet.cohort import Cohort
from mtinet.errors import UserError
from mtinet.evaluation.tables import read_table
from mtinet.runs import Run
from mtinet.volume import Volume, read_nifti
from mtinet.workflows.evaluate import evaluate


@pytest.fixture
def run(toy_run: Run, tmp_path: Path) -> Run:
    """A copy, so that a test's tables do not reach the others."""
    shutil.copytree(toy_run.path, tmp_path / "run")
    return Run.open(tmp_path / "run")


def held_out(run: Run) -> Cohort:
    cohort = Cohort.read(Path(run.manifest["cohort_folder"]))
    return cohort.subset(run.document("split")["test"])


def perfect_predictions(cohort: Cohort, folder: Path) -> None:
    """What an oracle would hand in: the reference masks and labels."""
    rows = []
    for study in cohort.studies:
        mask = read_nifti(study.mask, labels=True)
        Volume(mask.array.astype(np.uint8), mask.affine).write_nifti(folder / f"{study.study_id}.nii.gz")
        rows.append({"study_id": study.study_id, "predicted_label": study.label})
    pd.DataFrame(rows).to_csv(folder / "studies.csv", index=False)


def test_only_held_out_studies_are_scored_and_everything_is_written(run: Run):
    scored = evaluate(run.path)
    split = run.document("split")
    studies = read_table(scored.folder / "studies.csv")
    assert list(studies["study_id"]) == split["test"]
    assert not set(studies["patient_id"]) & {f"p{i[1:]}" for i in split["train"]}
    for study_id in split["test"]:
        assert (scored.folder / "masks" / f"{study_id}.nii.gz").is_file()
        with np.load(scored.folder / "views" / f"{study_id}.npz") as view:
            assert view["images"].shape[0] == 4
    assert json.loads((scored.folder / "summary.json").read_text())["studies"] == len(studies)
    assert scored.scored.find("segmentation", "dice").value > 0.3
    lesions = read_table(scored.folder / "lesions.csv")
    reference = lesions[lesions["reference"].notna()]
    assert reference["true_portal_venous"].notna().all()
    assert reference["oracle_portal_venous"].notna().all()


def test_the_tables_have_the_columns_that_are_explained(run: Run, explained):
    stand_for = {"<phase>": run.config.phases, "<class>": run.classes}

    def spelled_out(name: str) -> list[str]:
        kind = next((k for k in stand_for if k in name), "")
        return [name.replace(kind, value) for value in stand_for[kind]] if kind else [name]

    folder = evaluate(run.path).folder
    for file in ("table.csv", "studies.csv", "lesions.csv"):
        wanted = {column for name in explained(file) for column in spelled_out(name)}
        # the toy's lesions are not simulated, so they have no signal without noise; and it has one reader
        wanted = {column for column in wanted if not column.startswith(("noise_free_", "second_"))}
        assert set(read_table(folder / file).columns) == wanted


def test_a_second_reader_stands_beside_the_network(run: Run, tmp_path: Path, explained):
    cohort = held_out(run)
    ranked = sorted(cohort.studies, key=lambda study: not read_nifti(study.mask, labels=True).array.any())
    first, unreadable, elsewhere = ranked
    drawn = read_nifti(first.mask, labels=True)
    paths = {study.study_id: tmp_path / f"{study.study_id}_2.nii.gz" for study in cohort.studies}
    fewer = np.where(np.arange(drawn.array.shape[2]) < np.nonzero(drawn.array)[2].max(), drawn.array, 0)
    Volume(fewer, drawn.affine).write_nifti(paths[first.study_id])
    paths[unreadable.study_id].write_bytes(b"none")
    # as many voxels, but not where they were: it would be scored without a word
    shifted = drawn.affine.copy()
    shifted[0, 3] += 20.0
    Volume(drawn.array, shifted).write_nifti(paths[elsewhere.study_id])
    studies = tuple(replace(study, mask_2=paths[study.study_id]) for study in cohort.studies)
    replace(cohort, studies=studies).write(tmp_path / "cohort")
    scored = evaluate(run.path, cohort=tmp_path / "cohort")

    unusable = [f for f in scored.findings if f.id == "second-reader-unusable"]
    assert {f.case for f in unusable} == {unreadable.study_id, elsewhere.study_id}
    assert all("cohort.csv" in f.action for f in unusable)
    lesion, common = np.count_nonzero(drawn.array), np.count_nonzero(fewer)
    agreement = scored.scored.find("segmentation", "dice", "second_reader", "two_readers")
    assert agreement.n == 1
    assert agreement.value == pytest.approx(2 * common / (lesion + common))
    table = read_table(scored.folder / "studies.csv").set_index("study_id")
    assert {f"second_{name}" for name in ("dice", "iou", "nsd", "hd95_mm")} <= explained("studies.csv") & set(
        table
    )
    network = scored.scored.find("segmentation", "dice", "network", "two_readers")
    assert network.value == pytest.approx(table.loc[first.study_id, "dice"])
    difference = scored.scored.find("segmentation", "dice", "network_minus_second_reader", "two_readers")
    assert difference.value == pytest.approx(network.value - agreement.value)
    assert f"second_reader {agreement.value:.3g}" in scored.text
    # nothing else is scored otherwise
    plain = evaluate(run.path)
    assert [row for row in scored.scored.rows if row.group != "two_readers"] == list(plain.scored.rows)


def test_a_network_that_finds_nothing_stays_scored(run: Run):
    """Or a row that failed on a whole fold would keep the enhancement error of its good ones."""
    settings = run.path / "config.yaml"
    text = yaml.safe_load(settings.read_text())
    text["inference"]["min_peak"] = 1.0
    settings.write_text(yaml.safe_dump(text))
    scored = evaluate(run.path)
    assert (read_table(scored.folder / "studies.csv")["n_predicted"] == 0).all()
    for metric in ("mae_raw", "mae_relative"):
        mean = scored.scored.find("enhancement", metric, "training_mean").value
        for method in ("head", "read_out"):
            assert scored.scored.find("enhancement", metric, method).value == pytest.approx(mean)


def test_evaluation_is_repeatable(run: Run):
    first = evaluate(run.path).folder.joinpath("lesions.csv").read_bytes()
    second = evaluate(run.path).folder.joinpath("lesions.csv").read_bytes()
    assert first == second


def test_perfect_predictions_of_another_program_score_perfectly(run: Run, tmp_path: Path):
    cohort = held_out(run)
    outside = tmp_path / "oracle"
    outside.mkdir()
    perfect_predictions(cohort, outside)
    scored = evaluate(run.path, predictions=outside)
    assert scored.folder != run.predictions
    assert scored.scored.find("segmentation", "dice").value == 1.0
    assert scored.scored.find("classification", "accuracy").value == 1.0
    # under the reference mask the signal is the truth
    assert scored.scored.find("enhancement", "mae_raw", "read_out").value == pytest.approx(0, abs=1e-3)


def test_a_task_that_was_not_learned_is_not_scored(taught):
    masks_alone = evaluate(taught(classification=0.0, regression=0.0).path)
    for task, metric in (("classification", "accuracy"), ("enhancement", "mae_raw")):
        said = {row.method for row in masks_alone.scored.rows if (row.task, row.metric) == (task, metric)}
        assert said  # the read-outs' and the training mean's
        assert not said & {"network", "head", "oracle_mask"}
    assert not [f for f in masks_alone.findings if "class" in f.id or "regression" in f.id]
    assert masks_alone.scored.find("segmentation", "dice").value > 0.3

    no_masks = evaluate(taught(segmentation=0.0).path)
    assert [f.id for f in no_masks.findings].count("masks-not-learned") == 1


def test_a_program_that_names_no_class_is_not_wrong_about_it(run: Run, tmp_path: Path):
    cohort, outside = held_out(run), tmp_path / "masks"
    outside.mkdir()
    perfect_predictions(cohort, outside)
    (outside / "studies.csv").unlink()
    scored = evaluate(run.path, predictions=outside)
    assert scored.scored.find("segmentation", "dice").value == 1.0
    assert scored.scored.find("classification", "accuracy") is None
    assert scored.scored.find("classification", "accuracy", "logistic_regression") is not None

    # who names classes and finds nothing is wrong everywhere
    settings = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(settings.replace("min_peak: 0.5", "min_peak: 1.0"))
    assert "min_peak: 1.0" in (run.path / "config.yaml").read_text()
    assert evaluate(run.path).scored.find("classification", "accuracy").value == 0.0


def test_another_program_may_leave_a_lesion_or_a_phase_without_an_answer(run: Run, tmp_path: Path):
    cohort, outside = held_out(run), tmp_path / "masks"
    outside.mkdir()
    perfect_predictions(cohort, outside)
    truth = read_table(evaluate(run.path).folder / "lesions.csv")
    truth = truth[truth["reference"].notna()].reset_index(drop=True)
    assert len(truth) >= 2
    rows = pd.DataFrame({"study_id": truth["study_id"], "lesion": truth["reference"].astype(int)})
    for name in run.classes:
        rows[f"p_{name}"] = (truth["label"] == name).astype(float)
    for phase in run.config.phases:
        rows[f"predicted_{phase}"] = truth[f"true_{phase}"]
    rows.loc[0, [f"p_{name}" for name in run.classes]] = np.nan
    rows.loc[0, "predicted_delayed"] = np.nan
    rows.to_csv(outside / "lesions.csv", index=False)
    (outside / "studies.csv").unlink()
    scored = evaluate(run.path, predictions=outside)
    # the unnamed lesion is wrong, and the other ones are not refused for it
    accuracy = scored.scored.find("classification", "accuracy")
    assert accuracy.value == pytest.approx(1 - 1 / accuracy.n)
    # one phase is missing, and the others count as they were given
    assert scored.scored.find("enhancement", "mae_raw", "head", "arterial").value == pytest.approx(
        0, abs=1e-3
    )
    assert scored.scored.find("enhancement", "mae_raw", "head", "delayed").value > 1.0
    assert "another-program" in {f.id for f in scored.findings}
    # what one table leaves open the other may say
    answer = pd.DataFrame({"study_id": truth["study_id"], "predicted_label": truth["label"]})
    answer.to_csv(outside / "studies.csv", index=False)
    assert evaluate(run.path, predictions=outside).scored.find("classification", "accuracy").value == 1.0


def test_a_study_has_the_class_of_its_largest_lesion_where_it_names_none(run: Run, tmp_path: Path):
    cohort = held_out(run)
    named = [s for s in cohort.studies if s.label in run.classes]
    of_lesions = pd.DataFrame(
        [{"study_id": s.study_id, "lesion": "1", "label": s.label} for s in named], dtype=str
    )
    studies = tuple(replace(s, label="" if s in named else s.label) for s in cohort.studies)
    replace(cohort, studies=studies, lesions=of_lesions).write(tmp_path / "cohort")
    tables = [
        read_table(evaluate(run.path, cohort=folder).folder / "studies.csv")
        for folder in (None, tmp_path / "cohort")
    ]
    assert list(tables[0]["label"]) == list(tables[1]["label"])


def test_missing_or_misplaced_masks_of_another_program_are_refused(run: Run, tmp_path: Path):
    cohort = held_out(run)
    outside = tmp_path / "oracle"
    outside.mkdir()
    perfect_predictions(cohort, outside)
    first = outside / f"{cohort.studies[0].study_id}.nii.gz"
    mask = read_nifti(first, labels=True)
    shifted = mask.affine.copy()
    shifted[0, 3] += 30
    Volume(mask.array, shifted).write_nifti(first)
    with pytest.raises(UserError, match="grid"):
        evaluate(run.path, predictions=outside)
    first.unlink()
    with pytest.raises(UserError, match=first.name):
        evaluate(run.path, predictions=outside)


def test_another_cohort_is_scored_whole(run: Run, tmp_path: Path, toy_maker):
    folder = tmp_path / "other"
    studies = [toy_maker(40 + i).write(folder, f"x{i}", ("hcc", "hemangioma")[i % 2]) for i in range(3)]
    studies[0] = replace(studies[0], label="", mask=None)
    Cohort("other", tuple(studies), ("hemangioma", "hcc")).write(folder)
    scored = evaluate(run.path, cohort=folder)
    studies_table = read_table(scored.folder / "studies.csv")
    assert list(studies_table["study_id"]) == ["x0", "x1", "x2"]
    assert studies_table["outcome"].iloc[0] == "unlabelled"
    assert not run.predictions.exists()


def test_patients_that_trained_are_never_scored_even_in_an_edited_cohort(
    toy_run: Run, tmp_path: Path, toy_maker
):
    shutil.copytree(toy_run.path, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    original = Cohort.read(Path(run.manifest["cohort_folder"]))
    folder = tmp_path / "edited"
    new = toy_maker(70).write(folder, "new", "hcc", "newcomer")
    # another name, more studies, another label: content and patients still tell
    relabelled = [replace(s, label="") if s.study_id == "s0" else s for s in original.studies]
    for name in ("renamed", original.name):
        replace(original, name=name, studies=(*relabelled, new)).write(folder)
        scored = evaluate(run.path, cohort=folder)
        ids = set(read_table(scored.folder / "studies.csv")["study_id"])
        assert "new" in ids
        left_out = {f.case for f in scored.findings if f.id == "trained-on"}
        trained = set(run.document("split")["train"])
        if name == original.name:
            assert left_out == trained
            assert ids == {"new", *run.document("split")["test"]}
        else:
            assert left_out >= trained - {"s0"}


def test_classes_that_were_never_learned_do_not_stop_the_rest(run: Run, tmp_path: Path, toy_maker):
    folder = tmp_path / "other"
    studies = [toy_maker(50 + i).write(folder, f"y{i}", ("hcc", "fnh")[i]) for i in range(2)]
    of_lesions = pd.DataFrame([{"study_id": "y1", "lesion": 1, "label": "fnh"}])
    for labels in (("hcc", "fnh"), ("hcc", "")):  # the study's class, or that of its lesion alone
        rows = tuple(replace(study, label=label) for study, label in zip(studies, labels, strict=True))
        Cohort("more", rows, ("hcc", "fnh"), lesions=of_lesions).write(folder)
        scored = evaluate(run.path, cohort=folder)
        (told,) = (f for f in scored.findings if f.id == "class-not-learned")
        assert "fnh" in told.meaning
        assert scored.scored.find("segmentation", "dice").n == 2


def test_classes_of_training_lesions_that_were_corrected_since_are_said(run: Run, tmp_path: Path):
    cohort = Cohort.read(Path(run.manifest["cohort_folder"]))
    other = {"hcc": "hemangioma", "hemangioma": "hcc"}
    train, test = (
        next(i for i in run.document("split")[side] if cohort[i].label in other) for side in ("train", "test")
    )

    def corrected(study_id: str, label: str) -> list[str]:
        rows = pd.DataFrame([{"study_id": study_id, "lesion": 1, "label": label}])
        replace(cohort, lesions=rows).write(tmp_path / "cohort")
        scored = evaluate(run.path, cohort=tmp_path / "cohort")
        return [f.meaning for f in scored.findings if f.id == "training-relabelled"]

    assert corrected(train, cohort[train].label) == []
    # what was not learned may be corrected
    assert corrected(test, other[cohort[test].label]) == []
    (told,) = corrected(train, other[cohort[train].label])
    assert train in told


def test_a_changed_cohort_is_refused(toy_run: Run, tmp_path: Path):
    shutil.copytree(toy_run.path.parent, tmp_path / "all")
    run = Run.open(tmp_path / "all" / "run")
    folder = tmp_path / "all" / "cohort"
    run.write_document("manifest", {**run.manifest, "cohort_folder": str(folder)})
    table = pd.read_csv(folder / "cohort.csv", dtype=str, keep_default_na=False)
    table.loc[0, "label"] = "hemangioma" if table.loc[0, "label"] == "hcc" else "hcc"
    table.to_csv(folder / "cohort.csv", index=False)
    with pytest.raises(UserError, match=f"mtinet evaluate {run.path} --cohort {folder}"):
        evaluate(run.path)
