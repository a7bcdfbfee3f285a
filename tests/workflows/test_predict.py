from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mtinet
from mtinet.cohort import Cohort
from mtinet.errors import UserError
from mtinet.evaluation.tables import read_table
from mtinet.results import RESULT_FORMAT, Certainty, Result
from mtinet.runs import Run
from mtinet.volume import Volume, read_nifti
from mtinet.workflows.predict import OutputError, PredictOptions, predict
from mtinet.workflows.predictions.audit import Audit
from mtinet.workflows.revise import ReviseOptions, revise

FILES = {"mask.nii.gz", "result.json", "picture.png", "page.html"}


def write_folder(toy, folder: Path, phases=("pre", "arterial", "portal_venous", "delayed")) -> Path:
    for phase in phases:
        toy.images[phase].write_nifti(folder / f"{phase}.nii.gz")
    return folder


def dice(a, b) -> float:
    return 2 * np.logical_and(a, b).sum() / (a.sum() + b.sum())


def test_one_call_finds_the_lesion_and_measures_it(toy_run: Run, tmp_path: Path, toy_maker):
    toy = toy_maker(77, gain=3.0)
    result = mtinet.load(toy_run.path)(write_folder(toy, tmp_path / "study"))
    assert isinstance(result, Result)
    assert result.mask.shape == toy.mask.shape
    assert np.allclose(result.mask.affine, toy.mask.affine)
    assert dice(result.mask.array > 0, toy.mask.array > 0) > 0.5
    lesion = result.lesions[0]
    assert sum(lesion.probabilities.values()) == pytest.approx(1)
    under = result.mask.array == lesion.number
    for phase, volume in toy.images.items():
        # read on the prepared grid, so not to the last digit
        assert lesion.measured[phase] == pytest.approx(volume.array[under].mean(), rel=0.1)
    world = toy.mask.affine @ [*np.argwhere(toy.mask.array).mean(0), 1]
    assert np.linalg.norm(np.array(lesion.centre_mm) - world[:3]) < 15


def test_what_the_images_cannot_tell_is_said_in_python_too(toy_run: Run, tmp_path: Path, toy_maker):
    folder = write_folder(toy_maker(5), tmp_path / "study", ("portal_venous", "delayed"))
    said = [f.id for f in mtinet.load(toy_run.path)(folder).findings]
    assert said == ["no-times", "no-agent", "missing-phase"]
    (result,) = predict(toy_run.path, folder, tmp_path / "out").results
    assert [f.id for f in result.findings] == said


def test_agent_and_times_of_a_study_count_in_python_as_for_the_command(toy_run: Run, tmp_path: Path):
    folder = tmp_path / "cohort"
    cohort = Cohort.read(Path(toy_run.manifest["cohort_folder"])).subset(["s0"])
    replace(cohort, agent="gadobutrol").write(folder)
    study = Cohort.read(folder)["s0"]
    predictor = mtinet.load(toy_run.path)
    (told,) = predict(toy_run.path, folder, tmp_path / "out", PredictOptions(formats=("json",))).results
    found = predictor(study)
    assert found.to_dict() == told.to_dict()
    assert "no-agent" not in {f.id for f in found.findings}

    exchanged = predictor(replace(study, times_s={"arterial": 70.0, "portal_venous": 30.0}))
    assert [f.id for f in exchanged.findings][:2] == ["times-contradict", "no-times"]
    rates = [m for lesion in exchanged.lesions for m in lesion.measurements if m.name == "wash_in_rate"]
    assert rates
    assert all(rate.value is None for rate in rates)


def test_what_a_model_did_not_learn_it_does_not_say(taught, tmp_path: Path, toy_maker):
    folder = write_folder(toy_maker(5), tmp_path / "study")
    masks_alone = taught(classification=0.0, regression=0.0)
    out = tmp_path / "out"
    (result,) = predict(
        masks_alone.path, folder, out, PredictOptions(formats=("json", "page", "csv"))
    ).results
    assert (result.classes, result.label) == (("lesion",), "lesion")
    for lesion in result.lesions:
        assert (lesion.enhancement, lesion.relative_enhancement_percent) == ({}, {})
        assert set(lesion.measured) == set(result.phases)
    table = read_table(out / "measurements.csv")
    assert not table["quantity"].str.contains("class|probability|predicted_signal").any()
    page = (out / "page.html").read_text()
    assert "It names no class" in page
    assert "Class probabilities" not in page
    assert "regressed" not in page

    with pytest.raises(UserError, match="learned no masks"):
        mtinet.load(taught(segmentation=0.0).path)(folder)


