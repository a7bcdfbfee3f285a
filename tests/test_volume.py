import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest

from mtinet.volume import Volume, VolumeError, grid_distance_mm, read_geometry, read_nifti, wrong_size

ORIENTATIONS = [
    "".join(code)
    for letters in itertools.permutations(["RL", "AP", "SI"])
    for code in itertools.product(*letters)
]


@pytest.fixture
def volume():
    angle = np.deg2rad(25)
    affine = np.diag([2.0, 3.0, 5.0, 1.0])
    affine[:2, :2] = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * (2.0, 3.0)
    affine[:3, 3] = (-20, 15, 100)
    return Volume(np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32), affine)


def oriented(volume, code):
    transform = nib.orientations.ornt_transform(
        nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(tuple(code))
    )
    array = nib.orientations.apply_orientation(volume.array, transform)
    return Volume(array, volume.affine @ nib.orientations.inv_ornt_aff(transform, volume.shape))


def world_values(volume):
    """Value by place in the world, whatever the order of the voxels."""
    index = np.argwhere(np.ones(volume.shape, bool))
    world = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    order = np.lexsort(np.round(world, 3).T)
    return np.round(world[order], 3), volume.array[tuple(index[order].T)]


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_orientations_hold_the_same_values_at_the_same_places(volume, code):
    turned = oriented(volume, code)
    assert "".join(nib.aff2axcodes(turned.canonical().affine)) == "RAS"
    back = turned.like_axes_of(volume.affine)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, atol=1e-9)
    for ours, theirs in zip(world_values(turned.canonical()), world_values(volume)):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_size_and_spacing(volume):
    assert volume.shape == (5, 4, 3)
    assert volume.spacing_mm == pytest.approx((2.0, 3.0, 5.0))
    assert volume.voxel_mm3 == pytest.approx(30.0)


def test_a_volume_has_three_axes():
    with pytest.raises(VolumeError, match="three axes, not 2"):
        Volume(np.zeros((3, 3)), np.eye(4))


def test_another_array_must_fit(volume):
    with pytest.raises(VolumeError, match="does not fit"):
        volume.with_array(np.zeros((1, 4, 3)))


def test_corner_distance_is_that_of_the_corner_furthest_off(volume):
    assert volume.corner_distance_mm(volume) == 0
    shifted = volume.affine.copy()
    shifted[2, 3] += 1.5
    assert volume.corner_distance_mm(Volume(volume.array, shifted)) == pytest.approx(1.5)
    wider = volume.affine.copy()
    wider[:3, 0] *= 1.1  # 0.2 mm a voxel, four voxels to the far corner
    assert grid_distance_mm(volume.shape, volume.affine, volume.shape, wider) == pytest.approx(0.8)
    assert volume.corner_distance_mm(Volume(volume.array[:-1], volume.affine)) == np.inf


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, np.bool_])
def test_nifti_round_trip(volume, tmp_path, suffix, dtype):
    stored = Volume((volume.array * 10 + 50).astype(dtype), volume.affine)
    stored.write_nifti(tmp_path / f"a{suffix}")
    read = read_nifti(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read.array, stored.array.astype(np.float32))
    np.testing.assert_allclose(read.affine, volume.affine, atol=1e-4)
    assert read.array.dtype == np.float32
    shape, affine = read_geometry(tmp_path / f"a{suffix}")
    assert shape == volume.shape
    np.testing.assert_array_equal(affine, read.affine)


def test_a_files_scaling_is_applied(volume, tmp_path):
    image = nib.Nifti1Image(np.full((3, 3, 3), 7, np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 1.0)
    nib.save(image, tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").array, np.asarray(stored.dataobj))


def test_labels_are_whole_numbers(volume, tmp_path):
    Volume(np.full((2, 2, 2), 3.0), np.eye(4)).write_nifti(tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii", labels=True).array.dtype == np.int32
    Volume(np.full((2, 2, 2), 0.5), np.eye(4)).write_nifti(tmp_path / "b.nii")
    with pytest.raises(VolumeError, match="fractions"):
        read_nifti(tmp_path / "b.nii", labels=True)


@pytest.mark.parametrize(
    ("value", "told"), [(np.nan, "1 voxels that are NaN"), (np.inf, "infinite"), (-1.0, r"down to -1")]
)
def test_a_mask_is_refused_for_what_is_wrong_with_it(value, told, tmp_path):
    array = np.zeros((2, 2, 2), np.float32)
    array[1, 0, 1] = value
    Volume(array, np.eye(4)).write_nifti(tmp_path / "mask.nii")
    with pytest.raises(VolumeError, match=told) as caught:
        read_nifti(tmp_path / "mask.nii", labels=True)
    assert "fraction" not in str(caught.value)


def test_a_mask_of_several_volumes_is_asked_for_as_one(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2, 3), np.uint8), np.eye(4)), tmp_path / "mask.nii")
    with pytest.raises(VolumeError, match="save one label map"):
        read_nifti(tmp_path / "mask.nii", labels=True)
    with pytest.raises(VolumeError, match="one 3-D file a phase"):
        read_nifti(tmp_path / "mask.nii")


