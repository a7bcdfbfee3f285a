"""In which order volumes were acquired: by their times, else by series numbers as far as they can be trusted, else
by the rows of a table.

Consoles number series in the order of acquisition, without gaps.  An export may have lost that: numbers are
checked against what is known (scouts first, bolus tracking right before the arterial phase, reconstructions
last, repeats of one sequence in a row) before they are believed.  A table may still list the series as they were
acquired: its rows are checked in the same way, and taken where they hold better than the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from mtinet.dicom.series import SeriesInfo
from mtinet.dicom.times import past_midnight
from mtinet.imaging.phases.candidate import Candidate
from mtinet.imaging.phases.counting import Sorted
from mtinet.imaging.phases.names import name_of, subtraction_sources
from mtinet.imaging.phases.setting_aside import BOLUS, DERIVED

_SHUFFLED = 0.3
"""Probability that numbers do not follow the acquisition, before looking.

Far more than in practice: a wrong phase costs more than an empty one, so numbers must earn their trust."""

_ROWS_SHUFFLED = 0.5
"""The same of a table's rows: many a table is sorted by something else, or by nothing."""

_SCOUT_FIRST, _DUAL_ECHO_FIRST, _DERIVED_LATER = 0.95, 0.95, 0.97
"""Share of scouts that come before every volume, of images in and out of phase (unenhanced) that come before the
second, and of reconstructions that come after the first."""

_PRECEDED = 0.97
"""Share of studies with another scan, scouts not counted, before the first volume."""

_SOURCES_UNKNOWN = -3.0
"""Log-odds of numbers that are not those in the names of subtractions."""

_BEFORE_BOLUS = {0: 0.15, 1: 0.65, 2: 0.12}
_REST = 0.08
"""How many series come before the bolus scan: the unenhanced one, none where it was not exported, or two."""

_IN_A_ROW, _LATE_APART, _BROKEN_ONCE, _BROKEN = 0.72, 0.18, 0.06, 0.04
"""Series after the injection: in a row, the last one apart, one interruption before that, more."""

ROWS_AT_MOST = 0.8
"""What the order of a table's rows can be trusted: nobody promises that it means anything."""

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
        ``times``, ``numbers``, ``rows`` (of a table) or ``none``.
    trust : float
        Probability that the order is that of acquisition.
    gaps : tuple of int
        Positions in ``candidates`` before which the number of a series is missing, once a number.
    bolus : int or None
        Number of candidates before the bolus scan.
    sources : dict
        By candidate's key, whether subtractions name it as the image before contrast.
    times_s : tuple of float or None
        When each candidate was acquired, going on after midnight; empty where times do not give the order.
    """

    candidates: tuple[Candidate, ...]
    basis: str
    trust: float
    gaps: tuple[int, ...] = ()
    bolus: int | None = None
    sources: dict[tuple[str, int], bool] = field(default_factory=dict)
    times_s: tuple[float | None, ...] = ()


def number_of(series: SeriesInfo) -> float | None:
    """The series number as a number; None where it is none."""
    try:
        return float(series.series_number)
    except ValueError:
        return None


def time_of(candidate: Candidate) -> float | None:
    """When a volume was acquired, s.

    The time of a series in a table is that of its first volume.
    """
    info = candidate.info
    if info is None:
        return candidate.series.time_s if candidate.volume == 0 else None
    return candidate.series.acquired_s(info)


def find_order(found: Sorted, study: Sequence[SeriesInfo]) -> Order:
    """The order of acquisition."""
    candidates = found.candidates
    times = [_began(c) for c in candidates]
    series = {c.series.series_uid for c in candidates}
    starts = {t for c, t in zip(candidates, times) if t is not None and c.rank == 0}
    if None not in times and (len(starts) == len(series) or len(series) == 1):
        return _by_times(found)
    by_numbers = _by_numbers(found, study)
    by_rows = _by_rows(found, study)
    if by_rows is None or by_rows.trust < max(by_numbers.trust, 0.5):
        return by_numbers
    return replace(by_rows, trust=min(by_rows.trust, ROWS_AT_MOST))


def _by_times(found: Sorted) -> Order:
    """The order of the times of day, also of a study that goes on after midnight."""
    marks = [
        series.volumes[0].time_s if series.volumes else series.time_s
        for series, reason in found.excluded
        if reason == BOLUS
    ]
    later = past_midnight([*(_began(c) for c in found.candidates), *marks])
    ranked = sorted(found.candidates, key=lambda c: (later(_began(c)) or 0.0, *_tie(c)))
    bolus = max((time for mark in marks if (time := later(mark)) is not None), default=None)
    before = None if bolus is None else sum((later(_began(c)) or 0.0) < bolus for c in ranked)
    told = [(c.series.series_uid, later(time_of(c))) for c in ranked]
    # a time that volumes share is that of their series, which began with the first of them
    times = tuple(None if one in told[:row] else one[1] for row, one in enumerate(told))
    return Order(tuple(ranked), "times", 1.0, bolus=before, times_s=times)


def _began(candidate: Candidate) -> float | None:
    """When a volume was acquired; for those of a table's row, when its series began."""
    return candidate.series.time_s if candidate.info is None else time_of(candidate)


