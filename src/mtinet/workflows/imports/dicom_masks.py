"""Masks of a DICOM study: DICOM SEG and RTSTRUCT, NIfTI and NRRD, brought to the phase they were drawn on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtinet.config import Phase
from mtinet.dicom.study import DicomStudy
from mtinet.errors import UserError
from mtinet.imaging.checks import MAX_LESIONS, SNAP_VOXELS
from mtinet.imaging.masks import components, voxel_counts
from mtinet.results import Finding
from mtinet.volume import Volume
from mtinet.workflows.imports.dicom_phases import ChosenVolume
from mtinet.workflows.imports.screening import import_finding

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_LIVER = re.compile(r"liver|leber|foie|f[ií]gado|h[ií]gado|fegato", re.IGNORECASE)
_LESION = re.compile(r"lesion|tumou?r|mass|hcc|metast|cyst|l[äa]sion", re.IGNORECASE)


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
            if any(place in names or re.split(r"[_-](?:mask|seg|lesion|liver)", place)[0] in names for place in places):
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
            phase, labels, names, source = _read(path, study, chosen, images)
        except UserError as error:
            masks.findings.append(_left_out(path, str(error)))
            continue
        if masks.phase not in (None, phase):
            masks.findings.append(
                _left_out(path, f"it was drawn on {phase}, another mask of the study on {masks.phase}")
            )
            continue
        masks.phase = phase
        _add(masks, labels, names or {}, source, path)
    if masks.lesions is not None:
        _number_parts(masks)
    return masks


def _read(
    path: Path, study: DicomStudy, chosen: Mapping[Phase, ChosenVolume], images: Mapping[Phase, Volume]
) -> tuple[Phase, Volume, dict[int, str], str]:
    """The phase that a mask lies on, its labels on that phase's grid, their names and the kind of file."""
    from mtinet.dicom import masks as dicom_masks

    if path.name.lower().endswith(IMAGE_SUFFIXES):
        volumes = [c.volume for c in chosen.values()]
        on = dicom_masks.read_mask_image(path, volumes)
        phase = next((p for p, v in images.items() if _same_grid(v, on.labels)), None)
        name = _stem(path)
        names = dict(on.names) or {1: name}
        if phase is None:
            raise UserError(f"{path.name} lies on the grid of no phase; export it on the phase it was drawn on")
        return phase, on.labels, {n: f"{name} {t}" if t != name else t for n, t in names.items()}, on.source
    on = dicom_masks.read_masks(path, study.series)
    for phase, choice in chosen.items():
        same_series = choice.series.info.series_uid == on.series_uid
        if same_series and choice.volume.info.index == on.volume_index:
            return phase, on.labels, on.names, on.source
    for phase, image in images.items():
        if _same_grid(image, on.labels):
            return phase, on.labels, on.names, on.source
    raise UserError(
        f"{path.name} was drawn on a series that is no phase of the study, and no phase has its grid; "
        "name the phase with --phases-json, or draw it on a phase"
    )


def _same_grid(image: Volume, mask: Volume) -> bool:
    return image.corner_distance_mm(mask) <= SNAP_VOXELS * min(image.spacing_mm)


def _add(masks: StudyMasks, labels: Volume, names: Mapping[int, str], source: str, path: Path) -> None:
    """Put one file's regions among the study's."""
    numbers = sorted(voxel_counts(labels.array))
    empty = np.zeros(labels.shape, dtype=np.uint8)
    whole_liver = [n for n in numbers if _LIVER.search(names.get(n, "")) and not _LESION.search(names[n])]
    if whole_liver:
        base = empty if masks.liver is None else masks.liver.array
        masks.liver = labels.with_array((base.astype(bool) | np.isin(labels.array, whole_liver)).astype(np.uint8))
    rest = [n for n in numbers if n not in whole_liver]
    if whole_liver and not rest:
        return
    if masks.lesions is None:
        masks.lesions, masks.source = labels.with_array(empty), source
    array = masks.lesions.array.copy()
    first = int(array.max()) + 1
    if first + len(rest) - 1 > MAX_LESIONS:
        masks.findings.append(_left_out(path, f"the study would have more than {MAX_LESIONS} lesions"))
        return
    for number, label in enumerate(rest, first):
        # where two lesions overlap, the one read first keeps the voxel
        array[(labels.array == label) & (array == 0)] = number
    masks.lesions = labels.with_array(array)


def _number_parts(masks: StudyMasks) -> None:
    """One number on several separate parts becomes a lesion each, where it is the only number."""
    assert masks.lesions is not None
    array = masks.lesions.array
    counts = voxel_counts(array)
    if len(counts) == 1:
        parts = components(array)
        if 1 < parts.max() <= MAX_LESIONS:
            masks.lesions = masks.lesions.with_array(parts.astype(np.uint8))
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
