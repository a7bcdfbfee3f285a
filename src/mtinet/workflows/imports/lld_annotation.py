"""``Annotation.json`` of LLD-MMRI: series, phases, classes and boxes of its lesions.

The layout is that of the data set's own description and cropping program (github.com/LMMMEng/LLD-MMRI2023):
``{"Annotation_info": {patient: [{"studyUID", "seriesUID", "phase", "annotation": {"lesion": {"0":
{"category", "bbox": {"2D_box": [...], "3D_box": {...} or null}}}}}]}}``.  Box coordinates are voxel indices
of the file: x along its first axis, y its second, z its third.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtinet.config import Phase
from mtinet.errors import UnusableError

CLASSES: dict[int, str] = {
    0: "hemangioma",
    1: "icc",
    2: "abscess",
    3: "metastasis",
    4: "cyst",
    5: "fnh",
    6: "hcc",
}
"""Class by category; -1 is withheld."""

PHASE_NAMES: dict[str, Phase] = {
    "C-pre": "pre",
    "C+A": "arterial",
    "C+V": "portal_venous",
    "C+Delay": "delayed",
}
"""The phases that a cohort holds, by their names in the data set."""

OTHER_SERIES = ("T2WI", "DWI", "In Phase", "Out Phase", "InPhase", "OutPhase")
"""Series of the data set that are no phase of the contrast-enhanced examination."""


@dataclass(frozen=True)
class Box:
    """A lesion's box in voxel indices: ``low`` to ``high``, the upper ends not included."""

    low: tuple[int, int, int]
    high: tuple[int, int, int]
    assembled: bool = False

    @property
    def voxels(self) -> int:
        """Number of voxels in the box."""
        x, y, z = (b - a for a, b in zip(self.low, self.high))
        return x * y * z


@dataclass(frozen=True)
class AnnotatedLesion:
    """A lesion in one series: its key (``0``, ``1``, ...), category and box; no box = not boxed there."""

    key: str
    category: int
    box: Box | None


@dataclass(frozen=True)
class AnnotatedSeries:
    """One series of a patient."""

    study_uid: str
    series_uid: str
    phase: str
    lesions: tuple[AnnotatedLesion, ...]


@dataclass(frozen=True)
class Annotation:
    """All patients, and what of the file could not be understood (patient and reason)."""

    patients: dict[str, tuple[AnnotatedSeries, ...]]
    faults: tuple[tuple[str, str], ...]


def read_annotation(path: Path) -> Annotation:
    """Read the file; a patient whose entry is damaged is left out and named.

    Raises
    ------
    UnusableError
        The file is missing, is not JSON, or is not this file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UnusableError(f"{path} cannot be read; give the folder that holds it") from None
    except (ValueError, RecursionError) as error:
        raise UnusableError(f"{path} is not JSON ({error}); download or unpack it again") from None
    info = content.get("Annotation_info") if isinstance(content, dict) else None
    if not isinstance(info, dict):
        raise UnusableError(f'{path} has no "Annotation_info"; it is not the annotation file of LLD-MMRI')
    patients: dict[str, tuple[AnnotatedSeries, ...]] = {}
    faults: list[tuple[str, str]] = []
    for patient, entries in info.items():
        try:
            patients[patient] = tuple(_series(entry) for entry in entries)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            faults.append((patient, f"{type(error).__name__}: {error}"))
    return Annotation(patients, tuple(faults))


def _series(entry: Mapping[str, Any]) -> AnnotatedSeries:
    lesions = entry["annotation"]["lesion"]
    return AnnotatedSeries(
        study_uid=_name(entry.get("studyUID", "")),
        series_uid=_name(entry.get("seriesUID", "")),
        phase=str(entry["phase"]),
        lesions=tuple(
            AnnotatedLesion(str(key), int(lesion["category"]), _box(lesion["bbox"]))
            for key, lesion in sorted(lesions.items(), key=lambda item: int(item[0]))
        ),
    )


def _name(value: Any) -> str:
    """A UID that names a folder or file; nothing that leads elsewhere."""
    text = str(value)
    if any(c in text for c in "/\\\0") or text.startswith("."):
        raise ValueError(f"{text!r} is not a UID")
    return text


def _box(bbox: Mapping[str, Any]) -> Box | None:
    """The 3-D box, or the smallest one around the boxes of the slices where it is null."""
    whole = bbox.get("3D_box")
    if whole:
        return _corners(
            [int(whole[f"{axis}_min"]) for axis in "xyz"], [int(whole[f"{a}_max"]) for a in "xyz"]
        )
    slices = bbox.get("2D_box") or []
    if isinstance(slices, Mapping):
        slices = list(slices.values())
    if not slices:
        return None
    low = [min(int(s[f"{axis}_min"]) for s in slices) for axis in "xy"]
    high = [max(int(s[f"{axis}_max"]) for s in slices) for axis in "xy"]
    z = [int(s["slice_idx"]) for s in slices]
    return _corners([*low, min(z)], [*high, max(z)], assembled=True)


def _corners(low: list[int], high: list[int], assembled: bool = False) -> Box:
    """In the plane the maximum ends the box, along z it belongs to it (as the data set's program crops)."""
    if any(b < a for a, b in zip(low, high)) or min(low) < 0:
        raise ValueError(f"box from {low} to {high}")
    x, y, z = (max(b, a + 1) for a, b in zip(low, (high[0], high[1], high[2] + 1)))
    return Box((low[0], low[1], low[2]), (x, y, z), assembled)
