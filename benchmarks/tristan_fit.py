"""The phantom's gadoxetate model beside real signals: ``python benchmarks/tristan_fit.py``.

Fits the TRISTAN signals in ``tests/data/tristan`` and writes ``docs/tristan.csv`` (one row a visit) and
``docs/images/tristan.png``.  What is fixed and what is free: :mod:`mtinet.phantom.fitting`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mtinet.phantom.fitting import BOUNDS, LiverFit, Visit, fit_liver, r_squared, read_visits, running_mean

ROOT = Path(__file__).parents[1]
TREND_POINTS = 101
SETTLED_S = 140.0
COLOURS = {"samples": "0.72", "mean": "black", "model": "#d55e00", "one": "#0072b2"}


def shared_fluctuation(visit: Visit, fit: LiverFit) -> float:
    """Correlation of what the model leaves of the smoothed liver with the smoothed aorta's fluctuation.

    Aorta minus its own trend over about 3 minutes, after the first pass.  What the agent does in the aorta
    the model passes on to the liver; a high value speaks for motion or gain that both regions share.
    """
    after = visit.t_s > visit.injection_s + SETTLED_S
    liver = running_mean(visit.liver_relative) - fit.curve
    aorta = running_mean(visit.aorta) - running_mean(visit.aorta, TREND_POINTS)
    return float(np.corrcoef(liver[after], aorta[after])[0, 1])


def row(visit: Visit, full: LiverFit, one: LiverFit) -> dict[str, object]:
    """One line of the table."""
    ceiling = r_squared(visit.liver_relative, running_mean(visit.liver_relative))
    values: dict[str, object] = {
        "visit": visit.name,
        "r2_running_mean": round(ceiling, 4),
        "r2_model": round(full.r_squared, 4),
        "r2_model_over_running_mean": round(full.r_squared / ceiling, 4),
        "r2_one_compartment": round(one.r_squared, 4),
    }
    for name, bounds in BOUNDS.items():
        unit = {"1/min": "_per_min", "s": "_s", "": ""}[bounds.unit]
        values[f"{name}{unit}"], values[f"{name}_error"] = determined(
            full.parameters[name], full.errors[name]
        )
    values["at_bound"] = " ".join(full.at_bound)
    values["at_bound_one_compartment"] = " ".join(one.at_bound)
    values["shared_fluctuation"] = round(shared_fluctuation(visit, full), 2)
    return values


def determined(value: float, error: float) -> tuple[str, str]:
    """A parameter to the first digit of its standard error, and the error.

    Further digits differ between machines.  Both are empty where the error exceeds the value: the curve does not
    determine the parameter.  A value at its bound has no error.
    """
    if error == 0.0:
        return f"{value if value > 1e-9 else 0.0:.2g}", ""
    if error > abs(value):
        return "", ""
    digits = -math.floor(math.log10(error))
    return f"{round(value, digits):.{max(digits, 0)}f}", f"{error:.1g}"


def _minutes(position: np.ndarray) -> np.ndarray:
    return np.asarray(np.square(position) - 1.0)


def paint(visits: list[Visit], fits: list[tuple[LiverFit, LiverFit]], to: Path) -> None:
    """Draw every visit: samples, running mean and both fits; below what the running mean leaves of them."""
    mpl.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplots(4, 3, sharex=True, height_ratios=[2, 1, 2, 1])
    for number, (visit, (full, one)) in enumerate(zip(visits, fits, strict=True)):
        measured = visit.liver_relative
        above, below = axes[2 * (number // 3) : 2 * (number // 3) + 2, number % 3]
        minutes, mean = (visit.t_s - visit.injection_s) / 60.0, running_mean(measured)
        above.plot(minutes, measured, ".", ms=1.5, color=COLOURS["samples"], label="samples")
        above.plot(minutes, mean, lw=0.8, color=COLOURS["mean"], label="mean of 15 samples")
        above.plot(
            minutes, one.curve, lw=1.2, ls="--", color=COLOURS["one"], label="one compartment, no uptake"
        )
        above.plot(minutes, full.curve, lw=1.6, color=COLOURS["model"], label="uptake and excretion")
        ceiling = r_squared(measured, mean)
        above.set_title(
            f"{visit.name}: R² {full.r_squared:.2f} of {ceiling:.2f}, one compartment {one.r_squared:.2f}",
            fontsize=8.5,
            loc="left",
        )
        below.axhline(0.0, lw=0.6, color="0.4")
        below.plot(minutes, measured - full.curve, ".", ms=1.2, color=COLOURS["samples"])
        below.plot(minutes, running_mean(measured - one.curve), lw=0.9, ls="--", color=COLOURS["one"])
        below.plot(minutes, running_mean(measured - full.curve), lw=1.1, color=COLOURS["model"])
        limit = max(0.07, 1.1 * float(np.abs(running_mean(measured - one.curve)).max()))
        below.set_ylim(-limit, limit)
        # a square-root axis: the first pass takes one minute of twenty-two
        below.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x + 1.0, 0.0)), _minutes))
        below.set_xticks([0, 1, 2, 5, 10, 20])
    for line in axes[::2, 0]:
        line.set_ylabel("liver signal / baseline")
    for line in axes[1::2, 0]:
        line.set_ylabel("residual")
    for line in axes[3]:
        line.set_xlabel("minutes from the injection (square-root axis)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, markerscale=6)
    figure.savefig(to, dpi=110)


def main() -> None:
    """Fit all visits and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "tests" / "data" / "tristan")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    chosen = parser.parse_args()
    visits = read_visits(chosen.data)
    fits = [(fit_liver(visit), fit_liver(visit, uptake=False)) for visit in visits]
    table = pd.DataFrame([row(visit, *fit) for visit, fit in zip(visits, fits, strict=True)])
    (chosen.out / "images").mkdir(parents=True, exist_ok=True)
    table.to_csv(chosen.out / "tristan.csv", index=False)
    paint(visits, fits, chosen.out / "images" / "tristan.png")
    print(table.T.to_string(header=False))


if __name__ == "__main__":
    main()
