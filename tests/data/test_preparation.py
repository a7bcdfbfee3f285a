import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from mtinet.cohort import Study
from mtinet.config import DEFAULT_PHASES, PreparationSettings
from mtinet.data.cache import study_content
from mtinet.data.preparation import PreparationError, prepare_for_prediction, prepare_study, prepared_grid
from mtinet.data.prepared import to_source_grid
from mtinet.imaging.deformation import Deformation
from mtinet.imaging.motion import Motion
from mtinet.imaging.registration import Registration
from mtinet.imaging.resampling import resample
from mtinet.volume import Volume

OWN = PreparationSettings(spacing_mm=(None, None, None))
COARSE = PreparationSettings(spacing_mm=(12.0, 12.0, None))
ORIENTATIONS = [
    "".join(code)
    for letters in itertools.permutations(["RL", "AP", "SI"])
    for code in itertools.product(*letters)
]


def oriented(volume, code, oblique_deg=0.0):
    wanted = nib.orientations.axcodes2ornt(tuple(code))
    transform = nib.orientations.ornt_transform(nib.io_orientation(volume.affine), wanted)
    array = nib.orientations.apply_orientation(volume.array, transform)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(transform, volume.shape)
    angle = np.deg2rad(oblique_deg)
    turn = np.eye(4)
    turn[:3, :3] = [
        [np.cos(angle), -np.sin(angle), 0],
        [np.sin(angle), np.cos(angle), 0],
        [0, 0, 1],
    ]
    tilt = np.eye(4)
    tilt[1:3, 1:3] = turn[:2, :2]
    return Volume(np.ascontiguousarray(array), turn @ tilt @ affine)


def reoriented_toy(toy, code, oblique_deg=0.0):
    images = {phase: oriented(v, code, oblique_deg) for phase, v in toy.images.items()}
    masks = (oriented(v, code, oblique_deg) for v in (toy.mask, toy.liver))
    return type(toy)(images, *masks)


# ---------------------------------------------------------------------- grid
@pytest.mark.parametrize("oblique_deg", [0.0, 18.0])
@pytest.mark.parametrize("code", ORIENTATIONS)
def test_every_orientation_prepares_alike_and_goes_back_to_its_place(toy_maker, tmp_path, code, oblique_deg):
    toy = toy_maker(shape=(20, 16, 6), spacing_mm=(16.0, 16.0, 14.0), noise=0.0)
    plain = prepare_study(
        reoriented_toy(toy, "RAS", oblique_deg).write(tmp_path / "plain", "s"),
        DEFAULT_PHASES,
        OWN,
        tmp_path / "c",
    )
    stored = reoriented_toy(toy, code, oblique_deg)
    prepared = prepare_study(stored.write(tmp_path / "turned", "s"), DEFAULT_PHASES, OWN, tmp_path / "c")
    np.testing.assert_allclose(prepared.affine, plain.affine, atol=1e-3)
    np.testing.assert_allclose(prepared.image, plain.image, atol=1e-4)
    np.testing.assert_array_equal(prepared.mask, plain.mask)
    back = to_source_grid(prepared.mask, prepared)
    np.testing.assert_allclose(back, stored.mask.array, atol=1e-3)


def test_another_spacing_keeps_the_field_of_view_and_the_lesions_place(toy_maker, tmp_path):
    toy = reoriented_toy(toy_maker(noise=0.0), "LPS", 12.0)
    settings = PreparationSettings(spacing_mm=(5.0, 6.0, None))
    prepared = prepare_study(toy.write(tmp_path, "s"), DEFAULT_PHASES, settings, tmp_path / "c")
    assert prepared.spacing_mm == pytest.approx((10.0, 6.0, 5.0))
    size = np.array(prepared.shape) * prepared.spacing_mm
    np.testing.assert_allclose(size, np.array([8, 32, 40]) * (10.0, 8.0, 8.0), atol=6.0)
    back = to_source_grid(prepared.mask, prepared) >= 0.5
    truth = toy.mask.array > 0
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.9
    centre = prepared.affine @ np.append(np.argwhere(prepared.mask.T).mean(0), 1)
    expected = toy.mask.affine @ np.append(np.argwhere(truth).mean(0), 1)
    np.testing.assert_allclose(centre, expected, atol=1.0)


