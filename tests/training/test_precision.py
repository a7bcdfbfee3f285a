"""Where a training computes in bfloat16, and what is said where that is slow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mtinet.cohort import Cohort
from mtinet.config import resolve
from mtinet.results import Finding
from mtinet.training import precision
from mtinet.training.precision import mixed_precision, native_bfloat16, precision_findings
from mtinet.workflows.train import TrainOptions, train

ASKED = resolve("tiny", assignments=["training.precision=bf16-mixed", "training.steps=4"])


@pytest.mark.parametrize("native", [False, True])
def test_bfloat16_is_left_alone_on_a_device_that_only_emulates_it(monkeypatch, native: bool):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native
    )
    cuda = torch.device("cuda")
    assert native_bfloat16(cuda) is native
    assert mixed_precision(resolve("tiny"), cuda) is native
    assert not mixed_precision(resolve("tiny"), torch.device("cpu"))
    assert bool(precision_findings(ASKED, cuda)) is not native


def test_the_processor_is_known_by_its_kernels():
    """PyTorch's library has bfloat16 for AVX-512, and none for what came before it on x86."""
    if "AVX512" in torch.backends.cpu.get_cpu_capability():
        assert native_bfloat16(torch.device("cpu"))
    elif torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT"):
        assert not native_bfloat16(torch.device("cpu"))


def test_slow_bfloat16_is_said_before_the_first_step_and_once(
    toy_cohort: Cohort, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(precision, "native_bfloat16", lambda device: False)
    said: list[Finding] = []
    reached: list[int] = []

    def on_step(step: int, _: int, __: object) -> None:
        reached.append(step)
        if step == 2:
            raise KeyboardInterrupt

    options = TrainOptions(folds=3, workers=1)
    arguments = (toy_cohort.folder, tmp_path / "run", ASKED)
    with pytest.raises(KeyboardInterrupt):
        train(*arguments, options, on_step=on_step, on_finding=lambda f: said.append(f) or reached.append(0))
    assert reached[0] == 0
    assert [f.id for f in said][:1] == ["bfloat16-emulated"]
    run = train(*arguments, replace(options, resume=True), on_finding=said.append)
    assert [f.id for f in said].count("bfloat16-emulated") == 1
    assert [f.id for f in run.findings()] == [f.id for f in said]


@pytest.mark.slow
def test_what_shows_while_a_network_trains_is_told_at_that_step(toy_cohort: Cohort, tmp_path: Path):
    config = resolve("tiny", assignments=["training.steps=40", "training.diagnose_every=2", "mdief.tau=1e6"])
    steps: list[int] = []
    told: list[tuple[int, Finding]] = []
    run = train(
        toy_cohort.folder,
        tmp_path / "run",
        config,
        TrainOptions(folds=3, workers=1),
        on_step=lambda step, _, __: steps.append(step),
        on_finding=lambda finding: told.append((len(steps) + 1, finding)),
    )
    assert "fusion-inert" in [finding.id for _, finding in told]
    assert all(finding.step == step for step, finding in told)
    assert [finding for _, finding in told] == run.findings()
