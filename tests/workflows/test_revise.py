"""A corrected mask comes back in: read with the model, kept for training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels.utils import pack_bits

from mtinet import files
from mtinet.cohort import Cohort
from mtinet.dicom.masks import read_masks
from mtinet.dicom.study import read_studies
from mtinet.errors import UserError
from mtinet.inference.panel import Opinions
from mtinet.runs import Run
from mtinet.volume import Volume, read_nifti
from mtinet.workflows import revise as workflow
from mtinet.workflows.check import check
from mtinet.workflows.predict import PredictOptions, predict
from mtinet.workflows.predictions.audit import alone_in
from mtinet.workflows.revise import ReviseOptions, TrainingCase, revise


@pytest.fixture
def predicted(toy_run: Run, tmp_path: Path, toy_maker):
    """A study, its result, and a mask with one lesion more than was drawn."""
    toy = toy_maker(31)
    for phase, volume in toy.images.items():
        volume.write_nifti(tmp_path / "study" / f"{phase}.nii.gz")
    toy.liver.write_nifti(tmp_path / "study" / "liver_mask.nii.gz")
    predict(toy_run.path, tmp_path / "study", tmp_path / "out")
    array = toy.mask.array.copy()
    x, y, z = (int(n) for n in np.argwhere(array).mean(0))
    array[x : x + 3, y + 5 : y + 8, z : z + 2] = 7
    edited = Volume(array, toy.mask.affine)
    edited.write_nifti(tmp_path / "edited.nii.gz")
    return tmp_path, edited


def test_everything_is_read_under_the_corrected_mask(toy_run: Run, predicted):
    folder, edited = predicted
    result = revise(
        folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "revised"
    ).result
    assert result.study_id == "study"
    # a lesion keeps its number
    assert [lesion.number for lesion in result.lesions] == [1, 7]
    written = read_nifti(folder / "revised" / "mask.nii.gz", labels=True)
    assert np.array_equal(written.array, edited.array)
    for lesion in result.lesions:
        inside = edited.array == lesion.number
        assert lesion.volume_mm3 == pytest.approx(inside.sum() * edited.voxel_mm3)
        assert sum(lesion.probabilities.values()) == pytest.approx(1.0)
        measured = {(m.name, m.phase): m.value for m in lesion.measurements}
        image = read_nifti(folder / "study" / "delayed.nii.gz").array
        assert measured["signal", "delayed"] == pytest.approx(image[inside].mean(), rel=0.1)
    assert "revised-mask" in [f.id for f in result.findings]
    line = json.loads((folder / "revised" / "audit.jsonl").read_text())
    assert (line["outcome"], line["study_id"], line["lesions"]) == ("revised", "study", 2)
    assert line["decided_by"]["model"] == files.plain(result.model)
    assert {*line["files"], "audit.jsonl"} == {p.name for p in (folder / "revised").iterdir()}


def test_only_what_was_asked_for_is_written_and_an_earlier_revision_replaced(toy_run: Run, predicted):
    folder, edited = predicted
    given = (folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "revised")
    revise(*given)
    assert (folder / "revised" / "mask.nii.gz").is_file()
    Volume(np.where(edited.array == 7, 0, edited.array), edited.affine).write_nifti(folder / "edited.nii.gz")
    assert len(revise(*given, ReviseOptions(formats=("json",))).result.lesions) == 1
    assert {p.name for p in (folder / "revised").iterdir()} == {"result.json", "audit.jsonl"}
    # a prediction does not replace what a reader corrected, nor a correction another study's result
    with pytest.raises(UserError, match="a reader corrected"):
        predict(toy_run.path, folder / "study", folder / "revised")
    text = (folder / "out" / "result.json").read_text()
    (folder / "other").mkdir()
    (folder / "other" / "result.json").write_text(text.replace('"study_id": "study"', '"study_id": "x"'))
    with pytest.raises(UserError, match="result of study x"):
        revise(*given[:4], folder / "other")
    with pytest.raises(UserError, match="holds the images"):
        revise(*given[:4], folder / "study")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("known_by", ["audit and result", "audit", "result"])
def test_no_prediction_is_replaced_by_a_revision(toy_run: Run, predicted, known_by):
    folder, _ = predicted
    copy = folder / "copy"
    shutil.copytree(folder / "out", copy)
    if known_by != "audit and result":
        (copy / ("result.json" if known_by == "audit" else "audit.jsonl")).unlink()
    before = contents(copy)
    with pytest.raises(UserError, match=r"study study that mtinet predict wrote.*another folder"):
        revise(folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path, copy)
    assert contents(copy) == before


def test_a_batch_and_a_revision_stay_out_of_each_others_way(toy_run: Run, predicted, toy_maker):
    folder, _ = predicted
    source, batch, copy = folder / "in", folder / "batch", folder / "copy"
    shutil.move(folder / "study", source / "study")
    for phase, volume in toy_maker(32).images.items():
        volume.write_nifti(source / "another" / f"{phase}.nii.gz")
    options = PredictOptions(formats=("nifti", "json"))
    predict(toy_run.path, source, batch, options)
    shutil.copytree(batch, copy)
    given = (batch / "study", folder / "edited.nii.gz", source, toy_run.path)
    before = contents(copy)
    with pytest.raises(UserError, match=r"study study that mtinet predict wrote"):
        revise(*given, copy / "study")
    (copy / "study" / "result.json").unlink()
    with pytest.raises(UserError, match=r"study study that mtinet predict wrote"):
        # the batch around it knows
        revise(*given, copy / "study")
    with pytest.raises(UserError, match=r"results with a folder each.*another folder"):
        revise(*given, batch, ReviseOptions(formats=("csv",)))
    assert contents(batch) == before
    # in a folder of its own, also inside, it is in nobody's way
    revise(*given, batch / "corrected", ReviseOptions(formats=("json",)))
    assert predict(toy_run.path, source, batch, options).kept == ("another", "study")
    # and a batch that does not know it leaves it as it is
    revise(*given, folder / "new" / "study", ReviseOptions(formats=("json",)))
    before = contents(folder / "new")
    with pytest.raises(UserError, match=r"new/study holds a result of study study that a reader corrected"):
        predict(toy_run.path, source, folder / "new", options)
    assert contents(folder / "new") == before


def test_nothing_is_revised_into_a_folder_that_another_process_writes_into(toy_run: Run, predicted):
    folder, _ = predicted
    given = (folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "revised")
    with alone_in(folder / "revised"), pytest.raises(UserError, match="wait until it has ended"):
        revise(*given)
    assert not (folder / "revised").exists()


def test_an_outline_that_may_be_meant_otherwise_is_said(toy_run: Run, predicted):
    """Two blobs under one number, as a brush leaves them, and a speck that no grid of the model holds."""
    folder, edited = predicted
    array = np.where(edited.array > 0, 1, 0).astype(np.uint8)
    array[0, 0, 0] = 5
    Volume(array, edited.affine).write_nifti(folder / "edited.nii.gz")
    given = (folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "revised")
    result = revise(*given, ReviseOptions(formats=("json",))).result
    said = {f.id: f.meaning for f in result.findings}
    assert "lesion 1 is drawn in 2 separate parts" in said["lesion-parts"]
    # what the result lacks is said
    lost = {5} if "lesion 5 of the mask" in said.get("lesion-not-measured", "") else set()
    assert {lesion.number for lesion in result.lesions} | lost == {1, 5}


def test_a_mask_that_is_hardly_one_of_lesions_is_said_and_kept_all_the_same(toy_run: Run, predicted):
    folder, edited = predicted
    inverted = Volume((edited.array == 0).astype(np.uint8), edited.affine)
    inverted.write_nifti(folder / "inverted.nii.gz")
    given = (folder / "study", toy_run.path, folder / "revised")
    keep = ReviseOptions(formats=("json",), keep=TrainingCase(folder / "kept"))
    result = revise(folder / "out", folder / "inverted.nii.gz", *given, keep).result
    (told,) = [f for f in result.findings if f.id == "implausible-mask"]
    assert told.severity == "warning"
    assert len(Cohort.read(folder / "kept")) == 1
    assert not workflow._implausible(edited)
    large = Volume(np.pad(np.ones((20, 20, 20), np.uint8), 5), np.diag([7.0, 7.0, 7.0, 1.0]))
    assert "2.7 litres" in workflow._implausible(large)
    # of a small field of view the border tells it; a mask may reach the first and the last slice
    small = Volume(1 - large.array, np.diag([2.0, 2.0, 5.0, 1.0]))
    assert "covers 100% of the images' border" in workflow._implausible(small)
    through = np.zeros((20, 20, 6), np.uint8)
    through[4:16, 4:16] = 1
    assert not workflow._implausible(Volume(through, np.diag([2.0, 2.0, 5.0, 1.0])))


@pytest.mark.parametrize(("label", "empty"), [("none", False), ("hcc", True)])
def test_a_class_that_the_mask_contradicts_is_refused(toy_run: Run, predicted, label, empty):
    folder, edited = predicted
    Volume(edited.array * (not empty), edited.affine).write_nifti(folder / "edited.nii.gz")
    given = (folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "revised")
    with pytest.raises(UserError, match=f"--label {label}"):
        revise(*given, ReviseOptions(TrainingCase(folder / "kept", label)))
    assert not (folder / "kept").exists()
    assert not (folder / "revised").exists()


def test_a_result_of_several_opinions_is_revised_by_the_first_and_says_so(toy_run: Run, predicted):
    folder, _ = predicted
    predict(toy_run.path, folder / "study", folder / "flipped", PredictOptions(opinions=Opinions(flips=True)))
    given = (folder / "flipped", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "revised")
    result = revise(*given, ReviseOptions(formats=("json",))).result
    (said,) = [f for f in result.findings if f.id == "revised-alone"]
    assert "flips" in said.meaning


@pytest.mark.parametrize("kind", ["flipped", "cropped", "nrrd"])
def test_masks_as_other_programs_save_them(toy_run: Run, predicted, kind):
    folder, edited = predicted
    array, affine = edited.array, edited.affine.copy()
    path = folder / "other.nii.gz"
    if kind == "flipped":
        affine[:3, 0] *= -1
        affine[:3, 3] = edited.affine[:3, 3] + edited.affine[:3, 0] * (array.shape[0] - 1)
        Volume(array[::-1], affine).write_nifti(path)
    elif kind == "cropped":
        start = np.argwhere(array).min(0)
        affine[:3, 3] = (affine @ [*start, 1])[:3]
        Volume(array[tuple(slice(n, None) for n in start)], affine).write_nifti(path)
    else:
        import SimpleITK

        path = folder / "other.nrrd"
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(folder / "edited.nii.gz")), str(path))
    out = folder / "revised"
    revise(folder / "out", path, folder / "study", toy_run.path, out)
    written = read_nifti(out / "mask.nii.gz", labels=True)
    assert np.array_equal(written.array > 0, edited.array > 0)


def test_the_case_is_kept_in_a_cohort_that_can_be_trained_on(toy_run: Run, predicted):
    folder, edited = predicted
    keep = ReviseOptions(TrainingCase(folder / "kept", "hemangioma"))
    given = (folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path)
    revise(*given, folder / "revised", keep)
    shutil.rmtree(folder / "study")
    cohort = Cohort.read(folder / "kept")
    (study,) = cohort.studies
    assert (study.study_id, study.label, study.mask_source) == ("study", "hemangioma", "reader")
    # without gaps in the numbers, which a check would name
    assert np.array_equal(
        read_nifti(study.mask, labels=True).array, np.where(edited.array == 7, 2, edited.array)
    )
    found = check(folder / "kept", workers=1)
    assert not [f for f in found if f.severity == "error" or f.id == "mask-numbers"]


def test_a_cohort_grows_and_a_study_that_is_there_gets_the_new_mask(
    toy_run: Run, predicted, toy_cohort_writer
):
    folder, edited = predicted
    before = toy_cohort_writer(folder / "kept", 2)
    given = (folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path)
    revise(*given, folder / "revised", ReviseOptions(TrainingCase(folder / "kept", "hcc")))
    grown = Cohort.read(folder / "kept")
    assert [s.study_id for s in grown.studies] == [*(s.study_id for s in before.studies), "study"]
    Volume(np.zeros_like(edited.array), edited.affine).write_nifti(folder / "edited.nii.gz")
    again = revise(*given, folder / "again", ReviseOptions(TrainingCase(folder / "kept")))
    assert again.result.lesions == ()
    assert again.result.label == "none"
    (study,) = [s for s in Cohort.read(folder / "kept").studies if s.study_id == "study"]
    assert study.label == "none"
    assert not read_nifti(study.mask, labels=True).array.any()


def test_readers_who_keep_cases_at_once_lose_none(toy_run: Run, predicted, monkeypatch):
    """A second reader's case is kept while the first one's is still worked on."""
    folder, _ = predicted
    shutil.copytree(folder / "study", folder / "second")
    predict(toy_run.path, folder / "second", folder / "out2")
    options = ReviseOptions(TrainingCase(folder / "kept", "hcc"), formats=("json",))
    second = (
        folder / "out2",
        folder / "edited.nii.gz",
        folder / "second",
        toy_run.path,
        folder / "r2",
        options,
    )
    write = workflow._write

    def meanwhile(*arguments):
        monkeypatch.setattr(workflow, "_write", write)
        revise(*second)
        write(*arguments)

    monkeypatch.setattr(workflow, "_write", meanwhile)
    revise(folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "r1", options)
    assert {s.study_id for s in Cohort.read(folder / "kept").studies} == {"study", "second"}
    assert not (folder / "kept" / ".lock").exists()


def test_what_does_not_belong_together_is_refused(toy_run: Run, predicted):
    folder, edited = predicted
    given = (folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path)
    with pytest.raises(UserError, match="another folder"):
        revise(*given, folder / "out")
    with pytest.raises(UserError, match="no class"):
        revise(*given, folder / "revised", ReviseOptions(TrainingCase(folder / "kept", "sarcoma")))
    assert not (folder / "kept").exists()
    assert not (folder / "revised").exists()
    Volume(edited.array, np.diag([3.0, 3.0, 3.0, 1.0])).write_nifti(folder / "elsewhere.nii.gz")
    with pytest.raises(UserError, match="another grid"):
        revise(folder / "out", folder / "elsewhere.nii.gz", folder / "study", toy_run.path, folder / "r")
    with pytest.raises(UserError, match=r"result\.json"):
        revise(folder / "study", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "r")


def test_a_result_of_another_model_is_refused(toy_run: Run, predicted):
    folder, _ = predicted
    text = (folder / "out" / "result.json").read_text()
    name = toy_run.manifest.get("id", "")
    (folder / "out" / "result.json").write_text(text.replace(f'"run": "{name}"', '"run": "another"'))
    with pytest.raises(UserError, match="give the run that predicted it"):
        revise(folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "revised")


def test_a_result_of_other_weights_of_the_run_is_refused(toy_run: Run, predicted):
    folder, _ = predicted
    text = (folder / "out" / "result.json").read_text()
    (folder / "out" / "result.json").write_text(text.replace(toy_run.digest(), "0" * 64))
    with pytest.raises(UserError, match="other weights or settings"):
        revise(folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "revised")


def test_a_segmentation_edited_at_the_pacs_comes_back_to_its_dicom_study(
    toy_run: Run, tmp_path: Path, thick_toy, toy_scanner
):
    toy = thick_toy(31)
    toy_scanner(toy, tmp_path / "export")
    options = PredictOptions(formats=("nifti", "json", "dicom-seg"), key=tmp_path / "key")
    predict(toy_run.path, tmp_path / "export", tmp_path / "out", options)
    seg = pydicom.dcmread(tmp_path / "out" / "segmentation.dcm")
    frames = seg.pixel_array.copy()
    before = int(frames.sum())
    row, column = np.argwhere(frames[0])[0]
    frames[0, row, max(0, column - 3) : column] = 1
    added = int(frames.sum()) - before
    seg.PixelData = pack_bits(frames.ravel())
    seg.save_as(tmp_path / "edited.dcm")
    given = (tmp_path / "out", tmp_path / "edited.dcm", tmp_path / "export", toy_run.path)
    revised = revise(
        *given,
        tmp_path / "revised",
        ReviseOptions(
            TrainingCase(tmp_path / "kept", "hcc"),
            ("nifti", "json", "page", "dicom-seg", "dicom-sr"),
            key=tmp_path / "key",
        ),
    )
    old = read_nifti(tmp_path / "out" / "mask.nii.gz", labels=True)
    new = read_nifti(tmp_path / "revised" / "mask.nii.gz", labels=True)
    assert np.count_nonzero(new.array) - np.count_nonzero(old.array) == added > 0
    assert {p.name for p in (tmp_path / "revised").iterdir()} == {
        "mask.nii.gz", "result.json", "page.html", "segmentation.dcm", "report.dcm", "audit.jsonl",
    }  # fmt: skip
    (study,) = read_studies(tmp_path / "export")[0]
    written = read_masks(tmp_path / "revised" / "segmentation.dcm", study.series).labels
    corrected = pydicom.dcmread(tmp_path / "revised" / "segmentation.dcm").SegmentSequence[0]
    assert corrected.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert corrected.TrackingUID not in {item.TrackingUID for item in seg.SegmentSequence}
    assert np.count_nonzero(written.array) == np.count_nonzero(new.array)
    assert "revised-mask" in [f.id for f in revised.findings]
    # the images of the training case are those of the study, which may be removed
    shutil.rmtree(tmp_path / "export")
    (kept,) = Cohort.read(tmp_path / "kept").studies
    assert set(kept.images) == set(toy.images)
    assert not [f for f in check(tmp_path / "kept", workers=1) if f.severity == "error"]
    for secret in ("Q4711", "Virtual"):
        assert secret not in (tmp_path / "revised" / "result.json").read_text()


def test_times_that_contradict_the_phases_are_used_neither_by_a_prediction_nor_by_its_revision(
    toy_run: Run, tmp_path: Path, thick_toy, toy_scanner
):
    toy_scanner(thick_toy(31), tmp_path / "export")
    exchanged = {"pre": "5", "arterial": "7", "portal_venous": "6", "delayed": "8"}
    options = PredictOptions(formats=("nifti", "json"), phase_names=exchanged, key=tmp_path / "key")
    (before,) = predict(toy_run.path, tmp_path / "export", tmp_path / "out", options).results
    given = (tmp_path / "out", tmp_path / "out" / "mask.nii.gz", tmp_path / "export", toy_run.path)
    revised = revise(*given, tmp_path / "revised", ReviseOptions(phase_names=exchanged, key=tmp_path / "key"))
    for result in (before, revised.result):
        assert [f.id for f in result.findings].count("times-contradict") == 1
        rates = [m for lesion in result.lesions for m in lesion.measurements if m.name == "wash_in_rate"]
        assert rates
        assert all(rate.value is None for rate in rates)


def test_dicom_files_are_not_promised_for_a_nifti_study(toy_run: Run, predicted):
    folder, _ = predicted
    given = (folder / "out", folder / "edited.nii.gz", folder / "study", toy_run.path, folder / "revised")
    with pytest.raises(UserError, match="refer to DICOM images"):
        revise(*given, ReviseOptions(formats=("dicom-seg",)))
    assert not (folder / "revised").exists()