def test_a_spacing_within_a_hundredth_interpolates_nothing(toy):
    reference = toy.images["portal_venous"]
    grid = prepared_grid(reference, (8.02, 7.97, None))
    np.testing.assert_array_equal(grid.affine, reference.affine)
    assert grid.shape == reference.shape


def test_a_map_of_another_shape_is_refused(toy, tmp_path):
    prepared = prepare_for_prediction(toy.write(tmp_path, "s"), DEFAULT_PHASES, COARSE)
    with pytest.raises(ValueError, match="s: a map of shape"):
        to_source_grid(np.zeros((2, 2, 2)), prepared)


# ---------------------------------------------------------------------- values
@pytest.mark.parametrize("settings", [OWN, COARSE])
def test_the_truth_is_the_mean_under_the_mask_in_normalised_units(toy, tmp_path, settings):
    prepared = prepare_study(toy.write(tmp_path, "s"), DEFAULT_PHASES, settings, tmp_path / "c")
    (lesion,) = prepared.lesions
    assert lesion.label == "hcc"
    for index, phase in enumerate(DEFAULT_PHASES):
        mean = prepared.image[index][prepared.mask == 1].mean()
        assert lesion.enhancement[phase] == pytest.approx(mean, rel=1e-5)
        raw = toy.images[phase].array[toy.mask.array > 0].mean()
        assert mean * prepared.gain == pytest.approx(raw, rel=1e-3 if settings is OWN else 0.1)
    assert lesion.voxels == (prepared.mask == 1).sum()
    inside_box = np.zeros(prepared.shape, bool)
    inside_box[lesion.slices] = True
    assert inside_box[prepared.mask == 1].all()


def test_the_scanners_gain_does_not_change_the_prepared_study(toy_maker, tmp_path):
    quiet = prepare_for_prediction(toy_maker(gain=1.0).write(tmp_path / "a", "s"), DEFAULT_PHASES, COARSE)
    loud = prepare_for_prediction(toy_maker(gain=31.0).write(tmp_path / "b", "s"), DEFAULT_PHASES, COARSE)
    assert loud.gain == pytest.approx(31 * quiet.gain, rel=1e-4)
    np.testing.assert_allclose(loud.image, quiet.image, atol=1e-4)


def test_a_missing_phase_is_marked_and_zero(toy, tmp_path):
    study = toy.write(tmp_path, "s")
    del study.images["arterial"]
    prepared = prepare_study(study, DEFAULT_PHASES, COARSE, tmp_path / "c")
    assert prepared.present == (True, False, True, True)
    assert not prepared.image[1].any()
    assert "arterial" not in prepared.lesions[0].enhancement
    assert np.isnan(prepared.times_s[0])
    assert prepared.times_s[2] == 65.0


def test_a_phase_that_does_not_cover_the_lesion_gives_it_no_truth(toy, tmp_path):
    phase = toy.images["delayed"]
    half = Volume(phase.array[:, :, :3], phase.affine)
    prepared = prepare_study(
        toy.with_phase("delayed", half).write(tmp_path, "s"), DEFAULT_PHASES, COARSE, tmp_path / "c"
    )
    assert set(prepared.lesions[0].enhancement) == {"pre", "arterial", "portal_venous"}
    assert np.isfinite(prepared.image).all()


def test_lesions_run_from_the_largest_and_take_their_own_labels(toy, tmp_path):
    mask = toy.mask.array.copy()
    mask[mask == 1] = 2
    mask[30:32, 16:18, 4] = 1
    study = type(toy)(toy.images, toy.mask.with_array(mask), toy.liver).write(tmp_path, "s", "hcc")
    prepared = prepare_study(study, DEFAULT_PHASES, OWN, tmp_path / "c")
    assert [(lesion.number, lesion.label) for lesion in prepared.lesions] == [(2, "hcc"), (1, "")]
    empty_cell = prepare_study(study, DEFAULT_PHASES, OWN, tmp_path / "c", {1: "hemangioma", 2: ""})
    assert [lesion.label for lesion in empty_cell.lesions] == ["hcc", "hemangioma"]
    labelled = prepare_study(study, DEFAULT_PHASES, OWN, tmp_path / "c", {1: "hemangioma", 2: "hcc"})
    assert [lesion.label for lesion in labelled.lesions] == ["hcc", "hemangioma"]


