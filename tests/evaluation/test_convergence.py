"""When the trainings of a row count as come to rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mtinet.evaluation.convergence import TASKS, in_words, is_at_rest, mean_movement
from mtinet.records import Course, RunRecord

RUNS = 5
POINTS = 10


@pytest.fixture
def runs(record_maker) -> Callable[..., list[RunRecord]]:
    """Runs of one row by their watched Dice and the losses of their last fifth."""
    made = record_maker(patients=25, folds=RUNS).row()

    def make(
        dices: Sequence[float | None] = (0.0,) * RUNS,
        losses: Sequence[Sequence[float]] = ((1.0, 1.0),) * RUNS,
    ) -> list[RunRecord]:
        records = []
        for record, dice, loss in zip(made, dices, losses):
            plateau = {"loss_percent": 0.0, "dice_points": dice}
            config = record.config.model_copy(
                update={"training": record.config.training.model_copy(update={"steps": 1000})}
            )
            step = tuple(round(1000 * share) for share in np.linspace(0.82, 1.0, len(loss)))
            course = Course(step=step, numbers=dict.fromkeys(TASKS, tuple(map(float, loss))))
            records.append(record.model_copy(update={"plateau": plateau, "course": course, "config": config}))
        return records

    return make


def test_the_watched_dice_is_judged_by_the_mean_of_the_runs(runs):
    """That of a few studies jitters: some of five runs at rest always seem to move."""
    assert is_at_rest(mean_movement(runs((0.9, -0.7, 0.6, -0.8, 0.1))))
    assert not is_at_rest(mean_movement(runs((0.9, 0.3, 0.6, 0.8, 0.1))))
    assert not is_at_rest(mean_movement(runs((-0.9, -0.3, -0.6, -0.8, -0.1))))
    assert is_at_rest(mean_movement(runs((None,) * RUNS)))  # nothing was watched: the loss decides


def test_a_loss_that_was_not_logged_shows_no_rest(runs):
    moved = mean_movement(runs(losses=((1.0, 1.0), (1.0, 1.0), (), (1.0, 1.0), (1.0, 1.0))))
    assert moved["loss_percent"] is None
    assert not is_at_rest(moved)
    assert in_words({**moved, "dice_points": None}) == "not logged"


def test_a_falling_loss_moves_by_its_line(runs):
    # by a tenth of its mean from 800 to 1000, whatever its height
    line = 1.0 - 0.1 * (np.linspace(0.82, 1.0, POINTS) - 0.91) / 0.2
    moved = mean_movement(runs(losses=[height * line for height in (1, 2, 3, 4, 5)]))
    assert moved["loss_percent"] == pytest.approx(-10.0)
    assert not is_at_rest(moved)


def test_runs_together_show_what_each_hides(runs):
    rng = np.random.default_rng(5)
    fall = 1.0 - 0.2 * np.linspace(-0.5, 0.5, POINTS)
    losses = [fall + 0.1 * rng.standard_normal(POINTS) for _ in range(RUNS)]
    together = runs(losses=losses)
    assert sum(is_at_rest(mean_movement([run])) for run in together) >= 3
    assert not is_at_rest(mean_movement(together))


def test_rows_at_rest_are_seldom_taken_for_moving(runs):
    """By the mean of what stands out in single runs it would be every fifth row."""
    rng = np.random.default_rng(6)
    rows = [runs(losses=[1.0 + 0.2 * rng.standard_normal(POINTS) for _ in range(RUNS)]) for _ in range(200)]
    assert sum(not is_at_rest(mean_movement(row)) for row in rows) / len(rows) < 0.1
