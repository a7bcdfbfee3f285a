from __future__ import annotations

import pytest
import torch

from mtinet.config import resolve
from mtinet.model.build import build_network
from mtinet.model.dropout import FeatureDropout, dropout_layers, held_dropout


def network(*changes: str):
    torch.manual_seed(0)
    return build_network(resolve("tiny", assignments=list(changes)), 2).eval()


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_held_mask_is_the_same_for_every_slice_and_phase():
    layer = FeatureDropout(0.5, 8)
    x = torch.ones(3, 4, 8)
    with held_dropout(layer, generator(1)):
        out = layer.eval()(x)
    assert torch.equal(out, out[:1, :1].expand_as(out))
    assert set(out.unique().tolist()) == {0.0, 2.0}


def test_maps_lose_whole_channels():
    layer = FeatureDropout(0.5, 16, maps=True).train()
    torch.manual_seed(0)
    out = layer(torch.ones(2, 16, 5, 6))
    assert torch.equal(out, out[:, :, :1, :1].expand_as(out))
    assert not torch.equal(out[0], out[1])  # in training every sample has its own


def test_masks_vary_with_the_draw_and_end_with_the_block():
    net = network("head.dropout=0.4", "decoder.dropout=0.4")
    image = torch.randn(2, 4, 32, 32)
    plain = net(image)
    with held_dropout(net, generator(1)):
        one, again = net(image), net(image)
    with held_dropout(net, generator(2)):
        two = net(image)
    assert torch.equal(one.mask_logits, again.mask_logits)
    assert not torch.equal(one.mask_logits, two.mask_logits)
    assert not torch.equal(one.class_logits, two.class_logits)
    assert torch.equal(net(image).mask_logits, plain.mask_logits)


def test_the_mask_of_a_batch_is_that_of_each_of_its_slices():
    net = network("decoder.dropout=0.4")
    image = torch.randn(3, 4, 32, 32)
    with held_dropout(net, generator(1)):
        together = net(image).mask_logits
        apart = torch.cat([net(one[None]).mask_logits for one in image])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_only_the_part_with_dropout_varies():
    net = network("head.dropout=0.4")
    image = torch.randn(1, 4, 32, 32)
    regions = torch.ones(1, 1, 32, 32)
    with held_dropout(net, generator(1)):
        thinned = net(image, regions=regions)
    whole = net(image, regions=regions)
    assert torch.equal(thinned.mask_logits, whole.mask_logits)
    assert not torch.equal(thinned.class_logits, whole.class_logits)


@pytest.mark.parametrize("changes", [(), ("decoder.dropout=0.3", "head.dropout=0.3")])
def test_dropout_adds_no_weight(changes):
    assert network(*changes).state_dict().keys() == network().state_dict().keys()
    assert bool(dropout_layers(network(*changes))) == bool(changes)
