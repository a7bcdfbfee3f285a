"""Whether trainings had come to rest, judged by row: without that a difference may be one of speed.

Losses scatter from batch to batch by more than they move, and the watched Dice, of a few studies, jitters by tenths
of a point from look to look: of five runs at rest one or two would be taken for moving.  A row is therefore judged
by its runs together.  Their losses over the last fifth of the steps, each in percent of its mean there, have one
line (Theil 1950, Sen 1968), and that moves where its 95 % interval leaves out 0; their Dice moves by the mean of the
runs' own movements (:func:`mtinet.experiments.record.plateau`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scipy import stats

from mtinet.records import RunRecord

STILL_MOVES = 0.5
"""Points of Dice, or percent of the loss, by which what is at rest may move over the last fifth."""

LAST_SHARE = 0.2
"""Share of the steps over which movement counts."""

TASKS = ("segmentation", "regression", "classification")
"""Terms that the loss is of: those that enter late or play against each other say nothing of rest."""

LOSS, DICE = "loss_percent", "dice_points"
LOW, HIGH = "loss_low", "loss_high"


def mean_movement(records: Sequence[RunRecord]) -> dict[str, float | None]:
    """How the runs of a row moved over the last fifth of their steps.

    Returns
    -------
    dict
        ``loss_percent`` with its 95 % interval ``loss_low, loss_high``, None where a run's losses were not logged;
        ``dice_points``, None where no run watched the Dice.
    """
    dices = [value for record in records if (value := record.plateau[DICE]) is not None]
    dice = sum(dices) / len(dices) if dices else None
    logged = [_losses(record) for record in records]
    if any(len(points) < 2 for points in logged) or sum(map(len, logged)) < 3:
        return {LOSS: None, LOW: None, HIGH: None, DICE: dice}
    shares, percents = zip(*(point for points in logged for point in points), strict=True)
    if len(set(percents)) == 1:  # ties alone have no interval
        moved = (0.0, 0.0, 0.0)
    else:
        line = stats.theilslopes(percents, shares)
        moved = (line.slope, line.low_slope, line.high_slope)
    return {**{key: LAST_SHARE * float(value) for key, value in zip((LOSS, LOW, HIGH), moved)}, DICE: dice}


def is_at_rest(moved: Mapping[str, float | None]) -> bool:
    """Whether neither movement exceeds :data:`STILL_MOVES`.

    A loss whose interval holds 0 does not move; one that was not logged shows no rest.
    """
    loss, dice = moved[LOSS], moved[DICE]
    if loss is None:
        return False
    low, high = (loss if moved.get(key) is None else moved[key] for key in (LOW, HIGH))
    assert low is not None
    assert high is not None
    loss_rests = abs(loss) <= STILL_MOVES or low <= 0 <= high
    return loss_rests and (dice is None or abs(dice) <= STILL_MOVES)


def in_words(moved: Mapping[str, float | None]) -> str:
    """``loss +0.2 % [-3.1, +3.4], Dice -0.7 points``."""
    parts = []
    if (loss := moved[LOSS]) is not None:
        low, high = moved.get(LOW), moved.get(HIGH)
        interval = "" if low is None or high is None else f" [{low:+.1f}, {high:+.1f}]"
        parts.append(f"loss {loss:+.1f} %{interval}")
    if (dice := moved[DICE]) is not None:
        parts.append(f"Dice {dice:+.1f} points")
    return ", ".join(parts) or "not logged"


# ---------------------------------------------------------------------- parts
def _losses(record: RunRecord) -> list[tuple[float, float]]:
    """(share of the steps, loss in percent of their mean) over the last fifth.

    The loss is that of :data:`TASKS` with their settings' weights.
    """
    steps, course = record.config.training.steps, record.course
    weights = {task: getattr(record.config.objective, task) for task in TASKS}
    terms = [course.numbers.get(task, ()) for task in TASKS]
    if not all(terms):
        return []
    points = [
        (step / steps, sum(weight * value for weight, value in zip(weights.values(), values)))
        for step, *values in zip(course.step, *terms, strict=True)
        if step > (1 - LAST_SHARE) * steps and None not in values
    ]
    mean = sum(loss for _, loss in points) / len(points) if points else 0.0
    return [(share, 100 * loss / mean) for share, loss in points] if mean > 0 else []