def test_gain_changes_neither_mask_nor_class_and_scales_enhancement(toy_run: Run, tmp_path: Path, toy_maker):
    predictor = mtinet.load(toy_run.path)
    one = predictor(write_folder(toy_maker(5), tmp_path / "one"))
    ten = predictor(write_folder(toy_maker(5, gain=10.0), tmp_path / "ten"))
    assert np.array_equal(one.mask.array, ten.mask.array)
    for a, b in zip(one.lesions, ten.lesions, strict=True):
        assert b.probabilities == pytest.approx(a.probabilities, abs=1e-3)
        assert b.enhancement["delayed"] == pytest.approx(10 * a.enhancement["delayed"], rel=1e-3)
        assert b.relative_enhancement_percent == pytest.approx(a.relative_enhancement_percent, rel=1e-2)


def test_orientation_of_the_files_does_not_matter(toy_run: Run, tmp_path: Path, toy_maker):
    predictor = mtinet.load(toy_run.path)
    toy = toy_maker(6)
    plain = predictor(write_folder(toy, tmp_path / "plain"))
    for phase, volume in toy.images.items():
        mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
        mirror[0, 3] = volume.shape[0] - 1
        flipped = Volume(volume.array[::-1], volume.affine @ mirror)
        flipped.write_nifti(tmp_path / "flipped" / f"{phase}.nii.gz")
    turned = predictor(tmp_path / "flipped")
    assert np.array_equal(turned.mask.array[::-1], plain.mask.array)


def test_missing_phases_are_said_and_left_out(toy_run: Run, tmp_path: Path, toy_maker):
    folder = write_folder(toy_maker(8), tmp_path / "study", ("portal_venous", "delayed"))
    result = mtinet.load(toy_run.path)(folder)
    assert result.phases == ("portal_venous", "delayed")
    assert "missing-phase" in [f.id for f in result.findings]
    for lesion in result.lesions:
        assert set(lesion.enhancement) == {"portal_venous", "delayed"}
        assert lesion.relative_enhancement_percent == {}


@pytest.mark.parametrize("phase", ["pre", "delayed"])
def test_a_phase_that_does_not_cover_the_lesion_gives_no_signal_of_it(
    toy_run: Run, tmp_path: Path, toy_maker, phase
):
    """What lies outside a field of view is no dark tissue: in no output does it dilute a signal."""
    toy = toy_maker(77)
    image = toy.images[phase]
    cropped = toy.with_phase(phase, Volume(image.array[:, :, :3], image.affine))
    options = PredictOptions(formats=("nifti", "json", "csv"))
    outcome = predict(toy_run.path, write_folder(cropped, tmp_path / "study"), tmp_path / "out", options)
    (result,) = outcome.results
    (lesion,) = result.lesions
    assert result.phases == ("pre", "arterial", "portal_venous", "delayed")

    others = [p for p in result.phases if p != phase]
    assert list(lesion.measured) == list(lesion.enhancement) == others
    under = result.mask.array == lesion.number
    assert lesion.measured == pytest.approx({p: toy.images[p].array[under].mean() for p in others}, rel=0.1)
    assert set(lesion.relative_enhancement_percent) == (
        set() if phase == "pre" else {"arterial", "portal_venous"}
    )

    (told,) = [f for f in result.findings if f.id == "lesion-not-covered"]
    assert (told.severity, told.case) == ("warning", "study")
    assert f"of {phase} does not cover lesion 1:" in told.meaning

    table = read_table(tmp_path / "out" / "measurements.csv")
    values = table[table["lesion"].notna() & table["value"].notna()]
    for quantity in ("signal", "predicted_signal"):
        assert set(values.loc[values["quantity"] == quantity, "phase"]) == set(others)
    relative = set(values.loc[values["quantity"] == "relative_enhancement", "phase"])
    assert relative == (set() if phase == "pre" else {"arterial", "portal_venous"})


