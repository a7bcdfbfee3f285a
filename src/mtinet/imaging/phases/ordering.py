"""In which order volumes were acquired: by their times, else by series numbers as far as they can be trusted.

Consoles number series in the order of acquisition, without gaps.  An export may have lost that: numbers are
checked against what is known (scouts first, bolus tracking right before the arterial phase, reconstructions
last, repeats of one sequence in a row) before they are believed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from mtinet.dicom.series import SeriesInfo
from mtinet.imaging.phases.counting import Candidate, Sorted
from mtinet.imaging.phases.names import Reading, name_of, subtraction_sources
from mtinet.imaging.phases.setting_aside import BOLUS, DERIVED

_SHUFFLED = 0.03
"""Share of studies whose numbers are assumed not to follow the acquisition, before looking."""

_MOST_LOST = 0.4
"""Where a larger share of the numbers is absent, numbering has another reason and gaps mean nothing."""


@dataclass(frozen=True)
class Order:
    """The order of acquisition of a study's candidates.

    Attributes
    ----------
    candidates : tuple of Candidate
        In that order; within a series always.
    basis : str
        ``times``, ``numbers`` or ``none``.
    trust : float
        Probability that the order is that of acquisition.
    gaps : tuple of int
        Positions in ``candidates`` before which the number of a series is missing, once a number.
    bolus : int or None
        Number of candidates before the bolus scan.
    sources : dict
        By candidate's key, whether subtractions name it as the image before contrast.
    """

    candidates: tuple[Candidate, ...]
    basis: str
    trust: float
    gaps: tuple[int, ...] = ()
    bolus: int | None = None
    sources: dict[tuple[str, int], bool] = field(default_factory=dict)


def number_of(series: SeriesInfo) -> float | None:
    """The series number as a number; None where it is none."""
    try:
        return float(series.series_number)
    except ValueError:
        return None


def time_of(candidate: Candidate) -> float | None:
    """When a volume was acquired, s; the trigger time counts where the acquisition time stands still."""
    info = candidate.info
    if info is None or info.time_s is None:
        return None
    volumes = candidate.series.volumes
    if len(volumes) > 1 and len({v.time_s for v in volumes}) == 1:
        triggers = {v.trigger_time_ms for v in volumes}
        if len(triggers) == len(volumes) and None not in triggers and info.trigger_time_ms is not None:
            return info.time_s + info.trigger_time_ms / 1000.0
    return info.time_s


def find_order(found: Sorted, study: Sequence[SeriesInfo]) -> Order:
    """The order of acquisition."""
    candidates = found.candidates
    times = [time_of(c) for c in candidates]
    series = {c.series.series_uid for c in candidates}
    starts = {t for c, t in zip(candidates, times) if t is not None and c.volume == _first(c)}
    if None not in times and (len(starts) == len(series) or len(series) == 1):
        ranked = sorted(zip(times, candidates), key=lambda pair: (pair[0] or 0.0, *_tie(pair[1])))
        ordered = tuple(c for _, c in ranked)
        return Order(ordered, "times", 1.0, bolus=_bolus_by_time(ordered, found))
    numbers = [number_of(c.series) for c in candidates]
    distinct = {n for n in numbers if n is not None}
    if None in numbers or len(distinct) < len(series):
        return Order(tuple(sorted(candidates, key=lambda c: c.key)), "none", 0.0)
    ordered = tuple(sorted(candidates, key=lambda c: (number_of(c.series) or 0.0, *_tie(c))))
    steps = _steps(study)
    sources = _sources(ordered, found, study)
    bolus = _bolus_by_number(ordered, found, steps)
    trust = _trust(ordered, found, steps, sources, bolus)
    return Order(ordered, "numbers", trust, _gaps(ordered, steps, found), bolus, sources)


def _first(candidate: Candidate) -> int:
    return min((v.index for v in candidate.series.volumes), default=0)


def _tie(candidate: Candidate) -> tuple[str, int]:
    return (candidate.series.series_uid, candidate.volume)


def _steps(study: Sequence[SeriesInfo]) -> dict[str, int]:
    """Consecutive numbers by series: Philips counts in hundreds (801, 901), others in ones."""
    numbers = {s.series_uid: n for s in study if (n := number_of(s)) is not None}
    whole = [n for n in numbers.values() if n > 0]
    hundreds = bool(whole) and sum(n >= 100 and n % 100 < 20 for n in whole) > 0.8 * len(whole)
    return {uid: int(n // 100 if hundreds else n) for uid, n in numbers.items()}


def _acquired(found: Sorted, steps: dict[str, int]) -> list[int]:
    """Numbers in use by acquired series; reconstructions are numbered apart, from 100 or by their source."""
    kept = [
        steps[s.series_uid] for s, reason in found.excluded if reason not in DERIVED and s.series_uid in steps
    ]
    kept += [steps[c.series.series_uid] for c in found.candidates if c.series.series_uid in steps]
    return sorted({n for n in kept if n < 100} or set(kept))


def _gaps(ordered: tuple[Candidate, ...], steps: dict[str, int], found: Sorted) -> tuple[int, ...]:
    """Where numbers of acquired series are missing around the candidates."""
    used = _acquired(found, steps)
    if not used or not ordered:
        return ()
    span = used[-1] - used[0] + 1
    if span - len(used) > _MOST_LOST * span:
        return ()
    own = [steps[c.series.series_uid] for c in ordered]
    places: list[int] = []
    for number in range(used[0], used[-1] + 1):
        if number not in used:
            place = sum(n < number for n in own)
            # one at most before the first candidate and after the last: what lies further off is another scan
            near = place not in (0, len(own)) or min(abs(n - number) for n in own) <= 2
            if near and places.count(place) < 3:
                places.append(place)
    return tuple(places)


def _bolus_by_number(ordered: tuple[Candidate, ...], found: Sorted, steps: dict[str, int]) -> int | None:
    marks = [n for s, reason in found.excluded if reason == BOLUS and (n := number_of(s)) is not None]
    if not marks and found.silent and all(c.info is None for c in ordered):
        return _interrupted(ordered, steps)
    return sum((number_of(c.series) or 0.0) < max(marks) for c in ordered) if marks else None


def _interrupted(ordered: tuple[Candidate, ...], steps: dict[str, int]) -> int | None:
    """Candidates before the one interruption of their numbers: there the bolus was timed.

    Without names only this shape tells it: one series, other numbers, then at least two series in a row.
    """
    own = list(dict.fromkeys(steps[c.series.series_uid] for c in ordered))
    if len(own) < 3 or own[1] - own[0] < 2 or own[2] - own[1] > 1:
        return None
    return sum(steps[c.series.series_uid] == own[0] for c in ordered)


def _bolus_by_time(ordered: tuple[Candidate, ...], found: Sorted) -> int | None:
    marks = [
        series.volumes[0].time_s
        for series, reason in found.excluded
        if reason == BOLUS and series.volumes and series.volumes[0].time_s is not None
    ]
    return sum((time_of(c) or 0.0) < max(marks) for c in ordered) if marks else None


def _sources(
    ordered: tuple[Candidate, ...], found: Sorted, study: Sequence[SeriesInfo]
) -> dict[tuple[str, int], bool]:
    """What subtractions tell by the numbers of their sources: True = before contrast."""
    named: dict[int, bool] = {}
    for series, _ in found.excluded:
        pair = subtraction_sources(name_of(series))
        if pair:
            named[pair[0]], named[pair[1]] = named.get(pair[0], False), True
    known = {int(n) for s in study if (n := number_of(s)) is not None}
    kept = {int(number_of(c.series) or 0) for c in ordered}
    if any(number in known and number not in kept for number in named):
        return {}  # the numbers in the names are not those of the series
    return {c.key: named[n] for c in ordered if (n := int(number_of(c.series) or 0)) in named}


def _trust(
    ordered: tuple[Candidate, ...],
    found: Sorted,
    steps: dict[str, int],
    sources: dict[tuple[str, int], bool],
    bolus: int | None,
) -> float:
    """Probability that the numbers follow the acquisition, by Bayes' rule from what can be checked."""
    odds = math.log((1.0 - _SHUFFLED) / _SHUFFLED)
    order = list(dict.fromkeys(c.series.series_uid for c in ordered))
    own = [steps[uid] for uid in order]
    for series, reason in found.excluded:
        number = steps.get(series.series_uid)
        if number is None or not own:
            continue
        if reason == "localizer":
            odds += 0.5 if number < min(own) else -2.5
        elif reason in DERIVED:
            odds += 0.2 if number > min(own) else -2.0
    named = [c.reading for c in ordered if c.volume == 0]
    for i, earlier in enumerate(named):
        for later in named[i + 1 :]:
            odds += _agree(_rank(earlier), _rank(later))
    pairs = subtraction_sources_known(found)
    if pairs and not sources:
        odds -= 3.0
    odds += _rows(own, found, steps)
    if bolus is not None and own:
        position = sum(c.volume == 0 for c in ordered[:bolus])
        odds += 1.0 if position == min(1, len(own) - 1) or position == 1 else (-2.0 if position > 2 else 0.0)
    return 1.0 / (1.0 + math.exp(-odds))


