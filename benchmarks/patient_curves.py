"""Noise-free time-intensity curves of lesions and liver, from the kinetics alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from patient_pictures import SEED, plt, save, titled, usual_diameter_mm

from mtinet.config import SimulationSettings
from mtinet.config.simulation import SITES
from mtinet.phantom.agents import AGENTS, Agent
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.circulation import draw_circulation
from mtinet.phantom.enhancement import relaxation, signals
from mtinet.phantom.host import draw_host
from mtinet.phantom.lesions import LESION_CLASSES, grow, make_ball
from mtinet.phantom.placement import draw_diameters
from mtinet.phantom.shapes import Grid
from mtinet.phantom.tissues import draw_organs

FloatArray = NDArray[np.float64]

DRAWS = 60
"""Lesions behind each curve."""

TIMES_S = {"gadobutrol": np.arange(0.0, 301.0, 3.0), "gadoxetate": np.arange(0.0, 1261.0, 10.0)}
_SITE = SITES["A"]
_GRID = Grid((52, 52, 52), (1.8, 1.8, 1.8))


def lesion_and_liver(
    rng: np.random.Generator,
    label: str,
    agent: Agent,
    times_s: Sequence[float],
    weights: Mapping[str, float] | None = None,
    diameter_mm: float | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Noise-free mean signal of a lesion and of the liver around it [times], unenhanced liver = 1.

    The patient has his own liver, circulation, sub-form and size; the whole lesion counts, its rim and its
    scar too.
    """
    settings = SimulationSettings()
    host = draw_host(rng, settings, label, _SITE.field_T)
    organs = draw_organs(rng, host)
    canvas = Canvas(_GRID, organs)
    canvas.labels[...] = canvas.number("liver")
    room = np.ones(_GRID.shape, dtype=np.bool_)
    drawn = draw_diameters(rng, settings.diameter_mm, settings.median_diameter_mm, 0.0)[0]
    ball = make_ball(rng, _GRID, (0.0, 0.0, 0.0), diameter_mm or drawn, 0.09)
    _, inside = grow(rng, canvas, room, label, ball, host, weights)
    flow = draw_circulation(rng, agent, agent.dose_mmol_kg, None, float(max(times_s)))
    added = relaxation(canvas.tissues, flow, agent, organs["liver"], _SITE.field_T, times_s)
    by_part = signals(canvas.tissues, added, _SITE)
    parts = np.bincount(canvas.labels[ball.box][inside], minlength=len(canvas.tissues))
    return parts @ by_part / parts.sum(), by_part[canvas.number("liver")]


def curves(label: str, agent: Agent) -> tuple[FloatArray, FloatArray]:
    """Curves of lesions at their rates and sizes, and of their livers [draws, times]."""
    times = TIMES_S[agent.name].tolist()
    drawn = [
        lesion_and_liver(np.random.default_rng([SEED, number]), label, agent, times)
        for number in range(DRAWS)
    ]
    lesion, liver = zip(*drawn)
    return np.array(lesion), np.array(liver)


def contrasts(label: str, subtype: str, agent: Agent) -> FloatArray:
    """Signal of lesion over liver of one sub-form at the site's habitual times [draws, phases]."""
    times = [0.0, *(_SITE.times_s[phase] for phase in agent.phases[1:])]
    ratios = []
    for number in range(DRAWS):
        rng = np.random.default_rng([SEED, number])
        lesion, liver = lesion_and_liver(rng, label, agent, times, {subtype: 1.0}, usual_diameter_mm(subtype))
        ratios.append(lesion / liver)
    return np.array(ratios)


def draw_curves() -> None:
    """A column a class, a row an agent: medians, and the band that holds 80 % of the lesions."""
    figure, axes = plt.subplots(2, len(LESION_CLASSES), figsize=(12.5, 4.6), sharey="row", sharex="row")
    for line, agent in zip(axes, AGENTS.values()):
        for axis, label in zip(line, LESION_CLASSES):
            _panel(axis, label, agent)
        line[0].set_ylabel(f"{agent.name}\nsignal (unenhanced nominal liver = 1)", size=7)
    axes[0, 0].legend(fontsize=6.5, frameon=False, loc="upper right")
    for axis in axes[:, 0]:
        axis.set_ylim(bottom=0.0)
    figure.tight_layout(pad=0.4)
    save(figure, "curves", gray=False, dpi=100)


def _panel(axis: Any, label: str, agent: Agent) -> None:
    lesion, liver = curves(label, agent)
    minutes = TIMES_S[agent.name] / 60.0
    low, middle, high = np.percentile(lesion, (10, 50, 90), axis=0)
    axis.fill_between(minutes, low, high, color="tab:orange", alpha=0.3, lw=0, label="80 % of lesions")
    axis.plot(minutes, middle, color="tab:orange", lw=1.5, label="lesion, median")
    axis.plot(minutes, np.median(liver, axis=0), color="tab:blue", lw=1.2, label="liver, median")
    for phase in agent.phases[1:]:
        axis.axvline(_SITE.times_s[phase] / 60.0, color="0.75", lw=0.6, zorder=0)
    axis.set_title(titled(label), size=8)
    axis.set_xlabel("minutes after the start of injection", size=6.5)
    axis.tick_params(labelsize=6.5)
