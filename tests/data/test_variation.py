from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.data import variation as vary
from mtinet.data.prepared import PreparedLesion, PreparedStudy

PHASES = ("pre", "arterial", "portal_venous", "delayed")
SIGNAL = (0.4, 0.9, 0.8, 0.6)


def disk(centre: tuple[int, int], radius: float) -> np.ndarray:
    y, x = np.mgrid[:48, :56]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


@pytest.fixture
def study() -> PreparedStudy:
    """Two lesions in three slices that nearly touch, brighter than what is around them; noise-free."""
    mask = np.zeros((5, 48, 56), dtype=np.uint8)
    mask[1:4, disk((20, 20), 7)] = 1
    mask[1:4, disk((20, 33), 5)] = 2
    image = np.stack([np.where(mask > 0, level, 0.5) for level in SIGNAL]).astype(np.float32)
    lesions = tuple(
        PreparedLesion(
            number, label, int((mask == number).sum()), 20.0 / number, dict(zip(PHASES, SIGNAL)), box
        )
        for number, label, box in (
            (1, "hcc", ((1, 4), (13, 28), (13, 28))),
            (2, "fnh", ((1, 4), (15, 26), (28, 39))),
        )
    )
    return PreparedStudy(
        study_id="007",
        patient_id="p",
        site="A",
        label="hcc",
        phases=PHASES,
        present=(True,) * 4,
        times_s=(0.0, 20.0, 65.0, 180.0),
        reference_phase="portal_venous",
        gain=1000.0,
        affine=np.diag([2.0, 2.0, 5.0, 1.0]),
        source_shape=(56, 48, 5),
        source_affine=np.eye(4),
        has_mask=True,
        has_liver=False,
        lesions=lesions,
        memory={"image": image, "mask": mask},
    )


def test_the_defaults_give_the_study_itself(study: PreparedStudy):
    assert vary.learned(study, LearningVariation(), 3) is study
    assert vary.scored(study, ScoringVariation(), 3) is study
    assert ScoringVariation().name == ""


VARIED = [
    pytest.param(lambda s, seed: vary.learned(s, LearningVariation(noise=0.1), seed), id="noise learned"),
    pytest.param(lambda s, seed: vary.scored(s, ScoringVariation(noise=0.1), seed), id="noise scored"),
    pytest.param(lambda s, seed: vary.scored(s, ScoringVariation(heterogeneity=0.2), seed), id="texture"),
    pytest.param(lambda s, seed: vary.scored(s, ScoringVariation(displacement_mm=6.0), seed), id="displaced"),
    pytest.param(lambda s, seed: vary.shuffled(s, seed)[0], id="shuffled"),
]


@pytest.mark.parametrize("change", VARIED)
def test_a_study_is_varied_by_seed_and_id_alone(study: PreparedStudy, change: Callable):
    once, again = change(study, 5), change(replace(study, site="B", patient_id="q"), 5)
    np.testing.assert_array_equal(once.image, again.image)
    assert not np.array_equal(once.image, study.image)
    others = [change(study, seed).image for seed in range(6, 16)]
    assert any(not np.array_equal(once.image, image) for image in others)
    named = [change(replace(study, study_id=f"00{i}"), 5).image for i in range(10)]
    assert any(not np.array_equal(once.image, image) for image in named)


# ---------------------------------------------------------------------- signal
def test_noise_is_rician(study: PreparedStudy):
    flat = np.broadcast_to(np.array([0.0, 0.05, 1.0, 2.0])[:, None, None, None], (4, 5, 48, 56))
    level = replace(study, memory={"image": flat.astype(np.float32)}, has_mask=False, lesions=())
    noisy = vary.with_noise(level, 0.1, 0).image
    # moments of the Rice distribution: E[S^2] = A^2 + 2 sigma^2, and Rayleigh without signal
    np.testing.assert_allclose(
        (noisy.astype(float) ** 2).mean((1, 2, 3)), flat[:, 0, 0, 0] ** 2 + 0.02, rtol=0.03
    )
    assert noisy[0].mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.03)
    assert noisy[2].std() == pytest.approx(0.1, rel=0.03)
    assert (noisy >= 0).all()


def test_texture_has_mean_one_and_is_fine(study: PreparedStudy):
    flat = replace(study, memory={"image": np.ones((4, 5, 48, 56), np.float32)}, has_mask=False, lesions=())
    texture = vary.with_texture(flat, 0.3, 0).image
    assert texture.mean() == pytest.approx(1.0, abs=0.03)
    assert texture.std() == pytest.approx(0.3, abs=0.04)
    beside = np.corrcoef(texture[..., :-1].ravel(), texture[..., 1:].ravel())[0, 1]
    far = np.corrcoef(texture[..., :-8].ravel(), texture[..., 8:].ravel())[0, 1]
    between = np.corrcoef(texture[0].ravel(), texture[1].ravel())[0, 1]
    assert beside > 0.7
    assert abs(far) < 0.1
    assert abs(between) < 0.1


def test_noise_and_displacement_leave_the_reference_and_texture_does_not(study: PreparedStudy):
    for variation in (ScoringVariation(noise=0.2), ScoringVariation(displacement_mm=8.0)):
        changed = vary.scored(study, variation, 0)
        assert changed.lesions == study.lesions
        np.testing.assert_array_equal(changed.mask, study.mask)
    textured = vary.scored(study, ScoringVariation(heterogeneity=0.3, noise=0.2), 0)
    seen = vary.with_texture(study, 0.3, 0).image[1][study.mask == 1].mean()
    assert textured.lesions[0].enhancement["arterial"] == pytest.approx(float(seen), rel=1e-5)


