"""The layout of LLD-MMRI-MedSAM2: flat folders of images and of masks, one mask a series.

``images/<patient>_<category>_<phase>_0000.nii.gz`` and ``labels/<patient>_<category>_<phase>.nii.gz``; the
phases ``InPhase`` and ``OutPhase`` are written without a blank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtinet.config import Phase
from mtinet.errors import UnusableError
from mtinet.workflows.imports.lld_annotation import PHASE_NAMES
from mtinet.workflows.imports.splits import digits

_IMAGE = re.compile(r"(?P<patient>.+)_(?P<category>-?\d+)_(?P<phase>[A-Za-z0-9+-]+)_0000\.nii(\.gz)?")
_MASK = re.compile(r"(?P<patient>.+)_(?P<category>-?\d+)_(?P<phase>[A-Za-z0-9+-]+)\.nii(\.gz)?")


@dataclass
class Files:
    """Images and masks of one patient, by the phases that a cohort holds."""

    patient: str
    category: int
    images: dict[Phase, Path] = field(default_factory=dict)
    masks: dict[Phase, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Release:
    """The studies of the release: id and files."""

    studies: tuple[tuple[str, Files], ...]


def find(src: Path) -> Release | None:
    """The release in a folder; None where there are no files named so."""
    found: dict[tuple[str, int], Files] = {}
    for path in sorted((src / "images").glob("*_0000.nii*")):
        match = _IMAGE.fullmatch(path.name)
        if match is None:
            continue
        key = (match["patient"], int(match["category"]))
        files = found.setdefault(key, Files(*key))
        phase = PHASE_NAMES.get(match["phase"])
        if phase is not None:
            files.images[phase] = path
            for suffix in (".nii.gz", ".nii"):
                mask = src / "labels" / (path.name.split("_0000.nii")[0] + suffix)
                if mask.is_file():
                    files.masks[phase] = mask
    if not found:
        return None
    patients = [patient for patient, _ in found]
    return Release(
        tuple(
            (patient if patients.count(patient) == 1 else f"{patient}_{category}", files)
            for (patient, category), files in found.items()
        )
    )


def masks_in(folder: Path) -> dict[tuple[str, Phase], Path]:
    """Masks of the release by patient (digits of the id) and phase.

    Raises
    ------
    UnusableError
        The folder holds none.
    """
    for place in (folder, folder / "labels"):
        masks = {
            (digits(match["patient"]), PHASE_NAMES[match["phase"]]): path
            for path in sorted(place.glob("*.nii*"))
            if (match := _MASK.fullmatch(path.name)) and match["phase"] in PHASE_NAMES
        }
        if masks:
            return masks
    raise UnusableError(
        f"{folder} holds no masks named <patient>_<category>_<phase>.nii.gz; give the labels folder of the "
        "MedSAM2 release"
    )


def mask_of(masks: Mapping[tuple[str, Phase], Path], patient: str, phase: Phase) -> Path | None:
    """The mask of a patient's phase."""
    return masks.get((digits(patient), phase))
