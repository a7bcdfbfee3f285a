import pytest
import torch

from mtinet.config import HeadSettings
from mtinet.model.heads import PhaseHead, phase_tokens

PHASES = ("pre", "arterial", "portal_venous", "delayed")
ORDER = torch.tensor([2, 0, 3, 1])


def head(position, depth=2):
    return PhaseHead(6, PHASES, 3, HeadSettings(width=16, depth=depth, heads=2, position=position)).eval()


def test_without_encoding_permuting_tokens_keeps_class_and_permutes_enhancement():
    net, tokens, present = head("none"), torch.randn(2, 3, 4, 6), torch.ones(2, 4).bool()
    plain, permuted = net(tokens, present), net(tokens[:, :, ORDER], present)
    torch.testing.assert_close(permuted.class_logits, plain.class_logits)
    torch.testing.assert_close(permuted.enhancement, plain.enhancement[..., ORDER])
    torch.testing.assert_close(permuted.attention, plain.attention[..., ORDER])


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "time"])
def test_with_an_encoding_neither_holds(position):
    net, tokens, present = head(position), torch.randn(2, 3, 4, 6), torch.ones(2, 4).bool()
    plain, permuted = net(tokens, present), net(tokens[:, :, ORDER], present)
    assert (permuted.class_logits - plain.class_logits).abs().max() > 1e-3
    assert (permuted.enhancement - plain.enhancement[..., ORDER]).abs().max() > 1e-3


def test_absent_tokens_change_neither_class_nor_the_others_enhancement():
    net, tokens = head("learned"), torch.randn(2, 1, 4, 6)
    present = torch.tensor([[True, False, True, True], [True, True, True, False]])
    other = torch.where(present[:, None, :, None], tokens, 50.0)
    a, b = net(tokens, present), net(other, present)
    torch.testing.assert_close(a.class_logits, b.class_logits)
    torch.testing.assert_close(a.enhancement[:, 0][present], b.enhancement[:, 0][present])
    assert (b.attention[:, 0][~present] == 0).all()
    torch.testing.assert_close(b.attention.sum(-1), torch.ones(2, 1))


def test_regions_do_not_see_each_other():
    net, tokens, present = head("learned"), torch.randn(2, 3, 4, 6), torch.ones(2, 4).bool()
    together, alone = net(tokens, present), net(tokens[:, 1:2], present)
    torch.testing.assert_close(together.class_logits[:, 1:2], alone.class_logits)
    torch.testing.assert_close(together.enhancement[:, 1:2], alone.enhancement)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_is_a_setting(depth):
    net = head("learned", depth)
    assert len(net.transformer.blocks) == depth
    assert (net(torch.randn(1, 1, 4, 6), torch.ones(1, 4).bool()).attention is None) == (depth == 0)


def test_tokens_are_means_under_the_region_level_by_level():
    fine, deep = torch.rand(2, 4, 3, 8, 8), torch.rand(2, 4, 5, 2, 2)
    region = torch.zeros(2, 2, 8, 8)
    region[:, 0, :4, :4] = 1  # exactly one deep cell
    region[:, 1, 5, 6] = 1  # a sixteenth of one
    tokens = phase_tokens((fine, deep), region)
    assert tokens.shape == (2, 2, 4, 8)
    torch.testing.assert_close(tokens[:, 0, :, :3], fine[..., :4, :4].mean((-1, -2)))
    torch.testing.assert_close(tokens[:, 0, :, 3:], deep[..., 0, 0])
    torch.testing.assert_close(tokens[:, 1, :, :3], fine[..., 5, 6])
    torch.testing.assert_close(tokens[:, 1, :, 3:], deep[..., 1, 1])
