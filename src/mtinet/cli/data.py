"""Commands on cohorts: simulate, check, prepare, and the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mtinet import config as settings
from mtinet import files
from mtinet.cli.base import (
    CacheOption,
    CohortArgument,
    File,
    Json,
    NewCohort,
    Preset,
    Set,
    Workers,
    app,
    exit_for,
    findings_text,
    names,
    progress,
    show,
)
from mtinet.config.simulation import SITES, AgentName

cache_app = typer.Typer(no_args_is_help=True, help="Look at and empty the cache of prepared studies.")
app.add_typer(cache_app, name="cache")

Simulation = Annotated[str, typer.Option(help=f"Cohort to start from: {', '.join(settings.SIMULATIONS)}.")]
Classes = Annotated[
    str | None, typer.Option(help="Lesion classes: some of hemangioma, hcc, fnh, metastasis, icc, cyst.")
]
Sites = Annotated[
    str | None,
    typer.Option(help=f"Scanners, for example A,D: some of {', '.join(SITES)}, or the preset's."),
]
AgentOption = Annotated[
    AgentName | None,
    typer.Option(help="Contrast agent; it decides the dose and, unless they are set, the phases."),
]
Spacing = Annotated[
    str | None,
    typer.Option(
        metavar="MM[,MM,MM]", help="Voxels of every site, for example 2.5,2.5,5; the field of view stays."
    ),
]
MissingRate = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Share of studies that lack a phase.")
]
Readers = Annotated[
    int | None, typer.Option(min=1, max=2, help="2: a second reader's masks as well (mask_2).")
]
WithTruth = Annotated[
    bool | None,
    typer.Option(
        "--truth/--no-truth",
        help="Also write tissue maps, noise-free images, displacement fields and kinetics (truth/).",
    ),
]
OutputFormat = Annotated[
    Literal["nifti", "dicom"],
    typer.Option(
        "--format",
        help="dicom: beside the cohort also its studies as its scanners would have written them (OUT/dicom).",
    ),
]


@app.command()
def simulate(
    out: NewCohort,
    preset: Simulation = "demo",
    subjects: Annotated[int | None, typer.Option(min=1, help="Number of patients.")] = None,
    classes: Classes = None,
    sites: Sites = None,
    agent: AgentOption = None,
    spacing: Spacing = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed gives other patients.")] = None,
    missing_phase_rate: MissingRate = None,
    readers: Readers = None,
    truth: WithTruth = None,
    format_: OutputFormat = "nifti",
    workers: Workers = None,
    config: File = None,
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Simulate a cohort of virtual patients; an interrupted simulation goes on where it stopped.

    **demo** is what `mtinet demo` learns from (160 patients, two classes, three scanners), **paper** has the
    size of the paper's cohort (238 patients, one 3 T scanner), **multicentre** six classes at six scanners.
    **development** is for setting the difficulty, **tiny** for tests.

    The later of these wins: preset, `--config` file, options, `--set`.  A seed gives the same voxels whatever
    the number of workers.  Virtual patients are not patients: see docs/virtual-patients.md.

    `mtinet simulate OUT --preset multicentre --classes hcc,fnh --sites A,D --agent gadoxetate --subjects 40`

    With `--format dicom` there is OUT/dicom/PATIENT/STUDY/SERIES/ as well: three vendors' habits, enhanced
    multi-frame files, localizers and subtractions among them, lesions as DICOM SEG, and labels.csv.
    `mtinet simulate OUT --preset tiny --sites C,E --format dicom`
    """
    from mtinet.workflows.simulate import simulate as run
    from mtinet.workflows.simulate_dicom import few_images

    given = {
        "subjects": subjects,
        "classes": names(classes),
        "agent": agent,
        "seed": seed,
        "missing_phase_rate": missing_phase_rate,
        "readers": readers,
        "truth": truth,
    }
    resolved = settings.resolve_simulation(
        preset,
        config,
        set_ or [],
        options={name: value for name, value in given.items() if value is not None},
        sites=names(sites),
        spacing_mm=_lengths(spacing),
    )
    dicom = format_ == "dicom"
    with progress("Simulating", resolved.subjects) as advance:
        cohort = run(out, resolved, workers=workers, on_progress=advance, dicom=dicom)
    findings = few_images(resolved) if dicom else []
    said = [f"{len(cohort)} virtual patients in {out}", *([findings_text(findings)] if findings else [])]
    show(
        {
            "cohort": str(out),
            "studies": len(cohort),
            "classes": list(cohort.classes),
            "sites": [site.name for site in resolved.sites],
            "phases": list(cohort.phases),
            "findings": [finding.to_dict() for finding in findings],
        },
        "\n".join(said),
        json_,
    )


