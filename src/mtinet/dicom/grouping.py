"""A series comes apart into volumes.

What tells the volumes of a series apart differs between vendors (temporal position, acquisition time,
trigger time, echo, kind of image), and each of these also varies within one volume.  So an attribute is
believed where it divides the images into whole stacks, and nothing is divided that is whole already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mtinet.dicom.geometry import SAME_DIRECTION, axes, is_whole, places_mm, slots
from mtinet.dicom.headers import Image

Key = Callable[[Image], Hashable]


@dataclass(frozen=True)
class Stack:
    """Images of one volume, sorted along their normal, and by what they were told apart."""

    images: tuple[Image, ...]
    by: tuple[str, ...] = ()


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


FILE = "file"
_KINDS: tuple[tuple[str, Key], ...] = (
    ("image type", lambda i: i.image_type),
    ("echo time", lambda i: _rounded(i.echo_time_ms)),
    ("temporal position", lambda i: i.temporal_position),
    ("flip angle", lambda i: _rounded(i.flip_angle_deg)),
)
_TIMES: tuple[tuple[str, Key], ...] = (
    ("acquisition number", lambda i: i.acquisition_number),
    ("trigger time", lambda i: _rounded(i.trigger_ms)),
    ("acquisition time", lambda i: _rounded(i.time_s)),
    # a multi-frame file a volume; the order of the volumes is then that of the files' numbers
    (FILE, lambda i: i.uid if i.frame >= 0 else None),
)
_PASSES = ("acquisition number", "trigger time", "acquisition time")
_CLOCKS: tuple[tuple[str, Callable[[Image], float | None]], ...] = (
    ("acquisition time", lambda i: i.time_s),
    ("trigger time", lambda i: i.trigger_ms),
)
INSTANCE_ORDER = "instance order"
"""The weakest evidence: the order of the images' numbers; said wherever it decides."""


def orientations(images: Sequence[Image]) -> list[list[Image]]:
    """Images of one direction, matrix and pixel size together; images without geometry are left out."""
    groups: list[tuple[np.ndarray, tuple[float, float], list[Image]]] = []
    for image in images:
        along = axes(image)
        if along is None or image.spacing is None or min(image.spacing) <= 0:
            continue
        directions = np.concatenate([along.row, along.column])
        for first, spacing, members in groups:
            if np.abs(first - directions).max() < SAME_DIRECTION and np.allclose(
                spacing, image.spacing, 1e-4
            ):
                members.append(image)
                break
        else:
            groups.append((directions, image.spacing, [image]))
    return [members for _, _, members in groups]


def divide(images: Sequence[Image]) -> list[Stack]:
    """The volumes that images of one orientation make, in the order of acquisition.

    A volume that is not whole (a slice missing, repeated or off the grid) is returned as it is; its geometry
    will be refused by name.
    """
    parts = _divide(list(images)) or _divide_nearly(list(images))
    return sorted((Stack(_along_normal(part), by) for part, by in parts), key=_when)


Parts = list[tuple[list[Image], tuple[str, ...]]]


def _divide(images: list[Image]) -> Parts | None:
    """Whole stacks only, or None."""
    if _whole(images):
        return [(images, ())]
    repeated = _repeats(images)
    for name, parts in _partitions(images, _KINDS + _TIMES if repeated else _KINDS):
        if not repeated and not _interleaved(parts):
            continue
        if not all(len(part) > 1 for part in parts):
            continue
        if name in _PASSES and any(2 * _n_places(part) <= _n_places(images) for part in parts):
            continue  # passes of one volume (odd slices after even ones) have times of their own
        deeper = [_divide(part) for part in parts]
        if all(deeper):
            return [(part, (name, *by)) for found in deeper for part, by in found or []]
    return _in_runs(images) if repeated else None


