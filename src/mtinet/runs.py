"""The run folder: the only place that knows which file lies where, and how a checkpoint is written and read.

::

    config.yaml  manifest.json  split.json  preparation.json  classes.json
    learning.json  harmonisation.json  where an experiment changed the training data
    inherited.json                     of a fine-tuned run: what its start, and that one's, trained on
    checkpoints/step-<n>.safetensors   everything that training needs to go on (the last two)
    checkpoints/model.safetensors      the network that predicts (moving average where there is one)
    checkpoints/discriminator.safetensors   the discriminator, for the report's attention
    calibration.json  calibration-<method>.json   how sure the model is (mtinet calibrate)
    metrics.jsonl  findings.jsonl  predictions/  report.html

Nothing in it is ever unpickled, and ``predict RUN STUDY`` needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from safetensors import SafetensorError, safe_open

from mtinet import config as settings
from mtinet import files
from mtinet.config import Config, MeasurementSettings, SettingsError
from mtinet.config.variation import LearningVariation
from mtinet.errors import UserError
from mtinet.results import Finding

if TYPE_CHECKING:
    import torch

RUN_FORMAT = 1
"""Version of the run folder; readers refuse a newer one."""

KEPT_CHECKPOINTS = 2

PACKAGED = Path(__file__).parent / "models"
"""Models that come with the package: a run folder each, without what only training needs."""


_KEYS = {
    "manifest": (),
    "classes": ("classes",),
    "preparation": ("settings", "phases", "enhancement", "lesions", "patients", "keys"),
}
"""What JSON files of a run hold at least, in every version of the folder that can be read."""


class RunError(UserError):
    """A run folder cannot be made, read or resumed; the message names the repair."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after ``step`` steps: named tensors and a few plain values."""

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run folder that exists."""

    path: Path

    # ------------------------------------------------------------------ making and opening
    @classmethod
    def create(cls, path: Path, config: Config, documents: Mapping[str, Any]) -> Run:
        """Make a run folder; ``documents`` are its JSON files by name (``split``, ``classes``, ``manifest``).

        Raises
        ------
        RunError
            The folder is not empty or cannot be written.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(f"{path} is not empty; give another --out, or --resume to go on with that run")
        try:
            # whole or not at all: a folder without its settings could be neither resumed nor replaced
            with files.atomic_folder(path) as temporary:
                for name, document in documents.items():
                    cls(temporary).write_document(name, document)
                files.write_text(temporary / "config.yaml", settings.to_yaml(config))
        except OSError as error:
            raise RunError(
                f"cannot write {path} ({error.strerror}); give an --out that can be written"
            ) from None
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open a run folder.

        Raises
        ------
        RunError
            There is none at ``path``, or it was written by a newer version.
        """
        if not (path / "config.yaml").is_file():
            raise RunError(
                f"{path} is not a run folder (it has no config.yaml); give the --out of a training"
            )
        run = cls(path)
        version = run.manifest.get("format", 0)
        if not isinstance(version, int):
            raise run._damaged("manifest", f"format {version!r} is no whole number")
        if version > RUN_FORMAT:
            raise RunError(
                f"run format {version} of {path} is newer than this mtinet reads ({RUN_FORMAT}); update it"
            )
        return run

    @classmethod
    def find(cls, model: Path | str) -> Run:
        """Open a run folder, or a model that comes with the package by its name (``reference``).

        A folder of that name goes first.

        Raises
        ------
        RunError
            There is neither, or it was written by a newer version.
        """
        path = Path(model)
        packaged = PACKAGED / path
        named = path.parent == Path() and (packaged / "config.yaml").is_file()
        return cls.open(packaged if named and not path.exists() else path)

    # ------------------------------------------------------------------ settings and documents
    @property
    def config(self) -> Config:
        """The run's resolved settings.

        Raises
        ------
        RunError
            The file is damaged, or has lost settings: defaults in their place would change what is predicted.
        """
        path = self.path / "config.yaml"
        repair = "restore the config.yaml of the training or train again"
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RunError(f"{path} is damaged ({' '.join(str(error).split())}); {repair}") from None
        if not isinstance(values, dict):
            raise RunError(f"{path} is damaged (it holds no settings by name); {repair}")
        if lost := _lost(values):
            raise RunError(f"{path} is not complete: it lacks {', '.join(lost)}; {repair}")
        try:
            return settings.validate(Config, values)
        except SettingsError as error:
            raise RunError(f"{path} cannot be used ({error}); {repair}") from None

    @property
    def learning(self) -> LearningVariation:
        """What was changed in the training data; the default changes nothing."""
        if not self.has_document("learning"):
            return LearningVariation()
        return settings.validate(LearningVariation, self.document("learning"))

    @property
    def manifest(self) -> dict[str, Any]:
        """Versions, machine, seeds and hashes."""
        return dict(self.document("manifest"))

    @property
    def classes(self) -> tuple[str, ...]:
        """The lesion classes, in the order of the network's outputs."""
        names = self.document("classes")["classes"]
        if not isinstance(names, list) or not names:
            raise self._damaged("classes", "it names no class")
        return tuple(str(name) for name in names)

    @property
    def class_codes(self) -> dict[str, str]:
        """SNOMED CT code by class, of those that the cohort gave one."""
        codes = self.document("classes").get("codes", {})
        if not isinstance(codes, dict):
            raise self._damaged("classes", "its codes have no classes")
        return {str(name): str(code) for name, code in codes.items()}

    def digest(self) -> str:
        """SHA-256 of what decides a prediction: weights, settings and classes."""
        digest = hashlib.sha256()
        for path in (
            self._checkpoints / "model.safetensors",
            self.path / "config.yaml",
            self.path / "classes.json",
        ):
            try:
                digest.update(path.read_bytes())
            except OSError:
                raise RunError(f"{self.path} lacks {path.name}; finish it with train --resume") from None
        return digest.hexdigest()

    @property
    def predictions(self) -> Path:
        """Folder of the predictions' tables and masks on the held-out studies."""
        return self.path / "predictions"

    def predictions_on(self, name: str) -> Path:
        """Folder of the tables of another cohort or of another program's predictions."""
        return self.path / f"predictions-{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}"

    @property
    def has_discriminator(self) -> bool:
        """Whether the run kept its discriminator."""
        return (self._checkpoints / "discriminator.safetensors").is_file()

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.path / "report.html"

    def document(self, name: str) -> Any:
        """Content of one of the run's JSON files, by name without suffix.

        Raises
        ------
        RunError
            It is not there, is no JSON, or lacks what every run has there.
        """
        path = self.path / f"{name}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{self.path} lacks {path.name}; the run is not complete, train it again"
            ) from None
        except ValueError as error:  # no JSON, or no text
            raise self._damaged(name, str(error)) from None
        if name in _KEYS:
            if not isinstance(found, dict):
                raise self._damaged(name, "it holds no values by name")
            if lacking := [key for key in _KEYS[name] if key not in found]:
                raise self._damaged(name, f"it lacks {', '.join(lacking)}")
        return found

    def _damaged(self, name: str, why: str) -> RunError:
        return RunError(f"{self.path / f'{name}.json'} is damaged ({why}); train again or restore it")

    def has_document(self, name: str) -> bool:
        """Whether that JSON file is there."""
        return (self.path / f"{name}.json").is_file()

    def write_document(self, name: str, value: Any) -> None:
        """Write one of the run's JSON files."""
        files.write_json(self.path / f"{name}.json", value)

    # ------------------------------------------------------------------ metrics and findings
    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(files.plain(dict(record))) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Every record of ``metrics.jsonl``."""
        return _read_lines(self.path / "metrics.jsonl")

    def truncate_metrics(self, step: int) -> None:
        """Forget records and training findings of later steps: a resumed training writes them again."""
        kept = [r for r in self.metrics() if r.get("step", 0) <= step]
        _write_lines(self.path / "metrics.jsonl", kept)
        findings = [f for f in self.findings() if f.step is None or f.step <= step]
        self._write_findings(findings)

    def findings(self) -> list[Finding]:
        """Every finding of the run so far."""
        return [Finding(**item) for item in _read_lines(self.path / "findings.jsonl")]

    def add_findings(self, findings: Iterable[Finding]) -> None:
        """Add findings."""
        self._write_findings([*self.findings(), *findings])

    def replace_findings(self, stage: str, findings: Iterable[Finding]) -> None:
        """Put ``findings`` in the place of all earlier ones of that stage."""
        self._write_findings([*(f for f in self.findings() if f.stage != stage), *findings])

    def _write_findings(self, findings: Iterable[Finding]) -> None:
        _write_lines(self.path / "findings.jsonl", [f.to_dict() for f in findings])

    # ------------------------------------------------------------------ checkpoints
    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint atomically and drop all but the last two.

        Raises
        ------
        RunError
            The disk is full or the folder read-only; the checkpoints before it stay.
        """
        path = self._checkpoints / f"step-{checkpoint.step:08d}.safetensors"
        _save(path, checkpoint.tensors, {"step": checkpoint.step, "state": checkpoint.state})
        for old in self._steps()[:-KEPT_CHECKPOINTS]:
            old.unlink(missing_ok=True)

    def latest_checkpoint(self) -> tuple[Checkpoint | None, list[Finding]]:
        """The newest checkpoint that can be read whole, and a finding for each that cannot."""
        findings: list[Finding] = []
        for path in reversed(self._steps()):
            try:
                tensors, header = _load(path)
                return Checkpoint(header["step"], tensors, header["state"]), findings
            except (SafetensorError, OSError, KeyError, ValueError) as error:
                findings.append(
                    Finding(
                        "damaged-checkpoint",
                        "train",
                        "warning",
                        f"{path.name} cannot be read ({error})",
                        "The checkpoint before it is used; check the disk.",
                    )
                )
        return None, findings

    def save_model(
        self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], name: str = "model"
    ) -> None:
        """Write the network that predicts, or (``name="discriminator"``) the one that judged it."""
        _save(self._checkpoints / f"{name}.safetensors", tensors, dict(facts))

    def load_model(self, name: str = "model") -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors and facts of the network that predicts (or of the discriminator)."""
        path = self._checkpoints / f"{name}.safetensors"
        if not path.is_file():
            raise RunError(f"{self.path} has no trained model yet; finish it with train --resume")
        try:
            return _load(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise RunError(f"{path} is damaged ({error}); train --resume writes it again") from None

    def fill(self, module: torch.nn.Module, name: str = "model") -> dict[str, Any]:
        """Give a module the weights that were trained, and return the facts that were kept with them.

        Raises
        ------
        RunError
            There are none, or they are not those of a module that the run's settings and classes describe.
        """
        tensors, facts = self.load_model(name)
        try:
            module.load_state_dict(tensors)
        except RuntimeError:  # torch lists every tensor by name, which is no help
            raise RunError(
                f"the settings in {self.path / 'config.yaml'} (or the number of classes in classes.json) do not belong "
                f"to the weights of the {name}; restore the files of the training or train again"
            ) from None
        return facts

    @property
    def finished(self) -> bool:
        """Whether the training has ended."""
        return (self._checkpoints / "model.safetensors").is_file()

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def _steps(self) -> list[Path]:
        return sorted(
            p for p in self._checkpoints.glob("step-*.safetensors") if re.fullmatch(r"step-\d+", p.stem)
        )


def _lost(values: Mapping[str, Any]) -> list[str]:
    """Sections that a file of settings has lost, and settings of its last section, where a cut file may end.

    Single settings may lack elsewhere: runs of earlier versions lack those that came later.
    """
    lost = [name for name in Config.model_fields if name not in values]
    last = values.get("measurement")
    if not lost and isinstance(last, dict):
        lost = [f"measurement.{name}" for name in MeasurementSettings.model_fields if name not in last]
    return lost


def _save(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    # torch takes two seconds to be there: who reads the numbers of a run does not wait for it
    from safetensors.torch import save_file

    contiguous = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        with files.atomic_path(path) as temporary:
            save_file(contiguous, temporary, metadata={"mtinet": json.dumps(files.plain(dict(header)))})
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"cannot write {path} ({error}); free the disk or correct its rights, then train --resume"
        ) from None


def _load(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, framework="pt") as stream:
        header = json.loads((stream.metadata() or {})["mtinet"])
        return {name: stream.get_tensor(name) for name in stream.keys()}, header  # noqa: SIM118


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break  # a line cut by a kill: it and what follows is written again on resume
    return records


def _write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    files.write_text(path, "".join(json.dumps(files.plain(dict(r))) + "\n" for r in records))
