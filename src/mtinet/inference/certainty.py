"""How sure a deployed model is, by what it did on calibration patients: the content of ``calibration.json``.

Everything in it is plain numbers, from which sets and intervals are computed anew.  The patients are divided
in two: on the one part probabilities are tempered, the existence of a lesion is fitted and how errors grow with
doubt, on the other the conformal scores are taken (:mod:`mtinet.workflows.calibrate`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtinet.errors import UnusableError
from mtinet.evaluation.calibration import apply_temperature
from mtinet.evaluation.conformal import ClassSets, Intervals
from mtinet.inference.familiar import Familiarity
from mtinet.results import Certainty, Lesion

CALIBRATION_FORMAT = 2
"""Version of ``calibration.json``; readers refuse a newer one."""


@dataclass(frozen=True)
class Calibration:
    """What was learned from calibration patients.

    Attributes
    ----------
    method : str
        :func:`method_key` of the predictor that was calibrated.
    coverage : float
        Nominal coverage of sets and intervals.
    temperature : float
        Of the class probabilities.
    existence : tuple of float, or None
        Weights of the logistic regression that a component is a lesion: constant, logit of its mean lesion
        probability, natural logarithm of its volume in mm³.  None where all components were one or the other.
    class_sets : ClassSets
    volume : Intervals
        Of the logarithm of the volume.
    enhancement : dict
        By phase, Intervals of the normalised signal (1 = the study's gain).  Volume and signals have groups by
        predicted class and widen with :func:`doubt`.
    familiarity : Familiarity
    counts : dict
        Patients, studies and lesions behind it; the cohort and its hash.
    """

    method: str
    coverage: float
    temperature: float
    existence: tuple[float, float, float] | None
    class_sets: ClassSets
    volume: Intervals
    enhancement: Mapping[str, Intervals]
    familiarity: Familiarity
    counts: Mapping[str, Any]

    def certainty(self, lesion: Lesion, gain: float) -> Certainty:
        """How sure the method is about a lesion.

        Parameters
        ----------
        lesion : Lesion
        gain : float
            The study's, signal of the normalised value 1.
        """
        classes = list(self.class_sets.scores)
        probabilities = np.array([[lesion.probabilities[name] for name in classes]])
        (found,) = self.class_sets.sets(apply_temperature(probabilities, self.temperature), self.coverage)
        log_factor, widths = self.half_widths(lesion)
        factor = math.exp(min(log_factor, 700.0))
        return Certainty(
            existence=self.existence_probability(lesion.confidence, lesion.volume_mm3),
            volume_interval_mm3=(lesion.volume_mm3 / factor, lesion.volume_mm3 * factor)
            if math.isfinite(log_factor)
            else None,
            class_set=found if lesion.is_named else None,
            enhancement_interval={
                phase: (max(0.0, value - widths[phase] * gain), value + widths[phase] * gain)
                for phase, value in lesion.enhancement.items()
                if math.isfinite(widths.get(phase, math.inf))
            },
            coverage=self.coverage,
        )

    def half_widths(self, lesion: Lesion) -> tuple[float, dict[str, float]]:
        """Half width of the logarithm of a lesion's volume, and of its normalised signals by phase."""
        case = (self.coverage, doubt(lesion.confidence), lesion.label)
        return self.volume.half_width(*case), {p: i.half_width(*case) for p, i in self.enhancement.items()}

    def existence_probability(self, confidence: float, volume_mm3: float) -> float | None:
        """Probability that a component is a lesion."""
        if self.existence is None:
            return None
        constant, by_logit, by_volume = self.existence
        logit, log_volume = existence_features(confidence, volume_mm3)
        return float(
            1 / (1 + math.exp(-np.clip(constant + by_logit * logit + by_volume * log_volume, -50, 50)))
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of ``calibration.json``."""
        return {
            "format": CALIBRATION_FORMAT,
            "method": self.method,
            "coverage": self.coverage,
            "temperature": self.temperature,
            "existence": self.existence,
            "class_scores": dict(self.class_sets.scores),
            "log_volume": self.volume.to_dict(),
            "enhancement": {phase: intervals.to_dict() for phase, intervals in self.enhancement.items()},
            "familiarity": self.familiarity.to_dict(),
            "counts": dict(self.counts),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """A calibration from :meth:`to_dict`'s values.

        Raises
        ------
        UnusableError
            The format is newer, or something is missing.
        """
        if values.get("format", 0) > CALIBRATION_FORMAT:
            raise UnusableError(
                f"calibration format {values['format']} is newer than this mtinet reads "
                f"({CALIBRATION_FORMAT}); update mtinet or calibrate again"
            )
        try:
            existence = values["existence"]
            if "log_volume" in values:
                volume = Intervals.from_dict(values["log_volume"])
                enhancement = {str(p): Intervals.from_dict(v) for p, v in values["enhancement"].items()}
            else:  # format 1 knew one width for all lesions
                volume = Intervals({"": _tuples(values["log_volume_residuals"])[""]})
                phases = _tuples(values["enhancement_residuals"])
                enhancement = {phase: Intervals({"": residuals}) for phase, residuals in phases.items()}
            return cls(
                method=str(values["method"]),
                coverage=float(values["coverage"]),
                temperature=float(values["temperature"]),
                existence=None if existence is None else (existence[0], existence[1], existence[2]),
                class_sets=ClassSets(_tuples(values["class_scores"])),
                volume=volume,
                enhancement=enhancement,
                familiarity=Familiarity.from_dict(values["familiarity"]),
                counts=dict(values["counts"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise UnusableError(
                f"the calibration is damaged ({error!r}); run mtinet calibrate again"
            ) from None


def doubt(confidence: float) -> float:
    """What errors of outline and curve grow with: the mean probability in a component that it is no lesion."""
    return min(max(1.0 - confidence, 1e-6), 1.0)


def existence_features(confidence: float, volume_mm3: float) -> tuple[float, float]:
    """What tells a lesion from a false component: logit of its mean probability, logarithm of its volume."""
    p = min(max(confidence, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p)), math.log(max(volume_mm3, 1e-3))


def method_key(facts: Mapping[str, Any]) -> str:
    """Short hash of what decides a predictor's answers: weights of its members, flips, dropout samples."""
    named = {k: facts.get(k) for k in ("digest", "ensemble", "flips", "dropout_samples")}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:12]


def document_name(facts: Mapping[str, Any]) -> str:
    """Name of the run's document that holds the calibration of a predictor.

    The model by itself has ``calibration``; ensembles, flips and dropout have one a combination.
    """
    alone = not any(facts.get(k) for k in ("ensemble", "flips", "dropout_samples"))
    return "calibration" if alone else f"calibration-{method_key(facts)}"


def _tuples(values: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    return {str(name): tuple(float(v) for v in scores) for name, scores in values.items()}
