import numpy as np
import pytest

from mtinet.reporting import slices

SPACING = (2.0, 3.0)


def test_right_and_anterior_are_shown_left_and_up():
    plane = np.zeros((10, 20))
    plane[9, 19] = 1.0  # the grid runs to the patient's anterior and right
    assert slices.displayed(plane)[0, 0] == 1.0


def test_outline_surrounds_the_displayed_mask_in_mm():
    labels = np.zeros((10, 20), int)
    labels[6:9, 12:18] = 1
    (outline,) = slices.outlines(labels, SPACING)
    rows, columns = np.nonzero(slices.displayed(labels))
    centre = [(columns.mean() + 0.5) * SPACING[1], (rows.mean() + 0.5) * SPACING[0]]
    np.testing.assert_allclose((outline.min(0) + outline.max(0)) / 2, centre)
    np.testing.assert_allclose(outline.max(0) - outline.min(0), [6 * SPACING[1], 3 * SPACING[0]])


def test_outline_at_the_edge_is_closed():
    (outline,) = slices.outlines(np.ones((4, 5), int), (1.0, 1.0))
    np.testing.assert_allclose(outline[0], outline[-1])


def test_touching_lesions_have_an_outline_each():
    labels = np.zeros((8, 8), int)
    labels[2:5, 2:4], labels[2:5, 4:6] = 1, 2
    assert len(slices.outlines(labels, SPACING)) == 2


def test_path_holds_every_point():
    path = slices.path_data([np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0]])])
    assert path == "M0.0,0.0L2.0,0.0L2.0,1.0Z"


def test_window_is_one_for_all_present_phases():
    images = np.ones((3, 4, 4)) * np.array([1.0, 2.0, 100.0])[:, None, None]
    assert slices.window(images, np.array([True, True, False])) == (0.0, 2.0)


@pytest.mark.parametrize("images", [np.zeros((2, 4, 4)), np.full((2, 4, 4), np.nan)])
def test_window_and_body_of_an_empty_study(images):
    low, high = slices.window(images, np.array([True, True]))
    assert low < high
    box = slices.body_box(images, np.array([True, True]), SPACING)
    assert (box.left, box.top, box.width, box.height) == (0.0, 0.0, 12.0, 8.0)


def test_body_box_holds_the_body_and_not_all_air():
    images = np.zeros((1, 40, 60))
    images[0, 10:30, 20:50] = 1.0
    box = slices.body_box(images, np.array([True]), (1.0, 1.0))
    assert (box.left, box.top, box.width, box.height) == (4.0, 4.0, 42.0, 32.0)


def test_zoom_stays_inside_and_holds_the_largest_outline():
    large = np.array([[150.0, 5.0], [190.0, 5.0], [190.0, 40.0]])
    box = slices.zoom_box([large, np.array([[10.0, 10.0], [12.0, 12.0]])], (200.0, 160.0))
    assert box is not None
    assert box.left <= 150.0
    assert box.left + box.width >= 190.0
    assert box.top >= 0.0
    assert box.left + box.width <= 200.0
    assert box.width / box.height == pytest.approx(slices.ZOOM_ASPECT)


def test_zoom_needs_an_outline():
    assert slices.zoom_box([], (200.0, 160.0)) is None


def test_grey_is_a_png_of_one_pixel_a_voxel():
    import base64
    import io

    from matplotlib.image import imread

    plane = np.array([[0.0, 1.0, 2.0], [4.0, 2.0, np.nan]])
    source = slices.grey(plane, (0.0, 4.0))
    picture = imread(io.BytesIO(base64.b64decode(source.split(",")[1])), format="png")
    expected = np.array([[0.0, 0.5, 1.0], [0.5, 0.25, 0.0]])
    np.testing.assert_allclose(picture, expected, atol=0.01)
