"""A result's lesions as a DICOM segmentation of the images that they were found on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtinet.dicom import codes
from mtinet.dicom.made import MAKER, SEGMENTATION_SERIES, Software, making, shared_arguments
from mtinet.dicom.origin import Origin
from mtinet.results import Lesion, Result
from mtinet.volume import LPS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 114, 178))
"""Recommended colours of the segments, in turn; they stay apart for colour-blind readers (Okabe and Ito)."""


def segmentation(
    result: Result, origin: Origin, software: Software, class_codes: Mapping[str, str]
) -> Dataset | None:
    """A binary segmentation with one segment a lesion; None where there is no lesion.

    Parameters
    ----------
    result : Result
        With its mask.
    origin : Origin
        The instances of its phases.
    software : Software
    class_codes : mapping of str to str
        SNOMED CT code by class, where the cohort gave one.

    Returns
    -------
    Dataset or None
        Segment k is the k-th lesion of the result; its label and tracking id name the lesion's number.

    Raises
    ------
    OriginError
        The mask does not lie on these images, or they lack what a segmentation needs.
    """
    mask = origin.mask(result)
    drawn = set(np.unique(mask.array).tolist())
    lesions = [lesion for lesion in result.lesions if lesion.number in drawn]
    if not lesions:
        return None
    sources = origin.instances(result.reference_phase)
    with making("DICOM SEG", result.study_id):
        dataset = _segmentation(lesions, mask.array, LPS @ mask.affine, sources, software, class_codes)
        frames = origin.frames(result.reference_phase)
        if frames and "PerFrameFunctionalGroupsSequence" in sources[0]:
            _keep_frames(dataset, frames)
    return dataset


def _segmentation(
    lesions: Sequence[Lesion],
    array: Any,
    affine_lps: Any,
    sources: Sequence[Dataset],
    software: Software,
    class_codes: Mapping[str, str],
) -> Dataset:
    import highdicom as hd

    volume = hd.Volume(
        np.stack([array == lesion.number for lesion in lesions], axis=-1).astype(np.uint8),
        affine_lps,
        coordinate_system="PATIENT",
        frame_of_reference_uid=sources[0].FrameOfReferenceUID,
        channels={"SegmentNumber": list(range(1, len(lesions) + 1))},
    )
    dataset: Dataset = hd.seg.Segmentation(
        source_images=list(sources),
        # slices first, then rows: a segmentation's frames
        pixel_array=volume.permute_spatial_axes([2, 1, 0]),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _segment(place, lesion, sources[0], software, class_codes)
            for place, lesion in enumerate(lesions, start=1)
        ],
        content_label="LESIONS",
        content_description=f"Liver lesions {'outlined by a reader' if software.reader else 'found by software'}",
        **shared_arguments(software, SEGMENTATION_SERIES, "mtinet lesions (research use only)"),
    )
    return dataset


def _segment(
    place: int, lesion: Lesion, source: Dataset, software: Software, class_codes: Mapping[str, str]
) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes as standard

    tracking_id, tracking_uid = software.tracking(source, lesion)
    kinds = hd.seg.SegmentAlgorithmTypeValues
    red, green, blue = _COLOURS[(place - 1) % len(_COLOURS)]
    return hd.seg.SegmentDescription(
        segment_number=place,
        segment_label=tracking_id,
        segmented_property_category=codes.ABNORMAL.coded,
        segmented_property_type=codes.class_concept(lesion.label, class_codes).coded,
        algorithm_type=kinds.SEMIAUTOMATIC if software.reader else kinds.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=MAKER, family=standard.cid7162.ArtificialIntelligence, version=software.text
        ),
        tracking_id=tracking_id,
        tracking_uid=tracking_uid,
        anatomic_regions=[codes.LIVER.coded],
        display_color=hd.color.CIELabColor.from_rgb(red, green, blue),
    )


def _keep_frames(dataset: Dataset, frames: frozenset[int]) -> None:
    """Refer to the frames of the phase only: other frames of the source lie at the same places."""
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence", []):
            derivation.SourceImageSequence = [
                item
                for item in derivation.SourceImageSequence
                if item.get("ReferencedFrameNumber") is None or item.ReferencedFrameNumber in frames
            ]
