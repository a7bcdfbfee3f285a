import torch

from mtinet.model.transformer import PhaseEncoding, PhaseTransformer, masked_mean, sinusoid

PHASES = ("pre", "arterial", "portal_venous", "delayed")


def test_absent_phases_are_no_keys_and_attention_is_a_share():
    net = PhaseTransformer(16, 2, 4, 0.0)
    tokens, present = torch.randn(3, 4, 16), torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    changed = torch.where(present[..., None], tokens, 100.0)
    a, share_a = net(tokens, present)
    b, share_b = net(changed, present)
    torch.testing.assert_close(a[present], b[present])
    torch.testing.assert_close(share_a, share_b)
    torch.testing.assert_close(share_a.sum(1), torch.ones(3))
    assert (share_a[~present] == 0).all()


def test_depth_zero_only_normalises():
    tokens, attention = PhaseTransformer(8, 0, 2, 0.0)(torch.randn(2, 3, 8), torch.ones(2, 3).bool())
    assert attention is None
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 3), atol=1e-6, rtol=0)


def test_dropout_comes_from_the_generator():
    net = PhaseTransformer(16, 1, 2, 0.5)
    tokens, present = torch.randn(2, 4, 16), torch.ones(2, 4).bool()

    def run(seed):
        return net(tokens, present, torch.Generator().manual_seed(seed))[0]

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))
    state = torch.get_rng_state()
    run(5)
    assert torch.equal(state, torch.get_rng_state())
    net.eval()
    assert torch.equal(run(3), run(4))


def test_masked_mean_counts_present_phases_only():
    tokens = torch.tensor([[[1.0], [3.0], [50.0]]])
    assert masked_mean(tokens, torch.tensor([[True, True, False]])).item() == 2
    assert masked_mean(tokens, torch.zeros(1, 3).bool()).item() == 0


def test_time_encoding_uses_times_and_falls_back_to_nominal_ones():
    encode = PhaseEncoding("time", PHASES, 16)
    tokens = torch.zeros(2, 1, 4, 16)
    nominal = encode(tokens, None)
    unknown = encode(tokens, torch.full((2, 4), float("nan")))
    torch.testing.assert_close(nominal, unknown)
    times = torch.tensor([[0.0, 20.0, 65.0, 180.0], [0.0, 32.0, 65.0, 180.0]])
    given = encode(tokens, times)
    torch.testing.assert_close(given[0], nominal[0])
    assert (given[1, 0, 1] - given[0, 0, 1]).abs().max() > 0.05
    torch.testing.assert_close(given[1, 0, 2:], given[0, 0, 2:])


def test_sinusoid_tells_positions_apart_at_any_width():
    for width in (5, 8):
        code = sinusoid(torch.arange(7), width)
        assert code.shape == (7, width)
        assert torch.pdist(code).min() > 0.1
