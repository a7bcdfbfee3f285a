"""Batches: broken studies are explained, the others are done, and an interrupted batch goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

import mtinet
from mtinet import files
from mtinet.cli import app
from mtinet.errors import BusyError, UserError
from mtinet.volume import Volume, read_nifti
from mtinet.workflows.predict import OutputError, PredictOptions, predict
from mtinet.workflows.predictions import formats as writers
from mtinet.workflows.predictions.audit import Audit
from mtinet.workflows.predictions.formats import read_formats
from mtinet.workflows.predictions.stored import read_result
from mtinet.workflows.predictions.writing import PENDING_FILE

PHASES = ("pre", "arterial", "portal_venous", "delayed")
QUICK = PredictOptions(formats=("nifti", "json"))


def write_nifti(toy, folder: Path, phases=PHASES) -> Path:
    for phase in phases:
        toy.images[phase].write_nifti(folder / f"{phase}.nii.gz")
    return folder


def edit(folder: Path, change) -> None:
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)


@pytest.fixture
def ten(tmp_path, toy_maker, thick_toy, toy_scanner):
    """Ten studies in one folder, NIfTI and DICOM, of which five are broken."""
    place = tmp_path / "in"
    write_nifti(toy_maker(51), place / "good-1")
    write_nifti(toy_maker(52), place / "good-missing", PHASES[1:])
    empty = toy_maker(53)
    for phase, volume in empty.images.items():
        # liver everywhere: nothing that looks like the toys' lesion
        liver = volume.array[empty.liver.array.astype(bool) & ~empty.mask.array.astype(bool)].mean()
        array = np.where(empty.mask.array > 0, liver, volume.array).astype(np.float32)
        empty = empty.with_phase(phase, volume.with_array(array))
    write_nifti(empty, place / "good-without-lesion")
    toy_scanner(thick_toy(54), place / "export" / "a", "A1", "a")
    toy_scanner(thick_toy(55), place / "export" / "b", "B1", "b", habit="ge")

    write_broken(place, toy_maker, thick_toy, toy_scanner)
    return place


def write_broken(place: Path, toy_maker, thick_toy, toy_scanner) -> None:
    """Five studies: a truncated file, a NaN, a sheared grid, a knee, and the images of two patients."""
    write_nifti(toy_maker(56), place / "bad-truncated")
    cut = place / "bad-truncated" / "arterial.nii.gz"
    cut.write_bytes(cut.read_bytes()[:3000])
    nan = toy_maker(57)
    nan.images["delayed"].array[3, 3, 3] = np.nan
    write_nifti(nan, place / "bad-nan")
    sheared = toy_maker(58)
    affine = sheared.images["pre"].affine.copy()
    affine[0, 1] = 4.0
    write_nifti(
        sheared.with_phase("pre", Volume(sheared.images["pre"].array, affine)), place / "bad-geometry"
    )
    toy_scanner(thick_toy(59), place / "export" / "knee", "K1", "knee")
    edit(place / "export" / "knee", lambda ds: setattr(ds, "BodyPartExamined", "KNEE"))
    toy_scanner(thick_toy(60), place / "export" / "mixed", "M1", "mixed")
    for path in sorted((place / "export" / "mixed").rglob("*.dcm"))[::2]:
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "M2"
        dataset.save_as(path)


def test_ten_studies_with_five_broken_end_with_five_results_and_five_reasons(toy_run, ten, tmp_path):
    options = PredictOptions(formats=("nifti", "json", "csv"), key=tmp_path / "key")
    out = tmp_path / "out"
    outcome = predict(toy_run.path, ten, out, options)
    names = {r.study_id for r in outcome.results}
    assert len(outcome.results) == 5
    assert {"good-1", "good-missing", "good-without-lesion"} <= names
    failed = {f.case: f.meaning for f in outcome.findings if f.id == "not-predicted"}
    assert len(failed) == 5
    reasons = {
        "damaged": "bad-truncated",
        "NaN": "bad-nan",
        "sheared": "bad-geometry",
        "KNEE": "study-",
        "2 patient ids": "study-",
    }
    for text, case in reasons.items():
        assert [c for c, why in failed.items() if text in why and c.startswith(case)], (text, failed)
    by_id = {r.study_id: r for r in outcome.results}
    assert by_id["good-without-lesion"].label == "none"
    assert "missing-phase" in {f.id for f in by_id["good-missing"].findings}
    # whole results or none, and no rest of a broken one
    for folder in (p for p in out.iterdir() if p.is_dir()):
        assert folder.name in names
        assert {p.name for p in folder.iterdir()} == {"mask.nii.gz", "result.json", "measurements.csv"}
    lines = [json.loads(line) for line in (out / "audit.jsonl").read_text().splitlines()]
    assert sorted(line["outcome"] for line in lines) == ["failed"] * 5 + ["predicted"] * 5
    for secret in ("A1", "K1", "M1", "M2", "Virtual"):
        assert secret not in (out / "audit.jsonl").read_text()
    again = predict(toy_run.path, ten, out, options)
    assert set(again.kept) == names
    assert {r.study_id for r in again.results} == names
    assert {f.case for f in again.findings if f.id == "not-predicted"} == set(failed)


@pytest.fixture
def three(tmp_path, toy_maker):
    for index in range(3):
        write_nifti(toy_maker(70 + index), tmp_path / "in" / f"s{index}")
    return tmp_path / "in"


@pytest.fixture
def counted(monkeypatch):
    """Ids of the studies that go through the network."""
    from mtinet.inference.predictor import Predictor

    seen = []
    explain = Predictor.explain

    def count(self, study):
        seen.append(study.study_id)
        return explain(self, study)

    monkeypatch.setattr(Predictor, "explain", count)
    return seen


def test_only_what_changed_is_predicted_again(toy_run, three, tmp_path, toy_maker, counted):
    out = tmp_path / "out"
    predict(toy_run.path, three, out, QUICK)
    assert counted == ["s0", "s1", "s2"]
    counted.clear()
    assert predict(toy_run.path, three, out, QUICK).kept == ("s0", "s1", "s2")
    assert counted == []
    toy_maker(99).images["delayed"].write_nifti(three / "s1" / "delayed.nii.gz")
    predict(toy_run.path, three, out, QUICK)
    (out / "s2" / "mask.nii.gz").unlink()
    predict(toy_run.path, three, out, QUICK)
    assert counted == ["s1", "s2"]
    counted.clear()
    # another format of the same result is added, and the first ones stay
    predict(toy_run.path, three, out, PredictOptions(formats=("csv",)))
    assert counted == ["s0", "s1", "s2"]
    assert predict(toy_run.path, three, out, PredictOptions(formats=("csv", "json"))).kept == (
        "s0",
        "s1",
        "s2",
    )


def test_files_of_another_model_do_not_stay_beside_the_new_ones(toy_run, three, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predict(toy_run.path, three, out, QUICK)
    (out / "s0" / "notes.txt").write_text("the user's own")
    monkeypatch.setattr(type(toy_run), "digest", lambda self: "another")
    predict(toy_run.path, three, out, PredictOptions(formats=("json",)))
    assert {p.name for p in (out / "s0").iterdir()} == {"result.json", "notes.txt"}


def test_a_folder_holds_the_result_of_one_study(toy_run, three, tmp_path, counted):
    out = tmp_path / "out"
    predict(toy_run.path, three / "s0", out, QUICK)
    before = (out / "result.json").read_bytes()
    counted.clear()
    with pytest.raises(UserError, match=r"result of study s0, and this is study s1; give another folder"):
        predict(toy_run.path, three / "s1", out, QUICK)
    assert (out / "result.json").read_bytes() == before
    assert counted == []
    assert predict(toy_run.path, three / "s0", out, QUICK).kept == ("s0",)
    # nor beside one that no audit knows
    (out / "audit.jsonl").unlink()
    with pytest.raises(UserError, match="result of study s0"):
        predict(toy_run.path, three / "s1", out, QUICK)


def contents(folder: Path) -> dict[str, bytes]:
    """Files of results by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "audit.jsonl"
    }


