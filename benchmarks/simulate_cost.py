"""Cost of virtual patients: ``python benchmarks/simulate_cost.py``.

Times ``simulate`` of the presets, against the number of patients and against the matrix, with one and two
processes, and takes the peak memory of each.  Seconds depend on the machine, so every run also times a peer
in the same process: writing the patients' own images again with nibabel, which is the least that a simulator
that writes NIfTI can do; ``times_writing`` is the ratio.  The images of one and of two processes are compared
by SHA-256.  Writes ``simulate-cost.csv``, ``simulate-cost-manifest.json`` and ``images/simulate-cost.png``
into ``docs/`` and fills the table of ``docs/virtual-patients.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from page import DOCS, VIRTUAL_PATIENTS, markdown, put_into

from mtinet import files, provenance
from mtinet.cohort import Cohort
from mtinet.config import resolve_simulation
from mtinet.volume import Volume, read_nifti
from mtinet.workflows.simulate import simulate

COMMAND = "python benchmarks/simulate_cost.py"
SUBJECTS = (8, 16, 32, 64)
SPACINGS = ((5.0, 5.0, 10.0), (3.5, 3.5, 7.0), (2.5, 2.5, 5.0), (2.0, 2.0, 4.0))
PER_MATRIX = 8
PRESETS = ("demo", "paper")
PEER_STUDIES = 4


Job = dict[str, object]


def measure(job: Job) -> dict[str, object]:
    """Simulate once in a process of its own, so that its peak memory is that of this run alone."""
    call = [sys.executable, __file__, "--one", json.dumps(job)]
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"simulate failed with {job}:\n{done.stderr}")
    row = dict(json.loads(done.stdout))
    print(
        f"{row['subjects']:4d} patients, {row['matrix']}, {row['workers']} processes: {row['seconds']:.1f} s",
        flush=True,
    )
    return row


def sized(subjects: int, spacing_mm: tuple[float, ...], workers: int) -> Job:
    """Patients of site A, none of whom lacks a phase."""
    options = {"options": {"subjects": subjects, "missing_phase_rate": 0.0}, "sites": ["A"]}
    return {"preset": "demo", "workers": workers, "spacing_mm": spacing_mm, **options}


def one(preset: str, workers: int, **chosen: Any) -> dict[str, object]:
    """Simulate a cohort, then time the peer on its images."""
    settings = resolve_simulation(preset, **chosen)
    subjects = settings.subjects
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        cohort = simulate(Path(place) / "cohort", settings, workers=workers)
        seconds = time.perf_counter() - start
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own, child = (usage.ru_maxrss / 1024.0 for usage in used)
        writing = subjects * seconds_to_write(cohort, Path(place) / "again")
        digest = images_hash(cohort)
    processes = workers if workers > 1 else 0
    return {
        "subjects": subjects,
        "matrix": " ".join("x".join(map(str, site.matrix)) for site in settings.sites),
        "workers": workers,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(sum(usage.ru_utime + usage.ru_stime for usage in used), 2),
        "seconds_per_patient": round(seconds / subjects, 3),
        "times_writing": round(seconds / writing, 1),
        # processes do not peak together: their sum is the most that can have been used at once
        "peak_mb": round(own + processes * child),
        "sha256": digest,
    }


def seconds_to_write(cohort: Cohort, place: Path) -> float:
    """Seconds of one process to write the images of one patient."""
    studies = cohort.studies[:PEER_STUDIES]
    volumes: list[Volume] = [read_nifti(path) for study in studies for path in study.images.values()]
    start = time.perf_counter()
    for number, volume in enumerate(volumes):
        Volume(volume.array.astype("int16"), volume.affine).write_nifti(place / f"{number}.nii.gz")
    return (time.perf_counter() - start) / len(studies)


def images_hash(cohort: Cohort) -> str:
    """Hash of every voxel of every image and mask of a cohort."""
    digest = hashlib.sha256()
    for study in cohort.studies:
        for name, path in sorted(study.paths().items()):
            digest.update(f"{study.study_id} {name}".encode())
            digest.update(read_nifti(path).array.tobytes())
    return digest.hexdigest()


def main() -> None:
    """Measure, check, write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write")
    parser.add_argument("--quick", action="store_true", help="few patients with large voxels: does it run?")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(**json.loads(options.one))))
        return
    if options.quick and options.docs == DOCS:
        parser.error("--quick is not for the documentation; name another folder by --docs")
    subjects, spacings = ((2, 4), SPACINGS[:2]) if options.quick else (SUBJECTS, SPACINGS)
    usual, each = (spacings[-1], 2) if options.quick else (SPACINGS[2], PER_MATRIX)
    runs = [("patients", sized(n, usual, workers)) for n in subjects for workers in (1, 2)]
    runs += [("matrix", sized(each, spacing, workers)) for spacing in spacings for workers in (1, 2)]
    if not options.quick:
        runs += [(preset, {"preset": preset, "workers": 2}) for preset in PRESETS]
    table = pd.DataFrame([{"against": what, **measure(job)} for what, job in runs])
    differing = [key for key, rows in table.groupby(["subjects", "matrix"]) if rows["sha256"].nunique() > 1]
    files.write_text(options.docs / "simulate-cost.csv", table.to_csv(index=False))
    files.write_json(
        options.docs / "simulate-cost-manifest.json", provenance.manifest(command=COMMAND, seeds=[0])
    )
    draw(table, options.docs / "images" / "simulate-cost.png")
    print(table.drop(columns="sha256").to_string(index=False))
    if options.docs == DOCS:
        put_into(VIRTUAL_PATIENTS, "cost", page_table(table))
    if differing:
        raise SystemExit(f"one and two processes differ: {differing}")
    print("one and two processes: the same voxels")


def page_table(table: pd.DataFrame) -> str:
    """The table of the page: the presets, and the largest of each series."""
    shown = table[table["against"].isin(PRESETS) | (table["subjects"] == max(SUBJECTS))]
    columns = {
        "against": "preset",
        "subjects": "patients",
        "matrix": "matrix",
        "workers": "processes",
        "seconds": "seconds",
        "seconds_per_patient": "seconds a patient",
        "times_writing": "times writing the files",
        "peak_mb": "peak memory (MB)",
    }
    rows = shown[list(columns)].replace({"against": {"patients": "site A"}})
    return markdown(list(columns.values()), rows.astype(object).to_numpy().tolist())


def draw(table: pd.DataFrame, path: Path) -> None:
    """Seconds and memory against patients, seconds a patient against voxels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    by_number, by_matrix = (table[table["against"] == what].copy() for what in ("patients", "matrix"))
    by_matrix["voxels"] = [pd.Series(m.split("x")).astype(int).prod() / 1e3 for m in by_matrix["matrix"]]
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    drawn = (
        (by_number, "subjects", "seconds", "patients", "seconds"),
        (by_number, "subjects", "peak_mb", "patients", "peak memory, MB"),
        (by_matrix, "voxels", "seconds_per_patient", "thousand voxels an image", "seconds a patient"),
    )
    for panel, (rows, x, y, along, upward) in zip(panels, drawn, strict=True):
        for workers, line in rows.groupby("workers"):
            panel.plot(line[x], line[y], "o-", label=f"{workers} process{'es' if workers > 1 else ''}")
        panel.set(xlabel=along, ylabel=upward)
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
    panels[0].legend(frameon=False)
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
