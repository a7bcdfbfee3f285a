"""Forward passes over a whole study: what is seen everywhere, and what is read from each lesion.

In 2-D every slice is a sample.  In 3-D overlapping windows cover the study.  Memory is bounded by the batch
of slices or by one window, whatever the size of the study.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtinet.config import Config
from mtinet.data.prepared import PreparedStudy
from mtinet.imaging.masks import bounding_boxes
from mtinet.inference.passes import Batch, Passes, Segmented, batch_of
from mtinet.stages import stage

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Reading:
    """What a network reads from one lesion.

    Attributes
    ----------
    enhancement : ndarray of float64, shape (P,), or None
        Normalised signal by phase; NaN where the study lacks the phase.  None = the network learned none.
    probabilities : ndarray of float64, shape (C,), or None
        None = the network learned no classes.
    attention : ndarray of float64, shape (P,), or None
        Share of each phase in the class read-out.
    fusion : ndarray of float64, shape (P,), or None
        Weight that the deepest fusion gives the high-frequency map, 0 to 1.  Its plain mean over channels is
        1/2 where entropies are standardised, so a channel counts by its magnitude in the fused map.
    """

    enhancement: NDArray[np.float64] | None
    probabilities: NDArray[np.float64] | None
    attention: NDArray[np.float64] | None = None
    fusion: NDArray[np.float64] | None = None


class Survey(NamedTuple):
    """What one look at a whole study gives.

    Attributes
    ----------
    probability : ndarray of float32, shape (Z, Y, X)
        Of lesion in every voxel.
    description : ndarray of float64, shape (G, F)
        What the study looks like to the network: its maps' means over slices or windows.  G is the number of
        phases, or 1 for a network that does not keep them apart.
    """

    probability: NDArray[np.float32]
    description: NDArray[np.float64]

    def mirrored(self) -> Survey:
        """With left and right exchanged."""
        return self._replace(probability=np.ascontiguousarray(self.probability[..., ::-1]))


@stage("network")
@torch.inference_mode()
def survey(passes: Passes, study: PreparedStudy, config: Config) -> Survey:
    """Look at a whole prepared study, once."""
    if config.spatial_dims == 2:
        return _by_slices(passes, study, config)
    return _by_windows(passes, study, config)


@stage("network")
@torch.inference_mode()
def read_lesions(
    passes: Passes, study: PreparedStudy, labels: NDArray[Any], config: Config
) -> dict[int, Reading]:
    """Enhancement and class of every lesion, as far as the network learned them.

    A lesion's slices (2-D) or windows (3-D) are combined by the mean of enhancement and of log-probabilities,
    weighted by the lesion's voxels in each.

    Parameters
    ----------
    labels : ndarray of int, shape (Z, Y, X)
        Lesion numbers on the prepared grid, 0 elsewhere.
    """
    sums = {number: _Sum() for number in bounding_boxes(labels)}
    for image, regions, numbers in _pieces(passes, study, labels, config):
        found = passes.read(_batch(image, study), regions)
        weights = regions.flatten(2).sum(2)
        for i, r in itertools.product(range(len(image)), range(regions.shape[1])):
            if weights[i, r] > 0:
                sums[numbers[i][r]].add(
                    float(weights[i, r]),
                    found.enhancement[i, r],
                    found.class_logits[i, r].float().log_softmax(-1),
                    None if found.attention is None else found.attention[i, r],
                    None if found.fusion is None else found.fusion[i],
                )
    present, learned = np.asarray(study.present), config.objective
    return {
        number: total.reading(present, enhancement=learned.regression > 0, classes=learned.classification > 0)
        for number, total in sums.items()
    }


# ---------------------------------------------------------------------- everywhere
def _by_slices(passes: Passes, study: PreparedStudy, config: Config) -> Survey:
    image, batch = study.image, _slices_at_once(passes, config)
    probability = np.empty(image.shape[1:], dtype=np.float32)
    description = _Description()
    for start in range(0, image.shape[1], batch):
        part = np.ascontiguousarray(image[:, start : start + batch].swapaxes(0, 1))
        found = passes.segment(_batch(torch.from_numpy(part), study))
        probability[start : start + batch] = _probability(found)
        description.add(found)
    return Survey(probability, description.mean())


def _by_windows(passes: Passes, study: PreparedStudy, config: Config) -> Survey:
    image = study.image
    shape = image.shape[1:]
    window = config.sampling.patch_size
    weight = _window_weight(window)
    total = np.zeros(shape, dtype=np.float32)
    norm = np.zeros(shape, dtype=np.float32)
    description = _Description()
    for box in _windows(shape, window, config.inference.overlap):
        part, inside = _padded(image, box, window)
        found = passes.segment(_batch(torch.from_numpy(part[None]), study))
        total[box] += (_probability(found)[0] * weight)[inside]
        norm[box] += weight[inside]
        description.add(found)
    return Survey(total / norm, description.mean())


def _probability(found: Segmented) -> NDArray[np.float32]:
    """Lesion probability [B, *S]."""
    return found.mask_logits[:, 0].float().sigmoid().numpy(force=True)


class _Description:
    """The mean description of all images, in the making."""

    def __init__(self) -> None:
        self.total: NDArray[np.float64] | float = 0.0
        self.images = 0

    def add(self, found: Segmented) -> None:
        self.total = self.total + found.description.double().sum(0).numpy(force=True)
        self.images += len(found.description)

    def mean(self) -> NDArray[np.float64]:
        return np.asarray(self.total / self.images)


def _windows(shape: Sequence[int], window: Sequence[int], overlap: float) -> Iterator[Box]:
    starts = []
    for size, width in zip(shape, window, strict=True):
        count = 1 if size <= width else math.ceil((size - width) / max(1.0, width * (1 - overlap))) + 1
        last = max(0, size - width)
        starts.append(sorted({round(i * last / max(1, count - 1)) for i in range(count)}))
    for corner in itertools.product(*starts):
        z, y, x = (slice(c, min(c + w, s)) for c, w, s in zip(corner, window, shape, strict=True))
        yield z, y, x


def _window_weight(window: Sequence[int]) -> NDArray[np.float32]:
    """Weight of a window's voxels: a Gaussian, because predictions are worst at the border."""
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (0.25 * n)) ** 2) for n in window]
    return np.maximum(np.einsum("i,j,k->ijk", *axes), 1e-3).astype(np.float32)