def test_files_are_complete_and_read_back(toy_run: Run, tmp_path: Path, toy_maker):
    out = tmp_path / "out"
    outcome = predict(toy_run.path, write_folder(toy_maker(9), tmp_path / "study"), out)
    assert {p.name for p in out.iterdir()} == {*FILES, "audit.jsonl"}
    seconds = json.loads((out / "audit.jsonl").read_text())["seconds"]
    assert set(seconds) == {"read", "prepare", "network", "lesions", "write"}
    assert all(value >= 0 for value in seconds.values())
    values = json.loads((out / "result.json").read_text())
    assert values["format"] == RESULT_FORMAT
    assert "Research use only" in values["notice"]
    again = Result.from_dict(values, read_nifti(out / "mask.nii.gz", labels=True))
    assert again.lesions == outcome.results[0].lesions
    assert np.array_equal(again.mask.array, outcome.results[0].mask.array)
    with pytest.raises(ValueError, match="newer"):
        Result.from_dict({**values, "format": RESULT_FORMAT + 1})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_mtinet_did_not_write_is_neither_replaced_nor_removed(toy_run: Run, tmp_path: Path, toy_maker):
    source, out = tmp_path / "in", tmp_path / "out"
    for number in range(2):
        write_folder(toy_maker(70 + number), source / f"s{number}")
    (out / ".tmp-mywork").mkdir(parents=True)
    (out / ".tmp-mywork" / "notes.txt").write_text("mine")
    (out / "result.json").write_text('{"mine": 1}')
    toy_maker(70).mask.write_nifti(out / "mask.nii.gz")
    # a reader's annotations, a folder a study
    toy_maker(71).mask.write_nifti(out / "s1" / "mask.nii.gz")
    before = contents(out)
    options = PredictOptions(formats=("nifti", "json"))
    with pytest.raises(UserError, match=r"out holds mask\.nii\.gz, result\.json, which .* another folder"):
        predict(toy_run.path, source / "s0", out, options)
    with pytest.raises(UserError, match=r"s1 holds mask\.nii\.gz, which audit\.jsonl does not list"):
        predict(toy_run.path, source, out, options)
    assert contents(out) == before

    # files of other names are in nobody's way, and stay so
    table = PredictOptions(formats=("csv",))
    for _ in range(2):
        predict(toy_run.path, source / "s0", out, table)
    with pytest.raises(UserError, match=r"out holds mask\.nii\.gz, result\.json"):
        predict(toy_run.path, source / "s0", out, options)
    assert {*contents(out)} == {*before, "measurements.csv", "audit.jsonl"}
    assert before.items() <= contents(out).items()


@pytest.mark.parametrize("broken_off", ["before the line", "between the files"])
def test_files_that_came_without_their_line_are_known_as_ours(
    toy_run: Run, tmp_path: Path, toy_maker, monkeypatch, broken_off
):
    study, out = write_folder(toy_maker(9), tmp_path / "study"), tmp_path / "out"
    options = PredictOptions(formats=("nifti", "json"))
    put = os.replace

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def until_the_mask(source, target):
        put(source, target)
        if Path(target) == out / "mask.nii.gz":
            full()

    with monkeypatch.context() as patched:
        if broken_off == "before the line":
            patched.setattr(Audit, "add", full)
        else:
            patched.setattr(os, "replace", until_the_mask)
        with pytest.raises(OutputError, match="No space left"):
            predict(toy_run.path, study, out, options)
    assert (out / "mask.nii.gz").is_file()
    assert not (out / "audit.jsonl").exists()
    # as a kill leaves it
    (out / ".tmp-0123abcd").mkdir()
    assert predict(toy_run.path, study, out, options).kept == ()
    assert {path.name for path in out.iterdir()} == {"mask.nii.gz", "result.json", "audit.jsonl"}
    assert predict(toy_run.path, study, out, options).kept == ("study",)


def corrected(path: Path) -> bytes:
    """Another mask in the place of one, as Ctrl-S in a viewer puts it there."""
    mask = read_nifti(path, labels=True)
    array = mask.array.copy()
    array[:3, :3, :2] = array.max() + 1
    mask.with_array(array).write_nifti(path)
    return path.read_bytes()