def _divide_nearly(images: list[Image]) -> Parts:
    """Where something is missing or double: the attribute that leaves most stacks whole."""
    best: Parts = [(images, ())]
    best_score = 0.0
    if not _repeats(images):
        return best
    for name, parts in _partitions(images, _KINDS + _TIMES):
        if any(len(part) < 2 for part in parts):
            continue
        n_places = _n_places(images)
        stacks = [deeper for part in parts for deeper in (_divide(part) or [(part, ())])]
        sized = sum(abs(len(part) - n_places) <= max(1, n_places // 10) for part, _ in stacks)
        whole = sum(_whole(part) for part, _ in stacks)
        score = (sized + whole) / (2 * len(stacks))
        if score > best_score and sized * 2 > len(stacks):
            best_score, best = score, [(part, (name, *by)) for part, by in stacks]
    return best


def _partitions(
    images: list[Image], keys: Iterable[tuple[str, Key]]
) -> Iterator[tuple[str, list[list[Image]]]]:
    for name, key in keys:
        parts: dict[Hashable, list[Image]] = defaultdict(list)
        for image in images:
            parts[key(image)].append(image)
        if 1 < len(parts) < len(images):
            yield name, list(parts.values())


def _in_runs(images: list[Image]) -> Parts | None:
    """Volumes where no attribute divides: as many as every place has images.

    Runs of the time or of the instance number, if each is a whole stack; else the first, second, ... image
    of every place, which is right for series stored place by place.
    """
    numbers = slots(_places(images))
    counts = np.bincount(numbers)
    if counts.min() != counts.max():
        return None
    n_places, n_volumes = len(counts), int(counts[0])
    orders: list[tuple[str, Callable[[Image], tuple[float, ...]]]] = []
    for name, when in _CLOCKS:
        clock = [when(image) for image in images]
        if None not in clock and len(set(clock)) >= n_volumes:
            orders.append((f"order of {name}s", partial(_at, when)))
    orders.append((INSTANCE_ORDER, lambda i: (i.file_number, i.number, i.frame)))
    for name, key in orders:
        ordered = sorted(images, key=key)
        runs = [ordered[k * n_places : (k + 1) * n_places] for k in range(n_volumes)]
        if all(_whole(run) for run in runs):
            return [(run, (name,)) for run in runs]
    name, key = orders[0]
    at_place: dict[int, list[Image]] = defaultdict(list)
    for number, image in zip(numbers.tolist(), images):
        at_place[number].append(image)
    columns = [sorted(at, key=key) for at in at_place.values()]
    volumes = [[column[k] for column in columns] for k in range(n_volumes)]
    return [(v, (name,)) for v in volumes] if all(_whole(v) for v in volumes) else None


def _at(when: Callable[[Image], float | None], image: Image) -> tuple[float, ...]:
    return (when(image) or 0.0, image.number, image.frame)


def _places(images: Sequence[Image]) -> np.ndarray:
    along = axes(images[0])
    assert along is not None, "orientations() leaves such images out"
    return places_mm(images, along)


def _whole(images: Sequence[Image]) -> bool:
    return is_whole(_places(images))


def _n_places(images: Sequence[Image]) -> int:
    return len(set(slots(_places(images)).tolist()))


def _repeats(images: Sequence[Image]) -> bool:
    return _n_places(images) < len(images)


def _interleaved(parts: list[list[Image]]) -> bool:
    """The stacks cover the same stretch: two volumes, not two pieces of one."""
    all_places = [_places(part) for part in parts]
    low, high = max(p.min() for p in all_places), min(p.max() for p in all_places)
    longest = max(float(np.ptp(p)) for p in all_places)
    return longest > 0 and (high - low) > 0.8 * longest


def _along_normal(images: list[Image]) -> tuple[Image, ...]:
    order = np.argsort(_places(images), kind="stable")
    return tuple(images[k] for k in order)


def _when(stack: Stack) -> tuple[float, ...]:
    """Order of acquisition: temporal position, then time, trigger, echo, and the lowest instance number."""
    first = min(stack.images, key=lambda i: (i.file_number, i.number, i.frame))
    times = [i.time_s for i in stack.images if i.time_s is not None]
    return (
        first.temporal_position or 0,
        min(times, default=0.0),
        first.trigger_ms or 0.0,
        first.echo_time_ms or 0.0,
        first.file_number,
        first.number,
        first.frame,
    )
