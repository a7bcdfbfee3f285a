"""The volumes that could be phases, and how many of them the images of a series make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mtinet.dicom.series import SeriesInfo
from mtinet.imaging.phases.candidate import Candidate
from mtinet.imaging.phases.names import Reading, read_name
from mtinet.imaging.phases.reconstructions import copies
from mtinet.imaging.phases.setting_aside import reason_for_series, reason_for_volume

_MOST_PARTS = 6
_UNUSUAL_PARTS = 0.3
_FEWEST_SLICES = 20
_USUAL_SLICES = 105.0
"""Images of a volumetric liver acquisition, interpolated through the slices as consoles do (80 to 130)."""

_LONG_TR_MS = 30.0
"""A volumetric gradient echo repeats faster than that; slice-wise ones do not."""


@dataclass(frozen=True)
class Sorted:
    """Candidates, and the series that are none with the reason."""

    candidates: tuple[Candidate, ...]
    excluded: tuple[tuple[SeriesInfo, str], ...]
    silent: bool
    """No name tells a sequence: the group was found by image counts alone."""


def sort_out(study: Sequence[SeriesInfo]) -> Sorted:
    """Split the series of a study into volumes that may be phases, and the rest.

    Parameters
    ----------
    study : sequence of SeriesInfo
        In any order.
    """
    excluded: list[tuple[SeriesInfo, str]] = []
    remaining: list[tuple[SeriesInfo, Reading]] = []
    for series in sorted(study, key=lambda s: s.series_uid):
        reason = reason_for_series(series)
        if reason:
            excluded.append((series, reason))
        else:
            remaining.append((series, read_name(series)))
    known = [item for item in remaining if item[0].volumes]
    counted = [item for item in remaining if not item[0].volumes]
    candidates, more = _from_volumes(known)
    excluded += more
    silent = not any(reading.t1 or not reading.silent for _, reading in remaining)
    from_counts, more = _from_counts(counted, silent)
    return Sorted(tuple(candidates + from_counts), tuple(excluded + more), silent)


Excluded = list[tuple[SeriesInfo, str]]


def _from_volumes(items: list[tuple[SeriesInfo, Reading]]) -> tuple[list[Candidate], Excluded]:
    """Candidates where the volumes of the series are known, as in DICOM files."""
    found: list[Candidate] = []
    excluded: Excluded = []
    for series, reading in items:
        kept = []
        for volume in series.volumes:
            reason = reason_for_volume(volume)
            if not reason:
                kept.append(volume)
        if not kept:
            excluded.append((series, reason_for_volume(series.volumes[0])))
        for volume in kept:
            n = len(series.volumes)
            counted = f"{series.n_images} images in {n} volumes" if n > 1 else ""
            found.append(
                Candidate(series, volume.index, n, volume.n_slices, reading, volume, counted=counted)
            )
    slow = {c.key for c in found if c.info and (c.info.repetition_time_ms or 0.0) >= _LONG_TR_MS}
    if len(found) - len(slow) >= 2:  # the volumetric ones are the dynamic series
        excluded += [
            (c.series, "another sequence than the dynamic series (slice-wise, longer repetition time)")
            for c in found
            if c.key in slow
        ]
        found = [c for c in found if c.key not in slow]
    needless = copies(found)
    single = [c for c in found if c.key not in needless]
    left = {c.series.series_uid for c in single}
    gone = {c.series.series_uid: c for c in found if c.series.series_uid not in left}
    excluded += [(c.series, needless[c.key]) for c in gone.values()]
    return _ranked(single), excluded


def _ranked(candidates: list[Candidate]) -> list[Candidate]:
    """Candidates with their rank among those of their series: fat beside water, say, does not count."""
    volumes: dict[str, list[int]] = {}
    for candidate in candidates:
        volumes.setdefault(candidate.series.series_uid, []).append(candidate.volume)
    return [
        replace(c, rank=sorted(own).index(c.volume), of=len(own))
        for c in candidates
        for own in (volumes[c.series.series_uid],)
    ]


def _from_counts(items: list[tuple[SeriesInfo, Reading]], silent: bool) -> tuple[list[Candidate], Excluded]:
    """Candidates where only counts of images are known, as in tables."""
    excluded: Excluded = []
    if not silent:
        other = [item for item in items if not (item[1].t1 or not item[1].silent)]
        excluded += [(series, "not a T1-weighted dynamic series by its name") for series, _ in other]
        items = [item for item in items if item not in other]
    else:
        items, made = _reconstructions_apart(items)
        excluded += made
    volumetric = any(reading.volumetric for _, reading in items)
    unit = _unit_by_counts(items) if silent else _unit(items, volumetric)
    found: list[Candidate] = []
    for series, reading in items:
        parts, words = _parts(series, reading, unit)
        slices = series.n_images // parts
        same = slices == unit
        close = unit and 0.6 <= slices / unit <= 1.7
        related = reading.volumetric if volumetric else not silent
        if not same and not (close and related) and len(items) > 1:
            reason = f"another sequence than the dynamic series ({series.n_images} images beside {unit})"
            excluded.append((series, reason))
            continue
        found += [
            Candidate(series, k, parts, slices, reading, counted=words if parts > 1 else "")
            for k in range(parts)
        ]
    return _ranked(found), excluded


def _reconstructions_apart(
    items: list[tuple[SeriesInfo, Reading]],
) -> tuple[list[tuple[SeriesInfo, Reading]], Excluded]:
    """Without names: numbers from 100 beside lower ones are reconstructions, as consoles number them."""

    def high(series: SeriesInfo) -> bool:
        return series.series_number.isdigit() and int(series.series_number) >= 100

    if 2 * sum(high(series) for series, _ in items) > len(items):
        return items, []
    made = [(series, "numbered as a reconstruction") for series, _ in items if high(series)]
    return [item for item in items if not high(item[0])], made


def _unit(items: list[tuple[SeriesInfo, Reading]], volumetric: bool) -> int:
    """Images of one volume of the dynamic series: the count that most series hold once or several times."""

    def weight(reading: Reading) -> float:
        named = 0.0 if reading.silent else 0.2
        return (0.3 if volumetric and not reading.volumetric else 1.0) + named

    units = {series.n_images for series, _ in items}
    for series, reading in items:
        parts = _named_parts(series, reading)
        if parts:
            units.add(series.n_images // parts)
    best, best_score = 0, -math.inf
    for unit in sorted(units):
        if unit < _FEWEST_SLICES:
            continue
        held = [
            (weight(reading), series.n_images // unit)
            for series, reading in items
            if series.n_images % unit == 0 and series.n_images // unit <= _MOST_PARTS
            if series.n_images == unit or not _tells_one(reading)
        ]
        support = sum(w * (1.0 if times == 1 else 1.1) for w, times in held)
        apart = math.log(unit / _USUAL_SLICES)
        score = support - 0.4 * apart * apart - (0.5 if len(held) == 1 and unit > 200 else 0.0)
        if score > best_score:
            best, best_score = unit, score
    return _split_alone(best) if sum(s.n_images % best == 0 for s, _ in items if best) == 1 else best


def _unit_by_counts(items: list[tuple[SeriesInfo, Reading]]) -> int:
    """Images of one volume where no name tells a sequence: the count that repeats, at the usual size.

    Three times the images tells most: in and out of phase, and two b-values, come in twos.  The first two
    numbers are scouts and calibration.
    """
    if len(items) == 1:
        return _split_alone(items[0][0].n_images)
    firsts = sorted({float(s.series_number) for s, _ in items if s.series_number.isdigit()})[:2]
    early = {s.series_uid for s, _ in items if s.series_number.isdigit() and float(s.series_number) in firsts}
    worth = {1: 1.0, 2: 0.6, 3: 1.1, 4: 0.7}

    def score(unit: int) -> float:
        held = [(s, s.n_images // unit) for s, _ in items if s.n_images % unit == 0]
        support = sum(worth.get(n, 0.0) * (0.5 if s.series_uid in early else 1.0) for s, n in held)
        return support - math.log(unit / _USUAL_SLICES) ** 2

    units = {s.n_images for s, _ in items if s.n_images >= _FEWEST_SLICES}
    return max(sorted(units), key=score, default=0)


def _split_alone(images: int) -> int:
    """Images of a volume where nothing stands beside the only series: the usual number of slices decides."""
    if images <= 1.7 * _USUAL_SLICES:
        return images
    possible = [n for n in range(2, _MOST_PARTS + 1) if images % n == 0]

    def unusual(n: int) -> float:  # three phases after contrast, or four with the unenhanced one inside
        return abs(math.log(images / n / _USUAL_SLICES)) + (0.0 if n in (3, 4) else _UNUSUAL_PARTS)

    return images // min(possible, key=unusual, default=1)


def _named_parts(series: SeriesInfo, reading: Reading) -> int:
    """How many volumes the name itself tells; 0 where it does not."""
    for told in (len(reading.times_s), len(reading.phases)):
        if told > 1 and series.n_images % told == 0:
            return told
    return 0


def _tells_one(reading: Reading) -> bool:
    """The name tells one phase, time or number, so that the series is one volume."""
    one = len(reading.times_s) == 1 or len(reading.phases) == 1 or (reading.pre and not reading.post)
    return one or reading.ordinal is not None


def _parts(series: SeriesInfo, reading: Reading, unit: int) -> tuple[int, str]:
    """How many volumes a series holds, and why."""
    n = series.n_images
    told = _named_parts(series, reading)
    if told:
        return told, f"{n} images = {told} x {n // told}: its name tells {told} phases"
    if _tells_one(reading) or not unit or n % unit:
        return 1, ""
    parts = n // unit
    if not 1 < parts <= _MOST_PARTS:
        return 1, ""
    return parts, f"{n} images = {parts} x {unit}"
