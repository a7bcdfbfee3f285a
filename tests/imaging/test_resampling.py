import itertools

import nibabel as nib
import numpy as np
import pytest

from mtinet.imaging import resampling
from mtinet.imaging.resampling import grid_with_spacing, overlap_fraction, resample, resample_labels
from mtinet.volume import Volume

ORIENTATIONS = [
    "".join(code)
    for letters in itertools.permutations(["RL", "AP", "SI"])
    for code in itertools.product(*letters)
]
AFFINE = np.array([[2.0, 0, 0, -20], [0, 2.5, 0, 5], [0, 0, 4.0, 30], [0, 0, 0, 1]])


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


def linear_field(shape, affine):
    """The world's x + 2y - 3z + 500: linear interpolation reproduces it wherever the axes run."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    return Volume((world @ [1.0, 2.0, -3.0] + 500).astype(np.float32), affine)


def reoriented(volume, code):
    wanted = nib.orientations.axcodes2ornt(tuple(code))
    transform = nib.orientations.ornt_transform(nib.io_orientation(volume.affine), wanted)
    array = nib.orientations.apply_orientation(volume.array, transform)
    return Volume(array, volume.affine @ nib.orientations.inv_ornt_aff(transform, volume.shape))


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_every_orientation_goes_there_and_back_exactly(code):
    rng = np.random.default_rng(0)
    plain = Volume(rng.normal(size=(7, 5, 4)).astype(np.float32), turned(20) @ AFFINE)
    labels = plain.with_array(rng.integers(0, 4, plain.shape).astype(np.int32))
    other = reoriented(plain, code)
    there = resample(plain, other.shape, other.affine)
    np.testing.assert_allclose(there.array, other.array, atol=1e-4)
    np.testing.assert_array_equal(
        resample_labels(labels, other.shape, other.affine).array, reoriented(labels, code).array
    )


@pytest.mark.parametrize("degrees", [0, 7, 30, 44])
def test_a_linear_field_survives_an_oblique_grid(degrees):
    source = linear_field((20, 20, 12), AFFINE)
    inner = turned(degrees) @ np.diag([1.5, 1.5, 3.0, 1.0])
    inner[:3, 3] = (AFFINE @ [8, 8, 5, 1])[:3]
    expected = linear_field((5, 4, 3), inner)
    out = resample(source, expected.shape, inner, fill=np.nan).array
    inside = np.isfinite(out)
    assert inside.any()
    np.testing.assert_allclose(out[inside], expected.array[inside], atol=2e-3)


def test_fill_marks_what_is_outside_and_half_a_voxel_belongs_to_the_field_of_view():
    source = Volume(np.ones((4, 4, 1), np.float32), np.eye(4))
    finer = np.diag([0.5, 0.5, 1.0, 1.0])
    finer[:2, 3] = -0.75
    out = resample(source, (10, 10, 1), finer, fill=np.nan).array[..., 0]
    assert np.isnan(out[[0, -1]]).all()
    assert np.isfinite(out[1:-1, 1:-1]).all()


def test_a_coarser_grid_averages_instead_of_picking():
    stripes = np.zeros((64, 8, 4), np.float32)
    stripes[::2] = 1.0
    coarse = np.diag([8.0, 1, 1, 1])
    coarse[0, 3] = 4.0
    out = resample(Volume(stripes, np.eye(4)), (7, 8, 4), coarse).array
    np.testing.assert_allclose(out[1:-1], 0.5, atol=0.02)


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_the_order_in_which_a_file_stores_its_axes_changes_no_coarser_image(order):
    noise = np.random.default_rng(0).random((16, 20, 12)).astype(np.float32)
    plain = Volume(noise, np.diag([1.0, 1.0, 2.0, 1.0]))
    stored = Volume(noise.transpose(order), plain.affine[:, [*order, 3]])
    labels = [v.with_array((v.array > 0.4).astype(np.int32)) for v in (plain, stored)]
    grid = grid_with_spacing(plain, (1.0, 3.0, 6.0))
    np.testing.assert_allclose(resample(stored, *grid).array, resample(plain, *grid).array, atol=1e-5)
    ours, theirs = (resample_labels(volume, *grid).array for volume in labels)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("spacing_mm", [(3.0, None, 7.0), (0.9, 0.5, 1.0)])
def test_other_voxels_fill_the_same_field_of_view(spacing_mm):
    plain = Volume(np.zeros((30, 20, 14), np.float32), turned(20) @ AFFINE)
    shape, affine = grid_with_spacing(plain, spacing_mm)
    other = Volume(np.zeros(shape, np.float32), affine)
    wanted = [own if asked is None else asked for own, asked in zip(plain.spacing_mm, spacing_mm)]
    np.testing.assert_allclose(other.spacing_mm, wanted)
    middles = [v.affine @ [*(np.array(v.shape) - 1) / 2, 1] for v in (plain, other)]
    np.testing.assert_allclose(*middles)
    extents = [np.array(v.shape) * v.spacing_mm for v in (plain, other)]
    assert (np.abs(extents[0] - extents[1]) <= np.array(wanted) / 2).all()


def test_labels_keep_their_place_and_volume():
    index = np.stack(np.meshgrid(*(np.arange(40),) * 3, indexing="ij"), -1)
    labels = np.zeros((40, 40, 40), np.int32)
    labels[np.linalg.norm(index - [12, 20, 20], axis=-1) < 8] = 3
    labels[np.linalg.norm(index - [28, 20, 20], axis=-1) < 6] = 7
    affine = turned(30) @ np.diag([1.7, 1.7, 2.2, 1.0])
    affine[:3, 3] = (np.eye(4) @ [20, 20, 20, 1])[:3] - affine[:3, :3] @ [11.5, 11.5, 8.5]
    out = resample_labels(Volume(labels, np.eye(4)), (24, 24, 18), affine)
    assert set(np.unique(out.array)) == {0, 3, 7}
    for number in (3, 7):
        volume = (out.array == number).sum() * out.voxel_mm3
        assert volume == pytest.approx((labels == number).sum(), rel=0.08)
        centre = (affine @ [*np.argwhere(out.array == number).mean(0), 1])[:3]
        np.testing.assert_allclose(centre, np.argwhere(labels == number).mean(0), atol=0.3)


def test_a_lesion_smaller_than_a_voxel_keeps_one():
    labels = np.zeros((30, 30, 10), np.int32)
    labels[14:16, 14:16, 5] = 1
    out = resample_labels(Volume(labels, np.eye(4)), (6, 6, 2), np.diag([5.0, 5, 5, 1]))
    assert out.array.sum() == 1


def test_lesions_smaller_than_a_voxel_do_not_take_each_others_last():
    labels = np.zeros((30, 30, 10), np.int32)
    labels[14:16, 14:16, 5] = 1
    labels[16:18, 14:17, 5] = 2
    labels[13:15, 11:13, 5] = 3
    out = resample_labels(Volume(labels, np.eye(4)), (6, 6, 2), np.diag([5.0, 5, 5, 1]))
    assert set(np.unique(out.array)) == {0, 1, 2, 3}


def test_slabs_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(1)
    source = Volume(rng.normal(size=(12, 11, 9)).astype(np.float32), AFFINE)
    labels = source.with_array((source.array > 0.5).astype(np.int32) * 2)
    target = turned(15) @ AFFINE
    whole = resample(source, (12, 11, 9), target).array
    whole_labels = resample_labels(labels, (12, 11, 9), target).array
    monkeypatch.setattr(resampling, "SLAB_VOXELS", 100)
    np.testing.assert_allclose(resample(source, (12, 11, 9), target).array, whole, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(resample_labels(labels, (12, 11, 9), target).array, whole_labels)


@pytest.mark.parametrize(("shift", "share"), [(0, 1.0), (10, 0.5), (25, 0.0)])
def test_overlap(shift, share):
    a = Volume(np.zeros((20, 20, 5), np.float32), np.eye(4))
    moved = np.eye(4)
    moved[0, 3] = shift
    assert overlap_fraction(a, Volume(a.array, moved)) == pytest.approx(share, abs=0.05)
