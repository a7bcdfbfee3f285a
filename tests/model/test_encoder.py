import pytest
import torch

from mtinet.config import EncoderSettings
from mtinet.model.encoder import PhaseEncoder, convolution_block, level_sizes


def encoder(shared=True, norm="batch", dims=2, phases=3):
    return PhaseEncoder(dims, phases, EncoderSettings(channels=(4, 6, 8), shared=shared, norm=norm), True)


@pytest.mark.parametrize("shape", [(16, 16), (17, 19), (33, 20), (4, 16, 17), (1, 16, 16), (2, 9, 24)])
@pytest.mark.parametrize("shared", [True, False])
def test_levels_have_the_stated_sizes(shape, shared):
    maps = encoder(shared, dims=len(shape))(torch.rand(2, 3, *shape), None)
    assert [tuple(m.shape) for m in maps] == [
        (2, 3, c, *size) for c, size in zip((4, 6, 8, 8), level_sizes(shape, 3))
    ]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("filler", [float("nan"), 1e6])
def test_absent_phases_never_enter(shared, filler):
    present = torch.tensor([[True, False, True], [True, True, False]])
    image = torch.rand(2, 3, 16, 16)
    filled = torch.where(present[:, :, None, None], image, filler)
    results = []
    for x in (image, filled):
        torch.manual_seed(1)
        net = encoder(shared)
        maps = net(x, present)
        sum(m.sum() for m in maps).backward()
        gradients = {f"gradient of {name}": p.grad for name, p in net.named_parameters()}
        results.append((maps, {**net.state_dict(), **gradients}))
    (maps_a, state_a), (maps_b, state_b) = results
    for a, b in zip(maps_a, maps_b):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert (b[~present] == 0).all()
    for name, value in state_a.items():
        torch.testing.assert_close(value, state_b[name], rtol=0, atol=0, msg=name)


def test_batch_statistics_are_those_of_the_present_phases():
    present = torch.tensor([[True, False, True], [True, True, False]])
    image = torch.rand(2, 3, 16, 16)
    a, b = encoder(), encoder()
    b.load_state_dict(a.state_dict())
    a(image, present)
    b(image[present].unsqueeze(1), None)
    for (name, left), right in zip(a.state_dict().items(), b.state_dict().values()):
        torch.testing.assert_close(left, right, msg=name)


def test_phases_do_not_mix_and_weights_are_shared_or_not():
    image = torch.rand(1, 1, 16, 16).expand(1, 3, 16, 16)
    shared, own = encoder(True, "group")(image, None)[-1], encoder(False, "group")(image, None)[-1]
    torch.testing.assert_close(shared[:, 0], shared[:, 1])
    assert (own[:, 0] - own[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("shared", [True, False])
def test_folding_phases_into_the_batch_equals_a_loop_over_them(shared):
    # an exact trick: 1e-5 of the largest value.  Group normalisation, so that a phase knows no other one
    net = encoder(shared, "group")
    image = torch.rand(2, 3, 17, 16)
    maps = net(image, None)
    for phase in range(3):
        blocks = net.encoders[0 if shared else phase]
        for found, alone in zip(maps, blocks(image[:, phase : phase + 1]), strict=True):
            assert (found[:, phase] - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_phase_that_nobody_has_gets_zero_gradients_not_none():
    net = encoder(shared=False)
    present = torch.tensor([[True, False, True]])
    sum(m.sum() for m in net(torch.rand(1, 3, 16, 16), present)).backward()
    assert all((p.grad == 0).all() for p in net.encoders[1].parameters())
    assert any((p.grad != 0).any() for p in net.encoders[0].parameters())


@pytest.mark.parametrize("dims", [2, 3])
def test_batch_norm_survives_a_single_value_a_channel(dims):
    block = convolution_block(dims, 2, 4, 1, "batch")
    x = torch.rand(1, 2, *[1] * dims)
    trained = block(x)
    assert torch.isfinite(trained).all()
    torch.testing.assert_close(block.eval()(x), trained)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_normalisations_train(norm):
    maps = encoder(norm=norm)(torch.rand(2, 3, 16, 16), None)
    assert all(torch.isfinite(m).all() for m in maps)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("stem", [1, 2])
def test_subtraction_shows_what_a_phase_gained_since_the_pre_phase(shared, stem):
    given = EncoderSettings(channels=(4, 6), shared=shared, stem=stem, subtraction=True)
    torch.manual_seed(0)
    net = PhaseEncoder(2, 3, given, True, pre=0).eval()
    # the second channel alone is looked at
    for blocks in net.encoders:
        blocks.blocks[0][0].weight.data[:, : stem**2] = 0
    image = torch.rand(1, 3, 16, 16)
    plain = net(image, None)
    brighter = net(image + 0.5, None)
    gained = net(image + torch.tensor([0.0, 0.5, 0.0])[:, None, None], None)
    for a, b, c in zip(plain, brighter, gained):
        torch.testing.assert_close(a, b)
        assert (a[:, 1] - c[:, 1]).abs().max() > 1e-3
        torch.testing.assert_close(a[:, 2], c[:, 2])


def test_without_the_pre_phase_nothing_was_gained():
    net = PhaseEncoder(2, 3, EncoderSettings(channels=(4, 6), subtraction=True), True, pre=0).eval()
    image, present = torch.rand(2, 3, 16, 16), torch.tensor([[False, True, True], [True] * 3])
    filled = torch.where(present[..., None, None], image, float("nan"))
    other = torch.where(present[..., None, None], image, 7.0)
    for a, b in zip(net(filled, present), net(other, present)):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a, b)
        assert (a[0, 0] == 0).all()
