"""What goes wrong while a multi-task model trains, as findings with threshold, meaning and repair.

A :class:`StepDiagnostics` is shown the numbers of every step.  Its memory is plain data that goes into the
checkpoint, so a resumed training finds what an uninterrupted one would have found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mtinet.results import Finding

WINDOW = 200
"""Consecutive steps for which a state of the discriminator must last."""

SATURATED_ACCURACY = 0.95
COLLAPSED_ACCURACY = (0.45, 0.55)
COLLAPSED_GAP = 0.05
VANISHED_GRADIENT = 1e-4
INERT_SPREAD = 0.01
PULLING_APART = -0.2
CHANCE_MARGIN = 0.05
STILL_FALLING = 0.10


class StepDiagnostics:
    """Watches the numbers of training steps.

    Parameters
    ----------
    steps : int
        Length of the training.
    window : int
        Consecutive steps for which a state must last before it is a finding.
    state : dict, optional
        Memory of an earlier part of the same training (:attr:`state`).
    """

    def __init__(self, steps: int, window: int = WINDOW, state: Mapping[str, Any] | None = None) -> None:
        self.steps = steps
        self.window = window
        self.state: dict[str, Any] = dict(state or {"runs": {}, "means": {}, "fired": [], "rate": 1.0})

    @property
    def discriminator_rate(self) -> float:
        """Factor on the discriminator's learning rate; halves each time that it saturates."""
        return float(self.state["rate"])

    def observe(self, step: int, numbers: Mapping[str, float]) -> list[Finding]:
        """Findings that this step completes; each fires once a training.

        Parameters
        ----------
        step : int
            Steps done.
        numbers : dict
            Whatever is known of: ``discriminator_accuracy``, ``discriminator_gap`` (mean real logit minus
            mean fake logit), ``discriminator_gradient`` (norm), ``tim_gradient`` (norm at the network),
            ``fusion_spread`` (standard deviation of the fusion weights over channels), ``cosine_<a>_<b>``
            (gradient cosine of two tasks), ``class_accuracy``, ``class_chance``, ``regression_error``,
            ``read_error``, ``tasks`` (loss of the three tasks alone).
        """
        found = [
            self._saturated(step, numbers),
            self._collapsed(step, numbers),
            self._tim_gradient(step, numbers),
            self._fusion(step, numbers),
            *self._cosines(step, numbers),
        ]
        for name in ("class_accuracy", "class_chance", "regression_error", "read_error"):
            if name in numbers and 2 * step > self.steps:
                self._add(name, numbers[name])
        if "tasks" in numbers:
            self._quarter(step, numbers["tasks"])
        if step == self.steps:
            found += self._at_end(step)
        return [finding for finding in found if finding is not None]

    # ------------------------------------------------------------------ single steps
    def _saturated(self, step: int, numbers: Mapping[str, float]) -> Finding | None:
        accuracy = numbers.get("discriminator_accuracy")
        if accuracy is None or not self._lasts("saturated", accuracy > SATURATED_ACCURACY):
            return None
        self.state["rate"] *= 0.5
        return self._fire(
            "discriminator-saturated",
            step,
            accuracy,
            SATURATED_ACCURACY,
            "the discriminator tells real from predicted pairs nearly always and teaches the network little",
            "Its rate was halved by itself; if it fires early, raise tdd.instance_noise or tdd.label_noise.",
        )

    def _collapsed(self, step: int, numbers: Mapping[str, float]) -> Finding | None:
        if "discriminator_accuracy" not in numbers:
            return None
        accuracy = numbers["discriminator_accuracy"]
        collapsed = (
            COLLAPSED_ACCURACY[0] <= accuracy <= COLLAPSED_ACCURACY[1]
            and abs(numbers.get("discriminator_gap", math.inf)) < COLLAPSED_GAP
            and numbers.get("discriminator_gradient", math.inf) < VANISHED_GRADIENT
        )
        if not self._lasts("collapsed", collapsed):
            return None
        return self._fire(
            "discriminator-collapsed",
            step,
            accuracy,
            COLLAPSED_ACCURACY[1],
            "the discriminator has given up: accuracy at one half, no gap between logits, no gradient",
            "Raise tdd.learning_rate or tdd.steps, or lower tdd.r1; the adversarial term does nothing now.",
        )

    def _tim_gradient(self, step: int, numbers: Mapping[str, float]) -> Finding | None:
        gradient = numbers.get("tim_gradient")
        if gradient is None or not self._lasts("tim", gradient == 0.0, length=3):
            return None
        return self._fire(
            "tim-gradient-zero",
            step,
            gradient,
            0.0,
            "the task interaction sends no gradient: no predicted lesion is confident enough",
            "Lower tim.min_confidence or let the term enter later (objective.tim_from).",
        )

    def _fusion(self, step: int, numbers: Mapping[str, float]) -> Finding | None:
        spread = numbers.get("fusion_spread")
        if spread is None or not self._lasts("fusion", spread < INERT_SPREAD, length=3):
            return None
        return self._fire(
            "fusion-inert",
            step,
            spread,
            INERT_SPREAD,
            "the fusion weights hardly vary between channels: MdIEF averages its two domains",
            "Lower mdief.tau, or set mdief.standardise=true.",
        )

    def _cosines(self, step: int, numbers: Mapping[str, float]) -> list[Finding | None]:
        found = []
        for name, value in numbers.items():
            if name.startswith("cosine_"):
                mean = self._average(name, value, 0.8)
                if self._lasts(name, mean < PULLING_APART, length=5):
                    tasks = name.removeprefix("cosine_").replace("_", " and ")
                    found.append(
                        self._fire(
                            f"tasks-pulling-apart-{tasks.replace(' and ', '-')}",
                            step,
                            mean,
                            PULLING_APART,
                            f"the gradients of {tasks} point against each other in the encoder",
                            "Try objective.weighting=pcgrad, or lower the weight of the weaker task.",
                        )
                    )
        return found

    # ------------------------------------------------------------------ at the end
    def _at_end(self, step: int) -> list[Finding | None]:
        found: list[Finding | None] = []
        accuracy, chance = self._late_mean("class_accuracy"), self._late_mean("class_chance")
        if accuracy is not None and chance is not None and accuracy < chance + CHANCE_MARGIN:
            found.append(
                self._fire(
                    "class-at-chance",
                    step,
                    accuracy,
                    chance + CHANCE_MARGIN,
                    "on its own training patches the network names classes no better than by their frequency",
                    "Check the labels, raise objective.classification, or train longer.",
                )
            )
        head, read = self._late_mean("regression_error"), self._late_mean("read_error")
        if head is not None and read is not None and head > read:
            found.append(
                self._fire(
                    "regression-worse-than-read-out",
                    step,
                    head,
                    read,
                    "the regressed enhancement is farther from the truth than the signal under its own mask",
                    "Use the measured values, raise objective.regression, or train longer.",
                )
            )
        third, fourth = self._quarter_means()
        if (
            third is not None
            and fourth is not None
            and third > 0
            and (third - fourth) / third > STILL_FALLING
        ):
            found.append(
                self._fire(
                    "not-converged",
                    step,
                    (third - fourth) / third,
                    STILL_FALLING,
                    "the loss of the tasks still fell in the last quarter of the training",
                    "Raise training.steps.",
                )
            )
        return found

    # ------------------------------------------------------------------ memory
    def _lasts(self, name: str, holds: bool, length: int | None = None) -> bool:
        runs = self.state["runs"]
        runs[name] = runs.get(name, 0) + 1 if holds else 0
        if runs[name] < (length or self.window):
            return False
        runs[name] = 0
        return True

    def _add(self, name: str, value: float) -> None:
        total = self.state.setdefault("late", {}).setdefault(name, [0.0, 0])
        total[0] += value
        total[1] += 1

    def _late_mean(self, name: str) -> float | None:
        """Mean over the second half of the training."""
        total, n = self.state.get("late", {}).get(name, (0.0, 0))
        return total / n if n else None

    def _average(self, name: str, value: float, smoothing: float) -> float:
        means = self.state["means"]
        means[name] = value if name not in means else smoothing * means[name] + (1 - smoothing) * value
        return float(means[name])

    def _quarter(self, step: int, total: float) -> None:
        quarter = min(3, 4 * (step - 1) // self.steps)
        sums = self.state.setdefault("quarters", [[0.0, 0] for _ in range(4)])
        sums[quarter][0] += total
        sums[quarter][1] += 1

    def _quarter_means(self) -> tuple[float | None, float | None]:
        sums = self.state.get("quarters")
        if sums is None or not sums[2][1] or not sums[3][1]:
            return None, None
        return sums[2][0] / sums[2][1], sums[3][0] / sums[3][1]

    def _fire(
        self, id: str, step: int, value: float, threshold: float, meaning: str, action: str
    ) -> Finding | None:
        if id in self.state["fired"]:
            return None
        self.state["fired"].append(id)
        return Finding(id, "train", "warning", meaning, action, step=step, value=value, threshold=threshold)
