"""Growth against a prior study: its result, brought into this study's frame by its images.

Two examinations share no frame, and DICOM says so: the patient was positioned anew.  The prior study's images
are registered rigidly to this one's, from where the scanner put them and from body on body; without a motion
that is trusted nothing is compared.  Nor is it where the bodies then do not lie on each other: NIfTI names no
patient, and images of two people are registered as readily as those of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtinet.cohort import Study
from mtinet.data.alignment import Target, target_of
from mtinet.errors import UnusableError, UserError
from mtinet.imaging.liver import body_region
from mtinet.imaging.mutual_information import FINEST_MM, at_least
from mtinet.imaging.registration import Registration, register
from mtinet.imaging.resampling import resample_labels
from mtinet.inference.certainty import method_key
from mtinet.inference.curves import NOT_ASSESSABLE
from mtinet.inference.growth import Shown, with_changes
from mtinet.results import Finding, Measurement, Result, Severity
from mtinet.volume import Volume
from mtinet.workflows.predictions.dicom_jobs import DicomJob
from mtinet.workflows.predictions.jobs import Job
from mtinet.workflows.predictions.sources import open_source
from mtinet.workflows.predictions.stored import RESULT_FILE, read_result
from mtinet.workflows.predictions.who import other_key

LEAST_BODY_OVERLAP = 0.9
"""Dice of the two bodies, where both studies show them, from which they can be one patient's.

Virtual patients registered to themselves in another scanner have 0.988 to 0.994, registered to others 0.76 to 0.97
(24 pairs).  The value is assumed: it leaves room for breathing, arms and some kilograms, so that it finds bodies that
differ much and no others.
"""


@dataclass(frozen=True)
class PriorPaths:
    """Where a prior study lies.

    Attributes
    ----------
    result : Path
        Folder that ``mtinet predict`` wrote for it.
    study : Path
        What it was written for: the folder or zip of the study, or one of several that holds it.
    """

    result: Path
    study: Path

    @classmethod
    def of(cls, result: Path | None, study: Path | None) -> PriorPaths | None:
        """What ``--prior`` and ``--prior-study`` say together; None where neither is given.

        Raises
        ------
        UserError
            One is given without the other.
        """
        if result is None and study is None:
            return None
        if result is None or study is None:
            raise UserError(
                "--prior and --prior-study belong together: the earlier result, and what it is of"
            )
        return cls(result, study)


@dataclass(frozen=True)
class Prior:
    """A prior study whose result is compared with.

    Attributes
    ----------
    result : Result
    job : Job
        Its images, read when they are needed.
    digest : str
        Hash of both.
    """

    result: Result
    job: Job
    digest: str

    @classmethod
    def open(cls, paths: PriorPaths, key: Path | None) -> Prior:
        """Find a prior study.

        Raises
        ------
        UserError
            There is no result, or the study is not the one that it is of.
        """
        try:
            result = read_result(paths.result)
        except UserError as error:
            raise UnusableError(f"--prior: {error}") from None
        jobs = open_source(paths.study, key=key).jobs
        job = next((one for one in jobs if one.study_id == result.study_id), None)
        if job is None:
            raise UserError(
                f"--prior is a result of study {result.study_id}, and --prior-study {paths.study} holds "
                f"{', '.join(sorted(one.study_id for one in jobs))}; give the study that it is of"
                f"{other_key(result.study_id)}"
            )
        content = (paths.result / RESULT_FILE).read_bytes()
        digest = hashlib.sha256(content + job.fingerprint().encode()).hexdigest()
        return cls(result, job, digest)

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse to compare several studies with one, a study with itself or a later one, or two patients.

        Raises
        ------
        UserError
        """
        if len(jobs) != 1:
            raise UserError(
                f"--prior belongs to one study, and there are {len(jobs)}; predict that study alone"
            )
        (job,) = jobs
        both_dicom = isinstance(job, DicomJob) and isinstance(self.job, DicomJob)
        # folders of two studies may have one name: the files tell
        if job.study_id == self.job.study_id and (both_dicom or job.fingerprint() == self.job.fingerprint()):
            raise UserError(f"--prior is a result of the same study, {job.study_id}; give an earlier one")
        if isinstance(job, DicomJob) and isinstance(self.job, DicomJob):
            now, then = job.study, self.job.study
            if now.patient_id.strip() != then.patient_id.strip():
                raise UserError(
                    f"--prior: studies {job.study_id} and {self.job.study_id} are of different patients by "
                    "their patient ids; correct the files if they are not"
                )
            if now.study_date and then.study_date > now.study_date:
                raise UserError(
                    f"--prior: study {self.job.study_id} is later than study {job.study_id} by their study "
                    "dates; exchange them, or correct the files"
                )

    def compared(self, result: Result, study: Study) -> Result:
        """The result with what has become of the prior study's lesions, or why that cannot be told.

        Parameters
        ----------
        result : Result
        study : Study
            What it is of, with its images in memory.
        """
        findings = list(result.findings)

        def note(id: str, severity: Severity, meaning: str, action: str) -> None:
            findings.append(Finding(id, "predict", severity, meaning, action, result.study_id))

        try:
            before = self.job.read().study
        except UserError:
            # what the error says may name files
            reason = f"study {self.result.study_id}, the prior one, cannot be read as it is"
            note(
                "prior-unreadable",
                "warning",
                reason,
                "Predict it alone to see why (phases that had to be named cannot be named here); compare by eye.",
            )
            return _without_growth(replace(result, findings=tuple(findings)), reason)
        phase = study.reference_phase
        moving = before.image(phase if phase in before.images else before.reference_phase)
        target = target_of(study, study.image(phase))
        found, to_now = _brought(moving, target)
        overlap = None if to_now is None else body_overlap(moving, target.image, to_now)
        apart = overlap is not None and overlap < LEAST_BODY_OVERLAP
        if to_now is None:
            reason = f"study {self.result.study_id} could not be brought onto this one: {found.reason}"
            note("prior-not-registered", "warning", reason, "Compare the two studies by eye.")
            return _without_growth(replace(result, findings=tuple(findings)), reason)
        if apart:
            reason = (
                f"the body in study {self.result.study_id} and the one in this study overlap by {overlap:.0%} when "
                "they are laid on each other, too little for one patient"
            )
            note(
                "prior-other-body", "warning", reason, "Make sure whose study it is; compare the two by eye."
            )
            return _without_growth(replace(result, findings=tuple(findings)), reason)
        note(
            "prior-registered",
            "note",
            f"lesions were matched by place with those of study {self.result.study_id}, whose images were "
            f"registered rigidly around the {found.around}",
            "Look at both studies: a lesion that moved with breathing or a changed liver may be taken for another.",
        )
        then, now = self.result.outlined_by_reader, result.outlined_by_reader
        if then != now:
            who = ("a reader", "the model") if then else ("the model", "a reader")
            note(
                "prior-other-outline",
                "warning",
                f"the lesions of study {self.result.study_id} were outlined by {who[0]} and these by {who[1]}: a "
                "change of size may be one of the outline",
                f"Compare two outlines of one kind (revise the {'later' if then else 'prior'} study too), or measure "
                "both by hand.",
            )
        if method_key(self.result.model) != method_key(result.model):
            note(
                "prior-other-model",
                "warning",
                f"the result of study {self.result.study_id} was made by another model: a change of size may be one "
                "of the model",
                "Predict the prior study with the same model.",
            )
        shown = Shown(moving, study.image(phase))
        return with_changes(replace(result, findings=tuple(findings)), self.result, to_now, shown)


