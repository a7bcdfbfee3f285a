"""``mtinet bench``: what MTI-Net and its rivals cost on this machine, in one table from one run.

Every network trains with the real trainer (objective, discriminator, data path) and predicts with the real
predictor.  The repeats are interleaved: in each of them every network trains for a block of steps and
predicts a study, so that a machine that slows down slows all of them, and ratios are taken within repeats.
Memory is measured in processes of their own, parts of a step in steps of their own (their hooks cost time).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mtinet import files, provenance
from mtinet.config import Config
from mtinet.errors import UserError
from mtinet.workflows.bench_cases import (
    MODELS,
    Case,
    Patients,
    cases,
    same_width_basic_unet,
    virtual_patients,
)
from mtinet.workflows.bench_machine import busy_warnings, processor
from mtinet.workflows.bench_measures import STAGES, Contender, MemoryJob, Stage, peak_memory_mb
from mtinet.workflows.bench_table import readable, summarise
from mtinet.workflows.pool import OnProgress, apart

WARM_UP_STEPS = 2
SHARE_BLOCKS = 2
"""Blocks of steps over which the shares of parts are taken."""


@dataclass(frozen=True)
class BenchOptions:
    """How to measure, apart from what is measured.

    Attributes
    ----------
    models : sequence of str
        Some of :data:`~mtinet.workflows.bench_cases.MODELS`.
    repeats : int
    steps : int or None
        Training steps of a block; None = ``tdd.r1_every``, so that each block holds one gradient penalty.
    simulation : str
        Simulation preset of the patients.
    subjects : int
        Number of patients.
    workers : int or None
        Processes that simulate and prepare.
    """

    models: Sequence[str] = MODELS
    repeats: int = 7
    steps: int | None = None
    simulation: str = "demo"
    subjects: int = 4
    workers: int | None = None


@dataclass(frozen=True)
class Bench:
    """What was measured.

    Attributes
    ----------
    table : DataFrame
        A row a device and network; seconds are medians over repeats, ``_low`` and ``_high`` their quartiles.
    repeats : DataFrame
        Every single measurement: ``device, model, repeat, stage, seconds, loading_s``.
    manifest : dict
        Versions, machine, settings, how long a block is.
    """

    table: pd.DataFrame
    repeats: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def text(self) -> str:
        """The table for a terminal, and under it what its columns mean."""
        facts = self.manifest["bench"]
        return "\n".join(
            [
                readable(self.table).to_string(index=False),
                "",
                f"medians of {facts['repeats']} interleaved repeats [quartiles]; a repeat trains "
                f"{facts['steps']} steps and predicts one study; ratios are medians of ratios within repeats",
                f"vs dynunet: {facts['dynunet'] or 'not measured'}; "
                f"vs basic: {facts['basic_unet']}, as wide at first as MTI-Net; "
                f"patch {facts['patch']}, batch {facts['batch']}, {facts['threads']} threads",
                *(f"warning: {line}" for line in facts["warnings"]),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Rows and manifest in JSON's types."""
        return {"rows": files.plain(self.table.to_dict("records")), "manifest": files.plain(self.manifest)}


