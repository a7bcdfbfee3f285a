"""Write MR images as DICOM: classic single-frame instances, one a slice.

Everything written is a function of the exam, so that the same exam gives the same bytes.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mtinet.dicom.exam import Exam, Series, Stack
from mtinet.dicom.habits import MAKERS, series_of
from mtinet.dicom.headers import PHILIPS_CREATOR
from mtinet.errors import UserError
from mtinet.volume import LPS, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LARGEST = 65535
"""Largest stored value: 16 bits without sign."""

AGENTS = {"gadobutrol": ("Gadovist", 1.0, 604.72), "gadoxetate": ("Primovist", 0.25, 181.43)}
"""By agent: trade name, mmol and mg of it in a millilitre of the solution (product information)."""

_HYDROGEN_MHZ_T = 42.577


class WriteError(UserError):
    """An exam cannot be written as DICOM; the message says why and what to do."""


@dataclass(frozen=True)
class Scaling:
    """How the stored values of a stack give its signal.

    ``signal = (stored · slope) / (slope · scale_slope)`` with Philips, whose ``stored · slope`` is what a
    viewer shows; elsewhere ``scale_slope`` is None and ``signal = stored · slope``.
    """

    slope: float = 1.0
    scale_slope: float | None = None

    def stored(self, signal: NDArray[Any]) -> NDArray[np.uint16]:
        """Whole numbers for a signal."""
        factor = 1.0 / self.slope if self.scale_slope is None else self.scale_slope
        return np.clip(np.rint(np.asarray(signal, dtype=np.float64) * factor), 0, LARGEST).astype(np.uint16)


def write_exam(folder: Path, exam: Exam) -> dict[str, list[Dataset]]:
    """Write every series of an exam into ``folder/<series>/``.

    Parameters
    ----------
    folder : Path
    exam : Exam

    Returns
    -------
    dict
        By phase the instances that hold it: one a slice in the order of the volume's third axis, or the one
        multi-frame instance.

    Raises
    ------
    WriteError
        No image, signal below zero or not finite, a sheared grid.
    """
    written: dict[str, list[Dataset]] = {}
    for series in series_of(exam):
        written.update(write_series(folder / f"s{series.number:03d}", exam, series))
    return written


def write_series(folder: Path, exam: Exam, series: Series) -> dict[str, list[Dataset]]:
    """Write one series, a file an instance; see :func:`write_exam` for what is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    if series.enhanced:
        from mtinet.dicom.enhanced import multiframe

        whole = multiframe(exam, series)
        save(whole, folder / "i0001.dcm")
        return {stack.phase: [whole] for stack in series.stacks if stack.phase}
    written: dict[str, list[Dataset]] = {}
    for index, _, instance in instances(exam, series):
        save(instance, folder / f"i{instance.InstanceNumber:04d}.dcm")
        if phase := series.stacks[index].phase:
            written.setdefault(phase, []).append(instance)
    return written


def save(dataset: Dataset, path: Path) -> None:
    """Write a dataset as a DICOM file, explicit little endian."""
    from pydicom.uid import ExplicitVRLittleEndian

    dataset.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
    assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def instances(exam: Exam, series: Series) -> Iterator[tuple[int, int, Dataset]]:
    """Index of the stack, of the slice in it, and the instance; slice after slice within a stack."""
    first = 0
    for index, (stack, scaling) in enumerate(zip(series.stacks, scalings_of(exam, series))):
        shared = _shared(exam, series, index, stack, scaling)
        slices = stack.volume.shape[2]
        for k in range(slices):
            place = k * len(series.stacks) + index if series.slices_first else first + k
            yield index, k, _instance(exam, series, shared, stack, scaling, index, k, place + 1)
        first += slices


def scalings_of(exam: Exam, series: Series) -> list[Scaling]:
    """One scaling a stack: Philips's differ between stacks, others have one for the whole exam."""
    for stack in series.stacks:
        _check(exam, stack)
    if exam.habit in ("philips", "enhanced"):
        return [_philips_scaling(stack, index) for index, stack in enumerate(series.stacks)]
    volumes = exam.images.values()
    whole = all(np.issubdtype(volume.array.dtype, np.integer) for volume in volumes)
    brightest = max(float(volume.array.max()) for volume in volumes)
    slope = 1.0 if (whole and brightest <= LARGEST) or brightest == 0.0 else brightest / LARGEST
    # as it will be read back from at most 16 characters
    return [Scaling(float(f"{slope:.10g}"))] * len(series.stacks)


def _philips_scaling(stack: Stack, index: int) -> Scaling:
    brightest = float(stack.volume.array.max())
    scale = float(np.float32(LARGEST / brightest)) if brightest > 0.0 else 1.0
    # the slope means nothing by itself; it differs between volumes so that nobody relies on it
    return Scaling(slope=round(1.25 + 0.5 * index, 2), scale_slope=scale)


