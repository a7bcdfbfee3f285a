"""How lesions have changed since a prior study: matched by place, in volume and diameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mtinet.results import Lesion, Measurement, Result

_FAR = 1e9


@dataclass(frozen=True)
class Change:
    """A lesion then and now.

    Attributes
    ----------
    number, prior_number : int or None
        In the later and in the prior study; None where there is none: a vanished or a new lesion.
    volume_percent, diameter_percent : float or None
        100·(now - then)/then of the volume and of the longest axial diameter.
    """

    number: int | None
    prior_number: int | None
    volume_percent: float | None = None
    diameter_percent: float | None = None


def changes(
    now: Sequence[Lesion], prior: Sequence[Lesion], to_now: NDArray[np.float64] | None = None
) -> tuple[Change, ...]:
    """Match lesions of two studies of a patient and compare their sizes.

    Two lesions can be the same where the balls of their volumes, about their centres, overlap; of all such
    pairings the one with most pairs and then the smallest distances is taken, each lesion once.

    Parameters
    ----------
    now, prior : sequence of Lesion
    to_now : ndarray, shape (4, 4), optional
        From the prior study's world to this one's, mm; without it both have the same frame.

    Returns
    -------
    tuple of Change
        The later study's lesions in their order, then those that have vanished.
    """
    pairs = _pairs(now, prior, np.eye(4) if to_now is None else np.asarray(to_now))
    partner = {prior_at: at for at, prior_at in pairs.items()}
    found = [
        _change(lesion, prior[pairs[at]]) if at in pairs else Change(lesion.number, None)
        for at, lesion in enumerate(now)
    ]
    return (*found, *(Change(None, old.number) for at, old in enumerate(prior) if at not in partner))


def with_changes(result: Result, prior: Result, to_now: NDArray[np.float64] | None = None) -> Result:
    """The result with its lesions' changes since the prior study among its measurements."""
    found = changes(result.lesions, prior.lesions, to_now)
    by_number = {change.number: change for change in found}
    vanished = sum(change.number is None for change in found)
    since = f"since study {prior.study_id}"
    return replace(
        result,
        lesions=tuple(
            replace(
                lesion, measurements=(*lesion.measurements, *_as_measured(by_number[lesion.number], since))
            )
            for lesion in result.lesions
        ),
        measurements=(*result.measurements, Measurement("vanished_lesions", float(vanished), reason=since)),
    )


def _pairs(now: Sequence[Lesion], prior: Sequence[Lesion], to_now: NDArray[np.float64]) -> dict[int, int]:
    """Place in ``prior`` by place in ``now``."""
    if not now or not prior:
        return {}
    here = np.array([lesion.centre_mm for lesion in now])
    there = np.array([lesion.centre_mm for lesion in prior]) @ to_now[:3, :3].T + to_now[:3, 3]
    apart = np.linalg.norm(here[:, None] - there[None], axis=-1)
    reach = 0.5 * np.add.outer([one.diameter_mm for one in now], [one.diameter_mm for one in prior])
    rows, columns = linear_sum_assignment(np.where(apart < reach, apart, _FAR))
    return {int(r): int(c) for r, c in zip(rows, columns) if apart[r, c] < reach[r, c]}


def _change(lesion: Lesion, old: Lesion) -> Change:
    then, today = old.longest_axial_mm, lesion.longest_axial_mm
    return Change(
        lesion.number,
        old.number,
        100.0 * (lesion.volume_mm3 / old.volume_mm3 - 1.0),
        None if not then or today is None else 100.0 * (today / then - 1.0),
    )


def _as_measured(change: Change, since: str) -> list[Measurement]:
    if change.prior_number is None:
        return [Measurement("growth", finding="new", reason=since)]
    reason = f"{since}, where it is lesion {change.prior_number}"
    found = [Measurement("volume_change", change.volume_percent, "%", reason=reason)]
    if change.diameter_percent is not None:
        found.append(Measurement("diameter_change", change.diameter_percent, "%", reason=reason))
    return found
