"""Images that are no magnitudes are known."""

import numpy as np

from mtinet.imaging.magnitude import BELOW_ZERO, share_below_zero
from mtinet.volume import Volume


def volume(array):
    return Volume(array, np.eye(4))


def test_magnitudes_and_what_interpolation_leaves_are_not_below_zero():
    values = np.random.default_rng(0).gamma(2.0, 100.0, (20, 20, 20)).astype(np.float32)
    assert share_below_zero(volume(values)) == 0
    values[:, :, 0] = -0.001 * values.max()  # ringing
    assert share_below_zero(volume(values)) == 0


def test_normalised_and_subtracted_images_are_below_zero():
    values = np.random.default_rng(0).gamma(2.0, 100.0, (20, 20, 20)).astype(np.float32)
    scored = (values - values.mean()) / values.std()
    assert share_below_zero(volume(scored)) > BELOW_ZERO
