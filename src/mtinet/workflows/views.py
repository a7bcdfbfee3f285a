"""The slice of a study that the report shows, kept so that the report needs neither cohort nor network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet import files
from mtinet.data.prepared import PreparedStudy


def save_view(path: Path, study: PreparedStudy, predicted: NDArray[Any]) -> None:
    """Write the axial slice through the largest lesion as ``.npz``.

    It holds ``images [P, Y, X]`` (float16, normalised), ``present [P]``, ``truth`` and ``predicted [Y, X]``
    (lesion numbers), ``spacing_yx_mm``, ``times_s [P]`` and ``slice``.
    """
    truth = np.zeros(study.shape, dtype=np.uint8) if study.mask is None else np.asarray(study.mask)
    index = best_slice(truth if truth.any() else predicted)
    with files.atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            images=np.clip(study.image[:, index], 0, 6e4).astype(np.float16),
            present=np.asarray(study.present),
            truth=truth[index].astype(np.uint8),
            predicted=predicted[index].astype(np.uint8),
            spacing_yx_mm=np.asarray(study.spacing_mm[1:]),
            times_s=np.asarray(study.times_s),
            slice=np.asarray(index),
        )


def best_slice(labels: NDArray[Any]) -> int:
    """Slice with the most voxels of the largest lesion, or the middle one without lesion."""
    counts = np.bincount(labels[labels > 0].astype(np.int64)) if labels.any() else np.zeros(0)
    if not counts.size:
        return len(labels) // 2
    return int((labels == counts.argmax()).sum((1, 2)).argmax())
