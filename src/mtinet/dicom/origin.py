"""The instances that a study's images came from, kept in memory while results are written that refer to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mtinet.config import Phase
from mtinet.dicom.decode import VolumeLoader
from mtinet.dicom.members import ZIP_ERRORS, open_member
from mtinet.dicom.sources import SourceFile
from mtinet.dicom.volumes import DicomVolume
from mtinet.errors import UserError
from mtinet.results import Result
from mtinet.volume import SNAP_VOXELS, Volume, grid_distance_mm

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)
"""Attributes that every instance has in the standard, though their value may be empty."""

_SEXES = ("M", "F", "O", "")
"""What the standard allows; what else is written is taken as unknown."""


class OriginError(UserError):
    """A result cannot refer to these images; the message says why and what to do."""


@dataclass(frozen=True)
class Origin:
    """Where the images of a study came from.

    Identity lives here and in the DICOM files that are made of it, nowhere else.

    Attributes
    ----------
    volumes : mapping of str to DicomVolume
        By phase.
    """

    volumes: Mapping[Phase, DicomVolume]

    def instances(self, phase: str) -> list[Dataset]:
        """Headers of the instances that hold a phase, along the volume's third axis, without pixels.

        Raises
        ------
        OriginError
            The phase is not among them, a file cannot be read any more, or instances have no UID of their own.
        """
        found = [_header(file) for file in dict.fromkeys(one.file for one in self._loader(phase).slices)]
        if len({str(ds.SOPInstanceUID) for ds in found} - {""}) < len(found):
            raise OriginError(
                f"images of the {phase} phase share a SOPInstanceUID or have none, and a DICOM file that is made of "
                "them refers to each; anonymise them again with a UID for each, or write formats without DICOM"
            )
        return found

    def others(self, reference: str) -> list[Dataset]:
        """Headers of the instances of all other phases, each once."""
        found: dict[str, Dataset] = {}
        known = {str(ds.SOPInstanceUID) for ds in self.instances(reference)}
        for phase in [p for p in self.volumes if p != reference]:
            for dataset in self.instances(phase):
                if str(dataset.SOPInstanceUID) not in known:
                    found.setdefault(str(dataset.SOPInstanceUID), dataset)
        return list(found.values())

    def frames(self, phase: str) -> frozenset[int]:
        """Numbers of the frames that hold a phase, from 1; empty for single-frame instances."""
        return frozenset(self._volume(phase).frame_numbers)

    def instance_uids(self) -> tuple[str, ...]:
        """SOPInstanceUID of every instance of every phase, sorted."""
        return tuple(sorted({uid for volume in self.volumes.values() for uid in volume.instance_uids}))

    def mask(self, result: Result) -> Volume:
        """The result's mask with its axes as the reference phase's images have them.

        Raises
        ------
        OriginError
            The result has no mask, or it does not lie on the grid of these images.
        """
        if result.mask is None:
            raise OriginError(
                f"study {result.study_id}: the result has no mask; read it with its mask.nii.gz"
            )
        loader = self._loader(result.reference_phase)
        affine: NDArray[np.float64] = np.array(loader.affine)
        mask = result.mask.like_axes_of(affine)
        form = loader.slices[0].format
        shape = (form.columns, form.rows, len(loader.slices))
        if not grid_distance_mm(mask.shape, mask.affine, shape, affine) < SNAP_VOXELS * min(mask.spacing_mm):
            raise OriginError(
                f"study {result.study_id}: the mask does not lie on the grid of the {result.reference_phase} "
                "images; give the images that the result was predicted from"
            )
        return Volume(mask.array, affine)

    def _volume(self, phase: str) -> DicomVolume:
        found = next((volume for name, volume in self.volumes.items() if name == phase), None)
        if found is None:
            held = ", ".join(self.volumes) or "none"
            raise OriginError(f"the DICOM images hold no {phase} phase (they hold: {held})")
        return found

    def _loader(self, phase: str) -> VolumeLoader:
        loader = self._volume(phase).info.load
        if not isinstance(loader, VolumeLoader):
            raise OriginError(f"the images of the {phase} phase cannot be used; export them again")
        return loader


def _header(file: SourceFile) -> Dataset:
    import pydicom

    try:
        with open_member(file.path, file.member) as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
            # values are read when they are first asked for: now, while the file is open
            dataset.decode()
    except (*ZIP_ERRORS, AttributeError, KeyError) as error:
        raise OriginError(
            f"an image of the study cannot be read again ({type(error).__name__}); copy the study anew"
        ) from None
    # texts are decoded: what is made of them is in Unicode, whatever set (or several of them) they were written in
    dataset.SpecificCharacterSet = "ISO_IR 192"
    if not dataset.get("SOPInstanceUID"):
        dataset.SOPInstanceUID = dataset.file_meta.get("MediaStorageSOPInstanceUID", "")
    for name in _TYPE_2:
        if name not in dataset:
            setattr(dataset, name, "")
    if dataset.PatientSex not in _SEXES:
        dataset.PatientSex = ""
    return dataset


def without_doubles(datasets: Sequence[Dataset]) -> list[Dataset]:
    """Every instance once, in the order given."""
    return list({str(dataset.SOPInstanceUID): dataset for dataset in datasets}.values())
