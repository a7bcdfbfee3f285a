"""Signs by their definitions: arterial phase hyperenhancement, its rim form, washout, capsule.

They are measurements, not categories of a reporting system: LI-RADS describes what a reader sees, in patients
at risk.  What is not known (agent, liver, unenhanced phase) makes a sign not assessable, never absent.
"""

from __future__ import annotations

import numpy as np

from mtinet.config import MeasurementSettings, Phase
from mtinet.inference.curves import NOT_ASSESSABLE, extracellular_phases
from mtinet.inference.observed import BoolArray, Observed, Region
from mtinet.inference.reference_tissue import Tissue
from mtinet.results import Measurement

_NONE_LATER = "no phase later than the arterial one shows the lesion"
_SECTORS = 8
_CAPSULE_PHASES: tuple[Phase, ...] = ("delayed", "transitional", "portal_venous")
"""The latest present is taken."""


def signs_of(
    observed: Observed, region: Region, liver: Tissue, settings: MeasurementSettings
) -> list[Measurement]:
    """All signs of a lesion.

    Parameters
    ----------
    observed : Observed
    region : Region
    liver : Tissue
        The liver around the lesion.
    settings : MeasurementSettings
    """
    return [
        *hyperenhancement(observed, region, liver, settings),
        *washout(observed, region, liver, settings),
        capsule(observed, region, liver, settings),
    ]


# ---------------------------------------------------------------------- arterial phase hyperenhancement
def hyperenhancement(
    observed: Observed, region: Region, liver: Tissue, settings: MeasurementSettings
) -> list[Measurement]:
    """Arterial phase hyperenhancement of the core, in whole or in part, and of the shell alone (rim).

    Notes
    -----
    A voxel is hyperenhancing where its gain from the unenhanced to the arterial phase exceeds the liver's
    mean gain by ``settings.standard_errors`` standard errors of the difference between one voxel and that
    mean, sd·√(1 + 1/n), and where it is brighter than the liver in the arterial phase.  The sign is present
    where ``settings.hyperenhancing_share`` of the core's voxels are; rim where so many of the shell's are
    and the core's are not.  Of two arterial phases the late one is taken, here and for washout.
    """
    phase = _arterial(region)
    reason = _missing(observed, region, liver, ("pre", phase))
    if reason:
        return [
            Measurement(name, None, unit, phase, NOT_ASSESSABLE, reason)
            for name, unit in (
                ("hyperenhancing_core", "%"),
                ("hyperenhancing_shell", "%"),
                ("arterial_hyperenhancement", "1"),
                ("rim_arterial_hyperenhancement", "1"),
            )
        ]
    gain = region.signal[phase] - region.signal["pre"]
    of_liver = liver.signal[phase] - liver.signal["pre"]
    error = of_liver.std(ddof=1) * np.sqrt(1.0 + 1.0 / liver.count)
    more = gain > of_liver.mean() + settings.standard_errors * error
    hyper = more & (region.signal[phase] > liver.mean(phase))
    seen = (region.signal[phase] != 0) & (region.signal["pre"] != 0)
    core = _share(hyper, region.core & seen)
    core_is = core >= settings.hyperenhancing_share
    found = [
        Measurement("hyperenhancing_core", 100.0 * core, "%", phase),
        _sign("arterial_hyperenhancement", core_is, phase),
    ]
    if not region.divided:
        small = "too small to tell core and shell apart"
        return [
            *found,
            Measurement("hyperenhancing_shell", None, "%", phase, NOT_ASSESSABLE, small),
            Measurement("rim_arterial_hyperenhancement", None, "1", phase, NOT_ASSESSABLE, small),
        ]
    shell = _share(hyper, region.shell & seen)
    rim = shell >= settings.hyperenhancing_share and not core_is
    return [
        *found,
        Measurement("hyperenhancing_shell", 100.0 * shell, "%", phase),
        _sign("rim_arterial_hyperenhancement", rim, phase),
    ]


# ---------------------------------------------------------------------- washout
def washout(
    observed: Observed, region: Region, liver: Tissue, settings: MeasurementSettings
) -> list[Measurement]:
    """Washout in each phase after the arterial one, not of the rim only.

    Notes
    -----
    With S of the lesion's core and B of the liver around it: (a) the core enhances by more than
    ``settings.arterial_enhancement_percent`` in the arterial phase, (b) S/B is lower than in the arterial
    phase, (c) 100·B/S lies above the phase's cut-off.  The cut-offs at equilibrium (about 3 min) and in the
    delayed phase are those of Kloeckner R et al., BMC Cancer 2016;16:758 (hypervascular nodules,
    extracellular agents); that of the portal venous phase is assumed.  With gadoxetate the portal venous
    phase alone can show washout, and a hepatobiliary phase never does.
    """
    later = [phase for phase in region.signal if phase not in ("pre", "arterial", "arterial_late")]
    if not later:
        return _no_washout("", _NONE_LATER)
    found = []
    for phase in later:
        reason = _missing(observed, region, liver, ("pre", _arterial(region)))
        if not reason and phase not in extracellular_phases(region.signal, observed.agent):
            reason = "hepatocytes hold the agent in this phase: a dark lesion is no washout"
        if not reason and not region.mean(phase, region.core) > 0.0:
            reason = "the lesion has no signal in this phase"
        if reason:
            found += _no_washout(phase, reason)
            continue
        ratio = _ratio(region, liver, phase, region.core)
        found.append(Measurement("liver_to_lesion", ratio, "%", phase))
        found.append(_washout_in(observed, region, liver, phase, settings))
    return found


