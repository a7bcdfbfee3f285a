from dataclasses import replace

import pandas as pd
import pytest

from mtinet.cohort import Cohort, Study
from mtinet.errors import UserError
from mtinet.workflows.imports.merge import merge_cohorts


@pytest.fixture
def make(tmp_path, write_image, write_mask):
    """A cohort of studies ``007`` and one of its own, at site ``NO``."""

    def cohort(name, label="hcc", phase="arterial", **given):
        folder = tmp_path / name.replace(" ", "_")
        studies = []
        for number, study_id in enumerate(("007", f"{name}1")):
            place = folder / "images" / study_id
            images = {
                p: write_image(place / f"{p}.nii.gz", number + len(name), 150 + 80 * (p != "pre"))
                for p in ("pre", phase)
            }
            mask = write_mask(place / "mask.nii.gz", [(1, (1, 4), (1, 4), (1, 3))])
            studies.append(
                Study(
                    study_id,
                    images,
                    patient_id="p" + study_id,
                    site="NO" if number else "",
                    label=label,
                    mask=mask,
                    mask_source="box" if number else "",
                )
            )
        lesions = pd.DataFrame(
            [{"study_id": s.study_id, "lesion": "1", "label": label, name: "x"} for s in studies]
        )
        classes = given.pop("classes", (label,))
        Cohort(name, tuple(studies), classes, phases=("pre", phase), lesions=lesions, **given).write(folder)
        return folder

    return cohort


def test_the_class_of_a_cohort_without_labels_does_not_become_one_of_the_merged(make, tmp_path, one):
    known, unknown = make("aa"), make("bbb", label="", classes=("lesion",))
    outcome = merge_cohorts([known, unknown], tmp_path / "out", options=one)
    assert outcome.cohort.classes == ("hcc",)
    # one that lesions have stays
    said = make("cccc", label="lesion")
    assert merge_cohorts([known, said], tmp_path / "both", options=one).cohort.classes == ("hcc", "lesion")
    nothing = make("ddddd", label="", classes=("lesion",))
    bare = merge_cohorts([unknown, nothing], tmp_path / "bare", options=one)
    assert bare.cohort.classes == ("lesion",)


def test_a_pseudonym_in_two_cohorts_is_one_patient(make, tmp_path, one, found):
    key, folders = "patient-0123456789abcdef", [make("aa"), make("bbb")]
    for folder in folders:
        table = folder / "cohort.csv"
        table.write_text(table.read_text().replace("p007", key))
    outcome = merge_cohorts(folders, tmp_path / "out", options=one)
    merged = Cohort.read(tmp_path / "out")
    assert [s.study_id for s in merged.studies if s.patient_id == key] == ["aa_007", "bbb_007"]
    assert "patients-in-common" in found(outcome)


def test_sites_patients_and_studies_stay_apart(make, tmp_path, one, no_errors, found):
    first = make("aa", agent="gadobutrol", licence="CC BY")
    second = make("bbb", label="fnh", phase="delayed", agent="gadoxetate")
    outcome = merge_cohorts([first, second], tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    merged = Cohort.read(tmp_path / "out")
    assert {s.study_id: (s.patient_id, s.site, s.agent) for s in merged.studies} == {
        "aa_007": ("aa_p007", "aa", "gadobutrol"),
        "aa1": ("paa1", "aa_NO", "gadobutrol"),
        "bbb_007": ("bbb_p007", "bbb", "gadoxetate"),
        "bbb1": ("pbbb1", "bbb_NO", "gadoxetate"),
    }
    assert (merged.classes, merged.phases) == (("hcc", "fnh"), ("pre", "arterial", "delayed"))
    assert merged.lesion_labels(merged["bbb_007"]) == {1: "fnh"}
    assert merged["aa1"].mask_source == "box"
    assert merged["aa1"].images["pre"] == first / "images" / "aa1" / "pre.nii.gz"
    assert merged.licence == "aa: CC BY"
    assert sum(f.id == "kept-apart" for f in outcome.findings) == 3


def test_a_merged_cohort_merges_again_and_copies(make, tmp_path, one, no_errors):
    merge_cohorts([make("aa"), make("bbb", "fnh")], tmp_path / "two", options=one)
    merge_cohorts([tmp_path / "two", make("c", "cyst")], tmp_path / "three", options=replace(one, copy=True))
    no_errors(tmp_path / "three")
    merged = Cohort.read(tmp_path / "three")
    assert len(merged) == 6
    assert all(path.is_relative_to(tmp_path / "three") for s in merged.studies for path in s.paths().values())


def test_an_id_that_carries_the_prefix_already_stays_itself(make, tmp_path, one, no_errors):
    first = make("aa")
    table = (first / "cohort.csv").read_text().replace("aa1,paa1", "bbb_007,paa1")
    (first / "cohort.csv").write_text(table)
    lesions = first / "lesions.csv"
    lesions.write_text(lesions.read_text().replace("aa1,", "bbb_007,"))
    merge_cohorts([first, make("bbb")], tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    assert len({s.study_id for s in Cohort.read(tmp_path / "out").studies}) == 4


@pytest.mark.parametrize(
    ("one_side", "other", "told"),
    [
        ({"label": "hcc"}, {"label": "HCC"}, "--class HCC=hcc"),
        ({"label": "x", "codes": {"x": "1"}}, {"label": "x", "codes": {"x": "2"}}, "SNOMED CT codes 1 and 2"),
    ],
)
def test_contradictions_are_refused_with_their_repair(make, tmp_path, one, one_side, other, told):
    with pytest.raises(UserError, match=told):
        merge_cohorts([make("aa", **one_side), make("bbb", **other)], tmp_path / "out", options=one)
    assert not (tmp_path / "out").exists()


def test_the_user_names_a_class(make, tmp_path, one, no_errors):
    merge_cohorts([make("aa"), make("bbb", "HCC")], tmp_path / "out", classes=["HCC=hcc"], options=one)
    no_errors(tmp_path / "out")
    merged = Cohort.read(tmp_path / "out")
    assert merged.classes == ("hcc",)
    assert set(merged.lesions["label"]) == {"hcc"}
    with pytest.raises(UserError, match="no cohort has this class"):
        merge_cohorts([make("aa"), make("c")], tmp_path / "other", classes=["HC=hcc"], options=one)


def test_the_same_cohort_twice_is_refused(make, tmp_path, one):
    folder = make("aa")
    with pytest.raises(UserError, match="name"):
        merge_cohorts([folder, folder], tmp_path / "out", options=one)
    other = tmp_path / "renamed"
    Cohort.read(folder).write(other)
    with pytest.raises(UserError, match="more than one study"):
        merge_cohorts([folder, other], tmp_path / "out", options=one)
