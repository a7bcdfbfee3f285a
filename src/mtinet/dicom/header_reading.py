"""A DICOM header from its file: vendors' and multi-frame attributes, times and pixel formats in one form.

:func:`read_header` runs in the child process of :mod:`mtinet.dicom.contained`, because a hostile header can
exhaust recursion, memory or time.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import IO, Any

from mtinet.dicom.attributes import finite, first, items, number, numbers, text, whole
from mtinet.dicom.deidentify import profile_tags
from mtinet.dicom.headers import (
    DICOMDIR,
    MASK_CLASSES,
    PHILIPS_CREATOR,
    Header,
    Identity,
    Image,
    PixelFormat,
)
from mtinet.dicom.times import date_and_seconds, days_between, seconds_from_midnight

MAX_FRAMES = 100_000

_DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT = "1.2.840.10008.1.2"

_STUDY = {
    "study_uid": "StudyInstanceUID",
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "birth_date": "PatientBirthDate",
    "sex": "PatientSex",
    "study_date": "StudyDate",
    "accession": "AccessionNumber",
    "study_description": "StudyDescription",
}
_SERIES = {
    "series_uid": "SeriesInstanceUID",
    "series_number": "SeriesNumber",
    "description": "SeriesDescription",
    "protocol": "ProtocolName",
    "sequence": "SequenceName",
    "body_part": "BodyPartExamined",
    "modality": "Modality",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "frame_of_reference_uid": "FrameOfReferenceUID",
    "agent": "ContrastBolusAgent",
    "burned_in": "BurnedInAnnotation",
}
_NAMES = ("PatientName", "PatientBirthName", "OtherPatientNames", "PatientMotherBirthName")
_STAFF = (
    *("ReferringPhysicianName", "ConsultingPhysicianName", "RequestingPhysician", "PhysiciansOfRecord"),
    *("PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName", "ContentCreatorName"),
    "ResponsiblePerson",
)
_IDS = ("AccessionNumber", "StudyID", "OtherPatientIDs", "InstitutionName", "StationName")
_DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate")


class NotDicomError(ValueError):
    """The file has no DICOM header that can be used."""


def read_header(stream: IO[bytes], size: int) -> Header:
    """Read a header; pixels are only located.

    Raises
    ------
    NotDicomError
        There is no header, or it lacks its class or its study or series.
    Exception
        Whatever pydicom raises on a damaged one.
    """
    import pydicom

    # all of it: to pick attributes out costs more, and the profile's have to be counted
    dataset: Any = pydicom.dcmread(stream, force=True, stop_before_pixels=True)
    meta = dataset.file_meta
    sop_class = text(dataset, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    if sop_class == DICOMDIR:
        return Header(sop_class, {}, {}, None, files=_listed_files(stream))
    study = {name: text(dataset, keyword) for name, keyword in _STUDY.items()}
    series = {name: text(dataset, keyword) for name, keyword in _SERIES.items()}
    if not sop_class:
        raise NotDicomError("it names no SOP class")
    if not study["study_uid"] or not series["series_uid"]:
        raise NotDicomError("it names no study or no series (StudyInstanceUID, SeriesInstanceUID)")
    series["sequence"] = series["sequence"] or text(dataset, "PulseSequenceName")
    agents = items(dataset, "ContrastBolusAgentSequence")
    if not series["agent"] and agents:
        series["agent"] = text(agents[0], "CodeMeaning")
    columns = number(dataset, "Columns")
    tags = profile_tags(int(tag) for tag in dataset.keys())  # noqa: SIM118 (to iterate would decode every element)
    identity = _identity(dataset)
    if sop_class in MASK_CLASSES or columns is None:
        return Header(sop_class, study, series, None, profile_tags=tags, identity=identity)
    pixel_format = _pixel_format(dataset, stream, size)
    return Header(
        sop_class,
        study,
        series,
        pixel_format,
        _images(dataset, pixel_format.frames, study["study_date"]),
        field_T=number(dataset, "MagneticFieldStrength"),
        agent_start_s=_agent_start_s(dataset, agents),
        agent_ml=_agent_ml(dataset, agents),
        weight_kg=number(dataset, "PatientWeight"),
        profile_tags=tags,
        identity=identity,
    )


def _identity(dataset: Any) -> Identity:
    """The values of what names somebody, each once."""

    def values(*places: tuple[Any, str]) -> tuple[str, ...]:
        told = (value for place, keyword in places for value in text(place, keyword).split("\\"))
        return tuple(dict.fromkeys(filter(None, told)))

    listed = [(item, "PatientID") for item in items(dataset, "OtherPatientIDsSequence")]
    return Identity(
        names=values(*((dataset, keyword) for keyword in _NAMES)),
        staff=values(*((dataset, keyword) for keyword in _STAFF)),
        ids=values(*((dataset, keyword) for keyword in _IDS), *listed),
        dates=values(*((dataset, keyword) for keyword in _DATES)),
    )


def _agent_start_s(dataset: Any, agents: Sequence[Any]) -> float | None:
    """Start of injection; enhanced files tell it in the profile of their first agent."""
    profiles = [p for agent in agents[:1] for p in items(agent, "ContrastAdministrationProfileSequence")]
    times = (
        seconds_from_midnight(text(place, "ContrastBolusStartTime")) for place in (dataset, *profiles[:1])
    )
    return next((time for time in times if time is not None), None)


def _agent_ml(dataset: Any, agents: Sequence[Any]) -> float | None:
    """Volume of agent; enhanced files tell it with their first agent."""
    places = (dataset, *agents[:1])
    return next(
        (
            volume
            for place in places
            if (volume := number(place, "ContrastBolusTotalDose") or number(place, "ContrastBolusVolume"))
        ),
        None,
    )


def _listed_files(stream: IO[bytes]) -> tuple[str, ...]:
    """Names that a DICOMDIR lists, with slashes."""
    import pydicom

    stream.seek(0)
    tags: list[Any] = ["DirectoryRecordSequence"]
    dataset: Any = pydicom.dcmread(stream, force=True, specific_tags=tags)
    names = []
    for record in items(dataset, "DirectoryRecordSequence"):
        parts = text(record, "ReferencedFileID").split("\\")
        if parts != [""]:
            names.append("/".join(parts))
    return tuple(names)


def _pixel_format(dataset: Any, stream: IO[bytes], size: int) -> PixelFormat:
    meta = dataset.file_meta
    implicit, little = dataset.original_encoding
    syntax = text(meta, "TransferSyntaxUID")
    if not syntax:  # no meta information: pydicom has guessed the encoding
        syntax = _IMPLICIT if implicit else ("1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2")
    native = syntax.startswith("1.2.840.10008.1.2") and syntax[17:] in ("", ".1", ".2")
    offset, length, present = None, 0, True
    if syntax != _DEFLATED:
        at = stream.tell()
        element = stream.read(12)
        present = len(element) == 12
        if present and native:
            offset = at + (8 if implicit else 12)
            order = "<" if little else ">"
            stated = struct.unpack(f"{order}L", element[4:8] if implicit else element[8:12])[0]
            length = min(int(stated), max(0, size - offset))
    allocated = whole(dataset, "BitsAllocated", 16)
    stored = whole(dataset, "BitsStored", allocated)
    return PixelFormat(
        syntax,
        rows=whole(dataset, "Rows", 0),
        columns=whole(dataset, "Columns", 0),
        frames=max(1, whole(dataset, "NumberOfFrames", 1)),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=whole(dataset, "HighBit", stored - 1),
        signed=whole(dataset, "PixelRepresentation", 0) == 1,
        samples=whole(dataset, "SamplesPerPixel", 1),
        big_endian=not little,
        offset=offset,
        length=length,
        present=present,
    )


def _images(dataset: Any, frames: int, study_date: str) -> tuple[Image, ...]:
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    if not groups:
        one = _image([dataset], dataset, study_date)
        uid, instance = one.pop("uid"), one.pop("number")
        if frames == 1:
            return (Image(uid, -1, instance, **one),)
        # frames without functional groups have no place of their own: only their number is known
        count = min(frames, MAX_FRAMES)
        known = {name: one[name] for name in ("image_type", "file_number")}
        return tuple(Image(uid, k, k + 1, **known) for k in range(count))
    if len(groups) != frames or frames > MAX_FRAMES:
        raise ValueError(f"it states {frames} frames and describes {len(groups)}")
    shared = items(dataset, "SharedFunctionalGroupsSequence")[:1]
    images = []
    for k, group in enumerate(groups):
        values = _image([*_macros([group, *shared]), dataset], dataset, study_date)
        uid = values.pop("uid")
        values.pop("number")
        images.append(Image(uid, k, k + 1, **values))
    return tuple(images)


_MACROS = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "FrameContentSequence",
    "MREchoSequence", "MRTimingAndRelatedParametersSequence", "MRImageFrameTypeSequence",
    "PixelValueTransformationSequence", "TemporalPositionSequence", "CardiacSynchronizationSequence",
)  # fmt: skip


def _macros(groups: Sequence[Any]) -> list[Any]:
    """The functional groups that tell of a frame, its own before the shared; Philips' private one too."""
    found = []
    for group in groups:
        found.append(group)
        for keyword in _MACROS:
            found += items(group, keyword)[:1]
        found += items(group, (0x2005, 0x140F))[:1]
    return found