def test_a_study_labelled_none_needs_no_mask_to_be_known_as_empty(toy, tmp_path):
    unmasked = replace(toy.write(tmp_path, "s", "none"), mask=None)
    assert not prepare_study(unmasked, DEFAULT_PHASES, COARSE, tmp_path / "c").mask.any()
    unlabelled = replace(unmasked, label="")
    assert prepare_study(unlabelled, DEFAULT_PHASES, COARSE, tmp_path / "c").mask is None


def test_integer_and_float_files_prepare_alike(toy, tmp_path):
    whole = {p: v.with_array(np.rint(v.array).astype(np.int16)) for p, v in toy.images.items()}
    stored = {p: v.with_array(v.array.astype(np.float64)) for p, v in whole.items()}
    a = prepare_for_prediction(replace(toy, images=whole).write(tmp_path / "a", "s"), DEFAULT_PHASES, COARSE)
    b = prepare_for_prediction(replace(toy, images=stored).write(tmp_path / "b", "s"), DEFAULT_PHASES, COARSE)
    np.testing.assert_allclose(a.image, b.image, atol=1e-6)


def test_prediction_sees_the_same_image_and_no_lesions(toy, tmp_path):
    study = toy.write(tmp_path, "s")
    stored = prepare_study(study, DEFAULT_PHASES, COARSE, tmp_path / "c")
    fresh = prepare_for_prediction(study, DEFAULT_PHASES, COARSE)
    np.testing.assert_array_equal(fresh.image, stored.image)
    np.testing.assert_array_equal(fresh.liver, stored.liver)
    assert fresh.mask is None
    assert fresh.lesions == ()


def test_one_slice_can_be_prepared(toy_maker, tmp_path):
    toy = toy_maker(shape=(64, 52, 1), spacing_mm=(5.0, 5.0, 6.0))
    prepared = prepare_study(toy.write(tmp_path, "s"), DEFAULT_PHASES, COARSE, tmp_path / "c")
    assert prepared.shape == (1, 22, 27)


# ---------------------------------------------------------------------- registration
def shifted_toy(toy):
    """The arterial phase was acquired after the patient had moved by (5, -5, 0) mm."""
    phase = toy.images["arterial"]
    moved = phase.affine.copy()
    moved[:2, 3] += (5.0, -5.0)
    return toy.with_phase("arterial", Volume(phase.array, moved))


def test_registration_brings_a_moved_phase_back(toy_maker, tmp_path):
    toy = toy_maker(shape=(70, 56, 8), spacing_mm=(4.5, 4.5, 8.0))
    settings = PreparationSettings(spacing_mm=(None, None, None), registration="rigid")
    moved = prepare_for_prediction(shifted_toy(toy).write(tmp_path / "a", "s"), DEFAULT_PHASES, settings)
    still = prepare_for_prediction(toy.write(tmp_path / "b", "s"), DEFAULT_PHASES, OWN)
    assert moved.registrations["arterial"]["applied"] == "rigid"
    assert moved.registrations["delayed"]["outcome"] == "agrees"
    assert moved.registrations["arterial"]["around"] == "liver"
    plain = prepare_for_prediction(shifted_toy(toy).write(tmp_path / "c", "s"), DEFAULT_PHASES, OWN)
    inside = (slice(1), slice(2, -2), slice(4, -4), slice(4, -4))
    error = np.abs(moved.image[1:2] - still.image[1:2])[inside].mean()
    unregistered = np.abs(plain.image[1:2] - still.image[1:2])[inside].mean()
    assert error < 0.5 * unregistered


