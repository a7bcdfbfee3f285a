"""A lesion's signal over time: enhancement, ratios to liver and aorta, wash-in, wash-out, curve type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mtinet.config import MeasurementSettings, Phase
from mtinet.dicom.contrast import AgentKind
from mtinet.inference.observed import Observed, Region
from mtinet.inference.reference_tissue import Tissue
from mtinet.results import Measurement, relative_enhancement

NOT_ASSESSABLE = "not assessable"

_TAKEN_UP: dict[AgentKind, tuple[Phase, ...]] = {
    "extracellular": ("hepatobiliary",),
    "gadoxetate": ("transitional", "delayed", "hepatobiliary"),
    "": ("hepatobiliary",),
}
"""Phases in which hepatocytes hold so much of an agent that the signal tells no more of the vessels."""


def extracellular_phases(phases: Mapping[Phase, object], agent: AgentKind) -> list[Phase]:
    """The phases after the injection in which the agent is still outside the hepatocytes, in order."""
    return [phase for phase in phases if phase != "pre" and phase not in _TAKEN_UP[agent]]


def tissue_signal(name: str, tissue: Tissue, unit: float) -> list[Measurement]:
    """Mean signal and relative enhancement of a tissue by phase, or why it has none."""
    if not tissue.found:
        return [Measurement(f"{name}_signal", finding=NOT_ASSESSABLE, reason=tissue.reason)]
    means = {str(phase): unit * tissue.mean(phase) for phase in tissue.signal}
    relative = relative_enhancement(means)
    found = [Measurement(f"{name}_signal", value, phase=phase) for phase, value in means.items()]
    found += [
        Measurement(f"{name}_signal", None, "1", phase, NOT_ASSESSABLE, reason)
        for phase, reason in tissue.not_shown.items()
    ]
    found += [Measurement(f"{name}_relative_enhancement", v, "%", p) for p, v in relative.items()]
    if not relative:
        reason = tissue.not_shown.get("pre", "no signal before and after the injection")
        found.append(Measurement(f"{name}_relative_enhancement", None, "%", "", NOT_ASSESSABLE, reason))
    return found


def signal_of(region: Region, liver: Tissue, vessel: Tissue, unit: float) -> list[Measurement]:
    """A lesion's signal by phase: raw, relative to pre, against the liver around it and the aorta.

    Parameters
    ----------
    region : Region
    liver, vessel : Tissue
    unit : float
        Signal of the value 1, in the study's own units.
    """
    means = {phase: region.mean(phase, region.inside) for phase in region.signal}
    found = [Measurement("signal", unit * value, phase=phase) for phase, value in means.items()]
    relative = relative_enhancement({str(phase): value for phase, value in means.items()})
    found += [Measurement("relative_enhancement", v, "%", p) for p, v in relative.items()]
    if not relative:
        has_pre = means.get("pre", 0.0) > 0.0
        reason = "no later phase that shows the lesion" if has_pre else _no_pre(region)
        found.append(Measurement("relative_enhancement", None, "%", "", NOT_ASSESSABLE, reason))
    for name, tissue in (("signal_to_liver", liver), ("signal_to_aorta", vessel)):
        if not tissue.found:
            found.append(Measurement(name, None, "%", "", NOT_ASSESSABLE, tissue.reason))
        found += [
            Measurement(name, 100.0 * value / tissue.mean(phase), "%", phase)
            for phase, value in means.items()
            if phase in tissue.signal and tissue.mean(phase) > 0
        ]
    return found


def kinetics_of(region: Region, observed: Observed, settings: MeasurementSettings) -> list[Measurement]:
    """Wash-in and wash-out rate, and type of the curve.

    Notes
    -----
    With S_0 before the injection, S_peak the largest signal and S_last the last one of the phases in which
    the agent is outside the hepatocytes: wash-in 100·(S_peak - S_0)/(S_0·t_peak), t from the start of the
    injection; wash-out 100·(S_peak - S_last)/(S_peak·(t_last - t_peak)).  Type: the change from the first to
    the last of these phases, above ``settings.curve_percent`` persistent, below its negative washout, else
    plateau (Kuhl CK et al., Radiology 1999;211:101, for the breast; not validated in the liver).
    """
    means = {phase: region.mean(phase, region.inside) for phase in region.signal}
    after = extracellular_phases(means, observed.agent)
    before = means.get("pre", 0.0)
    reason = ""
    if not before > 0.0:
        reason = _no_pre(region)
    elif len(after) < 2:
        reason = "fewer than two phases after the injection in which the agent is outside the hepatocytes"
    if reason:
        return [
            Measurement("wash_in_rate", None, "%/min", "", NOT_ASSESSABLE, reason),
            Measurement("wash_out_rate", None, "%/min", "", NOT_ASSESSABLE, reason),
            Measurement("curve_type", finding=NOT_ASSESSABLE, reason=reason),
        ]
    return [*_rates(means, after, observed.times_s), _curve_type(means, after, observed.agent, settings)]


def _rates(
    means: Mapping[Phase, float], after: list[Phase], times_s: Mapping[Phase, float]
) -> list[Measurement]:
    peak, last = max(after, key=lambda phase: means[phase]), after[-1]
    reasons = [
        f"the time of the {phase} phase is not known" for phase in (peak, last) if phase not in times_s
    ]
    wash_in = Measurement("wash_in_rate", None, "%/min", peak, NOT_ASSESSABLE, "".join(reasons[:1]))
    if peak in times_s and not times_s[peak] > 0.0:
        wash_in = replace(wash_in, reason=f"the time of the {peak} phase is not after the injection")
    elif peak in times_s:
        rise = 100.0 * (means[peak] - means["pre"]) / means["pre"]
        wash_in = Measurement("wash_in_rate", 60.0 * rise / times_s[peak], "%/min", peak)
    if peak == last:
        reasons = ["the signal is largest in the last phase"]
    wash_out = Measurement("wash_out_rate", None, "%/min", last, NOT_ASSESSABLE, "".join(reasons[:1]))
    if peak != last and peak in times_s and last in times_s and not times_s[last] > times_s[peak]:
        wash_out = replace(wash_out, reason=f"the {last} phase has no later time than the {peak} phase")
    elif peak != last and peak in times_s and last in times_s:
        fall = 100.0 * (means[peak] - means[last]) / means[peak]
        wash_out = Measurement("wash_out_rate", 60.0 * fall / (times_s[last] - times_s[peak]), "%/min", last)
    return [wash_in, wash_out]


def _curve_type(
    means: Mapping[Phase, float], after: list[Phase], agent: AgentKind, settings: MeasurementSettings
) -> Measurement:
    largest = max(100.0 * (means[phase] / means["pre"] - 1.0) for phase in after)
    if largest <= settings.arterial_enhancement_percent:
        reason = f"the lesion gains {largest:.0f} % at most: there is no curve to tell"
        return Measurement("curve_type", finding=NOT_ASSESSABLE, reason=reason)
    change = 100.0 * (means[after[-1]] / means[after[0]] - 1.0)
    limit = settings.curve_percent
    kind = "persistent" if change > limit else "washout" if change < -limit else "plateau"
    known = "" if agent else "; the agent is not known"
    reason = f"{after[0]} to {after[-1]}; thresholds from breast MRI, not validated in the liver{known}"
    return Measurement("curve_type", finding=kind, reason=reason)


def _no_pre(region: Region) -> str:
    return (
        "no signal before the injection" if "pre" in region.signal else "no pre phase that shows the lesion"
    )
