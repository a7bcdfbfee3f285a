"""Task-driven discriminator (TDD): tells true pairs of enhancement curve and class from predicted ones.

A Transformer reads the phases in their order; the token of phase p is (enhancement_p, class vector).  A
one-hot vector beside a softmax is told apart at a glance, so class vectors are smoothed and noised on both
sides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from mtinet.config import TddSettings
from mtinet.errors import UserError
from mtinet.model.transformer import PhaseTransformer, masked_mean


class TaskDiscriminator(nn.Module):
    """Transformer discriminator over the phase sequence.

    Parameters
    ----------
    n_phases, n_classes : int
    settings : TddSettings
    """

    enhancement_mean: Tensor
    enhancement_std: Tensor

    def __init__(self, n_phases: int, n_classes: int, settings: TddSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("enhancement_mean", torch.zeros(n_phases))
        self.register_buffer("enhancement_std", torch.ones(n_phases))
        self.embed = nn.Linear(1 + n_classes, settings.width)
        self.position = nn.Parameter(0.5 * torch.randn(n_phases, settings.width))
        self.transformer = PhaseTransformer(settings.width, settings.depth, settings.heads, settings.dropout)
        self.judge = nn.Linear(settings.width, 1)
        if settings.spectral_norm:
            for layer in [m for m in self.modules() if isinstance(m, nn.Linear)]:
                parametrizations.spectral_norm(layer)

    def set_enhancement_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation [P] of the training enhancement of each phase."""
        if not bool((std > 0).all()) or not bool(torch.isfinite(mean).all()):
            raise UserError(
                f"enhancement statistics by phase are mean {mean.tolist()}, std {std.tolist()}; every phase "
                "needs at least two different training values: drop a phase that no study has"
            )
        self.enhancement_mean.copy_(mean)
        self.enhancement_std.copy_(std)

    def forward(
        self,
        enhancement: Tensor,
        class_probabilities: Tensor,
        phase_present: Tensor,
        generator: torch.Generator | None = None,
        noise: float = 1.0,
    ) -> Tensor:
        """Logit [N] that a pair is real.

        Parameters
        ----------
        enhancement : Tensor [N, P]
            Normalised signal; what stands at absent phases does not matter.
        class_probabilities : Tensor [N, C]
        phase_present : Tensor [N, P], bool
        generator : torch.Generator, optional
            Source of noise and dropout in training; without one there is no noise.
        noise : float
            Share of ``settings.instance_noise`` that is left (1 at the start of training, decays to 0).
        """
        inputs = self._inputs(enhancement, class_probabilities, phase_present, generator, noise)
        return self._logits(*inputs, phase_present, generator)[0]

    def attention(self, enhancement: Tensor, class_probabilities: Tensor, phase_present: Tensor) -> Tensor:
        """Share [N, P] that each phase has in the judgement, for the report."""
        inputs = self._inputs(enhancement, class_probabilities, phase_present, None, 0.0)
        return self._logits(*inputs, phase_present, None)[1].detach()

    def gradient_penalty(
        self,
        enhancement: Tensor,
        class_probabilities: Tensor,
        phase_present: Tensor,
        generator: torch.Generator | None = None,
        noise: float = 1.0,
    ) -> Tensor:
        """R1 (Mescheder et al. 2018): (r1 / 2) E|∇D|² on real pairs, zero-centred, in standardised units.

        Scaled up by ``settings.r1_every``, being added only every so many steps.
        """
        inputs = self._inputs(enhancement, class_probabilities, phase_present, generator, noise)
        curve, classes = (x.detach().requires_grad_() for x in inputs)
        logits, _ = self._logits(curve, classes, phase_present, generator)
        gradients = torch.autograd.grad(logits.sum(), [curve, classes], create_graph=True)
        square = sum((g.square().flatten(1).sum(1) for g in gradients), torch.zeros_like(logits))
        return 0.5 * self.settings.r1 * self.settings.r1_every * _mean(square)

    def _inputs(
        self,
        enhancement: Tensor,
        class_probabilities: Tensor,
        phase_present: Tensor,
        generator: torch.Generator | None,
        noise: float,
    ) -> tuple[Tensor, Tensor]:
        """Standardised curves and smoothed class vectors, the same treatment for real and fake pairs."""
        settings = self.settings
        # replaced before the subtraction: a NaN at an absent phase would survive in the gradient
        known = torch.where(phase_present, enhancement.float(), self.enhancement_mean)
        curve = (known - self.enhancement_mean) / self.enhancement_std
        share = settings.label_smoothing
        classes = (1 - share) * class_probabilities.float() + share / class_probabilities.shape[1]
        if self.training and generator is not None:
            curve = curve + noise * settings.instance_noise * _normal_like(curve, generator)
            classes = classes + settings.label_noise * _normal_like(classes, generator)
        return curve, classes

    def _logits(
        self, curve: Tensor, classes: Tensor, phase_present: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        pairs = torch.cat([curve.unsqueeze(-1), classes.unsqueeze(1).expand(-1, curve.shape[1], -1)], dim=-1)
        tokens, attention = self.transformer(self.embed(pairs) + self.position, phase_present, generator)
        return self.judge(masked_mean(tokens, phase_present)).squeeze(-1), attention


def _normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(len(values), 1)


def discriminator_loss(real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """Discriminator's loss of logits [N]; ``kind`` = nonsaturating | hinge | lsgan.  0 for empty batches."""
    if kind == "nonsaturating":
        return _mean(F.softplus(-real)) + _mean(F.softplus(fake))
    if kind == "hinge":
        return _mean(F.relu(1 - real)) + _mean(F.relu(1 + fake))
    return _mean((real - 1).square()) + _mean(fake.square())


def boundary(kind: str) -> float:
    """Logit half-way between real and predicted pairs: least squares draws them to 1 and 0, the others apart."""
    return 0.5 if kind == "lsgan" else 0.0


def generator_loss(fake: Tensor, kind: str) -> Tensor:
    """Loss of the network whose pairs got the logits ``fake`` [N]."""
    if kind == "nonsaturating":
        return _mean(F.softplus(-fake))
    if kind == "hinge":
        return _mean(-fake)
    return _mean((fake - 1).square())


def swap_between_classes(
    class_probabilities: Tensor, labels: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Give every pair the class vector of a pair of another class: the control ``tdd.pairs = shuffled``.

    Parameters
    ----------
    class_probabilities : Tensor [N, C]
    labels : Tensor [N], integer
    generator : torch.Generator

    Returns
    -------
    swapped : Tensor [N, C]
    changed : Tensor [N], bool
        False where the batch holds no other class; that pair is as it was and is best left out.
    """
    others = labels[:, None] != labels[None, :]
    changed = others.any(1)
    chance = torch.where(changed[:, None], others.float(), torch.eye(len(labels), device=labels.device))
    partner = torch.multinomial(chance, 1, generator=generator).squeeze(1)
    return class_probabilities[partner], changed
