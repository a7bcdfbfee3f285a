"""Training samples: which study, which patch, what is known about it.

The sample of a step and slot is a function of (seed, step, slot) and of nothing else, so the order of the
requests, the number of loader processes and a resumed run cannot change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mtinet.cohort import NO_LESION
from mtinet.config import Config
from mtinet.data import augmentation
from mtinet.data.augmentation import Patch, Transform
from mtinet.data.prepared import PreparedLesion, PreparedStudy

PATCH_STREAM = 1
"""Stream of the random numbers that choose and augment patches."""

MIN_VOXELS = 4
"""A lesion with fewer voxels in the patch trains the mask only."""

MIN_SHARE_3D = 0.25
"""In 3-D a lesion of which less lies in the patch trains the mask only: its target is that of the whole."""

_JITTER = 0.25
"""A lesion's voxel lies up to so much of the patch away from the patch's centre."""

Sample = dict[str, Tensor]


class PatchDataset(Dataset[Sample]):
    """Random patches of prepared studies, drawn as the settings say.

    An item's key is the pair (step, slot), so a data loader takes a ``batch_sampler`` that yields lists of
    such pairs.

    A sample holds (R regions are the lesions visible in the patch, at least one row; S is the patch)

    - ``image`` [P, *S] float32, 0 where a phase is missing; ``phase_present`` [P] bool; ``phase_times_s`` [P]
      float32, NaN where unknown;
    - ``labels`` [*S] int64: region r is marked r + 1; ``mask_known`` bool; ``liver`` [*S] bool,
      ``liver_known`` bool;
    - ``enhancement`` [R, P] float32 with ``enhancement_known`` [R, P] bool; ``lesion_class`` [R] int64, -1
      where unknown; ``region_valid`` [R] bool;
    - ``study_index`` int64.

    Enhancement targets follow the image's gain and receive field, never its noise.  In 2-D a lesion's target
    is the mean over its voxels in this slice of the patch (the mean of slices weighted by area is exactly the
    lesion's mean); in 3-D it is the observed truth over the whole lesion.  A study without a mask but with a
    label trains the class only: its one region is the whole patch.

    Parameters
    ----------
    studies : sequence of PreparedStudy
    config : Config
    classes : sequence of str
        Fixes the numbers in ``lesion_class``.
    seed : int
    """

    def __init__(
        self, studies: Sequence[PreparedStudy], config: Config, classes: Sequence[str], seed: int
    ) -> None:
        if not studies:
            raise ValueError("there is no study to draw patches from")
        self.studies = list(studies)
        self.sampling = config.sampling
        self.augmentation = config.augmentation
        self.spatial_dims = config.spatial_dims
        self.classes = {name: index for index, name in enumerate(classes)}
        self.seed = seed
        self._by_class, self._others = _groups(self.studies, self.classes)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return self.sample(*key)

    def sample(self, step: int, slot: int) -> Sample:
        """The sample of a training step and a place in its batch."""
        rng = np.random.default_rng([self.seed, PATCH_STREAM, step, slot])
        index = self._draw_study(rng)
        study = self.studies[index]
        try:
            centre = self._draw_centre(rng, study)
            transform = augmentation.sample(rng, self.augmentation, self.spatial_dims, study.present)
            patch = self._cut(study, centre, transform)
            sample = self._targets(study, patch, transform)
        except Exception as error:
            # it may be raised in a loader process: without the name nobody could tell which study it was
            raise RuntimeError(f"study {study.study_id} (step {step}, slot {slot}): {error}") from error
        sample["study_index"] = torch.tensor(index)
        return sample

    def _draw_study(self, rng: np.random.Generator) -> int:
        """Any study; or, balanced, classes equally often among the studies that have one."""
        if self.sampling.cases_per_class == "natural" or not self._by_class:
            return int(rng.integers(len(self.studies)))
        if rng.random() < len(self._others) / len(self.studies):
            return int(rng.choice(self._others))
        group = self._by_class[int(rng.integers(len(self._by_class)))]
        return int(rng.choice(group))

    def _draw_centre(self, rng: np.random.Generator, study: PreparedStudy) -> tuple[float, float, float]:
        """Voxel (z, y, x) at the patch's centre: near a lesion's voxel, near the liver's, or anywhere."""
        size = np.array((1, *self.sampling.patch_size)[-3:])
        on_lesion = rng.random() < self.sampling.lesion_fraction
        liver = study.liver if rng.random() < self.sampling.liver_fraction else None
        lesion = study.lesions[int(rng.integers(len(study.lesions)))] if study.lesions else None
        if on_lesion and lesion is not None:
            centre = _lesion_voxel(rng, study, lesion) + _JITTER * size * rng.uniform(-1, 1, 3)
        elif liver is not None and liver.any():
            centre = _liver_voxel(rng, liver) + _JITTER * size * rng.uniform(-1, 1, 3)
        else:
            # the whole patch inside the study where it fits, else in its middle
            low = np.minimum((size - 1) / 2, (np.array(study.shape) - 1) / 2)
            centre = low + rng.random(3) * (np.array(study.shape) - 1 - 2 * low)
        # the patch's voxels lie on the study's (between them the identity would blur)
        half = (size - 1) / 2
        z, y, x = (float(v) for v in np.rint(centre - half) + half)
        return z, y, x

    def _cut(self, study: PreparedStudy, centre: tuple[float, float, float], transform: Transform) -> Patch:
        image, mask, liver = study.image, study.mask, study.liver
        if self.spatial_dims == 3:
            return augmentation.apply(
                transform, image, mask, liver, centre, self.sampling.patch_size, study.spacing_mm
            )
        z = int(np.clip(centre[0], 0, study.shape[0] - 1))
        return augmentation.apply(
            transform,
            image[:, z],
            None if mask is None else mask[z],
            None if liver is None else liver[z],
            centre[1:],
            self.sampling.patch_size,
            study.spacing_mm[1:],
        )

    def _targets(self, study: PreparedStudy, patch: Patch, transform: Transform) -> Sample:
        size = patch.field.shape
        present = np.array(study.present) & np.array(transform.keep)
        slots = np.zeros(size, dtype=np.int64)
        regions: list[_Region] = []
        if patch.labels is not None:
            regions = self._regions(study, patch, patch.labels, present)
            for slot, region in enumerate(regions, start=1):
                slots[region.inside] = slot
        elif study.label in self.classes:
            slots[...] = 1
            unknown = np.full(len(present), np.nan, dtype=np.float32)
            regions = [_Region(np.ones(size, dtype=bool), unknown, self.classes[study.label], True)]
        rows = max(1, len(regions))
        enhancement = np.full((rows, len(present)), np.nan, dtype=np.float32)
        for row, region in enumerate(regions):
            enhancement[row] = region.enhancement
        known = np.isfinite(enhancement) & present
        absent = [-1] * (rows - len(regions))
        no_liver = np.zeros(size, dtype=bool)
        return {
            "image": torch.from_numpy(
                augmentation.add_noise(transform, patch.image) * _column(present, size)
            ),
            "phase_present": torch.from_numpy(present),
            "phase_times_s": torch.tensor(study.times_s, dtype=torch.float32),
            "labels": torch.from_numpy(slots),
            "mask_known": torch.tensor(patch.labels is not None),
            "liver": torch.from_numpy(no_liver if patch.liver is None else patch.liver != 0),
            "liver_known": torch.tensor(patch.liver is not None),
            "enhancement": torch.from_numpy(np.where(known, enhancement, 0.0).astype(np.float32)),
            "enhancement_known": torch.from_numpy(known),
            "lesion_class": torch.tensor([*(r.lesion_class for r in regions), *absent]),
            "region_valid": torch.tensor([*(r.valid for r in regions), *(False for _ in absent)]),
        }

    def _regions(
        self, study: PreparedStudy, patch: Patch, labels: NDArray[np.uint8], present: NDArray[np.bool_]
    ) -> list[_Region]:
        """The lesions visible in the patch, from the largest to the smallest."""
        regions: list[_Region] = []
        for lesion in study.lesions:
            inside = labels == lesion.number
            voxels = int(inside.sum())
            if not voxels:
                continue
            valid = voxels >= MIN_VOXELS
            if self.spatial_dims == 2:
                enhancement = patch.image[:, inside].mean(axis=1)
            else:
                valid = valid and voxels >= MIN_SHARE_3D * lesion.voxels
                whole = [lesion.enhancement.get(phase, np.nan) for phase in study.phases]
                enhancement = np.array(whole, dtype=np.float32) * patch.field[inside].mean()
            # where the phase does not cover the lesion its zeros are no signal
            covered = np.array([phase in lesion.enhancement for phase in study.phases])
            enhancement = np.where(present & covered, enhancement, np.nan).astype(np.float32)
            label = self.classes.get(lesion.label, -1)
            regions.append(_Region(inside, enhancement, label, valid))
        return regions


@dataclass(frozen=True)
class _Region:
    """A lesion (or the whole patch) with its targets; NaN = enhancement unknown."""

    inside: NDArray[np.bool_]
    enhancement: NDArray[np.float32]
    lesion_class: int
    valid: bool


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack samples to a batch; regions are padded with invalid ones to the largest number.

    Returns
    -------
    dict of Tensor
        As in :class:`PatchDataset` with a leading axis.
    """
    rows = max(len(sample["region_valid"]) for sample in samples)
    fill = {"enhancement": 0.0, "enhancement_known": False, "lesion_class": -1, "region_valid": False}

    def padded(name: str, value: Tensor) -> Tensor:
        if name not in fill or len(value) == rows:
            return value
        extra = torch.full((rows - len(value), *value.shape[1:]), fill[name], dtype=value.dtype)
        return torch.cat([value, extra])

    return {name: torch.stack([padded(name, s[name]) for s in samples]) for name in samples[0]}


def _groups(studies: Sequence[PreparedStudy], classes: dict[str, int]) -> tuple[list[list[int]], list[int]]:
    """Indices of the studies of each class, and of those without lesion or class.

    Where a study has no label, the class of its largest lesion counts.
    """
    by_class: dict[str, list[int]] = {}
    others: list[int] = []
    for index, study in enumerate(studies):
        label = study.label or (study.lesions[0].label if study.lesions else "")
        if label and label != NO_LESION and label not in classes:
            raise ValueError(
                f"study {study.study_id}: {label!r} is not among the classes {', '.join(classes)}; "
                "train on a cohort with the same classes"
            )
        if label in classes:
            by_class.setdefault(label, []).append(index)
        else:
            others.append(index)
    return [by_class[label] for label in sorted(by_class)], others


def _lesion_voxel(
    rng: np.random.Generator, study: PreparedStudy, lesion: PreparedLesion
) -> NDArray[np.float64]:
    """One of a lesion's voxels (z, y, x), each as likely: slices come in proportion to their area."""
    mask = study.mask
    assert mask is not None, "a study with lesions has a mask"
    voxels = np.argwhere(mask[lesion.slices] == lesion.number)
    start = [ends[0] for ends in lesion.box]
    return np.asarray(voxels[int(rng.integers(len(voxels)))] + start, dtype=np.float64)


def _liver_voxel(rng: np.random.Generator, liver: NDArray[np.uint8]) -> NDArray[np.float64]:
    """One of the liver's voxels (z, y, x), each as likely."""
    voxels = np.flatnonzero(liver.astype(bool))  # of truth values it is several times faster
    chosen = voxels[int(rng.integers(len(voxels)))]
    return np.array(np.unravel_index(chosen, liver.shape), dtype=np.float64)


def _column(present: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.float32]:
    return present.astype(np.float32).reshape(-1, *(1,) * len(size))
