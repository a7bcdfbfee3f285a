"""What a study's prediction is, and what a finding is: plain data that JSON, pages and DICOM share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from mtinet import files
from mtinet.errors import UnusableError
from mtinet.volume import Volume

RESULT_FORMAT = 2
"""Version of ``result.json``; readers refuse a newer one."""

RESEARCH_USE = "Research use only. Not a medical device; not for diagnosis."

T = TypeVar("T")

Severity = Literal["error", "warning", "note"]

UNNAMED = ("lesion",)
"""The class of a cohort in which no lesion has a class, and of a model that learned none: there is at least one."""


@dataclass(frozen=True)
class Finding:
    """Something that a user should know, with its repair.

    Attributes
    ----------
    id : str
        Stable name, for example ``fusion-inert``.
    stage : str
        Where it was found: ``cohort``, ``prepare``, ``train``, ``evaluate``, ``predict``.
    severity : {"error", "warning", "note"}
    meaning : str
        What is wrong, in a sentence.
    action : str
        What to do about it.
    case : str
        Study (or file) that it is about; empty for a whole cohort or run.
    step : int or None
        Training step at which it fired.
    value, threshold : float or None
        The measured number and the limit that it crossed.
    """

    id: str
    stage: str
    severity: Severity
    meaning: str
    action: str
    case: str = ""
    step: int | None = None
    value: float | None = None
    threshold: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The finding in JSON's types."""
        return dict(files.plain(asdict(self)))


@dataclass(frozen=True)
class Measurement:
    """One quantity or sign measured by its definition, never a category of a reporting system.

    Attributes
    ----------
    name : str
        Stable name, for example ``longest_axial_diameter`` or ``washout``.
    value : float or None
        Number in ``unit``; None for a sign, and for what is not assessable.
    unit : str
        UCUM (``mm``, ``mL``, ``%``, ``%/min``, ``1`` for a plain number or a sign).
    phase : str
        Phase that it belongs to; empty for none or several.
    finding : str
        For a sign ``present``, ``absent`` or ``not assessable``; for a kind (curve type) its name; empty for
        a number, or ``not assessable`` in its place.
    reason : str
        Why it is not assessable, or what limits it; else empty.
    """

    name: str
    value: float | None = None
    unit: str = "1"
    phase: str = ""
    finding: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Certainty:
    """How sure the method is about a lesion; what was not determined is None or empty.

    Attributes
    ----------
    existence : float or None
        Probability that the component is a lesion.
    volume_interval_mm3 : (float, float) or None
    class_set : tuple of str or None
        Conformal set of classes.
    enhancement_interval : dict
        Conformal interval by phase, in the study's own units.
    coverage : float or None
        Nominal coverage of set and intervals, 0 to 1.
    """

    existence: float | None = None
    volume_interval_mm3: tuple[float, float] | None = None
    class_set: tuple[str, ...] | None = None
    enhancement_interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    coverage: float | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Certainty:
        """From JSON's types."""
        volume, classes = values["volume_interval_mm3"], values["class_set"]
        return cls(
            existence=values["existence"],
            volume_interval_mm3=None if volume is None else (volume[0], volume[1]),
            class_set=None if classes is None else tuple(classes),
            enhancement_interval={
                p: (low, high) for p, (low, high) in values["enhancement_interval"].items()
            },
            coverage=values["coverage"],
        )


@dataclass(frozen=True)
class Lesion:
    """One predicted lesion.

    Attributes
    ----------
    number : int
        Its value in the mask, from 1.
    volume_mm3 : float
    diameter_mm : float
        Diameter of the ball of the same volume.
    centre_mm : tuple of float
        Centre of mass in world millimetres (RAS).
    confidence : float
        Mean lesion probability over its voxels.
    probabilities : dict
        Probability by class.
    enhancement : dict
        Predicted mean signal by phase, in the study's own units; absent phases and those whose field of view does
        not cover the lesion are left out.
    relative_enhancement_percent : dict
        100·(S - S_pre)/S_pre by phase; empty without a usable pre phase.
    measured : dict
        Mean signal read from the images under the predicted mask, by phase, in the study's own units; likewise.
    measurements : tuple of Measurement
    certainty : Certainty or None
    """

    number: int
    volume_mm3: float
    diameter_mm: float
    centre_mm: tuple[float, float, float]
    confidence: float
    probabilities: dict[str, float]
    enhancement: dict[str, float]
    relative_enhancement_percent: dict[str, float]
    measured: dict[str, float]
    measurements: tuple[Measurement, ...] = ()
    certainty: Certainty | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Lesion:
        """From JSON's types."""
        certainty = values.get("certainty")
        changed = {
            "centre_mm": tuple(values["centre_mm"]),
            "measurements": tuple(_made(Measurement, item) for item in values.get("measurements", ())),
            "certainty": None if certainty is None else Certainty.from_dict(certainty),
        }
        return _made(cls, {**values, **changed})

    @property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    @property
    def is_named(self) -> bool:
        """Whether the model knows classes; one that does not is always sure of ``lesion``, which says nothing."""
        return tuple(self.probabilities) != UNNAMED

    @property
    def longest_axial_mm(self) -> float | None:
        """The measured longest axial diameter; None where the lesion was not measured."""
        return next((m.value for m in self.measurements if m.name == "longest_axial_diameter"), None)


