import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtinet.config import AugmentationSettings
from mtinet.data import augmentation
from mtinet.data.augmentation import add_noise, apply, field, identity, sample

STRONG = AugmentationSettings(flip=0.5, rotation_deg=40, scale=0.3, translation=0.1, gain=0.5, bias=0.3)
PRESENT = (True, True, False, True)


def disc_study(shape=(60, 70), centre=(31.0, 30.0), radius=14.0):
    """Phases that are a constant on a disc, and the disc's mask."""
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre)))
    mask = (distance < radius).astype(np.uint8)
    image = np.stack([mask * value for value in (1.0, 2.0, 0.0, 3.0)]).astype(np.float32)
    return image, mask


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_disc_stays_under_its_mask(seed):
    transform = sample(np.random.default_rng(seed), STRONG, 2, PRESENT)
    image, mask = disc_study()
    patch = apply(transform, image, mask, mask, (30, 32), (64, 64), (1.0, 1.0))
    np.testing.assert_array_equal(patch.labels, patch.liver)
    inside = patch.image[0][patch.labels == 1] / patch.field[patch.labels == 1]
    outside = patch.image[0][patch.labels == 0]
    # linear image against nearest mask: half a voxel of edge, and nothing beyond it
    assert inside.min() > 0.2
    assert np.median(inside) == pytest.approx(1.0, abs=1e-3)
    assert np.percentile(outside, 90) < 0.05
    np.testing.assert_allclose(patch.image[3], 3 * patch.image[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (8, 20, 24)])
def test_nothing_changes_without_augmentation(size):
    rng = np.random.default_rng(0)
    shape = tuple(n + 6 for n in size)
    image = rng.random((4, *shape), dtype=np.float32)
    labels = rng.integers(0, 5, shape).astype(np.uint8)
    off = AugmentationSettings(enabled=False)
    transform = sample(rng, off, len(size), PRESENT)
    assert transform == identity(4, len(size))
    start = tuple(2 for _ in size)
    centre = tuple(s + (n - 1) / 2 for s, n in zip(start, size))
    patch = apply(transform, image, labels, None, centre, size, (1.0,) * len(size))
    cut = tuple(slice(s, s + n) for s, n in zip(start, size))
    np.testing.assert_allclose(patch.image, image[(slice(None), *cut)], atol=1e-4)
    np.testing.assert_array_equal(patch.labels, labels[cut])
    assert patch.liver is None
    np.testing.assert_array_equal(add_noise(transform, patch.image), patch.image)


def test_a_patch_larger_than_the_study_is_padded_with_zeros():
    image = np.ones((1, 6, 8), np.float32)
    patch = apply(identity(1, 2), image, image[0].astype(np.uint8), None, (2.5, 3.5), (10, 10), (1, 1))
    assert patch.labels.sum() == 48
    np.testing.assert_allclose(patch.image[0], patch.labels, atol=1e-5)
    np.testing.assert_array_equal(patch.labels[2:8, 1:9], 1)
    beside = apply(identity(1, 2), image, image[0].astype(np.uint8), None, (100, 100), (10, 10), (1, 1))
    assert not beside.image.any()
    assert not beside.labels.any()


def test_a_rotation_stays_one_on_voxels_that_are_not_square():
    """A disc in millimetres stays a disc of the same area."""
    shape, spacing = (40, 80), (2.0, 1.0)
    y, x = np.indices(shape)
    disc = (((y - 19.5) * 2) ** 2 + (x - 39.5) ** 2 < 15**2).astype(np.uint8)
    turned = replace(identity(1, 2), angle_rad=np.deg2rad(50))
    patch = apply(turned, disc[None].astype(np.float32), disc, None, (19.5, 39.5), shape, spacing)
    assert (patch.labels != disc).mean() < 0.02


def test_a_flip_mirrors_left_and_right_only():
    rng = np.random.default_rng(1)
    image = rng.random((1, 5, 6, 7), dtype=np.float32)
    patch = apply(
        replace(identity(1, 3), flip=True), image, None, None, (2, 2.5, 3), (5, 6, 7), (5.0, 2.0, 2.0)
    )
    np.testing.assert_allclose(patch.image, image[..., ::-1], atol=1e-4)


