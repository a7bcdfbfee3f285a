import pytest
import torch

from mtinet.config import TimSettings
from mtinet.model.build import build_network
from mtinet.model.tim import mask_weights, region_signal, tim_loss


def scene(share=0.01, background=0.02):
    """A lesion of value 3 on a background of 1, segmented with probabilities 0.98 and ``background``."""
    side = round((share * 100 * 100) ** 0.5)
    lesion = torch.zeros(1, 1, 100, 100, dtype=torch.bool)
    lesion[..., :side, :side] = True
    image = torch.where(lesion, 3.0, 1.0)
    logits = torch.where(lesion, 0.98, background).logit()
    return image, logits


def test_power_or_hard_weights_keep_the_background_out_and_plain_ones_do_not():
    image, logits = scene()
    present = torch.ones(1, 1).bool()
    plain, _ = region_signal(image, logits, present, TimSettings(gamma=1.0))
    assert plain.item() < 1.7
    for settings in (TimSettings(), TimSettings(weighting="hard")):
        signal, valid = region_signal(image, logits, present, settings)
        assert abs(signal.item() - 3) < 0.01
        assert valid.all()


@pytest.mark.parametrize(("gamma", "peak"), [(4.0, 0.015), (8.0, 0.12), (30.0, 0.1)])
def test_small_weights_share_the_signal_as_large_ones_do(gamma, peak):
    logits = torch.full((1, 1, 8, 8), -12.0)
    logits[..., 3, 4] = torch.tensor(peak).logit()
    logits.requires_grad_()
    settings = TimSettings(gamma=gamma, min_confidence=0.01)
    signal, valid = region_signal(torch.full((1, 2, 8, 8), 0.8), logits, torch.ones(1, 2).bool(), settings)
    assert valid.all()
    torch.testing.assert_close(signal, torch.full((1, 1, 2), 0.8))
    (gradient,) = torch.autograd.grad(signal.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)  # of a flat image


def test_hard_weights_are_the_mean_under_the_thresholded_mask():
    image, logits = torch.rand(2, 3, 9, 8), torch.randn(2, 1, 9, 8)
    signal, _ = region_signal(image, logits, torch.ones(2, 3).bool(), TimSettings(weighting="hard"))
    for b in range(2):
        expected = image[b, :, logits[b, 0] > 0].mean(-1)
        torch.testing.assert_close(signal[b, 0], expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_regions_and_liver_limit_what_is_read(dims):
    shape = (8,) * dims
    image, logits = torch.ones(1, 2, *shape), torch.full((1, 1, *shape), 4.0)
    image[..., 4:] = 5.0
    left = torch.zeros(1, 1, *shape)
    left[..., :4] = 1
    present = torch.ones(1, 2).bool()
    signal, valid = region_signal(image, logits, present, TimSettings(), torch.cat([left, 1 - left], 1))
    torch.testing.assert_close(signal, torch.tensor([[[1.0, 1.0], [5.0, 5.0]]]))
    signal, valid = region_signal(image, logits, present, TimSettings(), torch.cat([left, 1 - left], 1), left)
    torch.testing.assert_close(signal[:, 0], torch.ones(1, 2))
    assert valid.tolist() == [[True, False]]


def test_unsure_masks_and_absent_phases_do_not_count():
    image = torch.rand(2, 3, 8, 8)
    image[0, 1] = float("nan")
    logits = torch.full((2, 1, 8, 8), -3.0, requires_grad=True)
    present = torch.tensor([[True, False, True], [True, True, True]])
    for weighting in ("power", "hard"):
        signal, valid = region_signal(image, logits, present, TimSettings(weighting=weighting))
        assert not valid.any()
        assert torch.isfinite(signal).all()
        assert signal[0, 0, 1] == 0
        (gradient,) = torch.autograd.grad(signal.sum(), logits)
        assert torch.isfinite(gradient).all()


def test_weights_have_a_finite_gradient_for_any_logit():
    logits = torch.tensor([-1e4, -90.0, 0.0, 90.0, 1e4], requires_grad=True)
    for gamma in (0.3, 1.0, 4.0):
        (gradient,) = torch.autograd.grad(mask_weights(logits, TimSettings(gamma=gamma)).sum(), logits)
        assert torch.isfinite(gradient).all()


def test_loss_is_masked_and_counts_its_terms():
    signal, prediction = torch.zeros(1, 2, 3), torch.full((1, 2, 3), 2.0)
    truth = torch.tensor([[[1.0, float("nan"), 1.0], [1.0, 1.0, 1.0]]])
    available = torch.tensor([[[True, True, False], [False, False, True]]])
    expected = {"prediction": (6.0, 3), "truth": (2.0, 2), "both": (8.0, 5)}
    for against, (total, count) in expected.items():
        result = tim_loss(signal, prediction, truth, available, TimSettings(against=against))
        assert (result[0].item(), result[1].item()) == (total, count)
    with pytest.raises(ValueError, match="against=prediction"):
        tim_loss(signal, prediction, None, available, TimSettings(against="both"))


def test_unknown_truth_leaves_the_gradient_finite():
    signal = torch.rand(1, 1, 2, requires_grad=True)
    truth = torch.tensor([[[float("nan"), 0.0]]])
    available = torch.ones(1, 1, 2).bool()
    total, _ = tim_loss(signal, signal.detach(), truth, available, TimSettings(against="truth"))
    (gradient,) = torch.autograd.grad(total, signal)
    assert gradient.tolist() == [[[0.0, 1.0]]]


@pytest.mark.parametrize("weighting", ["power", "hard"])
@pytest.mark.parametrize("against", ["prediction", "truth", "both"])
def test_gradient_reaches_decoder_and_head(weighting, against, settings):
    config = settings(f"tim.weighting={weighting}", f"tim.against={against}", "tim.min_confidence=0")
    network = build_network(config, 2)
    image, present = torch.rand(2, 4, 32, 32), torch.ones(2, 4).bool()
    out = network(image)
    signal, valid = region_signal(image, out.mask_logits, present, config.tim)
    total, count = tim_loss(
        signal, out.enhancement, torch.rand(2, 1, 4), valid[..., None] & present[:, None], config.tim
    )
    (total / count).backward()
    # truth alone says nothing about the head: that is what distinguishes the settings
    reached = {"decoder": network.decoder.stages, "head": network.head.enhancement}
    for name, part in reached.items():
        norm = sum(float(p.grad.norm()) for p in part.parameters() if p.grad is not None)
        assert (norm > 1e-6) == (name == "decoder" or against != "truth")


@pytest.mark.parametrize("shape", [(3, 1, 100, 100), (1, 100, 100), (1, 2, 50, 100)])
def test_regions_of_another_batch_or_grid_are_refused_by_their_shape(shape):
    image, logits = scene()
    present = torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"give regions \[B, R, \*S\] .* here \[1, regions, 100, 100\]"):
        region_signal(image, logits, present, TimSettings(), within=torch.ones(*shape))


def test_a_mask_of_phases_that_is_not_bool_is_refused():
    image, logits = scene()
    with pytest.raises(ValueError, match="phase_present is float32; give bool"):
        region_signal(image, logits, torch.ones(1, 1), TimSettings())
