"""The discriminator's side of training: its pairs, its updates, and what it tells the network."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from mtinet.config import TddSettings
from mtinet.data.dataset import Sample
from mtinet.model.network import Prediction
from mtinet.model.tdd import (
    TaskDiscriminator,
    boundary,
    discriminator_loss,
    generator_loss,
    swap_between_classes,
)

STREAM_DISCRIMINATOR = 504


class Pairs(NamedTuple):
    """Lesions whose enhancement and class are both known, N of them.

    ``real_curve``, ``fake_curve [N, P]``; ``real_class``, ``fake_class [N, C]``; ``present [N, P]``;
    ``label [N]``.  The fake side carries the network's graph.
    """

    real_curve: Tensor
    real_class: Tensor
    fake_curve: Tensor
    fake_class: Tensor
    present: Tensor
    label: Tensor

    @property
    def detached(self) -> Pairs:
        """The same without the network's graph."""
        return Pairs(*(part.detach() for part in self))


class Adversary:
    """A discriminator with its optimiser.

    Parameters
    ----------
    discriminator : TaskDiscriminator
    settings : TddSettings
    seed : int
        Noise and dropout of step t are a function of (seed, t, process).
    fabric : Fabric
    """

    def __init__(
        self, discriminator: TaskDiscriminator, settings: TddSettings, seed: int, fabric: Fabric
    ) -> None:
        self.discriminator = discriminator.to(fabric.device)
        self.settings = settings
        self.seed = seed
        self.fabric = fabric
        # beta1 = 0: momentum makes the two players overshoot (Mescheder et al., ICML 2018)
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=settings.learning_rate, betas=(0.0, 0.99)
        )

    def pairs(self, prediction: Prediction, batch: Sample) -> Pairs:
        """Real and predicted pairs of the lesions whose curve and class are known."""
        complete = (batch["enhancement_known"] | ~batch["phase_present"].unsqueeze(1)).all(-1)
        chosen = batch["region_valid"] & (batch["lesion_class"] >= 0) & complete
        label = batch["lesion_class"][chosen]
        present = batch["phase_present"].unsqueeze(1).expand_as(batch["enhancement_known"])[chosen]
        logits = prediction.class_logits.float()[chosen]
        return Pairs(
            batch["enhancement"][chosen],
            F.one_hot(label, logits.shape[-1]).float(),
            prediction.enhancement.float()[chosen],
            logits.softmax(-1),
            present,
            label,
        )

    def play(self, pairs: Pairs, step: int, progress: float, rate: float) -> tuple[dict[str, float], Tensor]:
        """Update the discriminator, and what the predicted pairs then cost the network.

        A discriminator that could learn nothing from this step (``pairs=shuffled`` and one class only) has nothing to
        say in it.
        """
        numbers = self.update(pairs, step, progress, rate)
        return numbers, self.generator_loss(pairs, step, progress) * bool(numbers)

    def update(self, pairs: Pairs, step: int, progress: float, rate: float) -> dict[str, float]:
        """Update the discriminator on detached pairs; ``rate`` scales its learning rate."""
        pairs = pairs.detached
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate
        numbers: dict[str, float] = {}
        self.discriminator.requires_grad_(True).train()
        for repeat in range(self.settings.steps):
            generator = self._generator(step, repeat)
            real_class, keep = pairs.real_class, torch.ones_like(pairs.label, dtype=torch.bool)
            if self.settings.pairs == "shuffled" and len(pairs.label):
                real_class, keep = swap_between_classes(real_class, pairs.label, generator)
            noise = 1.0 - progress
            count = self._count(keep.sum())
            if count == 0:
                return {}
            sides = (pairs.real_curve[keep], real_class[keep], pairs.present[keep])
            fakes = (pairs.fake_curve[keep], pairs.fake_class[keep], pairs.present[keep])
            # both sides in one pass: on a handful of small pairs a pass costs its calls, not its arithmetic
            both = (torch.cat(parts) for parts in zip(sides, fakes, strict=True))
            real, fake = self.discriminator(*both, generator, noise).chunk(2)
            # means over this process' pairs, weighed so that processes add up to the mean over all
            share = keep.sum() / count
            loss = share * discriminator_loss(real, fake, self.settings.loss)
            if self.settings.r1 > 0 and step % self.settings.r1_every == 0:
                loss = loss + share * self.discriminator.gradient_penalty(*sides, generator, noise)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            gradient = self._average_gradients()
            self.optimizer.step()
            numbers = self._numbers(real.detach(), fake.detach(), float(loss.detach()), gradient)
        return numbers

    def generator_loss(self, pairs: Pairs, step: int, progress: float) -> Tensor:
        """What the predicted pairs cost the network; 0 (in the graph) where there are none."""
        self.discriminator.requires_grad_(False)
        generator = self._generator(step, self.settings.steps)
        logits = self.discriminator(
            pairs.fake_curve, pairs.fake_class, pairs.present, generator, 1.0 - progress
        )
        count = self._count(torch.tensor(len(logits), device=logits.device)).clamp_min(1e-8)
        return generator_loss(logits, self.settings.loss) * len(logits) / count

    def _generator(self, step: int, repeat: int) -> torch.Generator:
        key = [self.seed, STREAM_DISCRIMINATOR, step, repeat, self.fabric.global_rank]
        seed = int(np.random.default_rng(key).integers(2**31))
        return torch.Generator(self.fabric.device).manual_seed(seed)

    def _count(self, local: Tensor) -> Tensor:
        """Mean over processes of a local count."""
        if self.fabric.world_size == 1:
            return local.float()
        return cast("Tensor", self.fabric.all_reduce(local.float(), reduce_op="mean"))

    def _average_gradients(self) -> float:
        """Average the gradients over processes and return their norm."""
        gradients = [p.grad for p in self.discriminator.parameters() if p.grad is not None]
        if self.fabric.world_size > 1:
            for gradient in gradients:
                gradient.copy_(cast("Tensor", self.fabric.all_reduce(gradient, reduce_op="mean")))
        return float(torch.stack([g.norm() for g in gradients]).norm())

    def _numbers(self, real: Tensor, fake: Tensor, loss: float, gradient: float) -> dict[str, float]:
        """Accuracy and logit gap over all processes: each must come to the same learning rate."""
        between = boundary(self.settings.loss)
        right = torch.cat([real > between, fake < between]).float()
        local = torch.stack([right.sum(), real.sum() - fake.sum(), torch.tensor(float(len(real))).to(real)])
        correct, gap, n = self._count(local).tolist()
        return {
            "discriminator_loss": loss,
            "discriminator_accuracy": correct / (2 * n),
            "discriminator_gap": gap / n,
            "discriminator_gradient": gradient,
        }
