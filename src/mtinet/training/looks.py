"""Numbers that cost more than a step should: gradients by task, accuracies, errors, fusion weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtinet.data.dataset import Sample
from mtinet.data.prepared import PreparedStudy
from mtinet.model.network import MultiTaskNetwork, Prediction
from mtinet.training.objective import TASKS, Read

FlatGradient = Callable[[Tensor, Sequence[nn.Parameter]], Tensor]
"""Gradient of a term with respect to parameters, in one vector."""


def look(
    network: MultiTaskNetwork,
    weighted: Mapping[str, Tensor],
    prediction: Prediction,
    batch: Sample,
    read: Read | None,
    flat_gradient: FlatGradient,
) -> dict[str, float]:
    """What :class:`~mtinet.training.diagnostics.StepDiagnostics` wants to know now and then, by name."""
    numbers: dict[str, float] = {}
    shared = list(network.shared_parameters())
    # each is a backward pass of its own: none for terms of which nothing is said
    flat = {name: flat_gradient(weighted[name], shared) for name in (*TASKS, "tim") if name in weighted}
    tasks = [name for name in TASKS if name in flat and flat[name].norm() > 0]
    for i, a in enumerate(tasks):
        for b in tasks[i + 1 :]:
            numbers[f"cosine_{a}_{b}"] = float(F.cosine_similarity(flat[a], flat[b], dim=0))
    if "tim" in weighted:
        numbers["tim_gradient"] = float(flat["tim"].norm())
    classes = batch["lesion_class"]
    valid = batch["region_valid"] & (classes >= 0)
    if "classification" in tasks and valid.any():
        right = (prediction.class_logits.argmax(-1) == classes)[valid]
        numbers["class_accuracy"] = float(right.float().mean())
    known = batch["enhancement_known"] & batch["region_valid"].unsqueeze(-1)
    if "regression" in tasks and read is not None and (both := known & read.valid.unsqueeze(-1)).any():
        truth = batch["enhancement"][both]
        numbers["regression_error"] = float((prediction.enhancement.detach()[both] - truth).abs().mean())
        numbers["read_error"] = float((read.signal.detach()[both] - truth).abs().mean())
    spread = fusion_spread(network, batch)
    if spread is not None:
        numbers["fusion_spread"] = spread
    return numbers


@torch.no_grad()
def fusion_spread(network: MultiTaskNetwork, batch: Sample) -> float | None:
    """Standard deviation over channels of MdIEF's deepest weights, for the phases of the batch's first sample.

    None for other fusions: weights that are learned may agree for a reason.
    """
    if network.config.fusion != "mdief":
        return None
    network.eval()
    one = (batch[name][:1] for name in ("image", "phase_present", "phase_times_s"))
    weights = network.encode(*one).domain_weights
    network.train()
    present = batch["phase_present"][0]
    return float(weights[-1][0, present, :, 1].std(dim=1).mean()) if weights else None


def class_chance(studies: Sequence[PreparedStudy], *, balanced: bool) -> float:
    """What guessing reaches: the share of the most frequent class among the lesions with a known one.

    Where classes are drawn equally often (``balanced``) it is one among those that occur.  A study without a
    mask counts by its label.
    """
    known = [lesion.label for study in studies for lesion in study.lesions]
    known += [study.label for study in studies if not study.has_mask]
    counts = Counter(label for label in known if label)
    if not counts:
        return 1.0
    return 1 / len(counts) if balanced else max(counts.values()) / sum(counts.values())
