"""Learning rates as functions of the step, so that a resumed training needs no memory of them."""

from __future__ import annotations

import math

from mtinet.config import TrainingSettings


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
