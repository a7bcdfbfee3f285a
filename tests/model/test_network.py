"""The interface that all networks share: one table of edge cases, run by each of them."""

import pytest
import torch

from mtinet.model.build import build_network
from mtinet.model.encoder import level_sizes
from mtinet.model.network import pool_regions

BASELINES = ["basic_unet", "dynunet", "swinunetr", "attention_unet", "unet_cnn"]

CASES = [
    # phases, batch, regions, shape
    pytest.param(4, 2, 3, (32, 32), id="usual"),
    pytest.param(2, 1, 1, (16, 16), id="smallest"),
    pytest.param(6, 1, 2, (33, 21), id="odd, six phases"),
    pytest.param(3, 2, 1, (40, 17), id="odd, three phases"),
    pytest.param(4, 1, 2, (8, 32, 32), id="3-D thin"),
    pytest.param(2, 2, 1, (5, 17, 19), id="3-D odd"),
    pytest.param(5, 1, 1, (1, 16, 16), id="3-D single slice"),
]


def check(config, phases, batch, regions, shape):
    network = build_network(config, 3)
    image = torch.rand(batch, phases, *shape)
    present = torch.ones(batch, phases).bool()
    present[0, -1] = False
    weights = (torch.rand(batch, regions, *shape) > 0.7).float()
    weights[0, -1] = 0  # an empty region
    for training in (True, False):
        network.train(training)
        out = network(image, present, None, weights)
        assert out.mask_logits.shape == (batch, 1, *shape)
        assert out.enhancement.shape == (batch, regions, phases)
        assert out.class_logits.shape == (batch, regions, 3)
        assert out.region_valid.shape == (batch, regions)
        assert out.region_valid.dtype == torch.bool
        assert not out.region_valid[0, -1]
        assert out.region_valid.flatten()[regions:].all()
        assert all(torch.isfinite(part.float()).all() for part in out)
    filled = image.clone()
    filled[~present] = float("nan")
    for known, blind in zip(out, network(filled, present, None, weights)):
        torch.testing.assert_close(blind, known, msg="what stands at absent phases matters")
    features = network.encode(image, present)
    torch.testing.assert_close(network.segment(features), out.mask_logits)
    readout = network.read(features, weights)
    torch.testing.assert_close(readout.enhancement, out.enhancement)
    torch.testing.assert_close(readout.class_logits, out.class_logits)
    alone = network(image)
    assert alone.enhancement.shape == (batch, 1, phases)
    sum(part.float().sum() for part in network(image, present, None, weights)[:3]).backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("pooling", ["lesion", "global"])
@pytest.mark.parametrize(("phases", "batch", "regions", "shape"), CASES)
def test_mtinet(phases, batch, regions, shape, pooling, settings):
    check(settings(f"head.pooling={pooling}", phases=phases, shape=shape), phases, batch, regions, shape)


@pytest.mark.slow
@pytest.mark.parametrize("model", BASELINES)
@pytest.mark.parametrize(("phases", "batch", "regions", "shape"), CASES)
def test_baselines(model, phases, batch, regions, shape, settings):
    check(settings(f"model={model}", phases=phases, shape=shape), phases, batch, regions, shape)


def test_global_readout_is_repeated_for_every_region(settings):
    network = build_network(settings("head.pooling=global"), 2).eval()
    image = torch.rand(2, 4, 32, 32)
    many = network(image, regions=torch.rand(2, 3, 32, 32))
    one = network(image)
    torch.testing.assert_close(many.enhancement, one.enhancement.expand(-1, 3, -1))
    torch.testing.assert_close(many.class_logits, one.class_logits.expand(-1, 3, -1))


def test_lesion_readout_depends_on_the_region_and_falls_back_to_the_predicted_mask(settings):
    network = build_network(settings(), 2).eval()
    image = torch.rand(1, 4, 32, 32)
    region = torch.zeros(1, 2, 32, 32)
    region[:, 0, :16] = 1
    region[:, 1, 16:] = 1
    out = network(image, regions=region)
    assert (out.enhancement[:, 0] - out.enhancement[:, 1]).abs().max() > 1e-6
    own = network.predicted_region(out.mask_logits)
    assert not own.requires_grad
    torch.testing.assert_close(network(image).enhancement, network(image, regions=own).enhancement)
    features = network.encode(image)
    torch.testing.assert_close(network.read(features).enhancement, network(image).enhancement)


def test_parts_equal_the_whole(settings):
    network = build_network(settings(), 2).eval()
    image, present, region = torch.rand(2, 4, 32, 32), torch.ones(2, 4).bool(), torch.rand(2, 2, 32, 32)
    features = network.encode(image, present)
    whole = network(image, present, None, region)
    readout = network.read(features, region)
    torch.testing.assert_close(network.segment(features), whole.mask_logits)
    torch.testing.assert_close(readout.enhancement, whole.enhancement)
    torch.testing.assert_close(readout.class_logits, whole.class_logits)
    assert readout.attention.shape == (2, 2, 4)


