"""Evaluate: score a run, or another program's predictions, on studies that the run never trained on."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mtinet import files
from mtinet.cohort import NO_LESION, Cohort
from mtinet.config.variation import ScoringVariation
from mtinet.data import variation as vary
from mtinet.errors import UnusableError
from mtinet.evaluation import readouts
from mtinet.evaluation.diagnostics import ANOTHER_PROGRAM, run_findings
from mtinet.evaluation.sections import ALL, NETWORK, SECOND_READER, TWO_READERS
from mtinet.evaluation.summary import Summary, summarise, to_table
from mtinet.results import Finding
from mtinet.runs import Run
from mtinet.volume import Volume
from mtinet.workflows.claims import Claims, OutsideClaims
from mtinet.workflows.prepare import prepare
from mtinet.workflows.scored_rows import StudyRows, lesion_table
from mtinet.workflows.unseen import never_seen, studies_to_score
from mtinet.workflows.varying import network_claims, refuse_unfit, with_a_phase
from mtinet.workflows.views import save_view

OnProgress = Callable[[int, int], None]

KEY_FIGURES = (
    ("Dice", "segmentation", ALL, "dice", (NETWORK,)),
    ("Dice, studies of two readers", "segmentation", TWO_READERS, "dice", (NETWORK, SECOND_READER)),
    ("sensitivity", "detection", ALL, "sensitivity", (NETWORK,)),
    ("accuracy", "classification", ALL, "accuracy", (NETWORK, *readouts.CLASSIFIERS, "majority")),
    ("enhancement error (raw)", "enhancement", ALL, "mae_raw", ("head", "read_out", "training_mean")),
    (
        "enhancement error (% of pre)",
        "enhancement",
        ALL,
        "mae_relative",
        ("head", "read_out", "training_mean"),
    ),
)
"""What is said first: title, and where it stands in the summary."""


@dataclass(frozen=True)
class Evaluation:
    """Tables and findings of an evaluation; ``folder`` holds them as files.

    ``study_s`` is the median time in seconds of a prepared study: finding its lesions and reading them, also
    under the reference mask.
    """

    folder: Path
    scored: Summary
    findings: tuple[Finding, ...]
    study_s: float

    @property
    def summary(self) -> dict[str, Any]:
        """The summary in JSON's types."""
        return self.scored.to_dict()

    @property
    def text(self) -> str:
        """The key figures in a few lines."""
        return key_figures(self.scored)


