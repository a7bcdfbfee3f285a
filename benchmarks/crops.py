"""The difficulty study's small network: it names the class of a lesion from slices cropped around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from mtinet.data.prepared import PreparedStudy
from mtinet.model.lesion_cnn import LesionCnn

FloatArray = NDArray[np.float32]

_SMALLEST_SPREAD = 0.05
"""A phase that hardly varies over the crops is not blown up: its noise would drown the others."""


@dataclass(frozen=True)
class CnnSettings:
    """Size and training of the network, fixed before the study."""

    side: int = 32
    widths: tuple[int, ...] = (16, 32, 64)
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    dropout: float = 0.3


@dataclass(frozen=True)
class Crops:
    """Slices through lesions.

    Attributes
    ----------
    images : ndarray of float32, shape (N, phases + 1, side, side)
        Normalised signal (0 in a phase that is missing) and the mask.
    areas : ndarray, shape (N,)
        Voxels of the lesion in the slice.
    studies, labels : list of str
        Study and class of each slice.
    """

    images: FloatArray
    areas: FloatArray
    studies: list[str]
    labels: list[str]


def lesion_crops(study: PreparedStudy, inside: NDArray[np.bool_], label: str, side: int = 32) -> Crops:
    """A square around the lesion's centre from every slice that it fills [voxels of the prepared grid]."""
    slices = np.flatnonzero(inside.any((1, 2)))
    _, cy, cx = (round(float(c)) for c in ndimage.center_of_mass(inside))
    half = side // 2
    channels = np.concatenate([np.asarray(study.image), inside[None].astype(np.float32)])
    channels = np.pad(channels[:, slices], ((0, 0), (0, 0), (half, half), (half, half)))
    images = channels[:, :, cy : cy + side, cx : cx + side].swapaxes(0, 1)
    areas = inside[slices].sum((1, 2)).astype(np.float32)
    return Crops(np.ascontiguousarray(images), areas, [study.study_id] * len(areas), [label] * len(areas))


def merge(parts: Sequence[Crops]) -> Crops:
    """Several crops as one; empty where there are none."""
    if not parts:
        return Crops(np.zeros((0, 1, 1, 1), np.float32), np.zeros(0, np.float32), [], [])
    return Crops(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.areas for part in parts]),
        [name for part in parts for name in part.studies],
        [name for part in parts for name in part.labels],
    )


class SmallCnn(nn.Module):
    """The house's small network for a lesion, its signal standardised by the training crops' mean and spread."""

    def __init__(self, channels: int, classes: int, settings: CnnSettings) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("spread", torch.ones(channels, 1, 1))
        self.cnn = LesionCnn(2, channels, classes, settings.widths, settings.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of crops [N, phases + 1, side, side]."""
        return self.cnn((images - self.mean) / self.spread)


def fit_cnn(crops: Crops, classes: Sequence[str], settings: CnnSettings, seed: int) -> SmallCnn:
    """Train the network on crops; every class weighs the same."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 401])
    images = torch.from_numpy(crops.images)
    labels = torch.tensor([classes.index(name) for name in crops.labels])
    network = SmallCnn(images.shape[1], len(classes), settings)
    signal = images[:, :-1]
    network.mean[:-1] = signal.mean((0, 2, 3))[:, None, None]
    network.spread[:-1] = signal.std((0, 2, 3))[:, None, None].clamp_min(_SMALLEST_SPREAD)
    counts = torch.bincount(labels, minlength=len(classes)).clamp_min(1)
    weights = (len(labels) / counts / len(classes)).float()
    steps = settings.epochs * -(-len(labels) // settings.batch_size)
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps)
    network.train()
    for _ in range(settings.epochs):
        for chosen in np.array_split(rng.permutation(len(labels)), -(-len(labels) // settings.batch_size)):
            logits = network(augmented(images[chosen], rng))
            loss = F.cross_entropy(logits, labels[chosen], weight=weights, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Flips, quarter turns and small shifts of the batch; gain and noise; a mask drawn tighter or wider."""
    if rng.random() < 0.5:
        images = images.flip(-1)
    images = images.rot90(int(rng.integers(4)), (-2, -1))
    images = images.roll((int(rng.integers(-3, 4)), int(rng.integers(-3, 4))), (-2, -1))
    gain = torch.from_numpy(np.exp(rng.uniform(-0.1, 0.1, (len(images), 1, 1, 1))).astype(np.float32))
    noise = torch.from_numpy(rng.normal(0.0, 0.02, images[:, :-1].shape).astype(np.float32))
    present = (images[:, :-1].amax((2, 3), keepdim=True) > 0).float()
    signal = images[:, :-1] * gain + noise * present
    return torch.cat([signal, _redrawn(images[:, -1:], int(rng.integers(-1, 2)))], dim=1)


def _redrawn(mask: Tensor, by: int) -> Tensor:
    if by == 0:
        return mask
    return F.max_pool2d(mask, 3, 1, 1) if by > 0 else -F.max_pool2d(-mask, 3, 1, 1)


@torch.no_grad()
def predict_cnn(network: SmallCnn, crops: Crops, classes: Sequence[str]) -> dict[str, str]:
    """Class by study: the slices' log-probabilities, averaged by area."""
    if not crops.studies:
        return {}
    log_p = torch.log_softmax(network(torch.from_numpy(crops.images)), dim=1).numpy()
    named = np.asarray(crops.studies)
    return {
        study: classes[int((log_p * crops.areas[:, None])[named == study].sum(0).argmax())]
        for study in dict.fromkeys(crops.studies)
    }
