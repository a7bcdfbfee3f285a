"""Write lesions as a DICOM segmentation: one binary segment a lesion, with its coded finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtinet.cohort.tables import SNOMED_CT
from mtinet.dicom.enhanced import frame_numbers
from mtinet.dicom.exam import Exam
from mtinet.dicom.habits import series_of
from mtinet.dicom.write import save
from mtinet.volume import LPS, Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LESION = ("52988006", "Lesion")
"""SNOMED CT code of a lesion whose class has none."""

_SERIES = 900


def write_lesions(
    folder: Path, exam: Exam, sources: Sequence[Dataset], mask: Volume, labels: Mapping[int, str]
) -> Path:
    """Write the lesions of a mask as a segmentation of the images that it was drawn on.

    Parameters
    ----------
    folder : Path
        The study's; the file is ``s900/i0001.dcm`` in it.
    exam : Exam
    sources : sequence of Dataset
        The instances of the exam's reference phase, on whose grid the mask lies, as
        :func:`~mtinet.dicom.write.write_exam` gives them back.
    mask : Volume
        Lesion numbers 1..K; at least one voxel is not 0.
    labels : dict
        Class by lesion number; others are plain lesions.

    Returns
    -------
    Path
        The file.
    """
    import highdicom as hd

    numbers = [int(n) for n in np.unique(mask.array) if n > 0]
    stacked = np.stack([mask.array == n for n in numbers], axis=-1).astype(np.uint8)
    volume = hd.Volume(
        stacked,
        LPS @ mask.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=sources[0].FrameOfReferenceUID,
        channels={"SegmentNumber": list(range(1, len(numbers) + 1))},
    )
    # slices first, then rows: a segmentation's frames
    volume = volume.permute_spatial_axes([2, 1, 0])
    dataset = hd.seg.Segmentation(
        source_images=list(sources),
        pixel_array=volume,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _segment(exam, place, number, labels.get(number, ""))
            for place, number in enumerate(numbers, start=1)
        ],
        series_instance_uid=exam.uid("series", _SERIES),
        series_number=_SERIES,
        sop_instance_uid=exam.uid("instance", _SERIES),
        instance_number=1,
        manufacturer="mtinet",
        manufacturer_model_name="mtinet",
        software_versions="mtinet",
        device_serial_number="0",
        content_label="LESIONS",
        content_description="Lesions, numbered",
        series_description="Lesions",
    )
    _set_moment(dataset, exam, sources[0])
    if "PerFrameFunctionalGroupsSequence" in sources[0]:
        _keep_frames(dataset, _frames(exam))
    path = folder / f"s{_SERIES}" / "i0001.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(dataset, path)
    return path


def _segment(exam: Exam, place: int, number: int, label: str) -> Any:
    import highdicom as hd

    code, meaning = (SNOMED_CT[label], label) if label in SNOMED_CT else LESION
    return hd.seg.SegmentDescription(
        segment_number=place,
        segment_label=f"lesion {number}" + (f" {label}" if label else ""),
        segmented_property_category=hd.sr.CodedConcept(
            "49755003", "SCT", "Morphologically abnormal structure"
        ),
        segmented_property_type=hd.sr.CodedConcept(code, "SCT", meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=exam.uid("lesion", number),
        tracking_id=f"{exam.study_id} lesion {number}",
    )


def _set_moment(dataset: Dataset, exam: Exam, source: Dataset) -> None:
    """The exam's own moment and UIDs instead of those of writing: the same exam gives the same bytes."""
    for name in ("Content", "Series", "InstanceCreation"):
        setattr(dataset, f"{name}Date", source.StudyDate)
        setattr(dataset, f"{name}Time", source.ContentTime)
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = source.StudyDate + source.ContentTime
    uid = exam.uid("dimensions", _SERIES)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _frames(exam: Exam) -> set[int]:
    """Numbers, from 1, of the frames of the reference phase."""
    phase = exam.reference_phase
    series = next(series for series in series_of(exam) if phase in [stack.phase for stack in series.stacks])
    return set(frame_numbers(series, phase))


def _keep_frames(dataset: Dataset, frames: set[int]) -> None:
    """Refer to the frames of the phase only: other frames of the source lie at the same places."""
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            derivation.SourceImageSequence = [
                item for item in derivation.SourceImageSequence if item.ReferencedFrameNumber in frames
            ]
