import math

import pytest
import torch

from mtinet.config import MdiefSettings
from mtinet.model import mdief as mdief_module
from mtinet.model.mdief import Mdief, channel_entropy, high_pass, transfer_function

FILTERS = ["ideal", "gaussian", "butterworth"]
SHAPES = [(16, 16), (15, 17), (7, 12), (5, 9, 11), (1, 8, 8), (4, 4), (3, 2)]


def full_transfer(shape, settings):
    """The same filter on the full spectrum, written down frequency by frequency."""
    h = torch.zeros(shape, dtype=torch.float64)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in shape)):
        radius = math.sqrt(
            sum((2 * (int(k) if k <= n // 2 else int(k) - n) / n) ** 2 for k, n in zip(index, shape))
        )
        c = settings.cutoff
        if settings.filter == "ideal":
            value = float(radius > c)
        elif settings.filter == "gaussian":
            value = 1 - math.exp(-(radius**2) / (2 * c**2))
        else:
            value = 0.0 if radius == 0 else 1 / (1 + (c / radius) ** (2 * settings.order))
        h[tuple(index)] = value
    return h


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_high_pass_equals_the_full_fourier_formula(kind, shape):
    settings = MdiefSettings(filter=kind, cutoff=0.3)
    x = torch.randn(2, 1, 3, *shape)
    axes = tuple(range(3, x.ndim))
    expected = torch.fft.ifftn(
        torch.fft.fftn(x.double(), dim=axes) * full_transfer(shape, settings), dim=axes
    )
    assert expected.imag.abs().max() < 1e-12
    torch.testing.assert_close(high_pass(x, None, settings), expected.real.float(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("axes", ["space", "space+phase"])
@pytest.mark.parametrize("shape", SHAPES)
def test_constant_map_has_no_high_frequency(kind, axes, shape):
    x = torch.full((1, 3, 2, *shape), 5.0)
    g = high_pass(x, None, MdiefSettings(filter=kind, axes=axes))
    assert g.norm() < 1e-5 * x.norm()


def test_signed_spectral_map_has_zero_mean_so_magnitudes_are_needed():
    g = high_pass(torch.rand(1, 2, 3, 15, 16), None, MdiefSettings())
    assert g.mean((-1, -2)).abs().max() < 1e-6
    assert g.abs().mean((-1, -2)).min() > 0.01


def test_filters_pass_more_as_frequency_rises():
    for kind in FILTERS:
        h = transfer_function((32, 32), MdiefSettings(filter=kind), torch.device("cpu"))
        assert h[0, 0] == 0
        assert (h[0].diff() >= 0).all()
        assert h[0, -1] > 0.9


def test_space_entropy_has_its_known_values():
    flat = torch.full((1, 1, 1, 8, 8), 3.0)
    point = torch.zeros(1, 1, 1, 8, 8)
    point[..., 2, 5] = 7.0
    half = torch.zeros(1, 1, 1, 8, 8)
    half[..., :4, :] = 2.0
    entropies = torch.cat([channel_entropy(m, "space").flatten() for m in (flat, point, half)])
    torch.testing.assert_close(
        entropies, torch.tensor([1.0, 0.0, math.log(32) / math.log(64)]), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(channel_entropy(100 * half, "space"), channel_entropy(half, "space"))


def test_channel_entropy_sums_to_the_entropy_of_the_shares():
    maps = torch.tensor([1.0, 1.0, 2.0, 4.0]).reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 6, 6)
    p = torch.tensor([1.0, 1.0, 2.0, 4.0]) / 8
    torch.testing.assert_close(channel_entropy(maps, "channel").flatten(), -p * p.log())


@pytest.mark.parametrize("entropy", ["space", "channel"])
def test_mdief_has_no_parameters_and_its_weights_sum_to_one_and_vary(entropy):
    mdief = Mdief(MdiefSettings(entropy=entropy))
    assert not list(mdief.parameters())
    assert not list(mdief.buffers())
    features = torch.rand(2, 4, 8, 17, 16) * (torch.rand(2, 4, 8, 17, 16) > torch.rand(8, 1, 1))
    fused, weights = mdief(features, None)
    assert fused.shape == features.shape
    assert weights.shape == (2, 4, 8, 2)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 8))
    assert weights[..., 0].std(-1).min() > 0.05


def test_raw_channel_entropies_would_be_plain_averaging():
    # why entropies are standardised: without it the weights of many channels hardly leave one half
    features = torch.rand(1, 1, 256, 16, 16)
    raw = Mdief(MdiefSettings(entropy="channel", standardise=False))(features, None)[1]
    standardised = Mdief(MdiefSettings(entropy="channel"))(features, None)[1]
    assert (raw - 0.5).abs().max() < 0.005
    assert (standardised - 0.5).abs().max() > 0.1


def test_a_map_of_one_pixel_carries_no_information():
    maps = torch.rand(2, 3, 16, 1, 1)
    for settings in (MdiefSettings(), MdiefSettings(standardise=False)):
        weights = Mdief(settings)(maps, None)[1]
        torch.testing.assert_close(weights, torch.full_like(weights, 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(channel_entropy(maps, "space"), torch.zeros(2, 3, 16), atol=1e-5, rtol=0)


def test_temperature_sharpens_the_weights():
    features = torch.rand(1, 2, 8, 16, 16).pow(3)
    spread = [
        Mdief(MdiefSettings(tau=tau))(features, None)[1][..., 0].std().item() for tau in (0.3, 1.0, 10.0)
    ]
    assert spread == sorted(spread, reverse=True)


@pytest.mark.parametrize("axes", ["space", "space+phase"])
@pytest.mark.parametrize("filler", [3.0, 1e6, float("nan")])
def test_absent_phase_changes_nothing_of_the_present_ones(axes, filler):
    present = torch.tensor([[True, False, True]])
    a = torch.rand(1, 3, 4, 9, 8)
    a[:, 1] = 0
    b = a.clone()
    b[:, 1] = filler
    fuse = Mdief(MdiefSettings(axes=axes))
    left, right = fuse(a, present), fuse(b, present)
    torch.testing.assert_close(left[0][:, ::2], right[0][:, ::2])
    torch.testing.assert_close(left[1][:, ::2], right[1][:, ::2])
    if axes == "space+phase":
        assert (high_pass(b, present, fuse.settings)[:, 1] == 0).all()


def test_space_and_phase_sees_what_changes_in_time_only():
    x = torch.arange(4.0).reshape(1, 4, 1, 1, 1).expand(1, 4, 1, 8, 8)
    assert high_pass(x, None, MdiefSettings(axes="space")).abs().max() < 1e-5
    assert high_pass(x, None, MdiefSettings(axes="space+phase")).abs().max() > 0.5


@pytest.mark.parametrize("entropy", ["space", "channel"])
def test_gradient_is_right_and_finite_where_maps_are_zero(entropy):
    mdief = Mdief(MdiefSettings(entropy=entropy))
    dead = torch.rand(1, 2, 3, 6, 5)
    dead[:, 0] = 0
    dead.requires_grad_()
    mdief(dead, None)[0].square().sum().backward()
    assert torch.isfinite(dead.grad).all()
    x = (torch.rand(1, 1, 3, 6, 5, dtype=torch.float64) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: mdief(y, None)[0], (x,))


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("shape", [(3, 4), (9, 8)])
def test_second_derivatives_are_right(kind, shape):
    # of penalties on gradients and Hessians; (3, 4) is filtered by one matrix, (9, 8) is not
    mdief = Mdief(MdiefSettings(filter=kind))
    x = (torch.rand(1, 2, 3, *shape, dtype=torch.float64) + 0.5).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda y: mdief(y, None)[0], (x,), fast_mode=True)


def test_asking_for_a_second_derivative_changes_neither_the_first_nor_its_finiteness():
    mdief = Mdief(MdiefSettings())
    x = torch.relu(torch.randn(2, 3, 4, 9, 8, dtype=torch.float64)).requires_grad_()
    loss = mdief(x, None)[0].square().sum()
    (again,) = torch.autograd.grad(loss, x, create_graph=True)
    (once,) = torch.autograd.grad(loss, x, retain_graph=True)
    torch.testing.assert_close(again, once, rtol=1e-9, atol=1e-9)
    again.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().max() > 0


def plain_mdief(features, settings):
    """The same in the operations of the formula, for automatic differentiation."""
    axes = tuple(range(3, features.ndim))
    shape = tuple(features.shape[3:])
    h = transfer_function(shape, settings, features.device, features.dtype)
    spectral = torch.fft.irfftn(torch.fft.rfftn(features, dim=axes) * h, s=shape, dim=axes)

    def entropy(maps):
        q = maps.abs().flatten(3)
        q = q / q.sum(-1, keepdim=True)
        return -(q * (q + 1e-12).log()).sum(-1) / math.log(q.shape[-1])

    e = torch.stack([entropy(features), entropy(spectral)], dim=2)
    e = (e - e.mean(-1, keepdim=True)) / (e.var(-1, unbiased=False, keepdim=True) + 1e-8).sqrt()
    w = torch.softmax(e / settings.tau, dim=2)[..., *[None] * len(axes)]
    return w[:, :, 0] * features + w[:, :, 1] * spectral


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("shape", [(16, 16), (15, 17), (5, 9, 11), (4, 4), (5, 3)])
def test_values_and_gradients_are_those_of_the_plain_formula(kind, shape):
    settings = MdiefSettings(filter=kind)
    features = torch.relu(torch.randn(2, 3, 4, *shape))
    direction = torch.randn(2, 3, 4, *shape)
    # where the map is exactly 0 the magnitude has no derivative
    smooth = features > 0

    def found(fuse, dtype):
        x = features.to(dtype).requires_grad_()
        fused = fuse(x)
        return fused.detach()[smooth], torch.autograd.grad((fused * direction).sum(), x)[0][smooth]

    def ours(x):
        return Mdief(settings)(x, None)[0]

    def plain(x):
        return plain_mdief(x, settings)

    def error(got, expected):
        return float((got - expected).abs().max() / expected.abs().max())

    value, gradient = found(plain, torch.float64)
    assert error(found(ours, torch.float64)[0], value) < 1e-9
    assert error(found(ours, torch.float64)[1], gradient) < 1e-7
    # in float32 dividing by the spread over channels magnifies rounding in the gradient, in both forms alike
    assert error(found(ours, torch.float32)[0], value) < 1e-5
    assert (
        error(found(ours, torch.float32)[1], gradient)
        < 2.0 * error(found(plain, torch.float32)[1], gradient) + 1e-5
    )


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("shape", [(32, 32), (15, 17), (4, 4), (5, 9, 11)])
def test_matrices_filter_like_the_transforms(kind, shape):
    # the bound of an exact trick: 1e-5 of the largest value, in float32
    settings = MdiefSettings(filter=kind)
    x = torch.relu(torch.randn(2, 3, 4, *shape))
    axes = tuple(range(3, x.ndim))
    h = transfer_function(shape, settings, x.device)
    expected = torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * h, s=shape, dim=axes)
    assert (high_pass(x, None, settings) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("piece", [1, 2 * 4 * 15 * 17, 10**9])
def test_images_taken_in_pieces_give_what_each_gives_alone(piece, monkeypatch):
    features = torch.relu(torch.randn(2, 3, 4, 15, 17))
    direction = torch.randn_like(features)
    monkeypatch.setattr(mdief_module, "_PIECE", piece)

    def found(x, along):
        x = x.clone().requires_grad_()
        fused, weights = Mdief(MdiefSettings())(x, None)
        return fused.detach(), weights.detach(), torch.autograd.grad((fused * along).sum(), x)[0]

    together = found(features, direction)
    with torch.no_grad():
        assert torch.equal(Mdief(MdiefSettings())(features, None)[0], together[0])
    for b in range(2):
        for p in range(3):
            alone = found(features[b : b + 1, p : p + 1], direction[b : b + 1, p : p + 1])
            for whole, part in zip(together, alone, strict=True):
                torch.testing.assert_close(whole[b, p], part[0, 0])


def test_a_filter_first_used_without_gradients_still_trains():
    # what is kept between calls must not remember the mode in which it was made
    settings = MdiefSettings(cutoff=0.123)
    for shape in ((4, 4), (9, 12)):
        with torch.inference_mode():
            high_pass(torch.rand(1, 1, 2, *shape), None, settings)
        x = torch.rand(1, 1, 2, *shape, requires_grad=True)
        high_pass(x, None, settings).square().sum().backward()
        assert x.grad.abs().max() > 0


def test_mdief_computes_in_float32_under_autocast():
    features = torch.rand(1, 2, 4, 9, 8)
    plain = Mdief(MdiefSettings())(features, None)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = Mdief(MdiefSettings())(features, None)[0]
    torch.testing.assert_close(plain, cast)


def test_single_pixel_maps_stay_finite():
    fused, weights = Mdief(MdiefSettings())(torch.rand(1, 2, 4, 1, 1), None)
    assert torch.isfinite(fused).all()
    torch.testing.assert_close(weights, torch.full_like(weights, 0.5))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_maps_of_whole_numbers_are_refused_instead_of_cut(dtype):
    maps = torch.ones(1, 2, 3, 9, 8, dtype=dtype)
    with pytest.raises(ValueError, match=r"floating maps: give maps\.float\(\)"):
        Mdief(MdiefSettings())(maps, None)


def test_a_mask_of_phases_that_is_not_bool_is_refused():
    with pytest.raises(ValueError, match=r"phase_present is int64; give bool"):
        Mdief(MdiefSettings())(torch.rand(1, 2, 3, 9, 8), torch.ones(1, 2, dtype=torch.int64))
