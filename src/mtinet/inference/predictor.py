"""A trained model that loads once and serves many studies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtinet.cohort import Study
from mtinet.config import Config
from mtinet.data.harmonisation import Harmonisation
from mtinet.data.preparation import prepare_for_prediction
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError
from mtinet.imaging.limits import image_limits, trusted_times
from mtinet.imaging.liver import without_unusable_liver
from mtinet.inference.backends import open_passes
from mtinet.inference.certainty import Calibration, document_name, method_key
from mtinet.inference.describe import describe_lesions
from mtinet.inference.familiar import look_at_study
from mtinet.inference.forward import Reading
from mtinet.inference.measure import Measured, measure
from mtinet.inference.observed import Observed
from mtinet.inference.passes import Passes
from mtinet.inference.reader import Reader, trained_harmonisation, trained_network
from mtinet.inference.vote import Vote
from mtinet.model.network import MultiTaskNetwork
from mtinet.results import UNNAMED, Finding, Lesion, Result
from mtinet.runs import Run
from mtinet.volume import Volume


@dataclass(frozen=True)
class StudyPrediction:
    """A prediction with what lies behind it.

    Attributes
    ----------
    result : Result
    study : PreparedStudy
    labels : ndarray of int32, shape (Z, Y, X)
        Lesion numbers on the prepared grid.
    readings : dict of Reading
        By lesion number.
    vote : Vote
        Lesion probability on the prepared grid.
    """

    result: Result
    study: PreparedStudy
    labels: NDArray[np.int32]
    readings: dict[int, Reading]
    vote: Vote


def with_findings(prediction: StudyPrediction, before: Iterable[Finding]) -> StudyPrediction:
    """The prediction with findings before its own."""
    result = prediction.result
    return replace(prediction, result=replace(result, findings=(*before, *result.findings)))


def _loaded(study: Study) -> Study:
    return replace(study, loaded={phase: study.image(phase) for phase in study.images})


class Predictor(Reader):
    """A network with the settings and classes that it was trained with.

    Examples
    --------
    >>> predictor = mtinet.load("runs/first")  # doctest: +SKIP
    >>> result = predictor("studies/0001")  # doctest: +SKIP
    >>> result.label, len(result.lesions)  # doctest: +SKIP
    """

    def __init__(
        self,
        network: MultiTaskNetwork,
        config: Config,
        classes: tuple[str, ...],
        facts: dict[str, Any],
        harmonisation: Harmonisation | None = None,
        passes: Passes | None = None,
    ) -> None:
        super().__init__(network, config, harmonisation, passes)
        self.classes = classes if config.objective.classification > 0 else UNNAMED
        self.facts = facts
        self.calibration: Calibration | None = None
        self.outdated_calibration = False
        self.shown: Mapping[str, Sequence[str]] | None = None

    @classmethod
    def load(cls, run: Run | Path | str, device: str = "auto", backend: str = "torch") -> Predictor:
        """Load the model of a run folder, or one that comes with the package by its name.

        Parameters
        ----------
        run : Run, Path or str
        device : str
            Of torch: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; the other backends compute on the CPU.
        backend : str
            Who computes the network: ``torch``, ``onnxruntime`` or ``openvino``.  Their graphs are made at
            first use and kept in the user's cache.

        Raises
        ------
        RunError
            There is no finished run at that place.
        UserError
            The backend is not installed, or cannot compute this network; or there is no such device.
        """
        run = run if isinstance(run, Run) else Run.find(run)
        here = device == "auto" and backend == "torch" and torch.cuda.is_available()
        chosen = ("cuda" if here else "cpu") if device == "auto" else device
        if backend != "torch" and chosen != "cpu":
            raise UserError(f"the backend {backend} computes on the CPU; leave device={device} out")
        _check_device(chosen)
        network, facts = trained_network(run, chosen)
        manifest = run.manifest
        described = {
            "network": run.config.model,
            "run": manifest.get("id", ""),
            "mtinet": manifest.get("versions", {}).get("mtinet", ""),
            "step": facts.get("step"),
            "digest": run.digest(),
        }
        if manifest.get("virtual"):
            described["virtual"] = True
        if backend != "torch":
            described["backend"] = backend
        passes = open_passes(network, backend, described["digest"])
        predictor = cls(network, run.config, run.classes, described, trained_harmonisation(run), passes)
        predictor.adopt_calibration(run)
        if run.has_document("preparation"):
            predictor.shown = run.document("preparation").get("shown")  # runs of earlier versions do not tell
        return predictor

    def adopt_calibration(self, run: Run) -> None:
        """Take over what ``mtinet calibrate`` learned about these answers, where the run has it.

        A calibration of other weights is left where it lies, and a finding says so: it knows nothing of these.
        """
        name = document_name(self.facts)
        found = Calibration.from_dict(run.document(name)) if run.has_document(name) else None
        fits = found is not None and found.method == method_key(self.facts)
        self.calibration = found if fits else None
        self.outdated_calibration = found is not None and not fits

    def __call__(self, study: Study | Path | str) -> Result:
        """Predict a study, or a folder that holds ``<phase>.nii.gz`` files."""
        return self.explain(study).result

    def explain(self, study: Study | Path | str) -> StudyPrediction:
        """Predict a study and keep what lies behind the result."""
        faults: tuple[Finding, ...] = ()
        if isinstance(study, Study):
            # whoever built it, or read it from a table or headers, has not compared its times
            times, faults = trusted_times(study.times_s, study.study_id)
            study = replace(_loaded(study), times_s=times)
        else:
            study = _loaded(Study.from_folder(Path(study)))
        study, unusable = without_unusable_liver(study)
        prepared = prepare_for_prediction(study, self.config.phases, self.config.preparation)
        found = self.predict_prepared(prepared, study.agent)
        # what the images cannot tell comes before what the model says of them
        return with_findings(found, (*faults, *unusable, *image_limits(study, self.config.phases)))

    def predict_prepared(
        self, study: PreparedStudy, agent: str = "", *, measured: bool = True
    ) -> StudyPrediction:
        """Predict a study that is prepared already.

        Parameters
        ----------
        study : PreparedStudy
        agent : str
            Contrast agent as written; empty = not known, and then no sign that needs it is assessed.
        measured : bool
            Whether lesions, liver and aorta are measured; those who only score the network need not.

        Raises
        ------
        UserError
            The model learned no masks.
        """
        if self.config.objective.segmentation == 0:
            raise UserError(
                "the model learned no masks (objective.segmentation=0) and finds no lesions; train one that does, "
                "or let this one read lesions that you outline: mtinet revise"
            )
        vote = self.vote(study)
        labels, mask = self.outline(study, vote.probability)
        return self._described(study, vote, labels, mask, agent, measured=measured)

    def read_drawn(self, study: PreparedStudy, mask: Volume, agent: str = "") -> StudyPrediction:
        """Read enhancement and class of lesions that somebody drew, instead of those that would be found.

        Parameters
        ----------
        study : PreparedStudy
            With its mask.
        mask : Volume
            The same as it was drawn, on the grid of the reference phase.
        agent : str
            Contrast agent as written; empty = not known.
        """
        labels = np.asarray(study.mask, dtype=np.int32)
        return self._described(study, self.vote(study), labels, mask, agent)

    def _described(
        self,
        study: PreparedStudy,
        vote: Vote,
        labels: NDArray[np.int32],
        mask: Volume,
        agent: str,
        *,
        measured: bool = True,
    ) -> StudyPrediction:
        readings = self.read(study, labels)
        numbers = Measured()
        if measured:
            numbers = measure(Observed.of(study, labels, agent), mask, self.config.measurement)
        lesions = describe_lesions(
            study, vote.probability, labels, readings, mask, self.classes, numbers.lesions
        )
        result = Result(
            study_id=study.study_id,
            phases=tuple(p for p, present in zip(study.phases, study.present, strict=True) if present),
            reference_phase=study.reference_phase,
            classes=self.classes,
            lesions=self._with_certainty(lesions, study),
            mask=mask,
            findings=(*self._findings(study, vote), *_not_covered(study, lesions)),
            model=self.facts,
            measurements=numbers.study,
        )
        return StudyPrediction(result, study, labels, readings, vote)

    def _with_certainty(self, lesions: tuple[Lesion, ...], study: PreparedStudy) -> tuple[Lesion, ...]:
        if self.calibration is None:
            return lesions
        return tuple(replace(one, certainty=self.calibration.certainty(one, study.gain)) for one in lesions)

    def _findings(self, study: PreparedStudy, vote: Vote) -> list[Finding]:
        found = []
        if self.facts.get("virtual"):
            found.append(
                Finding(
                    "virtual-training",
                    "predict",
                    "warning",
                    "the model learned from virtual patients alone, and its certainty holds for them",
                    "Take the result as a trial; train on your own cohort before you measure.",
                    study.study_id,
                )
            )
        if self.calibration is not None:
            look = look_at_study(self.seen(study), vote.description)
            found += self.calibration.familiarity.findings(look, study.study_id)
        if self.outdated_calibration:
            found.append(
                Finding(
                    "outdated-calibration",
                    "predict",
                    "warning",
                    "the run's calibration was made with other weights and is not used",
                    "Calibrate again: mtinet calibrate RUN COHORT.",
                    study.study_id,
                )
            )
        return [*found, *self._never_shown(study), *self._missing_phases(study)]

    def _never_shown(self, study: PreparedStudy) -> list[Finding]:
        """What no training study had: a class that the model answers for, a phase of this study that it uses."""
        if self.shown is None:
            return []
        found = []
        classes = [name for name in self.classes if name not in (*self.shown["classes"], *UNNAMED)]
        if classes:
            found.append(
                Finding(
                    "class-never-shown",
                    "predict",
                    "warning",
                    f"no training study had a lesion of {', '.join(classes)}: its probability means nothing",
                    "Train on patients who have it, or on a cohort that does not list it.",
                    study.study_id,
                )
            )
        used = [p for p, present in zip(study.phases, study.present, strict=True) if present]
        phases = [phase for phase in used if phase not in self.shown["phases"]]
        if phases:
            found.append(
                Finding(
                    "phase-never-shown",
                    "predict",
                    "warning",
                    f"no training study had the phase {', '.join(phases)}, which the model uses here",
                    "Leave the phase out of the study, or train on studies that have it.",
                    study.study_id,
                )
            )
        return found

    def _missing_phases(self, study: PreparedStudy) -> list[Finding]:
        absent = [p for p, present in zip(study.phases, study.present, strict=True) if not present]
        if not absent:
            return []
        return [
            Finding(
                "missing-phase",
                "predict",
                "note",
                f"predicted without {', '.join(absent)}",
                "Add the phase if it was acquired; the prediction is less certain without it.",
                study.study_id,
            )
        ]


def _check_device(device: str) -> None:
    """Refuse a device that torch does not know, or does not see here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(
            f"device {device!r} cannot be used here ({why}); give auto or cpu, or cuda (cuda:1 for the second GPU) "
            "where mtinet doctor names one"
        ) from None


def _not_covered(study: PreparedStudy, lesions: Sequence[Lesion]) -> list[Finding]:
    """A finding for each phase that does not show all lesions."""
    found = []
    for phase, present in zip(study.phases, study.present, strict=True):
        outside = [str(lesion.number) for lesion in lesions if present and phase not in lesion.measured]
        if outside:
            found.append(
                Finding(
                    "lesion-not-covered",
                    "predict",
                    "warning",
                    f"the field of view of {phase} does not cover lesion {', '.join(outside)}: the signal there is not "
                    "given in this phase, and the model saw none",
                    "Check that it is the right series; if it is, read the lesion's class and curve as without this "
                    "phase.",
                    study.study_id,
                )
            )
    return found
