"""One process of ``mtinet bench --study``: it predicts a study over and over, as the command does.

What this module imports at its head is part of what a first study costs, so it is only what ``mtinet predict`` imports.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from mtinet.cohort import Study
from mtinet.config import resolve_settings
from mtinet.inference.backends import passes_in
from mtinet.inference.forward import read_lesions, survey
from mtinet.inference.passes import TorchPasses
from mtinet.inference.predictor import Predictor
from mtinet.model.build import build_network
from mtinet.model.network import MultiTaskNetwork
from mtinet.stages import timed
from mtinet.workflows.peak_memory import peak_bytes
from mtinet.workflows.predict import PredictOptions, predict
from mtinet.workflows.predictions.audit import AUDIT_FILE
from mtinet.workflows.predictions.formats import Format

STAGES = ("read", "prepare", "network", "lesions", "write")
"""Stages of a prediction, in the order in which they come."""

TURNS = 2
"""Times that both networks look at the study, after one that does not count."""


@dataclass(frozen=True)
class Job:
    """What a process does.

    Attributes
    ----------
    model : Path
        Run folder, or the name of a model that comes with the package.
    source : Path
        Folder of several studies that are the same.
    out : Path
        New folder.
    backend : str
    formats : tuple of str
    rival : Path
        Folder with the graphs of the network that is compared with.
    threads : int
    started : float
        Time at which the process was started, seconds since the epoch.
    """

    model: Path
    source: Path
    out: Path
    backend: str
    formats: tuple[Format, ...]
    rival: Path
    threads: int
    started: float


def predict_in_turn(job: Job) -> list[dict[str, float]]:
    """Predict every study of the source; to be run in a fresh process.

    Returns
    -------
    list of dict
        By study: seconds of each stage, of everything (``whole``: since the end of the study before, at the
        first since the process was started), the peak of the process's memory so far (``peak_mb``), lesions ``found``;
        and of the networks alone (``own_network``, ``rival_network``), which are measured once.
    """
    torch.set_num_threads(job.threads)
    ends, peaks = [job.started], []

    def note(*_: int) -> None:
        ends.append(time.time())
        peaks.append(peak_bytes() / 1e6)

    options = PredictOptions(formats=job.formats, backend=job.backend)
    predict(job.model, job.source, job.out, options, on_progress=note)
    lines = [json.loads(line) for line in (job.out / AUDIT_FILE).read_text(encoding="utf-8").splitlines()]
    failed = [line for line in lines if line["outcome"] != "predicted"]
    if failed:
        raise RuntimeError(f"the study of the benchmark could not be predicted: {failed[0]['reason']}")
    own, rival = _networks(job)
    return [
        {
            **{name: line["seconds"].get(name, 0.0) for name in STAGES},
            "whole": end - begin,
            "peak_mb": peak,
            "found": line["lesions"],
            "own_network": own,
            "rival_network": rival,
        }
        for line, (begin, end), peak in zip(lines, itertools.pairwise(ends), peaks, strict=True)
    ]


def rival_of(predictor: Predictor) -> MultiTaskNetwork:
    """DynUNet as nnU-Net makes it, for the same phases and classes, not trained: always the same weights."""
    config = resolve_settings(predictor.config, None, ["model=dynunet"])
    torch.manual_seed(0)
    return build_network(config, len(predictor.classes)).eval()


def _networks(job: Job) -> tuple[float, float]:
    """Seconds that the model's network and its rival take for one study, with the same lesions to read."""
    predictor = Predictor.load(job.model, "cpu", job.backend)
    first = min(path for path in job.source.iterdir() if path.is_dir())
    prediction = predictor.explain(Study.from_folder(first))
    rival = TorchPasses(rival_of(predictor)) if job.backend == "torch" else passes_in(job.rival, job.backend)
    found: dict[str, list[float]] = {"own": [], "rival": []}
    for _ in range(1 + TURNS):
        for name, passes in (("own", predictor.passes), ("rival", rival)):
            with timed() as seconds:
                survey(passes, prediction.study, predictor.config)
                read_lesions(passes, prediction.study, prediction.labels, predictor.config)
            found[name].append(seconds["network"])
    own, other = (statistics.median(values[1:]) for values in found.values())
    return own, other
