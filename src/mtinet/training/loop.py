"""The one training loop, on Fabric: one device or several processes, exact resume, two optimisers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from mtinet.config import Config
from mtinet.data.dataset import PatchDataset, Sample, collate
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UnusableError
from mtinet.evaluation.metrics import score_masks
from mtinet.inference.forward import survey
from mtinet.inference.passes import TorchPasses
from mtinet.model.network import MultiTaskNetwork, Prediction
from mtinet.model.tdd import TaskDiscriminator
from mtinet.results import Finding
from mtinet.runs import Checkpoint, Run, RunError
from mtinet.training import state
from mtinet.training.adversary import Adversary
from mtinet.training.diagnostics import StepDiagnostics
from mtinet.training.looks import class_chance, look
from mtinet.training.objective import Objective, Read
from mtinet.training.optimization import (
    build_optimizer,
    learning_rate,
    moving_average,
    projected_gradients,
)
from mtinet.training.precision import mixed_precision, precision_findings
from mtinet.training.regions import TrainingForward, training_regions

STREAM_TORCH, STREAM_PCGRAD = 501, 503

Progress = Callable[[int, dict[str, float]], None]
OnFinding = Callable[[Finding], None]


class TrainingError(UnusableError):
    """A training stopped; the message names the cause and the repair, and what is kept."""


@dataclass
class Trainer:
    """Everything that a training holds.

    Parameters
    ----------
    run : Run
        Where metrics, findings and checkpoints go.
    config : Config
    network : MultiTaskNetwork
    discriminator : TaskDiscriminator or None
        None leaves the adversarial term out.
    data : PatchDataset
        Training patches as a function of (step, slot).
    held_out : sequence of PreparedStudy
        Studies with a lesion whose Dice is logged while training; nothing is chosen by it.
    fabric : Fabric
        Devices and processes.
    progress : callable, optional
        Called as ``progress(step, numbers)`` after every step.
    on_finding : callable, optional
        Called with a finding as soon as it is made.

    Raises
    ------
    RunError
        The processes cannot share a batch evenly.
    """

    run: Run
    config: Config
    network: MultiTaskNetwork
    discriminator: TaskDiscriminator | None
    data: PatchDataset
    held_out: Sequence[PreparedStudy]
    fabric: Fabric
    progress: Progress | None = None
    on_finding: OnFinding | None = None
    _step: int = field(default=0, init=False)
    _since_logged: dict[str, list[float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        batch = self.config.training.batch_size
        if batch % self.fabric.world_size:
            raise RunError(
                f"training.batch_size={batch} cannot be shared by {self.fabric.world_size} processes; give a multiple"
            )

    def fit(self, *, resume: bool = False) -> None:
        """Train to the last step, then write the network that predicts.

        Raises
        ------
        TrainingError
            The loss is not finite; the last checkpoint, if there is one, is good and stays.
        RunError
            A checkpoint cannot be written or none can be read.
        """
        self.set_up()
        if resume:
            self._restore()
        self._tell_once(precision_findings(self.config, self.fabric.device))
        settings = self.config.training
        for batch in self.batches():
            numbers = self.step(batch)
            self._after_step(numbers)
            if self._step % settings.checkpoint_every == 0 and self._step < settings.steps:
                self._save()
        self._save()
        if self.fabric.is_global_zero:
            if self.adversary is not None:
                self.run.save_model(
                    self.adversary.discriminator.state_dict(), {"step": self._step}, "discriminator"
                )
            self.run.save_model(self._averaged_network().state_dict(), {"step": self._step})
        self.fabric.barrier()

    # ------------------------------------------------------------------ set-up
    def set_up(self) -> None:
        """Make objective, optimisers and moving average; :meth:`fit` does it by itself."""
        settings = self.config.training
        torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
        # a debugging aid that comes with it and costs an eighth of a step: nothing here reads unset memory
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.objective = Objective(self.config.objective, self.config.tim)
        # the network's own parameters and the learned weights of the terms take one optimiser
        forward = TrainingForward(self.network)
        parameters = [*self.network.parameters(), *self.objective.parameters()]
        self.average = AveragedModel(
            self.network, multi_avg_fn=moving_average(settings.ema), use_buffers=True
        ).to(self.fabric.device)
        optimizer = build_optimizer(settings, parameters)
        self.objective.to(self.fabric.device)
        self.forward, self.optimizer = self.fabric.setup(forward, optimizer)
        self.adversary = None
        if self.discriminator is not None:
            self.adversary = Adversary(self.discriminator, self.config.tdd, settings.seed, self.fabric)
        self.diagnostics = StepDiagnostics(settings.steps)
        balanced = self.config.sampling.cases_per_class == "balanced"
        self.class_chance = class_chance(self.data.studies, balanced=balanced)
        self.mixed = mixed_precision(self.config, self.fabric.device)

    def _modules(self) -> dict[str, nn.Module]:
        modules: dict[str, nn.Module] = {
            "network": self.network,
            "average": self.average,
            "objective": self.objective,
        }
        if self.adversary is not None:
            modules["discriminator"] = self.adversary.discriminator
        return modules

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        optimizers: dict[str, torch.optim.Optimizer] = {"optimizer": self.optimizer}
        if self.adversary is not None:
            optimizers["discriminator_optimizer"] = self.adversary.optimizer
        return optimizers

    def _restore(self) -> None:
        checkpoint, findings = self.run.latest_checkpoint()
        if checkpoint is not None:
            state.restore(checkpoint.tensors, self._modules(), self._optimizers())
            self.diagnostics = StepDiagnostics(
                self.config.training.steps, state=checkpoint.state["diagnostics"]
            )
            self._step = checkpoint.step
            self._since_logged = checkpoint.state.get("since_logged", {})  # none in older checkpoints
        if self.fabric.is_global_zero:
            self.run.truncate_metrics(self._step)
        self.tell(findings)
        self.fabric.barrier()

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            tensors = state.collect(self._modules(), self._optimizers())
            memory = {"diagnostics": self.diagnostics.state, "since_logged": self._since_logged}
            self.run.save_checkpoint(Checkpoint(self._step, tensors, memory))
        self.fabric.barrier()

    def batches(self) -> Iterator[Sample]:
        """Batches from the step reached on; every sample is a function of (seed, step, slot)."""
        settings = self.config.training
        share = settings.batch_size // self.fabric.world_size
        slots = [
            [(step, self._first_slot + slot) for slot in range(share)]
            for step in range(self._step, settings.steps)
        ]
        loader = DataLoader(
            self.data,
            batch_sampler=slots,
            collate_fn=collate,
            num_workers=loader_workers(settings.workers),
            persistent_workers=False,
        )
        for batch in loader:
            yield {name: value.to(self.fabric.device) for name, value in batch.items()}

    @property
    def _first_slot(self) -> int:
        """Place of this process' first sample in the batch of all processes."""
        return self.fabric.global_rank * (self.config.training.batch_size // self.fabric.world_size)

    # ------------------------------------------------------------------ a step
    def step(self, batch: Sample) -> dict[str, float]:
        """Train on one of :meth:`batches` and give the step's numbers, without logging or checkpoints."""
        numbers = self._train_step(batch)
        self._step += 1
        return numbers

    def _train_step(self, batch: Sample) -> dict[str, float]:
        settings = self.config.training
        progress = self._step / settings.steps
        torch.manual_seed(_draw_seed(settings.seed, STREAM_TORCH, self._step))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self._step)
        self.forward.train()
        regions, predicted = training_regions(batch, self.config, self._step, self._first_slot)
        inputs = (batch[name] for name in ("image", "phase_present", "phase_times_s"))
        with torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=self.mixed):
            prediction = self.forward(*inputs, regions, predicted, batch["mask_known"])
        read = self._read(prediction, batch, progress)
        terms = self.objective.terms(prediction, batch, read, self._count)
        numbers: dict[str, float] = {}
        if self.adversary is not None and self.objective.weight("adversarial", progress) > 0:
            pairs = self.adversary.pairs(prediction, batch)
            rate = self.diagnostics.discriminator_rate
            judged, terms["adversarial"] = self.adversary.play(pairs, self._step, progress, rate)
            numbers |= judged
        uncertain = self.config.objective.weighting == "uncertainty"
        labelled = self.objective.labelled(prediction, batch, self._count) if uncertain else None
        weighted = self.objective.weighted(terms, progress, labelled)
        total = torch.stack(list(weighted.values())).sum()
        numbers |= {name: float(term.detach()) for name, term in terms.items()} | {
            "total": float(total.detach())
        }
        # over all processes: one that stopped alone would leave the others waiting
        if not math.isfinite(float(self._count(total.detach()))):
            self._stop_on_nan(numbers)
        if self._step % settings.diagnose_every == 0:
            numbers |= look(self.network, weighted, prediction, batch, read, self._flat_gradient)
            numbers["class_chance"] = self.class_chance
        self.optimizer.zero_grad(set_to_none=True)
        if self.config.objective.weighting == "pcgrad":
            self._backward_projected(weighted)
        else:
            self.fabric.backward(total)
            self._average_weights_of_terms()
        parameters = self.optimizer.param_groups[0]["params"]
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip if settings.clip > 0 else math.inf)
        numbers["gradient"] = float(norm)
        if not math.isfinite(numbers["gradient"]):
            self._stop_on_nan(numbers)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return numbers

    def _average_weights_of_terms(self) -> None:
        """Average the gradients of what is not part of the distributed module."""
        for parameter in self.objective.parameters():
            if self.fabric.world_size > 1 and parameter.grad is not None:
                parameter.grad.copy_(self._count(parameter.grad))

    def _read(self, prediction: Prediction, batch: Sample, progress: float) -> Read | None:
        """The signal under the predicted mask, while the task interaction is on."""
        interacts = self.network.interacts and self.config.tim.enabled
        if not interacts or self.objective.weight("tim", progress) == 0:
            return None
        return self.objective.read(prediction, batch)

    def _count(self, local: Tensor) -> Tensor:
        if self.fabric.world_size == 1:
            return local
        return cast("Tensor", self.fabric.all_reduce(local.detach(), reduce_op="mean"))

    def _backward_projected(self, weighted: dict[str, Tensor]) -> None:
        parameters = [p for p in self.optimizer.param_groups[0]["params"] if p.requires_grad]
        flat = {name: self._flat_gradient(term, parameters) for name, term in weighted.items()}
        rng = np.random.default_rng([self.config.training.seed, STREAM_PCGRAD, self._step])
        gradient = projected_gradients(flat, rng)
        for parameter, piece in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = piece.view_as(parameter).clone()

    def _flat_gradient(self, term: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        if not term.requires_grad:
            return torch.cat([torch.zeros_like(p).flatten() for p in parameters])
        found = torch.autograd.grad(term, list(parameters), retain_graph=True, allow_unused=True)
        flat = torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).flatten()
                for g, p in zip(found, parameters, strict=True)
            ]
        )
        if self.fabric.world_size == 1:
            return flat
        return cast("Tensor", self.fabric.all_reduce(flat, reduce_op="mean"))

    # ------------------------------------------------------------------ looking
    def _stop_on_nan(self, numbers: dict[str, float]) -> None:
        bad = ", ".join(name for name, value in numbers.items() if not math.isfinite(value))
        kept = self.run.latest_checkpoint()[0]
        remains = (
            "there is no checkpoint yet" if kept is None else f"the checkpoint of step {kept.step} is kept"
        )
        finding = Finding(
            "nan-loss",
            "train",
            "error",
            f"the loss or its gradient is not finite ({bad}); {remains}",
            "Run mtinet check on the cohort, then train a new run with a lower training.learning_rate or "
            "training.clip, or with training.precision=32-true.",
            step=self._step + 1,
        )
        if self.fabric.is_global_zero:
            self.run.add_findings([finding])  # the error says it
        raise TrainingError(f"step {self._step + 1}: {finding.meaning}. {finding.action}")

    def tell(self, findings: Iterable[Finding]) -> None:
        """Keep findings with the run, and say them."""
        findings = list(findings)
        if not findings or not self.fabric.is_global_zero:
            return
        self.run.add_findings(findings)
        for finding in findings:
            if self.on_finding is not None:
                self.on_finding(finding)

    def _tell_once(self, findings: Iterable[Finding]) -> None:
        """Tell what no earlier part of a resumed training has told."""
        told = {finding.id for finding in self.run.findings()}
        self.tell(finding for finding in findings if finding.id not in told)

    def _after_step(self, numbers: dict[str, float]) -> None:
        settings = self.config.training
        findings = self.diagnostics.observe(self._step, numbers | {"tasks": self.objective.of_tasks(numbers)})
        last = self._step == settings.steps
        validates = last or (settings.validate_every > 0 and self._step % settings.validate_every == 0)
        self.tell(findings)
        if not self.fabric.is_global_zero:
            return
        for name, value in numbers.items():
            self._since_logged.setdefault(name, []).append(value)
        looked = "class_chance" in numbers
        if last or looked or self._step % settings.log_every == 0:
            # means since the last line: a batch alone scatters by more than a training moves
            means = {name: fmean(values) for name, values in self._since_logged.items()}
            rate = learning_rate(settings, self._step - 1)
            self.run.append_metrics({"step": self._step, "learning_rate": rate} | means)
            self._since_logged = {}
        if validates and self.held_out:
            numbers = {**numbers, **self._validate()}
            self.run.append_metrics({"step": self._step, "held_out_dice": numbers["held_out_dice"]})
        if self.progress is not None:
            self.progress(self._step, numbers)

    def _validate(self) -> dict[str, float]:
        """Mean Dice of whole held-out studies; for the eye only, nothing is chosen by it."""
        network = self._averaged_network().eval()
        scores = []
        for study in self.held_out:
            probability = survey(TorchPasses(network), study, self.config).probability
            scores.append(
                score_masks(
                    np.asarray(study.mask) > 0,
                    probability >= self.config.inference.threshold,
                    study.spacing_mm,
                    self.config.evaluation.nsd_tolerance_mm,
                ).dice
            )
        return {"held_out_dice": float(np.mean(scores))}

    def _averaged_network(self) -> MultiTaskNetwork:
        return cast("MultiTaskNetwork", self.average.module) if self.config.training.ema > 0 else self.network


def loader_workers(asked: int) -> int:
    """Loader processes: the asked number, or as many as leave the network its cores."""
    if asked >= 0:
        return asked
    cores = len(_affinity())
    return 0 if cores <= 2 else min(8, cores // 2)


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _draw_seed(*key: int) -> int:
    return int(np.random.default_rng(key).integers(2**31))
