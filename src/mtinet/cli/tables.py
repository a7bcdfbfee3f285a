"""The command that describes a cohort for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mtinet import files
from mtinet.cli.base import CohortArgument, Json, Workers, app, findings_text, progress, show


@app.command()
def table1(
    cohort: CohortArgument,
    format_: Annotated[
        Literal["markdown", "csv", "latex"],
        typer.Option("--format", help="latex: with the package booktabs, special characters escaped."),
    ] = "markdown",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the table here instead of printing it.")
    ] = None,
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """Describe a cohort as the "Table 1" of a paper: patients, acquisition, missing phases, lesions.

    Counts come from the cohort's tables, sizes from its masks; what the tables do not say is "not stated".
    Works for virtual and imported cohorts, all together and by site.

    `mtinet table1 COHORT --format latex --out table1.tex`
    """
    from mtinet.reporting.texts import to_csv, to_latex, to_markdown
    from mtinet.workflows.table1 import table1 as run

    with progress("Reading masks") as advance:
        found = run(cohort, workers, advance)
    written = {"markdown": to_markdown, "csv": to_csv, "latex": to_latex}[format_](found.table)
    if out is not None:
        files.write_text(out, written.rstrip("\n") + "\n")
    if found.findings:
        typer.echo(findings_text(found.findings), err=True)
    show(
        {
            "cohort": found.cohort.name,
            "columns": list(found.table.heads),
            "rows": [list(row) for row in found.table.rows],
            "findings": [finding.to_dict() for finding in found.findings],
        },
        written if out is None else f"{out}",
        json_,
    )
