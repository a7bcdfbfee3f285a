import numpy as np

from mtinet.imaging.bias import common_field
from mtinet.imaging.masks import body_mask


def test_one_field_is_found_and_keeps_the_ratio_of_phases(toy_maker):
    toy = toy_maker(noise=1.0)
    images = [volume.array for volume in toy.images.values()]
    affine = toy.mask.affine
    x = np.linspace(-1.0, 1.0, toy.mask.shape[0])[:, None, None]
    true = np.exp(0.3 * x).astype(np.float32)
    spoilt = [image * true for image in images]
    found = common_field(spoilt, affine)
    body = body_mask(images[2])
    left = np.log(found / true)[body]
    assert left.std() < 0.5 * np.log(np.broadcast_to(true, found.shape))[body].std()
    assert abs(np.log(found[body]).mean()) < 0.1
    np.testing.assert_allclose(
        (spoilt[2] / found)[body] / (spoilt[0] / found)[body], images[2][body] / images[0][body], rtol=1e-4
    )
    np.testing.assert_array_equal(found, common_field(spoilt, affine))


def test_without_a_body_there_is_no_field():
    assert (common_field([np.zeros((8, 8, 8), np.float32)], np.eye(4)) == 1.0).all()
