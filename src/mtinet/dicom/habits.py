"""How vendors' scanners lay a dynamic liver study out as series.

Habits as seen in public data, simplified: Siemens writes a series a phase; GE one multi-phase series after
the unenhanced one, in which every volume has the same AcquisitionTime and only the trigger time differs;
Philips one dynamic series with the unenhanced volume inside, an AcquisitionTime a volume, and stored values
that compare only through its private scale slope.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mtinet.config import Phase
from mtinet.dicom.exam import Exam, Habit, Series, Stack
from mtinet.volume import Volume

MAKERS: dict[Habit, tuple[str, str]] = {
    "siemens": ("SIEMENS", "Virtual Vida"),
    "ge": ("GE MEDICAL SYSTEMS", "Virtual Architect"),
    "philips": ("Philips Medical Systems", "Virtual Ingenia"),
    "enhanced": ("Philips Medical Systems", "Virtual Elition"),
}
"""Manufacturer and model as they are written."""

PRE_S = 45.0
"""The unenhanced volume is taken that long before the injection."""

_SIEMENS_NAMES: dict[Phase, str] = {
    "pre": "t1_vibe_fs_tra_bh_nativ",
    "arterial": "t1_vibe_fs_tra_bh_art",
    "arterial_late": "t1_vibe_fs_tra_bh_art_late",
    "portal_venous": "t1_vibe_fs_tra_bh_pv",
    "transitional": "t1_vibe_fs_tra_bh_transitional",
    "delayed": "t1_vibe_fs_tra_bh_delayed",
    "hepatobiliary": "t1_vibe_fs_tra_bh_20min_hbp",
}


def series_of(exam: Exam) -> tuple[Series, ...]:
    """The series of an exam in the habit of its vendor, decoys among them, in the order of their numbers."""
    layout = {"siemens": _siemens, "ge": _ge, "philips": _philips, "enhanced": _philips}[exam.habit]
    return tuple(layout(exam))


def _siemens(exam: Exam) -> Iterator[Series]:
    kind = ("ORIGINAL", "PRIMARY", "M", "ND", "NORM")
    yield Series(1, "localizer", _localizer(exam), "localizer", "*fl2d1", (*kind[:3], "ND"), contrast=False)
    number = 4
    for phase in _by_time(exam):
        number += 1
        name = _SIEMENS_NAMES[phase]
        yield Series(number, name, (_stack(exam, phase),), name, "*fl3d1", kind, contrast=phase != "pre")
    if (subtracted := _subtraction(exam)) is not None:
        name = "t1_vibe_fs_tra_bh_art_SUB"
        derived = ("DERIVED", "PRIMARY", "M", "ND", "NORM", "SUB")
        yield Series(number + 1, name, (subtracted,), _SIEMENS_NAMES["pre"], "*fl3d1", derived)
    reformatted = _coronal(exam, _by_time(exam)[-1])
    yield Series(
        number + 2,
        "COR MPR",
        (reformatted,),
        _SIEMENS_NAMES["pre"],
        "*fl3d1",
        ("DERIVED", "SECONDARY", "MPR"),
    )


def _ge(exam: Exam) -> Iterator[Series]:
    kind = ("ORIGINAL", "PRIMARY", "OTHER")
    yield Series(1, "3-Pl Loc SSFSE", _localizer(exam), "Liver", "SSFSE", kind, contrast=False)
    if "pre" in exam.images:
        yield Series(6, "Ax LAVA Pre", (_stack(exam, "pre"),), "Liver", "EFGRE3D", kind, contrast=False)
    dynamic = [phase for phase in _by_time(exam) if phase not in ("pre", "hepatobiliary")]
    if dynamic:
        first_s = exam.times_s[dynamic[0]]
        # one AcquisitionTime for all: only the trigger time and the temporal position tell them apart
        stacks = tuple(
            Stack(
                exam.images[phase],
                exam.injection_s + first_s,
                phase,
                round(1000.0 * (exam.times_s[phase] - first_s), 1),
            )
            for phase in dynamic
        )
        seconds = ",".join(f"{exam.times_s[phase]:.0f}" for phase in dynamic)
        name = f"Ax LAVA +C Multiphase {seconds}"
        yield Series(7, name, stacks, "Liver", "EFGRE3D", kind, temporal=True)
    if "hepatobiliary" in exam.images:
        yield Series(9, "Ax LAVA 20 min HBP", (_stack(exam, "hepatobiliary"),), "Liver", "EFGRE3D", kind)
    if (subtracted := _subtraction(exam)) is not None:
        derived = ("DERIVED", "SECONDARY", "COMBINED", "SUBTRACT")
        yield Series(700, "SUB_Ph1/7-S6_1", (subtracted,), "Liver", "EFGRE3D", derived)


def _philips(exam: Exam) -> Iterator[Series]:
    enhanced = exam.habit == "enhanced"
    kind = ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE")
    if not enhanced:
        yield Series(101, "SURVEY", _localizer(exam), "SURVEY", "T1TFE", kind, contrast=False)
    dynamic = [phase for phase in _by_time(exam) if phase != "hepatobiliary"]
    yield Series(
        601,
        "DYNAMIC" if enhanced else "DYNAMIC eTHRIVE BH",
        tuple(_stack(exam, phase) for phase in dynamic),
        "eTHRIVE BH dyn",
        "T1FFE",
        kind,
        temporal=True,
        slices_first=True,
        enhanced=enhanced,
    )
    if "hepatobiliary" in exam.images:
        late = (_stack(exam, "hepatobiliary"),)
        yield Series(901, "eTHRIVE 20min", late, "eTHRIVE BH", "T1FFE", kind, enhanced=enhanced)
    if not enhanced and (subtracted := _subtraction(exam)) is not None:
        derived = ("DERIVED", "SECONDARY", "SUBTRACTION", "M", "FFE")
        yield Series(602, "sDYNAMIC eTHRIVE BH SUB", (subtracted,), "eTHRIVE BH dyn", "T1FFE", derived)


def _by_time(exam: Exam) -> list[Phase]:
    """Phases in the order of acquisition, ``pre`` first."""
    return sorted(exam.images, key=lambda phase: -PRE_S if phase == "pre" else exam.times_s[phase])


def _stack(exam: Exam, phase: Phase) -> Stack:
    offset = -PRE_S if phase == "pre" else exam.times_s[phase]
    return Stack(exam.images[phase], exam.injection_s + offset, phase)


def _subtraction(exam: Exam) -> Stack | None:
    """Arterial minus unenhanced, where both lie on one grid."""
    pre, arterial = exam.images.get("pre"), exam.images.get("arterial")
    if pre is None or arterial is None or pre.corner_distance_mm(arterial) > 0.01:
        return None
    difference = np.maximum(arterial.array.astype(np.float32) - pre.array.astype(np.float32), 0.0)
    return Stack(arterial.with_array(difference), _stack(exam, "arterial").time_s)


def _coronal(exam: Exam, phase: Phase) -> Stack:
    """A reformat of a phase: its second axis becomes the one through the slices."""
    stack = _stack(exam, phase)
    return Stack(_reaxed(stack.volume, (0, 2, 1), slice(None, None, 2)), stack.time_s)


def _localizer(exam: Exam) -> tuple[Stack, ...]:
    """One slice in each of three orientations, cut from the first phase."""
    first = exam.images[_by_time(exam)[0]]
    stacks = []
    for number, order in enumerate(((0, 1, 2), (0, 2, 1), (1, 2, 0))):
        middle = first.shape[order[2]] // 2
        stacks.append(
            Stack(_reaxed(first, order, slice(middle, middle + 1)), exam.start_s + 5.0 + 2.0 * number)
        )
    return tuple(stacks)


def _reaxed(volume: Volume, order: tuple[int, int, int], kept: slice) -> Volume:
    """The volume with its axes in another order, and of its new third axis only the slices ``kept``."""
    start, _, step = kept.indices(volume.shape[order[2]])
    affine = volume.affine[:, (*order, 3)].copy()
    affine[:, 3] += start * affine[:, 2]
    affine[:, 2] *= step
    return Volume(volume.array.transpose(order)[:, :, kept], affine)