def test_livers_drawn_on_phases_judge_the_registration(toy_maker, tmp_path):
    toy = toy_maker(shape=(70, 56, 8), spacing_mm=(4.5, 4.5, 8.0))
    moved = shifted_toy(toy)
    study = moved.write(tmp_path, "s")
    settings = PreparationSettings(spacing_mm=(None, None, None), registration="rigid")
    before = study_content(study, {})
    liver = Volume(toy.liver.array, moved.images["arterial"].affine)  # it lies in the phase as its image does
    liver.write_nifti(study.liver_mask.with_name("liver_mask_arterial.nii.gz"))
    assert study_content(study, {}) != before
    records = prepare_study(study, DEFAULT_PHASES, settings, tmp_path / "c").registrations
    assert records["arterial"]["liver_dice_before"] < 0.97 < records["arterial"]["liver_dice_after"]
    assert records["delayed"]["liver_dice_before"] is records["delayed"]["liver_dice_after"] is None
    Volume(liver.array[:-1], liver.affine).write_nifti(
        study.liver_mask.with_name("liver_mask_arterial.nii.gz")
    )
    with pytest.raises(PreparationError, match="liver_mask_arterial does not lie on the grid"):
        prepare_study(study, DEFAULT_PHASES, settings, tmp_path / "c")


def test_a_mask_drawn_on_a_moved_phase_moves_with_it(toy_maker, tmp_path):
    toy = toy_maker(shape=(70, 56, 8), spacing_mm=(4.5, 4.5, 8.0))
    moved = shifted_toy(toy)
    affine = moved.images["arterial"].affine
    drawn = type(toy)(moved.images, Volume(toy.mask.array, affine), Volume(toy.liver.array, affine))
    study = replace(drawn.write(tmp_path, "s"), mask_phase="arterial")
    settings = PreparationSettings(spacing_mm=(None, None, None), registration="rigid")
    mask = prepare_study(study, DEFAULT_PHASES, settings, tmp_path / "c").mask
    truth = toy.mask.array.T > 0
    assert 2 * (truth & (mask > 0)).sum() / (truth.sum() + (mask > 0).sum()) > 0.9


@pytest.mark.parametrize("lesions", [True, False])
def test_a_liver_drawn_on_a_phase_that_the_network_does_not_read_moves_with_it(toy_maker, tmp_path, lesions):
    toy = toy_maker(shape=(70, 56, 8), spacing_mm=(4.5, 4.5, 8.0))
    moved = shifted_toy(toy)
    affine = moved.images["arterial"].affine
    drawn = type(toy)(moved.images, Volume(toy.mask.array, affine), Volume(toy.liver.array, affine))
    study = replace(drawn.write(tmp_path, "s"), mask_phase="arterial")
    study = study if lesions else replace(study, mask=None)
    settings = PreparationSettings(spacing_mm=(None, None, None), registration="rigid")
    read = tuple(phase for phase in DEFAULT_PHASES if phase != "arterial")
    prepared = prepare_study(study, read, settings, tmp_path / "c")
    assert prepared.registrations["arterial"]["applied"] == "rigid"
    truth = toy.liver.array.T > 0
    assert 2 * (truth & (prepared.liver > 0)).sum() / (truth.sum() + (prepared.liver > 0).sum()) > 0.97


def deformed(monkeypatch, motion):
    """Let every registration find this motion."""
    found = Registration("bspline", "applied", motion=motion)
    monkeypatch.setattr("mtinet.data.alignment.register", lambda *_: found)
    return PreparationSettings(spacing_mm=(None, None, None), registration="bspline")


def bump(coefficient_mm):
    """Control points every 40 mm, those around the toy's lesion moved along z."""
    lattice = np.diag([40.0, 40.0, 40.0, 1.0])
    lattice[:3, 3] = -160.0
    coefficients = np.zeros((9, 9, 9, 3))
    coefficients[4:6, 3:6, 3:6, 2] = coefficient_mm
    return Deformation(coefficients, lattice)