def _without_growth(result: Result, reason: str) -> Result:
    missing = Measurement("growth", finding=NOT_ASSESSABLE, reason=reason)
    lesions = tuple(replace(one, measurements=(*one.measurements, missing)) for one in result.lesions)
    return replace(result, lesions=lesions)


def body_overlap(prior: Volume, now: Volume, to_now: NDArray[np.float64]) -> float | None:
    """Dice of the bodies in two images, where both show the world; None where one shows no body.

    Parameters
    ----------
    prior, now : Volume
    to_now : ndarray, shape (4, 4)
        From the world of ``prior`` to that of ``now``, mm.
    """
    now = at_least(now.canonical(), FINEST_MM)
    bodies = [body_region(at_least(image.canonical(), FINEST_MM)) for image in (prior, now)]
    if bodies[0] is None or bodies[1] is None:
        return None
    then, here = bodies[0].volume, bodies[1].volume.array > 0
    # 1 in the field of view and 2 in the body: what it does not show is 0 on the other grid
    shown = Volume((1 + then.array).astype(np.int32), to_now @ then.affine)
    there = resample_labels(shown, now.shape, now.affine).array
    both = here[there > 0], there[there > 0] == 2
    total = sum(int(body.sum()) for body in both)
    return None if total == 0 else 2.0 * int((both[0] & both[1]).sum()) / total


def _brought(moving: Volume, target: Target) -> tuple[Registration, NDArray[np.float64] | None]:
    """The better of two registrations, and the way from the prior world to this one; None = neither is trusted."""
    small = at_least(moving.canonical(), FINEST_MM)
    starts = [np.eye(4)]
    shift = _body_on_body(small, target)
    if shift is not None:
        starts.append(shift)
    tried = [
        (register(Volume(small.array, start @ small.affine), target.image, target.region), start)
        for start in starts
    ]
    trusted = [(found, start) for found, start in tried if found.outcome != "rejected"]
    if not trusted:
        return tried[0][0], None
    found, start = max(trusted, key=lambda one: one[0].similarity_after)
    return found, np.asarray(found.motion.matrix @ start)


def _body_on_body(moving: Volume, target: Target) -> NDArray[np.float64] | None:
    """The shift that puts the middle of one body onto that of the other."""
    middles = []
    for image in (moving, target.image):
        body = body_region(image)
        if body is None:
            return None
        middle = np.argwhere(body.volume.array).mean(0)
        middles.append(image.affine[:3, :3] @ middle + image.affine[:3, 3])
    shift = np.eye(4)
    shift[:3, 3] = middles[1] - middles[0]
    return shift
