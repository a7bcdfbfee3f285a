"""The command line: parse, call one workflow, print, exit code.

Results go to stdout (``--json`` for programs), progress and logs to stderr.  Exit codes: 0 done, 1 some
studies failed (they are listed), 2 wrong usage, 3 nothing usable.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from mtinet import config as settings
from mtinet import errors
from mtinet.config.simulation import SITES, AgentName

if TYPE_CHECKING:
    from mtinet.results import Finding

app = typer.Typer(
    name="mtinet",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Segment, quantify and classify liver lesions on multi-phase contrast-enhanced MRI.

**First steps:** `mtinet demo OUT` runs everything on virtual patients.  With your own data: write a cohort
(docs/cohort.md), then `mtinet check COHORT`, `mtinet train COHORT --out RUN`, `mtinet evaluate RUN` and
`mtinet predict RUN STUDY -o OUT`.

Research use only. Not a medical device; not for diagnosis.""",
)
config_app = typer.Typer(no_args_is_help=True, help="Show, compare and describe settings.")
cache_app = typer.Typer(no_args_is_help=True, help="Look at and empty the cache of prepared studies.")
app.add_typer(config_app, name="config")
app.add_typer(cache_app, name="cache")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Preset = Annotated[str, typer.Option(help=f"Settings to start from: {', '.join(settings.PRESETS)}.")]
File = Annotated[Path | None, typer.Option("--config", help="YAML file that changes the preset.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Change one setting, for example head.depth=2. Repeatable."
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Where prepared studies are kept. Default: in the cohort folder."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: one a core.")]
CohortArgument = Annotated[Path, typer.Argument(help="Cohort folder (cohort.csv and cohort.yaml).")]
RunArgument = Annotated[Path, typer.Argument(help="Run folder (the --out of a training).")]
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


# ---------------------------------------------------------------------- data
@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Cohort folder to write.")],
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
    """
    from mtinet.workflows.simulate import simulate as run

    given = {
        "subjects": subjects,
        "classes": _names(classes),
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
        sites=_names(sites),
        spacing_mm=_lengths(spacing),
    )
    with _progress("Simulating", resolved.subjects) as advance:
        cohort = run(out, resolved, workers=workers, on_progress=advance)
    _print(
        {
            "cohort": str(out),
            "studies": len(cohort),
            "classes": list(cohort.classes),
            "sites": [site.name for site in resolved.sites],
            "phases": list(cohort.phases),
        },
        f"{len(cohort)} virtual patients in {out}",
        json_,
    )


@app.command()
def check(cohort: CohortArgument, json_: Json = False) -> None:
    """List everything that is wrong with a cohort, each with its repair (exit code 1 on errors only)."""
    from mtinet.workflows.check import check as run

    findings = run(cohort)
    _print([f.to_dict() for f in findings], _findings_text(findings), json_)
    raise typer.Exit(1 if any(f.severity == "error" for f in findings) else 0)


@app.command()
def prepare(
    cohort: CohortArgument,
    preset: Preset = "small",
    config: File = None,
    set_: Set = None,
    cache: CacheOption = None,
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """Register, resample and normalise every study once (train does it by itself)."""
    from mtinet.workflows.prepare import prepare_cohort as run

    resolved = settings.resolve(preset, config, set_ or [])
    with _progress("Preparing") as advance:
        prepared, findings = run(cohort, resolved, cache=cache, workers=workers, on_progress=advance)
    _print(
        {"prepared": len(prepared), "findings": [f.to_dict() for f in findings]},
        f"{len(prepared)} studies prepared\n{_findings_text(findings)}",
        json_,
    )
    _exit_for(findings, bool(prepared))


# ---------------------------------------------------------------------- model
@app.command()
def train(
    cohort: CohortArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.")],
    preset: Preset = "small",
    config: File = None,
    set_: Set = None,
    model: Annotated[settings.NetworkName | None, typer.Option(help="Network.")] = None,
    fold: Annotated[int, typer.Option(min=0, help="Fold to hold out.")] = 0,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds.")] = 5,
    all_: Annotated[bool, typer.Option("--all", help="Train on everybody; nothing is held out.")] = False,
    init: Annotated[Path | None, typer.Option(help="Run whose weights are the start (fine-tuning).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    cache: CacheOption = None,
    workers: Workers = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices or processes to train on.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard as well.")] = False,
    json_: Json = False,
) -> None:
    """Train on a cohort; one fold of patients is held out unless --all is given."""
    from mtinet.workflows.train import TrainOptions
    from mtinet.workflows.train import train as run

    assignments = [*(set_ or []), *([f"model={model}"] if model else [])]
    resolved = settings.resolve(preset, config, assignments)
    options = TrainOptions(
        fold=None if all_ else fold,
        folds=folds,
        init=init,
        resume=resume,
        cache=cache,
        workers=workers,
        devices=devices,
        tensorboard=tensorboard,
    )
    with _training_progress() as progress:
        finished = run(cohort, out, resolved, options, on_prepared=progress.prepared, on_step=progress.step)
    findings = finished.findings()
    _print(
        {"run": str(out), "findings": [f.to_dict() for f in findings]},
        f"trained: {out}\n{_findings_text(findings)}",
        json_,
    )
    _exit_for(findings, True)


@app.command()
def evaluate(
    run: RunArgument,
    cohort: Annotated[
        Path | None, typer.Option(help="Score on this cohort instead of the held-out fold.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Score these masks and tables of another program on the run's held-out studies."),
    ] = None,
    cache: CacheOption = None,
    json_: Json = False,
) -> None:
    """Score a model on patients that it never saw; tables and masks go into the run folder."""
    from mtinet.workflows.evaluate import evaluate as evaluate_run

    with _progress("Evaluating") as advance:
        scored = evaluate_run(run, cohort=cohort, predictions=predictions, cache=cache, on_progress=advance)
    _print(
        {
            "tables": str(scored.folder),
            "summary": scored.summary,
            "findings": [f.to_dict() for f in scored.findings],
        },
        f"{scored.text}\n\ntables: {scored.folder}\n{_findings_text(scored.findings)}",
        json_,
    )
    _exit_for(scored.findings, True)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="Run folder of a finished training.")],
    study: Annotated[
        Path, typer.Argument(help="Folder with <phase>.nii.gz files (some may lack), or a cohort.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    json_: Json = False,
) -> None:
    """Predict one study or a cohort: mask.nii.gz, result.json and a picture for each."""
    from mtinet.workflows.predict import predict as run

    with _progress("Predicting") as advance:
        outcome = run(model, study, out, on_progress=advance)
    lines = [_result_line(result) for result in outcome.results]
    _print(
        {
            "out": str(out),
            "results": [result.to_dict() for result in outcome.results],
            "findings": [f.to_dict() for f in outcome.findings],
        },
        "\n".join([*lines, f"written: {out}", _findings_text(outcome.findings)]),
        json_,
    )
    _exit_for(outcome.findings, bool(outcome.results))


@app.command()
def report(
    run: RunArgument,
    on: Annotated[
        str | None, typer.Option(help="Report on that evaluation (the name behind predictions-) instead.")
    ] = None,
    json_: Json = False,
) -> None:
    """Write the report of an evaluated run: one page that needs no other file."""
    from mtinet.workflows.report import report as write

    path = write(run, on)
    _print({"report": str(path)}, f"report: {path}", json_)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to write.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of patients and training.")] = 0,
    subjects: Annotated[int | None, typer.Option(min=10, help="Number of patients.")] = None,
    preset: Preset = "small",
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Simulate patients, train, evaluate on held-out ones and write the report (goes on where it stopped)."""
    from mtinet.workflows.demo import demo as run

    resolved = settings.resolve(preset, None, set_ or [])
    with _training_progress() as progress:
        outcome = run(out, resolved, seed=seed, subjects=subjects, progress=progress)
    _print(outcome.to_dict(), outcome.text, json_)