def _by_numbers(found: Sorted, study: Sequence[SeriesInfo]) -> Order:
    """The order of the series numbers, where each candidate's series has its own."""
    candidates = found.candidates
    numbers = [number_of(c.series) for c in candidates]
    distinct = {n for n in numbers if n is not None}
    if None in numbers or len(distinct) < len({c.series.series_uid for c in candidates}):
        return Order(tuple(sorted(candidates, key=lambda c: c.key)), "none", 0.0)
    ordered = tuple(sorted(candidates, key=lambda c: (number_of(c.series) or 0.0, *_tie(c))))
    steps = _steps(study)
    sources = _sources(ordered, found, study)
    bolus = _bolus_by_place(ordered, found, steps)
    odds = _odds(ordered, found, steps, bolus, _SHUFFLED)
    if subtraction_sources_known(found) and not sources:
        odds += _SOURCES_UNKNOWN
    return Order(ordered, "numbers", _probability(odds), _gaps(ordered, steps, found), bolus, sources)


def _by_rows(found: Sorted, study: Sequence[SeriesInfo]) -> Order | None:
    """The order of a table's rows; None for files, and where the rows are sorted by what a series is.

    Rows without a gap tell nothing of series that are missing.
    """
    rows = {series.series_uid: series.row for series in study}
    known = {uid: row for uid, row in rows.items() if row is not None}
    listed = sorted(study, key=lambda series: known.get(series.series_uid, 0))
    if len(known) < len(rows) or _sorted_by_content(listed):
        return None
    ordered = tuple(sorted(found.candidates, key=lambda c: (known[c.series.series_uid], *_tie(c))))
    bolus = _bolus_by_place(ordered, found, known)
    trust = _probability(_odds(ordered, found, known, bolus, _ROWS_SHUFFLED))
    return Order(ordered, "rows", trust, bolus=bolus)


def _sorted_by_content(listed: Sequence[SeriesInfo]) -> bool:
    """The rows are in the order of their names, identifiers, numbers or image counts, up or down."""
    keys: tuple[Callable[[SeriesInfo], Any], ...] = (
        lambda series: series.description.casefold(),
        lambda series: series.series_uid,
        lambda series: series.series_number,
        lambda series: number_of(series) or 0.0,
        lambda series: series.n_images,
    )
    columns = ([key(series) for series in listed] for key in keys)
    return any(len(set(c)) > 1 and c in (sorted(c), sorted(c, reverse=True)) for c in columns)


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


def _bolus_by_place(ordered: tuple[Candidate, ...], found: Sorted, steps: dict[str, int]) -> int | None:
    marks = [steps[s.series_uid] for s, reason in found.excluded if reason == BOLUS and s.series_uid in steps]
    if not marks and found.silent and all(c.info is None for c in ordered):
        return _interrupted(ordered, steps)
    return sum(steps[c.series.series_uid] < max(marks) for c in ordered) if marks else None


