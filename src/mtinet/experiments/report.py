"""From gathered records to tables and a page: rows are compared as the experiment says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mtinet import provenance
from mtinet.config.variation import ScoringVariation
from mtinet.evaluation.compared import DEFAULT_ENDPOINTS
from mtinet.evaluation.comparison import compare
from mtinet.evaluation.pooling import RowRecords
from mtinet.experiments.gather import Gathered, cell_name
from mtinet.experiments.plan import Axis, Row, row_config
from mtinet.reporting.cohort_table import origin_facts
from mtinet.reporting.experiment import ExperimentResults, write_results
from mtinet.workflows.table1 import CohortDescription

PLAIN = ScoringVariation()


def row_records(gathered: Gathered) -> tuple[RowRecords, ...]:
    """The rows that were asked for, each once for every way in which its held-out studies are scored."""
    found = (
        _row_records(gathered, row, scoring)
        for row in gathered.planned
        for scoring in dict.fromkeys((PLAIN, *row.scorings))
    )
    return tuple(row for row in found if row.cells)


def write_report(
    gathered: Gathered,
    folder: Path,
    cohort: CohortDescription | None = None,
    *,
    allow_mixed: bool = False,
    latex: bool = False,
) -> Path:
    """Compare the rows with the reference and write tables, checklists and the page.

    Parameters
    ----------
    gathered : Gathered
    folder : Path
    cohort : CohortDescription, optional
        "Table 1" of the cohort, and what the checklists take from it; without, the records say at least
        whether the patients were virtual.
    allow_mixed : bool
        Compare runs of several revisions of the code too, and say so.
    latex : bool
        Also write ``results.tex``.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UserError
        The reference has no finished run, or the folder holds another report.
    """
    experiment = gathered.plan.experiment
    asked = row_records(gathered)
    rows = tuple(row for row in asked if row.records)
    results = ExperimentResults(
        name=experiment.name,
        title=experiment.title,
        question=experiment.question,
        comparison=compare(
            asked,
            experiment.reference,
            (*DEFAULT_ENDPOINTS, *experiment.described),
            allow_mixed=allow_mixed,
        ),
        rows=rows,
        reading=experiment.reading,
        axis="" if experiment.axis is None else experiment.axis.label,
        cohort_table=None if cohort is None else cohort.table,
        cohort_facts=_facts(rows) if cohort is None else cohort.facts,
        manifest=provenance.manifest(),
    )
    return write_results(results, folder, latex)


def _facts(rows: Sequence[RowRecords]) -> dict[str, str]:
    """What the records know of their cohort."""
    records = [record for row in rows for record in row.records]
    virtual = all(record.manifest.get("virtual") for record in records)
    return origin_facts(records[0].cohort, virtual=virtual) if records else {}


def _row_records(gathered: Gathered, row: Row, scoring: ScoringVariation) -> RowRecords:
    plain = scoring == PLAIN
    number = _number(gathered, row, scoring)
    cells = gathered.plan.rows[row.name]
    seeds = sorted({cell.seed for cell in cells})
    # several are asked together from the first seeds on, of which there are enough
    first = seeds[: len(seeds) + 1 - scoring.networks]
    return RowRecords(
        name=row.name if plain else f"{row.name} {scoring.name}",
        title=row.title if plain else f"{row.title}; {scoring.title}",
        records=tuple(record for record in gathered.records.get(row.name, ()) if record.seed in first),
        enhancement=row.enhancement,
        classes=row.classes,
        scoring=scoring,
        number=number,
        curve=row.curve or row.title if number is not None else "",
        cells=tuple(cell_name(cell) for cell in cells if cell.seed in first),
        masks=all(cell.config.objective.segmentation > 0 for cell in cells),
    )


def _number(gathered: Gathered, row: Row, scoring: ScoringVariation) -> float | None:
    """Where a row stands on the experiment's axis; None where it does not."""
    experiment = gathered.plan.experiment
    axis: Axis | None = experiment.axis
    if axis is None:
        return None
    changed = scoring.model_dump(exclude_defaults=True)
    if axis.of == "run":
        manifests = [record.manifest for record in gathered.records.get(row.name, ())]
        known = manifests and all(axis.setting in manifest for manifest in manifests)
        return fmean(manifest[axis.setting] for manifest in manifests) if known and not changed else None
    if axis.of == "scoring":
        return float(getattr(scoring, axis.setting)) if set(changed) <= {axis.setting} else None
    if changed:
        return None
    found: Any = row.learning if axis.of == "learning" else row_config(experiment, row)
    for name in axis.setting.split("."):
        found = getattr(found, name)
    return None if found is None else float(found)
