"""The evidence for a choice, in words."""

from __future__ import annotations

from mtinet.config import PHASES, Phase
from mtinet.imaging.phases.candidate import Candidate
from mtinet.imaging.phases.ordering import Order, number_of
from mtinet.imaging.phases.signal import Signals
from mtinet.imaging.phases.weighing import from_name


def label(candidate: Candidate) -> str:
    """A volume as users know it: ``series 8``, ``volume 1 of series 8``."""
    number = candidate.series.series_number or candidate.series.series_uid
    return f"series {number}" if candidate.n_volumes == 1 else f"volume {candidate.volume} of series {number}"


def evidence(phase: Phase, row: int, order: Order, signals: Signals | None) -> tuple[str, ...]:
    """What speaks for naming a candidate so, and what against."""
    candidate = order.candidates[row]
    found = [_name(candidate, order)]
    if candidate.counted:
        found.append(candidate.counted)
    found += _place(row, order)
    if signals is not None:
        found.append(signals.words[candidate.key])
        by_name = from_name(candidate, [c.reading for c in order.candidates])
        if by_name[PHASES.index(phase)] <= max(by_name[: len(PHASES)]) - 3.0:
            found.append("the signal overrules the name")
    return tuple(text for text in found if text)


def _name(candidate: Candidate, order: Order) -> str:
    reading = candidate.reading
    if reading.silent:
        others = sum(c.reading.text == reading.text for c in order.candidates) - 1
        same = f", as {others} other volume{'s' if others != 1 else ''}" if others and reading.text else ""
        return f"its name {reading.text!r} tells no phase{same}" if reading.text else "it has no name"
    told = [name.replace("_", " ") for name in reading.phases]
    told += [f"{time:g} s" for time in reading.times_s]
    told += [f"number {reading.ordinal}"] if reading.ordinal else []
    if not told:
        told = ["before contrast" if reading.pre and not reading.post else "after contrast"]
        if reading.pre and reading.post:
            told = ["before and after contrast"]
    return f"its name {reading.text!r} says {', '.join(told)}"


def _place(row: int, order: Order) -> list[str]:
    """Its place in the order of acquisition."""
    candidate = order.candidates[row]
    total = len(order.candidates)
    if order.basis == "none" or total == 1:
        return []
    by = {"times": "acquisition time", "numbers": "series number", "rows": "the table's rows"}[order.basis]
    found = [f"volume {row + 1} of {total} in the order of {by}"]
    if order.basis == "times" and row and (time := order.times_s[row]) is not None:
        first = order.times_s[0]
        found.append(f"{time - first:.0f} s after the first volume" if first is not None else "")
    if order.basis == "numbers" and order.trust < 0.9:
        found.append(f"the numbers follow the acquisition with a probability of only {order.trust:.2f}")
    if order.basis == "rows":
        numbered = any(number_of(c.series) is not None for c in order.candidates)
        found.append(
            "the rows look more like an examination than the series numbers do"
            if numbered
            else "there are no series numbers, and the rows look like an examination"
        )
    if order.bolus is not None:
        found.append(f"{'before' if row < order.bolus else 'after'} the bolus scan")
    source = order.sources.get(candidate.key)
    if source is not None:
        found.append(f"subtractions name it as the image {'before' if source else 'after'} contrast")
    if row in order.gaps and order.basis == "numbers":
        found.append("a series number before it is missing")
    return found