@pytest.mark.parametrize("code", ["RAS", "PIL"])
def test_motion_deformation_and_grid_are_one_interpolation(toy_maker, tmp_path, monkeypatch, code):
    toy = reoriented_toy(toy_maker(shape=(40, 32, 16), spacing_mm=(8.0, 8.0, 8.0), noise=0.0), code)
    shift = np.eye(4)
    shift[:3, 3] = (3.0, -2.0, 1.0)
    motion = Motion(shift, bump(12.0))
    ramp = {p: on_ramp(v) for p, v in toy.images.items()}
    study = type(toy)(ramp, toy.mask, toy.liver).write(tmp_path, "s")
    prepared = prepare_study(study, DEFAULT_PHASES, deformed(monkeypatch, motion), tmp_path / "c")
    # linear interpolation of a linear image is exact once, and says where each voxel was taken from
    affine = prepared.affine
    voxels = np.stack(np.meshgrid(*map(np.arange, prepared.image.shape[:0:-1]), indexing="ij"), -1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    taken = world + motion.deformation.on_grid(affine, (0, 0, 0), voxels.shape[:3]) - shift[:3, 3]
    inner = (slice(4, -4),) * 3
    expected = (1000.0 + taken @ RAMP)[inner]
    np.testing.assert_allclose((prepared.image[1] * prepared.gain).T[inner], expected, rtol=1e-4)
    again = prepared.motion("arterial")
    np.testing.assert_array_equal(again.deformation.coefficients, motion.deformation.coefficients)
    np.testing.assert_array_equal(again.matrix, shift)
    assert prepared.motion("portal_venous").deformation is None


RAMP = np.array([0.7, -0.4, 1.1])


def on_ramp(volume):
    voxels = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1)
    world = voxels @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return volume.with_array((1000.0 + world @ RAMP).astype(np.float32))


def test_every_instance_drawn_on_a_deformed_phase_survives_where_its_phase_shows_it(
    toy_maker, tmp_path, monkeypatch
):
    toy = toy_maker(shape=(40, 32, 16), spacing_mm=(8.0, 8.0, 8.0))
    mask = toy.mask.array.astype(np.int16)
    mask[30, 20, 8], mask[31, 20, 8], mask[12, 12, 6:9] = 2, 3, 4
    study = type(toy)(toy.images, toy.mask.with_array(mask), toy.liver).write(tmp_path, "s")
    motion = Motion(np.eye(4), bump(11.0))
    settings = deformed(monkeypatch, motion)
    drawn_on = replace(study, mask_phase="arterial")
    prepared = prepare_study(drawn_on, DEFAULT_PHASES, settings, tmp_path / "c")
    assert {lesion.number for lesion in prepared.lesions} == {1, 2, 3, 4}
    assert prepared.lost_lesions == ()
    moved = np.argwhere(prepared.mask == 1).mean(0) - np.argwhere(toy.mask.array.T == 1).mean(0)
    centre = np.rint(np.argwhere(prepared.mask.T == 1).mean(0)).astype(int)
    u = motion.deformation.on_grid(prepared.affine, tuple(centre), tuple(centre + 1)).ravel()
    assert moved[0] * 8.0 == pytest.approx(-u[2], abs=3.0)
    assert abs(u[2]) > 6.0
    assert prepared.registrations["arterial"]["lesion_volume_change"] != 0.0


def test_a_lesion_outside_the_reference_is_known_as_lost(toy_maker, tmp_path):
    toy = toy_maker(shape=(40, 32, 16), spacing_mm=(8.0, 8.0, 8.0))
    mask = toy.mask.array.copy()
    mask[20, 16, 15] = 2
    reference = toy.images["portal_venous"]
    cut = type(toy)(toy.images, toy.mask.with_array(mask), toy.liver)
    cut = cut.with_phase("portal_venous", Volume(reference.array[:, :, :12], reference.affine))
    study = replace(cut.write(tmp_path, "s"), mask_phase="arterial")
    assert prepare_study(study, DEFAULT_PHASES, OWN, tmp_path / "c").lost_lesions == (2,)


