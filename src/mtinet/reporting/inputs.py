"""Everything that a report is made from, read from the run folder."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtinet.config import Config
from mtinet.errors import UserError
from mtinet.evaluation.calibration import ReliabilityBin
from mtinet.evaluation.sections import Row
from mtinet.evaluation.summary import Summary
from mtinet.evaluation.tables import check_tables, is_found, read_table
from mtinet.results import Finding
from mtinet.runs import Run

TABLES = ("studies.csv", "lesions.csv", "summary.json")
_VIEW_FIELDS = ("images", "present", "truth", "predicted", "spacing_yx_mm", "times_s")


@dataclass(frozen=True)
class View:
    """One axial slice of a study, as it was evaluated.

    Attributes
    ----------
    images : ndarray of float [P, Y, X]
        Normalised signal.
    present : ndarray of bool [P]
    truth, predicted : ndarray of int [Y, X]
        Lesion numbers.
    spacing_yx_mm : ndarray [2]
    times_s : ndarray [P]
        Seconds from the start of injection; NaN = unknown.
    """

    images: NDArray[np.float64]
    present: NDArray[np.bool_]
    truth: NDArray[np.integer[Any]]
    predicted: NDArray[np.integer[Any]]
    spacing_yx_mm: NDArray[np.float64]
    times_s: NDArray[np.float64]


@dataclass(frozen=True)
class Evaluated:
    """A run with its evaluation.

    Attributes
    ----------
    run : Run
    config : Config
    manifest, split : dict
    classes, phases : tuple of str
    findings : tuple of Finding
    metrics : DataFrame
        A row a record of the training, with a column ``step``; may be empty.
    studies, lesions : DataFrame
        See :mod:`mtinet.evaluation.tables`.
    summary : Summary
    """

    run: Run
    config: Config
    manifest: dict[str, Any]
    split: dict[str, Any]
    classes: tuple[str, ...]
    phases: tuple[str, ...]
    findings: tuple[Finding, ...]
    metrics: pd.DataFrame
    studies: pd.DataFrame
    lesions: pd.DataFrame
    summary: Summary

    @property
    def virtual(self) -> bool:
        """Whether the patients were simulated: only then is the noise-free enhancement known."""
        return bool(self.manifest.get("virtual")) or any(
            name.startswith("noise_free_") for name in self.lesions.columns
        )

    @property
    def found(self) -> pd.DataFrame:
        """Reference lesions that a predicted component found."""
        return self.lesions[is_found(self.lesions)]

    def view(self, study_id: str) -> View | None:
        """The stored slice of a study, or None where none was stored.

        Raises
        ------
        UserError
            The file is damaged.
        """
        folder = self.run.predictions / "views"
        path = folder / f"{study_id}.npz"
        # an id may hold any text; one that leads out of the folder has no view
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            return None
        return _read_view(path)


def read_evaluated(run: Run) -> Evaluated:
    """Read a run folder and the tables of its evaluation.

    Raises
    ------
    UserError
        The run was not evaluated, or a table is damaged.
    """
    folder = run.predictions
    absent = [name for name in TABLES if not (folder / name).is_file()]
    if absent:
        raise UserError(
            f"{run.path} has not been evaluated ({', '.join(absent)} not in {folder.name}/); "
            f"run: mtinet evaluate {run.path}"
        )
    config = run.config
    studies, lesions = check_tables(
        read_table(folder / "studies.csv"), read_table(folder / "lesions.csv"), config.phases, run.classes
    )
    metrics = pd.DataFrame(run.metrics())
    return Evaluated(
        run=run,
        config=config,
        manifest=run.manifest,
        split=dict(run.document("split")),
        classes=run.classes,
        phases=tuple(config.phases),
        findings=tuple(run.findings()),
        metrics=metrics if "step" in metrics else pd.DataFrame({"step": []}),
        studies=studies,
        lesions=lesions,
        summary=_read_summary(folder / "summary.json"),
    )


def _read_summary(path: Path) -> Summary:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Summary(
            phases=tuple(values["phases"]),
            classes=tuple(values["classes"]),
            patients=int(values["patients"]),
            studies=int(values["studies"]),
            counts={site: dict(counts) for site, counts in values["counts"].items()},
            rows=tuple(Row(**_with_nan(row)) for row in values["rows"]),
            confusion=dict(values["confusion"]),
            reliability=tuple(ReliabilityBin(**_with_nan(item)) for item in values["reliability"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); run mtinet evaluate again") from None


def _with_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: numbers that do not exist are stored as null."""
    return {name: math.nan if value is None else value for name, value in values.items()}


def _read_view(path: Path) -> View:
    try:
        with np.load(path, allow_pickle=False) as stored:
            images, present, truth, predicted, spacing, times = (stored[name] for name in _VIEW_FIELDS)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); run mtinet evaluate again") from None
    return View(
        images=images.astype(np.float64),
        present=present.astype(bool),
        truth=truth,
        predicted=predicted,
        spacing_yx_mm=spacing.astype(np.float64),
        times_s=times.astype(np.float64),
    )
