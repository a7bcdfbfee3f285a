"""Masks as other programs save them, on the grid of the image that was edited."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.dicom.edited_masks import read_edited
from mtinet.dicom.masks import MaskError
from mtinet.dicom.segment import write_lesions
from mtinet.dicom.write import write_exam

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


def test_numbers_become_consecutive_in_their_order(drawn, tmp_path):
    grid, mask, _ = drawn
    mask.with_array(np.where(mask.array == 2, 9, 4 * mask.array)).write_nifti(tmp_path / "m.nii.gz")
    labels, _ = read_edited(tmp_path / "m.nii.gz", grid)
    assert np.array_equal(labels.array, mask.array)


def test_another_grid_and_other_files_are_refused(drawn, tmp_path):
    grid, mask, path = drawn
    with pytest.raises(MaskError):
        read_edited(path, mask.__class__(grid.array, grid.affine @ np.diag([1.1, 1.0, 1.0, 1.0])))
    (tmp_path / "notes.txt").write_text("no mask")
    with pytest.raises(MaskError, match="cannot be read as DICOM"):
        read_edited(tmp_path / "notes.txt", grid)
