"""The studies of one call of predict, one after the other, and what is told of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtinet import files
from mtinet.errors import UserError
from mtinet.inference.ensemble import Ensemble
from mtinet.inference.predictor import StudyPrediction, with_findings
from mtinet.results import Finding, Result
from mtinet.stages import stage, timed
from mtinet.volume import read_nifti
from mtinet.workflows.predictions.audit import Audit, has_masks_of
from mtinet.workflows.predictions.formats import DICOM_FORMATS, FORMATS, Format, Output, software_of
from mtinet.workflows.predictions.jobs import Case, Job
from mtinet.workflows.predictions.places import refuse_edited
from mtinet.workflows.predictions.priors import Prior
from mtinet.workflows.predictions.stored import RESULT_FILE, read_result
from mtinet.workflows.predictions.supplied import Supplied
from mtinet.workflows.predictions.who import without_identity
from mtinet.workflows.predictions.writing import settle, written

_LONGEST_MESSAGE = 300
"""Letters of an unforeseen error's message; some libraries write pages."""


@dataclass(frozen=True)
class Predictions:
    """What was predicted, and what a user should know about it.

    Attributes
    ----------
    results : tuple of Result
        Of this call and of earlier ones whose files are kept.  Of several studies they have no mask: masks lie on the
        disk, ``mask.nii.gz`` in each study's folder, and memory does not grow with the number of studies.
    findings : tuple of Finding
        Of all results, and why the other studies have none.
    kept : tuple of str
        Studies that were finished before.
    mapping : Path or None
        Where it is told whose results those of DICOM studies are; None where there are no such studies.
    table : Path or None
        The measurements of all studies with a folder; None where the one study has its files in ``out`` itself.
    """

    results: tuple[Result, ...]
    findings: tuple[Finding, ...]
    kept: tuple[str, ...] = ()
    mapping: Path | None = None
    table: Path | None = None


class OutputError(UserError):
    """Results cannot be written: the disk is full, or the folder read-only.

    Attributes
    ----------
    finding : Finding
        What cannot be written, and why.
    outcome : Predictions
        What was finished before and stays; its findings tell what is not, study by study.
    """

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.meaning}. {finding.action}")
        self.finding = finding
        self.outcome = Predictions((), (finding,))

    def __reduce__(self) -> tuple[Any, ...]:
        # by default an error is made again from its message, and another process could not read it
        return type(self), (self.finding,), self.__dict__


