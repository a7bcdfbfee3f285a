"""Settings of a comparison between the rows of an experiment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mtinet.config.base import Count, Settings


class ComparisonSettings(Settings):
    """How rows are tested against their reference."""

    level: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.05, description="family-wise error that Holm's procedure keeps"
    )
    power: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.8, description="power at which the smallest detectable difference is stated"
    )
    permutations: Count = Field(
        9999, description="sign flips that are drawn; all are gone through where there are no more"
    )
    bootstrap: Count = Field(2000, description="patient-level resamples of every interval")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of permutations and resamples")
