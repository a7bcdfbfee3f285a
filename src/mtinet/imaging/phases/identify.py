"""Which volume of a study is which contrast phase: the assembly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mtinet.config import DEFAULT_PHASES, PHASES, Phase
from mtinet.dicom.contrast import EXTRACELLULAR as EXTRACELLULAR_NAMES
from mtinet.dicom.contrast import GADOXETATE
from mtinet.dicom.series import SeriesInfo
from mtinet.imaging.phases import words
from mtinet.imaging.phases.candidate import Candidate
from mtinet.imaging.phases.counting import Sorted, sort_out
from mtinet.imaging.phases.deciding import (
    EXTRACELLULAR,
    HEPATOSPECIFIC,
    NONE,
    Alternative,
    Item,
    World,
    marginals,
    mixed,
)
from mtinet.imaging.phases.ordering import ROWS_AT_MOST, Order, find_order
from mtinet.imaging.phases.result import Choice, Excluded, Identification, Missing
from mtinet.imaging.phases.signal import Signals, compare
from mtinet.imaging.phases.weighing import from_name, from_place, from_times, possible_starts, time_weight

STATED = 0.5
"""A phase is stated when its volume is more probable than everything else together."""

_AT_MOST = 0.99
_BY_COUNT_ALONE = 0.85
"""Share of the studies in which equal image counts alone (no name, time or pixel) find the dynamic series."""

_GAP_UNUSED, _GAP_PHASE = -0.1, -1.4
_BOLUS_WEIGHT = 3.5
_MOST_STARTS = 36
_CONTRADICTED = 0.01
_BREATH_HOLD_S = 10.0
_UNUSED_OF_MANY = -0.5
"""A series of volumes nearer than breath-holds follows the bolus: without a look at them, which of its volumes are
phases is open, and a late one of another series is not the arterial one after twenty unenhanced."""

_NAME_BESIDE_SIGNAL = 0.5
"""A name weighs less where the images can be looked at."""


@dataclass(frozen=True)
class _Weighed:
    """Everything that speaks for a name, by candidate in their order."""

    order: Order
    names: NDArray[np.float64]
    placed: NDArray[np.float64]
    signals: Signals | None
    worlds: tuple[World, World]
    silent: bool


def identify(study: Sequence[SeriesInfo], use_pixels: bool = True) -> Identification:
    """Find the contrast phases of a study.

    Names, order, times, image counts, the agent and (``use_pixels``) the signal are weighed together; where
    they leave a phase open, it stays empty with the reason.

    Parameters
    ----------
    study : sequence of SeriesInfo
        All series of one study, in any order; that of a table's rows is evidence where they hold it (``row``).
    use_pixels : bool
        Read the voxels of volumes that offer them.

    Returns
    -------
    Identification
    """
    found = sort_out(study)
    signals = compare(found.candidates) if use_pixels else None
    if signals is not None and signals.unlike:
        found = _without(found, signals)
        signals = compare(found.candidates)
    order = _seen(find_order(found, study), signals)
    weighed = _weigh(found, order, signals, study)
    if not weighed.order.candidates:
        return Identification(
            dict.fromkeys(PHASES), _none_left(), _listed(found, frozenset(), weighed.order, None)
        )
    alternatives = _alternatives(weighed)
    table, shares = mixed(alternatives)
    if _counted_only(weighed):
        table[:, :NONE] *= _BY_COUNT_ALONE
    if weighed.order.basis == "rows":
        table[:, :NONE] = _rows_believed_less(table, alternatives)
    chosen = _choose(table, weighed.order)
    phases: dict[Phase, Choice | None] = dict.fromkeys(PHASES)
    for phase, row in chosen.items():
        candidate = weighed.order.candidates[row]
        phases[phase] = Choice(
            candidate.series.series_uid,
            candidate.series.series_number,
            candidate.volume,
            candidate.n_volumes,
            min(float(table[row, PHASES.index(phase)]), _AT_MOST),
            words.evidence(phase, row, weighed.order, weighed.signals),
        )
    hepatospecific = sum(s for a, s in zip(alternatives, shares) if a.world is weighed.worlds[1]) > 0.5
    missing = _missing(table, chosen, weighed, hepatospecific)
    used = frozenset(weighed.order.candidates[row].series.series_uid for row in chosen.values())
    return Identification(phases, missing, _listed(found, used, weighed.order, table))


def identify_files(study: Sequence[SeriesInfo], use_pixels: bool = True) -> Identification:
    """:func:`identify` for series whose files were read: those without a volume are set aside.

    Only of a table's rows may the volumes be inferred from a count of images.

    Parameters
    ----------
    study : sequence of SeriesInfo
    use_pixels : bool

    Returns
    -------
    Identification
    """
    found = identify([series for series in study if series.volumes], use_pixels)
    without = [
        Excluded(s.series_number, s.series_uid, s.description, "no usable image")
        for s in study
        if not s.volumes
    ]
    return replace(found, excluded=_in_order([*found.excluded, *without]))


def _without(found: Sorted, signals: Signals) -> Sorted:
    """Volumes that do not look like the dynamic series are set aside."""
    kept = tuple(c for c in found.candidates if c.key not in signals.unlike)
    gone = {c.series.series_uid: c for c in found.candidates if c.key in signals.unlike}
    for candidate in kept:
        gone.pop(candidate.series.series_uid, None)
    more = tuple((c.series, signals.unlike[c.key]) for c in gone.values())
    return replace(found, candidates=kept, excluded=found.excluded + more)


def _seen(order: Order, signals: Signals | None) -> Order:
    """Series numbers that contradict the order in which vessels fade are not believed."""
    if signals is None or not signals.order or order.basis != "numbers":
        return order
    ranks = [signals.order[c.key] for c in order.candidates]
    return order if ranks == sorted(ranks) else replace(order, trust=min(order.trust, _CONTRADICTED))


def _weigh(found: Sorted, order: Order, signals: Signals | None, study: Sequence[SeriesInfo]) -> _Weighed:
    readings = [c.reading for c in order.candidates]
    names = np.array([from_name(c, readings) for c in order.candidates]).reshape(-1, NONE + 1)
    if signals is None:
        names[_follows_the_bolus(order), NONE] = _UNUSED_OF_MANY
    else:
        names[:, :NONE] *= _NAME_BESIDE_SIGNAL
        names = names + np.array([signals.weights[c.key] for c in order.candidates])
    placed = np.zeros_like(names)
    for row, candidate in enumerate(order.candidates):
        if order.bolus is not None and order.bolus < len(order.candidates):
            before = row < order.bolus
            placed[row, slice(1, NONE) if before else slice(0, 1)] -= _BOLUS_WEIGHT
        source = order.sources.get(candidate.key)
        if source is not None:
            placed[row, slice(1, NONE) if source else slice(0, 1)] -= 3.0
    weighed = _Weighed(order, names, placed, signals, _worlds(study, found), found.silent)
    if _counted_only(weighed) and len(placed):
        placed += from_place(order.candidates)
    return weighed


def _follows_the_bolus(order: Order) -> list[bool]:
    """Of each candidate, whether its series has a volume every few seconds: most of them are none of the phases."""
    times: dict[str, list[float]] = {}
    for candidate, time in zip(order.candidates, order.times_s):
        if time is not None:
            times.setdefault(candidate.series.series_uid, []).append(time)
    many = {
        uid
        for uid, own in times.items()
        if len(own) > len(PHASES) and np.median(np.diff(own)) < _BREATH_HOLD_S
    }
    return [candidate.series.series_uid in many for candidate in order.candidates]


def _worlds(study: Sequence[SeriesInfo], found: Sorted) -> tuple[World, World]:
    """How probable an extracellular and a hepatobiliary agent are."""
    agents = " ".join(s.agent for s in study)
    names = " ".join((s.description + " " + s.protocol) for s in study)
    late = any("hepatobiliary" in c.reading.phases for c in found.candidates)
    late = late or any(t >= 900.0 for c in found.candidates for t in c.reading.times_s)
    if GADOXETATE.search(agents) or GADOXETATE.search(names):
        share = 0.97
    elif EXTRACELLULAR_NAMES.search(agents):
        share = 0.02
    else:
        share = 0.7 if late else HEPATOSPECIFIC.weight
    return replace(EXTRACELLULAR, weight=1.0 - share), replace(HEPATOSPECIFIC, weight=share)


def _alternatives(weighed: _Weighed) -> list[Alternative]:
    """Ordered or not, for every start of the injection and both kinds of agent."""
    order = weighed.order
    times = order.times_s or (None,) * len(order.candidates)
    starts: list[float | None] = [*_thinned(possible_starts(times))] or [None]
    found = []
    for start in starts:
        timed = weighed.names + (0.0 if start is None else from_times(times, start))
        for world in weighed.worlds:
            prior = -math.log(len(starts))
            if order.trust > 0.0:
                found.append(_ordered(timed + weighed.placed, order, world, prior + math.log(order.trust)))
            if order.trust < 0.9999:
                found.append(_unordered(timed, weighed, world, prior + math.log(1.0 - order.trust)))
    return found


def _thinned(starts: list[float]) -> list[float]:
    step = -(-len(starts) // _MOST_STARTS) if starts else 1
    return starts[::step]


def _ordered(table: NDArray[np.float64], order: Order, world: World, weight: float) -> Alternative:
    """The candidates in their order, with a place holder wherever a number is missing."""
    gap = np.full(NONE + 1, _GAP_PHASE)
    gap[NONE] = _GAP_UNUSED
    items, rows = [], []
    for row in range(len(table) + 1):
        items += [Item(gap, 0)] * order.gaps.count(row)
        if row < len(table):
            rows.append(len(items))
            items.append(Item(table[row], 0))
    return Alternative(tuple(items), tuple(rows), world, weight, ordered=True)


def _unordered(table: NDArray[np.float64], weighed: _Weighed, world: World, weight: float) -> Alternative:
    """Nothing is known between series: the signal's order counts, else only that within a series."""
    candidates = weighed.order.candidates
    numbers = {c.series.series_uid: n for n, c in enumerate(candidates)}
    signals = weighed.signals if weighed.signals and weighed.signals.order and weighed.signals.based else None

    def chain(row: int) -> int:
        return 0 if signals is not None else numbers[candidates[row].series.series_uid]

    def key(row: int) -> tuple[int, int]:
        candidate = candidates[row]
        return (chain(row), candidate.volume if signals is None else signals.order[candidate.key])

    ranked = sorted(range(len(table)), key=key)
    items = tuple(Item(table[row], chain(row)) for row in ranked)
    return Alternative(items, tuple(ranked.index(row) for row in range(len(table))), world, weight)