class Batch:
    """The studies of one call, one after the other; memory does not grow with their number of voxels."""

    def __init__(
        self,
        predictor: Ensemble,
        class_codes: Mapping[str, str],
        trained_on: Set[str],
        audit: Audit,
        formats: tuple[Format, ...],
        places: Mapping[str, Path],
        prior: Prior | None,
        supplied: Supplied,
        on_unforeseen: Callable[[Exception], None] | None,
    ) -> None:
        self.predictor = predictor
        self.software = software_of(predictor.facts)
        self.class_codes, self.trained_on = class_codes, trained_on
        self.calibration = _calibration_digest(predictor)
        self.formats, self.places = formats, places
        self.prior, self.supplied = prior, supplied
        self.audit, self.on_unforeseen = audit, on_unforeseen
        self.results: list[Result] = []
        self.failures: list[Finding] = []
        self.kept: list[str] = []

    def do(self, job: Job) -> None:
        """Predict and write a study, or say why not."""
        place = self.places[job.study_id]
        try:
            with timed() as seconds:
                result = self._done(job, place, seconds)
        except OutputError:
            raise
        except UserError as error:
            self._failed(job.study_id, str(error), "Mend the study and predict it again.")
        except Exception as error:  # a study that nobody foresaw must not stop the others
            self._failed(
                job.study_id,
                f"it failed in an unforeseen way ({_described(job, error)})",
                "Predict it alone with mtinet --debug predict ..., and report what is printed.",
            )
            if self.on_unforeseen is not None:
                self.on_unforeseen(error)
        else:
            self._keep(result)

    def outcome(self, findings: Sequence[Finding], mapping: Path | None, table: Path | None) -> Predictions:
        """What was predicted so far; ``findings`` are those that belong to no study."""
        of_studies = (*self.failures, *(f for r in self.results for f in r.findings))
        return Predictions(tuple(self.results), (*findings, *of_studies), tuple(self.kept), mapping, table)

    def not_done(self, jobs: Sequence[Job]) -> list[Finding]:
        """That studies have no result because the batch could not write on."""
        done = {*(r.study_id for r in self.results), *self.kept, *(f.case for f in self.failures)}
        return [
            Finding(
                "not-predicted",
                "predict",
                "error",
                "nothing more could be written when its turn came",
                "Give the same command again once there is room.",
                job.study_id,
            )
            for job in jobs
            if job.study_id not in done
        ]

    def _done(self, job: Job, place: Path, seconds: Mapping[str, float]) -> Result | None:
        """A study's result, from now or from an earlier call."""
        with stage("read"):
            refuse_edited(place, job.study_id, self.audit)
            inputs = job.fingerprint()
        decided_by = {
            "inputs": inputs,
            "model": files.plain(self.predictor.facts),
            "calibration": self.calibration,
            "mtinet": self.software.version,
            **({} if self.prior is None else {"prior": self.prior.digest}),
            **self.supplied.decides(),
        }
        if self.audit.is_finished(job.study_id, decided_by, self.formats, place):
            try:
                stored = _stored(place)
            except UserError:
                pass  # what was damaged since is predicted anew
            else:
                settle(place)
                self.kept.append(job.study_id)
                return stored
        with stage("read"):
            case = job.read()
        if case.study.patient_id in self.trained_on:
            raise UserError(
                f"study {job.study_id}: patient {case.study.patient_id} trained one of the runs of the "
                "ensemble; predict with a run that did not see the patient"
            )
        with self.supplied.added_to(case) as case:
            with stage("lesions"):
                prediction = with_findings(self.predictor.explain(case.study), case.findings)
            prediction = replace(prediction, result=replace(prediction.result, sources=case.sources))
            if self.prior is not None:
                with stage("prior"):
                    compared = self.prior.compared(prediction.result, case.study)
                prediction = replace(prediction, result=compared)
            self._write(prediction, case, place, decided_by, seconds)
        return prediction.result

    def _keep(self, result: Result | None) -> None:
        if result is not None:
            # masks lie on the disk: memory must not grow with the number of studies
            self.results.append(replace(result, mask=None) if len(self.places) > 1 else result)

    def _write(
        self,
        prediction: StudyPrediction,
        case: Case,
        place: Path,
        decided_by: Mapping[str, Any],
        seconds: Mapping[str, float],
    ) -> None:
        result = prediction.result
        agent = case.study.agent
        output = Output(result, self.software, prediction, case.origin, self.class_codes, agent, case.liver)
        before = self.audit.holder(place)
        same = before.get("decided_by") == dict(decided_by) and has_masks_of(place, before)
        formats = self.formats
        if same and "dicom-seg" in formats and "dicom-sr" in before.get("formats", ()):
            # the report that lies there refers to the segmentation that is replaced
            formats = tuple(name for name in FORMATS if name in (*formats, "dicom-sr"))
        try:
            with written(output, place, formats, self.audit, same=same) as told:
                refers = not {*DICOM_FORMATS, "pdf"}.isdisjoint(told["formats"])
                self.audit.add(
                    result.study_id,
                    "predicted",
                    place,
                    decided_by=dict(decided_by),
                    **told,
                    lesions=len(result.lesions),
                    findings=[f.id for f in result.findings],
                    seconds={name: round(value, 3) for name, value in seconds.items()},
                    **({"instance_uids": case.origin.instance_uids()} if case.origin and refers else {}),
                )
        except OSError as error:
            raise unwritable(place, error, len(self.results)) from error

    def _failed(self, study_id: str, why: str, action: str) -> None:
        self.failures.append(Finding("not-predicted", "predict", "error", why, action, study_id))
        try:
            self.audit.add(study_id, "failed", reason=why)
        except OSError as error:
            raise unwritable(self.audit.path, error, len(self.results)) from error


def _described(job: Job, error: Exception) -> str:
    """An error's type and what it says, in one line and without identity."""
    says = " ".join(str(error).split())
    text = without_identity(job, f"{type(error).__name__}: {says}" if says else type(error).__name__)
    # cut afterwards: half a name would not be known as one
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + " ..."


def _calibration_digest(predictor: Ensemble) -> str:
    """Hash of the calibration in use; empty without one."""
    if predictor.calibration is None:
        return ""
    text = json.dumps(files.plain(predictor.calibration.to_dict()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stored(place: Path) -> Result | None:
    """The result of an earlier call; None where its JSON was not asked for."""
    if not (place / RESULT_FILE).is_file():
        return None
    mask = place / "mask.nii.gz"
    return replace(read_result(place), mask=read_nifti(mask, labels=True) if mask.is_file() else None)


def unwritable(place: Path, error: OSError, finished: int) -> OutputError:
    """What is told where a file cannot be written."""
    return OutputError(
        Finding(
            "not-written",
            "predict",
            "error",
            f"cannot write {place} ({error.strerror or error}); {finished} studies are finished and stay",
            "Free space or correct the rights, then give the same command again and it goes on.",
        )
    )
