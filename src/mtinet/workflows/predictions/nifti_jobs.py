"""Studies of NIfTI files: of a cohort, or a folder with one file a phase."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from mtinet.cohort import Study, nifti_files
from mtinet.cohort.phase_names import guess_phase
from mtinet.config import Phase
from mtinet.dicom.origin import Origin
from mtinet.errors import UserError
from mtinet.files import readable
from mtinet.imaging.liver import without_unusable_liver
from mtinet.volume import read_nifti
from mtinet.workflows.predictions.jobs import Case


@dataclass(frozen=True)
class NiftiJob:
    """A study of a cohort."""

    study: Study
    origin: Origin | None = None

    @property
    def study_id(self) -> str:
        """As in the cohort."""
        return self.study.study_id

    @property
    def folders(self) -> frozenset[Path]:
        """Where images and masks lie."""
        return frozenset(path.resolve().parent for path in self.study.paths().values())

    def fingerprint(self) -> str:
        """Hash of the files' content and of what is known about the study."""
        study = self.study
        known = [study.study_id, study.times_s, study.agent, study.acquisition, study.mask_phase]
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
        for column, path in sorted(study.paths().items()):
            digest.update(column.encode() + _content(path))
        return digest.hexdigest()

    def read(self) -> Case:
        """The study with its images in memory."""
        images = {phase: read_nifti(path) for phase, path in self.study.images.items()}
        return Case(replace(self.study, loaded=images), self.origin)


@dataclass(frozen=True)
class FolderJob:
    """A folder with ``<phase>.nii.gz`` files."""

    folder: Path
    told: Mapping[str, str]

    @property
    def study_id(self) -> str:
        """Name of the folder; one that is not UTF-8, which cannot be read, in letters that can be written."""
        return readable(self.folder.resolve().name)

    @property
    def folders(self) -> frozenset[Path]:
        """The folder."""
        return frozenset({self.folder.resolve()})

    def fingerprint(self) -> str:
        """Hash of the files' content, of what lies beside them, and of what the user says about phases."""
        study = self._study()
        said = json.dumps([dict(self.told), [path.name for path in study.unused]], sort_keys=True)
        return hashlib.sha256((said + NiftiJob(study).fingerprint()).encode()).hexdigest()

    def read(self) -> Case:
        """The study with its images in memory, and without a liver that cannot be used."""
        case = NiftiJob(self._study()).read()
        study, faults = without_unusable_liver(case.study)
        return replace(case, study=study, findings=(*case.findings, *faults))

    def _study(self) -> Study:
        known = {
            cast("Phase", name): _named_file(self.folder, name, value) for name, value in self.told.items()
        }
        return Study.from_folder(self.folder, known)


def _file(folder: Path, name: str) -> Path | None:
    """A NIfTI file by its name with or without suffix; a DICOM file may be called ``4`` and is none."""
    suffixes = ("",) if name.lower().endswith((".nii.gz", ".nii")) else (".nii.gz", ".nii")
    return next((p for s in suffixes if (p := folder / (name + s)).is_file()), None)


def _named_file(folder: Path, phase: str, name: str) -> Path | None:
    if not name:
        return None
    path = _file(folder, name)
    if path is None or Path(name).name != name:
        raise UserError(
            f"{folder}: --phase-names {phase}={name} names no file there; give its name without folder"
        )
    return path


def holds_nifti(folder: Path, told: Mapping[str, str]) -> bool:
    """Whether a folder has a file of a phase, by its name or by what the user says."""
    return any(guess_phase(name) for name in nifti_files(folder).values()) or any(
        _file(folder, name) is not None for name in told.values() if name
    )


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return b"unreadable"
