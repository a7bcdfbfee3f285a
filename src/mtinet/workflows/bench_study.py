"""``mtinet bench --study``: what a whole study costs here, from its NIfTI files to all files, with every backend.

A virtual patient is written to disk.  Every measurement is a process of its own that predicts the patient
several times, as so many studies of one call: the first study is cold (the process starts, imports, loads the
model), the later ones are warm.  The processes of the backends take turns, so that a machine that slows down
slows all of them.  The seconds of the stages are those that ``mtinet predict`` itself puts into its audit.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mtinet import files, provenance
from mtinet.config import SITES, resolve_simulation
from mtinet.errors import UserError
from mtinet.inference.backends import BACKENDS
from mtinet.inference.graphs import write_graphs
from mtinet.inference.predictor import Predictor
from mtinet.workflows.bench_machine import busy_warnings, processor
from mtinet.workflows.bench_process import STAGES, Job, predict_in_turn, rival_of
from mtinet.workflows.bench_table import quartiles, rounded, spread
from mtinet.workflows.pool import OnProgress, apart
from mtinet.workflows.predictions.formats import DICOM_FORMATS, FORMATS, Format, read_formats
from mtinet.workflows.simulate import simulate

FIELD_OF_VIEW_MM = (384.0, 384.0, 120.0)

STUDY_TABLE, STUDY_REPEATS, STUDY_MANIFEST = "study.csv", "study-repeats.csv", "study-manifest.json"


@dataclass(frozen=True)
class StudyOptions:
    """What is measured, and how often.

    Attributes
    ----------
    model : Path
        Run folder, or the name of a model that comes with the package.
    backends : sequence of str
        Those whose package is not installed are left out, which is said.
    matrix : tuple of int
        Voxels of the study along x, y, z.
    studies : int
        Studies that a process predicts.
    repeats : int
        Processes of each backend.
    """

    model: Path = Path("reference")
    backends: Sequence[str] = BACKENDS
    matrix: tuple[int, int, int] = (192, 192, 48)
    studies: int = 6
    repeats: int = 7


@dataclass(frozen=True)
class StudyBench:
    """What was measured.

    Attributes
    ----------
    table : DataFrame
        A row a backend; seconds are medians over repeats, ``_low`` and ``_high`` their quartiles.
    repeats : DataFrame
        Every single measurement: a row a backend, repeat and study.
    manifest : dict
    """

    table: pd.DataFrame
    repeats: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def text(self) -> str:
        """The table for a terminal, and under it what its columns mean."""
        facts = self.manifest["study"]
        return "\n".join(
            [
                readable(self.table).to_string(index=False),
                "",
                f"seconds for a study of {facts['matrix']} voxels in {facts['phases']} phases, from its files to "
                f"{', '.join(facts['formats'])}; medians of {facts['repeats']} processes [quartiles]",
                f"cold: the first study of a process, of which start is the time until it is read; warm and its "
                f"stages: median of the {facts['studies'] - 1} later ones",
                "vs torch: the network's seconds, in the same repeat; vs dynunet: against DynUNet by the same "
                f"backend on the same study; {facts['threads']} threads, {facts['lesions']} lesions found",
                *(f"warning: {line}" for line in facts["warnings"]),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Rows and manifest in JSON's types."""
        return {"rows": files.plain(self.table.to_dict("records")), "manifest": files.plain(self.manifest)}