def subtraction_sources_known(found: Sorted) -> bool:
    """Some subtraction names the numbers of its sources."""
    return any(subtraction_sources(name_of(series)) for series, _ in found.excluded)


def _rank(reading: Reading) -> float | None:
    """Where a name puts its volume in time; None where it does not."""
    if reading.pre and not reading.post:
        return 0.0
    if reading.times_s:
        return 1.0 + reading.times_s[0] / 60.0
    usual = {"arterial": 1.4, "arterial_late": 1.6, "portal_venous": 2.2, "transitional": 4.0, "delayed": 5.0}
    if reading.phases:
        return usual.get(reading.phases[0], 20.0)
    return None


def _agree(earlier: float | None, later: float | None) -> float:
    if earlier is None or later is None or earlier == later:
        return 0.0
    return 0.5 if earlier < later else -3.0


def _rows(own: list[int], found: Sorted, steps: dict[str, int]) -> float:
    """Phases after the injection follow each other without another scan between: shuffling breaks that."""
    if len(own) < 3:
        return 0.0
    others = {
        steps[s.series_uid] for s, reason in found.excluded if s.series_uid in steps and reason not in DERIVED
    }
    if not others:
        return 0.0
    broken = [any(a < n < b for n in others) for a, b in pairwise(own[1:])]
    if len(own) == 3:
        return -1.5 if broken[0] else 0.4
    if not any(broken):
        return 1.0
    if found.silent and not any(broken[:-1]):  # a late phase is often taken after another scan
        return 0.3
    return -4.0 * sum(broken) / len(broken) - 0.5