def _interrupted(ordered: tuple[Candidate, ...], steps: dict[str, int]) -> int | None:
    """Candidates before the one interruption of their numbers: there the bolus was timed.

    Without names only this shape tells it: one series, other numbers, then at least two series in a row.
    """
    own = list(dict.fromkeys(steps[c.series.series_uid] for c in ordered))
    if len(own) < 3 or own[1] - own[0] < 2 or own[2] - own[1] > 1:
        return None
    return sum(steps[c.series.series_uid] == own[0] for c in ordered)


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


def _odds(
    ordered: tuple[Candidate, ...],
    found: Sorted,
    steps: dict[str, int],
    bolus: int | None,
    shuffled: float,
) -> float:
    """Log-odds that ``steps`` (numbers, rows) follow the acquisition, by Bayes' rule from what can be checked.

    Each check compares how often it holds in practice with how often it would among shuffled numbers.  Names of
    the volumes are no part of it: they weigh in the hypotheses, where the two orders are compared.
    """
    odds = math.log((1.0 - shuffled) / shuffled)
    own = [steps[uid] for uid in dict.fromkeys(c.series.series_uid for c in ordered)]
    total, scouts = len(own), 0
    for series, reason in found.excluded:
        number = steps.get(series.series_uid)
        if number is None or not own:
            continue
        if reason == "localizer":
            scouts += 1  # given that those before came first, by chance this one does as well
            odds += _against_chance(number < own[0], _SCOUT_FIRST, scouts / (total + scouts))
        elif reason in DERIVED:
            odds += _against_chance(number > own[0], _DERIVED_LATER, total / (total + 1))
        elif reason == "in and out of phase" and total > 1:
            odds += _against_chance(number < own[1], _DUAL_ECHO_FIRST, 2 / (total + 1))
    position = None if bolus is None else sum(c.rank == 0 for c in ordered[:bolus])
    # the unenhanced volume may have been repeated; more series before the bolus are rare enough to be a shuffle
    odds += _preceded(own, found, steps) + _rows(own, found, steps, 2 if position == 2 else 1)
    if position is not None and total > 1:
        usual = _BEFORE_BOLUS.get(position, _REST / max(total - 2, 1))
        odds += math.log(usual * (total + 1))
    return odds


def _probability(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-odds))


def _against_chance(holds: bool, usual: float, chance: float) -> float:
    """Log-odds from a check that holds as often as ``usual`` in practice, and as ``chance`` by chance."""
    return math.log(usual / chance) if holds else math.log((1.0 - usual) / (1.0 - chance))


def subtraction_sources_known(found: Sorted) -> bool:
    """Some subtraction names the numbers of its sources."""
    return any(subtraction_sources(name_of(series)) for series, _ in found.excluded)


def _preceded(own: list[int], found: Sorted, steps: dict[str, int]) -> float:
    """Liver protocols begin with other sequences (T2, in and out of phase), not with the dynamic series."""
    apart = {"localizer", BOLUS, *DERIVED}
    others = {
        steps[s.series_uid] for s, reason in found.excluded if s.series_uid in steps and reason not in apart
    }
    if not own or not others:
        return 0.0
    by_chance = len(others) / (len(others) + len(own))
    return _against_chance(min(others) < own[0], _PRECEDED, by_chance)


def _rows(own: list[int], found: Sorted, steps: dict[str, int], before: int) -> float:
    """Phases after the injection follow each other without another scan between: shuffling breaks that.

    ``before`` series were acquired before the injection.  By chance the other scans fall into the places before,
    between and after the series in every way alike.
    """
    others = {
        steps[s.series_uid] for s, reason in found.excluded if s.series_uid in steps and reason not in DERIVED
    }
    inner, rest = len(own) - 1 - before, len(others)
    if inner < 1 or not others:
        return 0.0
    broken = [any(a < n < b for n in others) for a, b in pairwise(own[before:])]
    breaks = sum(broken)
    by_chance = math.comb(rest + before + 1, breaks + before + 1) / math.comb(rest + len(own), len(own))
    if not breaks:
        return math.log(_IN_A_ROW / by_chance)
    if breaks == 1 and broken[-1]:
        return math.log(_LATE_APART / by_chance)
    ways = max(math.comb(inner, breaks) - (breaks == 1), 1)
    usual = _BROKEN_ONCE if breaks == 1 else _BROKEN
    return math.log(usual / (ways * by_chance))
