"""Commands on models: train, evaluate, predict, report, demo."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from mtinet import config as settings
from mtinet.cli.base import (
    Agent,
    CacheOption,
    CohortArgument,
    File,
    Folds,
    Formats,
    Json,
    Key,
    NewFolder,
    PhaseNames,
    Preset,
    PriorResult,
    PriorStudy,
    RunArgument,
    Set,
    Workers,
    app,
    exit_for,
    finding_line,
    findings_text,
    progress,
    show,
    stages,
)
from mtinet.errors import UserError

EnsembleOption = Annotated[
    list[Path] | None,
    typer.Option("--ensemble", help="Another run that is asked too (other seed or fold). Repeatable."),
]
FlipsOption = Annotated[
    bool,
    typer.Option("--flips", help="Ask about the mirrored study too; train with augmentation.flip for it."),
]
DropoutOption = Annotated[
    int,
    typer.Option("--dropout", min=0, help="Thinned networks to ask (Monte-Carlo dropout); 0 = none."),
]


@app.command()
def train(
    context: typer.Context,
    cohort: CohortArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.")],
    preset: Preset = "small",
    config: File = None,
    set_: Set = None,
    model: Annotated[settings.NetworkName | None, typer.Option(help="Network.")] = None,
    fold: Annotated[int, typer.Option(min=0, help="Fold to hold out.")] = 0,
    folds: Folds = 5,
    all_: Annotated[bool, typer.Option("--all", help="Train on everybody; nothing is held out.")] = False,
    split: Annotated[
        Path | None,
        typer.Option(help="File of a fixed division, as imports write it into splits/; instead of --fold."),
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Run whose weights are the start (fine-tuning).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    cache: CacheOption = None,
    workers: Workers = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices or processes to train on.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard as well.")] = False,
    json_: Json = False,
) -> None:
    """Train on a cohort; one fold of patients is held out unless --all is given."""
    from mtinet.cohort import Cohort
    from mtinet.runs import Run
    from mtinet.training.memory import keep_freed_memory
    from mtinet.workflows.train import TrainOptions, refuse_changes
    from mtinet.workflows.train import train as run

    given = {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    }
    divisions = [f"--{name.rstrip('_')}" for name in ("all_", "split", "fold") if name in given]
    if len(divisions) > 1:
        raise UserError(f"{' and '.join(divisions)} exclude each other; give one of them")
    assignments = [*(set_ or []), *([f"model={model}"] if model else [])]
    if resume and (out / "config.yaml").is_file():
        earlier = Run.open(out)
        if "preset" in given:
            resolved = settings.resolve(preset, config, assignments)
        else:
            resolved = settings.resolve_settings(earlier.config, config, assignments)
        division: dict[str, int | None] = {"fold": None} if all_ else {}
        division |= {name: value for name, value in (("fold", fold), ("folds", folds)) if name in given}
        refuse_changes(earlier, Cohort.read(cohort), resolved, division, split, init)
    else:
        resolved = settings.resolve(preset, config, assignments)
        if resume:
            typer.echo(f"{out} holds no run to go on with; a new one starts", err=True)
    options = TrainOptions(
        fold=None if all_ else fold,
        folds=folds,
        split=split,
        init=init,
        resume=resume,
        cache=cache,
        workers=workers,
        devices=devices,
        tensorboard=tensorboard,
    )
    keep_freed_memory()
    with stages() as progress:
        finished = run(
            cohort,
            out,
            resolved,
            options,
            on_prepared=progress.prepared,
            on_step=progress.step,
            on_finding=lambda found: progress.say(f"step {found.step or 0}: {finding_line(found)}"),
        )
    findings = finished.findings()
    show(
        {"run": str(out), "findings": [f.to_dict() for f in findings]},
        f"trained: {out}\n{findings_text(findings)}",
        json_,
    )
    exit_for(findings, True)


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

    with progress("Evaluating") as advance:
        scored = evaluate_run(run, cohort=cohort, predictions=predictions, cache=cache, on_progress=advance)
    show(
        {
            "tables": str(scored.folder),
            "summary": scored.summary,
            "findings": [f.to_dict() for f in scored.findings],
        },
        f"{scored.text}\n\ntables: {scored.folder}\n{findings_text(scored.findings)}",
        json_,
    )
    exit_for(scored.findings, True)


@app.command()
def predict(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(
            help="Run folder of a finished training, or `reference`, the small model that comes with mtinet "
            "(trained on virtual patients)."
        ),
    ],
    study: Annotated[
        Path,
        typer.Argument(
            help="DICOM folder or zip; folder with <phase>.nii.gz files (some may lack); folder of several such "
            "studies; or a cohort."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")],
    ensemble: EnsembleOption = None,
    flips: FlipsOption = False,
    dropout: DropoutOption = 0,
    backend: Annotated[
        str,
        typer.Option(
            help="Who computes the network: torch, onnxruntime or openvino (extras onnx, openvino). The same "
            "result; the graphs are made at first use and kept in the user's cache."
        ),
    ] = "torch",
    format_: Formats = None,
    phase_names: PhaseNames = None,
    agent: Agent = "",
    liver_command: Annotated[
        str,
        typer.Option(
            help="Program that draws the liver where a study brings no mask of it, such as 'segment -i {image} -o "
            "{out}': signs and ratios to the liver need it."
        ),
    ] = "",
    images: Annotated[
        Path | None,
        typer.Option(help="For DICOM results of an imported cohort: the DICOM files that were imported."),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="With --images: the table from pseudonyms to originals that the import wrote; none after --keep-ids."
        ),
    ] = None,
    key: Key = None,
    prior: PriorResult = None,
    prior_study: PriorStudy = None,
    json_: Json = False,
) -> None:
    """Predict a study, or many: masks, measurements, a page and files for a PACS.

    Several studies, and those of a cohort, get a folder each.  One that fails is explained and the others go on;
    the same command again does what is left, and what changed.  OUT/audit.jsonl keeps which model made what from
    which input.  OUT may not be the folder of a study's images, nor hold the result of another study.

    DICOM studies are named by pseudonyms, the same as of `mtinet import dicom`.  Whose they are is told beside OUT, in
    OUT-mapping.csv.  In OUT, who the patient is stands in the DICOM files only (segmentation.dcm, report.dcm,
    page.dcm), with the UIDs of their images in audit.jsonl.

    With `mtinet calibrate` done before, each lesion also says how sure the model is, and a study unlike those
    of the calibration is flagged.

    `mtinet predict RUN EXPORT -o OUT --format json,page,dicom-seg,dicom-sr`

    `mtinet predict runs/a STUDY -o OUT --ensemble runs/b --ensemble runs/c --format nifti,json,maps`

    `mtinet predict RUN EXPORT -o OUT --phase-names pre=4,arterial=5:0,portal_venous=5:1,delayed=`

    `mtinet predict RUN NOW -o OUT --prior EARLIER-OUT --prior-study EARLIER`

    `mtinet predict RUN EXPORT -o OUT --liver-command 'segment -i {image} -o {out}'`
    """
    from mtinet.inference.panel import Opinions
    from mtinet.results import RESEARCH_USE
    from mtinet.workflows.predict import OutputError, PredictOptions
    from mtinet.workflows.predict import predict as run
    from mtinet.workflows.predictions.formats import read_formats
    from mtinet.workflows.predictions.priors import PriorPaths
    from mtinet.workflows.predictions.sources import parse_phase_names
    from mtinet.workflows.predictions.supplied import Supplied

    options = PredictOptions(
        formats=read_formats(format_),
        phase_names=parse_phase_names(phase_names),
        key=key,
        images=images,
        mapping=mapping,
        ensemble=tuple(ensemble or ()),
        opinions=Opinions(flips, dropout),
        prior=PriorPaths.of(prior, prior_study),
        backend=backend,
        supplied=Supplied(agent, liver_command),
    )
    on_unforeseen = traceback.print_exception if context.obj["debug"] else None
    with progress("Predicting") as advance:
        try:
            outcome = run(model, study, out, options, on_progress=advance, on_unforeseen=on_unforeseen)
        except OutputError as error:
            # what was finished before is told as always; the findings say what is not
            outcome = error.outcome
            if on_unforeseen is not None:
                on_unforeseen(error)
    usable = bool(outcome.results or outcome.kept)
    lines = [_result_line(result) for result in outcome.results]
    if outcome.kept:
        lines.append(f"kept from before: {', '.join(outcome.kept)}")
    if usable:
        lines.append(f"written: {out}")
    if outcome.table is not None:
        lines.append(f"measurements of all studies: {outcome.table}")
    if outcome.mapping is not None:
        lines.append(
            f"who is who: {outcome.mapping} (as confidential as the images; keep it apart from {out})"
        )
    show(
        {
            "out": str(out),
            "mapping": None if outcome.mapping is None else str(outcome.mapping),
            "table": None if outcome.table is None else str(outcome.table),
            "results": [result.to_dict() for result in outcome.results],
            "kept": list(outcome.kept),
            "findings": [f.to_dict() for f in outcome.findings],
        },
        "\n".join([*lines, findings_text(outcome.findings), RESEARCH_USE]),
        json_,
    )
    exit_for(outcome.findings, usable, {*(result.study_id for result in outcome.results), *outcome.kept})


@app.command()
def calibrate(
    run: RunArgument,
    cohort: CohortArgument,
    ensemble: EnsembleOption = None,
    flips: FlipsOption = False,
    dropout: DropoutOption = 0,
    coverage: Annotated[
        float, typer.Option(min=0.5, max=0.99, help="How often sets and intervals shall hold the truth.")
    ] = 0.9,
    seed: Annotated[int, typer.Option(min=0, help="Of the division of the patients.")] = 0,
    cache: CacheOption = None,
    json_: Json = False,
) -> None:
    """Learn how sure a model may be from a cohort with masks; predict then says it for every lesion.

    Writes calibration.json into the run folder: temperature of the class probabilities, probability that a
    component is a lesion, class sets and intervals of volume and curve that hold the truth as often as
    --coverage says, and what ordinary studies look like.  Patients who trained the model are left out.  It
    holds for studies like those of the cohort; take some hundred of your own.

    `mtinet calibrate runs/first cohorts/calibration --coverage 0.9`
    """
    from mtinet.inference.panel import Opinions
    from mtinet.workflows.calibrate import calibrate as learn

    with progress("Calibrating") as advance:
        learned = learn(
            run,
            cohort,
            ensemble=ensemble or (),
            opinions=Opinions(flips, dropout),
            coverage=coverage,
            seed=seed,
            cache=cache,
            on_progress=advance,
        )
    show(
        {
            "calibration": str(learned.path),
            "counts": dict(learned.calibration.counts),
            "findings": [f.to_dict() for f in learned.findings],
        },
        f"{learned.text}\n{findings_text(learned.findings)}",
        json_,
    )
    exit_for(learned.findings, True)


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
    show({"report": str(path)}, f"report: {path}", json_)


@app.command()
def demo(
    out: NewFolder = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of patients and training.")] = 0,
    subjects: Annotated[int | None, typer.Option(min=10, help="Number of patients.")] = None,
    preset: Preset = "small",
    set_: Set = None,
    json_: Json = False,
) -> None:
    """Simulate patients, train, evaluate on held-out ones and write the report (goes on where it stopped)."""
    from mtinet.workflows.demo import demo as run

    resolved = settings.resolve(preset, None, set_ or [])
    with stages() as progress:
        outcome = run(out, resolved, seed=seed, subjects=subjects, progress=progress)
    show(outcome.to_dict(), outcome.text, json_)


def _result_line(result: Any) -> str:
    if not result.lesions:
        return f"{result.study_id}: no lesion found"
    from mtinet.reporting.words import diameter_of

    parts = []
    for lesion in result.lesions:
        sure = f" ({lesion.probabilities[lesion.label]:.2f})" if lesion.is_named else ""
        parts.append(f"#{lesion.number} {lesion.label}{sure}, {diameter_of(lesion)}")
    return f"{result.study_id}: {'; '.join(parts)}"
