import shutil
from dataclasses import replace

import pandas as pd
import pytest

from mtinet.cohort import Cohort, CohortError


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


def test_a_study_that_names_no_agent_has_the_cohorts_and_leaves_its_cell_empty(toy_cohort, tmp_path):
    first, second, *others = toy_cohort.studies
    told = replace(
        toy_cohort, studies=(first, replace(second, agent="gadoxetate"), *others), agent="gadobutrol"
    )
    assert told["s0"].agent == "gadobutrol"
    assert told["s1"].agent == "gadoxetate"
    assert told.hash == toy_cohort.hash
    told.write(tmp_path / "tables")
    assert list(pd.read_csv(tmp_path / "tables" / "cohort.csv", keep_default_na=False)["agent"]) == [
        "",
        "gadoxetate",
        *[""] * len(others),
    ]
    assert Cohort.read(tmp_path / "tables").studies == told.studies


def test_a_folder_may_be_given_as_text(folder, tmp_path):
    cohort = Cohort.read(str(folder))
    cohort.write(str(tmp_path / "again"))
    assert Cohort.read(str(tmp_path / "again")).studies == cohort.studies


def test_ids_and_classes_are_text(folder, append, describe):
    describe("[hcc, fnh]", "[NO, 007, hcc, fnh]")
    append("007,0010,NO,am.nii.gz,bm.nii.gz,,")
    cohort = Cohort.read(folder)
    assert cohort.classes == ("NO", "007", "hcc", "fnh")
    assert (cohort.studies[2].study_id, cohort.studies[2].patient_id) == ("007", "0010")
    assert cohort.studies[2].label == "NO"
    cohort.write(folder)
    assert Cohort.read(folder).studies == cohort.studies


def test_blanks_around_cells_make_no_second_patient_class_or_path(folder, append):
    expected = Cohort.read(folder).studies
    table = folder / "cohort.csv"
    header, *rows = table.read_text(encoding="utf-8").splitlines()
    blank = [",".join(f" {cell}\t" for cell in row.split(",")) for row in rows]
    table.write_text("\n".join([header, *blank]) + "\n", encoding="utf-8")
    (folder / "lesions.csv").write_text("study_id,lesion,label\na , 1, hcc\n", encoding="utf-8")
    append("c,2 ,fnh,c0.nii.gz,,,")
    (folder / "c0.nii.gz").write_bytes(b"")
    cohort = Cohort.read(folder)
    assert cohort.studies[:2] == expected
    assert cohort.studies[2].patient_id == cohort.studies[1].patient_id
    assert cohort.lesion_labels(cohort.studies[0]) == {1: "hcc"}


def test_the_hash_follows_the_content_not_the_place_or_order(folder, tmp_path_factory):
    cohort = Cohort.read(folder)
    assert replace(cohort, studies=cohort.studies[::-1]).hash == cohort.hash
    elsewhere = shutil.copytree(folder, tmp_path_factory.mktemp("other") / "copy")
    assert Cohort.read(elsewhere).hash == cohort.hash
    relabelled = (replace(cohort.studies[0], label="fnh"), cohort.studies[1])
    assert replace(cohort, studies=relabelled).hash != cohort.hash
    (elsewhere / "am.nii.gz").write_bytes(b"another mask")
    assert Cohort.read(elsewhere).hash != cohort.hash


def test_reading_lists_every_error_at_once(folder, append):
    append("c,3,hcd,gone.nii.gz,,,")
    with pytest.raises(CohortError) as caught:
        Cohort.read(folder)
    message = str(caught.value)
    assert "hcd" in message
    assert "gone.nii.gz" in message


def test_lesion_labels_and_subset(folder):
    lesions = pd.DataFrame({"study_id": ["a", "b"], "lesion": ["1", "2"], "label": ["hcc", "fnh"]})
    cohort = replace(Cohort.read(folder), lesions=lesions)
    assert cohort.lesion_labels(cohort["b"]) == {2: "fnh"}
    assert [study.study_id for study in cohort.subset(["b"]).studies] == ["b"]
    assert cohort.subset(["b"]).lesions.to_dict("records") == [
        {"study_id": "b", "lesion": "2", "label": "fnh"}
    ]
    assert cohort.subset(["b", "a"]).lesions.equals(lesions)
    with pytest.raises(KeyError, match="'z'"):
        cohort["z"]


def test_patients_are_virtual_where_the_noise_free_signal_is_known(toy_cohort):
    assert not toy_cohort.virtual
    known = toy_cohort.lesions.assign(noise_free_arterial=1.0)
    assert replace(toy_cohort, lesions=known).virtual
