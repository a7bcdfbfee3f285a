"""What speaks for each phase of a volume: the name, the place beside the bolus scan, the time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtinet.config import PHASES, Phase
from mtinet.imaging.phases.candidate import Candidate
from mtinet.imaging.phases.deciding import NONE
from mtinet.imaging.phases.names import DYNAMIC, Reading, tells_contrast

WINDOWS_S: dict[Phase, tuple[float, float]] = {
    "arterial": (24.0, 0.40),
    "arterial_late": (37.0, 0.22),
    "portal_venous": (70.0, 0.22),
    "transitional": (180.0, 0.45),
    "delayed": (210.0, 0.50),
    "hepatobiliary": (1200.0, 0.40),
}
"""Seconds from the start of the injection, and the spread of their logarithm.

Late arterial 35 s, portal venous 60 to 80 s, delayed and transitional 2 to 5 min, hepatobiliary about 20 min
(LI-RADS v2018, technique)."""

_UNUSED = -2.5
_LATER_PRE = (0.0, -2.0, -3.0)
"""Log-weight of "unenhanced" for the first, the second and later volumes, where nothing else is known."""

_NUMBERED = 4
"""Volumes of a dynamic series that is numbered from the unenhanced one on."""

_SECOND_ARTERIAL = -1.2
_FIFTH_DELAYED = 0.8
_UNRELATED = -2.0
_USUAL_IN_THREE = 1.0
"""Of five volumes of one size three in five are two late ones; two arterial ones, two unenhanced ones or a
volume of another kind are rarer.  These priors are practice, not a fit."""

_FLOOR = -6.0


def time_weight(phase: Phase, seconds: float) -> float:
    """Log-weight of a phase for a time after the start of the injection; 0 at its usual time."""
    if phase == "pre":
        return 0.0 if seconds <= 0.0 else _FLOOR - 2.0
    if seconds <= 1.0:
        return _FLOOR - 2.0
    centre, spread = WINDOWS_S[phase]
    apart = math.log(seconds / centre) / spread
    return max(-0.5 * apart * apart, _FLOOR)


def from_name(candidate: Candidate, study: Sequence[Reading]) -> NDArray[np.float64]:
    """Log-weights of the phases and of none from a candidate's name, beside the names of the others."""
    reading = candidate.reading
    weights = np.zeros(NONE + 1)
    weights[NONE] = _UNUSED
    told = _told(candidate)
    if len(told) == 1 and isinstance(told[0], float):
        weights[:NONE] = [time_weight(phase, told[0]) for phase in PHASES]
    elif told:
        for index, phase in enumerate(PHASES):
            weights[index] = 0.0 if phase in told else -5.0
        if "arterial" in told:
            weights[PHASES.index("arterial_late")] = -2.0
        if "delayed" in told:
            weights[PHASES.index("transitional")] = -2.0
            weights[PHASES.index("hepatobiliary")] = -2.5
    elif reading.ordinal:
        usual: tuple[Phase, ...] = ("arterial", "portal_venous", "delayed", "delayed", "delayed")
        wanted = {usual[reading.ordinal - 1]}
        if _counted_from_the_first(reading, study):
            wanted.add(("pre", *usual)[reading.ordinal - 1])
        weights[:NONE] = [0.0 if phase in wanted else -1.8 for phase in PHASES]
        if "pre" not in wanted:
            weights[0] = -6.0 if reading.post else -1.5
    elif reading.pre and not reading.post:
        weights[1:NONE] = -5.0
    elif reading.post and not reading.pre:
        inside = candidate.of > 1 and candidate.rank == 0 and reading.dynamic
        weights[0] = -1.5 if inside else -6.0
    elif any(other.post for other in study) and not reading.pre:
        weights[1:NONE] = -1.5  # where some are marked as enhanced, the unmarked one is not
        if any(other.pre and not other.post for other in study):
            weights[1:NONE] = 0.0
            weights[0] = -1.5
    elif any(other.pre and not other.post for other in study):
        weights[0] = -3.0
    return weights


def _counted_from_the_first(reading: Reading, study: Sequence[Reading]) -> bool:
    """Whether a number may count from the unenhanced volume: "Dyn 1" to "Dyn 4" where nothing else can be that one."""
    numbers = {other.ordinal for other in study if other.ordinal}
    other_pre = any(other.pre or not other.post for other in study if not other.ordinal)
    # "dynamic" alone is the protocol's name, not a word for contrast
    enhanced = tells_contrast(DYNAMIC.sub(" ", reading.text))
    return len(numbers) >= _NUMBERED and 1 in numbers and not other_pre and not enhanced


def _told(candidate: Candidate) -> tuple[Phase | float, ...]:
    """The phases that the name gives this volume, or its time."""
    reading = candidate.reading
    for words in (reading.times_s, reading.phases):
        if len(words) == candidate.of > 1:
            return (words[candidate.rank],)
    if candidate.of == 1 and reading.phases:
        # a time beside a phase ("arterial 20 sec") says the same again
        return reading.phases
    if candidate.of == 1 and len(reading.times_s) == 1:
        return reading.times_s
    return ()


def from_place(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Log-weights from the place in the order alone, for studies whose names say nothing.

    The unenhanced volume comes first and is seldom repeated, late ones often are.  Three volumes in one
    series, behind a single one of the same size, are the arterial, the portal venous and the delayed phase.
    """
    table = np.zeros((len(candidates), NONE + 1))
    table[:, PHASES.index("arterial_late")] = _SECOND_ARTERIAL
    table[:, NONE] = _UNRELATED
    table[4:, PHASES.index("delayed")] = _FIFTH_DELAYED
    for row, candidate in enumerate(candidates):
        table[row, 0] = _LATER_PRE[min(row, len(_LATER_PRE) - 1)]
        if candidate.of == 3 and any(c.of == 1 for c in candidates[:row]):
            usual: tuple[Phase, ...] = ("arterial", "portal_venous", "delayed")
            table[row, PHASES.index(usual[candidate.rank])] += _USUAL_IN_THREE
    return table


def from_times(times_s: Sequence[float | None], start_s: float) -> NDArray[np.float64]:
    """Log-weights from the times of volumes for one start of the injection; unknown times say nothing."""
    table = np.zeros((len(times_s), NONE + 1))
    for row, time in zip(table, times_s):
        if time is not None:
            row[:NONE] = [time_weight(phase, time - start_s) for phase in PHASES]
    return table


def possible_starts(times_s: Sequence[float | None]) -> list[float]:
    """Starts of the injection that would put some volume at the usual time of some phase."""
    known = sorted({t for t in times_s if t is not None})
    if len(known) < 2:
        return []
    starts = {round(t - s) for t in known for s in (16.0, 22.0, 30.0, 38.0, 65.0, 75.0, 180.0)}
    return sorted(float(s) for s in starts)