def _check(exam: Exam, stack: Stack) -> None:
    what = f"study {exam.study_id}, {stack.phase or 'a derived image'}"
    array = stack.volume.array
    if array.size == 0:
        raise WriteError(f"{what}: the image is empty; leave the phase out")
    if not np.all(np.isfinite(array)) or array.min() < 0:
        raise WriteError(
            f"{what}: the image holds values that are below zero or not finite; MR magnitudes are needed"
        )
    axes = stack.volume.affine[:3, :3] / np.asarray(stack.volume.spacing_mm)
    if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-4:
        raise WriteError(f"{what}: the grid is sheared; resample it to one with axes at right angles")


@dataclass(frozen=True)
class Plane:
    """Where the slices of a stack lie, in DICOM's terms (mm; L, P, S)."""

    orientation: list[float]
    spacing: list[float]
    between_mm: float
    origin: NDArray[np.float64]
    step: NDArray[np.float64]

    @classmethod
    def of(cls, volume: Volume) -> Plane:
        """Rows run along the volume's first axis, columns along its second."""
        affine = LPS @ volume.affine
        along, down, through = volume.spacing_mm
        orientation = [*(affine[:3, 0] / along), *(affine[:3, 1] / down)]
        return cls(orientation, [down, along], through, affine[:3, 3], affine[:3, 2])

    def position(self, k: int) -> list[float]:
        """Centre of the first voxel of slice ``k``."""
        return [float(x) for x in self.origin + k * self.step]


def decimal(values: Any) -> Any:
    """Numbers as DICOM's decimal strings: at most 16 characters each."""
    from pydicom.valuerep import DSfloat

    if np.ndim(values) == 0:
        return DSfloat(float(values) + 0.0, auto_format=True)
    return [DSfloat(float(value) + 0.0, auto_format=True) for value in values]


def clock(seconds: float) -> str:
    """Seconds from midnight as a DICOM time, to a millisecond."""
    total = round(seconds * 1000.0) % 86_400_000
    whole, milliseconds = divmod(total, 1000)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{milliseconds:03d}000"