# ---------------------------------------------------------------------- settings, cache, machine
@config_app.command("show")
def config_show(preset: Preset = "small", config: File = None, set_: Set = None, json_: Json = False) -> None:
    """Print the resolved settings as YAML, which --config reads again."""
    resolved = settings.resolve(preset, config, set_ or [])
    _print(resolved.model_dump(mode="json"), settings.to_yaml(resolved), json_)


@config_app.command("diff")
def config_diff(
    first: Annotated[str, typer.Argument(help="A preset, a YAML file or a run folder.")],
    second: Annotated[str, typer.Argument(help="The other one.")],
    json_: Json = False,
) -> None:
    """Print what differs between two presets, files or runs."""
    found = settings.difference(_settings_of(first), _settings_of(second))
    lines = [f"{name}: {a} -> {b}" for name, (a, b) in found.items()]
    _print(found, "\n".join(lines) or "no difference", json_)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of the settings, with a description of each."""
    typer.echo(json.dumps(settings.Config.model_json_schema(), indent=2))


@cache_app.command("list")
def cache_list(
    place: Annotated[Path, typer.Argument(help="Cohort or cache folder.")], json_: Json = False
) -> None:
    """List prepared studies with their sizes."""
    from mtinet.workflows.prepare import cache_entries as entries

    found = entries(place)
    total = sum(entry["bytes"] for entry in found)
    lines = [f"{entry['study_id']:20s} {entry['bytes'] / 1e6:8.1f} MB  {entry['key']}" for entry in found]
    _print(found, "\n".join([*lines, f"{len(found)} prepared studies, {total / 1e6:.1f} MB"]), json_)


@cache_app.command("clear")
def cache_clear(
    place: Annotated[Path, typer.Argument(help="Cohort or cache folder.")], json_: Json = False
) -> None:
    """Remove every prepared study; the next training prepares again."""
    from mtinet.workflows.prepare import clear_cache as clear

    removed = clear(place)
    _print({"removed": removed}, f"{removed} prepared studies removed", json_)


@app.command()
def bench(
    out: Annotated[
        Path | None, typer.Argument(help="Folder for bench.csv and its manifest. Default: nothing is kept.")
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Networks: some of mtinet, mtinet-per-phase, basic_unet, dynunet, swinunetr, "
            "attention_unet. Default: all."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repeats.")] = 7,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps a repeat. Default: one penalty's period (8).")
    ] = None,
    preset: Preset = "small",
    simulation: Annotated[
        str, typer.Option(help=f"Simulated scanners: one of {', '.join(settings.SIMULATIONS)}.")
    ] = "demo",
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Measure what MTI-Net and other networks cost here: training step, inference, memory, operations.

    One table from one run on a few virtual patients: all networks get the same patches, batches and data
    path, train with the real trainer and predict with the real predictor.  Repeats are interleaved; seconds
    are medians [quartiles], ratios are taken within repeats.  **basic_unet** is measured at MTI-Net's first
    width and at its own, **dynunet** with nnU-Net's 2-D defaults.  Close other programs first; it takes some
    minutes.

    The shares of *loading*, *MdIEF*, *discriminator* and *looks* (at gradients, every
    training.diagnose_every steps) are of a training step without looks, but that of looks, which is of all.

    `mtinet bench out --models mtinet,dynunet --set sampling.patch_size=96,96 --set training.batch_size=8`
    """
    from mtinet.workflows.bench import BenchOptions
    from mtinet.workflows.bench import bench as run
    from mtinet.workflows.bench_cases import MODELS

    resolved = settings.resolve(preset, None, set_ or [])
    options = BenchOptions(_names(models) or MODELS, repeats, steps, simulation)
    with _progress("Measuring") as advance:
        measured = run(out, resolved, options, advance)
    written = "" if out is None else f"\nwritten: {out / 'bench.csv'}"
    _print(measured.to_dict(), measured.text + written, json_)