@dataclass(frozen=True)
class PhaseSource:
    """The DICOM volume that a phase was taken from, and how surely, as ``mtinet phases`` says it.

    Attributes
    ----------
    series : str
        Series number; the pseudonym of its UID where it is blank, or that of another series too.
    volume, n_volumes : int
        Which of how many volumes of the series, from 0.
    confidence : float
        Probability that it is the phase, 0 to 1; 1 where the user says so.
    evidence : tuple of str
        What speaks for it and against it, in words.
    """

    series: str
    volume: int
    n_volumes: int
    confidence: float
    evidence: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The volume as ``--phase-names`` takes it: ``5``, or ``5:1`` of several."""
        return self.series if self.n_volumes == 1 else f"{self.series}:{self.volume}"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PhaseSource:
        """From JSON's types."""
        return _made(cls, {**values, "evidence": tuple(values["evidence"])})


REVISED = "revised-mask"
"""Finding that tells it of a result."""


@dataclass(frozen=True)
class Result:
    """The prediction for one study.

    ``mask`` holds the lesions' numbers on the grid of the reference phase.  ``lesions`` runs from the largest
    to the smallest; the study's class is that of the first.  ``measurements`` are those of the study, not of a
    lesion (liver and aorta where they were found).  ``sources`` tells by phase where the image came from, in
    studies of DICOM files, whose phases are identified.
    """

    study_id: str
    phases: tuple[str, ...]
    reference_phase: str
    classes: tuple[str, ...]
    lesions: tuple[Lesion, ...]
    mask: Volume | None = None
    findings: tuple[Finding, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    measurements: tuple[Measurement, ...] = ()
    sources: dict[str, PhaseSource] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Class of the largest lesion, ``none`` where there is no lesion."""
        return self.lesions[0].label if self.lesions else "none"

    @property
    def outlined_by_reader(self) -> bool:
        """Whether a reader outlined the lesions (``mtinet revise``), not the model."""
        return any(finding.id == REVISED for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        return dict(
            files.plain(
                {
                    "format": RESULT_FORMAT,
                    "notice": RESEARCH_USE,
                    "study_id": self.study_id,
                    "label": self.label,
                    "classes": self.classes,
                    "phases": self.phases,
                    "reference_phase": self.reference_phase,
                    "lesions": [{"label": lesion.label, **asdict(lesion)} for lesion in self.lesions],
                    "findings": [finding.to_dict() for finding in self.findings],
                    "model": self.model,
                    "measurements": [asdict(item) for item in self.measurements],
                    "sources": {phase: asdict(source) for phase, source in self.sources.items()},
                }
            )
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any], mask: Volume | None = None) -> Result:
        """A result from the content of ``result.json``; fields that this version does not know are ignored.

        Raises
        ------
        UnusableError
            The format is newer than this version reads, or no whole number.
        """
        written = values.get("format", 0)
        if not isinstance(written, int) or isinstance(written, bool):
            raise UnusableError(
                f"result format {written!r} is no whole number: this is damaged or no result of mtinet; "
                "predict the study again"
            )
        if written > RESULT_FORMAT:
            raise UnusableError(
                f"result format {written} is newer than this mtinet reads ({RESULT_FORMAT}); update mtinet"
            )
        return cls(
            study_id=values["study_id"],
            phases=tuple(values["phases"]),
            reference_phase=values["reference_phase"],
            classes=tuple(values["classes"]),
            lesions=tuple(Lesion.from_dict(item) for item in values["lesions"]),
            mask=mask,
            findings=tuple(_made(Finding, item) for item in values["findings"]),
            model=values["model"],
            measurements=tuple(_made(Measurement, item) for item in values.get("measurements", ())),
            sources={p: PhaseSource.from_dict(item) for p, item in values.get("sources", {}).items()},
        )


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    """One of the classes here from those of its fields that are there; others are ignored, on every level."""
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in known})


def relative_enhancement(signal: dict[str, float]) -> dict[str, float]:
    """100·(S_p - S_pre)/S_pre by phase other than pre; empty without a positive pre signal."""
    pre = signal.get("pre", math.nan)
    if not pre > 0:
        return {}
    return {phase: 100.0 * (value - pre) / pre for phase, value in signal.items() if phase != "pre"}
