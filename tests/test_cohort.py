import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mtinet.cohort import Cohort, CohortError, Study, read_with_findings, structural_findings

CSV = "study_id,patient_id,label,pre,portal_venous,mask,time_portal_venous_s\n"
YAML = "name: test\nclasses: [hcc, fnh]\nphases: [pre, portal_venous]\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("a0", "a1", "am", "b0", "b1", "bm"):
        (tmp_path / f"{name}.nii.gz").write_bytes(b"")
    (tmp_path / "cohort.yaml").write_text(YAML, encoding="utf-8")
    rows = "a,1,hcc,a0.nii.gz,a1.nii.gz,am.nii.gz,65\nb,2,fnh,b0.nii.gz,b1.nii.gz,bm.nii.gz,\n"
    (tmp_path / "cohort.csv").write_text(CSV + rows, encoding="utf-8")
    return tmp_path


def ids(folder):
    return {finding.id for finding in read_with_findings(folder)[1]}


def append(folder, row, name="cohort.csv"):
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write(row + "\n")


def test_a_cohort_survives_writing_and_reading(toy_cohort, tmp_path):
    again = Cohort.read(toy_cohort.folder)
    assert again == toy_cohort
    assert again.hash == toy_cohort.hash
    first = again.studies[0]
    assert first.times_s == {"arterial": 22.0, "portal_venous": 65.0, "delayed": 180.0}
    assert "arterial" not in again["s5"].images
    # written elsewhere, the paths still point to the files
    again.write(tmp_path / "tables")
    assert Cohort.read(tmp_path / "tables")["s0"].images["pre"].is_file()


def test_ids_and_classes_are_text(folder):
    text = YAML.replace("[hcc, fnh]", "[NO, 007]")
    (folder / "cohort.yaml").write_text(text, encoding="utf-8")
    (folder / "cohort.csv").write_text(CSV + "007,0010,NO,a0.nii.gz,a1.nii.gz,,\n", encoding="utf-8")
    cohort = Cohort.read(folder)
    assert cohort.classes == ("NO", "007")
    assert (cohort.studies[0].study_id, cohort.studies[0].patient_id) == ("007", "0010")
    assert cohort.studies[0].label == "NO"
    cohort.write(folder)
    assert Cohort.read(folder).studies == cohort.studies


def test_the_hash_follows_the_content_not_the_place_or_order(folder, tmp_path_factory):
    cohort = Cohort.read(folder)
    assert replace(cohort, studies=cohort.studies[::-1]).hash == cohort.hash
    elsewhere = shutil.copytree(folder, tmp_path_factory.mktemp("other") / "copy")
    assert Cohort.read(elsewhere).hash == cohort.hash
    relabelled = (replace(cohort.studies[0], label="fnh"), cohort.studies[1])
    assert replace(cohort, studies=relabelled).hash != cohort.hash
    (elsewhere / "am.nii.gz").write_bytes(b"another mask")
    assert Cohort.read(elsewhere).hash != cohort.hash


def test_a_cohort_in_order_has_notes_at_most(folder):
    _, findings = read_with_findings(folder)
    assert {finding.severity for finding in findings} <= {"note"}


@pytest.mark.parametrize(
    ("row", "finding"),
    [
        ("c,3,hcd,a0.nii.gz,,,", "unknown-class"),
        ("a,1,fnh,a0.nii.gz,a1.nii.gz,,", "two-labels"),
        ("a,1,hcc,a0.nii.gz,a1.nii.gz,,", "duplicate-study"),
        ("c,3,hcc,gone.nii.gz,,,", "missing-file"),
        ("c,3,hcc,am.nii.gz,am.nii.gz,,", "duplicate-phase"),
        ("c,3,hcc,a0.nii.gz,,,", "shared-file"),
        ("c,3,hcc,,,,", "no-images"),
        ("c,3,hcc,,am.nii.gz,,", "no-pre"),
        ("c,3,,am.nii.gz,,,", "no-label"),
        ("c,3,hcc,am.nii.gz,,,soon", "not-a-number"),
        (",3,hcc,am.nii.gz,,,", "empty-id"),
    ],
)
def test_what_is_wrong_with_a_row_is_found(folder, row, finding):
    before = ids(folder)
    append(folder, row)
    assert finding not in before
    assert finding in ids(folder)


def test_rows_of_one_study_do_not_accuse_each_other_of_sharing_files(folder):
    append(folder, "a,1,fnh,a0.nii.gz,a1.nii.gz,,")
    assert "shared-file" not in ids(folder)


@pytest.mark.parametrize(
    ("row", "finding"),
    [("x,1,hcc", "unknown-study"), ("a,one,hcc", "lesion-number"), ("a,1,fnh", "duplicate-lesion")],
)
def test_what_is_wrong_with_a_lesions_row_is_found(folder, row, finding):
    (folder / "lesions.csv").write_text("study_id,lesion,label\na,1,hcc\n", encoding="utf-8")
    assert finding not in ids(folder)
    append(folder, row, "lesions.csv")
    assert finding in ids(folder)
    cohort, _ = read_with_findings(folder)
    assert cohort.lesion_labels(cohort["a"])[1] in ("hcc", "fnh")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (("classes: [hcc, fnh]", "classes: []"), "no-classes"),
        (("phases: [pre, portal_venous]", "phases: [pre, portal]"), "unknown-phase"),
        (("phases: [pre, portal_venous]", "phases: [pre]"), "unlisted-phase"),
        (("name: test", "format: 99"), "newer-format"),
        (("name: test", "name: ["), "bad-description"),
        (("[hcc, fnh]", "[hcc, adenoma]"), "no-code"),
    ],
)
def test_what_is_wrong_with_the_description_is_found(folder, change, finding):
    assert finding not in ids(folder)
    (folder / "cohort.yaml").write_text(YAML.replace(*change), encoding="utf-8")
    assert finding in ids(folder)


def test_times_must_rise_with_the_phases():
    images = {"pre": Path("a"), "arterial": Path("b"), "delayed": Path("c")}
    study = Study("s", images, times_s={"arterial": 180.0, "delayed": 22.0})
    found = structural_findings(Cohort("c", (study,), ("hcc",)))
    assert "times-order" in {finding.id for finding in found}


def test_reading_lists_every_error_at_once(folder):
    append(folder, "c,3,hcd,gone.nii.gz,,,")
    with pytest.raises(CohortError) as caught:
        Cohort.read(folder)
    message = str(caught.value)
    assert "hcd" in message
    assert "gone.nii.gz" in message


def test_a_study_from_a_folder(toy, tmp_path):
    written = toy.write(tmp_path, "s9")
    study = Study.from_folder(tmp_path / "images" / "s9")
    assert study.study_id == "s9"
    assert study.images == written.images
    assert study.liver_mask == written.liver_mask
    assert study.reference_phase == "portal_venous"
    del study.images["portal_venous"]
    assert study.reference_phase == "delayed"
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match=r"holds no <phase>\.nii\.gz"):
        Study.from_folder(tmp_path / "empty")
    with pytest.raises(CohortError, match="not a folder"):
        Study.from_folder(tmp_path / "nowhere")


def test_lesion_labels_and_subset(folder):
    lesions = pd.DataFrame({"study_id": ["a", "b"], "lesion": ["1", "2"], "label": ["hcc", "fnh"]})
    cohort = replace(Cohort.read(folder), lesions=lesions)
    assert cohort.lesion_labels(cohort["b"]) == {2: "fnh"}
    assert [study.study_id for study in cohort.subset(["b"]).studies] == ["b"]
    with pytest.raises(KeyError, match="'z'"):
        cohort["z"]
