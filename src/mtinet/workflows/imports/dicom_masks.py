"""Masks of a DICOM study: DICOM SEG and RTSTRUCT, NIfTI and NRRD, brought to the phase they were drawn on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtinet.config import Phase
from mtinet.dicom.masks import MaskOnVolume, read_mask_image, read_masks
from mtinet.dicom.study import DicomStudy
from mtinet.errors import UserError
from mtinet.imaging.checks import MAX_LESIONS, SNAP_VOXELS
from mtinet.imaging.masks import components, voxel_counts
from mtinet.results import Finding
from mtinet.volume import Volume
from mtinet.workflows.imports.dicom_phases import ChosenVolume
from mtinet.workflows.imports.screening import import_finding

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_PART_OF_A_NAME = re.compile(r"[_-](?:mask|seg|lesion|liver)", re.IGNORECASE)
_LIVER = re.compile(
    r"(?:^|[_\W])(?:liver|leber|foie|fegato|h[ií]gado|lever)(?:[_\W]?mask|[_\W]?seg)?$", re.IGNORECASE
)


@dataclass
class StudyMasks:
    """The masks of a study.

    Attributes
    ----------
    phase : Phase or None
        On whose grid they lie; None = there is none.
    lesions, liver : Volume or None
    source : str
        What the lesions come from, for example ``SEG``.
    findings : list of Finding
    """

    phase: Phase | None = None
    lesions: Volume | None = None
    liver: Volume | None = None
    source: str = ""
    findings: list[Finding] = field(default_factory=list)


def masks_of_study(folder: Path | None, study: DicomStudy, ids: Sequence[str]) -> tuple[Path, ...]:
    """Files of a mask folder that belong to a study.

    DICOM files belong by their StudyInstanceUID.  Images belong when their name, or that of a folder above
    them, is the study's UID, the patient's id or one of ``ids``.
    """
    if folder is None:
        return ()
    names = {study.study_uid, study.patient_id, *ids} - {""}
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.name.lower().endswith(IMAGE_SUFFIXES):
            places = [*path.relative_to(folder).parts[:-1], _stem(path)]
            if any(place in names or _PART_OF_A_NAME.split(place)[0] in names for place in places):
                found.append(path)
        elif _study_uid(path) == study.study_uid:
            found.append(path)
    return tuple(found)


def _stem(path: Path) -> str:
    lower = path.name.lower()
    suffix = max((s for s in IMAGE_SUFFIXES if lower.endswith(s)), key=len)
    return path.name[: -len(suffix)]


def _study_uid(path: Path) -> str:
    """StudyInstanceUID of a DICOM file; empty for any other file."""
    import pydicom

    try:
        with path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                return ""
        return str(pydicom.dcmread(path, specific_tags=["StudyInstanceUID"]).get("StudyInstanceUID", ""))
    except Exception:
        # a damaged header can raise anything; the file then belongs to no study and is listed as unused
        return ""


def read_study_masks(
    paths: Sequence[Path],
    study: DicomStudy,
    chosen: Mapping[Phase, ChosenVolume],
    images: Mapping[Phase, Volume],
) -> StudyMasks:
    """Read every mask of a study and put its lesions together.

    Lesions of several files on one phase are numbered on.  A mask of a volume that is no phase counts for the
    phase with the same grid; where there is none it is left out, with a finding.

    Parameters
    ----------
    paths : sequence of Path
    study : DicomStudy
    chosen : mapping
        The volume that each phase was taken from.
    images : mapping of phase to Volume
    """
    masks = StudyMasks()
    for path in paths:
        try:
            phase, on = _read(path, study, chosen, images)
        except UserError as error:
            masks.findings.append(_left_out(path, str(error)))
            continue
        if masks.phase not in (None, phase):
            masks.findings.append(
                _left_out(path, f"it was drawn on {phase}, another mask of the study on {masks.phase}")
            )
            continue
        masks.phase = phase
        masks.findings += on.findings
        _add(masks, on, path)
    if masks.lesions is not None:
        _number_parts(masks, masks.lesions)
    return masks


def _read(
    path: Path, study: DicomStudy, chosen: Mapping[Phase, ChosenVolume], images: Mapping[Phase, Volume]
) -> tuple[Phase, MaskOnVolume]:
    """A mask and the phase that it lies on."""
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        on = read_mask_image(path, [c.volume for c in chosen.values()])
    else:
        on = read_masks(path, study.series)
    keys = {(c.series.info.series_uid, c.volume.info.index): phase for phase, c in chosen.items()}
    for key in ((on.series_uid, on.volume_index), *on.candidates):
        if key in keys:
            return keys[key], on
    for phase, image in images.items():
        if image.corner_distance_mm(on.labels) <= SNAP_VOXELS * min(image.spacing_mm):
            return phase, on
    raise UserError(
        f"{path.name} was drawn on a series that is no phase of the study, and no phase has its grid; "
        "name the phase with --phases-json, or draw it on a phase"
    )


def _add(masks: StudyMasks, on: MaskOnVolume, path: Path) -> None:
    """Put one file's regions among the study's."""
    whole = [number for number, name in on.names.items() if _LIVER.search(name.strip())]
    if path.name.lower().endswith(IMAGE_SUFFIXES) and len(on.names) < 2 and _LIVER.search(_stem(path)):
        # an image with one value has no names but that of its file
        whole = list(voxel_counts(on.labels.array))
    labels = on.labels.with_array(np.where(np.isin(on.labels.array, whole), 0, on.labels.array))
    if whole:
        before = False if masks.liver is None else masks.liver.array != 0
        liver = np.isin(on.labels.array, whole) | before
        masks.liver = on.labels.with_array(liver.astype(np.uint8))
        if not labels.array.any():
            return
    if masks.lesions is None:
        masks.lesions, masks.source = labels.with_array(np.zeros(labels.shape, np.uint8)), on.source
    array = masks.lesions.array.copy()
    numbers = sorted(voxel_counts(labels.array))
    first = int(array.max()) + 1
    if first + len(numbers) - 1 > MAX_LESIONS:
        masks.findings.append(_left_out(path, f"the study would have more than {MAX_LESIONS} lesions"))
        return
    for number, label in enumerate(numbers, first):
        # where two lesions overlap, the one read first keeps the voxel
        array[(labels.array == label) & (array == 0)] = number
    masks.lesions = labels.with_array(array)


def _number_parts(masks: StudyMasks, lesions: Volume) -> None:
    """Where one number is all there is, its separate parts become a lesion each."""
    if len(voxel_counts(lesions.array)) != 1:
        return
    parts = components(lesions.array)
    if 1 < parts.max() <= MAX_LESIONS:
        masks.lesions = lesions.with_array(parts.astype(np.uint8))
        masks.findings.append(
            import_finding(
                "mask-parts-numbered",
                "note",
                f"the mask marks {int(parts.max())} separate parts with one number: each became a lesion",
                "Nothing to do if they are separate lesions; otherwise give them one connected outline.",
            )
        )


def _left_out(path: Path, why: str) -> Finding:
    return import_finding(
        "mask-left-out",
        "warning",
        f"a mask is left out: {why}",
        "Correct or remove the file and import again.",
        str(path),
    )
