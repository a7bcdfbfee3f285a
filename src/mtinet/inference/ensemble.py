"""A panel (:mod:`mtinet.inference.panel`) as a predictor: with classes, measurements, certainty and findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError
from mtinet.inference.forward import Reading
from mtinet.inference.panel import ALONE, Opinions, Panel
from mtinet.inference.passes import TorchPasses
from mtinet.inference.predictor import Predictor
from mtinet.inference.vote import Vote
from mtinet.results import Finding
from mtinet.runs import Run


class Ensemble(Predictor):
    """Predicts as the mean of several opinions; one opinion is the network itself."""

    def __init__(self, predictors: Sequence[Predictor], opinions: Opinions = ALONE) -> None:
        first = predictors[0]
        super().__init__(
            first.network,
            first.config,
            first.classes,
            _facts(predictors, opinions),
            first.harmonisation,
            first.passes,
        )
        for other in predictors[1:]:
            _check_alike(first, other)
        self.panel = Panel(predictors, opinions)
        if opinions.dropout and not all(isinstance(p.passes, TorchPasses) for p in predictors):
            raise UserError(
                "an exported network has no dropout to hold: give --dropout with --backend torch, or leave it out"
            )

    @classmethod
    def open(
        cls,
        runs: Sequence[Run],
        opinions: Opinions = ALONE,
        device: str = "auto",
        backend: str = "torch",
    ) -> Ensemble:
        """Load the models of run folders.

        Raises
        ------
        RunError
            One of them is no finished run.
        UserError
            They do not take the same images or do not know the same classes, or one is given twice (or a copy of it).
        """
        predictors = [Predictor.load(run, device, backend) for run in runs]
        digests = [predictor.facts["digest"] for predictor in predictors]
        twice = [run.path for n, run in enumerate(runs) if digests[n] in digests[:n]]
        if twice:
            raise UserError(
                f"run {twice[0]} holds the same network as one before it, which is no second opinion; give every run "
                "once"
            )
        ensemble = cls(predictors, opinions)
        ensemble.adopt_calibration(runs[0])
        return ensemble

    def vote(self, study: PreparedStudy) -> Vote:
        """Mean and spread of the members' lesion probability; what the study looks like to the first."""
        return self.panel.vote(study)

    def read(self, study: PreparedStudy, labels: NDArray[Any]) -> dict[int, Reading]:
        """Means of what the members read from the same lesions."""
        return self.panel.read(study, labels)

    def _findings(self, study: PreparedStudy, vote: Vote) -> list[Finding]:
        findings = super()._findings(study, vote)
        if self.panel.opinions.flips and not (
            self.config.augmentation.enabled and self.config.augmentation.flip
        ):
            findings.append(
                Finding(
                    "flip-not-learned",
                    "predict",
                    "note",
                    "the mirrored study was asked about, and the network was trained without mirrored ones",
                    "Train with augmentation.flip above 0, or leave the flips out.",
                    study.study_id,
                )
            )
        return findings


def _facts(predictors: Sequence[Predictor], opinions: Opinions) -> dict[str, Any]:
    facts = dict(predictors[0].facts)
    if not all(p.facts.get("virtual") for p in predictors):
        facts.pop("virtual", None)  # it says "alone"
    if len(predictors) > 1:
        facts["ensemble"] = [p.facts.get("digest", "") for p in predictors]
    if opinions.flips:
        facts["flips"] = True
    if opinions.dropout:
        facts["dropout_samples"] = opinions.dropout
    return facts


def _check_alike(first: Predictor, other: Predictor) -> None:
    differing = [
        name
        for name, one, two in (
            ("classes", first.classes, other.classes),
            ("phases", first.config.phases, other.config.phases),
            ("spatial_dims", first.config.spatial_dims, other.config.spatial_dims),
            ("preparation", first.config.preparation, other.config.preparation),
        )
        if one != two
    ]
    if differing:
        raise UserError(
            f"runs {first.facts.get('run')} and {other.facts.get('run')} differ in {', '.join(differing)}; "
            "an ensemble needs runs on the same images and classes"
        )
