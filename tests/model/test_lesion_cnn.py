import pytest
import torch

from mtinet.model.build import build_network
from mtinet.model.lesion_cnn import LesionCnn, lesion_crops


@pytest.mark.parametrize("centre", [(20, 24), (0, 0), (39, 47), (3, 40)])
def test_crops_are_the_image_around_the_region_and_zero_outside(centre: tuple[int, int]):
    image = 1 + torch.rand(2, 3, 40, 48)
    regions = torch.zeros(2, 2, 40, 48)
    regions[:, 0, *centre] = 1.0
    regions[1, 1, 10:13, 10:13] = 0.5
    crops = lesion_crops(image, regions, 16)
    assert crops.shape == (2, 2, 4, 16, 16)
    assert crops[0, 0, 3, 8, 8] == 1
    assert crops[0, 0, 3].sum() == 1
    torch.testing.assert_close(crops[0, 0, :3, 8, 8], image[0, :, *centre])
    rows, columns = (torch.arange(16) + c - 8 for c in centre)
    outside = ((rows < 0) | (rows >= 40))[:, None] | ((columns < 0) | (columns >= 48))[None]
    assert torch.equal(crops[0, 0, 0] == 0, outside)
    torch.testing.assert_close(crops[1, 1, :3], image[1, :, 3:19, 3:19])
    # an empty region has to be somewhere
    torch.testing.assert_close(crops[0, 1, :3], image[0, :, 12:28, 16:32])


def test_crops_in_three_dimensions_are_flatter():
    image, regions = torch.rand(1, 2, 6, 20, 20), torch.zeros(1, 1, 6, 20, 20)
    regions[0, 0, 3, 10, 10] = 1
    crops = lesion_crops(image, regions, 8)
    assert crops.shape == (1, 1, 3, 2, 8, 8)
    torch.testing.assert_close(crops[0, 0, :2], image[0, :, 2:4, 6:14, 6:14])


@pytest.mark.parametrize("dims", [2, 3])
def test_the_cnn_takes_crops_of_any_side(dims: int):
    net = LesionCnn(dims, 3, 5, (4, 8, 8), 0.1)
    assert net(torch.rand(2, 3, *(7,) * dims)).shape == (2, 5)


@pytest.mark.slow
def test_mask_and_class_of_the_separate_networks_share_nothing(settings):
    network = build_network(settings("model=unet_cnn"), 2)
    image, regions = torch.rand(2, 4, 32, 32), torch.zeros(2, 1, 32, 32)
    regions[..., 10:20, 10:20] = 1
    out = network(image, regions=regions)
    out.mask_logits.sum().backward(retain_graph=True)
    assert all(p.grad is None for p in network.cnn.parameters())
    network.zero_grad(set_to_none=True)
    (out.class_logits.sum() + out.enhancement.sum()).backward()
    assert all(p.grad is None for p in network.body.parameters())
    assert all(p.grad is not None for p in network.cnn.parameters())


@pytest.mark.slow
def test_only_what_is_around_the_lesion_decides_its_class(settings):
    network = build_network(settings("model=unet_cnn", "baseline.crop=8"), 2).eval()
    image, regions = torch.rand(1, 4, 32, 32), torch.zeros(1, 1, 32, 32)
    regions[..., 14:18, 14:18] = 1
    other = image.clone()
    other[..., :10] = torch.rand(1, 4, 32, 10)
    a, b = network(image, regions=regions), network(other, regions=regions)
    torch.testing.assert_close(a.class_logits, b.class_logits)
    torch.testing.assert_close(a.enhancement, b.enhancement)
    assert (a.mask_logits - b.mask_logits).abs().max() > 0
