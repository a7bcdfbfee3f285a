"""``mtinet import dicom`` and ``mtinet qc``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtinet.cli.base import (
    CacheOption,
    CohortArgument,
    Json,
    Key,
    NewCohort,
    Workers,
    app,
    exit_for,
    findings_text,
    progress,
    show,
    stages,
)
from mtinet.cli.imports import CohortName, import_app

if TYPE_CHECKING:
    from mtinet.workflows.ingest import IngestOutcome

_LAST_EVIDENCE = 3


@import_app.command("dicom")
def dicom(
    src: Annotated[
        Path, typer.Argument(help="Folder or zip with DICOM files: any tree, names do not matter.")
    ],
    out: NewCohort,
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV with patient_id or study_uid, label and other columns of cohort.csv."),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder with masks: DICOM SEG, RTSTRUCT, or images named by patient or study."),
    ] = None,
    keep_ids: Annotated[bool, typer.Option("--keep-ids", help="Keep the original ids.")] = False,
    key: Key = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="Table from pseudonyms to originals. Default: OUT-mapping.csv beside OUT."),
    ] = None,
    phases_json: Annotated[
        Path | None,
        typer.Option("--phases-json", help="Phases that you know better, in the form of mtinet phases -o."),
    ] = None,
    site: Annotated[str, typer.Option(help="Site of these studies, where labels do not name it.")] = "",
    name: CohortName = "",
    liver_command: Annotated[
        str,
        typer.Option(
            help="Program that segments the liver where no mask of it is given, such as 'segment -i {image} -o {out}'."
        ),
    ] = "",
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """DICOM files as they come from a PACS: studies, phases, masks and labels to a checked cohort.

    It says which series it took for each phase and why, and leaves a phase empty rather than guess.  Ids are
    replaced by pseudonyms that stay the same as long as the key is kept.  Look at OUT/qc.html afterwards.  The
    same command goes on after an interruption, and takes in what has changed.

    `mtinet import dicom EXPORT COHORT --labels labels.csv --masks MASKS --site north`
    """
    from mtinet.workflows.ingest import IngestOptions, ingest
    from mtinet.workflows.qc import qc as draw

    options = IngestOptions(labels, masks, keep_ids, key, mapping, phases_json, site, name, liver_command)
    with stages() as bars:
        outcome = ingest(src, out, options, workers, bars.stage("Reading headers"), bars.stage("Importing"))
        page, checked = draw(out, workers=workers, on_progress=bars.stage("Checking"))
    known = set(outcome.findings)
    findings = [*outcome.findings, *(f for f in checked if f not in known and f.stage != "import")]
    result = {
        "cohort": str(out),
        "studies": len(outcome.cohort),
        "qc": str(page),
        "mapping": None if outcome.mapping is None else str(outcome.mapping),
        "inclusion": [vars(row) for row in outcome.inclusion],
        "phases": {record["study_id"]: record["phases"] for record in outcome.studies},
        "dropped_attributes": outcome.dropped,
        "findings": [f.to_dict() for f in findings],
    }
    show(result, "\n\n".join(_parts(outcome, page, findings_text(findings))), json_)
    exit_for(findings, bool(outcome.cohort.studies))


@app.command()
def qc(
    cohort: CohortArgument,
    out: Annotated[Path | None, typer.Option(help="The page. Default: qc.html in the cohort.")] = None,
    cache: CacheOption = None,
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """Draw every study of a cohort on one page, findings first; prepared studies before and after registration.

    `mtinet prepare COHORT && mtinet qc COHORT`
    """
    from mtinet.workflows.qc import qc as run

    with progress("Checking") as advance:
        page, findings = run(cohort, out, cache, workers, advance)
    show(
        {"qc": str(page), "findings": [f.to_dict() for f in findings]},
        f"{findings_text(findings)}\nwritten: {page}",
        json_,
    )
    exit_for(findings, True)


def _parts(outcome: IngestOutcome, page: Path, findings: str) -> list[str]:
    from mtinet.workflows.imports.inclusion import inclusion_text

    parts = [_study_table(record) for record in outcome.studies]
    parts += [inclusion_text(outcome.inclusion), findings]
    if outcome.dropped:
        parts.append(
            f"not taken over from the files, {len(outcome.dropped)} attributes (all in import.json): "
            + ", ".join(outcome.dropped[:8])
            + (", ..." if len(outcome.dropped) > 8 else "")
        )
    if outcome.mapping is not None:
        parts.append(f"who is who: {outcome.mapping} (keep it apart from the cohort)")
    parts.append(f"{len(outcome.cohort)} studies in {outcome.cohort.folder}; look at {page}")
    return parts


def _study_table(record: Mapping[str, Any]) -> str:
    head = f"{record['study_id']} (patient {record['patient_id']})"
    if record["left_out"]:
        head += f": left out, {record['left_out']['reason']}"
    rows = [
        (
            phase,
            f"{entry['series'] or entry['series_uid']}"
            + (f"#{entry['volume']}" if entry["n_volumes"] > 1 else ""),
            f"{entry['confidence']:.2f}",
            "x".join(map(str, entry["grid"]["shape"])),
            "; ".join(entry["evidence"][:_LAST_EVIDENCE]),
        )
        for phase, entry in record["phases"].items()
        if entry
    ]
    table = _aligned([("phase", "series", "conf.", "grid", "evidence"), *rows]) if rows else []
    missing = [f"  {item['phase']} is missing: {item['reason']}" for item in record["missing"]]
    # why it has no phases stands there; where it has some, import.json and qc.html tell what else there was
    aside = [
        f"  set aside: series {item['series'] or item['series_uid']}, {item['reason']}"
        for item in record["excluded"]
        if record["left_out"]
    ]
    return "\n".join([head, *table, *missing, *aside])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        "  " + "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths)), row[-1]]).rstrip() for row in rows
    ]