def test_one_receive_field_divides_all_phases(toy, tmp_path):
    settings = OWN.model_copy(update={"n4": True})
    x = np.exp(np.linspace(-0.3, 0.3, toy.mask.shape[0]))[:, None, None]
    spoilt = {p: v.with_array((v.array * x).astype(np.float32)) for p, v in toy.images.items()}
    study = replace(toy, images=spoilt).write(tmp_path, "s")
    with_n4 = prepare_study(study, DEFAULT_PHASES, settings, tmp_path / "c")
    without = prepare_study(study, DEFAULT_PHASES, OWN, tmp_path / "c")
    assert without.bias_range is None
    assert with_n4.bias_range[0] < 1.0 < with_n4.bias_range[1]
    body = without.image[0] > 0.1
    for phase in (1, 3):
        np.testing.assert_allclose(
            (with_n4.image[phase] / with_n4.image[0])[body],
            (without.image[phase] / without.image[0])[body],
            rtol=1e-4,
        )


# ---------------------------------------------------------------------- errors
def test_errors_name_the_study_the_cause_and_the_repair(toy, tmp_path):
    study = toy.write(tmp_path, "s1")
    with pytest.raises(PreparationError, match=r"study s1: it has none of the phases hepatobiliary"):
        prepare_for_prediction(study, ("hepatobiliary",), COARSE)
    off = Volume(toy.mask.array, toy.mask.affine + np.diag([0, 0, 0, 0.0]))
    off.affine[0, 3] += 3.0
    off.write_nifti(study.mask)
    with pytest.raises(PreparationError, match=r"study s1: mask does not lie .* off by 3.00 mm.* mask_phase"):
        prepare_study(study, DEFAULT_PHASES, COARSE, tmp_path / "c")
    study.images["pre"].unlink()
    with pytest.raises(PreparationError, match=r"study s1: .*pre\.nii\.gz"):
        prepare_study(study, DEFAULT_PHASES, COARSE, tmp_path / "c")


def test_nan_is_refused_by_name(toy, tmp_path):
    array = toy.images["delayed"].array.copy()
    array[0, 0, 0] = np.nan
    study = toy.with_phase("delayed", toy.images["delayed"].with_array(array)).write(tmp_path, "s1")
    with pytest.raises(PreparationError, match="study s1: delayed holds NaN"):
        prepare_for_prediction(study, DEFAULT_PHASES, COARSE)


@pytest.mark.parametrize("phase", ["portal_venous", "pre"])
@pytest.mark.parametrize("factor", [1000.0, 0.001])
def test_a_voxel_size_in_another_unit_is_refused(toy, tmp_path, phase, factor):
    """A grid over metres would take all memory of the machine."""
    image = toy.images[phase]
    scaled = Volume(image.array, image.affine @ np.diag([factor, factor, factor, 1.0]))
    study = toy.with_phase(phase, scaled).write(tmp_path, "s1")
    with pytest.raises(
        PreparationError, match=rf"study s1: .*{phase}\.nii\.gz shows .* no part of a body; correct its"
    ):
        prepare_for_prediction(study, DEFAULT_PHASES, COARSE)


def test_phases_apart_in_space_are_refused(toy, tmp_path):
    far = toy.images["pre"].affine.copy()
    far[0, 3] += 5000
    study = toy.with_phase("pre", Volume(toy.images["pre"].array, far)).write(tmp_path, "s1")
    with pytest.raises(PreparationError, match="do not overlap"):
        prepare_for_prediction(study, DEFAULT_PHASES, COARSE)


def test_phases_on_different_grids_meet_in_world_coordinates(toy_maker, tmp_path):
    toy = toy_maker(shape=(80, 64, 16), spacing_mm=(4.0, 4.0, 5.0), noise=0.0)
    coarse = toy_maker(shape=(40, 32, 8), spacing_mm=(8.0, 8.0, 10.0), noise=0.0)
    phase = resample(
        toy.images["arterial"], coarse.images["arterial"].shape, coarse.images["arterial"].affine
    )
    study: Study = coarse.with_phase("arterial", toy.images["arterial"]).write(tmp_path, "s")
    prepared = prepare_for_prediction(study, DEFAULT_PHASES, OWN)
    np.testing.assert_allclose(prepared.image[1] * prepared.gain, phase.array.T, rtol=1e-3, atol=0.5)
