"""Commands on many runs: crossval, experiment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtinet.cli.base import (
    COHORT,
    CacheOption,
    CohortArgument,
    File,
    Json,
    Preset,
    Set,
    app,
    exit_for,
    findings_text,
    names,
    progress,
    show,
)

if TYPE_CHECKING:
    from mtinet.experiments.budget import Budget
    from mtinet.experiments.execute import Outcome
    from mtinet.experiments.gather import Gathered
    from mtinet.experiments.grid import Grid, Means
    from mtinet.experiments.plan import Choice, Experiment
    from mtinet.experiments.ray_pool import Cluster
    from mtinet.results import Finding

OUT = typer.Option("--out", "-o", help="Folder of the campaign; with --resume one that is there.")
Processes = Annotated[
    int, typer.Option(min=1, help="Runs at a time on this machine, each with its share of the cores.")
]
Ray = Annotated[
    str | None,
    typer.Option(help="Run on a Ray cluster instead: auto, ray://HOST:PORT, or local. Needs mtinet[ray]."),
]
Cpus = Annotated[float, typer.Option(min=0.5, help="With --ray: processors declared for a run.")]
Gpus = Annotated[float, typer.Option(min=0.0, help="With --ray: GPUs declared for a run.")]
Keep = Annotated[
    bool, typer.Option("--keep", help="Keep checkpoints, masks and views of finished runs as well.")
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on in a folder that holds runs already; without it that is an error."),
]


@app.command()
def crossval(
    cohort: CohortArgument,
    out: Annotated[Path, OUT],
    preset: Preset = "small",
    config: File = None,
    set_: Set = None,
    workers: Processes = 1,
    ray: Ray = None,
    cpus: Cpus = 1,
    gpus: Gpus = 0,
    resume: Resume = False,
    keep: Keep = False,
    cache: CacheOption = None,
    json_: Json = False,
) -> None:
    """Train on 5 patient-grouped folds and score every patient by the model that never saw them.

    The pooled result is written into OUT as summary.json and table.csv.  Example:
    `mtinet crossval COHORT -o CV --workers 2`
    """
    from mtinet.experiments.crossval import EXPERIMENT, pool_folds
    from mtinet.experiments.grid import Means
    from mtinet.experiments.plan import Choice
    from mtinet.workflows.evaluate import key_figures

    means = Means(workers, _cluster(ray, cpus, gpus), cache=cache, keep=keep)
    choice = Choice(preset, config, tuple(set_ or ()))
    grid, outcomes, findings = _run(EXPERIMENT, cohort, out, choice, means, resume)
    answer: dict[str, Any] = {
        "out": str(out),
        "summary": None,
        "notes": [],
        "outcomes": {outcome.id: outcome.state for outcome in outcomes},
        "findings": [finding.to_dict() for finding in findings],
    }
    if any(outcome.state == "failed" for outcome in outcomes):
        show(answer, findings_text(findings), json_)
        raise typer.Exit(1)
    gathered, damaged = grid.gather()
    pooled = pool_folds(grid, gathered)
    findings = [*findings, *damaged]
    text = "\n".join([key_figures(pooled.summary), *pooled.notes, f"written: {out}", findings_text(findings)])
    answer |= {
        "summary": pooled.summary.to_dict(),
        "notes": list(pooled.notes),
        "findings": [finding.to_dict() for finding in findings],
    }
    show(answer, text, json_)
    exit_for(findings, True)


@app.command()
def experiment(
    name: Annotated[str | None, typer.Argument(help="Experiment, one of --list.")] = None,
    cohort: Annotated[Path | None, COHORT] = None,
    out: Annotated[Path | None, OUT] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the experiments and end.")] = False,
    rows: Annotated[
        str | None,
        typer.Option(help="Only these rows, for example full,no-tim; the reference is always run."),
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="Only these folds, for example 0,1. Default: the experiment's.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings a row and fold.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings to start from. Default: the experiment's.")
    ] = None,
    config: File = None,
    set_: Set = None,
    workers: Processes = 1,
    ray: Ray = None,
    cpus: Cpus = 1,
    gpus: Gpus = 0,
    resume: Resume = False,
    records: Annotated[Path | None, typer.Option(help="Folder of the records. Default: OUT/records.")] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Also gather records of other code or libraries, and say so.")
    ] = False,
    budget: Annotated[
        bool,
        typer.Option("--budget", help="Only say what the runs would cost; nothing is trained to its end."),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Folder of tables, checklists and page. Default: OUT.")
    ] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Also write the tables as LaTeX.")] = False,
    keep: Keep = False,
    cache: CacheOption = None,
    json_: Json = False,
) -> None:
    """Run an experiment: a grid of trainings that differ in one thing, scored on the same patients.

    Without --out nothing is run: the tables are those of the records that are there (--records, --report).

    Each finished run leaves a small record; runs that have one are skipped, interrupted ones go on, and
    experiments share the runs that they have in common.  The rows are then compared with the reference, patient
    by patient: results.csv, results.md, checklists.md and report.html.  Example:
    `mtinet experiment ablation COHORT -o CAMPAIGN --rows no-tim,no-tdd --folds 0`
    """
    from mtinet.experiments.catalogue import EXPERIMENTS
    from mtinet.experiments.catalogue import experiment as find
    from mtinet.experiments.plan import Choice

    if list_ or name is None:
        text = "\n\n".join(f"{e.name} ({len(e.rows)} rows): {e.question}" for e in EXPERIMENTS.values())
        listed = [
            {"name": e.name, "title": e.title, "question": e.question, "rows": [r.name for r in e.rows]}
            for e in EXPERIMENTS.values()
        ]
        show(listed, text, json_)
        return
    chosen = find(name)
    # only now: they load torch, and a list or a wrong name needs none
    from mtinet.experiments.grid import Means
    from mtinet.experiments.report import write_report
    from mtinet.reporting.experiment import refuse_another
    from mtinet.workflows.table1 import table1

    picked = names(rows)
    choice = Choice(
        preset,
        config,
        tuple(set_ or ()),
        seeds,
        _folds(folds),
        None if picked is None else tuple(picked),
    )
    if out is None and records is not None and report is not None and not budget:
        _report_records(chosen, choice, records, report, cohort, mixed=mixed, latex=latex, json_=json_)
        return
    if cohort is None or out is None:
        raise typer.BadParameter(
            "give a cohort and --out: mtinet experiment NAME COHORT -o OUT; or, for the tables of records that "
            "are there: mtinet experiment NAME --records FOLDER --report FOLDER"
        )
    means = Means(workers, _cluster(ray, cpus, gpus), records, cache, keep, allow_mixed=mixed)
    if budget:
        _, price, findings = _open(chosen, cohort, out, choice, means)
        answer = {**price.to_dict(), "findings": [finding.to_dict() for finding in findings]}
        show(answer, f"{price.text}\n{findings_text(findings)}", json_)
        exit_for(findings, True)
        return
    refuse_another(chosen.name, report or out)  # before the runs, not after them
    grid, outcomes, findings = _run(chosen, cohort, out, choice, means, resume)
    gathered, damaged = grid.gather()
    findings = [*findings, *damaged]
    written = f"records: {grid.campaign.records}"
    if gathered.records.get(chosen.reference):
        with progress("Describing the cohort") as advance:
            described = table1(cohort, on_progress=advance)
        page = write_report(gathered, report or out, described, allow_mixed=mixed, latex=latex)
        written += f"\nreport: {page}"
    text = f"{_text(gathered)}\n\n{written}\n{findings_text(findings)}"
    show(_to_dict(grid.campaign.records, gathered, outcomes, findings), text, json_)
    exit_for(findings, bool(gathered.rows))


# ---------------------------------------------------------------------- parts
def _cluster(address: str | None, cpus: float, gpus: float) -> Cluster | None:
    from mtinet.experiments.ray_pool import Cluster

    return None if address is None else Cluster(address, cpus, gpus)


def _report_records(
    chosen: Experiment,
    choice: Choice,
    records: Path,
    report: Path,
    cohort: Path | None,
    *,
    mixed: bool,
    latex: bool,
    json_: bool,
) -> None:
    """Tables and page of the records of a folder, and "Table 1" where the cohort is at hand."""
    from mtinet.experiments.gather import gather_folder
    from mtinet.experiments.report import write_report
    from mtinet.workflows.table1 import table1

    described = None
    if cohort is not None:
        with progress("Describing the cohort") as advance:
            described = table1(cohort, on_progress=advance)
    of = None if described is None else described.cohort
    gathered, findings = gather_folder(chosen, records, choice, of, allow_mixed=mixed)
    page = write_report(gathered, report, described, allow_mixed=mixed, latex=latex)
    text = f"{_text(gathered)}\n\nreport: {page}\n{findings_text(findings)}"
    show(_to_dict(records, gathered, [], findings), text, json_)
    exit_for(findings, True)


def _folds(text: str | None) -> tuple[int, ...] | None:
    listed = names(text)
    if listed is None:
        return None
    if not all(name.isdecimal() for name in listed):
        raise typer.BadParameter(f"--folds {text}: give numbers, for example 0,1")
    return tuple(int(name) for name in listed)


def _open(
    chosen: Experiment, cohort: Path, out: Path, choice: Choice, means: Means
) -> tuple[Grid, Budget, list[Finding]]:
    """Prepare and price a grid, with its progress on stderr."""
    from mtinet.experiments.grid import Grid

    with progress("Preparing") as advance:
        grid = Grid.open(chosen, cohort, out, choice, means, advance)
    with progress("Measuring steps") as advance:
        price = grid.budget(advance)
    return grid, price, [*grid.findings, *grid.made_otherwise()]


def _run(
    chosen: Experiment, cohort: Path, out: Path, choice: Choice, means: Means, resume: bool
) -> tuple[Grid, list[Outcome], list[Finding]]:
    """Open, price and run a grid, with its progress on stderr."""
    from mtinet.errors import UserError
    from mtinet.experiments.pool import Progress
    from mtinet.progress import GridProgress
    from mtinet.training.memory import keep_freed_memory

    if (out / "runs").is_dir() and not resume:
        raise UserError(
            f"{out} holds runs already; --resume goes on with them (what is finished is not done twice), or "
            "give another --out"
        )
    grid, price, findings = _open(chosen, cohort, out, choice, means)
    if findings:
        typer.echo(findings_text(findings), err=True)  # before the hours that the runs take
    typer.echo(price.text, err=True)
    steps = {grid.campaign.id(cell): cell.config.training.steps for cell in grid.plan.cells}
    keep_freed_memory()  # a single worker is this process
    with GridProgress(chosen.name, len(steps), sum(steps.values())) as bar:
        outcomes = grid.run(
            Progress(
                step=lambda id, step, _: bar.step(id, step),
                done=lambda found: bar.done(found.id, steps[found.id]),
            )
        )
    found = [finding for outcome in outcomes for finding in outcome.findings]
    return grid, outcomes, [*findings, *found]


def _text(gathered: Gathered) -> str:
    """Means by row: a first look, without intervals or tests."""
    from mtinet.experiments.gather import row_means

    lines = []
    for row in gathered.rows:
        records = gathered.records[row.name]
        means = row_means(row, records)
        shown = "  ".join(
            f"{name.replace('_', ' ')} {value:.4g}" for name, value in means.items() if value is not None
        )
        mark = " (reference)" if row.name == gathered.plan.experiment.reference else ""
        lines.append(f"{row.name}{mark}: {len(records)}/{len(gathered.plan.rows[row.name])} runs  {shown}")
    return "\n".join([gathered.plan.experiment.question, "", *lines, "", *gathered.notes])


def _to_dict(
    records: Path, gathered: Gathered, outcomes: list[Outcome], findings: list[Finding]
) -> dict[str, Any]:
    from mtinet.experiments.gather import row_means

    return {
        "experiment": gathered.plan.experiment.name,
        "records": str(records),
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "runs": [record.id for record in gathered.records[row.name]],
                "planned": len(gathered.plan.rows[row.name]),
                **row_means(row, gathered.records[row.name]),
            }
            for row in gathered.rows
        ],
        "missing": {name: len(cells) for name, cells in gathered.missing.items()},
        "outcomes": {outcome.id: outcome.state for outcome in outcomes},
        "notes": list(gathered.notes),
        "findings": [finding.to_dict() for finding in findings],
    }
