"""Settings of what is measured in a lesion: where, and from which value on a sign counts as present."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from mtinet.config.base import Count, Fraction, NonNegative, Positive, Settings


class MeasurementSettings(Settings):
    """Definitions of the measurements and signs; docs/measurements.md gives their sources."""

    liver_ring_mm: tuple[NonNegative, Positive] = Field(
        (5.0, 20.0), description="a lesion's reference is the liver so far from it"
    )
    outlier_sd: Positive = Field(
        2.5,
        description="liver voxels off the median by more robust standard deviations in any phase are vessels",
    )
    min_liver_voxels: Annotated[int, Field(ge=2)] = Field(
        30, description="with fewer there is no liver to compare with"
    )
    shell_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5, description="the outer part of the way from a lesion's outline to its deepest point is its shell"
    )
    min_core_voxels: Count = Field(8, description="a lesion with a smaller core is not divided")
    hyperenhancing_share: Fraction = Field(
        0.25, description="share of the core's (shell's) voxels from which it counts as hyperenhancing"
    )
    standard_errors: NonNegative = Field(
        2.0, description="standard errors by which a voxel (a part of the rim) has to exceed the liver"
    )
    arterial_enhancement_percent: NonNegative = Field(
        10.0, description="washout needs an arterial enhancement above this"
    )
    washout_equilibrium: Positive = Field(
        102.0, description="100 x liver / lesion above which there is washout at about 3 min (Kloeckner 2016)"
    )
    washout_delayed: Positive = Field(
        101.5, description="the same in a delayed phase, at about 5 min (Kloeckner 2016)"
    )
    washout_portal_venous: Positive = Field(
        102.0, description="the same in the portal venous phase; assumed, no source"
    )
    delayed_from_s: Positive = Field(
        240.0,
        description="from this time on a phase is delayed rather than at equilibrium (between 3 and 5 min)",
    )
    curve_percent: NonNegative = Field(
        10.0,
        description="change from the first to the last phase that parts the curve types (from breast MRI)",
    )
    capsule_mm: Positive = Field(2.0, description="thickness of the band in which a capsule is looked for")
    capsule_share: Fraction = Field(
        0.75, description="share of eight sectors of the band that have to be bright"
    )

    @field_validator("liver_ring_mm")
    @classmethod
    def _nearer_first(cls, ring: tuple[float, float]) -> tuple[float, float]:
        if ring[0] >= ring[1]:
            raise ValueError("give the nearer distance first, for example 5,20")
        return ring
