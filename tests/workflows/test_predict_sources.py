"""What a source holds, before anything is predicted."""

from __future__ import annotations

import pydicom
import pytest

from mtinet.dicom.deidentify import Pseudonyms
from mtinet.errors import UserError
from mtinet.workflows.predictions.dicom_jobs import DicomJob
from mtinet.workflows.predictions.nifti_jobs import FolderJob, NiftiJob
from mtinet.workflows.predictions.sources import open_source


def test_two_studies_of_a_patient_have_one_patient(tmp_path, thick_toy, toy_scanner):
    """A cohort that keeps both must not train on the one and score on the other."""
    for name in ("before", "now"):
        toy_scanner(thick_toy(61), tmp_path / "export" / name, "A1", name)
    toy_scanner(thick_toy(62), tmp_path / "export" / "other", "B1", "other")
    key = tmp_path / "key"
    jobs = open_source(tmp_path / "export", key=key).jobs
    patients = [job.read().study.patient_id for job in jobs]
    named = [Pseudonyms.open(key).patient(name) for name in ("A1", "B1")]
    assert sorted(patients) == sorted([named[0], named[0], named[1]])


def test_a_patient_without_id_is_known_by_the_study(tmp_path, thick_toy, toy_scanner):
    toy_scanner(thick_toy(61), tmp_path / "export")
    for path in (tmp_path / "export").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = ""
        dataset.save_as(path)
    (job,) = open_source(tmp_path / "export", key=tmp_path / "key").jobs
    assert isinstance(job, DicomJob)
    assert job.patient_id == job.study_id


def test_a_dicom_file_is_not_taken_for_the_nifti_file_of_that_name(tmp_path, thick_toy, toy_scanner):
    """Archives call files by bare numbers, as ``--phase-names`` calls series."""
    toy_scanner(thick_toy(61), tmp_path / "written")
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted((tmp_path / "written").rglob("*.dcm")), start=1):
        path.rename(flat / f"{number}")
    (job,) = open_source(flat, {"pre": "4"}, tmp_path / "key").jobs
    assert isinstance(job, DicomJob)


@pytest.mark.parametrize("name", ["late", "late.nii.gz"])
def test_a_nifti_file_is_named_with_or_without_its_suffix(tmp_path, toy, name):
    toy.images["delayed"].write_nifti(tmp_path / "study" / "late.nii.gz")
    (job,) = open_source(tmp_path / "study", {"delayed": name}).jobs
    assert isinstance(job, FolderJob)
    assert set(job.read().study.images) == {"delayed"}


def test_a_folder_with_other_names_of_phases_is_a_study(tmp_path, toy):
    for phase, name in {"arterial": "Arterial", "portal_venous": "portal", "delayed": "late 2"}.items():
        toy.images[phase].write_nifti(tmp_path / "study" / f"{name}.nii.gz")
    (job,) = open_source(tmp_path / "study").jobs
    study = job.read().study
    assert list(study.images) == ["arterial", "portal_venous"]
    assert [path.name for path in study.unused] == ["late 2.nii.gz"]
    # a file that is not used is said of the result, which is another one without it
    before = job.fingerprint()
    (tmp_path / "study" / "late 2.nii.gz").unlink()
    assert job.fingerprint() != before


def test_a_folder_of_names_that_tell_nothing_says_them_with_the_repair(tmp_path, toy):
    for name in ("1", "2"):
        toy.images["pre"].write_nifti(tmp_path / "study" / f"{name}.nii.gz")
    with pytest.raises(
        UserError, match=r"if one of 1\.nii\.gz, 2\.nii\.gz is a phase, say which with --phase-names"
    ):
        open_source(tmp_path / "study", key=tmp_path / "key")


def test_phases_that_the_user_names_leave_the_other_names_alone(tmp_path, toy):
    for phase, name in {"pre": "native", "delayed": "late 2"}.items():
        toy.images[phase].write_nifti(tmp_path / "study" / f"{name}.nii.gz")
    (job,) = open_source(tmp_path / "study", {"delayed": "late 2"}).jobs
    assert list(job.read().study.images) == ["pre", "delayed"]
    (job,) = open_source(tmp_path / "study", {"delayed": "late 2", "pre": ""}).jobs
    assert list(job.read().study.images) == ["delayed"]
    with pytest.raises(UserError, match=r"it holds late 2\.nii\.gz, native\.nii\.gz.*--phase-names"):
        open_source(tmp_path / "study", {"pre": ""}).jobs[0].read()


def test_studies_in_the_folder_of_a_study_are_named(tmp_path, toy):
    """One stray file must not hide a batch."""
    for folder in ("a", "b"):
        toy.images["delayed"].write_nifti(tmp_path / "many" / folder / "delayed.nii.gz")
    assert [job.study_id for job in open_source(tmp_path / "many").jobs] == ["a", "b"]
    toy.images["pre"].write_nifti(tmp_path / "many" / "pre.nii.gz")
    found = open_source(tmp_path / "many")
    assert [job.study_id for job in found.jobs] == ["many"]
    assert "folders a, b are not predicted" in found.findings[0].meaning


def test_what_is_known_of_a_study_of_a_cohort_is_handed_on(tmp_path, toy):
    study = toy.write(tmp_path, "s0")
    case = NiftiJob(study).read()
    assert case.study.times_s == study.times_s
    assert case.findings == ()


def test_a_source_that_does_not_exist_is_wrong_usage_and_an_empty_one_holds_nothing(tmp_path):
    with pytest.raises(UserError, match=r"nowhere does not exist; give the folder") as missing:
        open_source(tmp_path / "nowhere")
    assert missing.value.exit_code == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no study") as empty:
        open_source(tmp_path / "empty", key=tmp_path / "key")
    assert empty.value.exit_code == 3
