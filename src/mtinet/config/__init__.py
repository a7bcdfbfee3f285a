"""Typed settings and presets: the only place for sizes.

Every number that changes a result is a field here.  A run's settings are a preset, changed by an optional
YAML file, changed by ``--set`` assignments; the resolved :class:`Config` is saved with the run.  The process
environment is never read.
"""

from __future__ import annotations

from mtinet.config.base import (
    DEFAULT_PHASES,
    PHASES,
    NetworkName,
    Phase,
    Settings,
    SettingsError,
)
from mtinet.config.measurement import MeasurementSettings
from mtinet.config.presets import (
    PRESETS,
)
from mtinet.config.resolving import (
    difference,
    from_yaml,
    resolve,
    resolve_settings,
    resolve_simulation,
    to_yaml,
    validate,
)
from mtinet.config.run import (
    AugmentationSettings,
    BaselineSettings,
    Config,
    DecoderSettings,
    EncoderSettings,
    EvaluationSettings,
    HeadSettings,
    InferenceSettings,
    MdiefSettings,
    ObjectiveSettings,
    PreparationSettings,
    SamplingSettings,
    TddSettings,
    TimSettings,
    TrainingSettings,
)
from mtinet.config.simulation import (
    SIMULATIONS,
    SITES,
    AgentName,
    SimulationSettings,
    SiteSettings,
)

__all__ = [
    "DEFAULT_PHASES",
    "PHASES",
    "PRESETS",
    "SIMULATIONS",
    "SITES",
    "AgentName",
    "AugmentationSettings",
    "BaselineSettings",
    "Config",
    "DecoderSettings",
    "EncoderSettings",
    "EvaluationSettings",
    "HeadSettings",
    "InferenceSettings",
    "MdiefSettings",
    "MeasurementSettings",
    "NetworkName",
    "ObjectiveSettings",
    "Phase",
    "PreparationSettings",
    "SamplingSettings",
    "Settings",
    "SettingsError",
    "SimulationSettings",
    "SiteSettings",
    "TddSettings",
    "TimSettings",
    "TrainingSettings",
    "difference",
    "from_yaml",
    "resolve",
    "resolve_settings",
    "resolve_simulation",
    "to_yaml",
    "validate",
]
