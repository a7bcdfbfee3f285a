"""What all settings share: their base, their kinds of numbers, the names of phases and networks."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from mtinet.errors import UserError

Phase = Literal[
    "pre", "arterial", "arterial_late", "portal_venous", "transitional", "delayed", "hepatobiliary"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""Vocabulary of contrast phases, in the order in which they are acquired."""

DEFAULT_PHASES: tuple[Phase, ...] = ("pre", "arterial", "portal_venous", "delayed")

NetworkName = Literal["mtinet", "basic_unet", "dynunet", "swinunetr", "attention_unet", "unet_cnn"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
"""A fraction whose 1 would leave nothing: all channels dropped, an average that never moves."""
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


class SettingsError(UserError):
    """A setting has an unknown name or a value that is not valid; the message says what is."""


class Settings(BaseModel):
    """Base of all settings: immutable, finite, and a name that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
