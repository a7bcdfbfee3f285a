import pytest
import torch

from mtinet.model.fusion import build_fusion
from mtinet.model.mdief import Mdief, high_pass

KINDS = ["mdief", "concat", "average", "spatial", "spectral", "attention"]
LEARNED = ["concat", "attention"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axes", ["space", "space+phase"])
@pytest.mark.parametrize("filler", [0.0, 1e6, float("nan"), float("inf")])
def test_what_stands_at_absent_phases_does_not_matter_and_is_left_empty(kind, axes, filler, settings):
    fusion = build_fusion(settings(f"fusion={kind}", f"mdief.axes={axes}"), 6)
    present = torch.tensor([[True, False, True], [True, True, True]])

    def found(standing):
        maps = torch.rand(2, 3, 6, 9, 8, generator=torch.Generator().manual_seed(0))
        maps[0, 1] = standing
        maps.requires_grad_()
        fused = fusion(maps, present)[0]
        return fused.detach(), *torch.autograd.grad(fused.square().sum(), [maps, *fusion.parameters()])

    assert (found(filler)[0][0, 1] == 0).all()
    for one, other in zip(found(filler), found(0.0), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_fusion_keeps_shape_and_its_weights_sum_to_one(kind, settings):
    fusion = build_fusion(settings(f"fusion={kind}"), 6)
    maps = torch.rand(2, 3, 6, 9, 8)
    fused, weights = fusion(maps, None)
    assert fused.shape == maps.shape
    if weights is not None:
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 6))
    assert bool(list(fusion.parameters())) == (kind in LEARNED)


def test_learned_weights_never_start_dead(settings):
    # of rectified units on magnitudes, which are all positive, all could be 0 for every input
    config = settings("fusion=attention")
    maps = torch.rand(8, 2, 4, 16, 16) * torch.rand(8, 2, 4, 1, 1)
    for seed in range(64):
        torch.manual_seed(seed)
        weights = build_fusion(config, 4)(maps, None)[1]
        assert weights.std(0).max() > 1e-4, seed


def test_fixed_fusions_are_what_their_names_say(settings):
    maps = torch.rand(1, 2, 3, 8, 8)
    spectral = high_pass(maps, None, settings().mdief)
    fused = {
        k: build_fusion(settings(f"fusion={k}"), 3)(maps, None)[0] for k in ("average", "spatial", "spectral")
    }
    torch.testing.assert_close(fused["spatial"], maps)
    torch.testing.assert_close(fused["spectral"], spectral)
    torch.testing.assert_close(fused["average"], (maps + spectral) / 2)


def test_default_is_mdief_and_mixes_by_its_weights(settings):
    config, maps = settings(), torch.rand(1, 2, 3, 8, 8)
    fusion = build_fusion(config, 3)
    assert isinstance(fusion, Mdief)
    fused, weights = fusion(maps, None)
    w = weights[..., None, None]
    expected = w[:, :, :, 0] * maps + w[:, :, :, 1] * high_pass(maps, None, config.mdief)
    torch.testing.assert_close(fused, expected)
