"""The rate of each step."""

import numpy as np
import pytest

from mtinet.config import resolve
from mtinet.training.optimization import learning_rate


@pytest.mark.parametrize(
    ("schedule", "form"),
    [
        ("constant", np.ones_like),
        ("cosine", lambda share: 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * share))),
        ("poly", lambda share: (1 - share) ** 0.9),
    ],
)
def test_the_rate_rises_in_equal_steps_and_then_follows_its_schedule(schedule, form):
    given = ("steps=100", "learning_rate=0.5", "warmup=0.1", f"schedule={schedule}")
    settings = resolve("tiny", assignments=[f"training.{one}" for one in given]).training
    rates = np.array([learning_rate(settings, step) for step in range(100)])
    np.testing.assert_allclose(rates[:10], 0.5 * np.arange(1, 11) / 10)
    np.testing.assert_allclose(rates[10:], 0.5 * form(np.arange(90) / 90))
    assert rates.min() > 0
