"""Whether trainings had come to rest, judged by row: without that a difference may be one of speed.

A run's two movements over the last fifth of its steps are in its record
(:func:`mtinet.experiments.record.plateau`).  Its watched Dice is that of a few studies and jitters by tenths of
a point from look to look, so that of five runs at rest one or two would be taken for moving.  A row is
therefore judged by the mean movement of its runs: what they have in common is movement, the rest is jitter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtinet.records import RunRecord

STILL_MOVES = 0.5
"""Points of Dice, or percent of the loss, by which what is at rest may move over the last fifth."""

LOSS, DICE = "loss_percent", "dice_points"


def mean_movement(records: Sequence[RunRecord]) -> dict[str, float | None]:
    """Mean movements of the runs of a row: ``loss_percent``, ``dice_points``.

    None where a run's loss was not logged, and where no run watched the Dice.
    """
    losses = [record.plateau[LOSS] for record in records]
    dices = [record.plateau[DICE] for record in records]
    return {LOSS: None if None in losses else _mean(losses), DICE: _mean(dices)}


def is_at_rest(moved: Mapping[str, float | None]) -> bool:
    """Whether neither movement exceeds :data:`STILL_MOVES`; a loss that was not logged shows no rest."""
    loss, dice = moved[LOSS], moved[DICE]
    return loss is not None and abs(loss) <= STILL_MOVES and (dice is None or abs(dice) <= STILL_MOVES)


def in_words(moved: Mapping[str, float | None]) -> str:
    """``loss +0.2 %, Dice -0.7 points``."""
    units = {LOSS: ("loss", "%"), DICE: ("Dice", "points")}
    parts = [
        f"{name} {value:+.1f} {unit}"
        for key, (name, unit) in units.items()
        if (value := moved[key]) is not None
    ]
    return ", ".join(parts) or "not logged"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
