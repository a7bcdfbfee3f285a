import subprocess
import sys

import pytest
import torch

from mtinet.config import SettingsError
from mtinet.model.build import build_network

FUSIONS = ["mdief", "concat", "average", "spatial", "spectral", "attention"]
WEIGHTED = ["mdief", "attention"]


def run(network, image, *rest):
    out = network(image, *rest)
    gradient = torch.autograd.grad(
        out.mask_logits.mean() + out.class_logits.sum() + out.enhancement[out.region_valid].sum(),
        list(network.parameters()),
        allow_unused=True,
    )
    return out, [g for g in gradient if g is not None]


@pytest.mark.parametrize("filler", [float("nan"), 1e6])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("encoder.shared=false",),
        ("mdief.axes=space+phase",),
        ("fusion=concat",),
        ("fusion=attention", "mdief.axes=space+phase"),
        ("head.pooling=global", "head.levels=last", "decoder.skips=raw"),
    ],
)
def test_filler_of_a_missing_phase_changes_neither_outputs_nor_statistics(
    changes, training, filler, settings
):
    present = torch.tensor([[True, False, True, True], [True, True, True, False], [True, False, True, True]])
    image, regions = torch.rand(3, 4, 32, 32), (torch.rand(3, 2, 32, 32) > 0.8).float()
    results = []
    for x in (image, torch.where(present[..., None, None], image, filler)):
        network = build_network(settings(*changes), 2).train(training)
        out, gradients = run(network, x, present, None, regions)
        results.append((out, gradients, network.state_dict()))
    (a, gradients_a, state_a), (b, gradients_b, state_b) = results
    for left, right in zip((*a, *gradients_a, *state_a.values()), (*b, *gradients_b, *state_b.values())):
        assert torch.isfinite(right.float()).all()
        torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("skips", ["none", "raw", "fused"])
def test_fusion_and_skips_combine(fusion, skips, settings):
    levels = "all" if skips == "fused" else "last"
    network = build_network(
        settings(f"fusion={fusion}", f'decoder.skips="{skips}"', f"head.levels={levels}"), 2
    )
    out, gradients = run(network, torch.rand(2, 4, 32, 32))
    assert out.mask_logits.shape == (2, 1, 32, 32)
    # every weight takes part: nothing is built that is not used
    assert len(gradients) == len(list(network.parameters()))
    fused = 5 if skips == "fused" else 1
    expected = fused if fusion in WEIGHTED else 0
    weights = network.encode(torch.rand(1, 4, 32, 32)).domain_weights
    assert len(weights) == expected


def test_all_levels_without_fused_skips_are_refused_with_a_repair(settings):
    with pytest.raises(SettingsError, match=r"head\.levels=last or decoder\.skips=fused"):
        settings("decoder.skips=raw")


def test_phases_are_alike_to_a_shared_encoder_but_not_to_the_decoder(settings):
    network = build_network(settings(), 2).eval()
    image = torch.rand(1, 4, 32, 32)
    maps = network.encode(image).maps[-1]
    permuted = network.encode(image[:, [1, 0, 3, 2]]).maps[-1]
    torch.testing.assert_close(permuted, maps[:, [1, 0, 3, 2]])
    with torch.no_grad():
        assert (network(image).mask_logits - network(image[:, [1, 0, 3, 2]]).mask_logits).abs().max() > 1e-4


def test_times_reach_the_head_when_the_encoding_is_time(settings):
    network = build_network(settings("head.position=time"), 2).eval()
    image, present = torch.rand(1, 4, 32, 32), torch.ones(1, 4).bool()
    early, late = torch.tensor([[0.0, 15.0, 60.0, 170.0]]), torch.tensor([[0.0, 35.0, 90.0, 300.0]])
    a, b = (network(image, present, times).class_logits for times in (early, late))
    assert (a - b).abs().max() > 1e-5


def test_learns_a_lesion_and_its_signal(settings):
    """The pieces fit together: a bright square is found and its mean signal read within a few steps."""
    config = settings("training.seed=3")
    network = build_network(config, 2)
    network.set_enhancement_statistics(1.5, 0.4)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    g = torch.Generator().manual_seed(0)

    def batch():
        level = 1 + torch.rand(8, 4, 1, 1, generator=g)
        region = torch.zeros(8, 1, 32, 32)
        for row in range(8):
            y, x = torch.randint(0, 20, (2,), generator=g).tolist()
            region[row, :, y : y + 12, x : x + 12] = 1
        noise = 0.05 * torch.randn(8, 4, 32, 32, generator=g)
        return 0.3 + region * (level - 0.3) + noise, region, level[..., 0, 0].unsqueeze(1)

    for _ in range(80):
        image, region, level = batch()
        out = network(image, regions=region)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(out.mask_logits, region)
        loss = loss + (out.enhancement - level).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    image, region, level = batch()
    out = network(image, regions=region)
    predicted = out.mask_logits > 0
    dice = 2 * (predicted & region.bool()).sum() / (predicted.sum() + region.sum())
    assert dice > 0.85
    constant = (level - 1.5).abs().mean()
    assert (out.enhancement - level).abs().mean() < 0.6 * constant


def test_path_of_mtinet_never_imports_monai():
    code = (
        "import sys; from mtinet.config import resolve; from mtinet.model import build_network; "
        "import mtinet.model.mtinet; build_network(resolve('tiny'), 2); sys.exit('monai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