def _padded(array: NDArray[Any], box: Box, window: Sequence[int]) -> tuple[NDArray[Any], Box]:
    """The box of a [..., Z, Y, X] array, zero-padded to the window, and where it lies in there."""
    part = array[(..., *box)]
    z, y, x = (slice(0, n) for n in part.shape[-3:])
    lead = [(0, 0)] * (part.ndim - 3)
    pads = [(0, w - n) for w, n in zip(window, part.shape[-3:], strict=True)]
    return np.pad(part, [*lead, *pads]), (z, y, x)


# ---------------------------------------------------------------------- reading
def _pieces(
    passes: Passes, study: PreparedStudy, labels: NDArray[Any], config: Config
) -> Iterator[tuple[Tensor, Tensor, list[list[int]]]]:
    """Images [B, P, *S], region weights [B, R, *S] and the lesion number of each region."""
    image = study.image
    if config.spatial_dims == 2:
        batch = _slices_at_once(passes, config)
        slices = np.flatnonzero(labels.reshape(len(labels), -1).any(1))
        for start in range(0, len(slices), batch):
            chosen = slices[start : start + batch]
            part = np.ascontiguousarray(image[:, chosen].swapaxes(0, 1))
            yield torch.from_numpy(part), *_regions(labels[chosen])
        return
    window = config.sampling.patch_size
    for number, bounds in bounding_boxes(labels).items():
        for box in _covering(bounds, labels.shape, window):
            part, _ = _padded(image, box, window)
            region, _ = _padded(labels == number, box, window)
            yield torch.from_numpy(part[None]), torch.from_numpy(region[None, None]).float(), [[number]]


def _covering(bounds: Sequence[slice], shape: Sequence[int], window: Sequence[int]) -> Iterator[Box]:
    """Windows that cover a lesion's box: one around its centre, or a tiling of a lesion larger than that.

    Tiles do not overlap inside the lesion, so its voxels count once.
    """
    spans = []
    for b, size, width in zip(bounds, shape, window, strict=True):
        count = math.ceil((b.stop - b.start) / width)
        middle = (b.start + b.stop) / 2
        first = round(middle - count * width / 2)
        first = max(0, min(first, size - count * width))
        spans.append([slice(first + i * width, min(first + (i + 1) * width, size)) for i in range(count)])
    for z, y, x in itertools.product(*spans):
        if min(s.stop - s.start for s in (z, y, x)) > 0:
            yield z, y, x


def _regions(labels: NDArray[Any]) -> tuple[Tensor, list[list[int]]]:
    """Region weights [B, R, Y, X] of label slices [B, Y, X]; R is the largest number of lesions in one."""
    numbers = [[int(n) for n in np.unique(part) if n > 0] for part in labels]
    regions = torch.zeros(len(labels), max(len(n) for n in numbers), *labels.shape[1:])
    for i, found in enumerate(numbers):
        for r, number in enumerate(found):
            regions[i, r] = torch.from_numpy(labels[i] == number)
    return regions, [n + [0] * (regions.shape[1] - len(n)) for n in numbers]


class _Sum:
    """A weighted mean in the making."""

    def __init__(self) -> None:
        self.weight = 0.0
        self.parts: list[Tensor | None] = [None] * 4

    def add(self, weight: float, *values: Tensor | None) -> None:
        self.weight += weight
        for i, value in enumerate(values):
            if value is not None:
                before = self.parts[i]
                weighted = value.double().cpu() * weight
                self.parts[i] = weighted if before is None else before + weighted

    def reading(self, present: NDArray[np.bool_], *, enhancement: bool, classes: bool) -> Reading:
        curve, log_p, attention, fusion = (
            None if part is None else (part / self.weight).numpy() for part in self.parts
        )
        assert curve is not None
        assert log_p is not None
        curve[~present] = np.nan
        probabilities = np.exp(log_p - log_p.max())
        probabilities /= probabilities.sum()
        return Reading(curve if enhancement else None, probabilities if classes else None, attention, fusion)


def _slices_at_once(passes: Passes, config: Config) -> int:
    return min(passes.images, config.inference.slice_batch)


def _batch(image: Tensor, study: PreparedStudy) -> Batch:
    return batch_of(image, study.present, study.times_s)
