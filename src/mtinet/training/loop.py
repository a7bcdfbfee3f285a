"""The one training loop, on Fabric: one device or several processes, exact resume, two optimisers."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

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
from mtinet.inference.forward import lesion_probability
from mtinet.model.network import MultiTaskNetwork, Prediction
from mtinet.model.tdd import TaskDiscriminator
from mtinet.results import Finding
from mtinet.runs import Checkpoint, Run, RunError
from mtinet.training import state
from mtinet.training.adversary import Adversary
from mtinet.training.diagnostics import StepDiagnostics
from mtinet.training.objective import Objective, Read, one_hot_regions, projected_gradients
from mtinet.training.schedule import learning_rate

STREAM_TORCH, STREAM_REGIONS, STREAM_PCGRAD = 101, 102, 103

Progress = Callable[[int, dict[str, float]], None]


class TrainingError(UnusableError):
    """A training stopped; the message names the cause and the repair, and what is kept."""


class TrainingForward(nn.Module):
    """One forward pass whose lesion regions may come from the network's own mask."""

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: Tensor, phase_present: Tensor, phase_times_s: Tensor, regions: Tensor, predicted: Tensor
    ) -> Prediction:
        """Predict; samples flagged in ``predicted [B]`` are pooled under their own mask near each lesion."""
        features = self.network.encode(image, phase_present, phase_times_s)
        logits = self.network.segment(features)
        own = _widen(regions) * logits.detach().float().sigmoid()
        flags = predicted.view(-1, *([1] * (regions.ndim - 1)))
        regions = torch.where(flags, own, regions)
        readout = self.network.read(features, regions)
        valid = regions.flatten(2).sum(2) > 0
        return Prediction(logits, readout.enhancement, readout.class_logits, valid)


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
        Studies whose Dice is logged while training; nothing is chosen by it.
    fabric : Fabric
        Devices and processes.
    progress : callable, optional
        Called as ``progress(step, numbers)`` after every step.
    """

    run: Run
    config: Config
    network: MultiTaskNetwork
    discriminator: TaskDiscriminator | None
    data: PatchDataset
    held_out: Sequence[PreparedStudy]
    fabric: Fabric
    progress: Progress | None = None
    _step: int = field(default=0, init=False)

    def fit(self, *, resume: bool = False) -> None:
        """Train to the last step, then write the network that predicts.

        Raises
        ------
        TrainingError
            The loss is not finite; the last good checkpoint stays.
        RunError
            A checkpoint cannot be written or none can be read.
        """
        self._set_up()
        if resume:
            self._restore()
        settings = self.config.training
        for batch in self._batches():
            numbers = self._train_step(batch)
            self._step += 1
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
    def _set_up(self) -> None:
        settings = self.config.training
        torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
        # a debugging aid that comes with it and costs an eighth of a step: nothing here reads unset memory
        torch.utils.deterministic.fill_uninitialized_memory = False
        self.objective = Objective(self.config.objective, self.config.tim)
        # the network's own parameters and the learned weights of the terms take one optimiser
        forward = TrainingForward(self.network)
        parameters = [*self.network.parameters(), *self.objective.parameters()]
        self.average = AveragedModel(
            self.network, multi_avg_fn=moving_average(settings.ema), use_buffers=True
        ).to(self.fabric.device)
        optimizer = _optimizer(self.config, parameters)
        self.objective.to(self.fabric.device)
        self.forward, self.optimizer = self.fabric.setup(forward, optimizer)
        self.adversary = None
        if self.discriminator is not None:
            self.adversary = Adversary(self.discriminator, self.config.tdd, settings.seed, self.fabric)
        self.diagnostics = StepDiagnostics(settings.steps)
        self.majority_share = _majority_share(self.data.studies)

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
        if self.fabric.is_global_zero:
            self.run.truncate_metrics(self._step)
            self.run.add_findings(findings)
        self.fabric.barrier()

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            tensors = state.collect(self._modules(), self._optimizers())
            memory = {"diagnostics": self.diagnostics.state}
            self.run.save_checkpoint(Checkpoint(self._step, tensors, memory))
        self.fabric.barrier()

    def _batches(self) -> Iterator[Sample]:
        """Batches from the step reached on; every sample is a function of (seed, step, slot)."""
        settings = self.config.training
        share, rest = divmod(settings.batch_size, self.fabric.world_size)
        if rest:
            raise RunError(
                f"training.batch_size={settings.batch_size} cannot be shared by {self.fabric.world_size} "
                "processes; give a multiple"
            )
        first = self.fabric.global_rank * share
        slots = [
            [(step, first + slot) for slot in range(share)] for step in range(self._step, settings.steps)
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

    # ------------------------------------------------------------------ a step
    def _train_step(self, batch: Sample) -> dict[str, float]:
        settings = self.config.training
        progress = self._step / settings.steps
        torch.manual_seed(_draw_seed(settings.seed, STREAM_TORCH, self._step))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self._step)
        self.forward.train()
        regions, predicted = self._regions(batch)
        with self.fabric.autocast():
            prediction = self.forward(
                batch["image"], batch["phase_present"], batch["phase_times_s"], regions, predicted
            )
        read = self._read(prediction, batch, progress)
        terms = self.objective.terms(prediction, batch, read, self._count)
        numbers: dict[str, float] = {}
        if self.adversary is not None and self.objective.weight("adversarial", progress) > 0:
            pairs = self.adversary.pairs(prediction, batch)
            numbers |= self.adversary.update(pairs, self._step, progress, self.diagnostics.discriminator_rate)
            terms["adversarial"] = self.adversary.generator_loss(pairs, self._step, progress)
        weighted = self.objective.weighted(terms, progress)
        total = torch.stack(list(weighted.values())).sum()
        numbers |= {name: float(term.detach()) for name, term in terms.items()} | {
            "total": float(total.detach())
        }
        if not math.isfinite(numbers["total"]):
            self._stop_on_nan(numbers)
        looks = self._step % settings.diagnose_every == 0
        if looks:
            numbers |= self._look(weighted, prediction, batch, read)
        self.optimizer.zero_grad(set_to_none=True)
        if self.config.objective.weighting == "pcgrad":
            self._backward_projected(weighted)
        else:
            self.fabric.backward(total)
        if settings.clip > 0:
            norm = self.fabric.clip_gradients(self.forward, self.optimizer, max_norm=settings.clip)
            numbers["gradient"] = float(norm) if norm is not None else math.nan
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return numbers

    def _regions(self, batch: Sample) -> tuple[Tensor, Tensor]:
        """Region weights, jittered, and which samples use the predicted mask instead."""
        head = self.config.head
        n_regions = batch["region_valid"].shape[1]
        regions = one_hot_regions(batch["labels"], n_regions)
        n = len(regions)
        if head.pooling != "lesion":
            return regions, torch.zeros(n, dtype=torch.bool, device=regions.device)
        first = self.fabric.global_rank * n
        rngs = [
            np.random.default_rng([self.config.training.seed, STREAM_REGIONS, self._step, first + i])
            for i in range(n)
        ]
        for i, rng in enumerate(rngs):
            regions[i] = _jittered(regions[i], int(rng.integers(-head.jitter, head.jitter + 1)))
        share = head.predicted_share * self._step / self.config.training.steps
        flags = [bool(rng.random() < share) for rng in rngs]
        return regions, torch.tensor(flags, device=regions.device) & batch["mask_known"]

    def _read(self, prediction: Prediction, batch: Sample, progress: float) -> Read | None:
        if not self.config.tim.enabled or self.objective.weight("tim", progress) == 0:
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
    def _look(
        self, weighted: dict[str, Tensor], prediction: Prediction, batch: Sample, read: Read | None
    ) -> dict[str, float]:
        """Numbers that cost more than a step should: gradients by task, accuracies, errors."""
        numbers: dict[str, float] = {}
        shared = list(self.network.shared_parameters())
        flat = {name: self._flat_gradient(term, shared) for name, term in weighted.items()}
        names = [
            n for n in ("segmentation", "regression", "classification") if n in flat and flat[n].norm() > 0
        ]
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                cosine = torch.nn.functional.cosine_similarity(flat[a], flat[b], dim=0)
                numbers[f"cosine_{a}_{b}"] = float(cosine)
        if "tim" in weighted:
            numbers["tim_gradient"] = float(flat["tim"].norm())
        classes, valid = batch["lesion_class"], batch["region_valid"] & (batch["lesion_class"] >= 0)
        if valid.any():
            right = (prediction.class_logits.argmax(-1) == classes)[valid]
            numbers["class_accuracy"] = float(right.float().mean())
            numbers["class_chance"] = self.majority_share
        known = batch["enhancement_known"] & batch["region_valid"].unsqueeze(-1)
        if read is not None and (known & read.valid.unsqueeze(-1)).any():
            both = known & read.valid.unsqueeze(-1)
            truth = batch["enhancement"][both]
            numbers["regression_error"] = float((prediction.enhancement.detach()[both] - truth).abs().mean())
            numbers["read_error"] = float((read.signal.detach()[both] - truth).abs().mean())
        weights = self._fusion_weights(batch)
        if weights is not None:
            numbers["fusion_spread"] = float(weights.std(dim=2).mean())
        return numbers

    @torch.no_grad()
    def _fusion_weights(self, batch: Sample) -> Tensor | None:
        """Weight [B, P, C] of the high-frequency map in the deepest fusion, of the first sample."""
        self.network.eval()
        one = (batch[name][:1] for name in ("image", "phase_present", "phase_times_s"))
        weights = self.network.encode(*one).domain_weights
        self.network.train()
        return weights[-1][..., 1] if weights else None

    def _stop_on_nan(self, numbers: dict[str, float]) -> None:
        bad = ", ".join(name for name, value in numbers.items() if not math.isfinite(value))
        finding = Finding(
            "nan-loss",
            "train",
            "error",
            f"the loss is not finite ({bad})",
            "Lower training.learning_rate or training.clip, use training.precision=32-true, run check on the "
            "cohort; then --resume goes on from the last good checkpoint.",
            step=self._step + 1,
        )
        if self.fabric.is_global_zero:
            self.run.add_findings([finding])
        raise TrainingError(f"step {self._step + 1}: {finding.meaning}. {finding.action}")

    def _after_step(self, numbers: dict[str, float]) -> None:
        settings = self.config.training
        findings = self.diagnostics.observe(self._step, numbers)
        last = self._step == settings.steps
        validates = last or (settings.validate_every > 0 and self._step % settings.validate_every == 0)
        if not self.fabric.is_global_zero:
            return
        if findings:
            self.run.add_findings(findings)
        record: dict[str, Any] = {
            "step": self._step,
            "learning_rate": learning_rate(settings, self._step - 1),
        }
        if last or self._step % settings.log_every == 0 or len(numbers) > 8:
            self.run.append_metrics(record | numbers)
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
            if study.mask is None:
                continue
            probability = lesion_probability(network, study, self.config)
            scores.append(
                score_masks(
                    np.asarray(study.mask) > 0,
                    probability >= self.config.inference.threshold,
                    study.spacing_mm,
                    self.config.evaluation.nsd_tolerance_mm,
                ).dice
            )
        finite = [score for score in scores if math.isfinite(score)]
        return {"held_out_dice": float(np.mean(finite)) if finite else math.nan}

    def _averaged_network(self) -> MultiTaskNetwork:
        return cast("MultiTaskNetwork", self.average.module) if self.config.training.ema > 0 else self.network


def precision(config: Config) -> Any:
    """Numeric precision for Fabric: the asked one, or mixed where the device has it."""
    if config.training.precision != "auto":
        return config.training.precision
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "32-true"


def loader_workers(asked: int) -> int:
    """Loader processes: the asked number, or as many as leave the network its cores."""
    if asked >= 0:
        return asked
    cores = len(_affinity())
    return 0 if cores <= 2 else min(8, cores // 2)


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _optimizer(config: Config, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    training = config.training
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=training.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=training.weight_decay,
        )
    return torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=training.weight_decay)


def _majority_share(studies: Sequence[PreparedStudy]) -> float:
    """Share of the most frequent class among the lesions with a known one."""
    counts = Counter(lesion.label for study in studies for lesion in study.lesions if lesion.label)
    return max(counts.values()) / sum(counts.values()) if counts else 1.0


def moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Update of an exponential moving average whose memory grows with it.

    The decay is at most (1 + n)/(10 + n) after n updates, so that a short training is not averaged with its
    start.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], values: list[Tensor], n: Tensor) -> None:
        share = min(decay, (1.0 + int(n)) / (10.0 + int(n)))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1.0 - share)
        else:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)

    return update


def _draw_seed(*key: int) -> int:
    return int(np.random.default_rng(key).integers(2**31))


def _widen(regions: Tensor, reach: int = 3) -> Tensor:
    pool = nn.functional.max_pool2d if regions.ndim == 4 else nn.functional.max_pool3d
    return pool(regions, kernel_size=2 * reach + 1, stride=1, padding=reach)


def _jittered(regions: Tensor, voxels: int) -> Tensor:
    """Regions [R, *S] dilated (positive) or eroded by some voxels; erosion never empties a region."""
    if voxels == 0:
        return regions
    pool = nn.functional.max_pool2d if regions.ndim == 3 else nn.functional.max_pool3d
    size = 2 * abs(voxels) + 1

    def widest(x: Tensor) -> Tensor:
        return pool(x.unsqueeze(0), kernel_size=size, stride=1, padding=abs(voxels)).squeeze(0)

    if voxels > 0:
        return widest(regions)
    eroded = 1 - widest(1 - regions)
    empty = eroded.flatten(1).sum(1) == 0
    eroded[empty] = regions[empty]
    return eroded
