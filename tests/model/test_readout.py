"""``head.readout = residual``: the regression starts from the signal under the region."""

import pytest
import torch

from mtinet.config import PRESETS, SettingsError, resolve
from mtinet.model.build import build_network
from mtinet.training.regions import TrainingForward

RESIDUAL = "head.readout=residual"
MODELS = [pytest.param("mtinet"), pytest.param("basic_unet", marks=pytest.mark.slow)]


def regions_of(shape: tuple[int, ...]) -> torch.Tensor:
    regions = torch.zeros(2, 2, *shape)
    regions[:, 0, ..., 5:12, 4:9] = 1
    regions[:, 1, ..., 15:, 20:25] = 1
    return regions


def means(image: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    flat = regions.flatten(2)
    return flat @ image.flatten(2).transpose(1, 2) / flat.sum(-1, keepdim=True)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shape", [(32, 32), (4, 32, 32)])
def test_before_training_it_is_the_signal_under_the_region(model, shape, settings):
    network = build_network(settings(RESIDUAL, f"model={model}", shape=shape), 2)
    network.set_enhancement_statistics(5.0, 3.0)
    image, regions = torch.rand(2, 4, *shape), regions_of(shape)
    torch.testing.assert_close(network(image, regions=regions).enhancement, means(image, regions))


@pytest.mark.parametrize("model", MODELS)
def test_what_the_head_adds_is_in_units_of_the_training_spread(model, settings):
    network = build_network(settings(RESIDUAL, f"model={model}"), 2).eval()
    network.set_enhancement_statistics(5.0, 3.0)
    layer = network.head.enhancement if model == "mtinet" else network.enhancement
    torch.nn.init.constant_(layer.bias, 0.5)
    image, regions = torch.rand(2, 4, 32, 32), regions_of((32, 32))
    torch.testing.assert_close(network(image, regions=regions).enhancement, means(image, regions) + 1.5)


def test_gradient_reaches_the_head_and_through_the_read_out_nothing(settings):
    network = build_network(settings(RESIDUAL), 2)
    image = torch.rand(2, 4, 32, 32)
    # pooled under the network's own mask, which must not be drawn where the signal suits the regression
    out = network(image)
    out.enhancement.sum().backward()
    assert network.head.enhancement.weight.grad.abs().max() > 0
    assert all(p.grad is None or not p.grad.any() for p in network.decoder.parameters())


@pytest.mark.parametrize("sure", [0.55, 0.9])
def test_a_predicted_mask_is_read_from_one_half_on(settings, sure):
    """A soft region of probability 0.4 around a surer one is left out, as it is in use."""
    network = build_network(settings(RESIDUAL), 2).eval()
    image = torch.rand(1, 4, 32, 32)
    logits = torch.full((1, 1, 32, 32), -9.0)
    logits[..., 8:20, 8:20] = torch.logit(torch.tensor(0.4))
    logits[..., 12:16, 12:16] = torch.logit(torch.tensor(sure))
    logits[..., 13:15, 13:15] = torch.logit(torch.tensor(0.95))
    core = (logits > 0).float()
    region = network.predicted_region(logits)
    read = network.read(network.encode(image), region).enhancement
    torch.testing.assert_close(read, means(image, core))
    assert (means(image, region) - means(image, core)).abs().max() > 1e-4
    # nowhere sure of a lesion: the best that there is
    faint = network.predicted_region(logits.clamp(max=-1.0))
    read = network.read(network.encode(image), faint).enhancement
    torch.testing.assert_close(read, means(image, faint))


def test_absent_phases_do_not_enter_the_read_out(settings):
    network = build_network(settings(RESIDUAL), 2).eval()
    image, regions = torch.rand(2, 4, 32, 32), regions_of((32, 32))
    present = torch.tensor([[True, False, True, True], [True] * 4])
    filled = torch.where(present[..., None, None], image, float("nan"))
    out = network(filled, present, None, regions).enhancement
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[1], means(image, regions)[1])


def test_training_reads_near_the_lesion(settings):
    network = build_network(settings(RESIDUAL), 2)
    image, regions = torch.rand(2, 4, 32, 32), regions_of((32, 32))
    times, known = torch.zeros(2, 4), torch.tensor([True, True])
    out = TrainingForward(network)(
        image, torch.ones(2, 4).bool(), times, regions, torch.zeros(2).bool(), known
    )
    torch.testing.assert_close(out.enhancement, means(image, regions))


def test_one_preset_has_it_and_it_changes_no_weight(settings):
    assert {name for name, make in PRESETS.items() if make().head.readout == "residual"} == {"small"}
    plain, residual = (build_network(settings(*given), 2) for given in ((), (RESIDUAL,)))
    ours = residual.state_dict()
    for name, tensor in plain.state_dict().items():
        if not name.startswith("head.enhancement"):
            assert torch.equal(tensor, ours[name])


def test_without_a_lesion_there_is_nothing_to_read():
    with pytest.raises(SettingsError, match="no lesion to read"):
        resolve("paper", assignments=[RESIDUAL])
