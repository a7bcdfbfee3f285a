"""How lesions have changed since a prior study: matched by place, in volume and diameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mtinet.inference.curves import NOT_ASSESSABLE
from mtinet.results import Lesion, Measurement, Result
from mtinet.volume import Volume

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
    imaged : bool
        Of a lesion without a partner: whether the other study's images show its place.
    at_edge : {"", "then", "now"}
        Study at the edge of whose images the lesion lies: a part of it may be missing there.
    """

    number: int | None
    prior_number: int | None
    volume_percent: float | None = None
    diameter_percent: float | None = None
    imaged: bool = True
    at_edge: Literal["", "then", "now"] = ""


@dataclass(frozen=True)
class Shown:
    """What the images of two studies show.

    Attributes
    ----------
    then, now : Volume
        An image of each; only their grids count.
    """

    then: Volume
    now: Volume


def changes(
    now: Sequence[Lesion],
    prior: Sequence[Lesion],
    to_now: NDArray[np.float64] | None = None,
    shown: Shown | None = None,
) -> tuple[Change, ...]:
    """Match lesions of two studies of a patient and compare their sizes.

    Two lesions can be the same where the balls of their volumes, about their centres, overlap; of all such
    pairings the one with most pairs and then the smallest distances is taken, each lesion once.

    Parameters
    ----------
    now, prior : sequence of Lesion
    to_now : ndarray, shape (4, 4), optional
        From the prior study's world to this one's, mm; without it both have the same frame.
    shown : Shown, optional
        Without it both studies show everything.

    Returns
    -------
    tuple of Change
        The later study's lesions in their order, then those that have vanished.
    """
    motion = np.eye(4) if to_now is None else np.asarray(to_now, dtype=np.float64)
    pairs = _pairs(now, prior, motion)
    partner = {prior_at: at for at, prior_at in pairs.items()}

    def imaged(image: Volume | None, lesion: Lesion, way: NDArray[np.float64]) -> bool:
        return image is None or _to_edge_mm(image, way[:3, :3] @ lesion.centre_mm + way[:3, 3]) > 0.0

    then_image, now_image = (None, None) if shown is None else (shown.then, shown.now)
    back = np.linalg.inv(motion).astype(np.float64)
    found = [
        replace(_change(lesion, prior[pairs[at]]), at_edge=_at_edge(lesion, prior[pairs[at]], shown))
        if at in pairs
        else Change(lesion.number, None, imaged=imaged(then_image, lesion, back))
        for at, lesion in enumerate(now)
    ]
    gone = [
        Change(None, old.number, imaged=imaged(now_image, old, motion))
        for at, old in enumerate(prior)
        if at not in partner
    ]
    return (*found, *gone)


def with_changes(
    result: Result, prior: Result, to_now: NDArray[np.float64] | None = None, shown: Shown | None = None
) -> Result:
    """The result with its lesions' changes since the prior study among its measurements.

    Parameters
    ----------
    result, prior : Result
    to_now, shown
        As of :func:`changes`.
    """
    found = changes(result.lesions, prior.lesions, to_now, shown)
    by_number = {change.number: change for change in found}
    gone = [change.imaged for change in found if change.number is None]
    since = f"since study {prior.study_id}"
    beyond = gone.count(False)
    reason = since + (f"; {beyond} more lie outside of these images" if beyond else "")
    return replace(
        result,
        lesions=tuple(
            replace(
                lesion, measurements=(*lesion.measurements, *_as_measured(by_number[lesion.number], since))
            )
            for lesion in result.lesions
        ),
        measurements=(
            *result.measurements,
            Measurement("vanished_lesions", float(gone.count(True)), reason=reason),
        ),
    )


def _to_edge_mm(image: Volume, place_mm: NDArray[np.float64]) -> float:
    """Distance of a place to the nearest side of an image's field of view; negative outside."""
    index = np.linalg.inv(image.affine) @ [*place_mm, 1.0]
    steps = np.minimum(index[:3] + 0.5, np.array(image.shape) - 0.5 - index[:3])
    return float(np.min(steps * np.array(image.spacing_mm)))


def _at_edge(lesion: Lesion, old: Lesion, shown: Shown | None) -> Literal["", "then", "now"]:
    """Whether the ball of a lesion's volume reaches the edge of what was imaged, then or now."""
    if shown is None:
        return ""
    if _to_edge_mm(shown.then, np.asarray(old.centre_mm)) < old.diameter_mm / 2:
        return "then"
    return "now" if _to_edge_mm(shown.now, np.asarray(lesion.centre_mm)) < lesion.diameter_mm / 2 else ""


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
    if change.prior_number is None and not change.imaged:
        reason = f"{since}: its images do not show the lesion's place"
        return [Measurement("growth", finding=NOT_ASSESSABLE, reason=reason)]
    if change.prior_number is None:
        return [Measurement("growth", finding="new", reason=since)]
    reason = f"{since}, where it is lesion {change.prior_number}"
    if change.at_edge:
        whose = "that study's" if change.at_edge == "then" else "these"
        reason += f"; it lies at the edge of {whose} images, and a part of it may be missing there"
    found = [Measurement("volume_change", change.volume_percent, "%", reason=reason)]
    if change.diameter_percent is not None:
        found.append(Measurement("diameter_change", change.diameter_percent, "%", reason=reason))
    return found
