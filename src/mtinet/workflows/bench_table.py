"""From the benchmark's repeats to its table, and how its numbers are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mtinet.workflows.bench_measures import STAGES

_RIVALS = {"dynunet": "dynunet", "basic": "basic_unet"}
"""Heads of the ratios' columns, and the columns."""


def summarise(
    repeats: pd.DataFrame, facts: Sequence[dict[str, Any]], dynunet: str, basic_unet: str
) -> pd.DataFrame:
    """One row a device and network.

    Parameters
    ----------
    repeats : DataFrame
        Columns ``device, model, repeat, stage, seconds, loading_s``.
    facts : sequence of dict
        The other columns, by ``device`` and ``model``.
    dynunet, basic_unet : str
        Networks to which the ratios are taken; NaN where one was not measured.
    """
    rows = []
    for fact in facts:
        mine = repeats[repeats["device"] == fact["device"]]
        seconds = {
            stage: frame.pivot_table(index="repeat", columns="model", values="seconds")
            for stage, frame in mine.groupby("stage")
        }
        row = {"device": fact["device"], "model": fact["model"], "width": fact["width"]}
        for stage in STAGES:
            own = seconds[stage][fact["model"]]
            row |= quartiles(f"{stage}_s", own)
            for name, rival in zip(_RIVALS.values(), (dynunet, basic_unet), strict=True):
                ratio = own / seconds[stage][rival] if rival in seconds[stage] else own * np.nan
                row |= quartiles(f"{stage}_vs_{name}", ratio)
        steps = mine[(mine["model"] == fact["model"]) & (mine["stage"] == "train")]
        row["loading_share"] = float((steps["loading_s"] / steps["seconds"]).median())
        rows.append(row | {name: value for name, value in fact.items() if name not in row})
    return pd.DataFrame(rows)


def quartiles(name: str, values: pd.Series[float]) -> dict[str, float]:
    """Median as ``name``, and as ``name_low`` and ``name_high`` the quartiles."""
    low, middle, high = (float(values.quantile(share)) for share in (0.25, 0.5, 0.75))
    return {name: middle, f"{name}_low": low, f"{name}_high": high}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with units in its heads and rounded values, for a terminal or a page."""
    columns = {"device": list(table["device"])} if table["device"].nunique() > 1 else {}
    columns |= {"network": list(table["model"]), "step (s)": spread(table, "train_s")}
    columns |= {
        f"step vs {name}": rounded(table, f"train_vs_{column}", ".2f") for name, column in _RIVALS.items()
    }
    columns |= {
        f"{name} (%)": rounded(table, f"{name.lower()}_share", ".1f", 100.0)
        for name in ("loading", "MdIEF", "discriminator", "looks")
    }
    columns["study (s)"] = spread(table, "infer_s")
    columns |= {
        f"study vs {name}": rounded(table, f"infer_vs_{column}", ".2f") for name, column in _RIVALS.items()
    }
    columns |= {
        "train (MB)": rounded(table, "train_peak_mb", ".0f"),
        "predict (MB)": rounded(table, "infer_peak_mb", ".0f"),
        "weights (M)": rounded(table, "parameters", ".2f", 1e-6),
        "GMAC": rounded(table, "multiply_adds", ".2f", 1e-9),
    }
    return pd.DataFrame(columns)


def spread(table: pd.DataFrame, name: str, digits: int = 3) -> list[str]:
    """Medians with quartiles; empty where it was not measured."""
    columns = (table[name], table[f"{name}_low"], table[f"{name}_high"])
    return [
        "" if pd.isna(middle) else f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        for middle, low, high in zip(*columns)
    ]


def rounded(table: pd.DataFrame, name: str, form: str, scale: float = 1.0) -> list[str]:
    """Values in a format; empty where there is none."""
    return ["" if pd.isna(value) else format(value * scale, form) for value in table[name]]