def test_a_result_gets_its_folder_when_other_studies_join_it(toy_run, three, tmp_path, counted):
    out, later = tmp_path / "out", tmp_path / "later"
    for name in ("s1", "s2"):
        shutil.move(three / name, later / name)
    predict(toy_run.path, three, out, QUICK)
    (out / "notes.txt").write_text("the user's own")
    before = {name: (out / name).read_bytes() for name in ("mask.nii.gz", "result.json")}
    shutil.move(later / "s1", three / "s1")
    counted.clear()
    outcome = predict(toy_run.path, three, out, QUICK)
    # neither lost nor predicted twice nor there twice
    assert counted == ["s1"]
    assert outcome.kept == ("s0",)
    assert {name: (out / "s0" / name).read_bytes() for name in before} == before
    assert [path.parent.name for path in sorted(out.rglob("result.json"))] == ["s0", "s1"]
    assert (out / "notes.txt").exists()
    assert [f.case for f in outcome.findings if f.id == "result-moved"] == ["s0"]
    again = predict(toy_run.path, three, out, QUICK)
    assert again.kept == ("s0", "s1")
    assert "result-moved" not in {f.id for f in again.findings}
    # and the other way: one study alone keeps its folder, or gets one
    counted.clear()
    assert predict(toy_run.path, three / "s1", out, QUICK).kept == ("s1",)
    predict(toy_run.path, later / "s2", out, QUICK)
    assert counted == ["s2"]
    assert [path.parent.name for path in sorted(out.rglob("result.json"))] == ["s0", "s1", "s2"]


