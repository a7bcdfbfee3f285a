"""A ball in a block of liver, with known signal in each of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from mtinet.config import MeasurementSettings, Phase
from mtinet.imaging.masks import bounding_boxes
from mtinet.inference.observed import Observed, cut_out

TIMES_S = {"arterial": 25.0, "portal_venous": 65.0, "delayed": 180.0}
LIVER = {"pre": 100.0, "arterial": 120.0, "portal_venous": 180.0, "delayed": 160.0}
HYPERVASCULAR = {"pre": 90.0, "arterial": 220.0, "portal_venous": 170.0, "delayed": 140.0}
STILL = {"pre": 70.0, "arterial": 75.0, "portal_venous": 80.0, "delayed": 80.0}


def make_scene(
    core: Mapping[Phase, float] = HYPERVASCULAR,
    rim: Mapping[Phase, float] | None = None,
    *,
    rim_mm: float = 3.0,
    radius_mm: float = 12.0,
    liver: Mapping[Phase, float] = LIVER,
    noise: float = 2.0,
    gain: float = 1.0,
    agent: str = "extracellular",
    with_liver: bool = True,
    spacing_mm: tuple[float, float, float] = (2.0, 1.5, 1.5),
    size_mm: float = 80.0,
    seed: int = 0,
    times_s: Mapping[Phase, float] = TIMES_S,
) -> Observed:
    """A ball with a rim of its own signal in the middle of a block of liver with noise."""
    shape = tuple(round(size_mm / step) for step in spacing_mm)
    places = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing_mm)]
    z, y, x = np.meshgrid(*places, indexing="ij")
    apart = np.sqrt(z**2 + y**2 + x**2)
    rng = np.random.default_rng(seed)
    signal = {}
    for phase in liver:
        image = np.full(shape, liver[phase])
        image[apart <= radius_mm] = (rim or core)[phase]
        image[apart <= radius_mm - (rim_mm if rim else 0.0)] = core[phase]
        signal[phase] = (gain * (image + noise * rng.standard_normal(shape))).astype(np.float32)
    return Observed(
        signal=signal,
        unit=1.0,
        spacing_mm=spacing_mm,
        labels=(apart <= radius_mm).astype(np.int32),
        liver=np.ones(shape, dtype=bool) if with_liver else None,
        agent=agent,
        times_s={phase: time for phase, time in times_s.items() if phase in liver},
    )


@pytest.fixture(scope="session")
def scene() -> Callable[..., Observed]:
    """``make_scene``: a ball of any signal in a block of liver."""
    return make_scene


@pytest.fixture(scope="session")
def lesion_of():
    """The region of a scene's lesion."""

    def cut(observed: Observed, settings: MeasurementSettings | None = None, number: int = 1):
        box = bounding_boxes(observed.labels)[number]
        return cut_out(observed, number, box, settings or MeasurementSettings())

    return cut


@pytest.fixture(scope="session")
def curves() -> dict[str, dict[Phase, float]]:
    """Signals by phase: ``liver``, a ``hypervascular`` lesion and one that stands ``still``."""
    return {"liver": LIVER, "hypervascular": HYPERVASCULAR, "still": STILL}
