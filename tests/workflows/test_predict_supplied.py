"""Agent and liver of studies that lack them: what needs them is then measured."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mtinet
from mtinet.cohort import Study
from mtinet.errors import UserError
from mtinet.volume import Volume, read_nifti
from mtinet.workflows.predict import PredictOptions, predict
from mtinet.workflows.predictions.jobs import Case
from mtinet.workflows.predictions.supplied import Supplied
from mtinet.workflows.revise import ReviseOptions, revise

SEGMENTER = """
import sys, nibabel, numpy
image = nibabel.load(sys.argv[1])
if "fail" in sys.argv:
    sys.exit("no licence")
liver = nibabel.load({liver!r})
nibabel.save(nibabel.Nifti1Image(numpy.asarray(liver.dataobj), image.affine), sys.argv[2])
"""


@pytest.fixture
def segmenter(tmp_path: Path):
    """A program that knows the liver of a toy, as a command."""

    def make(liver: Volume) -> str:
        liver.write_nifti(tmp_path / "known" / "liver.nii.gz")
        program = tmp_path / "known" / "segment.py"
        program.write_text(SEGMENTER.format(liver=str(tmp_path / "known" / "liver.nii.gz")))
        return f"{sys.executable} {program} {{image}} {{out}}"

    return make


def reasons(result) -> set[str]:
    return {m.reason for lesion in result.lesions for m in lesion.measurements}


def values(result) -> dict[tuple[int, str, str], float | None]:
    return {
        (lesion.number, m.name, m.phase): m.value for lesion in result.lesions for m in lesion.measurements
    }


def test_a_folder_without_agent_and_liver_is_measured_like_one_with_both(
    toy_run, tmp_path, toy_maker, segmenter
):
    toy = toy_maker(31)
    for phase, volume in toy.images.items():
        volume.write_nifti(tmp_path / "study" / f"{phase}.nii.gz")
    supplied = Supplied("gadobutrol", segmenter(toy.liver))
    (bare,) = predict(toy_run.path, tmp_path / "study", tmp_path / "bare").results
    (full,) = predict(
        toy_run.path, tmp_path / "study", tmp_path / "full", PredictOptions(supplied=supplied)
    ).results
    assert "no-agent" in {f.id for f in bare.findings} - {f.id for f in full.findings}
    assert any("liver" in reason for reason in reasons(bare))
    assert not any("liver" in reason and "mask" in reason for reason in reasons(full))
    drawn = read_nifti(tmp_path / "full" / "liver_mask.nii.gz", labels=True)
    np.testing.assert_array_equal(drawn.array > 0, toy.liver.array > 0)
    # the same outline beside the images gives the same numbers
    toy.liver.write_nifti(tmp_path / "study" / "liver_mask.nii.gz")
    (given,) = predict(
        toy_run.path, tmp_path / "study", tmp_path / "given", PredictOptions(supplied=Supplied("gadobutrol"))
    ).results
    assert values(given) == values(full)
    assert not (tmp_path / "given" / "liver_mask.nii.gz").exists()


@pytest.mark.parametrize(
    ("written", "used"),
    [("", "gadoxetate"), ("Gd", "gadoxetate"), ("CONTRAST 10 ML", "gadoxetate"), ("Gadavist", "Gadavist")],
)
def test_the_agent_is_taken_where_the_study_names_none_that_is_known(toy, tmp_path, written, used):
    case = Case(replace(toy.write(tmp_path, "s0"), agent=written))
    assert Supplied("gadoxetate").with_agent(case).study.agent == used
    assert Supplied().with_agent(case).study.agent == written


def test_an_agent_is_taken_for_a_header_that_tells_nothing(toy_run, tmp_path, thick_toy, toy_scanner):
    toy_scanner(thick_toy(31), tmp_path / "export", agent="Gd")
    said = {}
    for agent in ("", "gadobutrol"):
        options = PredictOptions(("json", "page"), key=tmp_path / "key", supplied=Supplied(agent))
        (result,) = predict(toy_run.path, tmp_path / "export", tmp_path / f"out-{agent}", options).results
        said[agent] = {f.id: f for f in result.findings}
    assert "--agent" in said[""]["no-agent"].action
    assert "no-agent" not in said["gadobutrol"]
    assert "Contrast agent: gadobutrol" in (tmp_path / "out-gadobutrol" / "page.html").read_text()


def test_a_revision_takes_the_liver_that_was_drawn(toy_run, tmp_path, toy_maker, segmenter):
    toy = toy_maker(31)
    for phase, volume in toy.images.items():
        volume.write_nifti(tmp_path / "study" / f"{phase}.nii.gz")
    supplied = Supplied("gadobutrol", segmenter(toy.liver))
    predict(toy_run.path, tmp_path / "study", tmp_path / "out", PredictOptions(supplied=supplied))
    toy.mask.write_nifti(tmp_path / "edited.nii.gz")
    revised = revise(
        tmp_path / "out",
        tmp_path / "edited.nii.gz",
        tmp_path / "study",
        toy_run.path,
        tmp_path / "revised",
        ReviseOptions(agent="gadobutrol"),
    ).result
    assert revised.lesions
    assert not any("liver" in r and "mask" in r for r in reasons(revised))
    assert "no-agent" not in {f.id for f in revised.findings}
    assert (tmp_path / "revised" / "liver_mask.nii.gz").is_file()


def test_a_program_that_fails_costs_the_liver_and_not_the_study(
    toy_run, tmp_path, thick_toy, toy_scanner, segmenter
):
    toy = thick_toy(31)
    toy_scanner(toy, tmp_path / "export")
    fails = segmenter(toy.liver) + " fail"
    options = PredictOptions(key=tmp_path / "key", supplied=Supplied(liver_command=fails))
    (result,) = predict(toy_run.path, tmp_path / "export", tmp_path / "out", options).results
    (finding,) = [f for f in result.findings if f.id == "liver-not-segmented"]
    assert "no licence" in finding.meaning
    assert "the study" in finding.meaning  # no place of the machine in what is stored
    assert str(tmp_path) not in (tmp_path / "out" / "result.json").read_text()
    # mended, the same command predicts anew
    mended = PredictOptions(
        key=tmp_path / "key", supplied=Supplied(liver_command=fails.removesuffix(" fail"))
    )
    outcome = predict(toy_run.path, tmp_path / "export", tmp_path / "out", mended)
    assert not outcome.kept
    assert "liver-not-segmented" not in {f.id for f in outcome.findings}
    assert (tmp_path / "out" / "liver_mask.nii.gz").is_file()
    (_, line) = (tmp_path / "out" / "audit.jsonl").read_text().splitlines()
    assert json.loads(line)["seconds"]["liver"] > 0
    assert predict(toy_run.path, tmp_path / "export", tmp_path / "out", mended).kept


def test_a_liver_mask_off_the_grid_costs_the_liver_and_not_the_study(toy_run, tmp_path, toy_maker, segmenter):
    toy = toy_maker(31)
    for phase, volume in toy.images.items():
        volume.write_nifti(tmp_path / "study" / f"{phase}.nii.gz")
    Volume(toy.liver.array[:, :, 1:], toy.liver.affine).write_nifti(tmp_path / "study" / "liver_mask.nii.gz")
    (result,) = predict(toy_run.path, tmp_path / "study", tmp_path / "out").results
    assert "liver-not-used" in {f.id for f in result.findings}
    assert result.lesions
    alone = mtinet.load(toy_run.path)(tmp_path / "study")
    assert [f.id for f in alone.findings] == [f.id for f in result.findings]
    assert values(alone) == values(result)
    read = mtinet.load(toy_run.path)(Study.from_folder(tmp_path / "study"))
    assert "liver-not-used" in {f.id for f in read.findings}
    # a program may draw it instead
    options = PredictOptions(supplied=Supplied("gadobutrol", segmenter(toy.liver)))
    (drawn,) = predict(toy_run.path, tmp_path / "study", tmp_path / "drawn", options).results
    assert not any("liver" in reason and "mask" in reason for reason in reasons(drawn))
    assert (tmp_path / "drawn" / "liver_mask.nii.gz").is_file()
    (said,) = [f for f in drawn.findings if f.id == "liver-not-used"]
    assert said.meaning.startswith("liver_mask.nii.gz is not used")


@pytest.mark.parametrize(
    ("supplied", "said"),
    [
        (Supplied(agent="Gd"), "no contrast agent"),
        (Supplied(liver_command="nosuchprogram {image} {out}"), "no program nosuchprogram"),
    ],
)
def test_what_helps_no_study_is_refused_before_any_work(toy_run, tmp_path, toy_maker, supplied, said):
    toy_maker(5).images["pre"].write_nifti(tmp_path / "study" / "pre.nii.gz")
    with pytest.raises(UserError, match=said):
        predict(toy_run.path, tmp_path / "study", tmp_path / "out", PredictOptions(supplied=supplied))
    assert not (tmp_path / "out").exists()