@app.command()
def check(cohort: CohortArgument, json_: Json = False) -> None:
    """List everything that is wrong with a cohort, each with its repair (exit code 1 on errors only).

    Of an imported cohort, what the import found is listed too; it does not change the exit code.
    """
    from mtinet.workflows.check import check as run

    with progress("Checking") as advance:
        findings = run(cohort, on_progress=advance)
    show([f.to_dict() for f in findings], findings_text(findings), json_)
    exit_for([f for f in findings if f.stage != "import"], True)


@app.command()
def prepare(
    cohort: CohortArgument,
    preset: Preset = "small",
    config: File = None,
    set_: Set = None,
    cache: CacheOption = None,
    workers: Workers = None,
    table: Annotated[
        Path | None, typer.Option(help="Write the quality of the registration to this CSV file.")
    ] = None,
    json_: Json = False,
) -> None:
    """Register, resample and normalise every study once (train does it by itself).

    Phases are registered where `preparation.registration` is `rigid` or `bspline`; a registration that makes
    it worse or folds is not used, and said.  docs/registration.md explains the table.

    `mtinet prepare COHORT --set preparation.registration=bspline --table registration.csv`
    """
    from mtinet.workflows.prepare import prepare_cohort as run
    from mtinet.workflows.prepare import registration_table, write_registration_table

    resolved = settings.resolve(preset, config, set_ or [])
    with progress("Preparing") as advance:
        prepared, findings = run(cohort, resolved, cache=cache, workers=workers, on_progress=advance)
    if table is not None:
        write_registration_table(table, prepared)
    quality = registration_table(prepared)
    registered = quality["applied"].value_counts().to_dict()
    show(
        {
            "prepared": len(prepared),
            "registration": files.plain(quality.to_dict("records")),
            "findings": [f.to_dict() for f in findings],
        },
        "\n".join(
            [
                f"{len(prepared)} studies prepared",
                *(f"{count} phases moved by: {applied}" for applied, count in registered.items()),
                findings_text(findings),
            ]
        ),
        json_,
    )
    exit_for(findings, bool(prepared))


@cache_app.command("list")
def cache_list(
    place: Annotated[Path, typer.Argument(help="Cohort or cache folder.")], json_: Json = False
) -> None:
    """List prepared studies with their sizes."""
    from mtinet.workflows.prepare import cache_entries as entries

    found = entries(place)
    total = sum(entry["bytes"] for entry in found)
    lines = [f"{entry['study_id']:20s} {entry['bytes'] / 1e6:8.1f} MB  {entry['key']}" for entry in found]
    show(found, "\n".join([*lines, f"{len(found)} prepared studies, {total / 1e6:.1f} MB"]), json_)


@cache_app.command("clear")
def cache_clear(
    place: Annotated[Path, typer.Argument(help="Cohort or cache folder.")], json_: Json = False
) -> None:
    """Remove every prepared study; the next training prepares again."""
    from mtinet.workflows.prepare import clear_cache as clear

    removed = clear(place)
    show({"removed": removed}, f"{removed} prepared studies removed", json_)


def _lengths(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise settings.SettingsError(
            f"--spacing {text}: give one or three lengths in mm, for example 2.5 or 2.5,2.5,5"
        ) from None
