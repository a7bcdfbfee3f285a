import pytest
import torch

from mtinet.model.baselines import nnunet_strides
from mtinet.model.build import build_network


@pytest.mark.parametrize(
    ("patch", "total"),
    [
        ((96, 96), (16, 16)),
        ((256, 256), (64, 64)),
        ((16, 96, 96), (4, 16, 16)),
        ((8, 32, 32), (2, 8, 8)),
        ((4, 4), (2, 2)),
    ],
)
def test_nnunet_plan_leaves_at_least_four_voxels(patch, total):
    strides = torch.tensor(nnunet_strides(patch))
    assert tuple(strides.prod(0).tolist()) == total
    assert (strides[0] == 1).all()
    if min(patch) >= 8:
        assert all(4 <= side // stride < 8 for side, stride in zip(patch, total))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["basic_unet", "dynunet"])
def test_absent_phases_are_zero_whatever_fills_them(model, settings):
    network = build_network(settings(f"model={model}"), 2).eval()
    image, present = torch.rand(2, 4, 32, 32), torch.tensor([[True, False, True, True], [True] * 4])
    filled = torch.where(present[..., None, None], image, float("nan"))
    for a, b in zip(network(image, present), network(filled, present)):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_padding_leaves_sizes_that_need_none_alone(settings):
    network = build_network(settings("model=basic_unet"), 2).eval()
    image = torch.rand(1, 4, 32, 48)
    torch.testing.assert_close(network.encode(image).maps[0], network.body(image))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "reading"), [("basic_unet", {"hidden", "enhancement", "classes"}), ("unet_cnn", {"cnn"})]
)
def test_names_of_parameters_stay_and_the_body_is_what_tasks_share(settings, model, reading):
    """Checkpoints hold the names."""
    network = build_network(settings(f"model={model}"), 2)
    assert {name.split(".")[0] for name, _ in network.named_parameters()} == {"body", *reading}
    assert {id(p) for p in network.shared_parameters()} == {id(p) for p in network.body.parameters()}
