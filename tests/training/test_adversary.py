"""The discriminator's side of a step: its pairs, its noise and its rate."""

from __future__ import annotations

import pytest
import torch
from lightning_fabric import Fabric

from mtinet.config import TddSettings
from mtinet.data.dataset import Sample
from mtinet.model.network import Prediction
from mtinet.model.tdd import TaskDiscriminator
from mtinet.training.adversary import Adversary


@pytest.fixture
def adversary() -> Adversary:
    torch.manual_seed(0)
    settings = TddSettings(steps=2)
    return Adversary(TaskDiscriminator(4, 2, settings), settings, 0, Fabric(accelerator="cpu", devices=1))


@pytest.fixture
def batch() -> Sample:
    """Six studies with a lesion each, classes in turn; every second lacks the arterial phase."""
    present = torch.tensor([[True] * 4, [True, False, True, True]] * 3)
    return {
        "enhancement": torch.rand(6, 1, 4),
        "enhancement_known": present.unsqueeze(1).clone(),
        "phase_present": present,
        "lesion_class": torch.tensor([[0], [1]] * 3),
        "region_valid": torch.ones(6, 1, dtype=torch.bool),
    }


@pytest.fixture
def prediction() -> Prediction:
    return Prediction(
        torch.zeros(6, 1, 4, 4),
        torch.rand(6, 1, 4, requires_grad=True),
        torch.randn(6, 1, 2, requires_grad=True),
        torch.ones(6, 1, dtype=torch.bool),
    )


def test_a_study_without_a_phase_makes_a_pair_and_a_lesion_half_known_none(adversary, prediction, batch):
    batch["enhancement_known"][0, 0, 2] = False  # the phase is there and does not cover the lesion
    batch["lesion_class"][3] = -1
    batch["region_valid"][4] = False
    pairs = adversary.pairs(prediction, batch)
    assert pairs.label.tolist() == [1, 0, 1]
    assert torch.equal(pairs.present, batch["phase_present"][[1, 2, 5]])
    assert torch.equal(pairs.real_curve, batch["enhancement"][[1, 2, 5], 0])
    assert torch.equal(pairs.fake_curve, prediction.enhancement[[1, 2, 5], 0])


@pytest.mark.parametrize("progress", [0.0, 0.75, 1.0])
def test_the_noise_fades_over_the_training(adversary, prediction, batch, monkeypatch, progress):
    pairs, noises = adversary.pairs(prediction, batch), []
    inputs = adversary.discriminator._inputs

    def listened(*given):
        noises.append(given[-1])
        return inputs(*given)

    monkeypatch.setattr(adversary.discriminator, "_inputs", listened)
    adversary.update(pairs, 3, progress, 1.0)
    adversary.generator_loss(pairs, 3, progress)
    assert noises
    assert set(noises) == {1.0 - progress}


def test_a_halved_rate_halves_what_an_update_changes(adversary, prediction, batch):
    # Adam's first step is as long as the rate, whatever the gradient
    adversary.settings = TddSettings(steps=1)
    pairs = adversary.pairs(prediction, batch)
    weight = adversary.discriminator.position
    before = weight.detach().clone()
    adversary.update(pairs, 1, 0.0, 0.25)
    longest = (weight - before).abs().max().item()
    assert longest == pytest.approx(0.25 * adversary.settings.learning_rate, rel=0.01)


def test_each_update_of_each_step_has_noise_of_its_own(adversary):
    draws = {
        torch.rand(1, generator=adversary._generator(step, repeat)).item()
        for step in range(3)
        for repeat in range(3)
    }
    assert len(draws) == 9


def test_a_discriminator_that_cannot_learn_from_a_step_says_nothing_in_it(adversary, prediction, batch):
    adversary.settings = TddSettings(pairs="shuffled")
    numbers, cost = adversary.play(adversary.pairs(prediction, batch), 1, 0.5, 1.0)
    assert numbers
    assert cost > 0
    batch["lesion_class"][:] = 1
    numbers, cost = adversary.play(adversary.pairs(prediction, batch), 1, 0.5, 1.0)
    assert (numbers, cost.item()) == ({}, 0.0)
    cost.backward()
    assert not prediction.enhancement.grad.any()