def evaluate(
    run_folder: Path,
    *,
    cohort: Path | None = None,
    predictions: Path | None = None,
    variation: ScoringVariation | None = None,
    others: Sequence[Path] = (),
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Score a run and write tables, masks and views into its folder.

    Parameters
    ----------
    run_folder : Path
    cohort : Path, optional
        Another cohort to score on; by default the held-out studies of the run's own.
    predictions : Path, optional
        Masks and tables of another program, scored in the place of the run's network
        (:mod:`mtinet.workflows.claims`).
    variation : ScoringVariation, optional
        What is done to the studies before the network sees them (:mod:`mtinet.data.variation`), drawn from the
        run's seed, and who is asked.  The reference stays.  The tables go into a folder of their own, without
        masks and views.
    others : sequence of Path
        Runs that are asked too, as many as the variation wants.
    cache : Path, optional
        Where prepared studies are kept.
    workers : int, optional
        Processes that prepare; None = from the machine.
    on_progress : callable, optional
        Called as ``on_progress(done, total)``.

    Raises
    ------
    UserError
        There is nothing to score on, or a study's reference cannot be read.
    """
    run = Run.open(Path(run_folder))
    config = run.config
    studies, names, relabelled = studies_to_score(run, cohort)
    if predictions is not None:
        names = [*names, "-".join(predictions.resolve().parts[-2:])]
    variation = variation or ScoringVariation()
    refuse_unfit(variation, config, predictions)
    varied = variation != ScoringVariation()
    names = [*names, variation.name] if varied else names
    folder = run.predictions_on("-".join(names)) if names else run.predictions
    prepared, findings = prepare(studies, config, cache, workers)
    findings = [*findings, *relabelled]
    runs = [run, *map(Run.open, others)]
    for one_run in runs:
        prepared, trained_on = never_seen(one_run, studies, prepared)
        findings = [*findings, *trained_on]
    prepared, blind = with_a_phase(prepared, variation)
    findings = [*findings, *blind]
    if config.objective.segmentation == 0 and predictions is None:
        findings.append(_masks_not_learned())
    if predictions is not None:
        findings.append(_another_program(predictions))
    claims: Claims = (
        OutsideClaims(predictions, run.classes) if predictions else network_claims(runs, variation)
    )
    study_rows: list[dict[str, Any]] = []
    lesion_rows: list[dict[str, Any]] = []
    seconds: list[float] = []
    for done, one in enumerate(prepared, start=1):
        study = vary.scored(one, variation, config.training.seed)
        begun = time.perf_counter()
        claim = claims.claim(study)
        seconds.append(time.perf_counter() - begun)
        rows = StudyRows(run, config, studies, study, claim)
        findings = [*findings, *rows.findings]
        study_rows.append(rows.study())
        lesion_rows += rows.lesions()
        if not varied:
            mask = Volume(claim.mask, study.source_affine)
            mask.write_nifti(folder / "masks" / f"{study.study_id}.nii.gz")
            save_view(folder / "views" / f"{study.study_id}.npz", study, claim.labels)
        if on_progress is not None:
            on_progress(done, len(prepared))
    if not study_rows:
        raise UnusableError(
            f"none of the {len(studies)} studies can be scored: they could not be prepared (run mtinet "
            "check) or trained the model"
        )
    gains = {row["study_id"]: row["gain"] for row in study_rows}
    lesions = lesion_table(lesion_rows, gains, config, run)
    if not claims.classifies:
        lesions = lesions.drop(columns="predicted_label")  # a column is an answer, and empty a wrong one
    study_s = statistics.median(seconds)
    return _finish(run, folder, studies, pd.DataFrame(study_rows), lesions, findings, study_s)


def key_figures(summary: Summary) -> str:
    """Dice, accuracy and enhancement error with their intervals, and the baselines beside them."""
    lines = []
    for title, task, group, metric, methods in KEY_FIGURES:
        parts = []
        for method in methods:
            row = summary.find(task, metric, method, group)
            if row is not None and math.isfinite(row.value):
                interval = f" [{row.low:.3g}, {row.high:.3g}]" if math.isfinite(row.low) else ""
                parts.append(f"{method} {row.value:.3g}{interval}")
        if parts:
            lines.append(f"{title}: {'; '.join(parts)}")
    counts = summary.counts.get("all", {})
    lines.append("studies: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    return "\n".join(lines)


def _finish(
    run: Run,
    folder: Path,
    cohort: Cohort,
    studies: pd.DataFrame,
    lesions: pd.DataFrame,
    findings: Sequence[Finding],
    study_s: float,
) -> Evaluation:
    config = run.config
    named = {s.label for s in cohort.studies} | {
        label for s in cohort.studies for label in cohort.lesion_labels(s).values()
    }
    unknown = sorted(named - {"", NO_LESION, *run.classes})
    if unknown:
        findings = [*findings, _unknown_classes(unknown)]
    summary = summarise(
        studies,
        lesions,
        config.phases,
        run.classes,
        config.evaluation,
        config.training.seed,
        fit_readouts(run),
    )
    found = [*findings, *run_findings(summary, lesions)]
    files.write_text(folder / "studies.csv", studies.to_csv(index=False))
    files.write_text(folder / "lesions.csv", lesions.to_csv(index=False))
    files.write_text(folder / "table.csv", to_table(summary).to_csv(index=False))
    files.write_json(folder / "summary.json", summary.to_dict())
    files.write_json(folder / "findings.json", [f.to_dict() for f in found])
    if folder == run.predictions:
        run.replace_findings("evaluate", [f for f in found if f.stage == "evaluate"])
    return Evaluation(folder, summary, tuple(found), study_s)


def fit_readouts(run: Run) -> readouts.Readouts | None:
    """The read-out baselines, fitted to a run's training lesions; None where none has a known class."""
    config = run.config
    training = pd.DataFrame(run.document("preparation")["lesions"])
    if not len(training) or not training["label"].isin(run.classes).any():
        return None
    columns = [f"true_{phase}" for phase in config.phases]
    training[columns] = training[columns].astype(float)
    return readouts.fit(training, config.phases, run.classes)


def _masks_not_learned() -> Finding:
    return Finding(
        "masks-not-learned",
        "evaluate",
        "warning",
        "the run learned no masks (objective.segmentation=0): what is scored under predicted masks means nothing",
        "Read the rows of the method oracle_mask, which is told the reference masks.",
    )


def _another_program(folder: Path) -> Finding:
    return Finding(
        ANOTHER_PROGRAM,
        "evaluate",
        "note",
        f"the masks, and what tables beside them say of class and enhancement, are another program's ({folder.name})",
        "The run gives the held-out studies, the classes and the read-outs that stand beside.",
    )


def _unknown_classes(names: Sequence[str]) -> Finding:
    return Finding(
        "class-not-learned",
        "evaluate",
        "warning",
        f"the cohort has classes that the model never learned: {', '.join(names)}",
        "Their lesions count for masks and enhancement, not for the class.",
    )
