"""Cost of preparing and predicting many studies: ``python benchmarks/study_cost.py OUT``.

Virtual patients of the preset ``paper`` (238 of 128x128x24) are simulated into OUT once.  Then the first 30,
119 and all of them are prepared without registration into a fresh cache, with one and two processes, and
predicted by a network of the preset ``small``, trained for 300 steps so that it finds lesions rather than
hundreds of specks; each in a process of its own, so that its peak memory is that of this job alone.  Seconds depend on
the machine, so the same process also times a peer: reading the studies' images with nibabel, the least that
must be done; ``times_reading`` is the ratio.  Writes ``study-cost.csv`` and ``study-cost-manifest.json`` into
``docs/`` and the table into ``docs/performance.md``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from page import DOCS, markdown, publish

from mtinet.cohort import Cohort
from mtinet.config import resolve, resolve_simulation
from mtinet.volume import read_nifti
from mtinet.workflows.peak_memory import peak_bytes
from mtinet.workflows.predict import predict
from mtinet.workflows.prepare import prepare
from mtinet.workflows.simulate import simulate
from mtinet.workflows.train import TrainOptions, train

SUBJECTS = (30, 119, 238)
PROCESSES = (1, 2)
PREDICTED = (4, 16, 64)
PEER_STUDIES = 8
STEPS = 300


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job in a process of its own."""
    call = [sys.executable, __file__, "--one", json.dumps(job)]
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"failed with {job}:\n{done.stderr}")
    row = dict(json.loads(done.stdout))
    print(f"{row['what']} {row['studies']}, {row['processes']} processes: {row['seconds']:.1f} s", flush=True)
    return row


def one(what: str, cohort: str, studies: int, processes: int, run: str) -> dict[str, Any]:
    """Prepare or predict the first studies of a cohort, then time the peer on some of them."""
    whole = Cohort.read(Path(cohort))
    ids = [study.study_id for study in whole.studies[:studies]]
    chosen = whole.subset(ids)
    with tempfile.TemporaryDirectory(prefix="mtinet-cost-") as place:
        if what == "predict":  # before the clock starts: the command reads a cohort folder
            chosen.write(Path(place) / "cohort")
        start = time.perf_counter()
        if what == "prepare":
            prepare(chosen, resolve("small"), Path(place) / "cache", workers=processes)
        else:
            predict(Path(run), Path(place) / "cohort", Path(place) / "out")
        seconds = time.perf_counter() - start
    own, workers = peak_bytes() / 1e6, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    start = time.perf_counter()
    for study in chosen.studies[:PEER_STUDIES]:
        for path in study.images.values():
            read_nifti(path)
    reading = (time.perf_counter() - start) / min(studies, PEER_STUDIES) * studies
    return {
        "what": what,
        "studies": studies,
        "processes": processes,
        "seconds": round(seconds, 2),
        "seconds_per_study": round(seconds / studies, 3),
        "times_reading": round(seconds / reading, 2),
        # processes do not peak together: their sum is the most that can have been used at once
        "peak_mb": round(own + (processes * workers if processes > 1 else 0)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=Path("study-cost"))
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write")
    parser.add_argument("--quick", action="store_true", help="few small patients: does it run?")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(one(**json.loads(options.one))))
        return
    if options.quick and options.docs.resolve() == DOCS.resolve():
        parser.error("--quick is not for the documentation; name another folder by --docs")
    settings = resolve_simulation("tiny" if options.quick else "paper", None, [], options={})
    prepared = (2, settings.subjects) if options.quick else SUBJECTS
    predicted = (1, 2) if options.quick else PREDICTED
    cohort = simulate(options.out / "cohort", settings)
    folder, run = options.out / "cohort", options.out / "run"
    steps = 2 if options.quick else STEPS
    config = resolve("small", None, [f"training.steps={steps}", "training.validate_every=0"])
    train(folder, run, config, TrainOptions(fold=None, resume=True))
    common = {"cohort": str(folder), "run": str(run)}
    jobs = [{"what": "prepare", "studies": n, "processes": p, **common} for n in prepared for p in PROCESSES]
    jobs += [{"what": "predict", "studies": n, "processes": 1, **common} for n in predicted]
    table = pd.DataFrame([measure(job) for job in jobs])
    matrix = "x".join(map(str, read_nifti(next(iter(cohort.studies[0].images.values()))).shape))
    print(table.to_string(index=False))
    heads = ["", "studies", "processes", "seconds", "seconds a study", "times reading the images"]
    rows = table.astype(object).to_numpy().tolist()
    text = f"Studies of four phases of {matrix}.\n\n" + markdown([*heads, "peak memory (MB)"], rows)
    command = "python benchmarks/study_cost.py OUT"
    publish(options.docs, "study-cost", table, text, command=command, matrix=matrix)


if __name__ == "__main__":
    main()
