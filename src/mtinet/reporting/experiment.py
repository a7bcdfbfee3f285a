"""What an experiment leaves for its readers: tables, checklists and one page that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mtinet import files
from mtinet.errors import UserError
from mtinet.evaluation.compared import Comparison, PairedDifference
from mtinet.evaluation.pooling import RowRecords
from mtinet.evaluation.sureness import Sureness, sureness
from mtinet.reporting import checklists, experiment_pictures
from mtinet.reporting.checklist_facts import experiment_facts
from mtinet.reporting.drawing import Picture
from mtinet.reporting.experiment_tables import (
    QUANTITIES,
    difference_table,
    movement_table,
    occlusion_table,
    p_value,
    reading,
    sureness_table,
    to_frame,
    value_table,
    with_interval,
)
from mtinet.reporting.templates import page_template
from mtinet.reporting.texts import Text, to_latex, to_markdown
from mtinet.results import RESEARCH_USE

EXPERIMENT_FORMAT = 1
"""Version of ``experiment.json``; readers refuse a newer one."""

EXPERIMENT_FILE, CSV_FILE, MARKDOWN_FILE = "experiment.json", "results.csv", "results.md"
LATEX_FILE, CHECKLISTS_FILE, PAGE_FILE = "results.tex", "checklists.md", "report.html"
WRITTEN = (CSV_FILE, MARKDOWN_FILE, LATEX_FILE, CHECKLISTS_FILE, PAGE_FILE)
MAX_ATTENTION = 6
"""Rows whose attention is drawn: the reference and the next."""


@dataclass(frozen=True)
class ExperimentResults:
    """An experiment as it is reported.

    Attributes
    ----------
    name, title, question : str
    comparison : Comparison
    rows : tuple of RowRecords
        The rows with records that were compared, in their order.
    reading : str
        How the table is to be read, beyond what holds for every experiment.
    axis : str
        What the rows' number is, with its unit; empty where they have none.
    cohort_table : Text or None
        "Table 1" of the cohort.
    cohort_facts : mapping of str
        What the checklists take from the cohort.
    manifest : mapping
        Versions, machine, time and command (:mod:`mtinet.provenance`).
    """

    name: str
    title: str
    question: str
    comparison: Comparison
    rows: tuple[RowRecords, ...]
    reading: str = ""
    axis: str = ""
    cohort_table: Text | None = None
    cohort_facts: Mapping[str, str] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def virtual(self) -> bool:
        """Whether the patients were simulated."""
        return bool(self.cohort_facts.get("virtual"))

    @cached_property
    def occlusion(self) -> Text | None:
        """Attention against the effect of hiding phases; None where no row was scored that way."""
        distinct = experiment_pictures.distinct_rows(self.rows)
        return occlusion_table(distinct, self.comparison.settings)

    @cached_property
    def sureness(self) -> list[Sureness]:
        """How sure the ways of asking are; empty where no row asks several networks or looks."""
        return sureness(self.rows, self.comparison.reference, self.comparison.settings)

    @property
    def how_to_read(self) -> list[str]:
        """How the tables are to be read, a sentence each."""
        own = [self.reading] if self.reading else []
        virtual = ["Virtual patients are not patients: the numbers compare methods, on simulated images."]
        return [*own, *reading(self.comparison), *(virtual if self.virtual else [])]

    @property
    def checklists(self) -> list[checklists.Item]:
        """CLAIM and TRIPOD+AI as far as they can be filled."""
        known = experiment_facts(self.comparison, self.rows, self.question)
        return checklists.filled_checklists({**known, **self.cohort_facts})


def write_results(results: ExperimentResults, folder: Path, latex: bool = False) -> Path:
    """Write tables, checklists and the page of an experiment.

    Parameters
    ----------
    results : ExperimentResults
    folder : Path
        Gets what :func:`write_tables` writes, and ``report.html``.
    latex : bool
        Also write ``results.tex``.

    Returns
    -------
    Path
        The page.
    """
    write_tables(results, folder, latex)
    page = folder / PAGE_FILE
    files.write_text(page, page_template("experiment.html").render(_content(results)))
    return page


def write_tables(results: ExperimentResults, folder: Path, latex: bool = False) -> None:
    """Write ``results.csv``, ``results.md``, ``experiment.json``, ``checklists.md``, and ``results.tex``.

    Raises
    ------
    UserError
        The folder holds another report, or files of these names that are none of an experiment's.
    """
    refuse_another(results.name, folder)
    files.write_json(folder / EXPERIMENT_FILE, _described(results))  # first: by it the rest is known as ours
    files.write_text(folder / CSV_FILE, to_frame(results.comparison).to_csv(index=False))
    files.write_text(folder / MARKDOWN_FILE, _markdown(results))
    files.write_text(folder / CHECKLISTS_FILE, checklists.to_markdown(results.checklists))
    if latex:
        files.write_text(folder / LATEX_FILE, "\n\n".join(map(to_latex, _tables(results))) + "\n")
    else:  # an earlier one has other numbers
        (folder / LATEX_FILE).unlink(missing_ok=True)


def refuse_another(name: str, folder: Path) -> None:
    """An earlier report of the same experiment is replaced; nobody else's files are.

    Raises
    ------
    UserError
        The folder holds another report, or files of these names that are none of an experiment's.
    """
    found = [file for file in (*WRITTEN, EXPERIMENT_FILE) if (folder / file).exists()]
    if not found:
        return
    try:
        theirs = json.loads((folder / EXPERIMENT_FILE).read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        theirs = None
    if theirs != name:
        what = (
            f"the report of experiment {theirs}"
            if theirs
            else f"{found[0]}, which is no report of an experiment"
        )
        raise UserError(f"{folder} holds {what}; give another folder by --report, or empty it")


def _tables(results: ExperimentResults) -> list[Text]:
    """All tables with anything in them."""
    comparison = results.comparison
    given = (
        value_table(comparison),
        difference_table(comparison),
        movement_table(comparison),
        sureness_table(results.sureness),
        results.occlusion,
        results.cohort_table,
    )
    return [table for table in given if table is not None and table.rows]


def _markdown(results: ExperimentResults) -> str:
    parts = [f"# {results.title}", results.question]
    parts += [f"Cohort {results.comparison.cohort} (hash {results.comparison.cohort_hash}). {RESEARCH_USE}"]
    parts += [to_markdown(table) for table in _tables(results)]
    parts += ["## How to read this", "\n".join(f"- {line}" for line in results.how_to_read)]
    return "\n\n".join(parts) + "\n"


def _described(results: ExperimentResults) -> dict[str, Any]:
    comparison = results.comparison
    return {
        "format": EXPERIMENT_FORMAT,
        "name": results.name,
        "title": results.title,
        "question": results.question,
        "reference": comparison.reference,
        "cohort": comparison.cohort,
        "cohort_hash": comparison.cohort_hash,
        "virtual": results.virtual,
        "settings": comparison.settings.model_dump(),
        "reading": results.how_to_read,
        "manifest": dict(results.manifest),
    }


# ---------------------------------------------------------------------- page
def _content(results: ExperimentResults) -> dict[str, Any]:
    comparison, rows = results.comparison, results.rows
    names = [endpoint.name for endpoint in comparison.endpoints]
    axis = results.axis or "the number that the rows vary"
    return {
        "title": results.title,
        "name": results.name,
        "question": results.question,
        "notice": RESEARCH_USE,
        "virtual": results.virtual,
        "cohort": comparison.cohort,
        "cohort_hash": comparison.cohort_hash,
        "reference": comparison.row(comparison.reference).title,
        "notes": comparison.notes,
        "reading": results.how_to_read,
        "verdicts": _verdict_table(comparison),
        "values": value_table(comparison),
        "differences": difference_table(comparison),
        "table1": results.cohort_table,
        "forests": _some(experiment_pictures.forest_picture(comparison, name) for name in names),
        "axis": axis,
        "numbers": _some(experiment_pictures.number_picture(comparison, name, axis) for name in names),
        "attention": _attention(results),
        "occlusion": results.occlusion,
        "sureness": sureness_table(results.sureness),
        "risks": experiment_pictures.risk_pictures(results.sureness),
        "discriminator": experiment_pictures.course_pictures(rows, experiment_pictures.DISCRIMINATOR),
        "cosine_summary": experiment_pictures.cosine_summary(rows),
        "cosines": experiment_pictures.cosine_pictures(rows),
        "movement": movement_table(comparison),
        "progress": experiment_pictures.course_pictures(rows, experiment_pictures.PROGRESS),
        "checklists": _checklists(results),
        "manifest": results.manifest,
        "revisions": sorted({record.revision.sources for row in rows for record in row.records}),
        "settings": comparison.settings,
    }


def _some(pictures: Any) -> list[Picture]:
    return [picture for picture in pictures if picture is not None]


def _attention(results: ExperimentResults) -> list[Picture]:
    """The reference first, then as many other rows as there is room for."""
    reference = results.comparison.reference
    ordered = sorted(results.rows, key=lambda row: row.name != reference)
    drawn = _some(map(experiment_pictures.attention_picture, experiment_pictures.distinct_rows(ordered)))
    return drawn[:MAX_ATTENTION]


def _verdict_table(comparison: Comparison) -> dict[str, Any]:
    """A cell a row and tested endpoint: the verdict with the difference behind it."""
    tested = [endpoint for endpoint in comparison.endpoints if endpoint.family != "described"]
    return {
        "heads": [(QUANTITIES[endpoint.name].label, endpoint.family) for endpoint in tested],
        "rows": [
            (
                row.title,
                [_verdict_cell(comparison.difference(row.name, endpoint.name)) for endpoint in tested],
            )
            for row in comparison.rows
            if row.name != comparison.reference
        ],
    }


def _verdict_cell(item: PairedDifference) -> dict[str, str]:
    quantity, difference = QUANTITIES[item.endpoint], item.difference
    return {
        "verdict": item.verdict,
        "kind": item.verdict.replace(" ", "-"),
        "difference": with_interval(quantity, difference.value, difference.low, difference.high),
        "unit": quantity.unit,
        "p": p_value(item.p_holm),
        "reason": item.reason,
    }


def _checklists(results: ExperimentResults) -> list[dict[str, Any]]:
    items = results.checklists
    groups = []
    for name, source in checklists.SOURCES.items():
        own = [item for item in items if item.checklist == name]
        filled = sum(item.status == "filled" for item in own)
        groups.append({"source": source, "list": own, "filled": filled, "total": len(own)})
    return groups
