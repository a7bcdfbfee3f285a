"""A trained model that loads once and serves many studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mtinet.cohort import Study
from mtinet.config import Config
from mtinet.data.preparation import prepare_for_prediction
from mtinet.data.prepared import PreparedStudy
from mtinet.inference.forward import Reading, lesion_probability, read_lesions
from mtinet.inference.lesions import describe_lesions, find_lesions, mask_on_source
from mtinet.model.build import build_network
from mtinet.model.network import MultiTaskNetwork
from mtinet.results import Finding, Result
from mtinet.runs import Run


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
    """

    result: Result
    study: PreparedStudy
    labels: NDArray[np.int32]
    readings: dict[int, Reading]


class Predictor:
    """A network with the settings and classes that it was trained with.

    Examples
    --------
    >>> predictor = mtinet.load("runs/first")  # doctest: +SKIP
    >>> result = predictor("studies/0001")  # doctest: +SKIP
    >>> result.label, len(result.lesions)  # doctest: +SKIP
    """

    def __init__(
        self, network: MultiTaskNetwork, config: Config, classes: tuple[str, ...], facts: dict[str, Any]
    ) -> None:
        self.network = network.eval()
        self.config = config
        self.classes = classes
        self.facts = facts

    @classmethod
    def load(cls, run: Run | Path | str, device: str = "auto") -> Predictor:
        """Load the model of a run folder.

        Raises
        ------
        RunError
            There is no finished run at that place.
        """
        run = run if isinstance(run, Run) else Run.open(Path(run))
        config, classes = run.config, run.classes
        network = build_network(config, len(classes))
        tensors, facts = run.load_model()
        network.load_state_dict(tensors)
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        manifest = run.manifest
        described = {
            "network": config.model,
            "run": manifest.get("id", ""),
            "mtinet": manifest.get("versions", {}).get("mtinet", ""),
            "step": facts.get("step"),
            "digest": run.digest(),
        }
        return cls(network.to(chosen), config, classes, described)

    def __call__(self, study: Study | Path | str) -> Result:
        """Predict a study, or a folder that holds ``<phase>.nii.gz`` files."""
        return self.explain(study).result

    def explain(self, study: Study | Path | str) -> StudyPrediction:
        """Predict a study and keep what lies behind the result."""
        if not isinstance(study, Study):
            study = Study.from_folder(Path(study))
        prepared = prepare_for_prediction(study, self.config.phases, self.config.preparation)
        return self.predict_prepared(prepared)

    def predict_prepared(self, study: PreparedStudy) -> StudyPrediction:
        """Predict a study that is prepared already."""
        settings = self.config.inference
        probability = lesion_probability(self.network, study, self.config)
        labels = find_lesions(probability, study.spacing_mm, settings)
        readings = read_lesions(self.network, study, labels, self.config)
        mask = mask_on_source(study, probability, labels, settings.threshold)
        result = Result(
            study_id=study.study_id,
            phases=tuple(p for p, present in zip(study.phases, study.present, strict=True) if present),
            reference_phase=study.reference_phase,
            classes=self.classes,
            lesions=describe_lesions(study, probability, labels, readings, mask, self.classes),
            mask=mask,
            findings=tuple(self._findings(study)),
            model=self.facts,
        )
        return StudyPrediction(result, study, labels, readings)

    def _findings(self, study: PreparedStudy) -> list[Finding]:
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
