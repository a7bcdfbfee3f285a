"""Time-intensity curves: regressed against measured and true."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mtinet.reporting.drawing import BLUE, GREEN, GREY, INK, ORANGE, VERMILLION
from mtinet.reporting.words import short_phase_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PRE_GAP = 0.18
"""Room before the injection at which the pre-contrast phase stands, as a share of the last time."""


@dataclass(frozen=True)
class Curve:
    """One curve over the phases.

    Attributes
    ----------
    kind : str
        Key of :data:`LOOKS`.
    signal : dict
        By phase; absent phases are left out.
    interval : dict
        Lower and upper end by phase, drawn as a bar; empty without one.
    """

    kind: str
    signal: Mapping[str, float]
    interval: Mapping[str, tuple[float, float]] = field(default_factory=dict)


LOOKS: dict[str, tuple[str, str, Any, str]] = {
    # label, colour, line, marker
    "true": ("truth (reference mask)", INK, "-", "o"),
    "noise_free": ("truth without noise", GREY, ":", ""),
    "predicted": ("regressed (head)", BLUE, "--", "s"),
    "measured": ("measured (predicted mask)", ORANGE, "-.", "^"),
    "liver": ("liver, for comparison", GREEN, (0, (1, 1)), "D"),
    "aorta": ("aorta, for comparison", VERMILLION, (0, (6, 1, 1, 1)), "v"),
}


def paint_kinetics(
    axes: Axes, phases: Sequence[str], curves: Sequence[Curve], times_s: Sequence[float] | None = None
) -> None:
    """Draw time-intensity curves; the right axis is relative to the first curve's pre signal.

    Parameters
    ----------
    axes : Axes
    phases : sequence of str
    curves : sequence of Curve
        Those without any value are left out.
    times_s : sequence of float, optional
        Seconds from the start of injection by phase; phases are evenly spaced where that of a phase with a
        signal is unknown.
    """
    drawn = [curve for curve in curves if any(map(math.isfinite, curve.signal.values()))]
    acquired = {p for curve in drawn for p, signal in curve.signal.items() if math.isfinite(signal)}
    x, labels, title = _positions(phases, times_s, acquired)
    for curve in drawn:
        label, colour, line, marker = LOOKS[curve.kind]
        y = np.array([curve.signal.get(phase, math.nan) for phase in phases], dtype=np.float64)
        known = np.isfinite(y)
        axes.plot(np.asarray(x)[known], y[known], ls=line, color=colour, marker=marker, ms=4, label=label)
        bars = [
            (at, *curve.interval[p]) for p, at in zip(phases, x) if p in curve.interval and math.isfinite(at)
        ]
        if bars:
            at, low, high = np.array(bars, dtype=np.float64).T
            axes.vlines(at, low, high, color=colour, lw=1.0)
            axes.plot([*at, *at], [*low, *high], ls="", color=colour, marker="_", ms=6)
    axes.set_xticks([at for at in x if math.isfinite(at)], labels)
    axes.set(xlabel=title, ylabel="signal (a.u.)")
    axes.margins(x=0.06, y=0.12)
    if not drawn:
        return
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, columnspacing=1.0, handlelength=2.2)
    pre = drawn[0].signal.get("pre", math.nan)
    if pre > 0:
        _add_relative_axis(axes, pre)


def _add_relative_axis(axes: Axes, pre: float) -> None:
    def relative(signal: Any) -> Any:
        return 100.0 * (signal - pre) / pre

    def signal(percent: Any) -> Any:
        return pre * (1.0 + percent / 100.0)

    right = axes.secondary_yaxis("right", functions=(relative, signal))
    right.set_ylabel("relative enhancement (%)")
    right.spines["right"].set_visible(True)


def _positions(
    phases: Sequence[str], times_s: Sequence[float] | None, acquired: Collection[str]
) -> tuple[list[float], list[str], str]:
    """Places by phase (NaN = not on the axis), labels of those on it, and title of the time axis."""
    times = [math.nan] * len(phases) if times_s is None else [float(t) for t in times_s]
    known = {phase: t for phase, t in zip(phases, times) if phase != "pre" and math.isfinite(t)}
    if not known or not known.keys() >= set(acquired) - {"pre"}:
        return [float(i) for i in range(len(phases))], [short_phase_name(p) for p in phases], "phase"
    # a phase that was not acquired has no time: it has no place on the axis, and takes none from the others
    known["pre"] = -PRE_GAP * max(known.values())
    x = [known.get(phase, math.nan) for phase in phases]
    labels = ["pre" if phase == "pre" else f"{known[phase]:.0f}" for phase in phases if phase in known]
    return x, labels, "seconds from the start of injection"
