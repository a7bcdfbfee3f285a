"""What an experiment changes in the data, for learning or for scoring; the defaults change nothing.

Variations are no settings of a run that a user keeps: they damage, hide or take away data on purpose, to
measure what a method bears, or ask a network several times, to measure what that is worth.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mtinet.config.base import Count, NonNegative, Phase, Settings


class LearningVariation(Settings):
    """How the training data of a run differ from the cohort's."""

    mask_margin: Annotated[int, Field(ge=-5, le=5)] = Field(
        0, description="in-plane voxels by which every training mask is dilated (> 0) or eroded (< 0)"
    )
    noise: NonNegative = Field(0.0, description="standard deviation of added noise, in normalised signal")
    heterogeneity: NonNegative = Field(
        0.0, description="relative standard deviation of a fine texture that multiplies each phase"
    )
    patients: Count | None = Field(
        None, description="learn from so many training patients (all, where there are fewer); null = all"
    )
    held_out_site: str | None = Field(
        None, description="learn from the other sites and hold this one out; takes the place of the fold"
    )
    harmonisation: Literal["none", "nyul", "combat"] = Field(
        "none", description="harmonisation between sites, fitted on the training studies only"
    )


class ScoringVariation(Settings):
    """How the studies that a run is scored on differ from the cohort's, and who is asked about them."""

    phases: tuple[Phase, ...] | None = Field(None, description="show only these phases; null = all")
    order: Literal["true", "shuffled"] = Field(
        "true", description="shuffled: each study's phases change places, drawn by study"
    )
    displacement_mm: NonNegative = Field(
        0.0, description="in-plane shift of every phase but the reference, direction drawn by study and phase"
    )
    noise: NonNegative = Field(0.0, description="standard deviation of added noise, in normalised signal")
    heterogeneity: NonNegative = Field(
        0.0, description="relative standard deviation of a fine texture that multiplies each phase"
    )

    flips: bool = Field(False, description="the mean of the study and of its mirror image is scored")
    dropout: Annotated[int, Field(ge=0)] = Field(
        0, description="the mean of so many thinned networks is scored (Monte-Carlo dropout)"
    )
    networks: Count = Field(
        1, description="the mean of so many trainings is scored: the run's, and those of the next seeds"
    )

    @property
    def asks_several(self) -> bool:
        """Whether more than the run's own network, looking once, is asked."""
        return self.flips or self.dropout > 0 or self.networks > 1

    @property
    def title(self) -> str:
        """What the tables call it."""
        asked = [f"mean of {self.networks} networks"] if self.networks > 1 else []
        asked += [f"mean of {self.dropout} thinned networks"] if self.dropout else []
        asked += ["mean with the mirror image"] if self.flips else []
        shown = self.model_copy(update={"networks": 1, "dropout": 0, "flips": False}).name
        return ", ".join([*asked, *([shown] if shown else [])])

    @property
    def name(self) -> str:
        """Short name for folders and tables; empty for the default, which changes nothing."""
        parts = [] if self.phases is None else ["only", *self.phases]
        if self.order != "true":
            parts.append(self.order)
        for what, value in (
            ("displaced", self.displacement_mm),
            ("noise", self.noise),
            ("heterogeneity", self.heterogeneity),
        ):
            if value:
                parts += [what, f"{value:g}"]
        parts += ["flips"] if self.flips else []
        parts += ["dropout", str(self.dropout)] if self.dropout else []
        parts += ["networks", str(self.networks)] if self.networks > 1 else []
        return "-".join(parts)
