"""What ``mtinet bench`` measures on one network: steps, parts of a step, predictions, memory, operations."""

from __future__ import annotations

import copy
import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtinet.config import Config
from mtinet.data.dataset import PatchDataset, Sample
from mtinet.data.prepared import PreparedStudy
from mtinet.inference.predictor import Predictor
from mtinet.model.network import Features, MultiTaskNetwork
from mtinet.results import Result
from mtinet.runs import Run
from mtinet.training.loop import Trainer
from mtinet.training.regions import training_regions
from mtinet.workflows.bench_cases import MARK, Case, Patients, long_enough
from mtinet.workflows.bench_parts import PartTimer
from mtinet.workflows.peak_memory import peak_bytes
from mtinet.workflows.train import networks

Stage = Literal["train", "infer"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class Block(NamedTuple):
    """Seconds of a block of training steps, a step: all of it, and waiting for the batch."""

    step_s: float
    loading_s: float


class Contender:
    """A network with its real trainer and its real predictor, on one device.

    Parameters
    ----------
    case : Case
    patients : Patients
    place : Path
        Folder for the run that the trainer wants; nothing is logged.
    device : str
        ``cpu`` or ``cuda``.
    most_steps : int
        Training steps that will be made at most.
    """

    def __init__(self, case: Case, patients: Patients, place: Path, device: str, most_steps: int) -> None:
        self.case, self.patients, self.device = case, patients, device
        config = long_enough(case.config, most_steps)
        fabric = Fabric(accelerator=device, devices=1)
        fabric.launch()
        network, discriminator = networks(patients.training, config, patients.classes)
        data = PatchDataset(patients.training, config, patients.classes, config.training.seed)
        run = Run.create(place / f"{case.name}-{device}", config, {"manifest": {}})
        self.trainer = Trainer(run, config, network, discriminator, data, [], fabric)
        self.trainer.set_up()
        self._batches = self.trainer.batches()
        self._predictor: Predictor | None = None

    # ------------------------------------------------------------------ training
    def train(self, steps: int) -> Block:
        """Train for some steps; the seconds are means over them."""
        gc.collect()
        self.synchronise()
        start, loading = time.perf_counter(), 0.0
        for _ in range(steps):
            before = time.perf_counter()
            batch = next(self._batches)
            loading += time.perf_counter() - before
            self.trainer.step(batch)
        self.synchronise()
        return Block((time.perf_counter() - start) / steps, loading / steps)

    def shares(self, steps: int) -> dict[str, float]:
        """Shares of a step that MdIEF and the discriminator take, over so many steps with hooks in place."""
        timer = PartTimer(self.trainer, self.synchronise)
        with timer.watching():
            block = self.train(steps)
        return {part: timer.seconds[part] / (block.step_s * steps) for part in ("mdief", "discriminator")}

    def looks_share(self, every: int, pairs: int = 5) -> float:
        """Share of a training's time that the looks at gradients take, one every so many steps."""
        plain = self.trainer.config
        differences, steps = [], []
        for _ in range(pairs):
            steps.append(self.train(1).step_s)
            self.trainer.config = _looking(plain, 1)
            differences.append(self.train(1).step_s - steps[-1])
            self.trainer.config = plain
        look_s = max(statistics.median(differences), 0.0)
        return look_s / (look_s + every * statistics.median(steps))

    # ------------------------------------------------------------------ inference
    def infer(self) -> float:
        """Seconds to predict the marked study, from its prepared arrays to lesions on the source grid."""
        if self._predictor is None:
            network = copy.deepcopy(self.trainer.network)
            self._predictor = marked_predictor(network, self.trainer.config, self.patients.classes)
        gc.collect()
        self.synchronise()
        start = time.perf_counter()
        predict_marked(self._predictor, self.patients.marked)
        self.synchronise()
        return time.perf_counter() - start

    # ------------------------------------------------------------------ sizes
    def multiply_adds(self) -> float:
        """Multiply-adds of one batch's forward pass (:func:`multiply_adds`)."""
        return multiply_adds(self.trainer.network, next(self._batches), self.trainer.config)

    def parameters(self) -> tuple[int, int]:
        """Numbers of weights: of the network, and of the discriminator that only trains."""
        discriminator = self.trainer.discriminator
        return _count(self.trainer.network), 0 if discriminator is None else _count(discriminator)

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def marked_predictor(network: MultiTaskNetwork, config: Config, classes: tuple[str, ...]) -> Predictor:
    """A predictor whose network finds the marked lesions (:func:`find_marked`)."""
    predictor = Predictor(network, config, classes, {})
    find_marked(predictor.network)
    return predictor


def predict_marked(predictor: Predictor, study: PreparedStudy) -> Result:
    """Predict a study with marks.

    Raises
    ------
    RuntimeError
        Other lesions than the marked ones came out: the predictor does not use the network as it used to,
        and the seconds of different networks would not be those of the same work.
    """
    result = predictor.predict_prepared(study, measured=False).result
    most = max(lesion.volume_mm3 for lesion in result.lesions) if result.lesions else 0.0
    assert study.mask is not None, "a marked study has a mask"
    marked = float(np.count_nonzero(study.mask) * np.prod(study.spacing_mm))
    if not 0.0 < most <= 2.0 * marked:
        raise RuntimeError(
            f"{predictor.config.model} was made to find the marked lesions of {study.study_id} and found "
            "others"
        )
    return result


def find_marked(network: MultiTaskNetwork) -> None:
    """Make a network's mask that of the marked voxels; all it computes it still computes.

    The values that it sees are others than a patient's, which does not change what they cost.
    """
    encode, segment = network.encode, network.segment
    seen: list[Tensor] = []

    def encode_and_look(
        image: Tensor, phase_present: Tensor | None = None, phase_times_s: Tensor | None = None
    ) -> Features:
        seen[:] = [image[:, :1] < MARK / 2]
        return encode(image, phase_present, phase_times_s)

    def segment_as_marked(features: Features) -> Tensor:
        logits = segment(features)
        return torch.where(seen[0].to(logits.device), 10.0, torch.full_like(logits, -10.0))

    network.encode = encode_and_look  # type: ignore[method-assign]
    network.segment = segment_as_marked  # type: ignore[method-assign]


def multiply_adds(network: MultiTaskNetwork, batch: Sample, config: Config) -> float:
    """Multiply-adds of a forward pass over a batch: convolutions and matrix products, by torch's counter.

    What is not one of those is not counted, among it Fourier transforms, normalisation and entropies.
    """
    regions, _ = training_regions(batch, config, 0, 0)
    inputs = (batch[name] for name in ("image", "phase_present", "phase_times_s"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs, regions)
    return float(counter.get_total_flops()) / 2


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _looking(config: Config, every: int) -> Config:
    training = config.training.model_copy(update={"diagnose_every": every})
    return config.model_copy(update={"training": training})


# ---------------------------------------------------------------------- memory
@dataclass(frozen=True)
class MemoryJob:
    """What a process of its own does to measure its peak memory."""

    case: Case
    training: Sequence[PreparedStudy]
    marked: PreparedStudy
    classes: tuple[str, ...]
    place: Path
    device: str
    stage: Stage
    steps: int
    threads: int


def peak_memory_mb(job: MemoryJob) -> float:
    """Most memory that training or predicting takes, in MB, above what this process held before.

    To be run in a fresh process.  What it held before are the interpreter, the libraries (MONAI among them
    where it is needed) and the table of the studies, but neither network nor batch.  On a GPU it is torch's
    count of the device's memory.
    """
    torch.set_num_threads(job.threads)
    if job.case.config.model != "mtinet":
        import monai.networks.nets  # noqa: F401 (its memory is no network's)
    patients = Patients(list(job.training), job.marked, job.classes)
    gc.collect()
    before = peak_bytes(restart=True)
    if job.stage == "train":
        Contender(job.case, patients, job.place / "memory", job.device, job.steps).train(job.steps)
    else:
        network, _ = networks(patients.training, job.case.config, job.classes)
        predictor = marked_predictor(network.to(job.device), job.case.config, job.classes)
        predict_marked(predictor, job.marked)
    if job.device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return (peak_bytes() - before) / 1e6
