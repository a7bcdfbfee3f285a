import numpy as np
import pytest

from mtinet.imaging.registration import register_rigid
from mtinet.imaging.resampling import resample
from mtinet.volume import Volume


@pytest.fixture
def pair(toy_maker):
    """A reference and another phase of the same body, moved by a known shift and turn."""
    toy = toy_maker(shape=(56, 44, 24), spacing_mm=(5.0, 5.0, 5.0))
    angle = np.deg2rad(3)
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    motion[:3, 3] = (4.0, -6.0, 9.0)
    phase = toy.images["arterial"]
    # both show the middle of the body, so that the motion brings tissue into view as it does in a patient
    middle = phase.affine.copy()
    middle[2, 3] += 4 * 5.0
    shape = (56, 44, 16)
    moved = resample(Volume(phase.array, motion @ phase.affine), shape, middle)
    return resample(toy.images["portal_venous"], shape, middle), moved, np.linalg.inv(motion)


def test_a_known_motion_is_found(pair):
    reference, moved, expected = pair
    found = register_rigid(moved, reference)
    assert found.kept
    assert found.similarity_after > found.similarity_before
    points = np.array([[x, y, z, 1] for x in (-60, 60) for y in (-50, 50) for z in (-15, 15)], float)
    error = np.linalg.norm((points @ (found.matrix - expected).T)[:, :3], axis=1)
    assert error.max() < 2.5  # half a voxel


def test_the_same_input_gives_the_same_motion(pair):
    reference, moved, _ = pair
    np.testing.assert_array_equal(
        register_rigid(moved, reference).matrix, register_rigid(moved, reference).matrix
    )


def test_what_fits_already_stays(toy):
    reference = toy.images["portal_venous"]
    found = register_rigid(reference, reference)
    assert not found.kept
    np.testing.assert_array_equal(found.matrix, np.eye(4))
    assert "does not rise" in found.reason


def test_one_slice_moves_in_its_plane_only(toy_maker):
    toy = toy_maker(shape=(120, 90, 1), spacing_mm=(2.5, 2.5, 6.0))
    phase = toy.images["arterial"]
    shifted = phase.affine.copy()
    shifted[:2, 3] += (5.0, -5.0)
    found = register_rigid(Volume(phase.array, shifted), toy.images["portal_venous"])
    assert found.kept
    np.testing.assert_allclose(found.matrix[:3, 3], (-5.0, 5.0, 0.0), atol=1.0)


@pytest.mark.parametrize("thin", ["phase", "reference"])
@pytest.mark.parametrize("slice_", [3, 19])
def test_a_thin_stack_is_compared_where_it_lies(toy_maker, thin, slice_):
    toy = toy_maker(shape=(90, 70, 24), spacing_mm=(3.5, 3.5, 5.0))
    volumes = {"phase": toy.images["delayed"], "reference": toy.images["portal_venous"]}
    whole = volumes[thin]
    affine = whole.affine.copy()
    affine[:3, 3] += affine[:3, 2] * slice_
    volumes[thin] = Volume(whole.array[:, :, slice_ : slice_ + 2], affine)
    moved = volumes["phase"].affine.copy()
    moved[:2, 3] += (6.0, -6.0)
    found = register_rigid(Volume(volumes["phase"].array, moved), volumes["reference"])
    assert found.kept
    np.testing.assert_allclose(found.matrix[:3, 3], (-6.0, 6.0, 0.0), atol=1.5)


def test_thin_stacks_at_different_places_are_left_alone(toy_maker):
    toy = toy_maker(shape=(60, 48, 24), spacing_mm=(5.0, 5.0, 5.0))
    reference, phase = toy.images["portal_venous"], toy.images["delayed"]
    above = phase.affine.copy()
    above[:3, 3] += above[:3, 2] * 20 + (5.0, 5.0, 0.0)
    found = register_rigid(
        Volume(phase.array[:, :, 20:22], above), Volume(reference.array[:, :, :18], reference.affine)
    )
    assert not found.kept
    assert "same place" in found.reason
    np.testing.assert_array_equal(found.matrix, np.eye(4))


def test_an_image_that_cannot_be_compared_is_left_alone(toy):
    reference = toy.images["portal_venous"]
    elsewhere = reference.affine.copy()
    elsewhere[:3, 3] += 5000
    found = register_rigid(Volume(reference.array, elsewhere), reference)
    assert not found.kept
    assert found.reason
