"""What a DICOM header says about its images, as plain data.

:func:`mtinet.dicom.header_reading.read_header` makes it in a child process, and :meth:`Header.from_plain` takes
the answer on the other side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

DICOMDIR = "1.2.840.10008.1.3.10"
"""SOP class of a medium's directory."""

MASK_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
}
"""Kind of mask by SOP class: segmentation (and label map segmentation), structure set."""

PHILIPS_CREATOR = "Philips MR Imaging DD 001"
"""Private creator of the block (2005,xx__) with the scale slope."""


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels of a file are stored; ``offset`` is None where they must be decoded.

    ``length`` is the number of bytes that lie in the file from ``offset`` on, as far as the header states it.
    """

    syntax: str
    rows: int
    columns: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    samples: int
    big_endian: bool = False
    offset: int | None = None
    length: int = 0
    present: bool = True


@dataclass(frozen=True)
class Image:
    """One image: a single-frame file, or a frame of a multi-frame file.

    Attributes
    ----------
    uid : str
        SOPInstanceUID of its file.
    frame : int
        From 0; -1 for a single-frame file.
    number : int
        InstanceNumber, or the frame's place in the file.
    position, orientation : tuple of float or None
        ImagePositionPatient (mm), ImageOrientationPatient.
    spacing : tuple of float or None
        PixelSpacing: between rows, between columns, mm.
    thickness_mm : float or None
        SpacingBetweenSlices, else SliceThickness.
    time_s : float or None
        Seconds from the midnight before the study's date.
    trigger_ms : float or None
        NominalCardiacTriggerDelayTime, TriggerTime, FrameReferenceTime or the offset of the temporal position.
    temporal_position, acquisition_number : int or None
    echo_time_ms, repetition_time_ms, flip_angle_deg : float or None
    image_type : tuple of str
        FrameType, else ImageType.
    rescale, real_world : tuple of float or None
        Slope and intercept.
    real_world_unit : str
        Code of the unit of ``real_world``.
    scale_slope : float or None
        Philips' private (2005,100E).
    file_number : int
        InstanceNumber of its file, also where that has many frames.
    """

    uid: str
    frame: int
    number: int
    position: tuple[float, float, float] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, float] | None = None
    thickness_mm: float | None = None
    time_s: float | None = None
    trigger_ms: float | None = None
    temporal_position: int | None = None
    acquisition_number: int | None = None
    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    flip_angle_deg: float | None = None
    image_type: tuple[str, ...] = ()
    rescale: tuple[float, float] | None = None
    real_world: tuple[float, float] | None = None
    real_world_unit: str = ""
    scale_slope: float | None = None
    file_number: int = 0


@dataclass(frozen=True)
class Identity:
    """What files name people and their examination by: to be known in texts, and never written.

    Attributes
    ----------
    names, staff : tuple of str
        Names of the patient, of those who cared for the patient and of those who worked on the files.
    ids : tuple of str
        Numbers and names of the examination and its places, and further ids of the patient.
    dates : tuple of str
        ``YYYYMMDD``.
    """

    names: tuple[str, ...] = ()
    staff: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()

    @classmethod
    def union(cls, parts: Iterable[Identity]) -> Identity:
        """What any of several files tells, each once."""
        distinct = list(dict.fromkeys(parts))
        return cls(
            **{
                field.name: tuple(
                    dict.fromkeys(text for one in distinct for text in getattr(one, field.name))
                )
                for field in fields(cls)
            }
        )


NOBODY = Identity()


@dataclass(frozen=True)
class Header:
    """All that is read of one file.

    Attributes
    ----------
    sop_class : str
        SOPClassUID.
    study, series : dict of str to str
        Texts of the study's and the series' attributes.
    format : PixelFormat or None
        None where the file holds no image.
    images : tuple of Image
    field_T : float or None
    agent_start_s : float or None
        Start of the injection, seconds from midnight.
    agent_ml, weight_kg : float or None
    files : tuple of str
        Names that a DICOMDIR lists.
    profile_tags : tuple of int
        Attributes that de-identification removes or replaces, a private one for all private ones.
    identity : Identity
    """

    sop_class: str
    study: dict[str, str]
    series: dict[str, str]
    format: PixelFormat | None
    images: tuple[Image, ...] = ()
    field_T: float | None = None
    agent_start_s: float | None = None
    agent_ml: float | None = None
    weight_kg: float | None = None
    files: tuple[str, ...] = field(default=())
    profile_tags: tuple[int, ...] = ()
    identity: Identity = NOBODY

    def to_plain(self) -> dict[str, Any]:
        """In JSON's types."""
        return {
            **{k: v for k, v in self.__dict__.items() if k not in ("format", "images", "identity")},
            "identity": asdict(self.identity),
            "format": asdict(self.format) if self.format else None,
            "images": [image.__dict__ for image in self.images],
        }

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Header:
        """The reverse of :meth:`to_plain`."""
        images = tuple(Image(**_tuples(image)) for image in values["images"])
        pixel_format = PixelFormat(**values["format"]) if values["format"] else None
        lists = {name: tuple(values[name]) for name in ("files", "profile_tags")}
        identity = Identity(**_tuples(values["identity"]))
        return cls(**{**values, **lists, "images": images, "format": pixel_format, "identity": identity})


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists only."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
