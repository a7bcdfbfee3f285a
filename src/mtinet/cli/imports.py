"""Commands that make a cohort from files as they are: ``mtinet import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtinet.cli.base import Json, NewCohort, Workers, app, exit_for, findings_text, progress, show

if TYPE_CHECKING:
    from mtinet.workflows.imports.writing import ImportOptions, ImportOutcome

import_app = typer.Typer(
    no_args_is_help=True,
    help="Make a cohort from files as they are: DICOM, NIfTI, nnU-Net, public data sets; merge cohorts.",
)
app.add_typer(import_app, name="import")
CohortName = Annotated[str, typer.Option(help="Name of the cohort. Default: that of the folder.")]
Copy = Annotated[
    bool, typer.Option("--copy", help="Copy the images into the cohort; by default they stay where they are.")
]
Labels = Annotated[
    Path | None,
    typer.Option(help="CSV with study_id (or patient_id), label and other columns of cohort.csv."),
]


@import_app.command("nifti")
def nifti(
    src: Annotated[Path, typer.Argument(help="Folder with the images.")],
    out: NewCohort,
    pattern: Annotated[
        str,
        typer.Option(help="Path of an image in SRC, with {patient}, {study}, {site}, {phase} and *."),
    ],
    phase: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PHASE", help="What a name in the files means, or NAME=ignore. Repeatable."
        ),
    ] = None,
    mask: Annotated[str, typer.Option(metavar="PATTERN", help="Path of the lesions' mask in SRC.")] = "",
    liver: Annotated[str, typer.Option(metavar="PATTERN", help="Path of the liver's mask in SRC.")] = "",
    mask_phase: Annotated[str, typer.Option(help="Phase on which the masks were drawn.")] = "",
    labels: Labels = None,
    name: CohortName = "",
    copy: Copy = False,
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """NIfTI files, found by the pattern of their names.

    `mtinet import nifti DATA OUT --pattern '{patient}/{phase}.nii.gz' --mask '{patient}/tumour.nii.gz'
    --phase late=delayed --labels labels.csv`
    """
    from mtinet.workflows.imports.nifti import import_nifti as run

    with progress("Reading") as advance:
        outcome = run(
            src,
            out,
            pattern,
            phases=phase or (),
            mask_pattern=mask,
            liver_pattern=liver,
            mask_phase=mask_phase,
            labels=labels,
            name=name,
            options=_options(copy, workers, advance),
        )
    show_import(outcome, json_)


@import_app.command("nnunet")
def nnunet(
    src: Annotated[Path, typer.Argument(help="Folder DatasetXXX_Name with dataset.json.")],
    out: NewCohort,
    channel: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PHASE", help="Phase of a channel, by number or name. Repeatable."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VALUE=CLASS",
            help="Class of a label, by value or name; also =lesion, =liver, =ignore. Repeatable.",
        ),
    ] = None,
    labels: Labels = None,
    copy: Copy = False,
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """The training cases of an nnU-Net data set; connected parts of a class become lesions.

    `mtinet import nnunet Dataset501_Liver OUT --channel 0=pre --channel 1=arterial --label 2=hcc`
    """
    from mtinet.workflows.imports.nnunet import import_nnunet as run

    with progress("Reading") as advance:
        outcome = run(
            src,
            out,
            channels=channel or (),
            label_names=label or (),
            labels=labels,
            options=_options(copy, workers, advance),
        )
    show_import(outcome, json_)


@import_app.command("lld-mmri")
def lld_mmri(
    src: Annotated[
        Path, typer.Argument(help="Folder with images and labels, classification_dataset, or MedSAM2's.")
    ],
    out: NewCohort,
    masks: Annotated[
        Path | None, typer.Option(help="labels folder of the MedSAM2 release: its masks replace boxes.")
    ] = None,
    boxes: Annotated[
        bool, typer.Option("--boxes/--no-boxes", help="Where there is no mask, fill the boxes as a weak one.")
    ] = True,
    lists: Annotated[
        Path | None, typer.Option(help="Folder with train_fold1.txt, ...: the official divisions.")
    ] = None,
    copy: Copy = False,
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """LLD-MMRI, in any of its three layouts (docs/formats.md); its licence forbids commercial use.

    `mtinet import lld-mmri LLD-MMRI/data OUT --masks LLD-MMRI-MedSAM2/labels`
    """
    from mtinet.workflows.imports.lld_mmri import import_lld_mmri as run

    with progress("Reading") as advance:
        outcome = run(
            src, out, masks=masks, boxes=boxes, lists=lists, options=_options(copy, workers, advance)
        )
    show_import(outcome, json_)


@import_app.command("atlas")
def atlas(
    src: Annotated[Path, typer.Argument(help="Folder train of ATLAS, with imagesTr.")],
    out: NewCohort,
    copy: Copy = False,
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """ATLAS 2023: one phase a patient, liver and HCC.

    `mtinet import atlas atlas-train-dataset-1.0.1 OUT`
    """
    from mtinet.workflows.imports.atlas import import_atlas as run

    with progress("Reading") as advance:
        outcome = run(src, out, options=_options(copy, workers, advance))
    show_import(outcome, json_)


@import_app.command("liverhccseg")
def liverhccseg(
    src: Annotated[Path, typer.Argument(help="Folder nifti_and_segms.")],
    out: NewCohort,
    registered: Annotated[
        bool,
        typer.Option(
            "--registered/--acquired", help="Phases registered by the publishers, or as they were acquired."
        ),
    ] = True,
    copy: Copy = False,
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """LiverHccSeg: four phases, liver and HCC by two radiologists.

    `mtinet import liverhccseg nifti_and_segms OUT`
    """
    from mtinet.workflows.imports.liverhccseg import import_liverhccseg as run

    with progress("Reading") as advance:
        outcome = run(src, out, registered=registered, options=_options(copy, workers, advance))
    show_import(outcome, json_)


@import_app.command("merge")
def merge(
    cohorts: Annotated[list[Path], typer.Argument(help="Cohort folders, then the folder to write.")],
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME=CLASS", help="One name for a class. Repeatable."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the merged cohort.")] = "",
    copy: Copy = False,
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """Several cohorts as one; sites, patients and studies of one name are kept apart.

    `mtinet import merge LLD ATLAS OURS OUT --class HCC=hcc`
    """
    from mtinet.workflows.imports.merge import merge_cohorts as run

    with progress("Reading") as advance:
        outcome = run(
            cohorts[:-1],
            cohorts[-1],
            classes=class_ or (),
            name=name,
            options=_options(copy, workers, advance),
        )
    show_import(outcome, json_)


def show_import(outcome: ImportOutcome, as_json: bool) -> None:
    """Print what an import made: the inclusion flow, the findings, and what to do next."""
    from mtinet.workflows.imports.inclusion import inclusion_text

    cohort = outcome.cohort
    show(
        {
            "cohort": str(outcome.folder),
            "studies": len(cohort),
            "classes": list(cohort.classes),
            "phases": list(cohort.phases),
            "inclusion": [vars(row) for row in outcome.inclusion],
            "findings": [f.to_dict() for f in outcome.findings],
        },
        f"{inclusion_text(outcome.inclusion)}\n{findings_text(outcome.findings)}\n"
        f"written: {outcome.folder} (next: mtinet check {outcome.folder})",
        as_json,
    )
    exit_for(outcome.findings, True)


def _options(copy: bool, workers: int | None, advance: Any) -> ImportOptions:
    from mtinet.workflows.imports.writing import ImportOptions

    return ImportOptions(copy=copy, workers=workers, on_progress=advance)
