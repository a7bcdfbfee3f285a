"""Agreement of lesion enhancement with the truth, by phase, raw and relative.

A study's value is that of its dominant lesion.  A lesion that was not found, or for which a method gives no
usable number, takes the training mean: no study leaves a mean because it went badly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtinet.evaluation.statistics import FloatArray, safe_ratio
from mtinet.evaluation.tables import dominant_lesions, is_found

Scale = Literal["raw", "relative"]
Reference = Literal["true", "noise_free"]

COLUMNS = {"head": "predicted", "read_out": "measured", "training_mean": "mean", "oracle_mask": "oracle"}
"""Column prefix of each method in the lesions' table."""

FALLS_BACK = ("head", "read_out")
"""Methods that work under the predicted mask, and so take the training mean where it misses the lesion."""

LIMITS = 1.96
"""Limits of agreement in standard deviations of the difference (Bland and Altman 1986)."""


@dataclass(frozen=True)
class EnhancementValues:
    """True and predicted enhancement of the dominant lesions, one row a study and phase.

    Attributes
    ----------
    scale : {"raw", "relative"}
        Signal units, or percent of the pre signal.
    rows : DataFrame
        ``study_id, patient_id, site, phase, found, truth`` and a column a method; every ``truth`` is finite.
    """

    scale: Scale
    rows: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        """Methods that the table holds."""
        return [name for name in COLUMNS if name in self.rows]


def enhancement_values(
    lesions: pd.DataFrame, phases: Sequence[str], scale: Scale, reference: Reference = "true"
) -> EnhancementValues:
    """Collect the enhancement of the dominant lesions.

    Parameters
    ----------
    lesions : DataFrame
        See :mod:`mtinet.evaluation.tables`.
    phases : sequence of str
    scale : {"raw", "relative"}
        ``relative`` is 100·(S_p - S_pre)/S_pre, each method by its own pre signal; there are no rows for the
        pre phase, nor for studies without a positive true pre signal.
    reference : {"true", "noise_free"}
        The observed truth, or the noise-free one of virtual patients.
    """
    largest = dominant_lesions(lesions)
    wanted = phases if scale == "raw" else [phase for phase in phases if phase != "pre"]
    parts = []
    for phase in wanted:
        part = largest[["study_id", "patient_id", "site"]].assign(phase=phase, found=is_found(largest))
        part["truth"] = _signal(largest, reference, phase, scale)
        mean = _signal(largest, COLUMNS["training_mean"], phase, scale)
        for method, prefix in COLUMNS.items():
            if any(f"{prefix}_{name}" in largest for name in phases):
                part[method] = _signal(largest, prefix, phase, scale)
            if method in FALLS_BACK and method in part:
                part[method] = part[method].where(part["found"] & part[method].notna(), mean)
        parts.append(part[part["truth"].notna()])
    columns = ["study_id", "patient_id", "site", "phase", "found", "truth"]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return EnhancementValues(scale, rows)


def agreement(weights: FloatArray, truth: NDArray[Any], predicted: NDArray[Any]) -> dict[str, FloatArray]:
    """Error and agreement under each row of weights.

    Parameters
    ----------
    weights : ndarray [resamples, rows]
    truth, predicted : ndarray [rows]
        Finite.

    Returns
    -------
    dict of ndarray [resamples]
        ``mae``; ``bias`` (mean of predicted - true); ``loa_low`` and ``loa_high``, the 95 % limits of
        agreement bias -+ 1.96 standard deviations (Bland and Altman 1986); ``ccc``, the concordance
        correlation coefficient (Lin 1989), NaN without variation.
    """
    # The scores do not change when both are shifted; near their mean the sums of squares lose no digits.
    centre = truth.mean() if len(truth) else 0.0
    x, y = truth - centre, predicted - centre
    total = weights.sum(-1)
    moments = weights @ np.stack([x, y, x * x, y * y, x * y, np.abs(y - x), (y - x) ** 2], axis=-1)
    mean_x, mean_y, xx, yy, xy, mae, square = safe_ratio(moments, total[:, None]).T
    bias = mean_y - mean_x
    variance = safe_ratio(total * np.maximum(square - bias**2, 0.0), np.maximum(total - 1.0, 0.0))
    spread = LIMITS * np.sqrt(variance)
    covariance, variance_x, variance_y = xy - mean_x * mean_y, xx - mean_x**2, yy - mean_y**2
    return {
        "mae": mae,
        "bias": bias,
        "loa_low": bias - spread,
        "loa_high": bias + spread,
        "ccc": safe_ratio(2.0 * covariance, variance_x + variance_y + bias**2),
    }


def _signal(lesions: pd.DataFrame, prefix: str, phase: str, scale: Scale) -> pd.Series[float]:
    """Raw or relative enhancement of one phase; NaN where it has none."""
    absent: pd.Series[float] = pd.Series(np.nan, index=lesions.index, dtype=float)
    signal: pd.Series[float] = lesions.get(f"{prefix}_{phase}", absent)
    if scale == "raw":
        return signal
    pre: pd.Series[float] = lesions.get(f"{prefix}_pre", absent)
    usable = pre.where(pre > 0)
    return 100.0 * (signal - usable) / usable
