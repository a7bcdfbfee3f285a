"""The command that measures what networks and whole studies cost on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtinet import config as settings
from mtinet.cli.base import Json, Preset, Set, app, names, progress, show
from mtinet.errors import UserError


@app.command()
def bench(
    out: Annotated[
        Path | None, typer.Argument(help="Folder for tables and manifests. Default: nothing is kept.")
    ] = None,
    study: Annotated[
        bool,
        typer.Option(
            "--study",
            help="Measure whole studies instead: `reference`, from NIfTI files to all files, with every backend.",
        ),
    ] = False,
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

    With --study a virtual patient of 192x192x48 voxels in four phases is predicted from files to files, in a
    process of its own for each backend and repeat, six times over: the first study is cold (start, imports,
    model), the later ones warm.  The table has the seconds of reading, preparing, network, lesions and writing,
    the network against torch and against DynUNet by the same backend, and the peak memory.

    `mtinet bench out --models mtinet,dynunet --set sampling.patch_size=96,96 --set training.batch_size=8`

    `mtinet bench out --study`
    """
    if study:
        if models or steps or set_ or (preset, simulation) != ("small", "demo"):
            raise UserError(
                "--study measures the reference model; --models, --steps, --preset, --simulation and --set belong "
                "to the benchmark of networks: leave them or --study out"
            )
        _bench_study(out, repeats, json_)
        return
    from mtinet.workflows.bench import BenchOptions
    from mtinet.workflows.bench import bench as run
    from mtinet.workflows.bench_cases import MODELS

    resolved = settings.resolve(preset, None, set_ or [])
    options = BenchOptions(names(models) or MODELS, repeats, steps, simulation)
    with progress("Measuring") as advance:
        measured = run(out, resolved, options, advance)
    written = "" if out is None else f"\nwritten: {out / 'bench.csv'}"
    show(measured.to_dict(), measured.text + written, json_)


def _bench_study(out: Path | None, repeats: int, json_: bool) -> None:
    from mtinet.workflows.bench_study import STUDY_TABLE, StudyOptions, bench_study

    with progress("Measuring") as advance:
        measured = bench_study(out, StudyOptions(repeats=repeats), advance)
    written = "" if out is None else f"\nwritten: {out / STUDY_TABLE}"
    show(measured.to_dict(), measured.text + written, json_)
