"""What the head reads in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtinet.config import resolve
from mtinet.data.dataset import Sample
from mtinet.model.build import build_network
from mtinet.training.regions import TrainingForward, training_regions


@pytest.fixture
def batch() -> Sample:
    """64 samples with a square lesion and one of a single pixel."""
    labels = torch.zeros(64, 24, 24, dtype=torch.int64)
    labels[:, 8:16, 8:16] = 1
    labels[:, 20, 20] = 2
    known = torch.ones(64, dtype=torch.bool)
    return {"labels": labels, "mask_known": known, "region_valid": known.unsqueeze(1).expand(-1, 2)}


def test_the_share_read_under_the_predicted_mask_rises_over_the_training(batch):
    given = ("training.steps=1000", "head.pooling=lesion", "head.predicted_share=0.6", "head.jitter=0")
    config = resolve("tiny", assignments=given)

    def share(step: int) -> float:
        flags = [training_regions(batch, config, step, 64 * k)[1] for k in range(8)]
        return torch.cat(flags).float().mean().item()

    assert share(0) == 0.0
    assert [share(500), share(999)] == pytest.approx([0.3, 0.6], abs=0.08)


def test_regions_are_jittered_by_their_place_in_the_batch_and_none_vanishes(batch):
    config = resolve("tiny", assignments=["head.pooling=lesion", "head.jitter=2", "training.steps=10"])
    regions, flags = training_regions(batch, config, 3, 0)
    halves = [
        training_regions({name: v[at : at + 32] for name, v in batch.items()}, config, 3, at)
        for at in (0, 32)
    ]
    # a second process draws for its own samples
    assert torch.equal(torch.cat([half[0] for half in halves]), regions)
    assert torch.equal(torch.cat([half[1] for half in halves]), flags)
    square, pixel = regions.flatten(2).sum(2).unbind(1)
    assert set(square.tolist()) == {(8 + 2 * voxels) ** 2 for voxels in (-2, -1, 0, 1, 2)}
    assert set(pixel.tolist()) == {(1 + 2 * voxels) ** 2 for voxels in (0, 1, 2)}


def test_a_lesion_is_read_under_the_own_mask_near_it_only(monkeypatch):
    network = build_network(resolve("tiny", assignments=["head.pooling=lesion"]), 2).eval()
    torch.nn.init.normal_(network.head.enhancement.weight)
    known, present, times = torch.tensor([True]), torch.ones(1, 4).bool(), torch.zeros(1, 4)
    image, region = torch.rand(1, 4, 32, 32), torch.zeros(1, 1, 32, 32)
    region[..., 4:9, 4:9] = 1
    drawn = torch.full((1, 1, 32, 32), -9.0)
    drawn[..., 4:7, 4:9] = 9.0
    with_another = drawn.clone()
    with_another[..., 22:30, 22:30] = 9.0

    def read(logits: torch.Tensor, predicted: bool) -> np.ndarray:
        monkeypatch.setattr(network, "segment", lambda features: logits)
        flags = torch.tensor([predicted])
        said = TrainingForward(network)(image, present, times, region, flags, known)
        return said.enhancement.detach().numpy()

    np.testing.assert_allclose(read(with_another, True), read(drawn, True), rtol=1e-4)
    assert np.abs(read(drawn, True) - read(drawn, False)).max() > 1e-3