def _counted_only(weighed: _Weighed) -> bool:
    """Nothing but image counts told which series are the dynamic ones."""
    return weighed.silent and weighed.signals is None and weighed.order.basis != "times"


def _rows_believed_less(
    table: NDArray[np.float64], alternatives: Sequence[Alternative]
) -> NDArray[np.float64]:
    """Nothing is more probable than the rows of a table can make it, or the rest of the evidence without them."""
    without = [one for one in alternatives if not one.ordered]
    free, _ = mixed(without)
    return np.minimum(table[:, :NONE], np.maximum(free[:, :NONE], ROWS_AT_MOST))


def _choose(table: NDArray[np.float64], order: Order) -> dict[Phase, int]:
    """The row of each stated phase.

    Of several volumes before contrast the last counts (nearest to the injection), of several delayed ones
    that nearest to 3.5 min by its name, else the first.
    """
    chosen: dict[Phase, int] = {}
    for index, phase in enumerate(PHASES):
        column = table[:, index]
        able = [row for row in range(len(column)) if column[row] >= STATED]
        if not able:
            continue
        near = [row for row in able if column[row] >= max(column) - 0.1]
        if phase == "pre":
            chosen[phase] = near[-1]
        elif phase == "delayed":
            chosen[phase] = max(near, key=lambda row: (_delay(order.candidates[row]), -row))
        else:
            chosen[phase] = max(able, key=lambda row: (column[row], -row))
    return chosen


