import pytest
import torch
from torch.nn import functional as F

from mtinet.config import resolve
from mtinet.model.build import build_network
from mtinet.model.stem import fold, folded_shape, unfold

SHAPES = [(16, 16), (15, 18), (7, 4), (5, 9, 11), (1, 8, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_unfold_undoes_fold(shape, factor):
    image = torch.rand(3, 1, *shape)
    folded = fold(image, factor)
    assert folded.shape == (3, factor ** len(shape), *folded_shape(shape, factor))
    assert torch.equal(unfold(folded, factor, shape), image)


def test_fold_is_pixel_unshuffle_in_the_plane():
    image = torch.rand(2, 1, 8, 12)
    assert torch.equal(fold(image, 2), F.pixel_unshuffle(image, 2))


@pytest.mark.parametrize("settings", [[], ["spatial_dims=3", "sampling.patch_size=8,16,16"]])
@pytest.mark.parametrize("shared", ["true", "false"])
def test_network_with_a_stem_takes_any_size_and_reaches_every_weight(settings, shared):
    config = resolve("tiny", None, ["encoder.stem=2", f"encoder.shared={shared}", *settings])
    network = build_network(config, 2)
    shape = (33, 30) if config.spatial_dims == 2 else (9, 33, 30)
    image = torch.rand(2, len(config.phases), *shape)
    present = torch.ones(2, len(config.phases), dtype=torch.bool)
    present[0, 1] = False
    regions = torch.zeros(2, 1, *shape)
    regions[..., 5:20, 8:18] = 1.0
    prediction = network(image, present, None, regions)
    assert prediction.mask_logits.shape == (2, 1, *shape)
    (
        prediction.mask_logits.square().sum()
        + prediction.enhancement.square().sum()
        + prediction.class_logits.square().sum()
    ).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