def _image(places: Sequence[Any], dataset: Any, study_date: str) -> dict[str, Any]:
    """What is known of an image; the first of ``places`` that has an attribute gives it."""
    position = numbers(places, "ImagePositionPatient", 3)
    time_s = _time(places, study_date)
    slope = first(places, "RescaleSlope")
    intercept = first(places, "RescaleIntercept")
    trigger = first(places, "NominalCardiacTriggerDelayTime", "TriggerTime", "FrameReferenceTime")
    offset_s = first(places, "TemporalPositionTimeOffset")
    begin_s = offset_s if offset_s is not None else _philips(places, 0xA0)
    if not trigger and begin_s is not None:  # a trigger of 0 in all images tells nothing
        trigger = 1000.0 * begin_s
    real_world, unit = _real_world(places)
    temporal = first(places, "TemporalPositionIndex", "TemporalPositionIdentifier")
    acquisition = first(places, "FrameAcquisitionNumber", "AcquisitionNumber")
    frame_type = next((t for p in places if (t := text(p, "FrameType"))), "") or text(dataset, "ImageType")
    return {
        "uid": text(dataset, "SOPInstanceUID") or text(dataset.file_meta, "MediaStorageSOPInstanceUID"),
        "number": whole(dataset, "InstanceNumber", 0),
        "file_number": whole(dataset, "InstanceNumber", 0),
        "position": position,
        "orientation": numbers(places, "ImageOrientationPatient", 6),
        "spacing": numbers(places, "PixelSpacing", 2),
        "thickness_mm": first(places, "SpacingBetweenSlices") or first(places, "SliceThickness"),
        "time_s": time_s,
        "trigger_ms": trigger,
        "temporal_position": None if temporal is None else int(temporal),
        "acquisition_number": None if acquisition is None else int(acquisition),
        "echo_time_ms": first(places, "EffectiveEchoTime", "EchoTime"),
        "repetition_time_ms": first(places, "RepetitionTime"),
        "flip_angle_deg": first(places, "FlipAngle"),
        "image_type": tuple(frame_type.split("\\")) if frame_type else (),
        "rescale": None if slope is None else (slope, intercept or 0.0),
        "real_world": real_world,
        "real_world_unit": unit,
        "scale_slope": _philips(places, 0x0E),
    }


