"""The command that identifies contrast phases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtinet import files
from mtinet.cli.base import Json, app, exit_for, findings_text, show, stages


@app.command()
def phases(
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="Folder or zip of DICOM files, or a CSV with a row a series."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Also write the answer as JSON to this file."),
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels/--no-pixels", help="Look at the images too, not at attributes only.")
    ] = True,
    json_: Json = False,
) -> None:
    """Say which series is which contrast phase, how surely, and why.

    Names, order, times, image counts, the agent and the signal are weighed together.  What they leave open
    stays empty, with the reason.  A CSV needs the columns StudyKey, SeriesInstanceUID, SeriesDescription and
    NumberOfInstances; SeriesNumber, Manufacturer and ContrastBolusAgent help.  See docs/phases.md.

    `mtinet phases export/ -o phases.json`
    """
    from mtinet.workflows.phases import identify_phases, table, to_json

    with stages() as progress:
        studies, findings = identify_phases(
            source, pixels, progress.stage("Reading headers"), progress.stage("Identifying phases")
        )
    answer = to_json(studies)
    if out is not None:
        files.write_json(out, answer)
    show(answer, "\n\n".join(table(study) for study in studies) + "\n", json_)
    if findings:
        typer.echo(findings_text(findings), err=True)
    exit_for(findings, usable=bool(studies))
