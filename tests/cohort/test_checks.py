from dataclasses import replace
from pathlib import Path

import pytest

from mtinet.cohort import Cohort, Study, read_with_findings, structural_findings


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
        (",3,hcc,am.nii.gz,,,", "empty-id"),
        ("..,3,hcc,am.nii.gz,,,", "unsafe-id"),
        (".hidden,3,hcc,am.nii.gz,,,", "unsafe-id"),
        ("/etc/c,3,hcc,am.nii.gz,,,", "unsafe-id"),
        ("a/../../c,3,hcc,am.nii.gz,,,", "unsafe-id"),
        ("a\\c,3,hcc,am.nii.gz,,,", "unsafe-id"),
    ],
)
def test_what_is_wrong_with_a_row_is_found(append, ids, row, finding):
    before = ids()
    append(row)
    assert finding not in before
    assert finding in ids()


def test_rows_of_one_study_do_not_accuse_each_other_of_sharing_files(append, ids):
    append("a,1,fnh,a0.nii.gz,a1.nii.gz,,")
    assert "shared-file" not in ids()


@pytest.mark.parametrize(
    ("row", "finding"),
    [
        *[("x,1,hcc", "unknown-study"), ("a,one,hcc", "lesion-number"), ("a,1,fnh", "duplicate-lesion")],
        ("b,1,HCC", "unknown-class"),
    ],
)
def test_what_is_wrong_with_a_lesions_row_is_found(folder, append, ids, row, finding):
    (folder / "lesions.csv").write_text("study_id,lesion,label\na,1,hcc\n", encoding="utf-8")
    assert finding not in ids()
    append(row, "lesions.csv")
    assert finding in ids()
    cohort, _ = read_with_findings(folder)
    assert cohort.lesion_labels(cohort["a"])[1] in ("hcc", "fnh")


def test_a_class_may_be_that_of_the_lesions_alone(folder, ids):
    table = folder / "cohort.csv"
    table.write_text(table.read_text().replace("1,hcc", "1,").replace("2,fnh", "2,"), encoding="utf-8")
    assert {"no-label", "one-class"} <= ids()
    (told,) = [f.meaning for f in read_with_findings(folder)[1] if f.id == "one-class"]
    assert told == "no study and no lesion is labelled with a class"
    (folder / "lesions.csv").write_text("study_id,lesion,label\na,1,hcc\nb,1,fnh\n", encoding="utf-8")
    assert not {"no-label", "one-class"} & ids()


def test_an_id_with_a_dot_or_a_space_inside_is_fine(append, ids):
    append("c.1 b,3,hcc,am.nii.gz,bm.nii.gz,,")
    assert "unsafe-id" not in ids()


def test_times_must_rise_with_the_phases():
    images = {"pre": Path("a"), "arterial": Path("b"), "delayed": Path("c")}
    study = Study("s", images, times_s={"arterial": 180.0, "delayed": 22.0})
    found = structural_findings(Cohort("c", (study,), ("hcc",)))
    assert "times-order" in {finding.id for finding in found}


def test_masks_that_no_reader_drew_are_said_once(folder, ids):
    table = folder / "cohort.csv"
    header, a, b = table.read_text().splitlines()
    table.write_text(f"{header},mask_source\n{a},box\n{b},program\n")
    assert {"box-mask", "program-mask"} <= ids()
    table.write_text(f"{header},mask_source\n{a},reader\n{b},\n")
    assert not {"box-mask", "program-mask", "mask-source"} & ids()
    table.write_text(f"{header},mask_source\n{a},drawn\n{b},\n")
    assert "mask-source" in ids()


def test_a_site_has_no_name_that_tables_call_all_sites_by(folder):
    cohort, _ = read_with_findings(folder)
    named = [
        replace(study, site=site) for study, site in zip(cohort.studies, ("all", "All sites"), strict=False)
    ]
    told = [
        f.case for f in structural_findings(replace(cohort, studies=tuple(named))) if f.id == "reserved-site"
    ]
    assert told == [named[0].study_id]
