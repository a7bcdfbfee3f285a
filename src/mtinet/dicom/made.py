"""What all DICOM files that mtinet makes of a result have in common: who made them, and whose they are."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtinet.dicom.origin import OriginError
from mtinet.dicom.quiet import silence
from mtinet.results import Lesion

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAKER = "mtinet"
SEGMENTATION_SERIES, REPORT_SERIES, PAGE_SERIES = 9001, 9002, 9003
"""Numbers of the series that are added to a study; scanners number theirs below."""


@dataclass(frozen=True)
class Software:
    """What predicted a result.

    Attributes
    ----------
    version : str
        Of mtinet.
    model : str
        Digest of the model's weights and settings.
    reader : str
        Digest of the mask where a reader outlined the lesions; empty where the software found them.
    """

    version: str
    model: str
    reader: str = ""

    @property
    def text(self) -> str:
        """Version and model in one line."""
        return f"{self.version or 'unknown'}, model {self.model[:12] or 'unknown'}"

    def tracking(self, source: Dataset, lesion: Lesion) -> tuple[str, str]:
        """Tracking id and UID of a lesion: the same in every file that is made of one result."""
        return f"Lesion {lesion.number}", self.tracking_uid(source, str(lesion.number))

    def tracking_uid(self, source: Dataset, what: str) -> str:
        """UID of something that this model found, or a reader drew, in the study of an instance."""
        from pydicom.uid import generate_uid

        # a reader's lesion 1 need not be the software's
        drawn = [self.reader] if self.reader else []
        sources = [str(source.StudyInstanceUID), self.version, self.model, what, *drawn]
        return str(generate_uid(entropy_srcs=sources))

    def device_uid(self) -> str:
        """A UID that stands for this model."""
        from pydicom.uid import generate_uid

        return str(generate_uid(entropy_srcs=[MAKER, self.version, self.model]))


def shared_arguments(software: Software, series_number: int, description: str) -> dict[str, Any]:
    """What highdicom wants to know of every instance."""
    import highdicom as hd

    return {
        "series_instance_uid": hd.UID(),
        "series_number": series_number,
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": MAKER,
        "software_versions": software.version or "unknown",
        "device_serial_number": software.model[:12] or "unknown",
        "series_description": description,
    }


@contextmanager
def making(what: str, study_id: str) -> Iterator[None]:
    """Say what could not be made of which study, and keep libraries from printing a patient's attributes.

    Raises
    ------
    OriginError
        The instances lack what the file must take from them, or mtinet has a fault: the message says which.
    """
    try:
        with silence():
            yield
    except OriginError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # the text of the error may hold what an attribute says of the patient: only kind and place are told
        frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
        module = str(frame.f_globals.get("__name__"))
        if module.startswith("mtinet."):
            raise OriginError(
                f"study {study_id}: no {what} was made ({type(error).__name__} in {module}, line {line}); this is a "
                "fault of mtinet, not of the images: please report it, and leave this format out until it is mended"
            ) from error
        lacking = f", attribute {error.name}" if isinstance(error, AttributeError) and error.name else ""
        raise OriginError(
            f"study {study_id}: no {what} can be made of its images ({type(error).__name__}{lacking}); "
            "check the images with dciodvfy, or leave this format out"
        ) from error