@app.command()
def doctor(json_: Json = False) -> None:
    """Say what this machine and installation have, and what is missing."""
    from mtinet.workflows.doctor import doctor as run

    facts, findings = run()
    lines = [f"{name}: {value}" for name, value in facts.items()]
    _print(
        {"facts": facts, "findings": [f.to_dict() for f in findings]},
        "\n".join([*lines, _findings_text(findings)]),
        json_,
    )
    raise typer.Exit(1 if any(f.severity == "error" for f in findings) else 0)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> None:
    context.obj = {"debug": debug}
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"mtinet {installed('mtinet')}")
        raise typer.Exit


# ---------------------------------------------------------------------- printing
def main() -> NoReturn:
    """Run the command line; a known error prints one clear message, never a traceback without --debug."""
    try:
        app(standalone_mode=True)
    except errors.UserError as error:
        caught: BaseException = error
        code, message = error.exit_code, str(error)
    except OSError as error:
        caught = error
        place = error.filename or "a file"
        code, message = (
            3,
            f"{place}: {error.strerror or error}; free the disk or correct the path and its rights",
        )
    except Exception as error:
        caught = error
        code, message = 3, f"{type(error).__name__}: {error} (--debug shows where; please report it)"
    if "--debug" in sys.argv:
        traceback.print_exception(caught)
    typer.secho(f"mtinet: {message}", err=True, fg=typer.colors.RED)
    sys.exit(code)


def _print(value: Any, text: str, as_json: bool) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str) if as_json else text.rstrip("\n"))


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name for part in text.split(",") if (name := part.strip())]


def _lengths(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise settings.SettingsError(
            f"--spacing {text}: give one or three lengths in mm, for example 2.5 or 2.5,2.5,5"
        ) from None


def _findings_text(findings: Iterable[Finding]) -> str:
    order = {"error": 0, "warning": 1, "note": 2}
    ranked = sorted(findings, key=lambda f: order[f.severity])
    lines = [f"{f.severity}: {f.case + ': ' if f.case else ''}{f.meaning}. {f.action}" for f in ranked]
    counts = ", ".join(
        f"{n} {name}{'s' if n != 1 else ''}"
        for name in order
        if (n := sum(f.severity == name for f in ranked))
    )
    return "\n".join([*lines, counts or "no findings"])


def _result_line(result: Any) -> str:
    if not result.lesions:
        return f"{result.study_id}: no lesion found"
    parts = []
    for lesion in result.lesions:
        sure = lesion.probabilities[lesion.label]
        parts.append(f"#{lesion.number} {lesion.label} ({sure:.2f}), {lesion.diameter_mm:.0f} mm")
    return f"{result.study_id}: {'; '.join(parts)}"


def _exit_for(findings: Iterable[Finding], usable: bool) -> None:
    if not usable:
        raise typer.Exit(3)
    if any(f.severity == "error" for f in findings):
        raise typer.Exit(1)


def _settings_of(name: str) -> settings.Config:
    if name in settings.PRESETS:
        return settings.resolve(name)
    path = Path(name)
    return settings.resolve("small", path / "config.yaml" if path.is_dir() else path)


def _progress(title: str, total: int | None = None) -> Any:
    from mtinet.progress import bar

    return bar(title, total)


def _training_progress() -> Any:
    from mtinet.progress import TrainingProgress

    return TrainingProgress()


if __name__ == "__main__":
    main()
