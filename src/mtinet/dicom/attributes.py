"""Attributes of a dataset as numbers and text; whatever a hostile value raises, it counts as absent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

MAX_TEXT = 1024
"""Letters that are kept of a text: a hostile one may have millions."""


def first(places: Iterable[Any], *keywords: str) -> float | None:
    """The first number that one of the datasets has under one of the keywords, in their order."""
    for keyword in keywords:
        for place in places:
            value = number(place, keyword)
            if value is not None:
                return value
    return None


def numbers(places: Iterable[Any], keyword: str, count: int) -> Any:
    """Exactly ``count`` finite numbers from the first dataset that has them."""
    for place in places:
        try:
            values = tuple(float(v) for v in place.get(keyword) or ())
        except Exception:  # noqa: S112 - a hostile value raises anything; it then counts as absent
            continue
        if len(values) == count and all(math.isfinite(v) and abs(v) < 1e7 for v in values):
            return values
    return None


def number(dataset: Any, keyword: str) -> float | None:
    """The first value as a finite number, or None."""
    try:
        value = dataset.get(keyword)
        if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
            value = value[0] if len(value) else None
    except Exception:
        return None
    return finite(value)


def finite(value: Any) -> float | None:
    """``value`` as a finite number, or None."""
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def whole(dataset: Any, keyword: str, default: int) -> int:
    """The first value as a whole number."""
    value = number(dataset, keyword)
    return default if value is None else int(value)


def text(dataset: Any, tag: Any) -> str:
    """Text of an attribute, several values joined by a backslash; control characters and padding removed."""
    try:
        value = dataset[tag].value if isinstance(tag, tuple) else dataset.get(tag)
        if value is None:
            return ""
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if not isinstance(value, str) and isinstance(value, Iterable) and not hasattr(value, "components"):
            value = "\\".join(str(v) for v in value)
        text = str(value)[:MAX_TEXT]
    except Exception:
        return ""
    return "".join(c for c in text if c.isprintable()).strip()


def items(dataset: Any, tag: Any) -> list[Any]:
    """Items of a sequence; empty where it is absent or none."""
    try:
        value = dataset[tag].value if isinstance(tag, tuple) else dataset.get(tag)
        return [item for item in value if hasattr(item, "get")] if value else []
    except Exception:
        return []
