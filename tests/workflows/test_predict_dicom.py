"""From DICOM to files for a PACS: phases found, lesions in place, identity nowhere else."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

import mtinet
from mtinet.cli import app
from mtinet.cohort import Study
from mtinet.dicom.masks import read_masks
from mtinet.dicom.origin import Origin
from mtinet.dicom.study import read_studies
from mtinet.errors import UserError
from mtinet.inference.predictor import Predictor
from mtinet.results import PhaseSource
from mtinet.volume import read_nifti
from mtinet.workflows.ingest import IngestOptions, ingest
from mtinet.workflows.predict import PredictOptions, predict
from mtinet.workflows.predictions.dicom_jobs import SURE, doubtful_phases
from mtinet.workflows.predictions.formats import write_table
from mtinet.workflows.predictions.nifti_jobs import NiftiJob
from mtinet.workflows.predictions.priors import PriorPaths
from mtinet.workflows.predictions.sources import parse_phase_names
from mtinet.workflows.predictions.stored import read_result
from mtinet.workflows.predictions.who import without_identity
from mtinet.workflows.revise import ReviseOptions, revise

ALL = ("nifti", "json", "csv", "page", "dicom-seg", "dicom-sr")
PHASES = ("pre", "arterial", "portal_venous", "delayed")


def dice(a, b) -> float:
    return 2 * np.logical_and(a, b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def predicted(toy_run, thick_toy, toy_scanner, tmp_path_factory):
    """A study as DICOM, its toy and exam, and all files that were predicted of it."""
    place = tmp_path_factory.mktemp("dicom")
    toy = thick_toy(31)
    exam = toy_scanner(toy, place / "export")
    options = PredictOptions(formats=ALL, key=place / "key")
    outcome = predict(toy_run.path, place / "export", place / "out", options)
    return place, toy, exam, outcome


def test_phases_and_times_are_found_and_the_lesion_is_in_place(predicted):
    place, toy, _exam, outcome = predicted
    (result,) = outcome.results
    assert [f for f in outcome.findings if f.severity == "error"] == []
    assert result.phases == PHASES
    mask = read_nifti(place / "out" / "mask.nii.gz", labels=True).like_axes_of(toy.mask.affine)
    assert mask.corner_distance_mm(toy.mask) < 0.01
    assert dice(mask.array > 0, toy.mask.array > 0) > 0.5
    (study,) = read_studies(place / "export")[0]
    seg = read_masks(place / "out" / "segmentation.dcm", study.series).labels.like_axes_of(toy.mask.affine)
    assert np.array_equal(seg.array > 0, mask.array > 0)
    said = {f.id for f in result.findings}
    assert said.isdisjoint({"no-times", "no-agent", "eight-bit", "single-slice"})


def test_the_series_of_each_phase_is_told(predicted):
    place, *_, outcome = predicted
    (result,) = outcome.results
    (study,) = read_studies(place / "export")[0]
    assert tuple(result.sources) == PHASES
    for phase, source in result.sources.items():
        (series,) = [s for s in study.series if s.info.series_number == source.series]
        assert source.volume < source.n_volumes == len(series.volumes)
        assert SURE <= source.confidence <= 1.0
        assert source.evidence
        assert (
            f"<td>{source.name}</td><td>{source.confidence:.2f}" in (place / "out" / "page.html").read_text()
        ), phase
    assert "phase-doubtful" not in {f.id for f in result.findings}
    assert read_result(place / "out").sources == result.sources


def test_phases_that_may_be_another_are_named_with_the_option_that_corrects_them():
    sure = PhaseSource("4", 0, 1, 0.8, ("its name says so",))
    weak = {
        "arterial": PhaseSource("5", 1, 3, 0.71, ("it has no name",)),
        "delayed": PhaseSource("7", 0, 1, 0.65),
    }
    assert doubtful_phases({"pre": sure}, "s") == []
    (found,) = doubtful_phases({"pre": sure, **weak}, "s")
    assert (found.id, found.severity, found.value, found.threshold) == (
        "phase-doubtful",
        "warning",
        0.65,
        0.8,
    )
    assert "arterial from series 5:1, 0.71 (it has no name)" in found.meaning
    assert "delayed from series 7, 0.65" in found.meaning
    assert "pre" not in found.meaning
    assert "--phase-names arterial=" in found.action


def test_identity_is_in_the_dicom_files_only(predicted):
    place, _, exam, _ = predicted
    secrets = [exam.patient_id, "Virtual^Patient", exam.uid("study"), exam.uid("frame of reference")]
    files = {path.name for path in (place / "out").iterdir()}
    assert files == {
        "audit.jsonl", "mask.nii.gz", "result.json", "measurements.csv", "page.html", "segmentation.dcm", "report.dcm",
    }  # fmt: skip
    for name in files - {"segmentation.dcm", "report.dcm", "mask.nii.gz"}:
        text = (place / "out" / name).read_text()
        assert [secret for secret in secrets if secret in text] == [], name
    assert pydicom.dcmread(place / "out" / "report.dcm").PatientID == exam.patient_id
    line = json.loads((place / "out" / "audit.jsonl").read_text())
    instances = {str(pydicom.dcmread(p).SOPInstanceUID) for p in (place / "export").rglob("*.dcm")}
    assert set(line["instance_uids"]) <= instances
    assert len(line["instance_uids"]) == 4 * 14
    stored = json.loads((place / "out" / "result.json").read_text())
    assert line["decided_by"]["model"] == stored["model"]
    assert len(stored["model"]["digest"]) == 64


def rows_of(mapping: Path) -> list[dict[str, str]]:
    with mapping.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_it_is_told_beside_the_results_whose_they_are(predicted, toy_run, tmp_path):
    place, _, exam, outcome = predicted
    assert outcome.mapping == place / "out-mapping.csv"
    assert outcome.mapping.stat().st_mode & 0o777 == 0o600
    (row,) = rows_of(outcome.mapping)
    assert row["study_id"] == outcome.results[0].study_id
    assert row["study_uid"] == exam.uid("study")
    assert row["original_patient_id"] == exam.patient_id
    again = [
        "predict",
        *map(str, (toy_run.path, place / "export", "-o", place / "out", "--key", place / "key")),
    ]
    said = CliRunner().invoke(app, [*again, "--format", "json"])
    assert said.exit_code == 0, said.output
    assert f"who is who: {outcome.mapping}" in said.stdout
    # an import with the same key calls the study and the patient alike
    made = ingest(place / "export", tmp_path / "cohort", IngestOptions(key=place / "key"), workers=1)
    assert rows_of(made.mapping) == [row]


def test_rows_of_earlier_predictions_stay_and_studies_that_fail_have_one(
    toy_run, thick_toy, toy_scanner, tmp_path
):
    options = PredictOptions(formats=("json",), key=tmp_path / "key")
    toy_scanner(thick_toy(31), tmp_path / "first", "Q1", "one")
    predict(toy_run.path, tmp_path / "first", tmp_path / "out", options)
    exam = toy_scanner(thick_toy(32), tmp_path / "second" / "a", "Q2", "two")
    for path in sorted((tmp_path / "second").rglob("*.dcm"))[::2]:
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "Q3"
        dataset.save_as(path)
    toy_scanner(thick_toy(33), tmp_path / "second" / "b", "Q4", "three")
    outcome = predict(toy_run.path, tmp_path / "second", tmp_path / "out", options)
    by_id = {row["study_id"]: row for row in rows_of(tmp_path / "out-mapping.csv")}
    assert len(by_id) == 3
    assert {r["original_patient_id"] for r in by_id.values()} >= {"Q1", "Q4"}
    (failed,) = [f for f in outcome.findings if f.id == "not-predicted"]
    assert by_id[failed.case]["study_uid"] == exam.uid("study")
    assert set(by_id[failed.case]["original_patient_id"].split("; ")) == {"Q2", "Q3"}


def test_a_file_that_is_no_mapping_is_not_written_over(predicted, toy_run, tmp_path):
    place, *_ = predicted
    options = PredictOptions(formats=("json",), key=place / "key")
    own = tmp_path / "out-mapping.csv"
    own.write_text("patient_id,label\n1,hcc\n")
    with pytest.raises(UserError, match=r"would be overwritten; move it away, or give another folder"):
        predict(toy_run.path, place / "export", tmp_path / "out", options)
    assert own.read_text() == "patient_id,label\n1,hcc\n"
    assert not (tmp_path / "out").exists()


def test_another_key_does_not_put_a_study_there_twice(predicted, toy_run, thick_toy, toy_scanner, tmp_path):
    place, *_ = predicted
    shutil.copytree(place / "export", tmp_path / "in" / "a")
    toy_scanner(thick_toy(35), tmp_path / "in" / "b", "Q5", "five")
    out = tmp_path / "out"
    predict(toy_run.path, tmp_path / "in", out, PredictOptions(formats=("json",), key=place / "key"))
    before = {path.name for path in out.iterdir()}
    with pytest.raises(UserError, match=r"the key of the pseudonyms is another one.*--key"):
        predict(toy_run.path, tmp_path / "in", out, PredictOptions(formats=("json",), key=tmp_path / "new"))
    assert {path.name for path in out.iterdir()} == before


def test_the_key_is_not_made_among_results_that_are_given_away(predicted, toy_run, tmp_path):
    place = predicted[0]
    out = tmp_path / "out"
    with pytest.raises(UserError, match="lies inside"):
        predict(toy_run.path, place / "export", out, PredictOptions(formats=("json",), key=out / "key"))
    mask = place / "out" / "mask.nii.gz"
    with pytest.raises(UserError, match="lies inside"):
        revise(place / "out", mask, place / "export", toy_run.path, out, ReviseOptions(key=out / "key"))
    assert not out.exists()


def test_an_unforeseen_error_is_told_without_identity(predicted, toy_run, tmp_path, monkeypatch):
    place, _, exam, _ = predicted

    def failing(self, study):
        raise RuntimeError(
            f"{exam.patient_id} of Virtual^Patient in {place / 'export'}/Miller.dcm and 'a b/Miller': 7 of 9 rows"
        )

    monkeypatch.setattr(Predictor, "explain", failing)
    options = PredictOptions(formats=("json",), key=place / "key")

    def cut_in_the_name(self, study):
        raise RuntimeError(f"{'x ' * 148}{exam.patient_id} {'y ' * 50}")

    (failed,) = predict(toy_run.path, place / "export", tmp_path / "out", options).findings
    stored = (tmp_path / "out" / "audit.jsonl").read_text()
    for text in (failed.meaning, stored):
        assert "RuntimeError: patient-" in text
        assert "7 of 9 rows" in text
        for secret in (exam.patient_id, "Virtual", "Miller"):
            assert secret not in text
    monkeypatch.setattr(Predictor, "explain", cut_in_the_name)
    (failed,) = predict(toy_run.path, place / "export", tmp_path / "long", options).findings
    assert len(failed.meaning) < 400
    assert not any(exam.patient_id[:n] in failed.meaning for n in range(4, len(exam.patient_id) + 1))


def test_of_a_cohorts_study_with_its_dicom_files_the_type_of_an_error_alone_is_told():
    """Its words may come from the files, and nothing here knows which of them are a name."""
    study = Study("s0", {})
    said = "ValueError: bad value of PatientName: Doe^John in /pacs/Doe/1.dcm"
    assert without_identity(NiftiJob(study, Origin({})), said) == "ValueError"
    assert without_identity(NiftiJob(study), said) == said


def test_a_single_study_with_another_key_is_told_of_the_key(predicted, toy_run, tmp_path):
    place, *_ = predicted
    out, words = tmp_path / "out", (toy_run.path, place / "export", tmp_path / "out")
    predict(*words, PredictOptions(formats=("nifti", "json"), key=place / "key"))
    # nothing but the id tells that it is another study
    (tmp_path / "out-mapping.csv").unlink()
    for change in (
        lambda: predict(*words, PredictOptions(formats=("json",), key=tmp_path / "new")),
        lambda: revise(
            *(out, out / "mask.nii.gz", place / "export", toy_run.path, tmp_path / "revised"),
            ReviseOptions(key=tmp_path / "new"),
        ),
        lambda: predict(
            *(toy_run.path, place / "export", tmp_path / "now"),
            PredictOptions(prior=PriorPaths(out, place / "export"), key=tmp_path / "new"),
        ),
    ):
        with pytest.raises(UserError, match=r"give the key file of before with --key"):
            change()


def test_without_dicom_files_the_audit_holds_no_uid(predicted, toy_run, tmp_path):
    place, *_ = predicted
    options = PredictOptions(formats=("json",), key=place / "key")
    outcome = predict(toy_run.path, place / "export", tmp_path / "out", options)
    line = json.loads((tmp_path / "out" / "audit.jsonl").read_text())
    assert "instance_uids" not in line
    assert outcome.results[0].study_id == line["study_id"]
    assert line["study_id"].startswith("study-")


def children():
    """Processes that this one started."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def target(descriptor):
    """What an open file descriptor is of; one that was closed meanwhile is of nothing."""
    try:
        return descriptor.readlink()
    except OSError:
        return ""


