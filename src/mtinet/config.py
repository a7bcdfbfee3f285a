"""Typed settings and presets: the only place for sizes.

Every number that changes a result is a field here.  A run's settings are a preset, changed by an optional
YAML file, changed by ``--set`` assignments; the resolved :class:`Config` is saved with the run.  The process
environment is never read.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mtinet.errors import UserError

Phase = Literal[
    "pre", "arterial", "arterial_late", "portal_venous", "transitional", "delayed", "hepatobiliary"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""Vocabulary of contrast phases, in the order in which they are acquired."""

DEFAULT_PHASES: tuple[Phase, ...] = ("pre", "arterial", "portal_venous", "delayed")

NetworkName = Literal["mtinet", "basic_unet", "dynunet", "swinunetr", "attention_unet"]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


T = TypeVar("T", bound="Settings")


class SettingsError(UserError):
    """A setting has an unknown name or a value that is not valid; the message says what is."""


class Settings(BaseModel):
    """Base of all settings: immutable, and a name that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


# ---------------------------------------------------------------- data
class PreparationSettings(Settings):
    """How a study becomes one normalised grid.  Part of the key of the preparation cache."""

    spacing_mm: tuple[Positive | None, Positive | None, Positive | None] = Field(
        (2.5, 2.5, None), description="voxel size (x, y, z) of the prepared grid; null keeps the study's own"
    )
    registration: Literal["none", "rigid"] = Field(
        "none", description="registration of every phase to the reference phase"
    )
    gain_percentile: Annotated[float, Field(gt=50, lt=100)] = Field(
        95.0, description="percentile of body voxels that becomes the value 1 (one gain a study)"
    )


class SamplingSettings(Settings):
    """Which patches a training step sees."""

    patch_size: tuple[Count, ...] = Field((64, 64), description="patch (y, x) in 2-D, (z, y, x) in 3-D")
    lesion_fraction: Fraction = Field(0.6, description="share of patches centred on a lesion")
    cases_per_class: Literal["natural", "balanced"] = Field(
        "balanced", description="draw studies as they come, or every class equally often"
    )


class AugmentationSettings(Settings):
    """Training-time augmentation; geometry moves image, mask and targets together, gain scales both."""

    enabled: bool = True
    flip: Fraction = Field(0.0, description="probability of a left-right flip")
    rotation_deg: NonNegative = 10.0
    scale: NonNegative = Field(0.1, description="zoom drawn from 1 - scale to 1 + scale")
    translation: NonNegative = Field(0.05, description="shift as a share of the patch")
    gain: NonNegative = Field(
        0.15, description="one gain a study on image AND targets, log-uniform half width"
    )
    bias: NonNegative = Field(0.1, description="amplitude of a smooth field common to all phases")
    noise: NonNegative = Field(0.02, description="standard deviation of added noise, in normalised signal")
    phase_dropout: Fraction = Field(0.0, description="probability of hiding each phase (at least one stays)")


# ---------------------------------------------------------------- model
class EncoderSettings(Settings):
    channels: tuple[Count, ...] = Field((12, 24, 48, 96), description="channels of the four blocks")
    shared: bool = Field(True, description="one set of weights for all phases, or one a phase (paper)")
    convolutions: Count = Field(1, description="convolutions a block")
    norm: Literal["batch", "group", "instance"] = "batch"


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
    channels: tuple[Count, ...] = Field((48, 24, 12, 12), description="channels from deep to full resolution")
    convolutions: Count = 1
    skips: Literal["none", "raw", "fused"] = "fused"


class HeadSettings(Settings):
    width: Count = 64
    depth: Annotated[int, Field(ge=0)] = 3
    heads: Count = 4
    dropout: Fraction = 0.0
    position: Literal["none", "learned", "sinusoidal", "time"] = "learned"
    pooling: Literal["global", "lesion"] = "lesion"
    levels: Literal["last", "all"] = Field(
        "all",
        description="pool the deepest fused map only, or those of all levels (needs decoder.skips=fused)",
    )
    predicted_share: Fraction = Field(
        0.5, description="lesion pooling: final share of training patches pooled under the predicted mask"
    )
    jitter: Annotated[int, Field(ge=0)] = Field(
        1, description="lesion pooling: true masks are dilated or eroded by up to so many voxels in training"
    )


class BaselineSettings(Settings):
    """Comparison networks (model other than mtinet)."""

    width: Count = Field(32, description="channels at full resolution, doubled from level to level")
    features: Count = Field(16, description="channels of the last layer that are pooled for the other tasks")


class TimSettings(Settings):
    """Task interaction: the signal read under the predicted mask against the regressed enhancement."""

    enabled: bool = True
    weighting: Literal["power", "hard"] = "power"
    gamma: Positive = Field(4.0, description="exponent of the mask probability (weighting=power)")
    against: Literal["prediction", "truth", "both"] = "both"
    min_confidence: Fraction = Field(
        0.5, description="regions whose largest probability is below are left out"
    )


class TddSettings(Settings):
    """Transformer task discriminator over the phase sequence."""

    enabled: bool = True
    width: Count = 32
    depth: Count = 1
    heads: Count = 2
    dropout: Fraction = 0.1
    loss: Literal["nonsaturating", "hinge", "lsgan"] = "nonsaturating"
    spectral_norm: bool = True
    r1: NonNegative = Field(0.1, description="weight of the zero-centred gradient penalty on real pairs")
    r1_every: Count = Field(8, description="steps between two gradient penalties (the weight is scaled up)")
    instance_noise: NonNegative = Field(
        0.1, description="noise on both sides' tokens at the start, decays to 0"
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
    ema: Fraction = Field(0.99, description="decay of the weights' moving average; 0 switches it off")
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    workers: Annotated[int, Field(ge=-1)] = Field(-1, description="loader processes; -1 = from the machine")
    seed: Annotated[int, Field(ge=0)] = 0
    validate_every: Annotated[int, Field(ge=0)] = Field(250, description="steps; 0 = at the end only")
    validate_studies: Count = Field(
        8, description="held-out studies monitored while training, never selected on"
    )
    checkpoint_every: Count = Field(100, description="steps between two checkpoints")
    log_every: Count = 10
    diagnose_every: Count = Field(25, description="steps between two looks at gradients")
    deterministic: bool = True


class InferenceSettings(Settings):
    threshold: Fraction = Field(0.5, description="probability above which a voxel is lesion")
    min_diameter_mm: NonNegative = Field(
        6.0, description="predicted components whose volume is below that of a ball so wide are dropped"
    )
    slice_batch: Count = 16
    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="overlap of 3-D windows")


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
        if self.head.width % self.head.heads or self.tdd.width % self.tdd.heads:
            raise ValueError("width must be a multiple of heads (in head and in tdd)")
        if len(set(self.phases)) != len(self.phases):
            raise ValueError("phases names a phase twice")
        return self


# ---------------------------------------------------------------- virtual patients
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


# ---------------------------------------------------------------- presets
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
        evaluation=EvaluationSettings(bootstrap=100),
    )


def small() -> Config:
    """What two CPU cores train in minutes."""
    return Config()


def paper() -> Config:
    """The paper's side of every question it answers (docs/fidelity.md lists the questions)."""
    return Config(
        sampling=SamplingSettings(patch_size=(256, 256), lesion_fraction=0.5),
        preparation=PreparationSettings(spacing_mm=(1.25, 1.25, None)),
        encoder=EncoderSettings(channels=(64, 128, 256, 512), shared=False),
        decoder=DecoderSettings(channels=(256, 128, 64, 32), skips="none"),
        head=HeadSettings(width=256, depth=3, heads=8, dropout=0.1, pooling="global", levels="last"),
        tim=TimSettings(against="prediction"),
        training=TrainingSettings(steps=40_000, batch_size=16, learning_rate=1e-4, validate_every=2000),
    )


