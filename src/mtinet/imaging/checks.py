"""Checks of a study that need its pixels: every finding, each with its repair."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtinet.cohort import NO_LESION, Study
from mtinet.config import Phase
from mtinet.imaging.gain import GAIN_THRESHOLD, changed_gains, darker_than_first, phase_ratios
from mtinet.imaging.masks import bounding_boxes, components, voxel_counts
from mtinet.imaging.phase_order import SURE, misnamed_phases
from mtinet.imaging.resampling import overlap_fraction
from mtinet.results import Finding, Severity
from mtinet.volume import Volume, VolumeError, read_nifti

SNAP_VOXELS = 0.1
"""Distance between a mask's grid and its image's, in voxels, below which they count as the same grid."""

MIN_OVERLAP = 0.5
"""Share of the reference's field of view that a phase should cover."""

MAX_LESIONS = 255
"""Prepared masks are stored in eight bits."""


@dataclass
class _Report:
    """Findings of one study, collected."""

    case: str
    findings: list[Finding] = field(default_factory=list)

    def add(
        self,
        id: str,
        severity: Severity,
        meaning: str,
        action: str,
        value: float | None = None,
        threshold: float | None = None,
    ) -> None:
        self.findings.append(
            Finding(id, "cohort", severity, meaning, action, self.case, value=value, threshold=threshold)
        )


@dataclass(frozen=True)
class StudyLook:
    """What reading every file of a study gave.

    Attributes
    ----------
    findings : tuple of Finding
    digests : dict
        Hash of the voxels of every readable image by phase, whatever the order in which a file stores them.
    """

    findings: tuple[Finding, ...]
    digests: dict[Phase, str]


def pixel_findings(
    study: Study, lesion_labels: Mapping[int, str] | None = None, classes: Collection[str] = ()
) -> list[Finding]:
    """Read every file of a study and list what is wrong with it.

    Files that do not exist are left to the checks of the tables.  A file that cannot be read gives a finding
    and the others are still looked at.

    Parameters
    ----------
    study : Study
    lesion_labels : mapping of int to str, optional
        Class by lesion number, from ``lesions.csv``.
    classes : collection of str
        Classes of the cohort; empty = the lesions' classes are not checked.

    Returns
    -------
    list of Finding
    """
    return list(look_at(study, lesion_labels, classes).findings)


def look_at(
    study: Study, lesion_labels: Mapping[int, str] | None = None, classes: Collection[str] = ()
) -> StudyLook:
    """:func:`pixel_findings` with the images' hashes, by which :func:`copied_images` compares studies."""
    report = _Report(study.study_id)
    images = _read_images(study, report)
    digests = {phase: _digest(volume) for phase, volume in images.items()}
    usable = _check_grids(images, report)
    _check_duplicates({phase: digests[phase] for phase in usable}, report)
    if len(usable) > 1:
        _check_levels(usable, study.agent, report)
    _check_masks(study, images, dict(lesion_labels or {}), classes, report)
    return StudyLook(tuple(report.findings), digests)


def copied_images(looks: Iterable[tuple[Study, StudyLook]]) -> list[Finding]:
    """Images that hold the same voxels in two studies.

    Under two patients that is an error: the same person would be on both sides of a split.  Two files are
    compared by their voxels, so a copy that was renamed, compressed anew or stored in another order is found.
    """
    seen: dict[str, tuple[Study, Phase]] = {}
    shared: dict[tuple[str, str], tuple[Study, Study, list[str]]] = {}
    for study, look in looks:
        for phase, digest in look.digests.items():
            first, its_phase = seen.setdefault(digest, (study, phase))
            if first.study_id != study.study_id:
                named = phase if phase == its_phase else f"{phase} (there {its_phase})"
                shared.setdefault((first.study_id, study.study_id), (first, study, []))[2].append(named)
    findings = []
    for first, study, phases in shared.values():
        report = _Report(study.study_id)
        told = f"{', '.join(phases)} {'holds' if len(phases) == 1 else 'hold'} the same voxels as"
        if first.patient_id != study.patient_id:
            report.add(
                "copied-patient",
                "error",
                f"{told} study {first.study_id}, yet the patients are {study.patient_id} and {first.patient_id}",
                "Keep one of the studies, or give both rows the patient_id of the one person they show.",
            )
        else:
            report.add(
                "copied-study",
                "warning",
                f"{told} study {first.study_id} of the same patient",
                "Keep one of the studies: the same images would count twice.",
            )
        findings += report.findings
    return findings


def _digest(volume: Volume) -> str:
    array = volume.canonical().array
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


# ---------------------------------------------------------------------- images
def _read_images(study: Study, report: _Report) -> dict[Phase, Volume]:
    images: dict[Phase, Volume] = {}
    for phase, path in study.images.items():
        volume = _read(phase, path, report)
        if volume is not None:
            images[phase] = volume
            _check_values(phase, volume, report)
    return images