@pytest.mark.parametrize("distance_mm", [4.0, 10.0])
def test_phases_move_by_the_distance_but_for_the_reference(study: PreparedStudy, distance_mm: float):
    moved = vary.displaced(study, distance_mm, 1).image
    np.testing.assert_array_equal(moved[2], study.image[2])
    directions = []
    for index in (0, 1, 3):
        contrast = np.abs(moved[index][2].astype(float) - 0.5)
        before = np.abs(study.image[index][2].astype(float) - 0.5)
        shift = np.subtract(ndimage.center_of_mass(contrast), ndimage.center_of_mass(before)) * 2.0
        assert np.hypot(*shift) == pytest.approx(distance_mm, rel=0.05)
        directions.append(tuple(np.round(shift, 1)))
    assert len(set(directions)) == 3


# ---------------------------------------------------------------------- phases
def test_hidden_phases_are_as_if_never_acquired(study: PreparedStudy):
    shown = vary.scored(study, ScoringVariation(phases=("pre", "delayed")), 0)
    assert shown.present == (True, False, False, True)
    assert (shown.image[1:3] == 0).all()
    np.testing.assert_array_equal(shown.image[[0, 3]], study.image[[0, 3]])
    assert set(shown.lesions[0].enhancement) == {"pre", "delayed"}
    nothing = vary.showing(replace(study, present=(True, True, True, False)), ("delayed",))
    assert not any(nothing.present)


def test_shuffled_images_take_their_enhancement_along(study: PreparedStudy):
    lacking = vary.showing(study, ("pre", "arterial", "delayed"))
    for seed in range(8):
        moved, order = vary.shuffled(lacking, seed)
        assert sorted(order) == [0, 1, 2, 3]
        assert order != (0, 1, 2, 3)
        assert moved.phases == study.phases
        assert moved.times_s == study.times_s
        for place, old in enumerate(order):
            assert moved.present[place] == lacking.present[old]
            np.testing.assert_array_equal(moved.image[place], lacking.image[old])
        again = vary.measured_anew(moved)
        assert again.lesions[0].enhancement == pytest.approx(moved.lesions[0].enhancement)


# ---------------------------------------------------------------------- masks
@pytest.mark.parametrize("voxels", [1, 2, 3])
def test_dilation_keeps_lesions_apart_and_stays_in_plane(study: PreparedStudy, voxels: int):
    wide = vary.learned(study, LearningVariation(mask_margin=voxels), 0)
    old, new = study.mask, wide.mask
    assert not new[[0, 4]].any()
    np.testing.assert_array_equal(new[old > 0], old[old > 0])
    for part_old, part in zip(old[1:4], new[1:4]):
        near = ndimage.distance_transform_edt(part_old == 0) <= voxels
        np.testing.assert_array_equal(part > 0, near)
        # each voxel belongs to the nearer of the two
        to_first, to_second = (ndimage.distance_transform_edt(part_old != n) for n in (1, 2))
        assert (to_first <= to_second)[part == 1].all()
        assert (to_second <= to_first)[part == 2].all()
    # the background that is now in the mask dilutes the lesion
    assert all(0.5 < lesion.enhancement["arterial"] < 0.9 for lesion in wide.lesions)
    assert wide.lesions[0].diameter_mm > study.lesions[0].diameter_mm


@pytest.mark.parametrize("voxels", [1, 2])
def test_erosion_takes_the_border(study: PreparedStudy, voxels: int):
    tight = vary.learned(study, LearningVariation(mask_margin=-voxels), 0)
    for number in (1, 2):
        for old, new in zip(study.mask[1:4] == number, tight.mask[1:4] == number):
            np.testing.assert_array_equal(new, ndimage.distance_transform_edt(old) > voxels)
    for lesion, before in zip(tight.lesions, study.lesions):
        assert lesion.voxels < before.voxels
        assert lesion.enhancement == pytest.approx(before.enhancement)
        z, y, x = lesion.slices
        assert (
            (tight.mask[z, y, x] == lesion.number).sum()
            == lesion.voxels
            == (tight.mask == lesion.number).sum()
        )


def test_no_lesion_vanishes(study: PreparedStudy):
    small = np.zeros_like(study.mask)
    small[2, 20, 20:22] = 1
    small[1:4, disk((20, 40), 3)] = 2
    thin = vary.measured_anew(replace(study, memory={**study.memory, "mask": small}))
    tight = vary.learned(thin, LearningVariation(mask_margin=-5), 0)
    assert {lesion.number for lesion in tight.lesions} == {1, 2}
    assert set(np.unique(tight.mask)) == {0, 1, 2}
    assert (small[tight.mask > 0] > 0).all()


def test_a_phase_that_did_not_cover_a_lesion_stays_unknown(study: PreparedStudy):
    lesion = replace(study.lesions[0], enhancement={"pre": 0.4, "delayed": 0.6})
    wide = vary.learned(replace(study, lesions=(lesion,)), LearningVariation(mask_margin=1), 0)
    assert set(wide.lesions[0].enhancement) == {"pre", "delayed"}


def test_a_study_without_mask_passes(study: PreparedStudy):
    bare = replace(study, has_mask=False, lesions=())
    assert vary.learned(bare, LearningVariation(mask_margin=2), 0) is bare
    assert vary.learned(bare, LearningVariation(noise=0.1), 0).lesions == ()
