"""Harmonisation of the signal between sites, fitted on training studies only.

Either method is a strictly rising map of the normalised signal through 0, one a study or one a site and phase.
The network sees the mapped images and, in training, the enhancement that is measured in them; what it regresses
goes back through the inverse.  Errors, read-outs and results therefore stay in the study's own signal.

``nyul``: the percentiles of a study's body, all its phases together, are brought to their means over the
training studies (Nyul, Udupa and Zhang, IEEE TMI 2000;19:143).  One map for all phases keeps the order of
their signals, which a map a phase would erase.  It is piecewise linear and not a gain: ratios between phases
change, and the mean of a lesion's mapped signal is not exactly the mapped mean.

``combat``: ComBat (Johnson, Li and Rabinovic, Biostatistics 2007;8:118) is a method for features.  Its features
here are the logarithms of the body's mean signal by phase, its batches the sites, and only their means are
adjusted: what comes out is one gain a site and phase, which needs neither a class nor other patients when it
is applied.  A site that did not train has no gain and stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mtinet.data.prepared import PreparedStudy
from mtinet.data.variation import measured_anew
from mtinet.errors import UserError
from mtinet.imaging.masks import body_mask

Kind = Literal["nyul", "combat"]
FloatArray = NDArray[np.float64]

PERCENTILES = (10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
"""Landmarks of ``nyul``: the deciles, and an upper end that bright vessels do not move."""

LEAST_STEP = 1e-4
"""Distance that landmarks keep at least, so that every map can be inverted."""

FEWEST_STUDIES = 2
"""Studies of a site from which ComBat takes a mean."""


@dataclass(frozen=True)
class SignalMap:
    """A strictly rising, piecewise linear map through 0 for each phase, with the last slope kept beyond.

    Attributes
    ----------
    given, standard : ndarray, shape (P, K)
        Knots in normalised and in harmonised signal; rising along K, the first is 0.
    """

    given: FloatArray
    standard: FloatArray

    def forward(self, signal: NDArray[Any]) -> NDArray[Any]:
        """Harmonise signals, the phases along the first axis."""
        return np.stack([_through(*parts) for parts in zip(signal, self.given, self.standard, strict=True)])

    def inverse(self, signal: NDArray[Any]) -> NDArray[Any]:
        """Bring harmonised signals back."""
        return np.stack([_through(*parts) for parts in zip(signal, self.standard, self.given, strict=True)])


@dataclass(frozen=True)
class Harmonisation:
    """What was learned from the training studies.

    Attributes
    ----------
    kind : {"nyul", "combat"}
    landmarks : tuple of float
        ``nyul``: the standard value of each of :data:`PERCENTILES`.
    log_gain : dict
        ``combat``: logarithm of the gain by site, a value a phase.
    """

    kind: Kind
    landmarks: tuple[float, ...] = ()
    log_gain: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def knows(self, site: str) -> bool:
        """Whether studies of that site are changed at all."""
        return self.kind == "nyul" or site in self.log_gain

    def map_of(self, study: PreparedStudy) -> SignalMap:
        """The map of a study's signal."""
        phases = len(study.phases)
        if self.kind == "nyul":
            given = np.concatenate([[0.0], _landmarks(study)])
            standard = _rising(np.concatenate([[0.0], self.landmarks]))
            return SignalMap(np.tile(given, (phases, 1)), np.tile(standard, (phases, 1)))
        gain = np.exp(self.log_gain.get(study.site, (0.0,) * phases))
        knots = np.array([0.0, 1.0])
        return SignalMap(np.tile(knots, (phases, 1)), knots * gain[:, None])

    def apply(self, study: PreparedStudy) -> PreparedStudy:
        """The study in harmonised signal, its lesions measured in it."""
        if not self.knows(study.site):
            return study
        image = self.map_of(study).forward(study.image).astype(np.float32)
        return measured_anew(replace(study, memory={**study.memory, "image": image}))

    def to_dict(self) -> dict[str, Any]:
        """The content of ``harmonisation.json``."""
        return {
            "kind": self.kind,
            "landmarks": list(self.landmarks),
            "log_gain": {site: list(values) for site, values in self.log_gain.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Harmonisation:
        """A harmonisation from :meth:`to_dict`'s values."""
        return cls(
            values["kind"],
            tuple(values["landmarks"]),
            {site: tuple(gains) for site, gains in values["log_gain"].items()},
        )


def fit(kind: Kind, training: Sequence[PreparedStudy]) -> Harmonisation:
    """Learn a harmonisation from the training studies.

    Raises
    ------
    UserError
        ``combat`` without its package.
    """
    if kind == "nyul":
        landmarks = np.mean([_landmarks(study) for study in training], axis=0)
        return Harmonisation("nyul", landmarks=tuple(landmarks.tolist()))
    return Harmonisation("combat", log_gain=_combat(training))


def _combat(training: Sequence[PreparedStudy]) -> dict[str, tuple[float, ...]]:
    """Logarithm of the gain by site and phase, from the studies that have every phase.

    A site with fewer than :data:`FEWEST_STUDIES` of them has none; nor has any, where one site is left.
    """
    counts = Counter(study.site for study in training if all(study.present))
    sites = {site for site, count in counts.items() if count >= FEWEST_STUDIES}
    complete = [study for study in training if all(study.present) and study.site in sites]
    if len(sites) < 2:
        return {}
    try:
        from combatlearn import ComBat
    except ImportError:
        raise UserError("harmonisation combat needs a package: pip install 'mtinet[combat]'") from None
    import pandas as pd

    levels = pd.DataFrame([_log_levels(study) for study in complete])
    batches = pd.Series([study.site for study in complete])
    adjusted = ComBat(batches, method="johnson", mean_only=True).fit(levels).transform(levels)
    # with means only, every study of a site moves by the same
    moved = (pd.DataFrame(np.asarray(adjusted)) - levels).groupby(batches.to_numpy()).mean()
    return {str(site): tuple(float(v) for v in row) for site, row in zip(moved.index, moved.to_numpy())}


def _log_levels(study: PreparedStudy) -> FloatArray:
    """Logarithm of the body's mean signal by phase."""
    body = _body(study)
    return np.log([float(phase[body].mean(dtype=np.float64)) for phase in study.image])


def _landmarks(study: PreparedStudy) -> FloatArray:
    """The percentiles of the body's signal over all phases that are there, rising strictly above 0."""
    body = _body(study)
    signal = np.concatenate([study.image[i][body] for i, present in enumerate(study.present) if present])
    return _rising(np.concatenate([[0.0], np.percentile(signal, PERCENTILES)]))[1:]


def _body(study: PreparedStudy) -> NDArray[np.bool_]:
    """The patient in the mean of the phases that are there: one mask for all of them."""
    return body_mask(study.image[np.array(study.present)].mean(axis=0))


def _rising(knots: NDArray[Any]) -> FloatArray:
    """Knots that keep their distance: equal percentiles would make a step."""
    least = LEAST_STEP * np.arange(len(knots))
    return np.asarray(np.maximum.accumulate(knots - least) + least, dtype=np.float64)


def _through(signal: NDArray[Any], given: FloatArray, standard: FloatArray) -> NDArray[Any]:
    """Interpolate between knots; beyond both ends the nearest slope goes on."""
    low, high = ((standard[i + 1] - standard[i]) / (given[i + 1] - given[i]) for i in (0, len(given) - 2))
    inside = np.interp(signal, given, standard)
    below = np.minimum(signal - given[0], 0.0) * low
    above = np.maximum(signal - given[-1], 0.0) * high
    return np.asarray(inside + below + above)
