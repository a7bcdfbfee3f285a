"""Small DICOM files of known content, and a small exam without symmetry."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from mtinet.dicom.exam import Exam
from mtinet.volume import Volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass
class SeriesWriter:
    """Writes a series of single-frame MR images; ``common`` holds attributes of all images."""

    folder: Path
    common: dict[str, Any] = field(default_factory=dict)
    study_uid: str = "1.2.826.0.1.3680043.8.498.1"
    orientation: tuple[float, ...] = AXIAL
    spacing: tuple[float, float] = (1.25, 1.5)
    step_mm: float = 3.0
    shape: tuple[int, int] = (6, 8)
    origin: tuple[float, float, float] = (-12.5, -80.0, 33.0)

    def __post_init__(self) -> None:
        self.series_uid = generate_uid()
        self.count = 0
        self.folder.mkdir(parents=True, exist_ok=True)

    def normal(self) -> np.ndarray:
        return np.cross(self.orientation[:3], self.orientation[3:])

    def add(self, place: float, value: int | np.ndarray = 0, suffix: str = ".dcm", **attributes: Any) -> Path:
        """One image at ``place`` steps along the normal; ``value`` fills it or is its pixels."""
        self.count += 1
        dataset = new_dataset(MRImageStorage)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = self.study_uid, self.series_uid
        dataset.PatientID, dataset.Modality, dataset.SeriesNumber = "007", "MR", 5
        dataset.InstanceNumber = self.count
        dataset.ImageOrientationPatient = [f"{v:.12g}" for v in self.orientation]
        position = np.array(self.origin) + self.normal() * self.step_mm * place
        dataset.ImagePositionPatient = [f"{v:.12g}" for v in position]
        dataset.PixelSpacing = list(self.spacing)
        pixels = np.full(self.shape, value, np.uint16) if np.isscalar(value) else np.asarray(value)
        set_pixels(dataset, pixels)
        for keyword, setting in {**self.common, **attributes}.items():
            setattr(dataset, keyword, setting)
        path = self.folder / f"{self.series_uid[-6:]}_{self.count:04d}{suffix}"
        dataset.save_as(path, enforce_file_format=True)
        return path


def new_dataset(sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    return dataset


def set_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"))).tobytes()


def enhanced(frames: list[dict[str, Any]], pixels: np.ndarray, **attributes: Any) -> FileDataset:
    """An enhanced MR file; each frame: position, and optionally temporal, datetime, rescale, scale_slope."""
    dataset = new_dataset(EnhancedMRImageStorage)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.2", generate_uid()
    dataset.PatientID, dataset.Modality, dataset.NumberOfFrames = "NO", "MR", len(frames)
    set_pixels(dataset, pixels)
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(AXIAL)
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [1.25, 1.5]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for frame in frames:
        group = Dataset()
        group.PlanePositionSequence = [Dataset()]
        group.PlanePositionSequence[0].ImagePositionPatient = list(frame["position"])
        content = Dataset()
        if "temporal" in frame:
            content.TemporalPositionIndex = frame["temporal"]
        if "datetime" in frame:
            content.FrameAcquisitionDateTime = frame["datetime"]
        group.FrameContentSequence = [content]
        if "rescale" in frame:
            transform = Dataset()
            transform.RescaleSlope, transform.RescaleIntercept = frame["rescale"]
            group.PixelValueTransformationSequence = [transform]
        if "scale_slope" in frame:
            item = Dataset()
            item.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(
                0x0E, "FL", frame["scale_slope"]
            )
            private = group.private_block(0x2005, "Philips MR Imaging DD 005", create=True)
            # the standard block of this sequence is 14: (2005,140F)
            group.add_new(0x20050014, "LO", "Philips MR Imaging DD 005")
            del group[private.get_tag(0x00) & 0xFFFF0000 | 0x10]
            group.add_new(0x2005140F, "SQ", [item])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    for keyword, setting in attributes.items():
        setattr(dataset, keyword, setting)
    return dataset


@pytest.fixture
def series_writer(tmp_path):
    """``SeriesWriter`` in a folder of its own."""

    def make(name: str = "dicom", **settings: Any) -> SeriesWriter:
        return SeriesWriter(tmp_path / name, **settings)

    return make


@pytest.fixture(scope="session")
def enhanced_maker():
    """``enhanced``: a multi-frame file from a list of frames."""
    return enhanced


@pytest.fixture(scope="session")
def real_file():
    """Path of one of pydicom's test files; skipped where it is not installed."""

    def find(name: str) -> Path:
        found = pydicom.data.get_testdata_file(name, download=False)
        if found is None:
            pytest.skip(f"{name} comes with pydicom-data, which is not installed")
        return Path(found)

    return find


TIMES = {"arterial": 26.0, "portal_venous": 65.0, "delayed": 180.0, "hepatobiliary": 1200.0}


def make_exam(
    habit="siemens", affine=None, shape=(22, 18, 5), phases=("pre", *TIMES), seed=0, **values
) -> Exam:
    """An exam of noise about a gradient: no flip or exchange of axes leaves it as it is."""
    rng = np.random.default_rng(seed)
    if affine is None:
        affine = np.diag([-2.5, -2.0, 4.0, 1.0])
        affine[:3, 3] = (31.5, -12.25, 80.125)
    i, j, k = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    images = {
        phase: Volume(
            (100.0 * n + 3 * i + 7 * j + 11 * k + rng.integers(0, 40, shape)).astype(np.int16), affine
        )
        for n, phase in enumerate(phases, start=1)
    }
    facts = {"patient_id": "007", "study_id": "st1", "institution": "Site A", "dose_mmol_kg": 0.1, **values}
    return Exam(
        habit=habit, images=images, times_s={p: TIMES[p] for p in phases if p != "pre"}, seed=seed, **facts
    )


@pytest.fixture(scope="session")
def exam_maker():
    """``make_exam``."""
    return make_exam


def in_world(volume: Volume) -> dict[tuple[float, float, float], float]:
    """Value by world position, to 0.01 mm."""
    index = np.indices(volume.shape).reshape(3, -1)
    places = (volume.affine[:3, :3] @ index).T + volume.affine[:3, 3]
    return dict(zip(map(tuple, np.round(places, 2) + 0.0), volume.array.ravel().tolist(), strict=True))


@pytest.fixture(scope="session")
def verify():
    """Errors of ``dciodvfy`` for a file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")

    def errors(path: Path) -> list[str]:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        said = (done.stderr + done.stdout).splitlines()
        assert any(line and not line.startswith(("Error", "Warning")) for line in said), said
        return [line for line in said if line.startswith("Error")]

    return errors