def test_a_move_that_is_broken_off_is_done_again(toy_run, three, tmp_path, monkeypatch, counted):
    out = tmp_path / "out"
    predict(toy_run.path, three / "s0", out, QUICK)
    before = contents(out)
    replace, done = os.replace, []

    def full(source, target):
        if Path(target).parent == out / "s0":
            if done:
                raise OSError(errno.EIO, "Input/output error", str(target))
            done.append(target)
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OutputError, match="Input/output error"):
            predict(toy_run.path, three, out, QUICK)
    assert {Path(name).name for name in contents(out)} == set(before)
    counted.clear()
    assert predict(toy_run.path, three, out, QUICK).kept == ("s0",)
    assert counted == ["s1", "s2"]
    assert {f"s0/{name}": content for name, content in before.items()}.items() <= contents(out).items()


@pytest.mark.parametrize("case", ["no audit", "corrected", "taken"])
def test_a_result_that_cannot_be_moved_safely_stops_the_batch(toy_run, three, tmp_path, case):
    out = tmp_path / "out"
    predict(toy_run.path, three / "s0", out, QUICK)
    audit = out / "audit.jsonl"
    shutil.move(three / "s0", tmp_path / "s0")
    if case == "no audit":
        audit.unlink()
    elif case == "corrected":
        audit.write_text(audit.read_text().replace('"predicted"', '"revised"'))
    else:
        # a mask beside images would be taken for a reader's
        (out / "s0").mkdir()
        shutil.copy(three / "s1" / "pre.nii.gz", out / "s0")
    before = contents(out)
    with pytest.raises(UserError, match=r"study s0.*move it away, or give another folder with -o"):
        predict(toy_run.path, three, out, QUICK)
    assert contents(out) == before


def test_no_result_goes_among_the_images_of_its_study(toy_run, three, tmp_path, toy_maker):
    """A mask that a reader drew lies beside them, under the name of the predicted one."""
    toy_maker(70).mask.write_nifti(three / "s0" / "mask.nii.gz")
    before = (three / "s0" / "mask.nii.gz").read_bytes()
    for source, out in ((three / "s0", three / "s0"), (three, three)):
        with pytest.raises(UserError, match=r"holds the images of study s0.*another folder"):
            predict(toy_run.path, source, out, QUICK)
    assert (three / "s0" / "mask.nii.gz").read_bytes() == before
    assert not (three / "audit.jsonl").exists()
    # a folder in that of the study is one of its own
    predict(toy_run.path, three / "s1", three / "s1" / "out", QUICK)
    assert predict(toy_run.path, three / "s1", three / "s1" / "out", QUICK).kept == ("s1",)


def test_a_result_that_was_damaged_since_is_predicted_anew(toy_run, three, tmp_path, counted):
    out = tmp_path / "out"
    predict(toy_run.path, three / "s0", out, QUICK)
    whole = (out / "result.json").read_text()
    (out / "result.json").write_text(whole[:100])
    counted.clear()
    assert [r.study_id for r in predict(toy_run.path, three / "s0", out, QUICK).results] == ["s0"]
    assert counted == ["s0"]
    assert (out / "result.json").read_text() == whole


