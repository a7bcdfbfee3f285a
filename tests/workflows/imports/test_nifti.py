import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from mtinet.cli import app
from mtinet.cohort import Cohort
from mtinet.errors import UserError
from mtinet.volume import read_nifti
from mtinet.workflows.check import check
from mtinet.workflows.imports.nifti import import_nifti

PATTERN = "{patient}/{phase}.nii.gz"


@pytest.fixture
def source(tmp_path, write_image, write_mask):
    """Patients 007 and NO with three phases each and masks; a T2 series beside them."""
    src = tmp_path / "src"
    for number, patient in enumerate(("007", "NO")):
        for level, phase in enumerate(("nativ", "art", "hbp", "T2")):
            write_image(src / patient / f"{phase}.nii.gz", number, 150 + 40 * level)
        # one value, two separate parts
        write_mask(
            src / patient / "seg" / "tumour.nii.gz",
            [(1, (1, 4), (1, 4), (1, 3)), (1, (8, 12), (6, 10), (2, 5))],
        )
    return src


def run(src, out, one, **options):
    given = {"phases": ["nativ=pre"], "mask_pattern": "{patient}/seg/tumour.nii.gz", **options}
    return import_nifti(src, out, given.pop("pattern", PATTERN), options=one, **given)


def test_files_become_a_cohort_that_points_to_them(source, tmp_path, one, no_errors, found, counts):
    before = sorted(source.rglob("*"))
    outcome = run(source, tmp_path / "out", one)
    assert sorted(source.rglob("*")) == before
    no_errors(tmp_path / "out")
    cohort = Cohort.read(tmp_path / "out")
    assert [s.study_id for s in cohort.studies] == ["007", "NO"]
    assert cohort.phases == ("pre", "arterial", "hepatobiliary")
    study = cohort["007"]
    assert study.images["arterial"] == source / "007" / "art.nii.gz"
    # separate parts have become separate lesions, the larger first
    numbers = read_nifti(study.mask, labels=True).array
    assert study.mask.is_relative_to(tmp_path / "out")
    assert numbers[9, 7, 3] == 1
    assert numbers[2, 2, 1] == 2
    assert "name-set-aside" in found(outcome)
    assert counts(outcome) == {"found": 2, "included": 2}


def test_a_linked_patient_is_imported(source, tmp_path, one):
    shutil.move(source / "NO", tmp_path / "elsewhere")
    (source / "NO").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    run(source, tmp_path / "out", one)
    studies = Cohort.read(tmp_path / "out").studies
    assert [(s.study_id, len(s.images), s.mask is not None) for s in studies] == [
        ("007", 3, True),
        ("NO", 3, True),
    ]


def test_hepatobiliary_is_stored_as_delayed_only_on_the_users_word(source, tmp_path, one):
    outcome = run(source, tmp_path / "out", one, phases=["nativ=pre", "hbp=delayed", "T2=ignore"])
    assert Cohort.read(tmp_path / "out").phases == ("pre", "arterial", "delayed")
    said = [f.meaning for f in outcome.findings if f.id == "phases"]
    assert "hbp = delayed" in said[0]
    assert not [f for f in outcome.findings if f.id == "name-set-aside"]


def test_labels_are_text_and_bring_what_the_images_do_not_say(source, tmp_path, one, no_errors, found):
    table = tmp_path / "labels.csv"
    table.write_text(
        "patient_id,label,site,time_arterial_s,field_T\n007,Hepatocellular_Carcinoma,1,20,3\n9,fnh,2,,\n"
    )
    outcome = run(source, tmp_path / "out", one, labels=table)
    no_errors(tmp_path / "out")
    study = Cohort.read(tmp_path / "out")["007"]
    assert (study.label, study.site, study.times_s, study.acquisition) == (
        "hcc",
        "1",
        {"arterial": 20.0},
        {"field_T": 3.0},
    )
    assert {"not-in-labels", "label-without-images"} <= found(outcome)


def test_what_of_a_table_is_not_used_is_named(source, tmp_path, one):
    table = tmp_path / "labels.csv"
    table.write_text("patient_id, diagnosis, label,mask\n 007 ,x,hcc,lesions.nii.gz\n")
    outcome = run(source, tmp_path / "out", one, labels=table)
    said = {f.id: f.meaning for f in outcome.findings}
    assert said["unknown-column"] == "column 'diagnosis' of labels.csv is not used"
    assert said["path-column"] == "the paths in labels.csv (mask) are not used"
    assert Cohort.read(tmp_path / "out")["007"].label == "hcc"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("patient_id,label\n1,hcc\n", "no patient_id of"),
        ("name,label\n007,hcc\n", "needs study_id or patient_id"),
        ("patient_id,label\n007,hcc\n007,fnh\n", "more than one row"),
        ("patient_id,label,field_T\n007,hcc,three\n", "field_T is 'three'"),
        ("", "not a CSV table"),
    ],
)
def test_a_wrong_table_is_refused_with_its_repair(source, tmp_path, one, text, told):
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=told):
        run(source, tmp_path / "out", one, labels=table)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pattern": "{patient}_{phase}.nii.gz"}, "007/T2.nii.gz"),
        ({"pattern": "{patient}/image.nii.gz"}, "{phase}"),
        ({"pattern": "{case}/{phase}.nii.gz"}, "{patient}, {study}, {site}, {phase}"),
        ({"phases": ["portal=portal_venous"]}, "found: T2, art, hbp, nativ"),
        ({"mask_pattern": "{patient}/mask.nii.gz"}, "no file of"),
        ({"mask_pattern": "*/seg/tumour.nii.gz"}, "fits several studies"),
        ({"mask_phase": "portal"}, "portal_venous"),
    ],
)
def test_a_wrong_pattern_lists_what_was_found(source, tmp_path, one, options, told):
    with pytest.raises(UserError) as error:
        run(source, tmp_path / "out", one, **options)
    assert told in str(error.value)


