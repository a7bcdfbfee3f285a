"""Settings of a run: data, model, objective, training, use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mtinet.config.base import (
    DEFAULT_PHASES,
    BelowOne,
    Count,
    Fraction,
    NetworkName,
    NonNegative,
    Phase,
    Positive,
    Settings,
)
from mtinet.config.measurement import MeasurementSettings


class PreparationSettings(Settings):
    """How a study becomes one normalised grid.  Part of the key of the preparation cache."""

    spacing_mm: tuple[Positive | None, Positive | None, Positive | None] = Field(
        (2.5, 2.5, None), description="voxel size (x, y, z) of the prepared grid; null keeps the study's own"
    )
    registration: Literal["none", "rigid", "bspline"] = Field(
        "none",
        description="registration of every phase to the reference phase; bspline = rigid, then a deformation",
    )
    control_point_mm: Annotated[float, Field(ge=10.0, le=200.0)] = Field(
        100.0, description="distance of the control points of the B-spline deformation"
    )
    n4: bool = Field(
        False, description="divide all phases by one smooth receive field estimated by N4 (never one a phase)"
    )
    gain_percentile: Annotated[float, Field(gt=50, lt=100)] = Field(
        95.0, description="percentile of body voxels that becomes the value 1 (one gain a study)"
    )


class SamplingSettings(Settings):
    """Which patches a training step sees."""

    patch_size: tuple[Count, ...] = Field((64, 64), description="patch (y, x) in 2-D, (z, y, x) in 3-D")
    lesion_fraction: Fraction = Field(0.5, description="share of patches centred on a lesion")
    liver_fraction: Fraction = Field(
        0.5, description="share of the other patches centred in the liver, where its mask is known"
    )
    cases_per_class: Literal["natural", "balanced"] = Field(
        "balanced", description="draw studies as they come, or every class equally often"
    )


class AugmentationSettings(Settings):
    """Training-time augmentation; geometry moves image, mask and targets together, gain scales both."""

    enabled: bool = True
    flip: Fraction = Field(0.0, description="probability of a left-right flip")
    rotation_deg: NonNegative = 10.0
    scale: BelowOne = Field(0.1, description="zoom drawn from 1 - scale to 1 + scale")
    translation: NonNegative = Field(0.05, description="shift as a share of the patch")
    gain: NonNegative = Field(
        0.15, description="one gain a study on image AND targets, log-uniform half width"
    )
    bias: NonNegative = Field(0.1, description="amplitude of a smooth field common to all phases")
    noise: NonNegative = Field(0.02, description="standard deviation of added noise, in normalised signal")
    phase_dropout: Fraction = Field(0.0, description="probability of hiding each phase (at least one stays)")


# ---------------------------------------------------------------- model
class EncoderSettings(Settings):
    channels: tuple[Count, ...] = Field((12, 24, 48, 96), min_length=1, description="channels of each block")
    shared: bool = Field(True, description="one set of weights for all phases, or one a phase (paper)")
    convolutions: Count = Field(1, description="convolutions a block")
    stem: Literal[1, 2, 4] = Field(
        1, description="blocks of so many pixels a side enter as channels; the mask leaves in the same way"
    )
    norm: Literal["batch", "group", "instance"] = "batch"
    subtraction: bool = Field(
        False, description="each phase enters with its difference to the pre phase as a second channel"
    )


class MdiefSettings(Settings):
    """Entropy-weighted fusion of a feature map with its high-pass part (no learned parameter)."""

    filter: Literal["ideal", "gaussian", "butterworth"] = "gaussian"
    cutoff: Annotated[float, Field(gt=0, le=1)] = Field(0.25, description="cutoff as a fraction of Nyquist")
    order: Count = Field(2, description="order of the Butterworth filter")
    entropy: Literal["space", "channel"] = Field("space", description="over what the entropy is taken")
    standardise: bool = Field(True, description="standardise entropies over channels before the softmax")
    tau: Positive = Field(1.0, description="temperature of the softmax over the two domains")
    axes: Literal["space", "space+phase"] = Field("space", description="axes of the Fourier transform")


class DecoderSettings(Settings):
    channels: tuple[Count, ...] = Field(
        (48, 24, 12, 12), min_length=1, description="channels from deep to full resolution"
    )
    convolutions: Count = 1
    skips: Literal["none", "raw", "fused"] = "fused"
    dropout: BelowOne = Field(
        0.0, description="share of channels dropped in training after every stage but the last"
    )


class HeadSettings(Settings):
    width: Count = 64
    depth: Annotated[int, Field(ge=0)] = 3
    heads: Count = 4
    dropout: BelowOne = 0.0
    position: Literal["none", "learned", "sinusoidal", "time"] = "learned"
    pooling: Literal["global", "lesion"] = "lesion"
    levels: Literal["last", "all"] = Field(
        "all",
        description="pool the deepest fused map only, or those of all levels (needs decoder.skips=fused)",
    )
    readout: Literal["none", "residual"] = Field(
        "none",
        description="residual: enhancement is the signal read under the pooled region plus what the head adds",
    )
    predicted_share: Fraction = Field(
        0.5, description="lesion pooling: final share of training patches pooled under the predicted mask"
    )
    jitter: Annotated[int, Field(ge=0)] = Field(
        1, description="lesion pooling: true masks are dilated or eroded by up to so many voxels in training"
    )


class BaselineSettings(Settings):
    """Comparison networks (model other than mtinet)."""

    width: Count = Field(
        32,
        description="channels at full resolution, doubled from level to level (swinunetr: the multiple of 12 below)",
    )
    features: Count = Field(16, description="channels of the last layer that are pooled for the other tasks")
    crop: Count = Field(
        32, description="unet_cnn: voxels a side of the square around a lesion that its CNN sees"
    )


class TimSettings(Settings):
    """Task interaction (model=mtinet): the signal under the predicted mask against the regressed enhancement."""

    enabled: bool = True
    weighting: Literal["power", "hard"] = "power"
    gamma: Positive = Field(4.0, description="exponent of the mask probability (weighting=power)")
    against: Literal["prediction", "truth", "both"] = "both"
    min_confidence: Fraction = Field(
        0.5, description="regions whose largest probability is below are left out"
    )


class TddSettings(Settings):
    """Transformer task discriminator over the phase sequence (model=mtinet)."""

    enabled: bool = True
    width: Count = 32
    depth: Count = 1
    heads: Count = 2
    dropout: BelowOne = 0.1
    loss: Literal["nonsaturating", "hinge", "lsgan"] = "nonsaturating"
    spectral_norm: bool = True
    r1: NonNegative = Field(0.1, description="weight of the zero-centred gradient penalty on real pairs")
    r1_every: Count = Field(8, description="steps between two gradient penalties (the weight is scaled up)")
    instance_noise: NonNegative = Field(
        0.1, description="noise of both sides' standardised curves at step 0; falls to 0 with the last step"
    )
    label_smoothing: Fraction = Field(0.1, description="smoothing of the class vectors, on both sides")
    label_noise: NonNegative = Field(0.05, description="noise of the class vectors, on both sides")
    learning_rate: Positive = 4e-4
    steps: Count = Field(1, description="discriminator updates a training step")
    pairs: Literal["true", "shuffled"] = Field(
        "true", description="control: real pairs swapped between classes"
    )


class ObjectiveSettings(Settings):
    """Weights of the five terms and the share of training (0 to 1) at which each enters."""

    segmentation: NonNegative = 1.0
    regression: NonNegative = 1.0
    classification: NonNegative = 0.2
    tim: NonNegative = 0.1
    adversarial: NonNegative = 0.02
    regression_from: Fraction = 0.0
    classification_from: Fraction = 0.0
    tim_from: Fraction = 0.3
    adversarial_from: Fraction = 0.3
    ramp: Fraction = Field(0.1, description="share of training over which a late term rises to its weight")
    label_smoothing: Fraction = 0.05
    weighting: Literal["fixed", "uncertainty", "pcgrad"] = "fixed"


# ---------------------------------------------------------------- training and use
class TrainingSettings(Settings):
    steps: Count = 1300
    batch_size: Count = 16
    learning_rate: Positive = 4e-3
    weight_decay: NonNegative = 1e-4
    optimizer: Literal["adamw", "sgd"] = "adamw"
    warmup: Fraction = Field(0.05, description="share of the steps with a rising rate")
    schedule: Literal["cosine", "constant", "poly"] = "cosine"
    clip: NonNegative = Field(5.0, description="largest gradient norm; 0 switches clipping off")
    ema: BelowOne = Field(0.99, description="decay of the weights' moving average; 0 switches it off")
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    workers: Annotated[int, Field(ge=-1)] = Field(-1, description="loader processes; -1 = from the machine")
    seed: Annotated[int, Field(ge=0)] = 0
    validate_every: Annotated[int, Field(ge=0)] = Field(250, description="steps; 0 = at the end only")
    validate_studies: Count = Field(
        8, description="held-out studies with a lesion monitored while training, never selected on"
    )
    checkpoint_every: Count = Field(100, description="steps between two checkpoints")
    log_every: Count = Field(10, description="steps between two lines of metrics, each the mean of its steps")
    diagnose_every: Count = Field(25, description="steps between two looks at gradients")
    deterministic: bool = True


class InferenceSettings(Settings):
    threshold: Fraction = Field(0.5, description="probability above which a voxel is lesion")
    min_peak: Fraction = Field(
        0.9, description="probability that a predicted component reaches somewhere, or it is dropped"
    )
    min_diameter_mm: NonNegative = Field(
        6.0, description="predicted components whose volume is below that of a ball so wide are dropped"
    )
    slice_batch: Count = Field(16, description="most slices in a forward pass; a backend may take fewer")
    overlap: BelowOne = Field(0.5, description="overlap of 3-D windows")


class EvaluationSettings(Settings):
    nsd_tolerance_mm: Positive = 2.0
    detection_iou: Fraction = Field(
        0.1, description="overlap from which a predicted component finds a lesion"
    )
    bootstrap: Count = Field(2000, description="patient-level resamples for the 95 % intervals")
    size_edges_mm: tuple[Positive, ...] = Field(
        (10.0, 20.0), description="diameters that part the size groups"
    )
    calibration_bins: Count = Field(10, description="confidence bins of the calibration error")


class Config(Settings):
    """All settings of a run."""

    model: NetworkName = "mtinet"
    phases: Annotated[tuple[Phase, ...], Field(min_length=2)] = DEFAULT_PHASES
    spatial_dims: Literal[2, 3] = 2
    preparation: PreparationSettings = PreparationSettings()
    sampling: SamplingSettings = SamplingSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    encoder: EncoderSettings = EncoderSettings()
    mdief: MdiefSettings = MdiefSettings()
    fusion: Literal["mdief", "concat", "average", "spatial", "spectral", "attention"] = "mdief"
    decoder: DecoderSettings = DecoderSettings()
    head: HeadSettings = HeadSettings()
    baseline: BaselineSettings = BaselineSettings()
    tim: TimSettings = TimSettings()
    tdd: TddSettings = TddSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    training: TrainingSettings = TrainingSettings()
    inference: InferenceSettings = InferenceSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    measurement: MeasurementSettings = MeasurementSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if len(self.sampling.patch_size) != self.spatial_dims:
            raise ValueError(
                f"sampling.patch_size has {len(self.sampling.patch_size)} numbers but spatial_dims is "
                f"{self.spatial_dims}; give one number a dimension"
            )
        if len(self.decoder.channels) != len(self.encoder.channels):
            raise ValueError("decoder.channels and encoder.channels need the same length")
        if self.head.levels == "all" and self.decoder.skips != "fused":
            raise ValueError(
                "head.levels=all pools the fused maps of all levels, and with "
                f"decoder.skips={self.decoder.skips} only the deepest is fused: "
                "set head.levels=last or decoder.skips=fused"
            )
        if self.encoder.subtraction and "pre" not in self.phases:
            raise ValueError(
                "encoder.subtraction takes the pre phase from the others, and phases has none: add pre, or set "
                "encoder.subtraction=false"
            )
        if self.head.readout == "residual" and self.head.pooling != "lesion":
            raise ValueError(
                "head.readout=residual reads the signal of a lesion, and with head.pooling=global there is no "
                "lesion to read: set head.pooling=lesion or head.readout=none"
            )
        if self.model == "unet_cnn" and self.head.pooling != "lesion":
            raise ValueError(
                "model=unet_cnn sees the image around each lesion, and with head.pooling=global there is no lesion "
                "to see: set head.pooling=lesion"
            )
        if self.model == "mtinet" and self._normalises_single_voxels():
            raise ValueError(
                f"encoder.norm={self.encoder.norm} makes maps of one voxel constant, and so the deepest ones with "
                f"sampling.patch_size={','.join(map(str, self.sampling.patch_size))}: take larger patches, fewer "
                "encoder.channels, or encoder.norm=batch"
            )
        if self.head.width % self.head.heads or self.tdd.width % self.tdd.heads:
            raise ValueError("width must be a multiple of heads (in head and in tdd)")
        if len(set(self.phases)) != len(self.phases):
            raise ValueError("phases names a phase twice")
        return self

    def _normalises_single_voxels(self) -> bool:
        """Whether the deepest maps are normalised one by one and have one voxel."""
        *_, deepest = self.encoder.channels
        if self.encoder.norm == "batch" or (self.encoder.norm == "group" and 8 % deepest):
            return False
        sides = [-(-side // self.encoder.stem) for side in self.sampling.patch_size]
        for _ in self.encoder.channels[1:]:
            sides = [-(-side // 2) for side in sides]
        return max(sides) == 1
