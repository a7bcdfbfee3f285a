"""Studies as they come out of DICOM files: what is known of them, and where each volume came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mtinet.dicom.series import SeriesInfo, VolumeInfo
from mtinet.results import Finding


@dataclass(frozen=True)
class DicomVolume:
    """One volume of a series and where it came from.

    Attributes
    ----------
    info : VolumeInfo
        ``info.load()`` gives the voxels: ``float32``, comparable between volumes where ``comparable`` says so,
        with a RAS affine whose third axis runs along the slices' normal.
    instance_uids : tuple of str
        SOPInstanceUID of each slice along the third axis.  A multi-frame file that holds the whole volume is
        named once, and ``frame_numbers`` tells its frames.
    frame_numbers : tuple of int
        Frame of each slice, from 1; empty for single-frame files.
    comparable : bool
        False where intensities of different volumes have no common scale (Philips without its private scale
        slope): enhancement is then unverified.
    refused : str
        Why the volume cannot be used (a slice is missing, for example); ``info.load`` raises it.
    """

    info: VolumeInfo
    instance_uids: tuple[str, ...]
    frame_numbers: tuple[int, ...] = ()
    comparable: bool = True
    refused: str = ""


@dataclass(frozen=True)
class DicomSeries:
    """One series: ``info.volumes[k]`` is ``volumes[k].info``."""

    info: SeriesInfo
    volumes: tuple[DicomVolume, ...]
    frame_of_reference_uid: str = ""


@dataclass(frozen=True)
class DicomStudy:
    """One study of one patient.

    Attributes
    ----------
    study_uid, patient_id : str
    patient_name : str
        For the mapping file only; never written elsewhere.
    study_date : str
        ``YYYYMMDD``.
    accession, institution : str
    agent : str
        ContrastBolusAgent as written in the first series that names one.
    dose_mmol_kg : float or None
    series : tuple of DicomSeries
    masks : tuple of Path
        SEG and RTSTRUCT files of this study.
    findings : tuple of Finding
        Stage ``import``.
    """

    study_uid: str
    patient_id: str
    patient_name: str = ""
    study_date: str = ""
    accession: str = ""
    institution: str = ""
    agent: str = ""
    dose_mmol_kg: float | None = None
    series: tuple[DicomSeries, ...] = ()
    masks: tuple[Path, ...] = ()
    findings: tuple[Finding, ...] = ()