def _read(column: str, path: Path, report: _Report, *, labels: bool = False) -> Volume | None:
    if not path.is_file():
        return None
    try:
        return read_nifti(path, labels=labels)
    except VolumeError as error:
        report.add("unreadable", "error", f"{column}: {error}", "Export or copy the file again.")
        return None


def _check_values(phase: Phase, volume: Volume, report: _Report) -> None:
    bad = int(volume.array.size - np.count_nonzero(np.isfinite(volume.array)))
    if bad:
        report.add(
            "not-finite",
            "error",
            f"{phase} holds {bad} voxels that are NaN or infinite",
            "Export it again, or write 0 where there was no signal.",
            value=bad,
            threshold=0,
        )
    elif volume.array.min() == volume.array.max():
        report.add(
            "constant-image",
            "error",
            f"every voxel of {phase} is {volume.array.flat[0]:g}",
            "Export it again, or empty the cell if the phase is missing.",
        )


def _check_grids(images: Mapping[Phase, Volume], report: _Report) -> dict[Phase, Volume]:
    """Compare the phases' grids with the reference's; give back the phases that can be compared by value."""
    usable = {
        phase: volume
        for phase, volume in images.items()
        if np.isfinite(volume.array).all() and volume.array.min() < volume.array.max()
    }
    if not images:
        return usable
    first = Study("", {phase: Path() for phase in images}).reference_phase
    reference = images[first]
    for phase, volume in images.items():
        distance = reference.corner_distance_mm(volume)
        if distance <= SNAP_VOXELS * min(reference.spacing_mm):
            continue
        covered = overlap_fraction(reference, volume)
        if covered == 0.0:
            usable.pop(phase, None)
            report.add(
                "no-overlap",
                "error",
                f"{phase} and {first} show different parts of space: their fields of view do not overlap",
                "Take both from the same examination, with the geometry that the scanner wrote.",
                value=covered,
                threshold=MIN_OVERLAP,
            )
        elif covered < MIN_OVERLAP:
            report.add(
                "little-overlap",
                "warning",
                f"{phase} covers {covered:.0%} of the field of view of {first}",
                "Check that it is the right series; lesions outside have no signal in this phase.",
                value=covered,
                threshold=MIN_OVERLAP,
            )
        else:
            report.add(
                "two-grids",
                "note",
                f"{phase} lies on another grid than {first} ({_grid(volume)} against {_grid(reference)})",
                "Nothing to do: preparation resamples it in world coordinates.",
            )
    return usable


def _grid(volume: Volume) -> str:
    voxels = "x".join(str(n) for n in volume.shape)
    return f"{voxels} at {' x '.join(f'{mm:.3g}' for mm in volume.spacing_mm)} mm"


def _check_duplicates(digests: Mapping[Phase, str], report: _Report) -> None:
    seen: dict[str, Phase] = {}
    for phase, digest in digests.items():
        if digest in seen:
            report.add(
                "duplicate-phase",
                "error",
                f"{phase} and {seen[digest]} hold the same voxels",
                "Give each phase its own image, or empty the cell if the phase is missing.",
            )
        seen.setdefault(digest, phase)


def _check_levels(images: Mapping[Phase, Volume], agent: str, report: _Report) -> None:
    """The order of the phases, then unenhancing tissue against its signal in the other phases."""
    ratios = phase_ratios(images)
    darker = darker_than_first(ratios) if "pre" in ratios else []
    if darker:
        report.add(
            "phase-order",
            "warning",
            f"vessels and organs are darker in {', '.join(darker)} than in pre, before contrast",
            "Check that the files of these phases are not exchanged.",
            value=ratios[darker[0]].median,
            threshold=1.0,
        )
        return  # between exchanged phases no tissue can be told to be unenhancing
    for one in misnamed_phases(images, agent):
        report.add(
            "phase-enhancement",
            "warning",
            f"{one.named} enhances like {one.looks_like.replace('_', ' ')}: {one.evidence}",
            "Check that the files of these phases are not exchanged (mtinet phases names the series of an export).",
            value=one.probability,
            threshold=SURE,
        )
    for phase, ratio in changed_gains(ratios).items():
        report.add(
            "gain-change",
            "warning",
            f"tissue that does not enhance is {ratio:.2f} times as bright in {phase} as in the other phases: "
            "the receive gain or the scaling changed",
            "Export the phases with one scaling (rescale slope) or leave the phase out; "
            "its enhancement is not comparable.",
            value=ratio,
            threshold=GAIN_THRESHOLD if ratio > 1 else 1 / GAIN_THRESHOLD,
        )