def test_a_full_disk_stops_cleanly_and_goes_on(toy_run, three, tmp_path, monkeypatch, counted):
    out = tmp_path / "out"
    write = writers.WRITERS["json"]

    def full(output, folder):
        if output.result.study_id == "s1":
            (folder / "result.json").write_text('{"half')
            raise OSError(errno.ENOSPC, "No space left on device")
        write(output, folder)

    with monkeypatch.context() as patched:
        patched.setattr(writers, "WRITERS", {**writers.WRITERS, "json": full})
        with pytest.raises(OutputError, match=r"No space left.*1 studies are finished"):
            predict(toy_run.path, three, out, QUICK)
    assert {p.name for p in out.iterdir()} == {"s0", "audit.jsonl"}
    assert {p.name for p in (out / "s0").iterdir()} == {"mask.nii.gz", "result.json"}
    counted.clear()
    outcome = predict(toy_run.path, three, out, QUICK)
    assert counted == ["s1", "s2"]
    assert [r.study_id for r in outcome.results] == ["s0", "s1", "s2"]


def test_a_full_disk_is_told_with_what_is_finished(toy_run, three, tmp_path, monkeypatch):
    write = writers.WRITERS["json"]
    full = []

    def filling(output, folder):
        if output.result.study_id in full:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(output, folder)

    monkeypatch.setattr(writers, "WRITERS", {**writers.WRITERS, "json": filling})
    words = [str(toy_run.path), str(three), "-o", str(tmp_path / "out"), "--format", "json"]
    for first, code in (("s0", 3), ("s1", 1)):
        full[:] = [first]
        said = CliRunner().invoke(app, ["predict", *words, "--json"], obj={"debug": False})
        assert said.exit_code == code, said.output
        told = json.loads(said.stdout)
        finished = [f"s{n}" for n in range(int(first[1]))]
        assert [r["study_id"] for r in told["results"]] == finished
        assert [f["id"] for f in told["findings"] if "No space left" in f["meaning"]] == ["not-written"]
        # every study is among the results or among the findings
        undone = [f["case"] for f in told["findings"] if f["id"] == "not-predicted"]
        assert [*finished, *undone] == ["s0", "s1", "s2"]
    in_words = CliRunner().invoke(app, ["predict", *words], obj={"debug": False})
    assert in_words.exit_code == 1
    assert "1 studies are finished and stay. Free space" in in_words.stdout


