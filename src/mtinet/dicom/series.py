"""What attributes say about the series of a study, and about the volumes in each: plain data.

It comes from DICOM files (:mod:`mtinet.dicom`) or from a table of series; phase identification
(:mod:`mtinet.imaging.phases`) reads nothing else.  What is not known is empty or None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mtinet.volume import Volume


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie.

    Attributes
    ----------
    shape : tuple of int
        Columns, rows, slices.
    spacing_mm : tuple of float
        Between columns, rows and slices.
    normal : tuple of float
        Unit normal of the slices in the patient's directions (L, P, S).
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    normal: tuple[float, float, float]


@dataclass(frozen=True)
class VolumeInfo:
    """One volume of a series: a stack of slices at one time.

    Attributes
    ----------
    index : int
        Its number in the series, from 0, in the order of acquisition.
    n_slices : int
    time_s : float or None
        When it was acquired, seconds from midnight (its earliest slice).
    trigger_time_ms : float or None
        Trigger time or frame reference time, where the series counts time by it.
    temporal_position : int or None
    echo_time_ms, repetition_time_ms, flip_angle_deg : float or None
    image_type : tuple of str
        For example ``("ORIGINAL", "PRIMARY", "M")``.
    grid : Grid or None
    load : callable or None
        Reads the voxels; it may raise a ``UserError``.
    """

    index: int
    n_slices: int
    time_s: float | None = None
    trigger_time_ms: float | None = None
    temporal_position: int | None = None
    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    flip_angle_deg: float | None = None
    image_type: tuple[str, ...] = ()
    grid: Grid | None = None
    load: Callable[[], Volume] | None = None


@dataclass(frozen=True)
class SeriesInfo:
    """One series of a study.

    Attributes
    ----------
    study_key : str
        What names the study in results: its instance UID, or the ``StudyKey`` of a table.
    series_uid : str
        The only key of a series: ``series_number`` repeats in real studies.
    series_number : str
    description, protocol, sequence : str
        SeriesDescription, ProtocolName, SequenceName.
    study_description, body_part, modality, manufacturer, model : str
    n_images : int
        Images (instances or frames) of the whole series.
    agent : str
        ContrastBolusAgent as written.
    agent_start_s : float or None
        ContrastBolusStartTime, seconds from midnight.
    field_T : float or None
    time_s : float or None
        When the series began, seconds from midnight, where a table says so; files say it for each volume.
    volumes : tuple of VolumeInfo
        Empty where only a table is known: how many volumes the images make must then be inferred.
    row : int or None
        Its place in a table that lists the study's series; files have none.
    """

    study_key: str
    series_uid: str
    series_number: str = ""
    description: str = ""
    protocol: str = ""
    sequence: str = ""
    study_description: str = ""
    body_part: str = ""
    modality: str = "MR"
    manufacturer: str = ""
    model: str = ""
    n_images: int = 0
    agent: str = ""
    agent_start_s: float | None = None
    field_T: float | None = None
    time_s: float | None = None
    volumes: tuple[VolumeInfo, ...] = ()
    row: int | None = None

    def acquired_s(self, volume: VolumeInfo) -> float | None:
        """When one of the volumes was acquired, s from midnight; None where it is not known.

        The trigger time counts where the acquisition time stands still (GE).
        """
        if volume.time_s is None:
            return None
        if len(self.volumes) > 1 and len({v.time_s for v in self.volumes}) == 1:
            triggers = {v.trigger_time_ms for v in self.volumes}
            if (
                len(triggers) == len(self.volumes)
                and volume.trigger_time_ms is not None
                and None not in triggers
            ):
                return volume.time_s + volume.trigger_time_ms / 1000.0
        return volume.time_s
