"""What waits for its turn in a prediction: a study that can be read, and what reading it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mtinet.cohort import Study
from mtinet.config import PHASES, Phase
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


def trusted_times(
    times_s: Mapping[Phase, float], study_id: str
) -> tuple[dict[Phase, float], tuple[Finding, ...]]:
    """The phases' times, or none and a finding where they do not rise in the order of the phases."""
    rising = [times_s[phase] for phase in PHASES if phase in times_s]
    if rising == sorted(rising):
        return dict(times_s), ()
    return {}, (
        Finding(
            "times-contradict",
            "predict",
            "warning",
            "the times of the phases after injection do not rise in their order, so they are not used",
            "Compare the images with the names of their phases; name them with --phase-names, or correct "
            "time_<phase>_s in the cohort.",
            study_id,
        ),
    )
