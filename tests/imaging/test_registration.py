import itertools
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from mtinet.imaging import registration as registration_module
from mtinet.imaging.deformation import Deformation
from mtinet.imaging.liver import body_region, liver_region
from mtinet.imaging.motion import Motion
from mtinet.imaging.mutual_information import bspline_from_ras, bspline_to_ras
from mtinet.imaging.registration import register
from mtinet.imaging.resampling import resample
from mtinet.volume import LPS, Volume


def cut_to_the_middle(toy, phase, moved=None):
    """16 of 24 slices: a motion brings tissue into view as it does in a patient."""
    volume = toy.images[phase] if moved is None else moved
    middle = toy.images[phase].affine.copy()
    middle[2, 3] += 4 * 5.0
    return resample(volume, (56, 44, 16), middle)


@pytest.fixture
def big_toy(toy_maker):
    return toy_maker(shape=(56, 44, 24), spacing_mm=(5.0, 5.0, 5.0))


@pytest.fixture
def pair(big_toy):
    """A reference and another phase of the same body, moved by a known shift and turn."""
    angle = np.deg2rad(3)
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    motion[:3, 3] = (4.0, -6.0, 9.0)
    phase = big_toy.images["arterial"]
    moved = cut_to_the_middle(big_toy, "arterial", Volume(phase.array, motion @ phase.affine))
    return cut_to_the_middle(big_toy, "portal_venous"), moved, np.linalg.inv(motion)


def smooth(affine, shape, size_mm):
    """A deformation by control points on a lattice of 60 mm around the origin; largest in the middle."""
    lattice = np.diag([60.0, 60.0, 60.0, 1.0])
    lattice[:3, 3] = -150.0
    coefficients = np.zeros((6, 6, 6, 3))
    coefficients[2:4, 2:4, 2:4] = size_mm
    return Deformation(coefficients, lattice)


def residual_mm(found, volume, expected):
    """Distance of found and true displacement in the liver's middle, mm."""
    own = Motion() if found is None else found
    low, high = (22, 16, 4), (40, 28, 12)
    points = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), -1)
    world = points @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    moved = world if own.deformation is None else world + own.deformation.on_grid(volume.affine, low, high)
    inverse = np.linalg.inv(own.matrix)
    moved = moved @ inverse[:3, :3].T + inverse[:3, 3]
    return np.linalg.norm(moved - world - expected.on_grid(volume.affine, low, high), axis=-1)


# ---------------------------------------------------------------------- rigid
def test_a_known_motion_is_found(pair):
    reference, moved, expected = pair
    found = register(moved, reference)
    assert (found.applied, found.outcome) == ("rigid", "applied")
    assert found.similarity_after > found.similarity_before
    points = np.array([[x, y, z, 1] for x in (-60, 60) for y in (-50, 50) for z in (-15, 15)], float)
    error = np.linalg.norm((points @ (found.motion.matrix - expected).T)[:, :3], axis=1)
    assert error.max() < 2.5  # half a voxel


def test_what_fits_already_stays(toy):
    reference = toy.images["portal_venous"]
    found = register(reference, reference, body_region(reference), 200.0)
    assert (found.applied, found.outcome) == ("none", "agrees")
    np.testing.assert_array_equal(found.motion.matrix, np.eye(4))
    assert found.motion.deformation is None


def test_one_slice_moves_in_its_plane_only(toy_maker):
    toy = toy_maker(shape=(120, 90, 1), spacing_mm=(2.5, 2.5, 6.0))
    phase = toy.images["arterial"]
    shifted = phase.affine.copy()
    shifted[:2, 3] += (5.0, -5.0)
    found = register(Volume(phase.array, shifted), toy.images["portal_venous"], None, 40.0)
    assert found.applied == "rigid"
    assert "in their plane only" in found.reason
    np.testing.assert_allclose(found.motion.matrix[:3, 3], (-5.0, 5.0, 0.0), atol=1.0)


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
    found = register(Volume(volumes["phase"].array, moved), volumes["reference"])
    assert found.applied == "rigid"
    np.testing.assert_allclose(found.motion.matrix[:3, 3], (-6.0, 6.0, 0.0), atol=1.5)