PRESETS: dict[str, Callable[[], Config]] = {"tiny": tiny, "small": small, "paper": paper}


# ---------------------------------------------------------------- resolving
def resolve(preset: str = "small", file: Path | None = None, assignments: Iterable[str] = ()) -> Config:
    """Settings of a run: a preset, changed by a YAML file, changed by ``key.path=value`` assignments.

    Raises
    ------
    SettingsError
        A name or value is not valid; the message names it and says what is valid.
    """
    return resolve_settings(_chosen(PRESETS, preset, "preset")(), file, assignments)


def resolve_simulation(
    preset: str = "demo", file: Path | None = None, assignments: Iterable[str] = ()
) -> SimulationSettings:
    """Settings of a virtual cohort, resolved as in :func:`resolve`."""
    return resolve_settings(_chosen(SIMULATIONS, preset, "simulation preset")(), file, assignments)


def resolve_settings(base: T, file: Path | None, assignments: Iterable[str]) -> T:
    """``base`` changed by a YAML file, then by assignments (see :func:`resolve`)."""
    values = base.model_dump()
    if file is not None:
        _merge(values, _read_yaml(file), type(base), str(file))
    for assignment in assignments:
        path, found, text = assignment.partition("=")
        if not found:
            raise SettingsError(f"--set {assignment}: write it as name=value, for example head.depth=2")
        change: Any = _parse_value(text)
        for key in reversed(path.strip().split(".")):
            change = {key: change}
        _merge(values, change, type(base), f"--set {assignment}")
    return validate(type(base), values)