def test_a_zip_gives_the_same(predicted, toy_run, tmp_path):
    place, _, _, outcome = predicted
    archive = shutil.make_archive(str(tmp_path / "export"), "zip", place / "export")
    options = PredictOptions(formats=("nifti", "json"), key=place / "key")
    zipped = predict(toy_run.path, Path(archive), tmp_path / "out", options)
    assert zipped.results[0].lesions == outcome.results[0].lesions
    assert zipped.results[0].study_id == outcome.results[0].study_id
    if sys.platform == "linux":  # a service deletes what was uploaded, and its disk space must be free then
        tree = [Path("/proc/self"), *(Path(f"/proc/{p}") for p in children())]
        assert not [
            fd for place in tree for fd in (place / "fd").iterdir() if "export.zip" in str(target(fd))
        ]


def test_the_table_has_every_quantity_with_its_unit(predicted):
    place, _, _, outcome = predicted
    with (place / "out" / "measurements.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    first = outcome.results[0].lesions[0]
    own = {(r["quantity"], r["phase"]): r for r in rows if r["lesion"] == str(first.number)}
    assert float(own["volume", ""]["value"]) == pytest.approx(first.volume_mm3 / 1000)
    assert own["volume", ""]["unit"] == "mL"
    assert {phase for name, phase in own if name == "signal"} == set(PHASES)
    assert {own[name, "pre"]["unit"] for name in ("signal", "predicted_signal")} == {"[arb'U]"}
    assert own["class", ""]["finding"] == first.label


def test_no_cell_of_the_table_is_computed_by_a_spreadsheet(predicted, tmp_path):
    *_, outcome = predicted
    write_table(tmp_path / "table.csv", [replace(outcome.results[0], study_id='=HYPERLINK("http://x","x")')])
    with (tmp_path / "table.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {row["study_id"] for row in rows} == {'\'=HYPERLINK("http://x","x")'}
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


def test_the_report_follows_a_segmentation_that_is_written_again(predicted, toy_run, tmp_path):
    place, *_ = predicted

    def made(*formats):
        predict(toy_run.path, place / "export", tmp_path / "out", PredictOptions(formats, key=place / "key"))
        return [pydicom.dcmread(tmp_path / "out" / name) for name in ("segmentation.dcm", "report.dcm")]

    first, _ = made("dicom-seg", "dicom-sr")
    seg, report = made("csv", "dicom-seg")
    assert seg.SOPInstanceUID != first.SOPInstanceUID
    assert str(seg.SOPInstanceUID) in str(report)
    assert str(first.SOPInstanceUID) not in str(report)
    assert [s.TrackingUID for s in seg.SegmentSequence] == [s.TrackingUID for s in first.SegmentSequence]


def test_phases_can_be_overruled_by_series(predicted, toy_run, tmp_path):
    place, *_ = predicted
    told = parse_phase_names("pre=5,arterial=6,portal_venous=7,delayed=")
    options = PredictOptions(formats=("json",), phase_names=told, key=place / "key")
    outcome = predict(toy_run.path, place / "export", tmp_path / "out", options)
    assert outcome.results[0].phases == ("pre", "arterial", "portal_venous")
    told_of = {phase: (s.series, s.confidence) for phase, s in outcome.results[0].sources.items()}
    assert told_of == {"pre": ("5", 1.0), "arterial": ("6", 1.0), "portal_venous": ("7", 1.0)}
    wrong = PredictOptions(formats=("json",), phase_names={"pre": "99"}, key=place / "key")
    failed = predict(toy_run.path, place / "export", tmp_path / "wrong", wrong)
    assert failed.results == ()
    assert "0 series have number 99" in failed.findings[-1].meaning


@pytest.mark.parametrize("text", ["pre", "preo=4", "pre=4,pre=5"])
def test_phase_names_that_are_none_are_refused(text):
    with pytest.raises(UserError, match="--phase-names"):
        parse_phase_names(text)


def test_a_result_is_saved_with_the_images_that_it_is_of(predicted, tmp_path):
    place, *_, outcome = predicted
    (result,) = outcome.results
    mtinet.save(
        result, tmp_path / "saved", formats=("json", "dicom-seg", "dicom-sr"), images=place / "export"
    )
    seg = pydicom.dcmread(tmp_path / "saved" / "segmentation.dcm")
    before = pydicom.dcmread(place / "out" / "segmentation.dcm")
    assert seg.PixelData == before.PixelData
    with pytest.raises(UserError, match="refer to DICOM images"):
        mtinet.save(result, tmp_path / "none", formats=("dicom-sr",))
    with pytest.raises(UserError, match="explain"):
        mtinet.save(result, tmp_path / "none", formats=("json", "page"))
    with pytest.raises(UserError, match="choose from"):
        mtinet.save(result, tmp_path / "none", formats=("jpeg",))
    assert not (tmp_path / "none").exists()


def test_a_deidentified_cohort_refers_to_its_images_by_the_mapping_file(predicted, toy_run, tmp_path):
    place, _, exam, _ = predicted
    made = ingest(place / "export", tmp_path / "cohort", IngestOptions(key=place / "key"), workers=1)
    options = PredictOptions(formats=("dicom-seg", "dicom-sr"))
    with pytest.raises(UserError, match="--mapping"):
        predict(toy_run.path, tmp_path / "cohort", tmp_path / "out", options)
    options = PredictOptions(formats=options.formats, images=place / "export", mapping=made.mapping)
    outcome = predict(toy_run.path, tmp_path / "cohort", tmp_path / "out", options)
    (study_id,) = [study.study_id for study in made.cohort.studies]
    assert [f for f in outcome.findings if f.severity == "error"] == []
    seg = pydicom.dcmread(tmp_path / "out" / study_id / "segmentation.dcm")
    assert seg.PatientID == exam.patient_id
    assert seg.PixelData == pydicom.dcmread(place / "out" / "segmentation.dcm").PixelData


def test_a_cohort_with_the_original_ids_needs_no_mapping_file(predicted, toy_run, tmp_path):
    place, _, exam, _ = predicted
    options = PredictOptions(formats=("dicom-seg",), images=place / "export")
    ingest(place / "export", tmp_path / "named", IngestOptions(key=place / "key"), workers=1)
    with pytest.raises(UserError, match=r"named are pseudonyms: give --mapping"):
        predict(toy_run.path, tmp_path / "named", tmp_path / "out", options)
    with pytest.raises(UserError, match="with --images"):
        predict(toy_run.path, tmp_path / "named", tmp_path / "out", PredictOptions(mapping=place / "key"))
    assert (
        ingest(place / "export", tmp_path / "kept", IngestOptions(keep_ids=True), workers=1).mapping is None
    )
    predict(toy_run.path, tmp_path / "kept", tmp_path / "out", options)
    seg = pydicom.dcmread(tmp_path / "out" / exam.uid("study") / "segmentation.dcm")
    assert seg.PatientID == exam.patient_id


@pytest.mark.slow
def test_the_page_goes_into_the_archive_as_well(predicted, toy_run, tmp_path, weasyprint):
    place, _, exam, _ = predicted
    options = PredictOptions(formats=("pdf",), key=place / "key")
    predict(toy_run.path, place / "export", tmp_path / "out", options)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"page.pdf", "page.dcm", "audit.jsonl"}
    page = pydicom.dcmread(tmp_path / "out" / "page.dcm")
    content = (tmp_path / "out" / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert page.EncapsulatedDocument[: page.EncapsulatedDocumentLength] == content
    assert page.PatientID == exam.patient_id
    assert exam.patient_id.encode() not in content
