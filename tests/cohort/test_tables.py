import pytest

from mtinet.cohort import Cohort, CohortError, read_with_findings


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (("classes: [hcc, fnh]", "classes: []"), "no-classes"),
        (("classes: [hcc, fnh]", "classes: [none, hcc, fnh]"), "none-is-no-class"),
        (("phases: [pre, portal_venous]", "phases: [pre, portal]"), "unknown-phase"),
        (("phases: [pre, portal_venous]", "phases: [pre]"), "unlisted-phase"),
        (("phases: [pre, portal_venous]", "phases: [pre, portal_venous, pre]"), "repeated-phase"),
        (("name: test", "format: 99"), "newer-format"),
        (("name: test", "name: ["), "bad-description"),
        (("[hcc, fnh]", "[hcc, adenoma]"), "no-code"),
    ],
)
def test_what_is_wrong_with_the_description_is_found(describe, ids, change, finding):
    assert finding not in ids()
    describe(*change)
    assert finding in ids()


def test_the_class_of_a_cohort_without_classes_needs_no_code(describe, folder):
    describe("classes: [hcc, fnh]", "classes: [lesion]")
    assert "no-code" not in {f.id for f in read_with_findings(folder)[1]}
    describe("classes: [hcc, fnh]", "classes: [lesion, hcc]")
    (told,) = [f for f in read_with_findings(folder)[1] if f.id == "no-code"]
    assert "class 'lesion' of cohort.yaml" in told.meaning


@pytest.mark.parametrize("name", ["cohort.csv", "lesions.csv"])
def test_two_columns_of_one_name_are_found(folder, name):
    (folder / "lesions.csv").write_text("study_id,lesion,label\na,1,hcc\n", encoding="utf-8")
    Cohort.read(folder)
    header, *rows = (folder / name).read_text(encoding="utf-8").splitlines()
    doubled = [f"{header},label", *(f"{row},fnh" for row in rows)]
    (folder / name).write_text("\n".join(doubled), encoding="utf-8-sig")
    found = {f.id: f for f in read_with_findings(folder)[1]}
    assert found["duplicate-column"].severity == "error"
    assert "'label'" in found["duplicate-column"].meaning
    with pytest.raises(CohortError, match=f"{name} has 2 columns named 'label'"):
        Cohort.read(folder)


def test_a_cell_that_is_not_a_number_is_found(append, ids):
    assert "not-a-number" not in ids()
    append("c,3,hcc,am.nii.gz,,,soon")
    assert "not-a-number" in ids()
