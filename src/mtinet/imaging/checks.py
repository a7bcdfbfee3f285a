"""Checks of a study that need its pixels: every finding, each with its repair."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtinet.cohort import Study
from mtinet.cohort.findings import Findings
from mtinet.config import Phase
from mtinet.imaging.gain import GAIN_THRESHOLD, changed_gains, darker_than_first, phase_ratios
from mtinet.imaging.magnitude import BELOW_ZERO, NO_MAGNITUDE, share_below_zero
from mtinet.imaging.mask_checks import check_masks, grid_text
from mtinet.imaging.phase_order import SURE, misnamed_phases
from mtinet.imaging.resampling import overlap_fraction
from mtinet.results import Finding
from mtinet.volume import SNAP_VOXELS, Volume, VolumeError, read_nifti

MIN_OVERLAP = 0.5
"""Share of the reference's field of view that a phase should cover."""


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


def look_at(
    study: Study, lesion_labels: Mapping[int, str] | None = None, classes: Collection[str] = ()
) -> StudyLook:
    """Read every file of a study, list what is wrong with it, and hash its images for :func:`copied_images`.

    Files that do not exist are left to the checks of the tables.  A file that cannot be read gives a finding
    and the others are still looked at.

    Parameters
    ----------
    study : Study
    lesion_labels : mapping of int to str, optional
        Class by lesion number, from ``lesions.csv``.
    classes : collection of str
        Classes of the cohort; empty = all of the labels count.

    Returns
    -------
    StudyLook
    """
    report = Findings(study.study_id)
    images = _read_images(study, report)
    digests = {phase: _digest(volume) for phase, volume in images.items()}
    usable = _check_grids(images, report)
    _check_duplicates({phase: digests[phase] for phase in usable}, report)
    if len(usable) > 1:
        _check_levels(usable, study.agent, report)
    check_masks(study, _read_masks(study, report), images, lesion_labels or {}, classes, report)
    return StudyLook(tuple(report), digests)


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
    findings = Findings()
    for first, study, phases in shared.values():
        told = f"{', '.join(phases)} {'holds' if len(phases) == 1 else 'hold'} the same voxels as"
        if first.patient_id != study.patient_id:
            findings.add(
                "copied-patient",
                "error",
                f"{told} study {first.study_id}, yet the patients are {study.patient_id} and {first.patient_id}",
                "Keep one of the studies, or give both rows the patient_id of the one person they show.",
                study.study_id,
            )
        else:
            findings.add(
                "copied-study",
                "warning",
                f"{told} study {first.study_id} of the same patient",
                "Keep one of the studies: the same images would count twice.",
                study.study_id,
            )
    return findings


def _digest(volume: Volume) -> str:
    array = volume.canonical().array
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


# ---------------------------------------------------------------------- images
def _read_images(study: Study, report: Findings) -> dict[Phase, Volume]:
    images: dict[Phase, Volume] = {}
    for phase, path in study.images.items():
        volume = _read(phase, path, report)
        if volume is not None:
            images[phase] = volume
            _check_values(phase, volume, report)
    return images


def _read_masks(study: Study, report: Findings) -> dict[str, Volume]:
    named = {"mask": study.mask, "mask_2": study.mask_2, "liver_mask": study.liver_mask}
    read = {c: _read(c, path, report, labels=True) for c, path in named.items() if path is not None}
    return {column: mask for column, mask in read.items() if mask is not None}


def _read(column: str, path: Path, report: Findings, *, labels: bool = False) -> Volume | None:
    if not path.is_file():
        return None  # the checks of the tables say so
    try:
        return read_nifti(path, labels=labels)
    except VolumeError as error:
        cause, _, repair = str(error).partition("; ")
        report.add("unreadable", "error", f"{column}: {cause}", f"{repair[:1].upper()}{repair[1:]}.")
        return None


def _check_values(phase: Phase, volume: Volume, report: Findings) -> None:
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
        return
    if (share := share_below_zero(volume)) > BELOW_ZERO:
        report.add(
            "below-zero",
            "warning",
            f"{share:.0%} of the voxels of {phase} are below zero: {NO_MAGNITUDE}",
            "Take the images as the scanner stored them.",
            value=share,
            threshold=BELOW_ZERO,
        )
    if volume.array.min() == volume.array.max():
        report.add(
            "constant-image",
            "error",
            f"every voxel of {phase} is {volume.array.flat[0]:g}",
            "Export it again, or empty the cell if the phase is missing.",
        )


def _check_grids(images: Mapping[Phase, Volume], report: Findings) -> dict[Phase, Volume]:
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
            grids = f"{grid_text(volume)} against {grid_text(reference)}"
            if grid_text(volume) == grid_text(reference):
                grids = f"both {grid_text(volume)}, turned, mirrored or shifted"
            report.add(
                "two-grids",
                "note",
                f"{phase} lies on another grid than {first} ({grids})",
                "Nothing to do: preparation resamples it in world coordinates.",
            )
    return usable


def _check_duplicates(digests: Mapping[Phase, str], report: Findings) -> None:
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


def _check_levels(images: Mapping[Phase, Volume], agent: str, report: Findings) -> None:
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
