"""Growth: a study compared with an earlier one that lay elsewhere in the scanner."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mtinet.errors import UserError
from mtinet.inference.panel import Opinions
from mtinet.volume import Volume, read_nifti
from mtinet.workflows.predict import PredictOptions, predict
from mtinet.workflows.predictions.priors import LEAST_BODY_OVERLAP, PriorPaths, body_overlap
from mtinet.workflows.revise import ReviseOptions, revise

QUICK = PredictOptions(formats=("nifti", "json", "page"))


def elsewhere(degrees: float = 3.0) -> np.ndarray:
    """The patient on the table on another day."""
    angle = np.deg2rad(degrees)
    moved = np.eye(4)
    moved[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moved[:3, 3] = 25.0, -60.0, 140.0
    return moved


def write(toy, folder: Path, moved=None) -> Path:
    for phase, volume in toy.images.items():
        affine = volume.affine if moved is None else moved @ volume.affine
        Volume(volume.array, affine).write_nifti(folder / f"{phase}.nii.gz")
    return folder


def date(folder: Path, day: str) -> None:
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.StudyDate = day
        dataset.save_as(path)


def quantities(lesion) -> dict:
    return {m.name: m for m in lesion.measurements}


@pytest.fixture
def earlier(toy_run, tmp_path, thick_toy) -> PriorPaths:
    """A result of a toy that lay elsewhere."""
    write(thick_toy(61), tmp_path / "before", elsewhere())
    predict(toy_run.path, tmp_path / "before", tmp_path / "out-before", QUICK)
    return PriorPaths(tmp_path / "out-before", tmp_path / "before")


def test_lesions_find_their_partner_however_the_patient_lay(toy_run, earlier, tmp_path, thick_toy):
    write(thick_toy(61), tmp_path / "now")
    options = PredictOptions(formats=("nifti", "json", "csv", "page"), prior=earlier)
    outcome = predict(toy_run.path, tmp_path / "now", tmp_path / "out", options)
    (result,) = outcome.results
    assert result.lesions
    found = quantities(result.lesions[0])
    assert found["volume_change"].value == pytest.approx(0.0, abs=1e-3)
    assert found["diameter_change"].value == pytest.approx(0.0, abs=1e-3)
    assert "study before, where it is lesion 1" in found["volume_change"].reason
    assert {m.name: m.value for m in result.measurements}["vanished_lesions"] == 0.0
    assert "prior-registered" in [f.id for f in result.findings]
    assert "volume_change" in (tmp_path / "out" / "measurements.csv").read_text()
    page = (tmp_path / "out" / "page.html").read_text()
    assert "since the prior study" in page
    assert predict(toy_run.path, tmp_path / "now", tmp_path / "out", options).kept == ("now",)
    # without the prior study it is another result
    assert predict(toy_run.path, tmp_path / "now", tmp_path / "out", QUICK).kept == ()


def test_a_lesion_that_has_grown_and_one_that_is_new(toy_run, earlier, tmp_path, thick_toy):
    toy = thick_toy(61)
    mask = read_nifti(tmp_path / "out-before" / "mask.nii.gz", labels=True).array > 0
    x, y, z = (int(n) for n in np.argwhere(mask).mean(0))
    for phase, volume in toy.images.items():
        array = volume.array.copy()
        bright = array[toy.mask.array > 0].mean()
        array[x - 4 : x + 5, y - 4 : y + 5, z - 3 : z + 4] = bright
        toy = toy.with_phase(phase, volume.with_array(array))
    write(toy, tmp_path / "now")
    outcome = predict(
        toy_run.path, tmp_path / "now", tmp_path / "out", PredictOptions(formats=("json",), prior=earlier)
    )
    found = quantities(outcome.results[0].lesions[0])
    assert found["volume_change"].value > 20.0
    assert found["diameter_change"].value > 5.0


def test_without_a_trusted_registration_nothing_is_compared(
    toy_run, earlier, tmp_path, thick_toy, monkeypatch
):
    from mtinet.imaging.registration import Registration
    from mtinet.workflows.predictions import priors

    monkeypatch.setattr(priors, "register", lambda *_: Registration("none", "rejected", "it lost its way"))
    write(thick_toy(61), tmp_path / "now")
    outcome = predict(
        toy_run.path, tmp_path / "now", tmp_path / "out", PredictOptions(formats=("json",), prior=earlier)
    )
    growth = quantities(outcome.results[0].lesions[0])["growth"]
    assert growth.finding == "not assessable"
    assert "it lost its way" in growth.reason
    assert "prior-not-registered" in [f.id for f in outcome.findings]


def test_a_body_of_another_size_is_another_patient(toy_run, earlier, tmp_path, thick_toy):
    write(thick_toy(61), tmp_path / "now", np.diag([1.3, 1.2, 1.0, 1.0]))
    outcome = predict(
        toy_run.path, tmp_path / "now", tmp_path / "out", PredictOptions(formats=("json",), prior=earlier)
    )
    assert outcome.results[0].lesions
    for lesion in outcome.results[0].lesions:
        assert quantities(lesion)["growth"].finding == "not assessable"
        assert "volume_change" not in quantities(lesion)
    assert "vanished_lesions" not in {m.name for m in outcome.results[0].measurements}
    assert "prior-other-body" in [f.id for f in outcome.findings]


def test_a_prior_study_in_a_folder_of_the_same_name_is_another_study(toy_run, tmp_path, thick_toy):
    for day in ("monday", "tuesday"):
        write(thick_toy(61), tmp_path / day / "mr", elsewhere() if day == "monday" else None)
    predict(toy_run.path, tmp_path / "monday" / "mr", tmp_path / "out-monday", QUICK)
    prior = PriorPaths(tmp_path / "out-monday", tmp_path / "monday" / "mr")
    options = PredictOptions(formats=("json",), prior=prior)
    (result,) = predict(toy_run.path, tmp_path / "tuesday" / "mr", tmp_path / "out", options).results
    assert quantities(result.lesions[0])["volume_change"].value == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(UserError, match="same study"):
        predict(toy_run.path, tmp_path / "monday" / "mr", tmp_path / "again", options)


def test_a_change_that_may_be_one_of_model_or_outline_is_said(toy_run, earlier, tmp_path, thick_toy):
    write(thick_toy(61), tmp_path / "now")
    mask = earlier.result / "mask.nii.gz"
    revise(earlier.result, mask, earlier.study, toy_run.path, tmp_path / "revised")
    options = PredictOptions(
        formats=("json",),
        prior=PriorPaths(tmp_path / "revised", earlier.study),
        opinions=Opinions(flips=True),
    )
    (result,) = predict(toy_run.path, tmp_path / "now", tmp_path / "out", options).results
    assert {"prior-other-model", "prior-other-outline"} <= {f.id for f in result.findings}
    plain = PredictOptions(formats=("json",), prior=earlier)
    (result,) = predict(toy_run.path, tmp_path / "now", tmp_path / "plain", plain).results
    assert not {"prior-other-model", "prior-other-outline"} & {f.id for f in result.findings}


def test_growth_is_measured_anew_under_a_corrected_outline(toy_run, earlier, tmp_path, thick_toy):
    write(thick_toy(61), tmp_path / "now")
    options = PredictOptions(formats=("nifti", "json"), prior=earlier)
    (predicted,) = predict(toy_run.path, tmp_path / "now", tmp_path / "out", options).results
    drawn = read_nifti(tmp_path / "out" / "mask.nii.gz", labels=True)
    largest = predicted.lesions[0]
    array = np.where(drawn.array == largest.number, drawn.array, 0)
    # the reader leaves the half of the largest lesion
    planes = np.flatnonzero(array.any((0, 1)))
    array[..., planes[len(planes) // 2] :] = 0
    drawn.with_array(array).write_nifti(tmp_path / "half.nii.gz")
    given = (tmp_path / "out", tmp_path / "half.nii.gz", tmp_path / "now", toy_run.path)
    result = revise(*given, tmp_path / "half", ReviseOptions(formats=("json", "csv"), prior=earlier)).result
    (lesion,) = result.lesions
    before = largest.volume_mm3 / (1 + quantities(largest)["volume_change"].value / 100)
    assert quantities(lesion)["volume_change"].value == pytest.approx(100 * (lesion.volume_mm3 / before - 1))
    assert quantities(lesion)["volume_change"].value < -20
    found = {f.id: f.meaning for f in result.findings}
    assert "study before were outlined by the model and these by a reader" in found["prior-other-outline"]
    assert "revised-without-growth" not in found
    assert "volume_change" in (tmp_path / "half" / "measurements.csv").read_text()
    line = json.loads((tmp_path / "half" / "audit.jsonl").read_text())
    assert line["decided_by"]["prior"]
    # two outlines of readers are of one kind
    revise(earlier.result, earlier.result / "mask.nii.gz", earlier.study, toy_run.path, tmp_path / "revised")
    both = ReviseOptions(formats=("json",), prior=PriorPaths(tmp_path / "revised", earlier.study))
    assert "prior-other-outline" not in {f.id for f in revise(*given, tmp_path / "both", both).findings}
    # and growth is not lost without a word
    alone = revise(*given, tmp_path / "alone", ReviseOptions(formats=("json",)))
    assert "revised-without-growth" in {f.id for f in alone.findings}
    assert "volume_change" not in quantities(alone.result.lesions[0])
    same = ReviseOptions(prior=PriorPaths(tmp_path / "out", tmp_path / "now"))
    with pytest.raises(UserError, match="same study"):
        revise(*given, tmp_path / "same", same)


def test_a_prior_study_that_cannot_be_read_costs_its_comparison_only(toy_run, earlier, tmp_path, thick_toy):
    write(thick_toy(61), tmp_path / "now")
    for path in (tmp_path / "before").iterdir():
        path.write_bytes(path.read_bytes()[:2000])
    options = PredictOptions(formats=("json",), prior=earlier)
    (result,) = predict(toy_run.path, tmp_path / "now", tmp_path / "out", options).results
    assert quantities(result.lesions[0])["growth"].finding == "not assessable"
    (said,) = [f for f in result.findings if f.id == "prior-unreadable"]
    # a path may name the patient
    assert str(tmp_path) not in said.meaning


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_bodies_are_compared_where_both_studies_show_them(share):
    """However the patient lay, and however much of him is seen."""
    y, x = np.mgrid[:60, :70]
    ellipse = ((x - 35.0) / 28) ** 2 + ((y - 30.0) / 22) ** 2 < 1
    image = np.repeat(np.where(ellipse, 100.0, 1.0).T[..., None], 12, axis=2).astype(np.float32)
    image += np.random.default_rng(0).random(image.shape, dtype=np.float32)
    whole = Volume(image, np.diag([5.0, 5.0, 8.0, 1.0]))
    part = Volume(image[: int(70 * share)], elsewhere() @ whole.affine)
    there = np.linalg.inv(elsewhere())
    assert body_overlap(part, whole, there) > 0.97
    wider = np.diag([1.3, 1.2, 1.0, 1.0])
    assert body_overlap(Volume(image, wider @ whole.affine), whole, np.eye(4)) < LEAST_BODY_OVERLAP
    assert body_overlap(Volume(np.zeros_like(image), whole.affine), whole, np.eye(4)) is None


def test_what_cannot_be_compared_is_refused_before_any_work(
    toy_run, earlier, tmp_path, thick_toy, toy_scanner
):
    write(thick_toy(61), tmp_path / "now")
    out = tmp_path / "out"

    def attempt(study: Path, prior: PriorPaths):
        predict(toy_run.path, study, out, PredictOptions(key=tmp_path / "key", prior=prior))

    with pytest.raises(UserError, match=r"no result\.json"):
        attempt(tmp_path / "now", PriorPaths(tmp_path / "before", tmp_path / "before"))
    with pytest.raises(UserError, match="result of study before"):
        attempt(tmp_path / "now", PriorPaths(earlier.result, tmp_path / "now"))
    with pytest.raises(UserError, match="same study"):
        attempt(tmp_path / "before", earlier)
    text = (earlier.result / "result.json").read_text()
    (earlier.result / "result.json").write_text(text[:200])
    with pytest.raises(UserError, match=r"--prior.*is damaged"):
        attempt(tmp_path / "now", earlier)
    (earlier.result / "result.json").write_text(text)
    toy_scanner(thick_toy(62), tmp_path / "export" / "a", "A1", "a")
    toy_scanner(thick_toy(63), tmp_path / "export" / "b", "B1", "b")
    with pytest.raises(UserError, match="there are 2"):
        attempt(tmp_path / "export", earlier)
    assert not out.exists()
    predict(
        toy_run.path,
        tmp_path / "export" / "a",
        tmp_path / "out-a",
        PredictOptions(formats=("json",), key=tmp_path / "key"),
    )
    with pytest.raises(UserError, match="different patients"):
        attempt(tmp_path / "export" / "b", PriorPaths(tmp_path / "out-a", tmp_path / "export" / "a"))
    toy_scanner(thick_toy(62), tmp_path / "export" / "c", "A1", "c")
    date(tmp_path / "export" / "c", "19991231")
    with pytest.raises(UserError, match=r"is later than.*exchange them"):
        attempt(tmp_path / "export" / "c", PriorPaths(tmp_path / "out-a", tmp_path / "export" / "a"))


@pytest.mark.slow
def test_the_report_for_the_archive_holds_the_change(toy_run, tmp_path, thick_toy, toy_scanner):
    key = tmp_path / "key"
    for name, day in (("before", "20200229"), ("now", "20200301")):
        toy_scanner(thick_toy(61), tmp_path / name, "A1", name)
        date(tmp_path / name, day)
    options = PredictOptions(formats=("json",), key=key)
    predict(toy_run.path, tmp_path / "before", tmp_path / "out-before", options)
    prior = PriorPaths(tmp_path / "out-before", tmp_path / "before")
    options = PredictOptions(formats=("json", "dicom-sr"), key=key, prior=prior)
    (result,) = predict(toy_run.path, tmp_path / "now", tmp_path / "out", options).results
    assert quantities(result.lesions[0])["volume_change"].value == pytest.approx(0.0, abs=1e-3)
    report = pydicom.dcmread(tmp_path / "out" / "report.dcm")
    said = str(report)
    assert "Change of volume against the prior study" in said
    assert "Change of long axis against the prior study" in said