def _time(places: Sequence[Any], study_date: str) -> float | None:
    """Acquisition time in seconds from the midnight before the study's date."""
    day, time_s = "", None
    for place in places:
        for keyword in ("FrameAcquisitionDateTime", "FrameReferenceDateTime", "AcquisitionDateTime"):
            if time_s is None:
                day, time_s = date_and_seconds(text(place, keyword))
        if time_s is None:
            time_s = seconds_from_midnight(text(place, "AcquisitionTime"))
            day = text(place, "AcquisitionDate") if time_s is not None else ""
    if time_s is None:
        return None
    # a study may run past midnight; other distances are dates that somebody has changed
    return time_s + 86400.0 if days_between(study_date, day) == 1 else time_s


def _real_world(places: Sequence[Any]) -> tuple[tuple[float, float] | None, str]:
    for place in places:
        for item in items(place, "RealWorldValueMappingSequence"):
            slope, intercept = number(item, "RealWorldValueSlope"), number(item, "RealWorldValueIntercept")
            if slope:
                units = items(item, "MeasurementUnitsCodeSequence")
                return (slope, intercept or 0.0), text(units[0], "CodeValue") if units else ""
    return None, ""


def _philips(places: Sequence[Any], element: int) -> float | None:
    """A number of Philips' private group (2005,xx__), whichever block its creator has reserved."""
    for place in places:
        blocks = [b for b in range(0x10, 0x20) if (0x2005, b) in place]
        ours = [b for b in blocks if text(place, (0x2005, b)).startswith(PHILIPS_CREATOR)]
        # some anonymisers drop the creators and leave the numbers in their usual place
        for block in ours or ([] if blocks else [0x10]):
            tag = (0x2005, block << 8 | element)
            if tag in place:
                value = place[tag].value
                if (
                    isinstance(value, bytes) and len(value) == 4
                ):  # VR UN: stored by somebody who did not know it
                    value = struct.unpack("<f", value)[0]
                found = finite(value)
                if found is not None:
                    return found
    return None
