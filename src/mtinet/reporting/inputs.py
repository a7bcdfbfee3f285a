"""Everything that a report is made from, read from the run folder."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtinet.config import Config
from mtinet.errors import UserError
from mtinet.evaluation.diagnostics import ANOTHER_PROGRAM
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
    """A run with one of its evaluations.

    Attributes
    ----------
    run : Run
    folder : Path
        Tables and slices of the evaluation.
    config : Config
    manifest, split : dict
    inherited : list of dict
        Of a fine-tuned run: what its start, and that one's, trained on (``cohort``, ``patients``).
    classes, phases : tuple of str
    findings : tuple of Finding
    metrics : DataFrame
        A row a record of the training, with a column ``step``; may be empty.
    studies, lesions : DataFrame
        See :mod:`mtinet.evaluation.tables`.
    summary : Summary
    """

    run: Run
    folder: Path
    config: Config
    manifest: dict[str, Any]
    split: dict[str, Any]
    inherited: list[dict[str, Any]]
    classes: tuple[str, ...]
    phases: tuple[str, ...]
    findings: tuple[Finding, ...]
    metrics: pd.DataFrame
    studies: pd.DataFrame
    lesions: pd.DataFrame
    summary: Summary

    @property
    def other(self) -> str:
        """Name of the evaluation where it is not that of the run's own held-out studies; empty otherwise."""
        own = self.folder == self.run.predictions
        return "" if own else self.folder.name.removeprefix(self.run.predictions.name + "-")

    @property
    def virtual(self) -> bool:
        """Whether the patients were simulated: only then is the noise-free enhancement known."""
        trained_on_virtual = bool(self.manifest.get("virtual"))
        return (trained_on_virtual and not self.other) or any(
            name.startswith("noise_free_") for name in self.lesions.columns
        )

    @property
    def of_another_program(self) -> bool:
        """Whether masks of another program were scored."""
        return any(finding.id == ANOTHER_PROGRAM for finding in self.findings)

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
        folder = self.folder / "views"
        path = folder / f"{study_id}.npz"
        # an id may hold any text; one that leads out of the folder has no view
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            return None
        return _read_view(path)


def read_evaluated(run: Run, folder: Path | None = None) -> Evaluated:
    """Read a run folder and the tables of an evaluation.

    Parameters
    ----------
    run : Run
    folder : Path, optional
        Another evaluation's (:meth:`Run.predictions_on`); by default that of the held-out studies.

    Raises
    ------
    UserError
        The run was not evaluated, or a table is damaged.
    """
    folder = run.predictions if folder is None else folder
    split = dict(run.document("split"))
    absent = [name for name in TABLES if not (folder / name).is_file()]
    if absent:
        raise UserError(
            f"{run.path} has not been evaluated ({', '.join(absent)} not in {folder.name}/); "
            f"run: {_commands(run, folder, held_out=bool(split['test']))}"
        )
    config = run.config
    findings = run.findings()
    if folder != run.predictions:
        # what was found in the run's own cohort and on its held-out studies says nothing about this one
        theirs = _read_findings(folder / "findings.json")
        outside = any(f.id == ANOTHER_PROGRAM for f in theirs)
        findings = [f for f in findings if f.stage == "train" and not outside] + theirs
    studies, lesions = check_tables(
        read_table(folder / "studies.csv"), read_table(folder / "lesions.csv"), config.phases, run.classes
    )
    metrics = pd.DataFrame(run.metrics())
    return Evaluated(
        run=run,
        folder=folder,
        config=config,
        manifest=run.manifest,
        split=split,
        inherited=run.document("inherited") if run.has_document("inherited") else [],
        classes=run.classes,
        phases=tuple(config.phases),
        findings=tuple(findings),
        metrics=metrics if "step" in metrics else pd.DataFrame({"step": []}),
        studies=studies,
        lesions=lesions,
        summary=_read_summary(folder / "summary.json"),
    )


def _commands(run: Run, folder: Path, *, held_out: bool) -> str:
    """What makes the tables that ``folder`` lacks."""
    if folder == run.predictions and held_out:
        return f"mtinet evaluate {run.path}"
    on_other = f"mtinet evaluate {run.path} --cohort OTHER and mtinet report {run.path} --on OTHER (its name)"
    if folder == run.predictions:
        return f"{on_other}; it trained on everybody, so there is no held-out study of its own"
    return on_other


def _read_summary(path: Path) -> Summary:
    try:
        return Summary.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); run mtinet evaluate again") from None


def _read_findings(path: Path) -> list[Finding]:
    """Findings of an evaluation that is not the run's own."""
    try:
        return [Finding(**item) for item in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); run mtinet evaluate again") from None


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