def test_a_network_that_hands_no_image_on_cannot_add_to_its_signal(settings):
    network = build_network(settings("head.readout=residual"), 2).eval()
    features = network.encode(torch.rand(1, 4, 32, 32))._replace(image=None)
    with pytest.raises(ValueError, match=r"Features\.image"):
        network.read(features, torch.ones(1, 1, 32, 32))


def test_everybody_present_is_the_same_said_or_unsaid(settings):
    network = build_network(settings(), 2).eval()
    image = torch.rand(2, 4, 32, 32)
    for said, unsaid in zip(network(image, torch.ones(2, 4).bool()), network(image)):
        torch.testing.assert_close(said, unsaid)


def test_region_valid_of_the_caller_is_kept(settings):
    given = torch.tensor([[True, False]])
    out = build_network(settings(), 2)(
        torch.rand(1, 4, 32, 32), regions=torch.ones(1, 2, 32, 32), region_valid=given
    )
    assert torch.equal(out.region_valid, given)


def test_enhancement_statistics_scale_the_output_and_are_saved(settings):
    network = build_network(settings(), 2).eval()
    image = torch.rand(1, 4, 32, 32)
    before = network(image).enhancement
    network.set_enhancement_statistics(2.0, 3.0)
    torch.testing.assert_close(network(image).enhancement, 2 + 3 * before)
    other = build_network(settings("training.seed=9"), 2).eval()
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(other(image).enhancement, network(image).enhancement)
    for mean, std in ((0.0, 0.0), (float("nan"), 1.0), (0.0, float("nan"))):
        with pytest.raises(ValueError, match="at least two different"):
            network.set_enhancement_statistics(mean, std)


@pytest.mark.parametrize(
    ("image", "present", "regions", "message"),
    [
        ((1, 3, 32, 32), None, None, "4 phases"),
        ((1, 4, 8, 32, 32), None, None, "2 spatial dimensions"),
        ((2, 4, 32, 32), torch.ones(2, 3).bool(), None, "one value a study and phase"),
        ((2, 4, 32, 32), torch.tensor([[True] * 4, [False] * 4]), None, "item 1 .* no phase"),
        ((2, 4, 32, 32), torch.ones(2, 4), None, "phase_present is float32; give bool"),
        ((2, 4, 32, 32), torch.ones(2, 4, dtype=torch.int64), None, "phase_present is int64; give bool"),
        ((1, 4, 32, 32), None, (1, 1, 16, 16), "on the image's grid"),
        (
            (2, 4, 32, 32),
            None,
            (3, 1, 32, 32),
            r"\(3, 1, 32, 32\); give weights \[B, R, \*S\], here \[2, regions, 32, 32\]",
        ),
        ((2, 4, 32, 32), None, (1, 1, 32, 32), r"here \[2, regions, 32, 32\]"),
        ((2, 4, 32, 32), None, (2, 32, 32), r"here \[2, regions, 32, 32\]"),
    ],
)
def test_wrong_input_is_refused_with_its_cause(image, present, regions, message, settings):
    network = build_network(settings(), 2)
    with pytest.raises(ValueError, match=message):
        network(torch.rand(*image), present, None, None if regions is None else torch.rand(*regions))


@pytest.mark.parametrize("shape", [(8, 8), (9, 7), (4, 8, 6)])
def test_pooling_a_constant_gives_the_constant(shape):
    maps, regions = torch.full((2, 3, *shape), 4.0), torch.rand(2, 5, *[2 * n for n in shape])
    torch.testing.assert_close(pool_regions(maps, regions), torch.full((2, 5, 3), 4.0))
    torch.testing.assert_close(pool_regions(maps, None), torch.full((2, 1, 3), 4.0))


def test_pooling_ignores_the_scale_of_the_weights():
    maps, regions = torch.rand(1, 3, 8, 8), torch.rand(1, 2, 16, 16)
    torch.testing.assert_close(pool_regions(maps, 1e-6 * regions), pool_regions(maps, regions))


@pytest.mark.parametrize("side", [16, 33, 96, 136])
@pytest.mark.parametrize("levels", [1, 4])
def test_a_pixel_falls_into_the_cell_that_pooling_made_of_it(side, levels):
    shape = (1, 1, side, 20)
    maps = torch.rand(1, 3, *level_sizes((side, 20), levels)[-1])
    for row in (0, side // 2, side - 1):
        region = torch.zeros(shape)
        region[0, 0, row, 7] = 1
        pooled = pool_regions(maps, region)
        assert torch.equal(pooled[0, 0], maps[0, :, row // 2**levels, 7 // 2**levels])