def test_a_mask_that_was_corrected_in_place_is_kept_and_not_taken_for_the_models(
    toy_run: Run, tmp_path: Path, toy_maker
):
    source, out, own = tmp_path / "in", tmp_path / "out", tmp_path / "own"
    for number in range(2):
        write_folder(toy_maker(70 + number), source / f"s{number}")
    quick = PredictOptions(formats=("nifti", "json"))
    predict(toy_run.path, source, out, quick)
    mask = out / "s0" / "mask.nii.gz"
    before, edited = mask.read_bytes(), corrected(mask)
    # whatever is asked for, also what would remove the mask; the other study goes on
    for formats in (("nifti", "json"), ("csv",)):
        outcome = predict(toy_run.path, source, out, PredictOptions(formats=formats))
        (refused,) = [f for f in outcome.findings if f.severity == "error"]
        assert refused.case == "s0"
        assert "s0/mask.nii.gz was edited since" in refused.meaning
        assert "mtinet revise" in refused.meaning
        assert [r.study_id for r in outcome.results] == ["s1"]
        assert mask.read_bytes() == edited
    # a correction of it is one of a reader: the next revision is not lost either, unless it is the one that is read
    given = (out / "s0", mask, source / "s0", toy_run.path, own, ReviseOptions(formats=("nifti", "json")))
    revise(*given)
    again = corrected(own / "mask.nii.gz")
    with pytest.raises(UserError, match=r"own/mask\.nii\.gz was edited since"):
        revise(*given)
    assert (own / "mask.nii.gz").read_bytes() == again
    revise(given[0], own / "mask.nii.gz", *given[2:])
    # as it was, or away, it is in nobody's way
    for restore in (lambda: mask.write_bytes(before), mask.unlink):
        restore()
        assert [r.study_id for r in predict(toy_run.path, source, out, quick).results] == ["s0", "s1"]


def test_what_cannot_be_compared_or_was_damaged_is_predicted_as_before(
    toy_run: Run, tmp_path: Path, toy_maker
):
    study, out = write_folder(toy_maker(9), tmp_path / "study"), tmp_path / "out"
    options = PredictOptions(formats=("nifti",))
    predict(toy_run.path, study, out, options)
    mask, audit = out / "mask.nii.gz", out / "audit.jsonl"
    whole = read_nifti(mask, labels=True).array
    # a lost page of the disk is no correction
    mask.write_bytes(mask.read_bytes()[:200])
    assert predict(toy_run.path, study, out, options).kept == ()
    assert np.array_equal(read_nifti(mask, labels=True).array, whole)
    # an audit of before has no hash
    lines = [json.loads(text) for text in audit.read_text().splitlines()]
    for line in lines:
        del line["sha256"]
    audit.write_text("".join(json.dumps(line) + "\n" for line in lines))
    corrected(mask)
    assert predict(toy_run.path, study, out, options).kept == ("study",)
    assert predict(toy_run.path, study, out, PredictOptions(formats=("nifti", "csv"))).kept == ()


def test_results_are_saved_to_a_path_given_as_text(toy_run: Run, tmp_path: Path, toy_maker):
    result = mtinet.load(str(toy_run.path))(str(write_folder(toy_maker(9), tmp_path / "study")))
    mtinet.save(result, str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "mask.nii.gz").is_file()


def test_formats_may_be_one_text(toy_run: Run, tmp_path: Path, toy_maker):
    result = mtinet.load(toy_run.path)(write_folder(toy_maker(9), tmp_path / "study"))
    mtinet.save(result, tmp_path / "one", formats="json")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"result.json"}
    mtinet.save(result, tmp_path / "two", formats="json, csv")
    assert {path.name for path in (tmp_path / "two").iterdir()} == {"result.json", "measurements.csv"}
    with pytest.raises(UserError, match=r"^unknown formats: 'docx'; choose from nifti, json"):
        mtinet.save(result, tmp_path / "none", formats="docx")
    with pytest.raises(UserError, match=r"^no format is given; choose from"):
        mtinet.save(result, tmp_path / "none", formats=())


