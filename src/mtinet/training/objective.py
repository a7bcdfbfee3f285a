"""The objective: five terms, each masked by what is known and entering at its own time.

Every term but the Dice is a sum over samples divided by the number of samples that carry the label; the Dice
is one of the whole batch.  In a distributed run numbers and sums are means over processes, so that the
average of the processes' gradients is the gradient of the term over the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtinet.config import ObjectiveSettings, TimSettings
from mtinet.data.dataset import Sample
from mtinet.model.network import Prediction
from mtinet.model.tim import region_signal, tim_loss
from mtinet.training.regions import near_regions

TASKS = ("segmentation", "regression", "classification")

Count = Callable[[Tensor], Tensor]
"""Mean over processes of a local count."""


class Read(NamedTuple):
    """The signal under the predicted mask: ``signal [B, R, P]`` and ``valid [B, R]``."""

    signal: Tensor
    valid: Tensor


def dice_and_cross_entropy(logits: Tensor, target: Tensor, known: Tensor, count: Count) -> Tensor:
    """Soft Dice of the batch as a whole plus mean cross-entropy.

    One Dice for the batch, as nnU-Net takes in 2-D (Isensee et al., Nat Methods 2021): of patches by
    themselves, one without lesion would punish a single voxel as hard as a lesion that is missed.

    Parameters
    ----------
    logits, target : Tensor, shape (B, 1, *S)
    known : Tensor of bool, shape (B,)
        Samples that have a mask; the others do not count.
    count : callable
        Mean over processes.

    Returns
    -------
    Tensor
        The Dice part has 1 voxel a sample added to both sums, so a batch without lesion and prediction costs
        nothing.
    """
    logits, target = logits[known].float().flatten(1), target[known].float().flatten(1)
    samples = count(known.sum().float()).clamp_min(1e-8)
    probability = logits.sigmoid()
    overlap = _over_processes((probability * target).sum(), count) / samples
    voxels = _over_processes(probability.sum() + target.sum(), count) / samples
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1).sum()
    return 1 - (2 * overlap + 1) / (voxels + 1) + cross_entropy / samples


def _over_processes(local: Tensor, count: Count) -> Tensor:
    """The mean over processes with the gradient of the local part.

    The mean over processes of such gradients is the gradient over the whole batch.
    """
    return local + (count(local.detach()) - local.detach())


def masked_mean(values: Tensor, mask: Tensor, count: Count) -> Tensor:
    """Sum of ``values`` where ``mask`` holds, over the (process-averaged) number of such places.

    Where nothing is known the result is 0 and still part of the graph.
    """
    mask = mask.to(values.dtype)
    safe = torch.where(mask > 0, values, torch.zeros_like(values))
    return (safe * mask).sum() / count(mask.sum()).clamp_min(1e-8)


class Objective(nn.Module):
    """Weights of the terms and their entry; holds the learned log-variances of ``weighting=uncertainty``."""

    def __init__(self, settings: ObjectiveSettings, tim: TimSettings) -> None:
        super().__init__()
        self.settings = settings
        self.tim = tim
        self.log_variance = nn.Parameter(
            torch.zeros(len(TASKS)), requires_grad=settings.weighting == "uncertainty"
        )

    def weight(self, term: str, progress: float) -> float:
        """Weight of a term when the share ``progress`` of the training is done; it rises over ``ramp``."""
        start = float(getattr(self.settings, f"{term}_from", 0.0))
        if progress < start:
            return 0.0
        rise = 1.0 if start == 0 else min(1.0, (progress - start) / max(self.settings.ramp, 1e-8))
        return float(getattr(self.settings, term)) * rise

    def of_tasks(self, numbers: Mapping[str, float]) -> float:
        """Loss of the three tasks with their settings' weights, by which a training has come to rest or not.

        It leaves out what says nothing of that: terms that enter late or play against each other, and the learned
        scales of ``weighting=uncertainty``, whose sum falls through 0.
        """
        return math.fsum(getattr(self.settings, task) * numbers[task] for task in TASKS)

    def terms(
        self, prediction: Prediction, batch: Sample, read: Read | None, count: Count
    ) -> dict[str, Tensor]:
        """The unweighted terms, without the adversarial one.

        Parameters
        ----------
        prediction : Prediction
        batch : Sample
        read : Read or None
            Signal under the predicted mask (:meth:`read`); None leaves TIM out.
        count : callable
            Mean over processes of a local count.
        """
        target = (batch["labels"] > 0).unsqueeze(1)
        valid = batch["region_valid"] & prediction.region_valid
        known = batch["enhancement_known"] & valid.unsqueeze(-1)
        classes = batch["lesion_class"]
        log_p = prediction.class_logits.float().log_softmax(-1)
        smoothing = self.settings.label_smoothing
        picked = log_p.gather(-1, classes.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        cross_entropy = -(1 - smoothing) * picked - smoothing * log_p.mean(-1)
        error = (prediction.enhancement.float() - batch["enhancement"]).abs()
        terms = {
            "segmentation": dice_and_cross_entropy(
                prediction.mask_logits, target, batch["mask_known"], count
            ),
            "regression": masked_mean(error, known, count),
            "classification": masked_mean(cross_entropy, (classes >= 0) & valid, count),
        }
        if read is not None:
            terms["tim"] = self._tim(prediction, batch, read, known, count)
        return terms

    def read(self, prediction: Prediction, batch: Sample) -> Read:
        """The signal under the predicted mask near each lesion, in the liver where that is known."""
        # some livers are drawn without their lesions
        inside = batch["liver"] | (batch["labels"] > 0)
        signal, valid = region_signal(
            batch["image"],
            prediction.mask_logits,
            batch["phase_present"],
            self.tim,
            within=near_regions(batch["labels"], batch["region_valid"].shape[1]),
            liver=torch.where(_spread(batch["liver_known"], inside), inside, True).unsqueeze(1),
        )
        return Read(signal, valid & batch["region_valid"])

    def _tim(self, prediction: Prediction, batch: Sample, read: Read, known: Tensor, count: Count) -> Tensor:
        # known where the phase is there and covers the lesion; without a mask there is no lesion to read at
        available = read.valid.unsqueeze(-1) & batch["enhancement_known"]
        truth = torch.where(known, batch["enhancement"], torch.nan)
        total, n = tim_loss(read.signal, prediction.enhancement.float(), truth, available, self.tim)
        return total / count(n).clamp_min(1e-8)

    def labelled(self, prediction: Prediction, batch: Sample, count: Count) -> dict[str, Tensor]:
        """Of each task 1 where any process has a label of it in this step, else 0."""
        valid = batch["region_valid"] & prediction.region_valid
        there = {
            "segmentation": batch["mask_known"],
            "regression": batch["enhancement_known"] & valid.unsqueeze(-1),
            "classification": (batch["lesion_class"] >= 0) & valid,
        }
        return {name: (count(known.sum()) > 0).float() for name, known in there.items()}

    def weighted(
        self, terms: Mapping[str, Tensor], progress: float, labelled: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The terms with their weights.

        With ``weighting=uncertainty`` the three tasks are scaled by exp(-s) and s/2 is added, s being learned
        (Kendall, Gal and Cipolla, CVPR 2018).  A task without a label in this step (``labelled``, by default all have
        one) says nothing about s: its weight would grow without bound.
        """
        out = {name: self.weight(name, progress) * term for name, term in terms.items()}
        if self.settings.weighting == "uncertainty":
            for i, name in enumerate(TASKS):
                if self.weight(name, progress) > 0:
                    half = 0.5 * self.log_variance[i] * (1.0 if labelled is None else labelled[name])
                    out[name] = out[name] * torch.exp(-self.log_variance[i]) + half
        return out


def _spread(flags: Tensor, like: Tensor) -> Tensor:
    return flags.view(-1, *([1] * (like.ndim - 1)))