def test_thin_stacks_at_different_places_are_left_alone(toy_maker):
    toy = toy_maker(shape=(60, 48, 24), spacing_mm=(5.0, 5.0, 5.0))
    reference, phase = toy.images["portal_venous"], toy.images["delayed"]
    above = phase.affine.copy()
    above[:3, 3] += above[:3, 2] * 20 + (5.0, 5.0, 0.0)
    found = register(
        Volume(phase.array[:, :, 20:22], above), Volume(reference.array[:, :, :18], reference.affine)
    )
    assert (found.applied, found.outcome) == ("none", "rejected")
    assert "same place" in found.reason


# ---------------------------------------------------------------------- deformation
def let_it_find(monkeypatch, deformation):
    """Let the search for a deformation end with this one."""
    monkeypatch.setattr(registration_module.search, "find_bspline", lambda *_: sitk.BSplineTransform(3))
    monkeypatch.setattr(registration_module.search, "bspline_to_ras", lambda _: deformation)


def test_a_smooth_deformation_is_found_and_the_same_bytes_come_twice(big_toy):
    reference = cut_to_the_middle(big_toy, "portal_venous")
    phase = big_toy.images["arterial"]
    # what is at x of the reference lies at x + u(x) of the phase: the phase is made by the opposite
    expected = smooth(reference.affine, reference.shape, (0.0, 9.0, 0.0))
    opposite = replace(expected, coefficients=-expected.coefficients)
    moved = resample(phase, phase.shape, phase.affine, deformation=opposite)
    region = liver_region(resample(big_toy.liver, reference.shape, reference.affine), reference)
    moved = cut_to_the_middle(big_toy, "arterial", moved)
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    results = []
    for threads in (1, 3):
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        results.append(register(moved, reference, region, 90.0))
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    found = results[0]
    assert (found.applied, found.around) == ("bspline", "liver")
    assert found.jacobian_min > 0
    still, after = residual_mm(None, reference, expected), residual_mm(found.motion, reference, expected)
    assert np.median(after) < 0.5 * np.median(still)
    for one, other in [[r.motion for r in results]]:
        np.testing.assert_array_equal(one.deformation.coefficients, other.deformation.coefficients)
        np.testing.assert_array_equal(one.matrix, other.matrix)


def test_a_deformation_that_is_not_trusted_leaves_what_came_before(pair, monkeypatch):
    reference, moved, _ = pair
    rigid = register(moved, reference)
    wild = Deformation(np.full((4, 4, 4, 3), 90.0), np.diag([60.0, 60.0, 60.0, 1.0]))
    let_it_find(monkeypatch, wild)
    found = register(moved, reference, None, 120.0)
    assert (found.applied, found.outcome) == ("rigid", "rejected")
    assert "not breathing" in found.reason
    np.testing.assert_array_equal(found.motion.matrix, rigid.motion.matrix)
    assert found.motion.deformation is None


def test_a_fold_is_seen_and_rejected(pair, monkeypatch):
    reference, moved, _ = pair
    lattice = np.diag([20.0, 20.0, 20.0, 1.0])
    lattice[:3, 3] = -40.0
    coefficients = np.zeros((5, 5, 5, 3))
    coefficients[2, 2, 2, 2], coefficients[2, 2, 3, 2] = 50.0, -50.0
    fold = Deformation(coefficients, lattice)
    let_it_find(monkeypatch, fold)
    found = register(moved, reference, None, 120.0)
    assert (found.applied, found.outcome) == ("rigid", "rejected")
    assert "folds" in found.reason


def test_a_motion_that_lowers_the_similarity_is_rejected(toy, monkeypatch):
    reference = toy.images["portal_venous"]
    away = sitk.Euler3DTransform()
    away.SetTranslation((40.0, 0.0, 0.0))
    monkeypatch.setattr(registration_module.search, "find_rigid", lambda *_: away)
    found = register(toy.images["delayed"], reference)
    assert (found.applied, found.outcome) == ("none", "rejected")
    assert "does not raise the similarity" in found.reason
    assert found.similarity_after == found.similarity_before


