"""What phase identification answers: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mtinet.config import PHASES, Phase


@dataclass(frozen=True)
class Choice:
    """The volume that is a phase.

    Attributes
    ----------
    series_uid, series_number : str
    volume, n_volumes : int
        Which of how many volumes of its series, from 0.
    confidence : float
        Probability that it is this phase, from 0 to 1.
    evidence : tuple of str
        What speaks for it and against it, in words.
    """

    series_uid: str
    series_number: str
    volume: int
    n_volumes: int
    confidence: float
    evidence: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The choice in JSON's types."""
        return {
            "series": self.series_number,
            "series_uid": self.series_uid,
            "volume": self.volume,
            "n_volumes": self.n_volumes,
            "confidence": round(self.confidence, 3),
            "evidence": list(self.evidence),
        }


@dataclass(frozen=True)
class Missing:
    """A phase for which no volume was found, and why."""

    phase: Phase
    reason: str


@dataclass(frozen=True)
class Excluded:
    """A series that is none of the phases, and why."""

    series_number: str
    series_uid: str
    description: str
    reason: str


@dataclass(frozen=True)
class Identification:
    """The phases of one study.

    Attributes
    ----------
    phases : dict
        The volume of every phase of the vocabulary, None where there is none.
    missing : tuple of Missing
    excluded : tuple of Excluded
    """

    phases: dict[Phase, Choice | None]
    missing: tuple[Missing, ...]
    excluded: tuple[Excluded, ...]

    def to_dict(self) -> dict[str, Any]:
        """A study's entry in the JSON of ``mtinet phases``."""
        found = {phase: self.phases.get(phase) for phase in PHASES}
        return {
            **{phase: None if choice is None else choice.to_dict() for phase, choice in found.items()},
            "missing": [{"phase": item.phase, "reason": item.reason} for item in self.missing],
            "excluded": [
                {"series": item.series_number, "series_uid": item.series_uid, "reason": item.reason}
                for item in self.excluded
            ],
        }