@pytest.mark.parametrize("size", [(32, 40), (6, 20, 24)])
def test_the_field_is_smooth_positive_and_centred_on_the_gain(size):
    transform = sample(np.random.default_rng(3), STRONG, len(size), PRESENT)
    values = field(transform, size)
    assert values.shape == size
    assert values.min() > 0
    centre = values[tuple(n // 2 for n in size)]
    assert centre == pytest.approx(transform.gain, rel=0.1)
    assert all(np.abs(np.diff(np.log(values), n=3, axis=a)).max(initial=0) < 1e-4 for a in range(len(size)))
    no_bias = replace(transform, bias=tuple(0.0 for _ in transform.bias))
    np.testing.assert_allclose(field(no_bias, size), transform.gain, rtol=1e-6)


@pytest.mark.parametrize("size", [(32, 40), (6, 20, 24)])
def test_kept_terms_of_the_field_give_the_polynomial(size):
    # an exact trick: 1e-5 of the largest value
    transform = sample(np.random.default_rng(3), STRONG, len(size), PRESENT)
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij")
    log_field, terms = np.full(size, np.log(transform.gain)), iter(transform.bias)
    for powers in itertools.product(range(3), repeat=len(size)):
        if 1 <= sum(powers) <= 2:
            log_field += next(terms) * np.prod([x**n for x, n in zip(places, powers)], axis=0)
    expected = np.exp(log_field)
    for _ in range(2):  # what is kept is used the second time
        assert np.abs(field(transform, size) - expected).max() <= 1e-5 * expected.max()


def test_masks_cut_in_one_call_are_those_cut_alone():
    image, mask = disc_study()
    liver = np.roll(mask, 5, axis=0)
    transform = sample(np.random.default_rng(8), STRONG, 2, PRESENT)
    where = ((30, 32), (48, 40), (1.0, 1.3))
    both = apply(transform, image, mask, liver, *where)
    np.testing.assert_array_equal(both.labels, apply(transform, image, mask, None, *where).labels)
    np.testing.assert_array_equal(both.liver, apply(transform, image, None, liver, *where).liver)
    assert (both.labels != both.liver).any()


def test_phase_dropout_never_hides_every_present_phase():
    dropping = AugmentationSettings(phase_dropout=1.0)
    for seed in range(20):
        keep = np.array(sample(np.random.default_rng(seed), dropping, 2, PRESENT).keep)
        assert (keep & np.array(PRESENT)).sum() == 1


def test_a_hidden_phase_is_zero_even_with_noise():
    image, mask = disc_study()
    transform = replace(identity(4, 2), keep=(True, False, False, True), noise=0.1, noise_seed=5)
    patch = apply(transform, image, mask, None, (30, 32), (32, 32), (1, 1))
    noisy = add_noise(transform, patch.image)
    assert not noisy[1].any()
    assert (noisy - patch.image)[0].std() == pytest.approx(0.1, rel=0.1)
    np.testing.assert_array_equal(noisy, add_noise(transform, patch.image))


def test_only_the_part_under_the_patch_is_read():
    """Values far from the patch, NaN here, must not be touched."""
    image = np.full((1, 200, 200), np.nan, np.float32)
    image[:, 80:130, 80:130] = 1.0
    transform = replace(identity(1, 2), angle_rad=0.3)
    patch = apply(transform, image, None, None, (104.5, 104.5), (20, 20), (1, 1))
    assert np.isfinite(patch.image).all()
    box, _ = augmentation._needed(np.eye(2), np.array([95.0, 95.0]), (20, 20), (200, 200))
    assert all(s.stop - s.start < 25 for s in box)


@pytest.mark.parametrize("shape", [(20, 24), (6, 20, 24)])
def test_tissue_at_the_edge_of_a_study_keeps_its_level_wherever_a_label_lies(shape):
    """The signal under a label is a truth: it must not fade into the 0 outside the study."""
    image, labels = np.ones((2, *shape), dtype=np.float32), np.ones(shape, dtype=np.uint8)
    unmoved = identity(2, len(shape))
    turned = replace(unmoved, angle_rad=0.2, zoom=0.9, shift=(0.05,) * len(shape))
    centre = tuple((n - 1) / 2 for n in shape)
    patch = apply(turned, image, labels, None, centre, shape, (1.0,) * len(shape))
    inside = patch.labels == 1
    assert np.count_nonzero(~inside) > 0
    assert patch.image[:, inside] == pytest.approx(1.0)
    assert not patch.image[:, ~inside].any()
