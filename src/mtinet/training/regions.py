"""Lesion regions in training: which voxels the head pools, and where a lesion's signal is read."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtinet.config import Config
from mtinet.data.dataset import Sample
from mtinet.model.network import MultiTaskNetwork, Prediction

STREAM_REGIONS = 502

REACH = 3
"""Voxels around a reference lesion in which a prediction is taken to be that lesion."""


class TrainingForward(nn.Module):
    """One forward pass whose lesion regions may come from the network's own mask."""

    def __init__(self, network: MultiTaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        image: Tensor,
        phase_present: Tensor,
        phase_times_s: Tensor,
        regions: Tensor,
        predicted: Tensor,
        mask_known: Tensor,
    ) -> Prediction:
        """Predict; samples flagged in ``predicted [B]`` are pooled under their own mask near each lesion.

        Where the prediction is nowhere confident there, the reference region stays; without one
        (``mask_known [B]`` false) nothing is read and the region is not valid.
        """
        features = self.network.encode(image, phase_present, phase_times_s)
        logits = self.network.segment(features)
        near = _widen(regions)
        confident = (near * (logits.detach() > 0)).flatten(2).amax(2) > 0
        own = (confident & predicted.unsqueeze(1)).view(*regions.shape[:2], *([1] * (regions.ndim - 2)))
        regions = torch.where(own, near * self.network.predicted_region(logits), regions)
        valid = confident | (mask_known | ~predicted).unsqueeze(1)
        readout = self.network.read(features, regions)
        valid = valid & (regions.flatten(2).sum(2) > 0)
        return Prediction(logits, readout.enhancement, readout.class_logits, valid)


def training_regions(batch: Sample, config: Config, step: int, first_slot: int) -> tuple[Tensor, Tensor]:
    """Regions that the head pools in a training step.

    With lesion pooling the reference masks are dilated or eroded by a few voxels, and a share of the samples
    that rises over the training is pooled under the network's own mask instead.

    Parameters
    ----------
    batch : dict of Tensor
    config : Config
    step : int
    first_slot : int
        Place of the batch's first sample in the batch of all processes: the draws of a sample are a function
        of (seed, step, place).

    Returns
    -------
    regions : Tensor [B, R, *S]
        Weights 0 or 1.
    predicted : Tensor [B], bool
        Samples to be pooled under the predicted mask; always those whose mask is not known.
    """
    head, training = config.head, config.training
    regions = one_hot_regions(batch["labels"], batch["region_valid"].shape[1])
    flags = ~batch["mask_known"]
    if head.pooling == "lesion":
        share = head.predicted_share * step / training.steps
        for i in range(len(regions)):
            rng = np.random.default_rng([training.seed, STREAM_REGIONS, step, first_slot + i])
            regions[i] = _jittered(regions[i], int(rng.integers(-head.jitter, head.jitter + 1)))
            flags[i] |= bool(rng.random() < share)
        return regions, flags
    return regions, torch.zeros_like(flags)


def near_regions(labels: Tensor, n_regions: int, reach: int = REACH) -> Tensor:
    """Where each region's lesion may be: its reference voxels, widened by ``reach``, without the others'.

    Parameters
    ----------
    labels : Tensor of int, shape (B, *S)

    Returns
    -------
    Tensor of bool, shape (B, R, *S)
    """
    regions = one_hot_regions(labels, n_regions)
    wide = _widen(regions, reach) > 0
    others = (labels > 0).unsqueeze(1) & (regions == 0)
    return wide & ~others


def one_hot_regions(labels: Tensor, n_regions: int) -> Tensor:
    """Region weights [B, R, *S] of a label map [B, *S] whose lesions are numbered from 1."""
    numbers = torch.arange(1, n_regions + 1, device=labels.device).view(1, -1, *([1] * (labels.ndim - 1)))
    return (labels.unsqueeze(1) == numbers).float()


def _widen(regions: Tensor, reach: int = REACH) -> Tensor:
    pool = F.max_pool2d if regions.ndim == 4 else F.max_pool3d
    return pool(regions, kernel_size=2 * reach + 1, stride=1, padding=reach)


def _jittered(regions: Tensor, voxels: int) -> Tensor:
    """Regions [R, *S] dilated (positive) or eroded by some voxels; erosion never empties a region."""
    if voxels == 0:
        return regions
    pool = F.max_pool2d if regions.ndim == 3 else F.max_pool3d
    size = 2 * abs(voxels) + 1

    def widest(x: Tensor) -> Tensor:
        return pool(x.unsqueeze(0), kernel_size=size, stride=1, padding=abs(voxels)).squeeze(0)

    if voxels > 0:
        return widest(regions)
    eroded = 1 - widest(1 - regions)
    empty = eroded.flatten(1).sum(1) == 0
    eroded[empty] = regions[empty]
    return eroded
