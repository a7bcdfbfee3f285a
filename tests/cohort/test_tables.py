import pytest


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
def test_what_is_wrong_with_the_description_is_found(describe, ids, change, finding):
    assert finding not in ids()
    describe(*change)
    assert finding in ids()


def test_a_cell_that_is_not_a_number_is_found(append, ids):
    assert "not-a-number" not in ids()
    append("c,3,hcc,am.nii.gz,,,soon")
    assert "not-a-number" in ids()