def zeros(path, shape, dtype):
    """A file that states so many voxels, all zero, and takes a thousandth of their place."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"] = 352
    left = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with gzip.open(path, "wb") as file:
        file.write(header.binaryblock + b"\0" * 4)
        for start in range(0, left, 1 << 20):
            file.write(b"\0" * min(1 << 20, left - start))
    return path


def test_a_file_that_would_take_the_machine_is_refused_before_its_voxels(tmp_path, monkeypatch):
    swollen = zeros(tmp_path / "pre.nii.gz", (512, 512, 260), np.uint8)
    with monkeypatch.context() as patched:
        patched.setattr(np, "asanyarray", lambda *_: pytest.fail("its voxels were read"))
        with pytest.raises(VolumeError, match=r"512 x 512 x 260 voxels .* bytes, so no image.*resample"):
            read_nifti(swollen)
    # a mask without a lesion is as small, and so is one of the scanner's size
    assert not read_nifti(swollen, labels=True).array.any()

    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((1290, 1290, 1290))
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"] = 352
    slip = tmp_path / "mask.nii.gz"
    slip.write_bytes(gzip.compress(header.binaryblock + b"\0" * 4))
    for labels in (False, True):
        with pytest.raises(VolumeError, match=r"1290 x 1290 x 1290 voxels \(more than 512 Mi\)"):
            read_nifti(slip, labels=labels)


def test_an_image_that_compresses_well_is_read(tmp_path):
    """The background that an anonymiser or a crop set to zero compresses like nothing, what is in it does not."""
    array = np.zeros((256, 256, 280), np.float32)
    array[100:160, 100:160, 60:90] = np.random.default_rng(0).normal(300, 20, (60, 60, 30))
    Volume(array, np.eye(4)).write_nifti(tmp_path / "pre.nii.gz")
    assert read_nifti(tmp_path / "pre.nii.gz").array.max() > 300
    small = zeros(tmp_path / "arterial.nii.gz", (256, 256, 64), np.uint8)
    assert read_nifti(small).shape == (256, 256, 64)


def test_axes_of_length_one_are_tolerated(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 3, 1), np.float32), np.eye(4)), tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").shape == (4, 5, 3)
    nib.save(nib.Nifti1Image(np.zeros((4, 5), np.float32), np.eye(4)), tmp_path / "b.nii")
    assert read_nifti(tmp_path / "b.nii").shape == (4, 5, 1)


def four_phases(path):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 4), np.float32), np.eye(4)), path)


def sheared(path):
    affine = np.eye(4)
    affine[0, 1] = 0.3
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), affine)
    image.set_sform(affine, code=1)
    nib.save(image, path)


def truncated(path):
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(9, 9, 9)), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-700])


def text(path):
    with gzip.open(path, "wb") as file:
        file.write(b"not an image")


BAD_FILES = [
    (lambda path: None, "does not exist"),
    (four_phases, "split it"),
    (sheared, "sheared"),
    (truncated, "damaged"),
    (text, "cannot be read"),
]


@pytest.mark.parametrize(("write", "message"), BAD_FILES, ids=[m for _, m in BAD_FILES])
def test_a_bad_file_is_named_with_cause_and_repair(tmp_path, write, message):
    path = tmp_path / "bad.nii.gz"
    write(path)
    with pytest.raises(VolumeError, match=message) as caught:
        read_nifti(path)
    assert "bad.nii.gz" in str(caught.value)


def test_complex_voxels_are_refused(tmp_path):
    nib.Nifti1Image(np.ones((4, 4, 4), np.complex64), np.eye(4)).to_filename(tmp_path / "pre.nii.gz")
    with pytest.raises(VolumeError, match=r"pre\.nii\.gz holds complex numbers; export the magnitude"):
        read_nifti(tmp_path / "pre.nii.gz")


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [((320, 260, 72), (1.2, 1.2, 3.0)), ((40, 40, 20), (0.5, 0.5, 1.0)), ((512, 512, 700), (1.0, 1.0, 2.5))],
)
def test_livers_small_animals_and_whole_bodies_pass(shape, spacing_mm):
    assert wrong_size(shape, spacing_mm) == ""


@pytest.mark.parametrize("factor", [10.0, 1000.0, 0.001])
def test_a_voxel_size_in_another_unit_is_told_with_its_numbers(factor):
    told = wrong_size((320, 260, 72), (1.2 * factor, 1.2 * factor, 3.0 * factor))
    assert f"{1.2 * factor:.4g} x" in told
    assert "no part of a body" in told
