"""Studies that a model should not answer without a warning, made from virtual ones that it should.

Everything is done to a prepared study in memory and normalised anew, as preparation would have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mtinet.data.normalisation import study_gain
from mtinet.data.prepared import PreparedStudy
from mtinet.imaging.masks import body_mask

Image = NDArray[np.float32]

EMPTY_SHARE = 1 / 3
"""Share of a phase's slices that are emptied."""


def changed(study: PreparedStudy, image: Image) -> PreparedStudy:
    """The study with another image, normalised anew; reference masks go."""
    images = {p: image[i] for i, p in enumerate(study.phases) if study.present[i]}
    gain = study_gain(images, 95.0)
    memory = {"image": (image / gain).astype(np.float32)}
    return replace(study, memory=memory, folder=None, has_mask=False, has_liver=False, registrations={})


def with_noise(study: PreparedStudy, rng: np.random.Generator, level: float) -> PreparedStudy:
    """Rician noise of a standard deviation in normalised signal on every phase."""
    image = np.array(study.image)
    first, second = (level * rng.standard_normal(image.shape) for _ in range(2))
    noisy = np.hypot(image + first, second)
    noisy[~np.asarray(study.present)] = 0
    return changed(study, noisy.astype(np.float32))


def exchanged(study: PreparedStudy, rng: np.random.Generator) -> PreparedStudy:
    """Two of the phases that the study has, exchanged."""
    a, b = rng.choice(np.flatnonzero(study.present), 2, replace=False)
    image = np.array(study.image)
    image[[a, b]] = image[[b, a]]
    return changed(study, image)


def inverted(study: PreparedStudy, rng: np.random.Generator) -> PreparedStudy:  # noqa: ARG001
    """Dark where it was bright in the body, as on another sequence (T2, say), in every phase."""
    image = np.array(study.image)
    body = body_mask(image[np.asarray(study.present)].mean(axis=0))
    for index in np.flatnonzero(study.present):
        top = np.percentile(image[index][body], 99)
        image[index][body] = np.clip(1.1 * top - image[index][body], 0.02, None)
    return changed(study, image)


def without_agent(study: PreparedStudy, rng: np.random.Generator) -> PreparedStudy:
    """Every phase is the first one with noise of its own: no agent was given."""
    image = np.array(study.image)
    first = image[int(np.flatnonzero(study.present)[0])]
    for index in np.flatnonzero(study.present)[1:]:
        image[index] = np.abs(first + 0.02 * rng.standard_normal(first.shape))
    return changed(study, image)


def with_empty_slices(study: PreparedStudy, rng: np.random.Generator) -> PreparedStudy:
    """A third of one phase's slices, side by side, hold nothing."""
    image = np.array(study.image)
    slices = image.shape[1]
    count = max(1, round(EMPTY_SHARE * slices))
    start = int(rng.integers(slices - count + 1))
    image[rng.choice(np.flatnonzero(study.present)), start : start + count] = 0
    return changed(study, image)


def head(study: PreparedStudy, rng: np.random.Generator) -> PreparedStudy:
    """A head on the study's grid: scalp, skull, brain and ventricles."""
    radius = _ellipse(study, rng, (95.0, 75.0))
    tissue = [(1.0, 0.75, 0.78), (0.93, 0.08, 0.09), (0.86, 0.45, 0.5), (0.25, 0.2, 0.2)]
    return _drawn(study, rng, [(radius < r, before, after) for r, before, after in tissue])


def thighs(study: PreparedStudy, rng: np.random.Generator) -> PreparedStudy:
    """Two thighs on the study's grid: fat, muscle, bone and a vessel."""
    parts = []
    for side in (-1, 1):
        radius = _ellipse(study, rng, (70.0, 80.0), side * 85.0)
        vessel = _ellipse(study, rng, (6.0, 6.0), side * 55.0)
        parts += [(radius < 1.0, 0.8, 0.82), (radius < 0.85, 0.35, 0.45), (radius < 0.2, 0.1, 0.1)]
        parts.append((vessel < 1.0, 0.2, 1.2))
    return _drawn(study, rng, parts)


def _ellipse(
    study: PreparedStudy, rng: np.random.Generator, half_mm: tuple[float, float], right_mm: float = 0.0
) -> NDArray[np.float64]:
    """Elliptic radius of every voxel, 1 on the outline; sizes vary by a tenth."""
    _, y, x = study.shape
    _, dy, dx = study.spacing_mm
    half = np.array(half_mm) * rng.uniform(0.9, 1.1, 2)
    across = ((np.arange(x) - (x - 1) / 2) * dx - right_mm) / half[0]
    along = ((np.arange(y) - (y - 1) / 2) * dy) / half[1]
    return np.broadcast_to(np.hypot(along[:, None], across[None, :]), study.shape)


def _drawn(
    study: PreparedStudy,
    rng: np.random.Generator,
    parts: list[tuple[NDArray[np.bool_], float, float]],
) -> PreparedStudy:
    """Tissues by mask, signal before and after contrast, with noise."""
    image = np.zeros_like(study.image)
    for index in np.flatnonzero(study.present):
        signal = np.zeros(study.shape)
        for mask, before, after in parts:
            signal[mask] = before if study.phases[index] == "pre" else after
        noise = 0.02 * rng.standard_normal((2, *study.shape))
        image[index] = np.hypot(signal + noise[0], noise[1])
    return changed(study, image)


STRANGE: dict[str, dict[str, Callable[[PreparedStudy, np.random.Generator], PreparedStudy]]] = {
    "other anatomy": {"head": head, "thighs": thighs},
    "swapped phases": {"two phases exchanged": exchanged},
    "wrong contrast": {"other sequence (inverted)": inverted, "no agent": without_agent},
    "empty slices": {"a third of one phase": with_empty_slices},
}
"""What should be flagged, and the kinds of it."""