def ever_more_alike(monkeypatch):
    """Let whatever was found raise the similarity."""
    rising = itertools.count()
    monkeypatch.setattr(registration_module.search, "similarity", lambda *_: float(next(rising)))


def test_a_motion_out_of_the_field_of_view_is_rejected(toy, monkeypatch):
    away = sitk.Euler3DTransform()
    away.SetTranslation((0.0, 0.0, 50.0))
    monkeypatch.setattr(registration_module.search, "find_rigid", lambda *_: away)
    ever_more_alike(monkeypatch)
    found = register(toy.images["delayed"], toy.images["portal_venous"])
    assert (found.applied, found.outcome) == ("none", "rejected")
    assert "out of the phase's field of view" in found.reason


@pytest.mark.slow
def test_the_change_of_volume_of_a_deformation_is_taken_out(pair, monkeypatch):
    """A uniform swelling by 15 % a side: tissue moves with the breath, and keeps its volume."""
    reference, moved, _ = pair
    lattice = np.diag([40.0, 40.0, 40.0, 1.0])
    lattice[:3, 3] = -200.0
    places = np.stack(np.meshgrid(*[40.0 * np.arange(11) - 200.0] * 3, indexing="ij"), axis=-1)
    let_it_find(monkeypatch, Deformation(0.15 * places, lattice))
    monkeypatch.setattr(registration_module.search, "bspline_from_ras", lambda transform, _: transform)
    ever_more_alike(monkeypatch)
    found = register(moved, reference, None, 40.0)
    assert found.applied == "bspline"
    assert found.jacobian_max < 1.25, "1.52 as it was found"


def test_the_deformation_is_that_of_itk_and_its_jacobian_that_of_differences():
    rng = np.random.default_rng(1)
    fixed = sitk.Image([30, 24, 12], sitk.sitkFloat32)
    fixed.SetSpacing([3.0, 4.0, 5.0])
    fixed.SetOrigin([-20.0, 10.0, 5.0])
    transform = sitk.BSplineTransformInitializer(fixed, [3, 2, 1], order=3)
    transform.SetParameters(rng.normal(0, 4, transform.GetNumberOfParameters()).tolist())
    deformation = bspline_to_ras(transform)
    affine = LPS @ np.diag([3.0, 4.0, 5.0, 1.0])
    affine[:3, 3] = np.diag(LPS)[:3] * (-20.0, 10.0, 5.0)
    # axes in another order and direction, as a stored volume has them
    turn = np.zeros((4, 4))
    turn[[0, 1, 2, 3], [2, 0, 1, 3]] = 1.0
    on = deformation.on_grid(affine @ turn, (0, 0, 0), (24, 12, 30))
    for index in [(3, 2, 4), (20, 9, 25), (11, 6, 15)]:
        point = (affine @ turn @ [*index, 1])[:3]
        itk = np.diag(LPS)[:3] * np.array(transform.TransformPoint((np.diag(LPS)[:3] * point).tolist()))
        np.testing.assert_allclose(point + on[index], itk, atol=1e-6)
    fine = affine @ np.diag([0.1, 0.1, 0.1, 1.0])
    patch = deformation.on_grid(fine, (100, 100, 50), (103, 103, 53))
    by_index = np.stack([(np.roll(patch, -1, a) - np.roll(patch, 1, a))[1, 1, 1] / 2 for a in range(3)], -1)
    expected = np.linalg.det(np.eye(3) + by_index @ np.linalg.inv(fine[:3, :3]))
    found = deformation.jacobian(fine, (101, 101, 51), (102, 102, 52))
    assert found.item() == pytest.approx(expected, abs=1e-4)


