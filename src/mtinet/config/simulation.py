"""Settings of a cohort of virtual patients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from mtinet.config.base import DEFAULT_PHASES, Count, Fraction, NonNegative, Phase, Positive, Settings


class SiteSettings(Settings):
    """A virtual scanner: field, sequence, sampling, gain and timing habits."""

    name: str
    field_T: Positive = 3.0
    tr_ms: Positive = 3.35
    te_ms: Positive = 1.35
    flip_deg: Positive = 12.0
    spacing_mm: tuple[Positive, Positive, Positive] = (2.5, 2.5, 5.0)
    matrix: tuple[Count, Count, Count] = (136, 104, 24)
    gain: Positive = Field(1000.0, description="receive gain; drawn log-normally around it for every study")
    noise: NonNegative = Field(0.03, description="noise over the liver's signal before contrast")
    bias: NonNegative = Field(0.2, description="amplitude of the receive-field inhomogeneity")
    times_s: dict[Phase, Positive] = Field(
        default={"arterial": 22.0, "portal_venous": 65.0, "delayed": 180.0},
        description="seconds from the start of injection to the centre of k-space",
    )
    timing_jitter_s: NonNegative = 3.0
    oblique_deg: Annotated[float, Field(ge=0.0, le=30.0)] = Field(
        0.0, description="largest tilt of the slices against the patient, about two axes"
    )


class SimulationSettings(Settings):
    """A cohort of virtual patients."""

    name: str = "virtual"
    subjects: Count = 160
    seed: Annotated[int, Field(ge=0)] = 0
    classes: tuple[str, ...] = ("hemangioma", "hcc")
    phases: tuple[Phase, ...] = DEFAULT_PHASES
    no_lesion_fraction: Fraction = 0.16
    extra_lesions: NonNegative = Field(0.6, description="mean number of lesions beyond the first")
    diameter_mm: tuple[Positive, Positive] = (6.0, 60.0)
    median_diameter_mm: Positive = Field(
        34.0, description="of the largest lesion of a patient (log-normal, assumed); the others are smaller"
    )
    atypical_fraction: Fraction = Field(
        0.2, description="share of lesions whose enhancement is not of the book"
    )
    missing_phase_rate: Fraction = Field(
        0.05, description="share of studies that lack one phase other than pre"
    )
    breathing_mm: NonNegative = Field(
        3.0, description="standard deviation of the displacement between phases"
    )
    agent: str = "gadobutrol"
    dose_mmol_kg: Positive = 0.1
    sites: tuple[SiteSettings, ...] = (
        SiteSettings(name="A"),
        SiteSettings(name="B", field_T=1.5, tr_ms=4.2, te_ms=1.9, flip_deg=10.0, gain=320.0, noise=0.045),
        SiteSettings(
            name="C",
            tr_ms=3.9,
            te_ms=1.8,
            flip_deg=15.0,
            spacing_mm=(2.2, 2.2, 6.0),
            matrix=(154, 118, 20),
            gain=2500.0,
            oblique_deg=5.0,
        ),
    )


def _tiny_simulation() -> SimulationSettings:
    return SimulationSettings(
        name="tiny",
        subjects=12,
        diameter_mm=(15.0, 60.0),
        sites=(
            SiteSettings(name="A", spacing_mm=(6.0, 6.0, 12.0), matrix=(56, 44, 10)),
            SiteSettings(name="B", spacing_mm=(6.5, 6.5, 11.0), matrix=(52, 40, 11), field_T=1.5, gain=300.0),
        ),
    )


SIMULATIONS: dict[str, Callable[[], SimulationSettings]] = {
    "demo": SimulationSettings,
    "tiny": _tiny_simulation,
}