def _delay(candidate: Candidate) -> float:
    times = candidate.reading.times_s
    return time_weight("delayed", times[-1]) if times else -1.0


def _missing(
    table: NDArray[np.float64], chosen: dict[Phase, int], weighed: _Weighed, hepatospecific: bool
) -> tuple[Missing, ...]:
    order = weighed.order
    lost = _lost(weighed)
    expected = {*DEFAULT_PHASES} | ({"transitional", "hepatobiliary"} if hepatospecific else set())
    found = []
    for index, phase in enumerate(PHASES):
        open_rows = [row for row in range(len(table)) if table[row, index] > 0.15]
        if phase in chosen or not (phase in expected or open_rows):
            continue
        if phase == "delayed" and hepatospecific and not open_rows:
            reason = "with a hepatobiliary agent the images at 2 to 5 min are transitional, not delayed"
        elif lost.get(phase, 0.0) > 0.4:
            reason = "a series number is missing where it would be: the series was not exported"
        elif open_rows:
            names = ", ".join(words.label(order.candidates[row]) for row in open_rows)
            best = max(float(table[row, index]) for row in open_rows)
            reason = f"{names} may be it, none with a probability above {best:.2f}"
            reason += "; the order of acquisition is not known" if order.trust < 0.5 else ""
        else:
            reason = "no volume is left for it"
        found.append(Missing(phase, reason))
    return tuple(found)