def _no_washout(phase: str, reason: str) -> list[Measurement]:
    return [
        Measurement("liver_to_lesion", None, "%", phase, NOT_ASSESSABLE, reason),
        Measurement("washout", None, "1", phase, NOT_ASSESSABLE, reason),
    ]


def _washout_in(
    observed: Observed, region: Region, liver: Tissue, phase: Phase, settings: MeasurementSettings
) -> Measurement:
    cutoff, source = _cutoff(phase, observed.times_s.get(phase), settings)
    arterial = _arterial(region)

    def shown_by(part: BoolArray) -> bool:
        before, early = region.mean("pre", part), region.mean(arterial, part)
        enhances = early > (1.0 + settings.arterial_enhancement_percent / 100.0) * before
        ratio = _ratio(region, liver, phase, part)
        return enhances and ratio > _ratio(region, liver, arterial, part) and ratio > cutoff

    reason = f"cut-off {cutoff:g} ({source})"
    core = shown_by(region.core)
    if not core and region.divided and shown_by(region.shell):
        reason += "; the periphery alone washes out"
    return _sign("washout", core, phase, reason)


def _cutoff(phase: Phase, time_s: float | None, settings: MeasurementSettings) -> tuple[float, str]:
    """Cut-off of 100·B/S in a phase, and where it comes from; without a time that at equilibrium."""
    if phase == "portal_venous":
        return settings.washout_portal_venous, "assumed"
    if time_s is not None and time_s >= settings.delayed_from_s:
        return settings.washout_delayed, "delayed, Kloeckner 2016"
    untimed = "; the time of the phase is not known" if time_s is None else ""
    return settings.washout_equilibrium, f"equilibrium, Kloeckner 2016{untimed}"


def _ratio(region: Region, liver: Tissue, phase: Phase, part: BoolArray) -> float:
    """100·B/S; infinite where the lesion has no signal."""
    signal = region.mean(phase, part)
    return 100.0 * liver.mean(phase) / signal if signal > 0.0 else float("inf")


# ---------------------------------------------------------------------- capsule
def capsule(observed: Observed, region: Region, liver: Tissue, settings: MeasurementSettings) -> Measurement:
    """An enhancing rim in the latest phase before the hepatobiliary one.

    Notes
    -----
    In each eighth of the outline the band's mean has to exceed both the core's and the liver's mean by
    ``settings.standard_errors`` standard errors (from the liver's voxels); the sign is present where
    ``settings.capsule_share`` of the eighths do.  A capsule of 1 to 2 mm is thinner than most voxels: what
    cannot be resolved is not seen, and a bright periphery of another kind looks the same.
    """
    phase = next((p for p in _CAPSULE_PHASES if p in region.signal), None)
    if phase is None:
        return Measurement("capsule", finding=NOT_ASSESSABLE, reason=_NONE_LATER)
    reason = _missing(observed, region, liver, (phase,))
    if not reason and not region.divided:
        reason = "too small to tell core and shell apart"
    if reason:
        return Measurement("capsule", None, "1", phase, NOT_ASSESSABLE, reason)
    image, sd = region.signal[phase], liver.sd(phase)
    in_core, in_liver = region.mean(phase, region.core), liver.mean(phase)
    bright = 0
    for sector in range(_SECTORS):
        values = image[region.band & (region.sector == sector)]
        values = values[values != 0]
        if values.size:
            mean = float(values.mean(dtype=np.float64))
            over_core = sd * np.sqrt(1.0 / values.size + 1.0 / np.count_nonzero(region.core))
            over_liver = sd * np.sqrt(1.0 / values.size + 1.0 / liver.count)
            bright += (
                mean > in_core + settings.standard_errors * over_core
                and mean > in_liver + settings.standard_errors * over_liver
            )
    _, y, x = observed.spacing_mm
    reliability = (
        f"limited reliability: a rim of 1 to 2 mm against voxels of {max(y, x):.1f} mm in the plane; "
        f"bright in {bright} of {_SECTORS} sectors"
    )
    return _sign("capsule", bright >= settings.capsule_share * _SECTORS, phase, reliability)


# ---------------------------------------------------------------------- shared
def _arterial(region: Region) -> Phase:
    """The arterial phase that signs are read from: of two the late one, as LI-RADS prefers it."""
    return "arterial_late" if "arterial_late" in region.signal else "arterial"


def _missing(observed: Observed, region: Region, liver: Tissue, phases: tuple[Phase, ...]) -> str:
    """Why a sign cannot be assessed; empty where it can."""
    if not observed.agent:
        return "the contrast agent is not known"
    absent = [phase for phase in phases if phase not in region.signal]
    if absent:
        return f"no {' and no '.join(absent)} phase that shows the lesion"
    return liver.reason


def _share(where: BoolArray, part: BoolArray) -> float:
    return float(where[part].mean()) if part.any() else 0.0


def _sign(name: str, present: bool, phase: Phase, reason: str = "") -> Measurement:
    return Measurement(name, phase=phase, finding="present" if present else "absent", reason=reason)
