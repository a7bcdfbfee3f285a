"""The report of a run: one page that needs no other file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtinet import config as settings
from mtinet import files
from mtinet.reporting import overview, scoreboard
from mtinet.reporting.agreement import (
    bland_altman_pictures,
    method_picture,
    reliability_picture,
    size_pictures,
)
from mtinet.reporting.attention import attention_pictures
from mtinet.reporting.cases import example_cases, worst_cases
from mtinet.reporting.drawing import Picture
from mtinet.reporting.inputs import Evaluated, read_evaluated
from mtinet.reporting.learning import learning_pictures
from mtinet.reporting.templates import page_template
from mtinet.reporting.words import class_name
from mtinet.results import RESEARCH_USE
from mtinet.runs import Run

PAPER = "https://doi.org/10.48550/arXiv.2511.20793"


def write_report(run: Run, folder: Path | None = None) -> Path:
    """Write ``report.html`` and return its path.

    Parameters
    ----------
    run : Run
    folder : Path, optional
        Another evaluation of the run (:meth:`Run.predictions_on`), beside whose tables the page is written;
        by default that of the held-out studies, and the page lies in the run folder.

    Raises
    ------
    UserError
        The run was not evaluated, or one of its files is damaged; the message says what to run.
    """
    evaluated = read_evaluated(run, folder)
    page = run.report if folder is None else folder / run.report.name
    files.write_text(page, page_template("template.html").render(_content(evaluated)))
    return page


def _content(evaluated: Evaluated) -> dict[str, Any]:
    manifest, config = evaluated.manifest, evaluated.config
    bland_altman, bland_altman_unit = bland_altman_pictures(evaluated.lesions, evaluated.phases)
    return {
        "title": _title(evaluated),
        "gives_classes": "predicted_label" in evaluated.lesions,
        "gives_enhancement": any(f"predicted_{phase}" in evaluated.lesions for phase in evaluated.phases),
        "run_name": evaluated.run.path.resolve().name,
        "notice": RESEARCH_USE,
        "virtual": evaluated.virtual,
        "manifest": manifest,
        "config": config,
        "paper": PAPER,
        "key_figures": overview.key_figures(evaluated.summary),
        "findings": overview.grouped_findings(evaluated.findings),
        "cohort": overview.cohort_summary(evaluated),
        "resamples": config.evaluation.bootstrap,
        "verdicts": scoreboard.verdicts(evaluated.summary),
        "outcomes": scoreboard.outcome_counts(evaluated.summary),
        "tables": _tables(evaluated),
        "comparisons": _comparisons(evaluated),
        "examples": example_cases(evaluated),
        "failures": worst_cases(evaluated),
        "class_names": [class_name(name) for name in evaluated.summary.classes],
        "confusion": overview.confusion(evaluated.summary),
        "reliability": reliability_picture(evaluated.summary.reliability),
        "bland_altman": bland_altman,
        "bland_altman_unit": bland_altman_unit,
        "sizes": size_pictures(evaluated.lesions, evaluated.phases, config.evaluation.size_edges_mm),
        "attention": attention_pictures(evaluated.found, evaluated.phases, config.fusion),
        "learning": learning_pictures(evaluated.metrics, config.objective, config.training.steps),
        "changed_settings": overview.changed_settings(config),
        "settings_yaml": settings.to_yaml(config),
        "commands": overview.command_line(evaluated),
    }


def _title(evaluated: Evaluated) -> str:
    who = "another program" if evaluated.of_another_program else evaluated.config.model
    if evaluated.other:
        return f"{who} on {evaluated.other}"
    return f"{who} on cohort {evaluated.manifest.get('cohort') or 'without name'}"


def _tables(evaluated: Evaluated) -> dict[str, scoreboard.Table | None]:
    summary = evaluated.summary
    return {
        "masks": scoreboard.mask_table(summary),
        "detection": scoreboard.detection_table(summary, evaluated.config.evaluation.size_edges_mm),
        "enhancement": scoreboard.method_table(summary, "enhancement", scoreboard.ENHANCEMENT_METRICS),
        "relative_by_phase": scoreboard.phase_table(summary, "mae_relative"),
        "raw_by_phase": scoreboard.phase_table(summary, "mae_raw"),
        "classification": scoreboard.method_table(summary, "classification", scoreboard.CLASS_METRICS),
        "calibration": scoreboard.method_table(summary, "calibration", ("ece", "brier")),
        "noise_free": scoreboard.method_table(
            summary, "enhancement_noise_free", ("mae_relative", "mae_raw", "bias_relative")
        ),
        "sites": scoreboard.site_table(summary),
    }


def _comparisons(evaluated: Evaluated) -> list[Picture]:
    """Methods side by side in the main score of each task that has more than one."""
    wanted = (
        ("enhancement", "mae_relative", "Enhancement: mean absolute error"),
        ("classification", "balanced_accuracy", "Class: balanced accuracy"),
    )
    unequal = list(scoreboard.UNEQUAL.values())
    pictures = []
    for task, metric, title in wanted:
        rows = scoreboard.method_rows(evaluated.summary, task, metric)
        if rows:
            pictures.append(method_picture(rows, scoreboard.QUANTITIES[metric], title, unequal))
    return pictures