def bench(
    out: Path | None,
    config: Config,
    options: BenchOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Bench:
    """Measure what networks cost, all in one run.

    Parameters
    ----------
    out : Path or None
        Folder for ``bench.csv``, ``repeats.csv``, ``manifest.json`` and the patients; None keeps nothing.
    config : Config
        Patch, batch, widths and everything else; each network changes only which network it is.
    options : BenchOptions, optional
    on_progress : callable, optional
        Called with the number of measurements done and their total.

    Returns
    -------
    Bench

    Raises
    ------
    UserError
        An unknown network, an unusable folder, or memory ran out.
    """
    options = options or BenchOptions()
    compared = cases(config, options.models)
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a folder for the benchmark")
    warnings = busy_warnings()
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    progress = _Progress(on_progress, len(devices) * len(compared) * (options.repeats + 4))
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mtinet-bench-")))
        patients = virtual_patients(
            scratch / "patients" if out is None else out / "patients",
            config,
            simulation=options.simulation,
            subjects=options.subjects,
            workers=options.workers,
        )
        plan = _Plan(compared, patients, scratch, options.steps or config.tdd.r1_every, options.repeats)
        found = [_measure(plan, device, progress) for device in devices]
        manifest = _manifest(config, plan, warnings)
    repeats = pd.concat([frame for frame, _ in found], ignore_index=True)
    facts = [row for _, rows in found for row in rows]
    table = summarise(repeats, facts, _dynunet(compared), same_width_basic_unet(config))
    result = Bench(table, repeats, manifest)
    if out is not None:
        files.write_text(out / "bench.csv", table.to_csv(index=False))
        files.write_text(out / "repeats.csv", repeats.to_csv(index=False))
        files.write_json(out / "manifest.json", result.manifest)
    return result


# ---------------------------------------------------------------------- measuring
@dataclass(frozen=True)
class _Plan:
    cases: list[Case]
    patients: Patients
    place: Path
    steps: int
    repeats: int

    @property
    def most_steps(self) -> int:
        """Training steps that one network makes, and its batch that is only counted."""
        blocks = self.repeats + SHARE_BLOCKS
        return WARM_UP_STEPS + blocks * self.steps + 2 * 5 + 1


class _Progress:
    def __init__(self, tell: OnProgress | None, total: int) -> None:
        self.tell, self.total, self.done = tell, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self.tell is not None:
            self.tell(self.done, self.total)


def _measure(
    plan: _Plan, device: str, progress: Callable[[], None]
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """All repeats on one device, and a row of everything else for each network."""
    # first, while this process is small: memory is shared with nobody then
    memory = {}
    for case in plan.cases:
        for stage in STAGES:
            memory[case.name, stage] = _memory(plan, case, stage, device)
            progress()
    contenders = []
    for case in plan.cases:
        contender = Contender(case, plan.patients, plan.place / "runs", device, plan.most_steps)
        contender.train(WARM_UP_STEPS)
        contender.infer()
        contenders.append(contender)
        progress()
    records = []
    for repeat in range(plan.repeats):
        # another order in every repeat: who follows whom must not matter
        turn = repeat % len(contenders)
        for contender in [*contenders[turn:], *contenders[:turn]]:
            shared = {"device": device, "model": contender.case.name, "repeat": repeat}
            block = contender.train(plan.steps)
            records.append(
                {**shared, "stage": "train", "seconds": block.step_s, "loading_s": block.loading_s}
            )
            records.append({**shared, "stage": "infer", "seconds": contender.infer(), "loading_s": np.nan})
            progress()
    rows = []
    for contender in contenders:
        rows.append(
            _facts(contender, plan) | {f"{s}_peak_mb": memory[contender.case.name, s] for s in STAGES}
        )
        progress()
    return pd.DataFrame(records), rows


def _facts(contender: Contender, plan: _Plan) -> dict[str, Any]:
    config = contender.case.config
    shares = contender.shares(SHARE_BLOCKS * plan.steps)
    # a part that a network does not have takes no share, which is not a share of zero
    fuses = config.model == "mtinet" and config.fusion == "mdief"
    parameters, discriminator = contender.parameters()
    return {
        "device": contender.device,
        "model": contender.case.name,
        "width": contender.case.width,
        "parameters": parameters,
        "discriminator_parameters": discriminator,
        "multiply_adds": contender.multiply_adds(),
        "mdief_share": shares["mdief"] if fuses else np.nan,
        "discriminator_share": shares["discriminator"] if discriminator else np.nan,
        "looks_share": contender.looks_share(config.training.diagnose_every),
    }


def _memory(plan: _Plan, case: Case, stage: Stage, device: str) -> float:
    """Peak memory of a stage in a fresh process."""
    job = MemoryJob(
        case,
        plan.patients.training,
        plan.patients.marked,
        plan.patients.classes,
        plan.place / f"{case.name}-{device}-{stage}",
        device,
        stage,
        plan.steps,
        torch.get_num_threads(),
    )
    what = f"the process that measured the memory of {case.name}"
    return apart(
        peak_memory_mb, job, what, "guard it, lower training.batch_size, or leave the network out (--models)"
    )


# ---------------------------------------------------------------------- where it was measured
def _manifest(config: Config, plan: _Plan, warnings: list[str]) -> dict[str, Any]:
    study = plan.patients.marked
    assert study.mask is not None, "the study to predict has lesions"
    facts = {
        "repeats": plan.repeats,
        "steps": plan.steps,
        "patch": "x".join(map(str, config.sampling.patch_size)),
        "batch": config.training.batch_size,
        "threads": torch.get_num_threads(),
        "dynunet": _dynunet(plan.cases),
        "basic_unet": same_width_basic_unet(config),
        "processor": processor(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "",
        "warnings": warnings,
        "study": {
            "shape": list(study.shape),
            "phases": len(study.phases),
            "lesions": len(study.lesions),
            "slices_with_lesion": int(np.asarray(study.mask).any((1, 2)).sum()),
        },
    }
    return provenance.manifest(
        bench=facts,
        settings=config.model_dump(mode="json"),
        cases={case.name: case.config.model_dump(mode="json") for case in plan.cases},
    )


def _dynunet(compared: Sequence[Case]) -> str:
    return next((case.name for case in compared if case.config.model == "dynunet"), "")
