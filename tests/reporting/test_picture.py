import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mtinet.reporting.picture import MAX_LESIONS, _paint_probabilities, shown_slice, study_picture
from mtinet.results import Lesion

PHASES = ("pre", "arterial", "portal_venous", "delayed")
SPACING_ZYX_MM = (5.0, 3.0, 3.0)


def lesion(number, enhancement=None):
    signal = {"pre": 100.0, "arterial": 240.0} if enhancement is None else enhancement
    return Lesion(number, 4000.0, 20.0, (0, 0, 0), 0.9, {"hcc": 0.8, "fnh": 0.2}, signal, {}, signal)


def labels_with(*numbers):
    labels = np.zeros((8, 30, 40), int)
    for place, number in enumerate(numbers):
        labels[2 + place, 4 * place + 2 : 4 * place + 6, 5:10] = number
    return labels


def read(path):
    from matplotlib.image import imread

    return imread(path)


@pytest.mark.parametrize("numbers", [(), (1,), (2, 1, 3, 4, 5)])
def test_picture_of_any_number_of_lesions(tmp_path, numbers):
    images = np.random.default_rng(0).uniform(0, 1, (4, 8, 30, 40))
    lesions = [lesion(n) for n in numbers]
    path = tmp_path / "new" / "picture.png"
    study_picture(
        images,
        (True, False, True, True),
        PHASES,
        labels_with(*numbers),
        SPACING_ZYX_MM,
        lesions,
        path,
        "$x^{ <b>",
    )
    picture = read(path)
    assert picture.shape[1] > 1000
    assert (picture.shape[0] > 700) == bool(numbers)
    assert picture[..., :3].std() > 0.05


def test_picture_without_any_signal(tmp_path):
    study_picture(
        np.zeros((2, 3, 8, 8)), (True, True), PHASES[:2], np.zeros((3, 8, 8), int), SPACING_ZYX_MM, [],
        tmp_path / "p.png", "empty",
    )  # fmt: skip
    assert (tmp_path / "p.png").is_file()


def test_slice_is_that_of_the_first_lesion():
    labels = labels_with(1, 2)
    assert shown_slice(labels, [lesion(2), lesion(1)]) == 3
    assert shown_slice(labels, []) == 4
    assert MAX_LESIONS >= 1


def test_lesion_too_small_for_the_grid_falls_back_to_the_middle():
    assert shown_slice(np.zeros((8, 4, 4), int), [lesion(1)]) == 4


@pytest.mark.parametrize("probability", [0.0, 0.5, 0.85, 0.9, 1.0])
def test_percentage_stands_clear_of_the_end_of_its_bar(probability):
    figure = Figure(figsize=(2.4, 0.8), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    sure = Lesion(1, 1.0, 1.0, (0, 0, 0), 0.9, {"hcc": probability, "fnh": 1 - probability}, {}, {}, {})
    _paint_probabilities(axes, sure)
    figure.draw_without_rendering()
    for text, bar in zip(axes.texts, axes.patches, strict=True):
        words = text.get_window_extent().transformed(axes.transData.inverted())
        assert not words.x0 <= bar.get_width() <= words.x1
        assert words.x0 >= 0
        assert words.x1 <= 100
