"""Checks of a study's masks against its images, its label and the rows of its lesions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from mtinet.cohort import MAX_LESIONS, NO_LESION, Study
from mtinet.cohort.findings import Findings
from mtinet.config import Phase
from mtinet.imaging.masks import bounding_boxes, components, voxel_counts
from mtinet.volume import SNAP_VOXELS, Volume


def check_masks(
    study: Study,
    masks: Mapping[str, Volume],
    images: Mapping[Phase, Volume],
    lesion_labels: Mapping[int, str],
    classes: Collection[str],
    report: Findings,
) -> None:
    """List what is wrong with the masks of a study.

    Parameters
    ----------
    study : Study
    masks : mapping of str to Volume
        Those that could be read, by their column of ``cohort.csv``.
    images : mapping of Phase to Volume
        Those that could be read.
    lesion_labels : mapping of int to str
        Class by lesion number, from ``lesions.csv``.
    classes : collection of str
        Classes of the cohort; empty = all of the labels count.
    report : Findings
        Gets what is found.
    """
    drawn_on = images.get(study.mask_phase or study.reference_phase) if study.images else None  # type: ignore[call-overload]
    for column, mask in masks.items():
        if drawn_on is not None:
            _check_mask_grid(column, mask, drawn_on, report)
        if column == "mask":
            _check_lesions(study, mask, lesion_labels, classes, report)
        elif column == "liver_mask" and not mask.array.any():
            report.add("empty-liver", "warning", "liver_mask is empty", "Draw it or empty the cell.")


def _check_mask_grid(column: str, mask: Volume, image: Volume, report: Findings) -> None:
    distance = image.corner_distance_mm(mask)
    tolerance = SNAP_VOXELS * min(image.spacing_mm)
    if distance > tolerance:
        off = "has another shape" if math.isinf(distance) else f"is off by {distance:.2f} mm"
        report.add(
            "mask-grid",
            "error",
            f"{column} ({grid_text(mask)}) does not lie on the grid of its image ({grid_text(image)}): it {off}",
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
    study: Study, mask: Volume, lesion_labels: Mapping[int, str], classes: Collection[str], report: Findings
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
    if numbers and numbers[-1] > MAX_LESIONS:
        report.add(
            "mask-values",
            "error",
            f"the mask holds values up to {numbers[-1]}",
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
    _check_lesion_rows(numbers, lesion_labels, report)
    known = {number: label for number, label in lesion_labels.items() if not classes or label in classes}
    _check_dominant(study, counts, known, report)


def _check_dominant(
    study: Study, counts: Mapping[int, int], lesion_labels: Mapping[int, str], report: Findings
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


def _check_lesion_rows(numbers: list[int], lesion_labels: Mapping[int, str], report: Findings) -> None:
    for number in lesion_labels:
        if number not in numbers:
            report.add(
                "unknown-lesion",
                "error",
                f"lesions.csv has a row for lesion {number}, which the mask lacks",
                f"Numbers in the mask: {', '.join(map(str, numbers)) or 'none'}.",
            )


def grid_text(volume: Volume) -> str:
    """Voxels and their size for a message."""
    voxels = "x".join(str(n) for n in volume.shape)
    return f"{voxels} at {' x '.join(f'{mm:.3g}' for mm in volume.spacing_mm)} mm"
