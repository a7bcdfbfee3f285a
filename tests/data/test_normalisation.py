import numpy as np
import pytest

from mtinet.data.normalisation import study_gain


def arrays(toy):
    return {phase: volume.array for phase, volume in toy.images.items()}


def test_the_gain_follows_the_images_scale(toy):
    gain = study_gain(arrays(toy), 95.0)
    scaled = {phase: array * 12.5 for phase, array in arrays(toy).items()}
    assert study_gain(scaled, 95.0) == pytest.approx(12.5 * gain, rel=1e-5)


def test_the_gain_is_the_percentile_of_the_body_not_of_the_air(toy):
    image = toy.images["portal_venous"].array
    assert study_gain(arrays(toy), 95.0) == pytest.approx(np.percentile(image[image > 100], 95.0))


def test_the_gain_comes_from_the_portal_venous_phase_then_the_delayed(toy):
    images = arrays(toy)
    images["pre"] = images["pre"] * 50
    assert study_gain(images, 95.0) == study_gain({"portal_venous": images["portal_venous"]}, 95.0)
    del images["portal_venous"]
    assert study_gain(images, 95.0) == study_gain({"delayed": images["delayed"]}, 95.0)


def test_what_is_not_finite_is_left_out(toy):
    images = arrays(toy)
    before = study_gain(images, 95.0)
    images["portal_venous"] = images["portal_venous"].copy()
    images["portal_venous"][:, 0] = np.nan  # air
    assert study_gain(images, 95.0) == pytest.approx(before, rel=0.01)


def test_no_signal_is_an_error():
    with pytest.raises(ValueError, match="delayed holds no signal"):
        study_gain({"delayed": np.zeros((4, 4, 4))}, 95.0)
    with pytest.raises(ValueError, match="no image"):
        study_gain({}, 95.0)