# ---------------------------------------------------------------------- masks
def _check_masks(
    study: Study,
    images: Mapping[Phase, Volume],
    lesion_labels: dict[int, str],
    classes: Collection[str],
    report: _Report,
) -> None:
    drawn_on = images.get(study.mask_phase or study.reference_phase) if study.images else None  # type: ignore[call-overload]
    for column, path in (("mask", study.mask), ("mask_2", study.mask_2), ("liver_mask", study.liver_mask)):
        mask = None if path is None else _read(column, path, report, labels=True)
        if mask is None:
            continue
        if drawn_on is not None:
            _check_mask_grid(column, mask, drawn_on, report)
        if column == "mask":
            _check_lesions(study, mask, lesion_labels, classes, report)
        elif column == "liver_mask" and not mask.array.any():
            report.add("empty-liver", "warning", "liver_mask is empty", "Draw it or empty the cell.")


def _check_mask_grid(column: str, mask: Volume, image: Volume, report: _Report) -> None:
    distance = image.corner_distance_mm(mask)
    tolerance = SNAP_VOXELS * min(image.spacing_mm)
    if distance > tolerance:
        off = "has another shape" if math.isinf(distance) else f"is off by {distance:.2f} mm"
        report.add(
            "mask-grid",
            "error",
            f"{column} ({_grid(mask)}) does not lie on the grid of its image ({_grid(image)}): it {off}",
            "Name the phase it was drawn on in mask_phase, or export it on the image's grid; "
            "never copy the header over.",
            value=distance if math.isfinite(distance) else None,
            threshold=tolerance,
        )
    elif distance > 1e-3:
        report.add(
            "mask-snapped",
            "note",
            f"{column} is off its image's grid by {distance:.3f} mm, less than a tenth of a voxel",
            "Nothing to do: it is taken as lying on the image's grid.",
            value=distance,
            threshold=tolerance,
        )


def _check_lesions(
    study: Study, mask: Volume, lesion_labels: dict[int, str], classes: Collection[str], report: _Report
) -> None:
    counts = voxel_counts(mask.array)
    numbers = sorted(counts)
    if not numbers and study.label not in ("", NO_LESION):
        report.add(
            "empty-mask",
            "error",
            f"the mask is empty, yet the label is {study.label!r}",
            f"Draw the lesion, empty the mask's cell, or set the label to {NO_LESION!r}.",
        )
    if numbers and study.label == NO_LESION:
        report.add(
            "mask-not-empty",
            "error",
            f"the label is {NO_LESION!r}, yet the mask holds {len(numbers)} lesion(s)",
            "Correct the label or the mask.",
        )
    if numbers and (numbers[0] < 0 or numbers[-1] > MAX_LESIONS):
        report.add(
            "mask-values",
            "error",
            f"the mask holds values from {numbers[0]} to {numbers[-1]}",
            f"Number the lesions 1 to K (at most {MAX_LESIONS}); 0 is background.",
        )
    elif numbers != list(range(1, len(numbers) + 1)):
        report.add(
            "mask-numbers",
            "warning",
            f"the lesions are numbered {', '.join(map(str, numbers))}, not 1 to {len(numbers)}",
            "Check that no lesion is missing; lesions.csv must use the same numbers.",
        )
    boxes = bounding_boxes(mask.array)
    for number in numbers:
        parts = int(components(mask.array[boxes[number]] == number).max()) if number in boxes else 1
        if parts > 1:
            report.add(
                "lesion-parts",
                "note",
                f"number {number} of the mask marks {parts} separate parts",
                "If they are separate lesions, give each its own number.",
                value=parts,
                threshold=1,
            )
    _check_lesion_rows(numbers, lesion_labels, classes, report)
    known = {number: label for number, label in lesion_labels.items() if not classes or label in classes}
    _check_dominant(study, counts, known, report)


def _check_dominant(
    study: Study, counts: Mapping[int, int], lesion_labels: Mapping[int, str], report: _Report
) -> None:
    """The study's label against that of its largest lesion, where both are known."""
    if not counts or study.label in ("", NO_LESION):
        return
    largest = min(counts, key=lambda number: (-counts[number], number))
    label = lesion_labels.get(largest, "")
    if label not in ("", study.label):
        report.add(
            "dominant-label",
            "warning",
            f"cohort.csv labels the study {study.label!r}, "
            f"lesions.csv calls its largest lesion (number {largest}) {label!r}",
            "Correct one of them: the study's label is the class of its largest lesion.",
        )


def _check_lesion_rows(
    numbers: list[int], lesion_labels: dict[int, str], classes: Collection[str], report: _Report
) -> None:
    for number, label in lesion_labels.items():
        if number not in numbers:
            report.add(
                "unknown-lesion",
                "error",
                f"lesions.csv has a row for lesion {number}, which the mask lacks",
                f"Numbers in the mask: {', '.join(map(str, numbers)) or 'none'}.",
            )
        if classes and label and label not in classes:
            report.add(
                "unknown-class",
                "error",
                f"lesions.csv calls lesion {number} {label!r}, which is not a class of this cohort",
                f"Valid: {', '.join(classes)}; correct it or add the class to cohort.yaml.",
            )