def test_no_name_is_a_phase(tmp_path, write_image, one):
    write_image(tmp_path / "src" / "a" / "x1.nii.gz")
    with pytest.raises(UserError, match="--phase x1=arterial"):
        import_nifti(tmp_path / "src", tmp_path / "out", PATTERN, options=one)


def test_one_patient_name_at_two_sites_is_two_patients(tmp_path, write_image, one, no_errors):
    for number, site in enumerate(("north", "south")):
        for phase in ("pre", "art"):
            write_image(
                tmp_path / "src" / site / "007" / f"{phase}.nii.gz", number, 100 + 99 * (phase == "art")
            )
    import_nifti(tmp_path / "src", tmp_path / "out", "{site}/{patient}/{phase}.nii.gz", options=one)
    no_errors(tmp_path / "out")
    cohort = Cohort.read(tmp_path / "out")
    assert {s.patient_id for s in cohort.studies} == {"north_007", "south_007"}
    assert {s.site for s in cohort.studies} == {"north", "south"}


def test_two_studies_of_a_patient_share_the_patient(tmp_path, write_image, one):
    for number, day in enumerate(("d1", "d2")):
        write_image(tmp_path / "src" / "7" / day / "pre.nii.gz", number)
    import_nifti(tmp_path / "src", tmp_path / "out", "{patient}/{study}/{phase}.nii.gz", options=one)
    studies = Cohort.read(tmp_path / "out").studies
    assert {(s.study_id, s.patient_id) for s in studies} == {("7_d1", "7"), ("7_d2", "7")}


def test_damaged_files_are_left_out_one_by_one(source, tmp_path, write_mask, one, no_errors, found, counts):
    (source / "007" / "art.nii.gz").write_bytes(b"not an image")
    for phase in ("nativ", "art", "hbp"):
        path = source / "NO" / f"{phase}.nii.gz"
        path.write_bytes(path.read_bytes()[:-200])
    moved = np.diag([2.0, 2.0, 4.0, 1.0])
    moved[0, 3] = 7.0
    write_mask(source / "007" / "seg" / "tumour.nii.gz", [(1, (1, 4), (1, 4), (1, 3))], affine=moved)
    outcome = run(source, tmp_path / "out", one)
    no_errors(tmp_path / "out")
    assert [s.study_id for s in outcome.cohort.studies] == ["007"]
    assert set(outcome.cohort["007"].images) == {"pre", "hepatobiliary"}
    assert outcome.cohort["007"].mask is None
    assert {"phase-left-out", "mask-left-out"} <= found(outcome)
    assert counts(outcome) == {"found": 2, "phases": 1, "included": 1}


def test_an_image_copied_to_two_phases_leaves_the_study_out(source, tmp_path, one, counts):
    (source / "NO" / "art.nii.gz").write_bytes((source / "NO" / "nativ.nii.gz").read_bytes())
    outcome = run(source, tmp_path / "out", one)
    assert [s.study_id for s in outcome.cohort.studies] == ["007"]
    assert counts(outcome) == {"found": 2, "check": 1, "included": 1}


def test_an_image_that_two_patients_share_is_told(source, tmp_path, one, counts):
    shutil.copy(source / "007" / "art.nii.gz", source / "NO" / "art.nii.gz")
    outcome = run(source, tmp_path / "out", one)
    assert counts(outcome) == {"found": 2, "included": 2}
    said = [f for f in outcome.findings if f.severity == "error"]
    assert [(f.id, f.case) for f in said] == [("copied-patient", "NO")]
    assert said == [f for f in check(tmp_path / "out", workers=0) if f.severity == "error"]
    words = ("import", "nifti", source, tmp_path / "told", "--pattern", PATTERN, "--phase", "nativ=pre")
    told = CliRunner().invoke(app, [str(word) for word in (*words, "--workers", 1)])
    assert told.exit_code == 1
    assert "the patients are NO and 007" in told.stdout


def test_copied_images_need_the_source_no_more(source, tmp_path, one, no_errors):
    run(source, tmp_path / "out", replace(one, copy=True))
    for path in source.rglob("*.nii.gz"):
        path.unlink()
    no_errors(tmp_path / "out")
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")
    no_errors(moved)


def test_a_folder_with_a_cohort_is_never_written_over(source, tmp_path, one):
    run(source, tmp_path / "out", one)
    with pytest.raises(UserError, match="already holds a cohort"):
        run(source, tmp_path / "out", one)


def test_a_mask_beside_the_images_is_no_phase(source, tmp_path, one, found):
    for patient in ("007", "NO"):
        (source / patient / "seg" / "tumour.nii.gz").rename(source / patient / "pv.nii.gz")
    options = {"phases": ["nativ=pre", "T2=ignore"], "mask_pattern": "{patient}/pv.nii.gz"}
    outcome = run(source, tmp_path / "out", one, **options)
    assert outcome.cohort.phases == ("pre", "arterial", "hepatobiliary")
    assert all(study.mask is not None for study in outcome.cohort.studies)
    assert "name-set-aside" not in found(outcome)