def validate(kind: type[T], values: Mapping[str, Any]) -> T:
    """Build settings from plain values; every error names the setting and what is valid."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = ".".join(str(part) for part in item["loc"])
            lines.append(f"{name}: {item['msg']} (given: {item['input']!r})" if name else item["msg"])
        raise SettingsError("not valid: " + "; ".join(lines)) from None


def _chosen(table: Mapping[str, Callable[[], T]], name: str, what: str) -> Callable[[], T]:
    if name not in table:
        raise SettingsError(f"unknown {what} {name!r}; valid: {', '.join(table)}")
    return table[name]


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {file}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{file} is not YAML: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise SettingsError(f"{file} holds {type(loaded).__name__}, not settings by name")
    return loaded


def _parse_value(text: str) -> Any:
    """JSON where it is JSON, ``a,b`` as a list, otherwise text (pydantic turns it into the field's type)."""
    text = text.strip()
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    if text.lower() in ("null", ""):
        return None
    if "," in text:
        return [_parse_value(part) for part in text.strip("()[]").split(",")]
    return text


def _merge(values: dict[str, Any], changes: Mapping[str, Any], kind: type[BaseModel], source: str) -> None:
    fields = kind.model_fields
    for name, change in changes.items():
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise SettingsError(f"{source}: unknown setting {name!r}; {hint}valid here: {', '.join(fields)}")
        inner = fields[name].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if not isinstance(change, Mapping):
                raise SettingsError(
                    f"{source}: {name!r} is a group of settings ({', '.join(inner.model_fields)}); "
                    f"write {name}.{next(iter(inner.model_fields))}=..."
                )
            _merge(values[name], change, inner, source)
        else:
            values[name] = change


def to_yaml(settings: Settings) -> str:
    """The settings as YAML text, in the order of their definition."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def from_yaml(kind: type[T], text: str) -> T:
    """Settings from :func:`to_yaml` text."""
    return validate(kind, yaml.safe_load(text) or {})


def difference(a: Settings, b: Settings) -> dict[str, tuple[Any, Any]]:
    """Settings whose values differ: dotted name -> (value in a, value in b)."""
    flat_a, flat_b = _flat(a.model_dump(mode="json")), _flat(b.model_dump(mode="json"))
    return {
        name: (flat_a.get(name), flat_b.get(name))
        for name in dict.fromkeys([*flat_a, *flat_b])
        if flat_a.get(name) != flat_b.get(name)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            out.update(_flat(value, f"{prefix}{name}."))
        else:
            out[prefix + name] = value
    return out
