"""A result as a DICOM structured report: measurements with units and codes, for archives and registries.

The report is a Comprehensive 3D SR of template TID 1500 (measurement report): one group a lesion, and one for
what holds of the whole study.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtinet.dicom import codes
from mtinet.dicom.made import MAKER, REPORT_SERIES, Software, making, shared_arguments
from mtinet.dicom.origin import Origin, without_doubles
from mtinet.results import Finding, Lesion, Measurement, Result

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def structured_report(
    result: Result,
    origin: Origin,
    software: Software,
    class_codes: Mapping[str, str],
    seg: Dataset | None,
) -> Dataset:
    """A measurement report on a result.

    Parameters
    ----------
    result : Result
    origin : Origin
        The instances of its phases; all are listed as evidence.
    software : Software
    class_codes : mapping of str to str
        SNOMED CT code by class, where the cohort gave one.
    seg : Dataset or None
        The segmentation of the same result (:func:`mtinet.dicom.seg_out.segmentation`), whose segments the
        lesions' groups refer to.  Without one they refer to the images.

    Raises
    ------
    OriginError
        The images cannot be read, or lack what a report needs.
    """
    sources = origin.instances(result.reference_phase)
    others = origin.others(result.reference_phase)
    with making("DICOM SR", result.study_id):
        return _report(result, sources, others, software, class_codes, seg)


def _report(
    result: Result,
    sources: Sequence[Dataset],
    others: Sequence[Dataset],
    software: Software,
    class_codes: Mapping[str, str],
    seg: Dataset | None,
) -> Dataset:
    import highdicom as hd
    from pydicom.sr.codedict import codes as standard

    device = hd.sr.ObserverContext(
        observer_type=standard.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(software.device_uid()), name=MAKER, manufacturer_name=MAKER, model_name=MAKER
        ),
    )
    algorithm = hd.sr.AlgorithmIdentification(
        name=MAKER, version=software.text, family=standard.cid7162.ArtificialIntelligence
    )
    groups = [_study_group(result, sources, algorithm, software)]
    groups += [
        _lesion_group(lesion, sources, seg, algorithm, software, class_codes) for lesion in result.lesions
    ]
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.MRI.coded,
        imaging_measurements=groups,
        title=standard.DCM.ImagingMeasurementReport,
        language_of_content_item_and_descendants=hd.sr.LanguageOfContentItemAndDescendants(
            codes.ENGLISH.coded
        ),
    )
    evidence = [*sources, *others, *([] if seg is None else [seg])]
    report: Dataset = hd.sr.Comprehensive3DSR(
        evidence=without_doubles(evidence),
        content=content[0],
        is_complete=True,
        is_final=False,
        is_verified=False,
        **shared_arguments(software, REPORT_SERIES, "mtinet measurements (research use only)"),
    )
    return report


def _study_group(result: Result, sources: Sequence[Dataset], algorithm: Any, software: Software) -> Any:
    """What holds of the whole study: permitted use, flags, measurements of liver and aorta, no lesion."""
    import highdicom as hd

    said = [_said(codes.USE, codes.RESEARCH)]
    if not result.lesions:
        said.append(_said(codes.SEARCH, codes.NO_LESION_OF_READER if software.reader else codes.NO_LESION))
    said += [_said(codes.FLAG, flag) for flag in _flags(result.findings)]
    numbers, signs = _split(result.measurements)
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=software.tracking_uid(sources[0], "study"), identifier="Study"
        ),
        finding_type=codes.FINDING.coded,
        finding_sites=[hd.sr.FindingSite(codes.LIVER.coded)],
        algorithm_id=algorithm,
        measurements=[_number(m) for m in numbers],
        qualitative_evaluations=[*said, *signs],
        source_images=_source_images(sources),
    )


def _flags(findings: Sequence[Finding]) -> list[codes.Concept]:
    """What a reader has to know, each once; notes of the import (a file held twice) are none of it."""
    told = [f for f in findings if f.severity != "note" or f.stage == "predict"]
    return list(dict.fromkeys(codes.private(f.id, f.meaning) for f in told))


def _lesion_group(
    lesion: Lesion,
    sources: Sequence[Dataset],
    seg: Dataset | None,
    algorithm: Any,
    software: Software,
    class_codes: Mapping[str, str],
) -> Any:
    import highdicom as hd

    tracking_id, tracking_uid = software.tracking(sources[0], lesion)
    numbers, signs = _split(codes.lesion_quantities(lesion))
    probabilities, said = [], []
    if lesion.is_named:
        probabilities = [
            (codes.probability_concept(name), 100.0 * value) for name, value in lesion.probabilities.items()
        ]
        said = [_said(codes.PREDICTED_CLASS, codes.class_concept(lesion.label, class_codes))]
    if lesion.certainty is not None and lesion.certainty.class_set is not None:
        said += [
            _said(codes.CLASS_SET, codes.class_concept(name, class_codes))
            for name in lesion.certainty.class_set
        ]
    shared = {
        "tracking_identifier": hd.sr.TrackingIdentifier(uid=tracking_uid, identifier=tracking_id),
        "finding_category": codes.ABNORMAL.coded,
        "finding_type": codes.LESION.coded,
        "finding_sites": [hd.sr.FindingSite(codes.LIVER.coded)],
        "algorithm_id": algorithm,
        "measurements": [
            *(_number(m) for m in numbers),
            *(_value(name, value, codes.Concept("%", "UCUM", "Percent")) for name, value in probabilities),
        ],
        "qualitative_evaluations": [*said, *signs],
    }
    place = None if seg is None else _place(seg, str(tracking_uid))
    if seg is None or place is None:
        return hd.sr.MeasurementsAndQualitativeEvaluations(**shared, source_images=_source_images(sources))
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        **shared,
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=place,
            source_series=hd.sr.SourceSeriesForSegmentation(sources[0].SeriesInstanceUID),
        ),
    )


def _place(seg: Dataset, tracking_uid: str) -> int | None:
    """Number of the segment that tracks a lesion."""
    return next(
        (int(item.SegmentNumber) for item in seg.SegmentSequence if str(item.TrackingUID) == tracking_uid),
        None,
    )


def _split(measurements: Sequence[Measurement]) -> tuple[list[Measurement], list[Any]]:
    """Numbers, and evaluations in words (signs, kinds, and what is not assessable)."""
    numbers, signs = [], []
    for item in measurements:
        if item.value is not None and math.isfinite(item.value):
            numbers.append(item)
        elif item.finding:
            signs.append(_said(codes.concept_of(item), codes.outcome_of(item)))
    return numbers, signs


def _said(name: codes.Concept, value: codes.Concept) -> Any:
    import highdicom as hd

    return hd.sr.QualitativeEvaluation(name=name.coded, value=value.coded)


def _number(measurement: Measurement) -> Any:
    assert measurement.value is not None
    return _value(codes.concept_of(measurement), measurement.value, codes.unit_of(measurement))


def _value(name: codes.Concept, value: float, unit: codes.Concept) -> Any:
    import highdicom as hd

    # a decimal string holds 16 characters: eight digits are more than any of these is known to
    return hd.sr.Measurement(name=name.coded, value=float(f"{value:.8g}"), unit=unit.coded)


def _source_images(sources: Sequence[Dataset]) -> list[Any]:
    import highdicom as hd

    return [hd.sr.SourceImageForMeasurementGroup.from_source_image(source) for source in sources]
