"""Is a study like those on which the model was calibrated?  If not, it is flagged, with the reason.

Three checks.  *Empty slices* and *darker than before contrast* are read from the images and need no model.
*Likeness* is a Mahalanobis distance with shrinkage (Ledoit and Wolf 2004) of what the study looks like: to the
network (main components of its maps' means, by phase), in noise (by phase) and in the change of signal from
each phase to the next.  A phase that is missing is left out of the distance.  Limits come from calibration
studies: this is no test for disease and no promise about a study that is not flagged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtinet.data.prepared import PreparedStudy
from mtinet.evaluation.statistics import FloatArray
from mtinet.imaging.masks import body_mask
from mtinet.results import Finding

FLAG_RATE = 0.015
"""Share of studies like the calibration ones that the distance flags."""

COMPONENTS = 6
"""Main components kept of the network's description."""

_EMPTY = 0.02
"""Normalised signal below which a slice holds nothing."""

_QUANTILES = (10.0, 50.0, 90.0, 98.0)
"""Of the change of signal in the body."""

_SMOOTHING_VOXELS = 1.5
_MIN_VOXELS = 100
_FLOOR = 1e-3


@dataclass(frozen=True)
class Look:
    """What a study looks like.

    Attributes
    ----------
    description : ndarray, shape (G, F)
        Of the network (:class:`~mtinet.inference.forward.Survey`); NaN where the phase is missing.
    noise : ndarray, shape (P,)
        Logarithm of the noise; NaN where the phase is missing or there is no body.
    change : ndarray, shape (P - 1, 4)
        Quantiles of the logarithm of each phase's signal over that of the phase before it.
    empty : float
        Largest share of slices of a phase that hold nothing.
    darkest : float
        Smallest ratio of a later phase's median signal in the body to that before contrast; NaN without pre.
    """

    description: FloatArray
    noise: FloatArray
    change: FloatArray
    empty: float
    darkest: float


def look_at_study(study: PreparedStudy, description: FloatArray) -> Look:
    """What a prepared study looks like by itself, and to a network by its ``description``."""
    image, present = np.asarray(study.image), np.asarray(study.present)
    if len(description) == len(present) > 1:
        description = np.where(present[:, None], description, np.nan)
    level = np.quantile(image.reshape(*image.shape[:2], -1), 0.95, axis=-1)
    empty = float((level[present] < _EMPTY).mean(axis=1).max())
    body = body_mask(image[present].mean(axis=0))
    noise, change, darkest = _signal(image, present, study.phases, body)
    return Look(description, noise, change, empty, darkest)


def _signal(
    image: NDArray[np.float32], present: NDArray[np.bool_], phases: Sequence[str], body: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, float]:
    noise = np.full(len(present), np.nan)
    change = np.full((len(present) - 1, len(_QUANTILES)), np.nan)
    if np.count_nonzero(body) < _MIN_VOXELS:
        return noise, change, math.nan
    logs: dict[int, FloatArray] = {}
    inner = body[..., 1:-1] & body[..., 2:] & body[..., :-2]
    for index in np.flatnonzero(present).tolist():
        found = image[index]
        second = found[..., 1:-1] - (found[..., 2:] + found[..., :-2]) / 2
        spread = 1.4826 * np.median(np.abs(second[inner])) / math.sqrt(1.5) if inner.any() else 0.0
        noise[index] = math.log(max(float(spread), _FLOOR))
        smooth = ndimage.gaussian_filter(found, (0.0, _SMOOTHING_VOXELS, _SMOOTHING_VOXELS))
        logs[index] = np.log(np.maximum(smooth[body], _FLOOR))
    for row in range(len(change)):
        if row in logs and row + 1 in logs:
            change[row] = np.percentile(logs[row + 1] - logs[row], _QUANTILES)
    darkest = math.nan
    if phases[0] == "pre" and 0 in logs and len(logs) > 1:
        darkest = min(math.exp(np.median(log - logs[0])) for i, log in logs.items() if i)
    return noise, change, darkest


