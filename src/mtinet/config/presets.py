"""Presets: sizes for tests, for two CPU cores, and the paper's."""

from __future__ import annotations

from collections.abc import Callable

from mtinet.config.run import (
    BaselineSettings,
    Config,
    DecoderSettings,
    EncoderSettings,
    EvaluationSettings,
    HeadSettings,
    InferenceSettings,
    PreparationSettings,
    SamplingSettings,
    TddSettings,
    TimSettings,
    TrainingSettings,
)


def tiny() -> Config:
    """Smallest sizes at which every mechanism works; for tests."""
    return Config(
        preparation=PreparationSettings(spacing_mm=(6.0, 6.0, None)),
        sampling=SamplingSettings(patch_size=(32, 32)),
        encoder=EncoderSettings(channels=(4, 8, 8, 16)),
        decoder=DecoderSettings(channels=(8, 8, 8, 4)),
        head=HeadSettings(width=16, depth=1, heads=2),
        baseline=BaselineSettings(width=4, features=8),
        tdd=TddSettings(width=16),
        training=TrainingSettings(
            steps=12,
            batch_size=4,
            workers=0,
            validate_every=6,
            validate_studies=2,
            checkpoint_every=4,
            log_every=2,
        ),
        # a network of so few steps is sure of nothing
        inference=InferenceSettings(min_peak=0.5),
        evaluation=EvaluationSettings(bootstrap=100),
    )


def small() -> Config:
    """What two CPU cores train in minutes."""
    return Config(
        head=HeadSettings(readout="residual"),
        training=TrainingSettings(steps=1300),
    )


def paper() -> Config:
    """The paper's side of every question it answers (docs/fidelity.md lists the questions)."""
    return Config(
        sampling=SamplingSettings(patch_size=(256, 256)),
        preparation=PreparationSettings(spacing_mm=(1.25, 1.25, None)),
        encoder=EncoderSettings(channels=(64, 128, 256, 512), shared=False),
        decoder=DecoderSettings(channels=(256, 128, 64, 32), skips="none"),
        head=HeadSettings(width=256, depth=3, heads=8, dropout=0.1, pooling="global", levels="last"),
        tim=TimSettings(against="prediction"),
        training=TrainingSettings(steps=40_000, batch_size=16, learning_rate=1e-4, validate_every=2000),
    )


PRESETS: dict[str, Callable[[], Config]] = {"tiny": tiny, "small": small, "paper": paper}