def common(exam: Exam, series: Series) -> Dataset:
    """Patient, study, series, frame of reference and equipment: the same in classic and enhanced files."""
    from pydicom.dataset import Dataset

    date = exam_date(exam).strftime("%Y%m%d")
    maker, model = MAKERS[exam.habit]
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = f"Virtual^Patient {exam.patient_id}"
    ds.PatientID = exam.patient_id
    born = exam_date(exam).year - 35 - exam.number("age", 45)
    ds.PatientBirthDate = f"{born}{1 + exam.number('month', 12):02d}{1 + exam.number('day', 28):02d}"
    ds.PatientSex = "FM"[exam.number("sex", 2)]
    ds.PatientWeight = decimal(weight_kg(exam))
    ds.StudyInstanceUID = exam.uid("study")
    ds.StudyDate, ds.StudyTime = date, clock(exam.start_s)
    ds.AccessionNumber = f"A{exam.number('accession', 10**9):09d}"
    ds.ReferringPhysicianName = "Virtual^Referrer"
    ds.StudyID = str(1 + exam.number("study number", 9999))
    ds.StudyDescription = "MR LIVER W WO CONTRAST"
    ds.Modality = "MR"
    ds.SeriesInstanceUID = exam.uid("series", series.number)
    ds.SeriesNumber = series.number
    ds.SeriesDate, ds.SeriesTime = date, clock(min(stack.time_s for stack in series.stacks))
    ds.SeriesDescription = series.description
    ds.ProtocolName = series.protocol
    ds.BodyPartExamined = "LIVER"
    ds.PatientPosition = "HFS"
    ds.OperatorsName = "Virtual^Operator"
    ds.FrameOfReferenceUID = exam.uid("frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer, ds.ManufacturerModelName = maker, model
    ds.InstitutionName = exam.institution
    ds.StationName = f"MR{exam.number('station', 90) + 10}"
    ds.DeviceSerialNumber = f"{exam.number('serial', 10**6):06d}"
    ds.SoftwareVersions = "mtinet"
    return ds


def exam_date(exam: Exam) -> datetime.date:
    """The day of the exam: a day of four years that its ids decide."""
    return datetime.date(2020, 1, 6) + datetime.timedelta(days=exam.number("date", 1460))


def weight_kg(exam: Exam) -> float:
    """The patient's weight as written; doses in millilitres follow from it."""
    return float(50 + exam.number("weight", 50))


def imaging_frequency_mhz(exam: Exam) -> float:
    """Precession of hydrogen in the scanner's field."""
    return round(_HYDROGEN_MHZ_T * exam.field_T, 4)


def file_meta(sop_class: str, instance_uid: str) -> Any:
    """The header of a DICOM file."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return meta


def set_pixels(ds: Dataset, frames: NDArray[np.uint16]) -> None:
    """The attributes of the pixels and the pixels themselves; frames run (..., rows, columns)."""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = (int(n) for n in frames.shape[-2:])
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    data = np.ascontiguousarray(frames, dtype="<u2").tobytes()
    ds.add_new(0x7FE00010, "OW", data + b"\0" * (len(data) % 2))


def _shared(exam: Exam, series: Series, index: int, stack: Stack, scaling: Scaling) -> Dataset:
    """What all slices of a stack have in common."""
    from pydicom.uid import MRImageStorage

    ds = common(exam, series)
    date = ds.StudyDate
    plane = Plane.of(stack.volume)
    ds.SOPClassUID = MRImageStorage
    ds.ImageType = list(series.image_type)
    ds.AcquisitionDate, ds.AcquisitionTime = date, clock(stack.time_s)
    ds.ContentDate, ds.ContentTime = date, clock(stack.time_s + 1.0)
    ds.AcquisitionNumber = index + 1 if series.temporal and exam.habit != "ge" else 1
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "GR", ["SP", "OSP"], "FS"
    ds.SequenceName = series.sequence
    ds.MRAcquisitionType = "3D" if stack.volume.shape[2] > 1 else "2D"
    ds.RepetitionTime, ds.EchoTime = decimal(exam.tr_ms), decimal(exam.te_ms)
    ds.EchoTrainLength, ds.NumberOfAverages = 1, decimal(1)
    ds.FlipAngle = decimal(exam.flip_deg)
    ds.MagneticFieldStrength = decimal(exam.field_T)
    ds.ImagingFrequency = decimal(imaging_frequency_mhz(exam))
    ds.ImagedNucleus = "1H"
    ds.SliceThickness = ds.SpacingBetweenSlices = decimal(plane.between_mm)
    ds.PixelSpacing = decimal(plane.spacing)
    ds.ImageOrientationPatient = decimal(plane.orientation)
    if stack.trigger_ms is not None:
        # the standard admits a trigger time with gating only; scanners write it all the same
        ds.ScanOptions = ["FS", "CG"]
        ds.TriggerTime = decimal(stack.trigger_ms)
    if series.temporal:
        ds.TemporalPositionIdentifier = index + 1
        ds.NumberOfTemporalPositions = len(series.stacks)
    if series.contrast:
        _set_contrast(ds, exam)
    brightest = float(stack.volume.array.max())
    if scaling.scale_slope is not None:
        add_scale_slope(ds, scaling.scale_slope)
        brightest *= scaling.slope * scaling.scale_slope
    if scaling.scale_slope is not None or scaling.slope != 1.0:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = decimal(0), decimal(scaling.slope), "US"
    ds.WindowCenter, ds.WindowWidth = decimal(round(brightest / 2, 3)), decimal(max(round(brightest, 3), 1))
    return ds


def add_scale_slope(ds: Dataset, scale_slope: float) -> None:
    """Philips's private scale slope and intercept."""
    block = ds.private_block(0x2005, PHILIPS_CREATOR, create=True)
    block.add_new(0x0D, "FL", 0.0)
    block.add_new(0x0E, "FL", scale_slope)


def agent_volume_ml(exam: Exam) -> float | None:
    """Millilitres of the agent's solution that make up the dose; None where it is not known."""
    if exam.dose_mmol_kg is None or exam.agent not in AGENTS:
        return None
    return round(exam.dose_mmol_kg * weight_kg(exam) / AGENTS[exam.agent][1], 3)


def _set_contrast(ds: Dataset, exam: Exam) -> None:
    name, _, mg_ml = AGENTS.get(exam.agent, (exam.agent, None, None))
    ds.ContrastBolusAgent, ds.ContrastBolusRoute = name, "IV"
    ds.ContrastBolusStartTime = clock(exam.injection_s)
    if (volume := agent_volume_ml(exam)) is not None:
        ds.ContrastBolusVolume = ds.ContrastBolusTotalDose = decimal(volume)
        ds.ContrastBolusIngredient = "GADOLINIUM"
        ds.ContrastBolusIngredientConcentration = decimal(mg_ml)


def _instance(
    exam: Exam,
    series: Series,
    shared: Dataset,
    stack: Stack,
    scaling: Scaling,
    index: int,
    k: int,
    number: int,
) -> Dataset:
    from pydicom.dataset import Dataset

    ds = Dataset()
    ds.update(shared)
    ds.SOPInstanceUID = exam.uid("instance", series.number, index, k)
    ds.file_meta = file_meta(ds.SOPClassUID, ds.SOPInstanceUID)
    ds.InstanceNumber = number
    position = Plane.of(stack.volume).position(k)
    ds.ImagePositionPatient = decimal(position)
    row, column = np.asarray(ds.ImageOrientationPatient, dtype=float).reshape(2, 3)
    ds.SliceLocation = decimal(round(float(np.dot(np.cross(row, column), position)), 4))
    set_pixels(ds, scaling.stored(stack.volume.array[:, :, k]).T)
    return ds