@dataclass(frozen=True)
class Familiarity:
    """What calibration studies look like, and from where on another study is unlike them.

    Attributes
    ----------
    phases : tuple of str
    centre, scale : ndarray, shape (F,)
        Of the network's description.
    components : ndarray, shape (K, F)
        Main components of the standardised description.
    mean, covariance : ndarray, shapes (D,) and (D, D)
        Of the studies' vectors (:meth:`vector`).
    distance_limit, empty_limit, darkest_limit : float
    """

    phases: tuple[str, ...]
    centre: FloatArray
    scale: FloatArray
    components: FloatArray
    mean: FloatArray
    covariance: FloatArray
    distance_limit: float
    empty_limit: float
    darkest_limit: float

    # ------------------------------------------------------------------ fitting
    @classmethod
    def fit(cls, shape: Sequence[Look], limits: Sequence[Look], phases: Sequence[str]) -> Familiarity:
        """Fit the distance on the looks of some patients and its limit on those of others.

        The limit is the conformal one for :data:`FLAG_RATE`, or the largest distance seen where the studies
        are too few for it.  No calibration study is flagged for empty slices or for being dark.
        """
        from sklearn.covariance import LedoitWolf
        from sklearn.decomposition import PCA

        rows = np.concatenate([look.description for look in shape])
        rows = rows[np.isfinite(rows).all(1)]
        centre, scale = rows.mean(0), np.maximum(rows.std(0), 1e-8)
        kept = min(COMPONENTS, *rows.shape)
        components = PCA(kept, svd_solver="full").fit((rows - centre) / scale).components_
        blank = np.zeros(0)
        draft = cls(tuple(phases), centre, scale, components, blank, blank, math.inf, 1.0, 0.0)
        vectors = np.array([draft.vector(look) for look in shape])
        known = [column[np.isfinite(column)] for column in vectors.T]
        mean = np.array([column.mean() if len(column) else 0.0 for column in known])
        filled = np.where(np.isfinite(vectors), vectors - mean, 0.0)
        spread = np.maximum(filled.std(0), 1e-6)
        shrunk = LedoitWolf(assume_centered=True).fit(filled / spread).covariance_
        fitted = cls(
            tuple(phases),
            centre,
            scale,
            components,
            mean,
            shrunk * np.outer(spread, spread),
            math.inf,
            1.0,
            0.0,
        )
        every = [*shape, *limits]
        distances = np.sort([fitted.distance(look) for look in limits])
        place = min(math.ceil((len(distances) + 1) * (1 - FLAG_RATE)), len(distances))
        darkest = [look.darkest for look in every if math.isfinite(look.darkest)]
        return cls(
            *(fitted.phases, centre, scale, components, mean, fitted.covariance),
            distance_limit=float(distances[place - 1]),
            empty_limit=max(look.empty for look in every),
            darkest_limit=min(darkest, default=0.0),
        )

    # ------------------------------------------------------------------ scoring
    def vector(self, look: Look) -> FloatArray:
        """What the distance is taken of, NaN where it is not known."""
        standard = (look.description - self.centre) / self.scale
        projected = standard @ self.components.T
        rest = np.linalg.norm(standard - projected @ self.components, axis=1, keepdims=True)
        own = np.concatenate([projected, np.log(np.maximum(rest, 1e-6))], axis=1)
        return np.concatenate([own.ravel(), look.noise, look.change.ravel()])

    def distance(self, look: Look, part: slice = slice(None)) -> float:
        """Distance of a study from the calibration ones, about standard normal for studies like them.

        The squared Mahalanobis distance, by the cube root of Wilson and Hilferty (1931), so that studies with
        and without all phases have one limit.

        Parameters
        ----------
        look : Look
        part : slice
            Entries of the vector that count.
        """
        offset = (self.vector(look) - self.mean)[part]
        known = np.isfinite(offset)
        count = int(known.sum())
        if not count:
            return math.inf if part == slice(None) else -math.inf
        covariance = self.covariance[part, part][np.ix_(known, known)]
        square = float(offset[known] @ np.linalg.solve(covariance, offset[known]))
        spread = 2 / (9 * count)
        return float(((max(square, 0.0) / count) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))

    def most_unlike(self, look: Look) -> str:
        """The part of the look that stands furthest from the calibration studies, in words."""
        groups = self._groups(len(look.description))
        return max(groups, key=lambda name: self.distance(look, groups[name]))

    def _groups(self, described: int) -> dict[str, slice]:
        width = len(self.components) + 1
        each = self.phases if described == len(self.phases) else ("the study",)
        groups = {
            f"how {p} looks to the network": slice(i * width, (i + 1) * width) for i, p in enumerate(each)
        }
        start = described * width
        groups |= {f"the noise of {p}": slice(start + i, start + i + 1) for i, p in enumerate(self.phases)}
        start += len(self.phases)
        n = len(_QUANTILES)
        return groups | {
            f"the change of signal from {a} to {b}": slice(start + i * n, start + (i + 1) * n)
            for i, (a, b) in enumerate(zip(self.phases, self.phases[1:]))
        }

    def findings(self, look: Look, study_id: str) -> list[Finding]:
        """A finding for each reason why the study is unlike the calibration ones; empty where it is like them."""
        found: list[tuple[str, str, float, float]] = []
        if look.empty > self.empty_limit:
            found.append(
                (
                    f"{look.empty:.0%} of a phase's slices hold nothing",
                    "Export the series again, or leave the phase out.",
                    look.empty,
                    self.empty_limit,
                )
            )
        if look.darkest < self.darkest_limit:
            found.append(
                (
                    "the body is darker in a later phase than before contrast as in no calibration study",
                    "Check that the phases are not exchanged and are the same sequence.",
                    look.darkest,
                    self.darkest_limit,
                )
            )
        distance = self.distance(look)
        if distance > self.distance_limit:
            found.append(
                (
                    "the study is unlike those on which the model was calibrated; most unlike: "
                    f"{self.most_unlike(look)}",
                    "Look at the images: other anatomy or sequence, exchanged phases or strong noise; do not "
                    "trust the result before you know.",
                    distance,
                    self.distance_limit,
                )
            )
        return [
            Finding(
                "unfamiliar-study",
                "predict",
                "warning",
                meaning,
                action,
                study_id,
                value=value,
                threshold=limit,
            )
            for meaning, action, value, limit in found
        ]

    # ------------------------------------------------------------------ JSON
    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        arrays = ("centre", "scale", "components", "mean", "covariance")
        limits = ("distance_limit", "empty_limit", "darkest_limit")
        return {
            "phases": list(self.phases),
            **{name: getattr(self, name).tolist() for name in arrays},
            **{name: getattr(self, name) for name in limits},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Familiarity:
        """From :meth:`to_dict`'s values."""

        def array(name: str) -> FloatArray:
            return np.array(values[name], dtype=np.float64)

        return cls(
            phases=tuple(values["phases"]),
            centre=array("centre"),
            scale=array("scale"),
            components=array("components"),
            mean=array("mean"),
            covariance=array("covariance"),
            distance_limit=float(values["distance_limit"]),
            empty_limit=float(values["empty_limit"]),
            darkest_limit=float(values["darkest_limit"]),
        )
