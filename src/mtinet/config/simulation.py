"""Settings of a cohort of virtual patients: the scanners, and who lies in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mtinet.config.base import (
    Count,
    Fraction,
    NonNegative,
    Phase,
    Positive,
    Settings,
    SettingsError,
)

AgentName = Literal["gadobutrol", "gadoxetate"]


class SiteSettings(Settings):
    """A virtual scanner: field, sequence, sampling, imperfections and timing habits."""

    name: str
    habits: Literal["vibe", "lava", "thrive"] = Field(
        "vibe", description="whose sequence it resembles; decides what the scanner does by itself"
    )
    field_T: Positive = 3.0
    tr_ms: Positive = 3.35
    te_ms: Positive = 1.35
    flip_deg: Positive = 12.0
    spacing_mm: tuple[Positive, Positive, Positive] = (2.5, 2.5, 5.0)
    matrix: tuple[Count, Count, Count] = (136, 104, 24)
    gain: Positive = Field(1000.0, description="receive gain; drawn log-normally around it for every study")
    noise: NonNegative = Field(0.03, description="noise over the liver's signal before contrast")
    acceleration: Annotated[float, Field(ge=1.0)] = Field(
        1.5, description="parallel imaging: the noise grows by the g-factor towards the middle of the body"
    )
    bias: NonNegative = Field(0.2, description="amplitude of the receive-field inhomogeneity")
    b1: NonNegative = Field(0.12, description="amplitude of the error of the flip angle (dielectric effects)")
    artefacts: NonNegative = Field(
        1.0, description="strength of motion and pulsation ghosts and of signal loss near the lung"
    )
    timing: Literal["fixed", "bolus"] = Field(
        "fixed", description="bolus: times follow the arrival of the agent in the aorta"
    )
    times_s: dict[Phase, Positive] = Field(
        default={
            "arterial": 26.0,
            "arterial_late": 35.0,
            "portal_venous": 65.0,
            "transitional": 150.0,
            "delayed": 180.0,
            "hepatobiliary": 1200.0,
        },
        description="seconds from the start of injection to the centre of k-space",
    )
    timing_jitter_s: NonNegative = 3.0
    injection_ml_s: Positive | None = Field(
        None, description="rate of injection; empty = usual for the agent"
    )
    oblique_deg: Annotated[float, Field(ge=0.0, le=30.0)] = Field(
        0.0, description="largest tilt of the slices against the patient, about two axes"
    )


# The sequence of A and P is that of AJR 2009;193:1318 (VIBE, TR 3.35 ms, TE 1.35 ms, 12 degrees).  Their
# times and everything about the other sites are assumed: ordinary values for fat-suppressed 3-D gradient
# echoes of the liver in one breath-hold; no vendor's defaults are claimed.  Voxels are larger than clinical
# ones, so that a cohort is made in minutes (`--spacing 1.5,1.5,3` is nearer).  X, Y and Z serve to set the
# difficulty: no reported result may come from them.
_TABLE = """
name habits field_T tr_ms te_ms flip_deg in_plane slices matrix     gain noise acceleration b1   timing arterial portal_venous delayed oblique_deg
A    vibe   3.0     3.35  1.35  12       2.5      5.0    136,104,24 1000 0.030 1.5          0.12 fixed  26       65            180     0
B    vibe   1.5     4.20  1.90  10       2.5      5.0    136,104,24  320 0.045 1.5          0.05 bolus  26       65            180     0
C    lava   3.0     3.90  1.80  15       2.2      6.0    154,118,20 2500 0.030 1.8          0.14 fixed  29       70            180     5
D    lava   1.5     4.30  2.10  12       2.4      5.0    142,108,24 1600 0.050 1.5          0.05 bolus  24       60            180     3
E    thrive 3.0     3.20  1.50  10       2.3      4.6    148,114,26  600 0.035 2.0          0.12 bolus  28       65            210     4
F    thrive 1.5     4.00  2.00  10       2.8      5.5    122,94,22   140 0.040 1.6          0.06 fixed  30       75            240     0
P    vibe   3.0     3.35  1.35  12       2.7      5.0    128,128,24 1000 0.030 1.5          0.12 fixed  26       65            180     0
X    vibe   3.0     3.60  1.50  10       2.6      5.2    132,100,24  800 0.032 1.7          0.11 bolus  25       62            190     3
Y    lava   1.5     4.10  2.00  13       2.5      5.5    136,104,22 2000 0.045 1.5          0.05 fixed  28       68            180     0
Z    thrive 3.0     3.40  1.60  11       2.4      4.8    142,108,25  450 0.034 1.9          0.13 bolus  27       66            200     5
"""  # noqa: E501


def _site(values: dict[str, Any]) -> SiteSettings:
    in_plane, slices = values.pop("in_plane"), values.pop("slices")
    times = dict(SiteSettings.model_fields["times_s"].default)
    times.update({phase: values.pop(phase) for phase in ("arterial", "portal_venous", "delayed")})
    return SiteSettings(
        **{**values, "matrix": values["matrix"].split(",")},
        spacing_mm=(in_plane, in_plane, slices),
        times_s=times,
    )


def _read_sites(table: str) -> dict[str, SiteSettings]:
    columns, *rows = (line.split() for line in table.strip().splitlines())
    return {row[0]: _site(dict(zip(columns, row, strict=True))) for row in rows}


_MOST_VOXELS = 4_000_000

SITES: dict[str, SiteSettings] = _read_sites(_TABLE)
"""The known scanners by name; a cohort takes some of them, or others that its settings file describes."""


def _sites(names: str) -> tuple[SiteSettings, ...]:
    return tuple(SITES[name] for name in names)


class SimulationSettings(Settings):
    """A cohort of virtual patients."""

    name: str = "virtual"
    phantom: Literal[3] = Field(
        3, description="version of the patients: another version draws other patients from the same seed"
    )
    subjects: Count = 160
    seed: Annotated[int, Field(ge=0)] = 0
    classes: tuple[str, ...] = ("hemangioma", "hcc")
    agent: AgentName = "gadobutrol"
    dose_mmol_kg: Positive | None = Field(None, description="empty = the agent's label")
    phases: tuple[Phase, ...] | None = Field(None, description="empty = those usual with the agent")
    no_lesion_fraction: Fraction = 0.16
    extra_lesions: NonNegative = Field(
        0.5, description="mean number of lesions beyond the first (Poisson, at most 6 are drawn)"
    )
    diameter_mm: tuple[Positive, Positive] = Field(
        (6.0, 60.0), description="smallest and largest; a diameter drawn beyond is set to the limit"
    )
    median_diameter_mm: Positive = Field(
        45.0, description="of the largest lesion of a patient (log-normal, assumed); the others are smaller"
    )
    subtypes: dict[str, dict[str, NonNegative]] = Field(
        default={}, description="weights of the sub-forms by class; a class not named keeps the phantom's"
    )
    cirrhosis_fraction: Fraction | None = Field(
        None, description="empty = by class, docs/virtual-patients.md"
    )
    fatty_fraction: Fraction = Field(0.25, description="share of patients with a fatty liver")
    cyst_fraction: Fraction = Field(0.15, description="share of patients with incidental cysts")
    shunt_fraction: Fraction = Field(0.1, description="share with a transient perfusion difference")
    missing_phase_rate: Fraction = Field(
        0.05, description="share of studies that lack one phase other than pre"
    )
    breathing_mm: NonNegative = Field(
        3.0, description="standard deviation of the cranio-caudal displacement between phases"
    )
    readers: Annotated[int, Field(ge=1, le=2)] = Field(1, description="2 = a second reader's mask (mask_2)")
    truth: bool = Field(
        False, description="also write tissue maps, noise-free images and displacement fields"
    )
    sites: Annotated[tuple[SiteSettings, ...], Field(min_length=1)] = _sites("ABC")

    @field_validator("classes", "phases", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, names: Any) -> Any:
        # `--set classes=hcc` is read as text, `--set classes=hcc,fnh` as a list
        return (names,) if isinstance(names, str) else names

    @field_validator("classes")
    @classmethod
    def _each_class_once(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if not classes or len(set(classes)) != len(classes):
            raise ValueError("name at least one class, each once, for example hemangioma,hcc")
        return classes

    @field_validator("phases")
    @classmethod
    def _each_phase_once(cls, phases: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if phases is not None and (not phases or len(set(phases)) != len(phases)):
            raise ValueError(
                "name at least one phase, each once, for example pre,arterial,portal_venous,delayed"
            )
        return phases

    @field_validator("sites")
    @classmethod
    def _each_site_once(cls, sites: tuple[SiteSettings, ...]) -> tuple[SiteSettings, ...]:
        names = [site.name for site in sites]
        if len(set(names)) != len(names):
            raise ValueError(f"every site needs a name of its own, here they are {', '.join(names)}")
        return sites

    @field_validator("diameter_mm")
    @classmethod
    def _smallest_first(cls, diameter_mm: tuple[float, float]) -> tuple[float, float]:
        if diameter_mm[0] > diameter_mm[1]:
            raise ValueError("give the smallest diameter first, for example 6,60")
        return diameter_mm

    def with_sites(self, names: Sequence[str]) -> SimulationSettings:
        """The same patients in other scanners.

        Parameters
        ----------
        names : sequence of str
            Sites of these settings, or of :data:`SITES`.

        Raises
        ------
        SettingsError
            A name that is neither, or that is given twice.
        """
        known = {**SITES, **{site.name: site for site in self.sites}}
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            given = f"unknown site {', '.join(map(repr, unknown))}" if unknown else "no site is named"
            raise SettingsError(f"{given}; valid: {', '.join(known)}")
        if len(set(names)) != len(names):
            raise SettingsError(f"sites {', '.join(names)}: name each site once")
        return self.model_copy(update={"sites": tuple(known[name] for name in names)})

    def with_spacing(self, spacing_mm: Sequence[float]) -> SimulationSettings:
        """Other voxels at every site; each keeps its field of view (to half a voxel) by another matrix.

        Parameters
        ----------
        spacing_mm : sequence of one or three float
            One number = the same along all axes.

        Raises
        ------
        SettingsError
            Not one or three positive numbers.
        """
        steps = tuple(float(step) for step in spacing_mm)
        steps = steps * 3 if len(steps) == 1 else steps
        if len(steps) != 3 or not all(0.0 < step < float("inf") for step in steps):
            raise SettingsError(
                f"spacing {','.join(f'{step:g}' for step in spacing_mm)}: give one or three lengths in mm, "
                "for example 2.5 or 2.5,2.5,5"
            )
        return self.model_copy(update={"sites": tuple(_sampled(site, steps) for site in self.sites)})


def _sampled(site: SiteSettings, spacing_mm: tuple[float, ...]) -> SiteSettings:
    x, y, z = spacing_mm
    nx, ny, nz = (
        max(1, round(count * old / new)) for count, old, new in zip(site.matrix, site.spacing_mm, spacing_mm)
    )
    if nx * ny * nz > _MOST_VOXELS:
        raise SettingsError(
            f"spacing {x:g},{y:g},{z:g} mm would give site {site.name} {nx} x {ny} x {nz} voxels; at most "
            f"{_MOST_VOXELS:,} fit into memory with the finer grid; choose larger voxels"
        )
    return site.model_copy(update={"spacing_mm": (x, y, z), "matrix": (nx, ny, nz)})


def _demo() -> SimulationSettings:
    return SimulationSettings()


def _paper() -> SimulationSettings:
    """The size and shape of the paper's cohort: 238 patients, two classes, one 3 T scanner."""
    return SimulationSettings(name="paper", subjects=238, no_lesion_fraction=0.0, sites=_sites("P"))


def _multicentre() -> SimulationSettings:
    return SimulationSettings(
        name="multicentre",
        subjects=360,
        classes=("hemangioma", "hcc", "fnh", "metastasis", "icc", "cyst"),
        sites=_sites("ABCDEF"),
    )


def _development() -> SimulationSettings:
    """Patients on whom the difficulty is set: another seed and other scanners than any reported result."""
    return SimulationSettings(name="development", subjects=240, seed=1000, sites=_sites("XYZ"))


def _tiny() -> SimulationSettings:
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
    "demo": _demo,
    "paper": _paper,
    "multicentre": _multicentre,
    "development": _development,
    "tiny": _tiny,
}