def test_the_table_has_class_set_and_intervals_with_their_coverage(toy_run: Run, tmp_path: Path, toy_maker):
    result = mtinet.load(toy_run.path)(write_folder(toy_maker(77), tmp_path / "study"))
    lesion = result.lesions[0]
    for classes in (tuple(lesion.probabilities), ()):
        sure = Certainty(0.9, (900.0, 1200.0), classes, {"arterial": (200.0, 300.0)}, 0.9)
        certain = replace(result, lesions=(replace(lesion, certainty=sure),))
        mtinet.save(certain, tmp_path / "saved", formats=("csv",))
        with (tmp_path / "saved" / "measurements.csv").open(encoding="utf-8") as lines:
            rows = [row for row in csv.DictReader(lines) if row["lesion"]]
        sets = [row for row in rows if row["quantity"] == "class_set"]
        assert [row["finding"] for row in sets if row["finding"]] == list(classes)
        # an empty set is told apart from none
        assert [bool(row["reason"]) for row in sets] == ([False] * len(classes) or [True])
        (coverage,) = [row for row in rows if row["quantity"] == "interval_coverage"]
        assert (float(coverage["value"]), coverage["unit"]) == (90.0, "%")


def test_a_study_that_fails_does_not_stop_the_others(toy_run: Run, tmp_path: Path):
    cohort = Cohort.read(Path(toy_run.manifest["cohort_folder"]))
    folder = tmp_path / "cohort"
    three = cohort.subset(["s0", "s1", "s2"])
    three.write(folder)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(three.studies[1].images["arterial"].read_bytes()[:2000])
    table = (folder / "cohort.csv").read_text()
    (folder / "cohort.csv").write_text(table.replace(str(three.studies[1].images["arterial"]), str(broken)))
    outcome = predict(toy_run.path, folder, tmp_path / "out")
    assert [r.study_id for r in outcome.results] == ["s0", "s2"]
    (failed,) = [f for f in outcome.findings if f.severity == "error"]
    assert failed.case == "s1"
    assert "damaged" in failed.meaning


@pytest.mark.slow
def test_predicting_does_not_import_monai(toy_run: Run, tmp_path: Path, toy_maker):
    folder = write_folder(toy_maker(9), tmp_path / "study")
    code = (
        "import sys, mtinet; mtinet.load(sys.argv[1])(sys.argv[2]); "
        "assert 'monai' not in sys.modules, 'monai was imported'; print('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(toy_run.path), str(folder)], capture_output=True, text=True
    )
    assert done.stdout == "done\n", done.stderr


@pytest.mark.reference
def test_a_real_slice_in_four_phases_says_what_it_cannot_know(
    toy_run: Run, tmp_path: Path, reference_folder: Path
):
    """One real liver slice, windowed to 8 bit a panel: every output is written on its own grid."""
    source = reference_folder / "real_liver_4phase"
    out = tmp_path / "out"
    outcome = predict(toy_run.path, source, out)
    image = read_nifti(source / "portal_venous.nii.gz")
    mask = read_nifti(out / "mask.nii.gz", labels=True)
    assert mask.corner_distance_mm(image) < 1e-3
    assert {p.name for p in out.iterdir()} == {*FILES, "audit.jsonl"}
    assert outcome.results[0].phases == ("pre", "arterial", "portal_venous", "delayed")
    said = {f.id for f in outcome.results[0].findings}
    assert {"eight-bit", "single-slice", "no-times", "no-agent"} <= said
    page = (out / "page.html").read_text()
    flags = page[page.index('id="flags"') : page.index('id="summary"')]
    for text in ("8 bit", "single slice", "uptake by hepatocytes", "times of the phases"):
        assert text in flags
    assert page.count("unknown</td>") == 3
    assert "Contrast agent: unknown" in page


@pytest.mark.reference
def test_a_phase_can_be_called_by_its_name(toy_run: Run, tmp_path: Path, reference_folder: Path):
    """The last file is of the hepatobiliary phase: named so, it is no delayed phase."""
    options = PredictOptions(formats=("json",), phase_names={"hepatobiliary": "delayed"})
    outcome = predict(toy_run.path, reference_folder / "real_liver_4phase", tmp_path / "out", options)
    assert outcome.results[0].phases == ("pre", "arterial", "portal_venous")
    assert "missing-phase" in {f.id for f in outcome.results[0].findings}
