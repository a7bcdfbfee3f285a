"""What is written of a study as DICOM: an exam, its series and the stacks of slices in each.

An :class:`Exam` is a study in memory; :mod:`mtinet.dicom.habits` lays it out as series the way a vendor's
scanner does, :mod:`mtinet.dicom.write` and :mod:`mtinet.dicom.enhanced` make files of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mtinet.cohort.study import REFERENCE_ORDER
from mtinet.config import Phase
from mtinet.volume import Volume

Habit = Literal["siemens", "ge", "philips", "enhanced"]
"""Whose files an exam is written like; ``enhanced`` is Philips with multi-frame instances."""


@dataclass(frozen=True)
class Exam:
    """A dynamic study of the liver and what a scanner would know about it.

    Attributes
    ----------
    patient_id, study_id : str
    habit : {"siemens", "ge", "philips", "enhanced"}
    images : dict
        Volume by phase, magnitudes (nothing below zero).
    times_s : dict
        Seconds from the start of injection by phase after ``pre``.  It is written as the time of acquisition:
        the centre of k-space, where real scanners write the start, half a breath-hold earlier.
    seed : int
        With the ids it decides every UID, date and time.
    institution : str
    agent : str
        ``gadobutrol``, ``gadoxetate``, or any other name as it should be written.
    dose_mmol_kg, field_T, tr_ms, te_ms, flip_deg : float or None
    """

    patient_id: str
    study_id: str
    habit: Habit
    images: Mapping[Phase, Volume]
    times_s: Mapping[Phase, float] = field(default_factory=dict)
    seed: int = 0
    institution: str = ""
    agent: str = "gadobutrol"
    dose_mmol_kg: float | None = None
    field_T: float = 1.5
    tr_ms: float = 4.0
    te_ms: float = 1.8
    flip_deg: float = 12.0

    def uid(self, *parts: object) -> str:
        """A UID that is a function of the seed, the ids and ``parts``."""
        from pydicom.uid import generate_uid

        # one text with separators: pydicom joins its sources, and "1", "10" would be "11", "0"
        text = "\n".join(["mtinet", str(self.seed), self.patient_id, self.study_id, *map(str, parts)])
        return generate_uid(entropy_srcs=[text])

    def number(self, name: str, below: int) -> int:
        """A number from 0 that is a function of the seed, the ids and ``name``."""
        text = "\n".join((str(self.seed), self.patient_id, self.study_id, name))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % below

    def with_images(self, images: Mapping[Phase, Volume]) -> Exam:
        """The same exam with other images."""
        return replace(self, images=images)

    @property
    def reference_phase(self) -> Phase:
        """Phase on whose grid masks lie."""
        return next(phase for phase in REFERENCE_ORDER if phase in self.images)

    @property
    def start_s(self) -> float:
        """When the study begins, seconds from midnight."""
        return float(8 * 3600 + 60 * self.number("start", 8 * 60) + self.number("second", 60))

    @property
    def injection_s(self) -> float:
        """When the injection begins, seconds from midnight."""
        return self.start_s + 600.0 + self.number("injection", 300)


@dataclass(frozen=True)
class Stack:
    """A stack of parallel slices that were acquired together.

    Attributes
    ----------
    volume : Volume
        Its first axis runs along the rows of the images, its second down the columns, its third through them.
    time_s : float
        AcquisitionTime, seconds from midnight.
    phase : str
        Empty for what is not a phase.
    trigger_ms : float or None
        TriggerTime, for scanners that tell phases apart by it.
    """

    volume: Volume
    time_s: float
    phase: str = ""
    trigger_ms: float | None = None


@dataclass(frozen=True)
class Series:
    """One series of an exam.

    Attributes
    ----------
    number : int
    description, protocol, sequence : str
    stacks : tuple of Stack
    image_type : tuple of str
    temporal : bool
        The stacks are temporal positions.
    slices_first : bool
        Instances run through the times of a slice before they go on to the next slice.
    contrast : bool
        The agent has been given.
    enhanced : bool
        One multi-frame instance.
    """

    number: int
    description: str
    stacks: tuple[Stack, ...]
    protocol: str = ""
    sequence: str = ""
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M")
    temporal: bool = False
    slices_first: bool = False
    contrast: bool = True
    enhanced: bool = False
