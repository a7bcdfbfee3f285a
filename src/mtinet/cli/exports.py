"""Commands that write for other programs: ``mtinet export``, of cohorts and of networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtinet.cli.base import CohortArgument, Folds, Json, NewFolder, app, findings_text, names, progress, show

if TYPE_CHECKING:
    from mtinet.workflows.export_network import ExportKind

export_app = typer.Typer(no_args_is_help=True, help="Write a cohort or a network for other programs.")
app.add_typer(export_app, name="export")

ModelArgument = Annotated[
    str, typer.Argument(help="Run folder of a finished training, or `reference`, which comes with mtinet.")
]
StudyOption = Annotated[
    Path | None,
    typer.Option(
        "--study",
        help="Folder with <phase>.nii.gz on which the result is compared with torch. Default: a virtual patient.",
    ),
]


@export_app.command("nnunet")
def export_nnunet(
    cohort: CohortArgument,
    out: Annotated[Path, typer.Argument(help="Folder to write, for example nnUNet_raw/Dataset501_Liver.")],
    phases: Annotated[
        str | None,
        typer.Option(help="Phases to export, for example pre,arterial. Default: all of the cohort's."),
    ] = None,
    folds: Folds = 5,
    json_: Json = False,
) -> None:
    """An nnU-Net data set (version 2) with the folds of mtinet train in splits_final.json.

    `mtinet export nnunet COHORT nnUNet_raw/Dataset501_Liver`
    """
    from mtinet.workflows.export_nnunet import export_nnunet as run
    from mtinet.workflows.imports.inclusion import inclusion_text

    with progress("Exporting") as advance:
        outcome = run(cohort, out, phases=names(phases), folds=folds, on_progress=advance)
    show(
        {
            "out": str(out),
            "studies": list(outcome.studies),
            "inclusion": [vars(row) for row in outcome.inclusion],
            "findings": [f.to_dict() for f in outcome.findings],
        },
        f"{inclusion_text(outcome.inclusion)}\n{findings_text(outcome.findings)}\nwritten: {out}",
        json_,
    )


@export_app.command("onnx")
def export_onnx(model: ModelArgument, out: NewFolder, study: StudyOption = None, json_: Json = False) -> None:
    """The network as ONNX, compared with torch on a study.

    Writes segment.onnx (image to mask), read.onnx (image and lesions to enhancement and class) and network.json
    (inputs, outputs, phases, classes, differences to torch).  What differs is not kept.

    `mtinet export onnx reference OUT`
    """
    _export_network("onnx", model, out, study, json_)


@export_app.command("openvino")
def export_openvino(
    model: ModelArgument, out: NewFolder, study: StudyOption = None, json_: Json = False
) -> None:
    """The network in OpenVINO's format, compared with torch on a study.

    Writes segment.xml and read.xml with their .bin, in single precision, and network.json as `export onnx` does.

    `mtinet export openvino runs/first OUT --study studies/0001`
    """
    _export_network("openvino", model, out, study, json_)


@export_app.command("bundle")
def export_bundle(
    model: ModelArgument, out: NewFolder, study: StudyOption = None, json_: Json = False
) -> None:
    """The model as a MONAI bundle, loaded by monai.bundle and compared on a study.

    Writes configs/metadata.json, configs/inference.json, models/model.pt and docs/README.md.  Whoever loads it needs
    mtinet installed.

    `mtinet export bundle reference bundles/mtinet_liver`
    """
    from mtinet.workflows.export_bundle import export_bundle as run

    exported = run(model, out, study)
    show({"out": str(out), "parity": [one.to_dict() for one in exported.parity]}, exported.text, json_)


def _export_network(kind: ExportKind, model: str, out: Path, study: Path | None, as_json: bool) -> None:
    from mtinet.workflows.export_network import export_network

    exported = export_network(model, out, kind, study)
    show({"out": str(out), "parity": [one.to_dict() for one in exported.parity]}, exported.text, as_json)
