"""A volume that may be a contrast phase, with what its name and attributes say."""

from __future__ import annotations

from dataclasses import dataclass

from mtinet.dicom.series import SeriesInfo, VolumeInfo
from mtinet.imaging.phases.names import Reading


@dataclass(frozen=True)
class Candidate:
    """A volume that may be a phase.

    Attributes
    ----------
    series : SeriesInfo
    volume, n_volumes : int
        Which of how many volumes of its series.
    rank, of : int
        Which of how many of them that may be a phase.
    n_slices : int
    reading : Reading
        What the name says.
    info : VolumeInfo or None
        None where only a table is known.
    counted : str
        How the number of volumes was found, in words; empty for one volume.
    """

    series: SeriesInfo
    volume: int
    n_volumes: int
    n_slices: int
    reading: Reading
    info: VolumeInfo | None = None
    rank: int = 0
    of: int = 1
    counted: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Series and volume."""
        return (self.series.series_uid, self.volume)
