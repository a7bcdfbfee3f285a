"""DICOM's dates and times as numbers; no time zone is applied: all times of a study come from one scanner."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import date
from itertools import pairwise

_TIME = re.compile(r"^(\d{2}):?(\d{2})?:?(\d{2})?(\.\d{1,6})?$")
_DAY_S = 86400.0
_DATE_TIME = re.compile(r"^(\d{8})(\d{2,6}(?:\.\d{1,6})?)?([+-]\d{4})?$")


def seconds_from_midnight(text: str) -> float | None:
    """Seconds of a TM value (``HHMMSS.FFFFFF``, parts may be missing; ``HH:MM:SS`` of old files too).

    None where the value is empty or is no time.
    """
    found = _TIME.match(text.strip())
    if not found:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return hours * 3600.0 + minutes * 60.0 + seconds + float(found.group(4) or 0.0)


def date_and_seconds(text: str) -> tuple[str, float | None]:
    """Date (``YYYYMMDD``) and seconds from midnight of a DT value; its offset from UTC is left out."""
    found = _DATE_TIME.match(text.strip())
    if not found:
        return "", None
    return found.group(1), seconds_from_midnight(found.group(2) or "")


def days_between(earlier: str, later: str) -> int | None:
    """Days from one ``YYYYMMDD`` to another; None where either is no date."""
    try:
        first, second = (date(int(d[:4]), int(d[4:6]), int(d[6:8])) for d in (earlier, later))
    except ValueError:
        return None
    return (second - first).days


def past_midnight(times_s: Iterable[float | None]) -> Callable[[float | None], float | None]:
    """What makes times of day rise: no examination takes half a day, so a wider span ran past midnight."""
    known = sorted({time for time in times_s if time is not None})
    last = -math.inf
    if known and known[-1] - known[0] > _DAY_S / 2:
        last = max(pairwise(known), key=lambda pair: pair[1] - pair[0])[0]
    return lambda time: time + _DAY_S if time is not None and time <= last else time
