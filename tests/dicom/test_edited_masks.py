"""Masks as other programs save them, on the grid of the image that was edited."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from mtinet.dicom.edited_masks import read_edited
from mtinet.dicom.masks import MaskError
from mtinet.dicom.segment import write_lesions
from mtinet.dicom.write import write_exam
from mtinet.errors import UserError

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0] @ np.diag([2.1, 1.9, 3.3])


@pytest.fixture
def drawn(exam_maker, tmp_path):
    """An exam's reference image, a mask on it, and the mask as a DICOM segmentation."""
    exam = exam_maker("siemens", OBLIQUE, phases=("pre", "portal_venous"))
    written = write_exam(tmp_path / "exam", exam)
    grid = exam.images["portal_venous"]
    array = np.zeros(grid.shape, dtype=np.uint8)
    array[2:6, 3:9, 1:3], array[10:15, 12:15, 2:4] = 1, 2
    mask = grid.with_array(array)
    return grid, mask, write_lesions(tmp_path / "seg", exam, written["portal_venous"], mask, {})


def test_a_dicom_segmentation_lands_on_the_grid_without_its_images(drawn):
    grid, mask, path = drawn
    labels, findings = read_edited(path, grid)
    assert np.array_equal(labels.array, mask.array)
    assert findings == []


def test_lesions_keep_the_values_of_a_label_map(drawn, tmp_path):
    grid, mask, _ = drawn
    array = np.where(mask.array == 2, 255, 4 * mask.array)
    mask.with_array(array).write_nifti(tmp_path / "m.nii.gz")
    labels, findings = read_edited(tmp_path / "m.nii.gz", grid, after=7)
    assert np.array_equal(labels.array, array)
    assert findings == []


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (("Lesion 3", "Lesion 1"), (3, 1)),
        (("Segment_2", "segment 9"), (2, 9)),
        (("tumour", "Lesion 2"), (6, 2)),
        (("Lesion 8", "near segment 4"), (8, 9)),
        (("Lesion 2", "lesion 2"), (2, 6)),
        (("Lesion 300", "Lesion 0"), (6, 7)),
        (("Lesion 255", "new"), (255, 1)),
    ],
)
def test_lesions_keep_the_numbers_in_the_names_of_segments(drawn, tmp_path, names, numbers):
    """Of segments of other names none gets the number of a lesion that was there before (5 of them)."""
    grid, mask, path = drawn
    dataset = pydicom.dcmread(path)
    for segment, name in zip(dataset.SegmentSequence, names, strict=True):
        segment.SegmentLabel = name
    dataset.save_as(tmp_path / "named.dcm")
    labels, findings = read_edited(tmp_path / "named.dcm", grid, after=5)
    assert np.array_equal(labels.array, np.array([0, *numbers])[mask.array])
    told = " ".join(f.meaning for f in findings if f.id == "lesions-numbered")
    for name, number in zip(names, numbers, strict=True):
        assert (f"{name!r} is lesion {number}" in told) == (
            not name.endswith(f" {number}") and name != "Segment_2"
        )


def test_another_grid_and_other_files_are_refused(drawn, tmp_path):
    grid, mask, path = drawn
    with pytest.raises(MaskError):
        read_edited(path, mask.__class__(grid.array, grid.affine @ np.diag([1.1, 1.0, 1.0, 1.0])))
    (tmp_path / "notes.txt").write_text("no mask")
    with pytest.raises(MaskError, match="cannot be read as DICOM"):
        read_edited(tmp_path / "notes.txt", grid)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize(("value", "told"), [(np.nan, "NaN"), (-1.0, "negative numbers"), (0.5, "fractions")])
def test_a_value_that_is_no_lesion_number_is_refused_by_its_name(drawn, suffix, value, told, tmp_path):
    grid, mask, _ = drawn
    array = mask.array.astype(np.float32)
    array[0, 0, 0] = value
    path = tmp_path / f"mask{suffix}"
    if suffix == ".nrrd":
        sitk.WriteImage(sitk.GetImageFromArray(array.transpose(2, 1, 0)), str(path))
    else:
        grid.with_array(array).write_nifti(path)
    with pytest.raises(UserError, match=told):
        read_edited(path, grid)


def test_a_mask_of_four_axes_is_asked_for_as_one_label_map(drawn, tmp_path):
    path = tmp_path / "mask.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5, 6), np.uint8), isVector=False), str(path))
    with pytest.raises(UserError, match="save one label map"):
        read_edited(path, drawn[0])