def bench_study(
    out: Path | None, options: StudyOptions | None = None, on_progress: OnProgress | None = None
) -> StudyBench:
    """Measure what a whole study costs.

    Parameters
    ----------
    out : Path or None
        Folder for ``study.csv``, ``study-repeats.csv`` and ``study-manifest.json``; None keeps nothing.
    options : StudyOptions, optional
    on_progress : callable, optional
        Called with the number of processes that are done and their total.

    Raises
    ------
    UserError
        An unusable folder, a backend that cannot be used, or memory ran out.
    """
    options = options or StudyOptions()
    if options.studies < 2:
        raise UserError(f"studies={options.studies}: the first one is cold, so give at least two")
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the benchmark")
    warnings = busy_warnings()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mtinet-bench-")))
        source = _source(place, options)
        backends = _usable(options.backends, warnings)
        formats = _formats(warnings)
        rival = _graphs(place, options.model, backends)
        rows = []
        for repeat in range(options.repeats):
            # another order in every repeat: who follows whom must not matter
            turn = repeat % len(backends)
            for backend in [*backends[turn:], *backends[:turn]]:
                folder = place / "out"
                job = Job(
                    options.model,
                    source,
                    folder,
                    backend,
                    formats,
                    rival,
                    torch.get_num_threads(),
                    time.time(),
                )
                shared = {"backend": backend, "repeat": repeat}
                measured = apart(
                    predict_in_turn, job, "a process of the benchmark", "guard it, or take a smaller study"
                )
                rows += [{**shared, "study": n, **found} for n, found in enumerate(measured)]
                shutil.rmtree(folder)
                if on_progress is not None:
                    on_progress(len(rows) // options.studies, options.repeats * len(backends))
    repeats = pd.DataFrame(rows)
    facts = {
        "model": str(options.model.name),
        "matrix": "x".join(map(str, options.matrix)),
        "phases": len(list(Predictor.load(options.model, "cpu").config.phases)),
        "lesions": int(repeats["found"].median()),
        "formats": formats,
        "studies": options.studies,
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "warnings": warnings,
    }
    result = StudyBench(summarise_studies(repeats), repeats, provenance.manifest(study=facts))
    if out is not None:
        files.write_text(out / STUDY_TABLE, result.table.to_csv(index=False))
        files.write_text(out / STUDY_REPEATS, repeats.to_csv(index=False))
        files.write_json(out / STUDY_MANIFEST, result.manifest)
    return result


# ---------------------------------------------------------------------- what is predicted
def _source(place: Path, options: StudyOptions) -> Path:
    """The folder of a virtual patient's images, as often as a process predicts them."""
    settings = resolve_simulation(
        "multicentre", None, (), options={"subjects": 1, "missing_phase_rate": 0.0, "no_lesion_fraction": 0.0}
    )
    spacing = tuple(length / count for length, count in zip(FIELD_OF_VIEW_MM, options.matrix, strict=True))
    site = SITES["A"].model_copy(update={"spacing_mm": spacing, "matrix": options.matrix})
    (study,) = simulate(place / "cohort", settings.model_copy(update={"sites": (site,)}), workers=1).studies
    for number in range(options.studies):
        folder = place / "source" / f"study-{number}"
        folder.mkdir(parents=True)
        for phase, path in study.images.items():
            shutil.copy(path, folder / f"{phase}.nii.gz")
    return place / "source"


def _usable(backends: Sequence[str], warnings: list[str]) -> list[str]:
    """The backends that are installed; the others are warned of."""
    found = [name for name in backends if importlib.util.find_spec(name) is not None]
    warnings += [
        f"{name} is not installed and left out: pip install 'mtinet[onnx,openvino]'"
        for name in backends
        if name not in found
    ]
    if not found:
        raise UserError(f"none of the backends {', '.join(backends)} is installed")
    return found


def _formats(warnings: list[str]) -> tuple[Format, ...]:
    """Everything that can be written of a NIfTI study."""
    wanted = tuple(name for name in FORMATS if name not in DICOM_FORMATS)
    try:
        return read_formats(wanted)
    except UserError as error:
        warnings.append(str(error))
        return tuple(name for name in wanted if name != "pdf")


def _graphs(place: Path, model: Path, backends: Sequence[str]) -> Path:
    """Graphs of both networks, made before anything is measured; the folder of the rival's."""
    folder = place / "rival"
    for backend in backends:
        if backend != "torch":
            predictor = Predictor.load(model, "cpu", backend)
            if not folder.is_dir():
                write_graphs(rival_of(predictor), folder)
    return folder


# ---------------------------------------------------------------------- the table
def summarise_studies(repeats: pd.DataFrame) -> pd.DataFrame:
    """One row a backend.

    Parameters
    ----------
    repeats : DataFrame
        A row a backend, repeat and study (:func:`~mtinet.workflows.bench_process.predict_in_turn`); study 0 is
        the cold one.
    """
    numbers = [*STAGES, "whole"]
    cold = repeats[repeats["study"] == 0].set_index(["backend", "repeat"])
    last = repeats[repeats["study"] == repeats["study"].max()].set_index(["backend", "repeat"])
    warm = repeats[repeats["study"] > 0].groupby(["backend", "repeat"])[numbers].median()
    started = cold["whole"] - cold[list(STAGES)].sum(axis=1)
    rows = []
    for backend in repeats["backend"].unique():
        own, once = warm.loc[backend], cold.loc[backend]
        row: dict[str, Any] = {"backend": backend}
        row |= quartiles("cold_s", once["whole"]) | quartiles("start_s", started.loc[backend])
        row |= quartiles("warm_s", own["whole"])
        for name in STAGES:
            row |= quartiles(f"{name}_s", own[name])
        peer = warm.loc["torch"] if "torch" in warm.index.get_level_values(0) else own * float("nan")
        row |= quartiles("network_vs_torch", own["network"] / peer["network"])
        row |= quartiles("network_vs_dynunet", once["own_network"] / once["rival_network"])
        row |= quartiles("first_peak_mb", once["peak_mb"])
        row |= quartiles("last_peak_mb", last.loc[backend]["peak_mb"])
        rows.append(row)
    return pd.DataFrame(rows)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with units in its heads and rounded values, for a terminal or a page."""
    columns = {"backend": list(table["backend"])}
    for name, head in (("cold", "cold (s)"), ("start", "start (s)"), ("warm", "warm (s)")):
        columns[head] = spread(table, f"{name}_s", 2)
    columns |= {f"{name} (s)": spread(table, f"{name}_s", 2) for name in STAGES}
    columns["network vs torch"] = spread(table, "network_vs_torch", 2)
    columns["network vs dynunet"] = spread(table, "network_vs_dynunet", 2)
    columns["peak, 1 study (MB)"] = rounded(table, "first_peak_mb", ".0f")
    columns["peak, all (MB)"] = rounded(table, "last_peak_mb", ".0f")
    return pd.DataFrame(columns)