def test_the_deformation_goes_to_itk_and_back():
    fixed = sitk.Image([30, 24, 12], sitk.sitkFloat32)
    transform = sitk.BSplineTransformInitializer(fixed, [3, 2, 1], order=3)
    transform.SetParameters(np.random.default_rng(2).normal(0, 4, transform.GetNumberOfParameters()).tolist())
    again = bspline_from_ras(transform, bspline_to_ras(transform))
    np.testing.assert_allclose(again.GetParameters(), transform.GetParameters())


def inside(deformation, of):
    """Points of the lattice's inner box with ``of`` (displacement or Jacobian) there."""
    grid = np.diag([5.0, 5.0, 5.0, 1.0])
    low, high = (-15, -15, -15), (15, 15, 15)
    points = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), -1).reshape(-1, 3) * 5.0
    return points, of(deformation, grid, low, high).reshape(len(points), -1)


def test_growing_and_shrinking_is_taken_out_of_a_deformation():
    rng = np.random.default_rng(3)
    lattice = smooth(None, None, (0.0, 0.0, 0.0)).affine
    found = Deformation(rng.normal(0, 8, (6, 6, 6, 3)), lattice)
    points, before = inside(found, Deformation.jacobian)
    _, after = inside(found.incompressible(points[::7], 300.0), Deformation.jacobian)
    assert np.abs(before - 1).max() > 0.15
    assert np.abs(after - 1).max() < 0.25 * np.abs(before - 1).max()


def test_a_deformation_that_keeps_volumes_stays_as_it_is():
    # columns slide along their own direction, as the liver does in breathing
    rng = np.random.default_rng(4)
    coefficients = np.zeros((6, 6, 6, 3))
    coefficients[..., 2] = rng.normal(0, 8, (6, 6, 1))
    found = Deformation(coefficients, smooth(None, None, (0.0, 0.0, 0.0)).affine)
    points, before = inside(found, Deformation.on_grid)
    _, after = inside(found.incompressible(points[::7], 300.0), Deformation.on_grid)
    assert np.abs(before).max() > 5.0
    np.testing.assert_allclose(after, before, atol=1e-3)


def test_a_grid_that_is_tilted_against_the_deformation_is_refused():
    deformation = Deformation(np.zeros((4, 4, 4, 3)), np.diag([20.0, 20.0, 20.0, 1.0]))
    tilted = np.eye(4)
    tilted[:2, :2] = [[0.9, -0.436], [0.436, 0.9]]
    with pytest.raises(ValueError, match="axes"):
        deformation.on_grid(tilted, (0, 0, 0), (2, 2, 2))


# ---------------------------------------------------------------------- fields of view
def test_a_phase_that_shows_little_of_the_region_is_refused_with_the_repair(big_toy):
    reference, phase = big_toy.images["portal_venous"], big_toy.images["delayed"]
    part = Volume(phase.array[:, :, :6], phase.affine)
    found = register(part, reference, body_region(reference))
    assert (found.applied, found.outcome) == ("none", "rejected")
    assert "25 % of the body" in found.reason
    assert "export the whole phase" in found.reason


def test_a_phase_that_shows_most_of_the_region_is_registered(big_toy):
    reference, phase = big_toy.images["portal_venous"], big_toy.images["delayed"]
    moved = phase.affine.copy()
    moved[:3, 3] += (0.0, 8.0, 0.0)
    moved[:3, 3] = (moved @ (4, 0, 2, 1))[:3]
    part = Volume(phase.array[4:, :, 2:16], moved)
    found = register(part, reference, body_region(reference))
    assert found.applied == "rigid"
    np.testing.assert_allclose(found.motion.matrix[:3, 3], (0.0, -8.0, 0.0), atol=2.5)


def test_an_image_that_cannot_be_compared_is_left_alone(toy):
    reference = toy.images["portal_venous"]
    elsewhere = reference.affine.copy()
    elsewhere[:3, 3] += 5000
    found = register(Volume(reference.array, elsewhere), reference)
    assert (found.applied, found.outcome) == ("none", "rejected")
    assert "0 %" in found.reason
