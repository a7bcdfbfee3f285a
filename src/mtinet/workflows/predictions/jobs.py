"""What waits for its turn in a prediction: a study that can be read, and what reading it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mtinet.cohort import Study
from mtinet.dicom.origin import Origin
from mtinet.results import Finding, PhaseSource


@dataclass(frozen=True)
class Case:
    """A study in memory.

    Attributes
    ----------
    study : Study
        Its images are loaded.
    origin : Origin or None
        The DICOM instances that it came from.
    findings : tuple of Finding
        What reading it found, without identity.
    liver : Path or None
        The liver's outline where the study did not bring it, and it was drawn for the result.
    sources : dict
        By phase of a DICOM study the series that it was taken from, without identity.
    """

    study: Study
    origin: Origin | None = None
    findings: tuple[Finding, ...] = ()
    liver: Path | None = None
    sources: dict[str, PhaseSource] = field(default_factory=dict)


class Job(Protocol):
    """A study that waits for its turn."""

    @property
    def study_id(self) -> str:
        """Its name in results: of DICOM a pseudonym, of NIfTI what the user called it."""

    @property
    def folders(self) -> frozenset[Path]:
        """Where its own files lie; no result goes there."""

    def fingerprint(self) -> str:
        """Hash of everything that its result depends on, but the model."""

    def read(self) -> Case:
        """Read it; a ``UserError`` says why that is impossible."""
