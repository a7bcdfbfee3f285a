import numpy as np
import pytest

from mtinet.cohort import NO_LESION
from mtinet.imaging.checks import look_at
from mtinet.volume import Volume


@pytest.fixture
def findings_of(tmp_path):
    def run(toy, label="hcc", **keywords):
        study = toy.write(tmp_path, "s1", label)
        return {finding.id: finding for finding in look_at(study, **keywords).findings}

    return run


def changed_mask(toy, change):
    array = toy.mask.array.astype(np.int32)
    change(array)
    return type(toy)(toy.images, toy.mask.with_array(array.astype(np.uint16)), toy.liver)


def test_a_study_in_order_has_no_finding(toy, findings_of):
    assert findings_of(toy, lesion_labels={1: "hcc"}, classes=("hcc",)) == {}


def test_nan_and_constant(toy, findings_of):
    holed = toy.images["pre"].array.copy()
    holed[3, 4, 5] = np.nan
    toy = toy.with_phase("pre", toy.images["pre"].with_array(holed))
    flat = np.full_like(holed, 7.0)
    found = findings_of(toy.with_phase("delayed", toy.images["delayed"].with_array(flat)))
    assert found["not-finite"].value == 1
    assert "delayed" in found["constant-image"].meaning
    assert all(finding.severity == "error" for finding in found.values())


def test_a_voxel_size_in_another_unit_and_normalised_voxels(toy, findings_of):
    metres = toy.images["delayed"].affine @ np.diag([1000.0, 1000.0, 1000.0, 1.0])
    scored = toy.images["pre"].array - toy.images["pre"].array.mean()
    toy = toy.with_phase("delayed", Volume(toy.images["delayed"].array, metres))
    found = findings_of(toy.with_phase("pre", toy.images["pre"].with_array(scored)))
    assert found["unreadable"].meaning.endswith("no part of a body")
    assert found["unreadable"].action.startswith("Correct its voxel size (millimetres")
    assert found["below-zero"].meaning.endswith("mean little")
    assert found["below-zero"].value > found["below-zero"].threshold


@pytest.mark.parametrize(
    ("shift_mm", "finding", "severity"),
    [
        (0.3, None, None),
        (30, "two-grids", "note"),
        (200, "little-overlap", "warning"),
        (900, "no-overlap", "error"),
    ],
)
def test_a_phase_on_another_grid(toy, findings_of, shift_mm, finding, severity):
    phase = toy.images["delayed"]
    affine = phase.affine.copy()
    affine[0, 3] += shift_mm
    found = findings_of(toy.with_phase("delayed", Volume(phase.array, affine)))
    grid_findings = {id: f.severity for id, f in found.items() if id not in ("gain-change", "phase-order")}
    assert grid_findings == ({} if finding is None else {finding: severity})


@pytest.mark.parametrize(("off_voxels", "finding"), [(0.05, "mask-snapped"), (0.2, "mask-grid")])
def test_a_mask_off_its_grid(toy, findings_of, off_voxels, finding):
    affine = toy.mask.affine.copy()
    affine[0, 3] += off_voxels * 8.0
    found = findings_of(type(toy)(toy.images, Volume(toy.mask.array, affine), toy.liver))
    assert set(found) == {finding}
    assert found[finding].value == pytest.approx(off_voxels * 8.0, rel=1e-3)


def test_a_mask_of_another_shape(toy, findings_of):
    mask = Volume(toy.mask.array[:-1], toy.mask.affine)
    assert "another shape" in findings_of(type(toy)(toy.images, mask, toy.liver))["mask-grid"].meaning


def test_label_and_mask_must_agree(toy, findings_of):
    empty = changed_mask(toy, lambda array: array.fill(0))
    assert set(findings_of(empty)) == {"empty-mask"}
    assert set(findings_of(empty, label=NO_LESION)) == set()
    assert set(findings_of(toy, label=NO_LESION)) == {"mask-not-empty"}


def test_lesion_numbers(toy, findings_of):
    def renumber(number):
        return changed_mask(toy, lambda array: np.multiply(array, number, out=array))

    assert set(findings_of(renumber(3))) == {"mask-numbers"}
    assert set(findings_of(renumber(300))) == {"mask-values"}


def test_a_number_with_two_parts_is_noted(toy, findings_of):
    split = changed_mask(toy, lambda array: array.__setitem__((1, 1, 1), 1))
    assert findings_of(split)["lesion-parts"].value == 2


def test_rows_of_lesions_csv(toy, findings_of):
    found = findings_of(toy, lesion_labels={1: "hcc", 2: "hcc"}, classes=("hcc",))
    assert set(found) == {"unknown-lesion"}


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ({1: "fnh", 2: "hcc"}, {"dominant-label"}),
        ({1: "hcc", 2: "fnh"}, set()),
        ({1: "", 2: "fnh"}, set()),
        ({2: "fnh"}, set()),
        ({1: "no class of the cohort", 2: "fnh"}, set()),
    ],
)
def test_the_studys_label_is_that_of_its_largest_lesion(toy, findings_of, labels, found):
    two = changed_mask(toy, lambda array: array.__setitem__((1, 1, 1), 2))
    assert set(findings_of(two, "hcc", lesion_labels=labels, classes=("hcc", "fnh"))) == found
    assert set(findings_of(two, "", lesion_labels=labels, classes=("hcc", "fnh"))) == set()


def test_the_same_voxels_under_two_names(toy, findings_of):
    found = findings_of(toy.with_phase("delayed", toy.images["portal_venous"]))
    assert set(found) == {"duplicate-phase"}


def test_exchanged_files_are_suspected(toy, findings_of):
    swapped = toy.with_phase("pre", toy.images["portal_venous"])
    swapped = swapped.with_phase("portal_venous", toy.images["pre"])
    found = findings_of(swapped)
    assert found["phase-order"].severity == "warning"


def test_unreadable_files_are_listed_and_the_rest_is_still_looked_at(toy, tmp_path):
    empty = changed_mask(toy, lambda array: array.fill(0))
    study = empty.write(tmp_path, "s1")
    for name in ("pre", "arterial"):
        path = study.images[name]
        path.write_bytes(path.read_bytes()[:2000])
    ids = [finding.id for finding in look_at(study).findings]
    assert ids.count("unreadable") == 2
    assert "empty-mask" in ids


def test_what_cannot_be_read_is_told_with_one_repair_and_its_own(toy, findings_of):
    below = toy.mask.array.astype(np.int16)
    below[below == 1] = -1
    found = findings_of(type(toy)(toy.images, toy.mask.with_array(below), toy.liver))["unreadable"]
    assert found.meaning.endswith("is a mask with negative numbers (down to -1)")
    assert found.action == "Lesions are numbered 1, 2, ..., and 0 is background: correct them."
