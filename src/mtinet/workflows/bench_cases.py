"""What ``mtinet bench`` compares: the networks by name, and the virtual patients that all of them see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtinet.config import Config, NetworkName, resolve_settings, resolve_simulation
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError
from mtinet.workflows.prepare import prepare
from mtinet.workflows.simulate import simulate

MODELS = ("mtinet", "mtinet-per-phase", "basic_unet", "dynunet", "swinunetr", "attention_unet")
"""What can be compared; ``basic_unet`` is there twice, with MTI-Net's first width and with its own."""

NEVER = 10**9
"""More steps than any training has."""

MARK = -1.0
"""Value, in the first phase, of the lesions' voxels of the study to predict: signals are not negative."""


@dataclass(frozen=True)
class Case:
    """A network to measure: its name in the table and the settings of its training."""

    name: str
    config: Config

    @property
    def width(self) -> int:
        """Channels of the first layer, as the settings say."""
        mtinet = self.config.model == "mtinet"
        return self.config.encoder.channels[0] if mtinet else self.config.baseline.width


class Patients(NamedTuple):
    """Prepared studies to train on, one of them with its lesions marked to predict, and the classes."""

    training: list[PreparedStudy]
    marked: PreparedStudy
    classes: tuple[str, ...]


def cases(config: Config, models: Sequence[str]) -> list[Case]:
    """The networks to compare; patch, batch, objective and data path are the same for all.

    Parameters
    ----------
    config : Config
        Every objective term takes part from the first step on; the looks at gradients
        (``training.diagnose_every``) are left out, they are timed by themselves.
    models : sequence of str
        Some of :data:`MODELS`.

    Raises
    ------
    UserError
        An unknown name, a name given twice, or none.
    """
    unknown = [name for name in models if name not in MODELS]
    if unknown or not models or len(set(models)) != len(models):
        given = f"unknown network {', '.join(map(repr, unknown))}" if unknown else "name each network once"
        raise UserError(f"--models {','.join(models)}: {given}; valid: {', '.join(MODELS)}")
    started = ("regression", "classification", "tim", "adversarial")
    config = resolve_settings(config, None, [f"objective.{term}_from=0" for term in started])
    found: list[Case] = []
    for name in models:
        if name == "mtinet":
            found.append(Case(name, _with(config, "model=mtinet", "encoder.shared=true")))
        elif name == "mtinet-per-phase":
            found.append(Case(name, _with(config, "model=mtinet", "encoder.shared=false")))
        elif name == "basic_unet":
            widths = sorted({config.encoder.channels[0], config.baseline.width})
            found += [_baseline(config, "basic_unet", width) for width in widths]
        elif name == "swinunetr":  # its attention heads need a multiple of 12
            found.append(_baseline(config, name, 12 * max(config.baseline.width // 12, 1)))
        else:
            found.append(_baseline(config, name, config.baseline.width))
    return found


def same_width_basic_unet(config: Config) -> str:
    """Name of the BasicUNet whose first layer is as wide as MTI-Net's."""
    return f"basic_unet-{config.encoder.channels[0]}"


def _baseline(config: Config, model: NetworkName | str, width: int) -> Case:
    return Case(f"{model}-{width}", _with(config, f"model={model}", f"baseline.width={width}"))


def _with(config: Config, *assignments: str) -> Config:
    return resolve_settings(config, None, assignments)


def long_enough(config: Config, steps: int) -> Config:
    """The settings with at least so many training steps and no look at gradients on the way."""
    longest = max(config.training.steps, steps)
    return _with(config, f"training.steps={longest}", f"training.diagnose_every={NEVER}")


# ---------------------------------------------------------------------- patients
def virtual_patients(
    place: Path,
    config: Config,
    *,
    simulation: str = "demo",
    subjects: int = 4,
    workers: int | None = None,
) -> Patients:
    """Simulate and prepare a few patients in ``place``; those that are there already are kept.

    Parameters
    ----------
    place : Path
        Folder of the cohort; the study to predict lies in it too.
    config : Config
        Its phases and preparation.
    simulation : str
        Simulation preset whose scanners the patients lie in.
    subjects : int
        Number of patients; each has a lesion and all phases.
    """
    rich = {"transitional", "hepatobiliary"} & set(config.phases)
    options = {
        "subjects": subjects,
        "missing_phase_rate": 0.0,
        "no_lesion_fraction": 0.0,
        "phases": config.phases,
        "agent": "gadoxetate" if rich else "gadobutrol",
    }
    settings = resolve_simulation(simulation, None, (), options=options)
    cohort = simulate(place / "cohort", settings, workers)
    studies, findings = prepare(cohort, config, place / "prepared", workers)
    with_lesion = [study for study in studies if study.lesions]
    if not with_lesion:
        said = "; ".join(finding.meaning for finding in findings) or "none of them has a lesion"
        raise UserError(f"the patients in {place} are of no use for a benchmark: {said}")
    return Patients(studies, with_marks(with_lesion[0], place / "marked"), cohort.classes)


def with_marks(study: PreparedStudy, folder: Path) -> PreparedStudy:
    """A copy of a study, on disk, with the lesions' voxels of its first phase set to :data:`MARK`.

    A network that was not trained finds nothing or everything, and the cost of reading lesions would depend
    on that.  With marks every network can be made to find the same ones
    (:func:`mtinet.workflows.bench_measures.find_marked`).
    """
    assert study.mask is not None, "a study with lesions has a mask"
    image, mask = np.maximum(np.array(study.image), 0.0), np.array(study.mask)
    image[0][mask > 0] = MARK
    memory = {"image": image, "mask": mask}
    folder.mkdir(parents=True, exist_ok=True)
    replace(study, folder=None, has_liver=False, memory=memory).write(folder)
    return PreparedStudy.open(folder)