def _lost(weighed: _Weighed) -> dict[Phase, float]:
    """Probability of each phase for a gap in the numbers, if the order is trusted."""
    if not weighed.order.gaps or weighed.order.trust < 0.5:
        return {}
    one = _ordered(weighed.names + weighed.placed, weighed.order, weighed.worlds[0], 0.0)
    table, _ = marginals(one.items, one.world)
    gaps = [row for row in range(len(one.items)) if row not in one.rows]
    return {phase: float(table[gaps, index].sum()) for index, phase in enumerate(PHASES)}


def _none_left() -> tuple[Missing, ...]:
    return tuple(Missing(phase, "no series of the study can be a contrast phase") for phase in DEFAULT_PHASES)


def _listed(
    found: Sorted, used: frozenset[str], order: Order, table: NDArray[np.float64] | None
) -> tuple[Excluded, ...]:
    """Series set aside, and candidates that became none of the phases."""
    listed = [
        Excluded(s.series_number, s.series_uid, s.description, reason)
        for s, reason in {s.series_uid: (s, r) for s, r in found.excluded}.values()
    ]
    spare: dict[str, str] = {}
    for row, candidate in enumerate(order.candidates):
        if table is None or candidate.series.series_uid in used:
            continue
        label = int(np.argmax(table[row]))
        sure = label != NONE and table[row, label] >= STATED
        spare[candidate.series.series_uid] = (
            f"another volume of the {PHASES[label].replace('_', ' ')} phase"
            if sure
            else "no phase is clear enough for it"
        )
    series = {c.series.series_uid: c.series for c in order.candidates}
    listed += [
        Excluded(series[uid].series_number, uid, series[uid].description, reason)
        for uid, reason in spare.items()
    ]
    return _in_order(listed)


def _in_order(listed: Sequence[Excluded]) -> tuple[Excluded, ...]:
    return tuple(sorted(listed, key=lambda item: (_as_number(item.series_number), item.series_uid)))


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.inf
