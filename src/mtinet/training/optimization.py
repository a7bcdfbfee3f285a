"""Optimiser, learning rate as a function of the step, moving average, projected gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtinet.config import TrainingSettings


def build_optimizer(training: TrainingSettings, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that the settings name."""
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=training.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=training.weight_decay,
        )
    return torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Rate of the step that follows ``step`` finished ones.

    It rises linearly over ``warmup``, then stays, falls as a half cosine to a hundredth, or falls as
    (1 - share)^0.9.
    """
    rising = max(1, round(settings.warmup * settings.steps))
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    share = (step - rising) / max(1, settings.steps - rising)
    if settings.schedule == "cosine":
        return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
    if settings.schedule == "poly":
        return float(settings.learning_rate * (1 - share) ** 0.9)
    return settings.learning_rate


def moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Update of an exponential moving average whose memory grows with it.

    The decay is at most (1 + n)/(10 + n) after n updates, so that a short training is not averaged with its
    start.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], n: Tensor) -> None:
        share = min(decay, (1.0 + int(n)) / (10.0 + int(n)))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1.0 - share)
        else:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)

    return update


def projected_gradients(gradients: Mapping[str, Tensor], rng: np.random.Generator) -> Tensor:
    """Sum of the tasks' gradients after removing what conflicts (PCGrad, Yu et al., NeurIPS 2020).

    Parameters
    ----------
    gradients : dict of Tensor, shape (N,)
        Flat gradient by task.
    rng : Generator
        Order in which a task meets the others.
    """
    names = list(gradients)
    total = torch.zeros_like(next(iter(gradients.values())))
    for name in names:
        own = gradients[name].clone()
        for other in rng.permutation([n for n in names if n != name]):
            against = gradients[str(other)]
            dot = torch.dot(own, against)
            if dot < 0:
                own -= dot / against.dot(against).clamp_min(1e-20) * against
        total += own
    return total
