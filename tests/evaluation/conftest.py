from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mtinet.evaluation.pooling import RowRecords

PHASES = ("pre", "arterial", "portal_venous", "delayed")
CLASSES = ("hemangioma", "hcc")
CURVES = {"hemangioma": (1.0, 1.6, 1.9, 2.0), "hcc": (1.0, 2.0, 1.6, 1.2)}
Tables = tuple[pd.DataFrame, pd.DataFrame]


def build_tables(
    studies: int = 40,
    head_error: float = 0.05,
    read_error: float = 0.1,
    right: float = 0.9,
    missed: int = 2,
    fragments: int = 0,
    healthy: int = 6,
    hallucinated: int = 1,
    sites: tuple[str, ...] = ("A", "B"),
    seed: int = 0,
) -> Tables:
    """Tables of a run whose errors are known by construction."""
    rng = np.random.default_rng(seed)
    study_rows, lesion_rows = [], []
    for index in range(studies + healthy):
        sick, found = index < studies, index >= missed
        ids = {"study_id": f"{index:03d}", "patient_id": f"P{index:03d}", "site": sites[index % len(sites)]}
        label = CLASSES[index % 2] if sick else "none"
        gain = (500.0, 1500.0)[index % 2]
        if sick:
            outcome = "scored" if found else "missed"
        else:
            outcome = "hallucinated" if index < studies + hallucinated else "absent"
        overlap = {"scored": 0.8, "absent": np.nan}.get(outcome, 0.0)
        distance = {"scored": 4.0, "absent": np.nan}.get(outcome, 400.0)
        false = fragments + (outcome == "hallucinated")
        study_rows.append(
            {
                **ids,
                "label": label,
                "predicted_label": "none",
                "gain": gain,
                "outcome": outcome,
                "dice": overlap,
                "iou": overlap,
                "hd95_mm": distance,
                "nsd": overlap,
                "reference_volume_mm3": 900.0 * sick,
                "predicted_volume_mm3": 800.0 * found,
                "n_reference": int(sick),
                "n_predicted": int(sick and found) + false,
                "n_found": int(sick and found),
                "n_false_positive": false,
            }
        )
        blank = {"iou": 0.0, "dice": 0.0, "predicted_label": "", "oracle_label": ""}
        blank |= {**ids, "dominant": False, "reference": None, "diameter_mm": 8.0, "label": ""}
        lesion_rows += [{**blank, "predicted": 2 + number} for number in range(false)]
        if not sick:
            continue
        row = {
            **ids,
            "reference": 1,
            "predicted": 1 if found else None,
            "diameter_mm": rng.uniform(6, 50),
            "iou": 0.7 * found,
            "dice": 0.8 * found,
            "dominant": True,
            "label": label,
            "oracle_label": label,
        }
        other = CLASSES[1 - CLASSES.index(label)]
        guess = label if rng.random() < right else other
        row["predicted_label"] = guess if found else ""
        for name in CLASSES:
            row[f"p_{name}"] = (0.8 if name == guess else 0.2) if found else np.nan
        for at, phase in enumerate(PHASES):
            truth = gain * CURVES[label][at] * rng.uniform(0.8, 1.2)
            row[f"true_{phase}"] = truth
            row[f"noise_free_{phase}"] = truth * 1.01
            row[f"mean_{phase}"] = gain * (1.0, 1.8, 1.75, 1.6)[at]
            row[f"predicted_{phase}"] = truth * (1 + head_error * rng.normal()) if found else np.nan
            row[f"measured_{phase}"] = truth * (1 + read_error * rng.normal()) if found else np.nan
            row[f"oracle_{phase}"] = truth
        lesion_rows.append(row)
    return pd.DataFrame(study_rows), pd.DataFrame(lesion_rows)


@pytest.fixture
def phases() -> tuple[str, ...]:
    return PHASES


@pytest.fixture
def classes() -> tuple[str, ...]:
    return CLASSES


@pytest.fixture
def make_tables() -> Callable[..., Tables]:
    return build_tables


@pytest.fixture
def training_lesions() -> pd.DataFrame:
    """Normalised signals of 40 training lesions; one in five lacks the arterial phase."""
    rng = np.random.default_rng(7)
    rows = []
    for index in range(40):
        label = CLASSES[index % 2]
        signals = np.array(CURVES[label]) * rng.uniform(0.8, 1.2, size=4)
        signals[1] = np.nan if index % 5 == 0 else signals[1]
        named = {f"true_{phase}": value for phase, value in zip(PHASES, signals)}
        rows.append({"patient_id": f"T{index}", "label": label, **named})
    return pd.DataFrame(rows)


@pytest.fixture
def rows(record_maker):
    """A reference, a row that is poorer in everything, and one that differs by chance alone."""
    make = record_maker()
    return [
        RowRecords("full", "full", make.row(0, right=1.2)),
        RowRecords("poor", "poor", make.row(1, dice=-0.1, error=15.0, right=0.1)),
        RowRecords("same", "the same", make.row(2, right=1.2)),
    ]
