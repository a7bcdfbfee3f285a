"""Volumes of one acquisition in several series: of reconstructions and copies, those of one family are kept."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from mtinet.dicom.series import SeriesInfo
from mtinet.imaging.phases.candidate import Candidate

_RECONSTRUCTED = re.compile(r"[ _](ND|NORM|DIS[23]D)$", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Family:
    """What the volumes of one reconstruction have in common.

    Attributes
    ----------
    kind : tuple of str
        The kind of image.
    suffix : str
        What a console puts behind the name of one of several reconstructions.
    added : tuple of str
        Words of the name by which series of one kind, suffix and time differ in several acquisitions.
    place : int
        Rank among the series' numbers, where nothing else tells the reconstructions of all acquisitions apart.
    """

    kind: tuple[str, ...]
    suffix: str
    added: tuple[str, ...] = ()
    place: int = 0


_Acquisitions = list[list[Candidate]]
"""By acquisition, the volumes of one family."""


def copies(found: Sequence[Candidate]) -> dict[tuple[str, int], str]:
    """Which volumes another one of their acquisition (they have one time) makes needless, by key with the reason.

    Consoles write images with and without correction of distortion or intensity, and archives keep copies; phases
    from both would not be comparable.  Whole volumes go before those that lack a slice; of these the family of most
    acquisitions is kept, of two alike the corrected one, else the first.
    """
    at = list(_at_once(found).values())
    family_of = _families(at)
    broken = _broken(at)
    groups = [[c for c in group if c.key not in broken] for group in at]
    members: dict[Family, _Acquisitions] = dict(_apart(groups, lambda c: family_of[c.key]))

    def rank(family: Family) -> tuple[float, ...]:
        distorted = "ND" in (*family.kind, family.suffix)
        first = min(_number(c.series) for group in members[family] for c in group)
        return (-len(members[family]), distorted, first)

    order = sorted(members, key=lambda family: (rank(family), family))
    others: set[tuple[str, int]] = set()
    for group in groups:
        best = min(order.index(family_of[c.key]) for c in group)
        others |= {c.key for c in group if order.index(family_of[c.key]) != best}
    return {
        **dict.fromkeys(
            broken, "its slices make no volume, those of another series of the same acquisition do"
        ),
        **dict.fromkeys(others, "another reconstruction of the same acquisitions"),
    }


def _broken(at: Sequence[list[Candidate]]) -> set[tuple[str, int]]:
    """Volumes that no grid holds (a slice is missing) where a whole one of their acquisition is there."""
    return {
        broken.key
        for group in at
        for broken in group
        for whole in group
        if broken.info and whole.info and broken.info.grid is None and whole.info.grid is not None
        if broken.series is not whole.series and not _told_apart(broken, whole)
    }


def _at_once(found: Sequence[Candidate]) -> dict[float, list[Candidate]]:
    """Volumes by the time of their acquisition; empty where all have one time, which is that of nothing."""
    at: dict[float, list[Candidate]] = defaultdict(list)
    for candidate in found:
        time = None if candidate.info is None else candidate.series.acquired_s(candidate.info)
        if time is not None:
            at[time].append(candidate)
    return at if len(at) > 1 else {}


def _told_apart(one: Candidate, other: Candidate) -> bool:
    """Whether two volumes of one time are different phases by what their names or attributes say.

    A console that splits a dynamic series gives all parts the time at which it began.
    """

    def told(candidate: Candidate) -> tuple[object, ...]:
        reading, info = candidate.reading, candidate.info
        unenhanced = None if reading.pre == reading.post else reading.pre
        attributes = (None, None) if info is None else (info.trigger_time_ms, info.temporal_position)
        return (reading.phases or None, reading.times_s or None, reading.ordinal, unenhanced, *attributes)

    return any(None not in pair and pair[0] != pair[1] for pair in zip(told(one), told(other)))


def _families(at: Sequence[list[Candidate]]) -> dict[tuple[str, int], Family]:
    """The family of each volume by its key."""
    found: dict[tuple[str, int], Family] = {}
    for family, acquisitions in _apart(at, _by_console):
        shared = [[_words(c) for c in group] for group in acquisitions if _several(group)]
        counts = Counter(
            word for names in shared for word in names[0].union(*names) - names[0].intersection(*names)
        )
        telling = {word for word, times in counts.items() if times > 1}

        def added(c: Candidate, family: Family = family, telling: set[str] = telling) -> Family:
            return replace(family, added=tuple(sorted(telling & _words(c))))

        for part, members in _apart(acquisitions, added):
            numbered = len(members) > 1 and all(map(_several, members))
            for group in members:
                order = sorted({(_number(c.series), c.series.series_uid) for c in group})
                for c in group:
                    place = order.index((_number(c.series), c.series.series_uid)) if numbered else 0
                    found[c.key] = replace(part, place=place)
    return found


def _apart(
    acquisitions: Sequence[list[Candidate]], family_of: Callable[[Candidate], Family]
) -> list[tuple[Family, _Acquisitions]]:
    """The acquisitions of each family."""
    parts: dict[Family, _Acquisitions] = defaultdict(list)
    for group in acquisitions:
        by_family: dict[Family, list[Candidate]] = defaultdict(list)
        for candidate in group:
            by_family[family_of(candidate)].append(candidate)
        for family, members in by_family.items():
            parts[family].append(members)
    return list(parts.items())


def _by_console(candidate: Candidate) -> Family:
    kind = () if candidate.info is None else tuple(part.upper() for part in candidate.info.image_type)
    suffix = _RECONSTRUCTED.search(candidate.reading.text)
    return Family(kind, suffix.group(1).upper() if suffix else "")


def _several(group: Sequence[Candidate]) -> bool:
    """Whether volumes of one time are one acquisition in several series."""
    pairs = list(combinations(group, 2))
    return any(a.series is not b.series for a, b in pairs) and not any(_told_apart(a, b) for a, b in pairs)


def _words(candidate: Candidate) -> set[str]:
    """The words of a volume's name."""
    return set(re.findall(r"[^\W_]+", candidate.reading.text.lower()))


def _number(series: SeriesInfo) -> float:
    return float(series.series_number) if series.series_number.isdigit() else math.inf