def test_a_place_that_cannot_be_written_to_gives_a_document_and_nothing_usable(toy_run, three, tmp_path):
    (tmp_path / "file").write_text("no folder")
    words = [str(toy_run.path), str(three / "s0"), "-o", str(tmp_path / "file" / "out"), "--format", "json"]
    said = CliRunner().invoke(app, ["predict", *words, "--json"], obj={"debug": False})
    assert said.exit_code == 3, said.output
    told = json.loads(said.stdout)
    assert told["results"] == []
    assert {f["id"]: f["case"] for f in told["findings"]} == {"not-written": "", "not-predicted": "s0"}


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of so many bytes, and give what makes it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = []

    def mount(size: int) -> Path:
        options = f"size={size}" + (",remount" if mounted else "")
        call = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(place)
        return place

    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs Linux")
    yield mount
    if mounted:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_truly_full_stops_cleanly_and_goes_on(toy_run, three, tmp_path, small_disk, counted):
    predict(toy_run.path, three / "s0", tmp_path / "roomy", QUICK)
    page = 4096
    one = sum(-(-p.stat().st_size // page) * page for p in (tmp_path / "roomy").iterdir())
    counted.clear()
    disk = small_disk(int(1.5 * one))
    with pytest.raises(OutputError, match=r"No space left.*1 studies are finished"):
        predict(toy_run.path, three, disk / "out", QUICK)
    finished = {
        json.loads(line)["study_id"] for line in (disk / "out" / "audit.jsonl").read_text().splitlines()
    }
    assert finished == {"s0"}
    assert {p.name for p in (disk / "out").iterdir()} == {"s0", "audit.jsonl"}
    assert {p.name for p in (disk / "out" / "s0").iterdir()} == {"mask.nii.gz", "result.json"}
    small_disk(100 * one)
    counted.clear()
    outcome = predict(toy_run.path, three, disk / "out", QUICK)
    assert outcome.kept == ("s0",)
    assert counted == ["s1", "s2"]
    assert [r.study_id for r in outcome.results] == ["s0", "s1", "s2"]


KILLED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from mtinet.workflows.predict import PredictOptions, predict
run, source, out, key = map(Path, sys.argv[1:])
predict(run, source, out, PredictOptions(formats=("nifti", "json", "picture", "page"), key=key))
"""


@pytest.mark.slow
def test_a_batch_that_is_killed_leaves_nothing_half_written_and_goes_on(toy_run, ten, tmp_path, counted):
    out, key = tmp_path / "out", tmp_path / "key"
    arguments = [str(toy_run.path), str(ten), str(out), str(key)]
    audit = out / "audit.jsonl"
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments]) as batch:
        deadline = time.monotonic() + 300
        while batch.poll() is None and time.monotonic() < deadline:
            if audit.is_file() and audit.read_text().count('"predicted"') >= 2:
                break
            time.sleep(0.005)
        assert batch.poll() is None, "it was over before it could be killed"
        os.kill(batch.pid, signal.SIGKILL)
    assert batch.returncode == -signal.SIGKILL
    files_of_one = {"mask.nii.gz", "result.json", "picture.png", "page.html"}
    done = {}
    for line in audit.read_text().splitlines():
        said = json.loads(line)
        done[said["study_id"]] = said["outcome"]
    finished = {name for name, outcome in done.items() if outcome == "predicted"}
    assert len(finished) >= 2
    for name in finished:
        # of the last one its line may have been all that was written behind the files
        assert {p.name for p in (out / name).iterdir()} - {PENDING_FILE} == files_of_one
        assert json.loads((out / name / "result.json").read_text())["study_id"] == name
    (out / min(finished) / PENDING_FILE).write_text("{}")
    options = PredictOptions(formats=("nifti", "json", "picture", "page"), key=key)
    outcome = predict(toy_run.path, ten, out, options)
    assert set(outcome.kept) == finished
    # NIfTI and DICOM, five good ones: the finished are not asked again
    assert finished.isdisjoint(counted)
    assert len(outcome.results) == 5
    assert len([f for f in outcome.findings if f.id == "not-predicted"]) == 5
    for result in outcome.results:
        assert {p.name for p in (out / result.study_id).iterdir()} == files_of_one
    assert list(out.rglob(".tmp-*")) == []


def test_one_process_at_a_time_works_in_an_output_folder(toy_run, three, tmp_path, monkeypatch):
    """What another one would have written while the network computed would be lost."""
    from mtinet.inference.predictor import Predictor

    out, explain, refused = tmp_path / "new" / "out", Predictor.explain, []

    def explain_beside_another(self, study):
        for source in (three / "s1", three):
            with pytest.raises(BusyError, match=r"another mtinet predict or revise.*wait until it has ended"):
                predict(toy_run.path, source, out, QUICK)
            refused.append(source)
        return explain(self, study)

    monkeypatch.setattr(Predictor, "explain", explain_beside_another)
    predict(toy_run.path, three / "s0", out, QUICK)
    assert len(refused) == 2
    assert {p.name for p in out.iterdir()} == {"mask.nii.gz", "result.json", "audit.jsonl"}
    monkeypatch.setattr(Predictor, "explain", explain)
    # what the lock of a killed process leaves is in nobody's way
    (out / ".lock").touch()
    assert predict(toy_run.path, three, out, QUICK).kept == ("s0",)
    assert not (out / ".lock").exists()


def test_a_share_without_locks_is_worked_in_all_the_same(toy_run, three, tmp_path, monkeypatch):
    @contextmanager
    def claimed(path):
        raise OSError(errno.ENOLCK, "No locks available", str(path))
        yield

    monkeypatch.setattr(files, "claimed", claimed)
    out = tmp_path / "out"
    assert len(predict(toy_run.path, three / "s0", out, QUICK).results) == 1
    assert (out / "result.json").is_file()


def test_a_line_of_the_audit_that_was_cut_short_does_no_harm(toy_run, three, tmp_path, monkeypatch, counted):
    out, append = tmp_path / "out", Audit._append

    def cut_short(self, line):
        append(self, line)
        if line["study_id"] == "s2":
            self.path.write_text(self.path.read_text()[:-40])
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Audit, "_append", cut_short)
        with pytest.raises(OutputError, match="No space left"):
            predict(toy_run.path, three, out, QUICK)
    counted.clear()
    assert predict(toy_run.path, three, out, QUICK).kept == ("s0", "s1")
    assert counted == ["s2"]
    assert predict(toy_run.path, three, out, QUICK).kept == ("s0", "s1", "s2")


@pytest.mark.skipif(sys.platform != "linux", reason="only there a file's name may be any bytes")
def test_a_name_that_is_not_utf8_costs_its_study_alone(toy_run, three, tmp_path, counted):
    (three / "s0").rename(three / os.fsdecode(b"M\xfcller"))
    (three / "s2" / "delayed.nii.gz").rename(three / "s2" / os.fsdecode(b"sp\xe4t.nii.gz"))
    out = tmp_path / "out"
    outcome = predict(toy_run.path, three, out, PredictOptions(formats=("json", "page")))
    assert counted == ["s1", "s2"]
    assert [r.study_id for r in outcome.results] == ["s1", "s2"]
    (failed,) = [f for f in outcome.findings if f.id == "not-predicted"]
    assert failed.case == r"M\udcfcller"
    assert "not UTF-8" in failed.meaning
    lines = [json.loads(line) for line in (out / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["study_id"], line["outcome"]) for line in lines] == [
        (failed.case, "failed"),
        ("s1", "predicted"),
        ("s2", "predicted"),
    ]
    # a file that is not used is named all the same
    assert r"sp\udce4t.nii.gz" in (out / "s2" / "page.html").read_text(encoding="utf-8")
    assert any(r"sp\udce4t.nii.gz" in f.meaning for f in read_result(out / "s2").findings)
    assert predict(toy_run.path, three, out, PredictOptions(formats=("json",))).kept == ("s1", "s2")


def test_an_unforeseen_failure_of_one_study_does_not_stop_the_others(toy_run, three, tmp_path, monkeypatch):
    from mtinet.inference.predictor import Predictor

    explain = Predictor.explain

    def failing(self, study):
        if study.study_id == "s1":
            raise IndexError("no row 7\n" + "of many " * 99)
        return explain(self, study)

    monkeypatch.setattr(Predictor, "explain", failing)
    seen = []
    outcome = predict(toy_run.path, three, tmp_path / "out", QUICK, on_unforeseen=seen.append)
    assert [r.study_id for r in outcome.results] == ["s0", "s2"]
    (failed,) = [f for f in outcome.findings if f.severity == "error"]
    assert "IndexError: no row 7 of many" in failed.meaning
    assert len(failed.meaning) < 400
    assert "mtinet --debug predict" in failed.action
    lines = [json.loads(line) for line in (tmp_path / "out" / "audit.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in lines if line["outcome"] == "failed"] == [failed.meaning]
    assert [type(error) for error in seen] == [IndexError]
    # the command prints where it was, if it is asked as the text says
    words = ["predict", str(toy_run.path), str(three), "-o", str(tmp_path / "told"), "--format", "json"]
    assert "Traceback" in CliRunner().invoke(app, ["--debug", *words]).stderr
    assert "Traceback" not in CliRunner().invoke(app, words).stderr


@pytest.mark.parametrize(
    "first", ["mine\n", "study_id,lesion,quantity,phase,value,unit,finding,reason\ns9,1,a,,1,,,\n"]
)
def test_a_table_of_somebody_else_is_not_written_over(toy_run, three, tmp_path, first):
    out = tmp_path / "out"
    out.mkdir()
    (out / "measurements.csv").write_text(first)
    with pytest.raises(UserError, match="no table of the studies in this folder"):
        predict(toy_run.path, three, out, QUICK)
    assert (out / "measurements.csv").read_text() == first
    assert [path.name for path in out.iterdir()] == ["measurements.csv"]


def test_a_batch_has_one_table_of_all_its_studies(toy_run, three, tmp_path):
    out = tmp_path / "out"
    shutil.move(three / "s2", tmp_path / "s2")
    both = PredictOptions(formats=("json", "csv"))
    assert predict(toy_run.path, three / "s0", out, both).table is None
    # in the folder of one study it is that study's, and moves with it
    alone = (out / "measurements.csv").read_text()
    assert predict(toy_run.path, three, out, both).table == out / "measurements.csv"
    assert (out / "s0" / "measurements.csv").read_text() == alone
    # without tables of the studies, and with the studies of earlier calls
    shutil.move(tmp_path / "s2", tmp_path / "later" / "s2")
    predict(toy_run.path, tmp_path / "later" / "s2", out, QUICK)
    whole = (out / "measurements.csv").read_text()
    predict(toy_run.path, tmp_path / "later" / "s2", out, PredictOptions(formats=("csv",)))
    tables = [(out / f"s{index}" / "measurements.csv").read_text().splitlines() for index in range(3)]
    assert whole.splitlines() == [tables[0][0], *(row for table in tables for row in table[1:])]
    assert predict(toy_run.path, three, out, both).kept == ("s0", "s1")
    assert (out / "measurements.csv").read_text() == whole


def test_the_table_of_a_batch_says_what_it_lacks(toy_run, three, tmp_path):
    out = tmp_path / "out"
    predict(toy_run.path, three, out, QUICK)
    (three / "s1" / "pre.nii.gz").write_bytes(b"damaged since")
    (out / "s2" / "result.json").unlink()
    shutil.rmtree(three / "s2")
    outcome = predict(toy_run.path, three, out, QUICK)
    (said,) = [f for f in outcome.findings if f.id == "table-incomplete"]
    assert "lacks 1 studies without a result.json: s2" in said.meaning
    rows = (out / "measurements.csv").read_text().splitlines()[1:]
    # the images of s1 are no longer those of its result
    assert {row.split(",")[0] for row in rows} == {"s0"}


def test_memory_holds_no_masks_of_a_batch(toy_run, three, tmp_path):
    outcome = predict(toy_run.path, three, tmp_path / "out", QUICK)
    assert [r.mask for r in outcome.results] == [None] * 3
    # which is no reason to save them without a word
    result = outcome.results[0]
    with pytest.raises(UserError, match=r"s0: the result has no mask.*read it with its mask\.nii\.gz"):
        mtinet.save(result, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    mask = read_nifti(tmp_path / "out" / "s0" / "mask.nii.gz", labels=True)
    mtinet.save(replace(result, mask=mask), tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"mask.nii.gz", "result.json"}


def test_formats_that_cannot_be_are_refused_before_any_work(toy_run, three, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="choose from"):
        read_formats(["nifti", "docx"])
    with pytest.raises(UserError, match="refer to DICOM images"):
        predict(toy_run.path, three, tmp_path / "out", PredictOptions(formats=("dicom-sr",)))
    monkeypatch.setitem(__import__("sys").modules, "weasyprint", None)
    with pytest.raises(UserError, match=r"mtinet\[pdf\]"):
        read_formats(["pdf"])
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="holds no study"):
        predict(toy_run.path, tmp_path / "in" / "s0" / "pre.nii.gz", tmp_path / "out")


def test_files_appear_together_or_not_at_all(tmp_path):
    with files.atomic_files(tmp_path / "new" / "folder") as temporary:
        (temporary / "a").write_text("1")
        assert not (tmp_path / "new" / "folder" / "a").exists()
    (tmp_path / "new" / "folder" / "own").write_text("2")

    def broken():
        with files.atomic_files(tmp_path / "new" / "folder") as temporary:
            (temporary / "a").write_text("half")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        broken()
    assert {p.name: p.read_text() for p in (tmp_path / "new" / "folder").iterdir()} == {"a": "1", "own": "2"}


@pytest.mark.acceptance
def test_fifty_studies_with_five_broken(toy_run, tmp_path, toy_maker, thick_toy, toy_scanner):
    place = tmp_path / "in"
    for index in range(40):
        write_nifti(toy_maker(200 + index), place / f"good-{index}")
    for index in range(5):
        toy_scanner(thick_toy(300 + index), place / "export" / f"p{index}", f"P{index}", f"st{index}")
    write_broken(place, toy_maker, thick_toy, toy_scanner)
    options = PredictOptions(formats=("nifti", "json", "page"), key=tmp_path / "key")
    outcome = predict(toy_run.path, place, tmp_path / "out", options)
    assert len(outcome.results) == 45
    assert len([f for f in outcome.findings if f.id == "not-predicted"]) == 5
    assert len(list((tmp_path / "out").rglob("page.html"))) == 45
    assert list((tmp_path / "out").rglob(".tmp-*")) == []
    assert len(predict(toy_run.path, place, tmp_path / "out", options).kept) == 45
