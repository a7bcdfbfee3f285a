"""One gain a study: normalisation that keeps enhancement.

MR signal has a true zero, so a study is divided by one number and nothing is subtracted: ratios and relative
differences between phases stay what they were.  Normalising every phase by itself would erase them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.cohort import REFERENCE_ORDER
from mtinet.config import Phase
from mtinet.imaging.masks import body_mask


def study_gain(images: Mapping[Phase, NDArray[Any]], percentile: float) -> float:
    """The signal that becomes 1: a high percentile of the body's voxels in the reference phase of ``images``.

    Parameters
    ----------
    images : mapping of phase to ndarray
        Signal; what is not finite is left out.
    percentile : float
        Between 0 and 100.

    Returns
    -------
    float
        Positive; multiplying all images by a number multiplies it by that number.

    Raises
    ------
    ValueError
        No phase, or no signal above the background in the phase that is used.
    """
    phase = next((p for p in REFERENCE_ORDER if p in images), None)
    if phase is None:
        raise ValueError("there is no image of any phase; add one")
    body = images[phase][body_mask(images[phase])]
    gain = float(np.percentile(body, percentile)) if body.size else 0.0
    if not gain > 0:
        raise ValueError(f"{phase} holds no signal above its background; check that it is a magnitude image")
    return gain
