"""Commands on results: revise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtinet.cli.base import (
    Agent,
    Formats,
    Json,
    Key,
    PhaseNames,
    PriorResult,
    PriorStudy,
    app,
    exit_for,
    findings_text,
    show,
)


@app.command()
def revise(
    result: Annotated[Path, typer.Argument(help="Folder that mtinet predict wrote for the study.")],
    edited_mask: Annotated[
        Path, typer.Argument(help="Corrected mask: NIfTI, NRRD or DICOM SEG, on the grid of mask.nii.gz.")
    ],
    study: Annotated[
        Path,
        typer.Option(
            help="The study that was predicted: its DICOM or NIfTI folder, a zip, or the cohort that holds it."
        ),
    ],
    model: Annotated[Path, typer.Option(help="Run folder that predicted it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the new result to.")],
    keep: Annotated[
        Path | None, typer.Option(help="Cohort that keeps the study with this mask as a training case.")
    ] = None,
    label: Annotated[
        str, typer.Option(help="With --keep: class of the largest lesion as you know it. Default: unknown.")
    ] = "",
    format_: Formats = None,
    phase_names: PhaseNames = None,
    agent: Agent = "",
    key: Key = None,
    prior: PriorResult = None,
    prior_study: PriorStudy = None,
    json_: Json = False,
) -> None:
    """Read a study anew under a mask that you corrected, and keep it as a training case.

    Open the reference phase and mask.nii.gz in 3D Slicer or ITK-SNAP, correct, add or remove lesions (a number
    or segment each), save, and give the saved file.  Size, enhancement, signs and class are those under your
    outline; sets and intervals of a calibration are left out.  Name phases and agent as you did for predict; a
    liver that was drawn then is taken from the result.  Give --prior and --prior-study again where growth was measured
    then, since it is measured anew.  With --keep the study is copied into a cohort to train
    on; the model's own class is never kept.

    `mtinet revise out/0001 corrected.nii.gz --study cohort --model run -o out/0001b --keep mine --label hcc`

    `mtinet revise out edited.dcm --study EXPORT --model run -o revised --format json,page,dicom-seg,dicom-sr`

    `mtinet revise OUT edited.nrrd --study NOW --model RUN -o revised --prior EARLIER-OUT --prior-study EARLIER`
    """
    from mtinet.errors import UserError
    from mtinet.results import RESEARCH_USE
    from mtinet.workflows.predictions.formats import read_formats
    from mtinet.workflows.predictions.priors import PriorPaths
    from mtinet.workflows.predictions.sources import parse_phase_names
    from mtinet.workflows.revise import ReviseOptions, TrainingCase
    from mtinet.workflows.revise import revise as run

    if label and keep is None:
        raise UserError("--label is for the cohort that keeps the case; give --keep too, or leave it out")
    options = ReviseOptions(
        keep=None if keep is None else TrainingCase(keep, label),
        formats=read_formats(format_),
        phase_names=parse_phase_names(phase_names),
        key=key,
        agent=agent,
        prior=PriorPaths.of(prior, prior_study),
    )
    revised = run(result, edited_mask, study, model, out, options)
    lesions = len(revised.result.lesions)
    kept = "" if keep is None else f"\nkept in: {keep}"
    show(
        {"out": str(out), "result": revised.result.to_dict(), "kept": None if keep is None else str(keep)},
        f"{revised.result.study_id}: {lesions} lesion{'s' if lesions != 1 else ''}\nwritten: {out}{kept}\n"
        f"{findings_text(revised.findings)}\n{RESEARCH_USE}",
        json_,
    )
    exit_for(revised.findings, True, {revised.result.study_id})
