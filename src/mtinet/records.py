"""What is kept of one run of an experiment: a small JSON file with the metrics of every held-out patient.

Records are shared between experiments, committed where results are published, and all that tables, tests and
pages of experiments read: they need neither the run folder nor the cohort.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from mtinet import files
from mtinet.config import Config, Settings
from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.errors import UnusableError

RECORD_FORMAT = 3
"""Version of a record; readers refuse a newer one.

2 added the probabilities of the read-out baselines, 3 who was asked about the studies, and how long that took.
"""


class Revision(Settings):
    """What decides a run's numbers beside its settings: the code and the libraries.

    Attributes
    ----------
    sources : str
        Digest of the modules that train and score.
    versions : dict
        Version by package.
    """

    sources: str
    versions: dict[str, str]


class StudyScore(Settings):
    """What one held-out study scored.  None = not defined (no lesion, unknown class, no pre phase).

    Attributes
    ----------
    label, predicted_label : str
        Class of the dominant lesion, ``none`` without one (empty = unknown); the predicted one is that of the
        component that found it, ``none`` where it was missed.  It is empty for a network that learned no
        class.
    dice, iou, nsd : float
        A missed lesion counts 0.  None for a network that learned no mask.
    hd95_mm : float
    volume_ml, predicted_volume_ml : float
        Of all lesions together.
    enhancement_error, relative_error_percent : float
        Mean over phases of the absolute error of the dominant lesion's predicted enhancement, in raw signal
        and in percentage points of relative enhancement; a missed lesion takes the training mean.
    measured_error, measured_relative_error_percent : float
        The same of the mean signal read under the predicted mask.
    mean_error, mean_relative_error_percent : float
        The same of the training mean.
    oracle_label : str
        Class that the network gives the dominant lesion under the reference mask; empty where it gives none.
    oracle_error, oracle_relative_error_percent : float
        Error of the enhancement that the network reads under the reference mask.
    probabilities : dict
        By class, of the dominant lesion's component; empty where it was missed.
    baselines : dict
        Class that each read-out baseline (logistic regression, gradient boosting, ...) gives, by name.
    baseline_probabilities : dict of dict
        Probability by class of each classifier among them, by name; empty where the lesion was missed.
    true, predicted, measured : dict
        Enhancement of the dominant lesion in raw signal by phase; ``predicted`` and ``measured`` are empty
        where it was missed.
    attention, discriminator_attention : dict
        Share of each phase, by phase; empty for a network without.
    """

    study_id: str
    patient_id: str
    site: str
    label: str
    predicted_label: str
    dice: float | None = None
    iou: float | None = None
    nsd: float | None = None
    hd95_mm: float | None = None
    volume_ml: float | None = None
    predicted_volume_ml: float | None = None
    enhancement_error: float | None = None
    relative_error_percent: float | None = None
    measured_error: float | None = None
    measured_relative_error_percent: float | None = None
    mean_error: float | None = None
    mean_relative_error_percent: float | None = None
    oracle_label: str = ""
    oracle_error: float | None = None
    oracle_relative_error_percent: float | None = None
    probabilities: dict[str, float] = Field(default_factory=dict)
    baselines: dict[str, str] = Field(default_factory=dict)
    baseline_probabilities: dict[str, dict[str, float]] = Field(default_factory=dict)
    true: dict[str, float] = Field(default_factory=dict)
    predicted: dict[str, float] = Field(default_factory=dict)
    measured: dict[str, float] = Field(default_factory=dict)
    attention: dict[str, float] = Field(default_factory=dict)
    discriminator_attention: dict[str, float] = Field(default_factory=dict)


class Scoring(Settings):
    """The scores under one variation of the held-out studies; the first of a record is without any.

    Attributes
    ----------
    study_s : float or None
        Median seconds a study, as of :class:`~mtinet.workflows.evaluate.Evaluation`.
    """

    variation: ScoringVariation = ScoringVariation()
    studies: tuple[StudyScore, ...]
    study_s: float | None = None


class Course(Settings):
    """How the training went: means over at most about 50 spans of its log.

    Attributes
    ----------
    numbers : dict
        Values by name (``total``, ``segmentation``, ``held_out_dice``, ``discriminator_gap``,
        gradient norms and cosines, ...), each as long as ``step``; None where a step did not measure one.
    """

    step: tuple[int, ...]
    numbers: dict[str, tuple[float | None, ...]]


class RunRecord(Settings):
    """One finished run.

    Attributes
    ----------
    id : str
        Hash of everything that decides the numbers (:mod:`mtinet.experiments`).
    converged : bool
        Whether this run by itself had come to rest (:mod:`mtinet.evaluation.convergence`).  A row is judged by
        the mean movement of its runs.
    plateau : dict
        The two movements over the last fifth of the steps: ``loss_percent``, ``dice_points`` (None where not
        monitored).
    seconds, step_s : float
        Whole training, and the median of a step, on the machine of the manifest.
    findings : tuple of str
        Identifiers of the run's findings other than notes.
    manifest : dict
        Versions, machine (its processor and the threads of the training too) and time
        (:mod:`mtinet.provenance`), content and nature of the cohort, without a path.
    """

    format: int = RECORD_FORMAT
    id: str
    config: Config
    learning: LearningVariation = LearningVariation()
    seed: int
    fold: int
    folds: int
    cohort: str
    cohort_hash: str
    classes: tuple[str, ...]
    revision: Revision
    scorings: tuple[Scoring, ...]
    course: Course
    converged: bool
    plateau: dict[str, float | None]
    seconds: float
    step_s: float
    findings: tuple[str, ...] = ()
    manifest: dict[str, Any] = Field(default_factory=dict)

    @property
    def cohort_identity(self) -> str:
        """What tells cohorts apart: the hash of their content; of records that have none, the cohort's own."""
        return str(self.manifest.get("content") or self.cohort_hash)

    def write(self, path: Path) -> None:
        """Write the record as JSON, atomically: a line a study, without what has its default."""
        values = self.model_dump(mode="json")
        for scoring, own in zip(values["scorings"], self.scorings, strict=True):
            scoring["studies"] = [
                study.model_dump(mode="json", exclude_defaults=True) for study in own.studies
            ]
        files.write_text(path, _in_lines(files.plain(values)))

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """Read a record.

        Raises
        ------
        UnusableError
            The file is damaged, no record, or of a newer format.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict) or not isinstance(values.get("format"), int):
                raise ValueError("it does not say of which format it is")
        except (OSError, ValueError) as error:
            raise UnusableError(
                f"{path} is no record of a run ({error}); remove it and the run is done again"
            ) from None
        version = values["format"]
        if version > RECORD_FORMAT:
            raise UnusableError(
                f"{path} has record format {version}, newer than this mtinet reads ({RECORD_FORMAT}); "
                "update mtinet"
            )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UnusableError(
                f"{path} is no record of a run ({error.errors()[0]['msg']} at "
                f"{'.'.join(map(str, error.errors()[0]['loc']))}); remove it and the run is done again"
            ) from None


def _in_lines(values: Mapping[str, Any]) -> str:
    """JSON with a line a field, and a line a study: small, and small in its differences."""

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def of_scoring(scoring: Mapping[str, Any]) -> str:
        studies = ",\n".join(map(text, scoring["studies"]))
        other = "".join(
            f',"{name}":{text(scoring[name])}' for name in scoring if name not in ("variation", "studies")
        )
        return f'{{"variation":{text(scoring["variation"])}{other},"studies":[\n{studies}\n]}}'

    fields = {name: text(value) for name, value in values.items()}
    fields["scorings"] = f"[{','.join(map(of_scoring, values['scorings']))}]"
    return "{\n" + ",\n".join(f"{text(name)}:{value}" for name, value in fields.items()) + "\n}\n"
