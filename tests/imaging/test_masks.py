import numpy as np
import pytest

from mtinet.imaging.masks import (
    body_mask,
    bounding_boxes,
    components,
    dice,
    equivalent_diameter_mm,
    number_by_class,
    voxel_counts,
)


def test_components_run_from_the_largest_and_corners_connect():
    mask = np.zeros((6, 6, 3), bool)
    mask[0, 0, 0] = True
    mask[2:4, 2:4, 1] = True
    mask[4, 4, 2] = True  # touches the block at a corner
    numbered = components(mask)
    assert numbered[0, 0, 0] == 2
    assert (numbered == 1).sum() == 5
    np.testing.assert_array_equal(numbered > 0, mask)


def test_no_component_in_an_empty_mask():
    assert components(np.zeros((3, 3))).max() == 0
    assert voxel_counts(np.zeros((3, 3), int)) == {}


def test_dice_is_one_for_what_is_the_same_and_for_two_empty_masks():
    one, other = np.zeros((2, 4, 4), bool)
    assert dice(one, other) == 1.0
    one[:2], other[1:3] = True, True
    assert dice(one, one) == 1.0
    assert dice(one, other) == dice(other, one) == 0.5
    assert dice(one, ~one) == 0.0


def test_boxes_hold_exactly_their_label():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1:3, 2:5, 6] = 4
    assert bounding_boxes(labels) == {4: (slice(1, 3), slice(2, 5), slice(6, 7))}
    assert voxel_counts(labels) == {4: 6}


def test_equivalent_diameter_inverts_the_ball():
    assert equivalent_diameter_mm(np.pi / 6 * 12.0**3) == pytest.approx(12.0)


def test_body_mask_finds_the_body_whatever_the_scale(toy):
    image = toy.images["portal_venous"].array
    body = body_mask(image)
    np.testing.assert_array_equal(body, image > 100)
    np.testing.assert_array_equal(body_mask(image * 7.5), body)


def test_body_mask_of_an_image_without_contrast_is_empty():
    assert not body_mask(np.zeros((4, 4, 4))).any()
    assert not body_mask(np.full((4, 4, 4), np.nan)).any()


def test_parts_of_a_class_are_lesions_of_that_class():
    mask = np.zeros((12, 6, 3), int)
    mask[0:2, 0:2] = 2
    mask[4:8, 0:3] = 2
    mask[8:10, 0:3] = 3  # touches the other class and stays apart
    mask[11, 5, 2] = 1  # not a lesion
    numbers, labels = number_by_class(mask, {2: "hcc", 3: "fnh"})
    assert labels == {1: "hcc", 2: "fnh", 3: "hcc"}
    assert [int((numbers == n).sum()) for n in (1, 2, 3)] == [36, 18, 12]
    assert not numbers[mask == 1].any()
    assert np.array_equal(numbers > 0, mask > 1)


def test_a_mask_without_lesions_has_no_numbers():
    numbers, labels = number_by_class(np.zeros((2, 2, 2), int), {1: "hcc"})
    assert not numbers.any()
    assert labels == {}
