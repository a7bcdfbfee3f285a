"""The loop: exact resume, two processes, failing well."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from mtinet.cohort import Cohort
from mtinet.config import Config, resolve
from mtinet.data.dataset import PatchDataset
from mtinet.model import mdief
from mtinet.runs import Run, RunError
from mtinet.training.loop import Trainer, TrainingError, loader_workers
from mtinet.training.optimization import learning_rate, moving_average
from mtinet.workflows.train import TrainOptions, networks, train

OPTIONS = TrainOptions(folds=3, workers=1)


class Killed(Exception):
    """Stands for the end of the process: nothing after it runs."""


def files_of(run: Run) -> dict[str, bytes]:
    names = ("checkpoints/model.safetensors", "checkpoints/discriminator.safetensors", "metrics.jsonl")
    return {name: (run.path / name).read_bytes() for name in names} | {
        "findings": repr([f for f in run.findings() if f.id != "damaged-checkpoint"]).encode()
    }


def train_until(cohort: Cohort, out: Path, config: Config, stop: int, resume: bool = False) -> None:
    def on_step(step: int, _: int, __: object) -> None:
        if step == stop:
            raise Killed

    with pytest.raises(Killed):
        train(cohort.folder, out, config, TrainOptions(folds=3, workers=1, resume=resume), on_step=on_step)


@pytest.fixture
def config() -> Config:
    return resolve(
        "tiny", assignments=["head.dropout=0.2", "training.steps=14", "training.checkpoint_every=3"]
    )


@pytest.mark.parametrize(
    "changes",
    [
        (),
        pytest.param(("objective.weighting=pcgrad",), marks=pytest.mark.slow),
        pytest.param(("training.workers=1",), marks=pytest.mark.slow),
    ],
)
def test_resume_is_exact(toy_cohort: Cohort, tmp_path: Path, config: Config, changes):
    config = resolve_on(config, changes)
    whole = train(toy_cohort.folder, tmp_path / "whole", config, OPTIONS)
    train_until(toy_cohort, tmp_path / "parts", config, stop=5)
    train_until(toy_cohort, tmp_path / "parts", config, stop=11, resume=True)
    resumed = train(
        toy_cohort.folder, tmp_path / "parts", config, TrainOptions(folds=3, workers=1, resume=True)
    )
    assert files_of(resumed) == files_of(whole)


def resolve_on(config: Config, changes) -> Config:
    from mtinet.config import resolve_settings

    return resolve_settings(config, None, changes)


def test_a_truncated_checkpoint_is_passed_over(toy_cohort: Cohort, tmp_path: Path, config: Config):
    whole = train(toy_cohort.folder, tmp_path / "whole", config, OPTIONS)
    train_until(toy_cohort, tmp_path / "parts", config, stop=8)
    newest = sorted((tmp_path / "parts" / "checkpoints").glob("step-*"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    resumed = train(
        toy_cohort.folder, tmp_path / "parts", config, TrainOptions(folds=3, workers=1, resume=True)
    )
    assert files_of(resumed) == files_of(whole)
    assert [f.id for f in resumed.findings()].count("damaged-checkpoint") == 1


def test_a_training_in_plain_forms_goes_the_same_way(
    toy_cohort: Cohort, tmp_path: Path, config: Config, monkeypatch, benchmark
):
    """What the exact tricks gain is time alone.

    Losses differ by rounding, in the first steps: later ones are chaotic, Adam magnifies it where gradients vanish.
    """
    config = resolve_on(config, ("training.steps=5", "training.log_every=1"))
    fast = train(toy_cohort.folder, tmp_path / "fast", config, OPTIONS)
    plain_domains = benchmark("plain_forms").plain_domains
    calls = []

    def counted(self, *maps):
        calls.append(maps)
        return plain_domains(self, *maps)

    assert (config.mdief.axes, config.mdief.entropy) == ("space", "space")
    monkeypatch.setattr(mdief.Mdief, "_domains", counted)
    plain = train(toy_cohort.folder, tmp_path / "plain", config, OPTIONS)
    assert calls
    losses = ("segmentation", "regression", "classification", "total")
    steps = [pair for pair in zip(fast.metrics(), plain.metrics(), strict=True) if "total" in pair[0]]
    assert len(steps) == 5
    for ours, theirs in steps:
        for name in losses:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5), (ours["step"], name)


def test_a_line_of_metrics_is_the_mean_of_its_steps(toy_cohort: Cohort, tmp_path: Path, config: Config):
    lines = {}
    for every in (1, 3):
        changed = resolve_on(config, ("training.steps=6", f"training.log_every={every}"))
        run = train(toy_cohort.folder, tmp_path / str(every), changed, OPTIONS)
        lines[every] = [line for line in run.metrics() if "total" in line and line["step"] > 1]
    # the first step is looked at, and has a line of its own
    assert [line["step"] for line in lines[3]] == [3, 6]
    for name in ("total", "segmentation", "gradient"):
        means = [sum(line[name] for line in lines[1][i:j]) / (j - i) for i, j in ((0, 2), (2, 5))]
        assert [line[name] for line in lines[3]] == pytest.approx(means), name


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from mtinet.config import resolve
from mtinet.training.loop import Trainer
from mtinet.workflows.train import TrainOptions, train

if __name__ == "__main__":
    cohort, out, devices, *changes = sys.argv[1:]
    if "LOCAL_COUNTS" in changes:
        # what the all-reduced count is there to prevent
        changes.remove("LOCAL_COUNTS")
        Trainer._count = lambda self, local: local
    train(Path(cohort), Path(out), resolve("tiny", assignments=changes),
          TrainOptions(folds=3, workers=1, resume=True, devices=int(devices)))
"""


def command(folder: Path, cohort: Cohort, out: Path, devices: int, *changes: str) -> list[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return [sys.executable, str(script), str(cohort.folder), str(out), str(devices), *changes]


@pytest.mark.slow
def test_sigkill_at_any_step_and_resume_ends_the_same(toy_cohort: Cohort, tmp_path: Path):
    changes = ("training.steps=60", "training.checkpoint_every=4", "head.dropout=0.2")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(tmp_path, toy_cohort, whole, 1, *changes), check=True)
    kills = 0
    for wait in (0.15, 0.4, 0.05):
        process = subprocess.Popen(command(tmp_path, toy_cohort, killed, 1, *changes))
        before = len(Run(killed).metrics())
        while process.poll() is None and len(Run(killed).metrics()) <= before:
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 2
    subprocess.run(command(tmp_path, toy_cohort, killed, 1, *changes), check=True)
    assert files_of(Run.open(killed)) == files_of(Run.open(whole))


@pytest.mark.slow
def test_two_processes_equal_one_with_the_double_batch(toy_cohort: Cohort, tmp_path: Path):
    """Masked terms are divided by the count over processes, so the split of a batch does not matter."""
    changes = (
        "encoder.norm=group",
        "training.optimizer=sgd",
        "training.learning_rate=0.001",
        "training.steps=5",
        "training.batch_size=6",
        "training.validate_every=0",
        "training.log_every=1",
        "objective.tim_from=0",
        "objective.adversarial_from=0",
        "tim.min_confidence=0",
        "tdd.dropout=0",
        "tdd.instance_noise=0",
        "tdd.label_noise=0",
        "tdd.r1=0",
    )
    one, two, wrong = (tmp_path / name for name in ("one", "two", "wrong"))
    subprocess.run(command(tmp_path, toy_cohort, one, 1, *changes), check=True)
    subprocess.run(command(tmp_path, toy_cohort, two, 2, *changes), check=True, timeout=300)
    subprocess.run(command(tmp_path, toy_cohort, wrong, 2, *changes, "LOCAL_COUNTS"), check=True, timeout=300)
    assert largest_difference(one, two) <= 1e-5
    assert largest_difference(one, wrong) > 1e-4


def largest_difference(a: Path, b: Path) -> float:
    """Largest difference between two runs' weights, relative to the largest weight."""
    first, second = (
        torch.cat([t.flatten() for t in Run.open(p).load_model()[0].values() if t.is_floating_point()])
        for p in (a, b)
    )
    return float((first - second).abs().max() / first.abs().max())


def test_nan_loss_stops_and_keeps_the_last_checkpoint(toy_cohort: Cohort, tmp_path: Path, config: Config):
    out = tmp_path / "run"
    sick = resolve_on(
        config, ["training.learning_rate=1e30", "training.clip=0", "training.checkpoint_every=1"]
    )
    with pytest.raises(TrainingError, match="not finite") as told:
        train(toy_cohort.folder, out, sick, OPTIONS)
    run = Run.open(out)
    assert "nan-loss" in [f.id for f in run.findings()]
    checkpoint, _ = run.latest_checkpoint()
    assert checkpoint is not None
    assert f"the checkpoint of step {checkpoint.step} is kept" in str(told.value)
    rare = resolve_on(sick, ["training.checkpoint_every=14"])
    with pytest.raises(TrainingError, match="there is no checkpoint yet"):
        train(toy_cohort.folder, tmp_path / "rare", rare, OPTIONS)
    assert all(torch.isfinite(t).all() for n, t in checkpoint.tensors.items() if n.startswith("optimizer"))


def test_fine_tuning_starts_from_another_run(toy_cohort: Cohort, tmp_path: Path, config: Config):
    first = train(toy_cohort.folder, tmp_path / "first", config, OPTIONS)
    frozen = resolve_on(config, ["training.learning_rate=1e-30", "training.weight_decay=0"])
    options = TrainOptions(folds=3, workers=1, init=first.path)
    second = train(toy_cohort.folder, tmp_path / "second", frozen, options)
    a, b = first.load_model()[0], second.load_model()[0]
    for name in a:
        if "running" not in name and "num_batches" not in name:
            assert torch.allclose(a[name].float(), b[name].float(), atol=1e-6), name


def test_fine_tuning_is_resumed_exactly_even_before_its_first_checkpoint(
    toy_cohort: Cohort, tmp_path: Path, config: Config
):
    first = train(toy_cohort.folder, tmp_path / "first", config, OPTIONS)
    options = TrainOptions(folds=3, workers=1, init=first.path)
    whole = train(toy_cohort.folder, tmp_path / "whole", config, options)

    def stop(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(toy_cohort.folder, tmp_path / "parts", config, options, on_step=stop)
    resumed = train(
        toy_cohort.folder, tmp_path / "parts", config, TrainOptions(folds=3, workers=1, resume=True)
    )
    assert files_of(resumed) == files_of(whole)


def test_fine_tuning_is_resumed_without_its_start_run_once_there_is_a_checkpoint(
    toy_cohort: Cohort, tmp_path: Path, config: Config
):
    short = resolve_on(
        config, ["training.steps=3", "training.checkpoint_every=2", "training.validate_every=0"]
    )
    first = train(toy_cohort.folder, tmp_path / "first", short, OPTIONS)
    options = TrainOptions(folds=3, workers=1, init=first.path)

    def stop_at(last: int) -> Callable[..., None]:
        def stop(step: int, *_: object) -> None:
            if step == last:
                raise Killed

        return stop

    for last in (1, 3):
        with pytest.raises(Killed):
            train(toy_cohort.folder, tmp_path / f"run{last}", short, options, on_step=stop_at(last))
    first.path.rename(tmp_path / "moved")
    again = TrainOptions(folds=3, workers=1, resume=True)
    assert train(toy_cohort.folder, tmp_path / "run3", short, again).finished
    with pytest.raises(RunError, match=r"no checkpoint.*put that back"):
        train(toy_cohort.folder, tmp_path / "run1", short, again)


def test_a_start_that_saw_the_held_out_patients_is_refused(
    toy_cohort: Cohort, tmp_path: Path, config: Config
):
    everybody = train(toy_cohort.folder, tmp_path / "all", config, TrainOptions(fold=None, workers=1))
    options = TrainOptions(folds=3, workers=1, init=everybody.path)
    with pytest.raises(RunError, match="holds out"):
        train(toy_cohort.folder, tmp_path / "run", config, options)


def test_resume_refuses_other_training_images(toy_cohort: Cohort, tmp_path: Path, config: Config):
    train_until(toy_cohort, tmp_path / "run", config, stop=5)
    study = toy_cohort[Run.open(tmp_path / "run").document("split")["train"][0]]
    image = study.images["delayed"]
    content = bytearray(gzip.decompress(image.read_bytes()))
    content[-40:] = bytes(40)
    image.write_bytes(gzip.compress(bytes(content)))
    # as long as before, so that the tables alone do not tell
    size = len(image.read_bytes())
    with pytest.raises(ValueError, match=r"interrupted run|another state"):
        train(toy_cohort.folder, tmp_path / "run", config, TrainOptions(folds=3, workers=1, resume=True))
    assert size > 0
    # what is refused is not lost
    assert Run.open(tmp_path / "run").latest_checkpoint()[0] is not None


def test_runs_of_other_seeds_hold_out_the_same_patients(toy_cohort: Cohort, tmp_path: Path, config: Config):
    short = resolve_on(config, ["training.steps=2"])
    other = resolve_on(short, ["training.seed=5"])
    a = train(toy_cohort.folder, tmp_path / "a", short, OPTIONS)
    b = train(toy_cohort.folder, tmp_path / "b", other, OPTIONS)
    assert a.document("split") == b.document("split")
    assert files_of(a) != files_of(b)


@pytest.mark.parametrize("changes", [(), ("objective.weighting=pcgrad",)])
def test_bfloat16_trains_where_it_is_asked_for(toy_cohort: Cohort, tmp_path: Path, config: Config, changes):
    config = resolve_on(config, ["training.precision=bf16-mixed", "training.steps=3", *changes])
    run = train(toy_cohort.folder, tmp_path / "run", config, OPTIONS)
    assert run.finished


def test_a_non_empty_folder_is_refused(toy_cohort: Cohort, tmp_path: Path, config: Config):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="not empty"):
        train(toy_cohort.folder, tmp_path / "run", config, OPTIONS)
    assert (tmp_path / "run" / "mine.txt").read_text() == "keep"


def test_moving_average_forgets_its_start():
    update = moving_average(0.99)
    average = [torch.zeros(3)]
    for n in range(1, 40):
        update(average, [torch.ones(3)], torch.tensor(n))
    assert average[0].min() > 0.98


def test_loader_workers_leave_the_network_its_cores():
    assert loader_workers(3) == 3
    assert loader_workers(0) == 0
    assert loader_workers(-1) >= 0


@pytest.fixture
def trainer(prepared, tmp_path: Path) -> Callable[..., Trainer]:
    """``trainer("training.clip=1")``: a trainer of five steps on the toy cohort, set up."""

    def make(*changes: str) -> Trainer:
        config = resolve("tiny", assignments=["training.steps=5", "training.batch_size=2", *changes])
        classes = ("hemangioma", "hcc")
        data = PatchDataset(prepared, config, classes, config.training.seed)
        run = Run.create(tmp_path / "run", config, {"manifest": {}})
        trainer = Trainer(
            run, config, *networks(prepared, config, classes), data, [], Fabric(accelerator="cpu", devices=1)
        )
        trainer.set_up()
        return trainer

    return make


def test_each_step_has_the_rate_of_the_schedule_and_draws_of_its_own(trainer):
    trainer = trainer("training.warmup=0.4", "training.schedule=cosine")
    rates, seeds = [], []
    for batch in trainer.batches():
        trainer.step(batch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        seeds.append(torch.initial_seed())
    assert rates == [learning_rate(trainer.config.training, step) for step in range(5)]
    assert len(set(seeds)) == 5


def test_no_gradient_moves_the_weights_farther_than_the_clip_allows(trainer):
    given = ("clip=0.001", "optimizer=sgd", "weight_decay=0", "warmup=0", "schedule=constant")
    trainer = trainer(*(f"training.{one}" for one in given))
    before = [p.detach().clone() for p in trainer.network.parameters()]
    numbers = trainer.step(next(trainer.batches()))
    moved = [(p - old).norm() for p, old in zip(trainer.network.parameters(), before, strict=True)]
    assert numbers["gradient"] > 0.001
    # the first step of Nesterov's momentum of 0.9 is 1.9 gradients long
    longest = 1.9 * 0.001 * trainer.config.training.learning_rate
    assert torch.stack(moved).norm().item() == pytest.approx(longest, rel=0.02)


def test_the_network_that_predicts_is_the_moving_average(trainer):
    trainer = trainer("training.steps=2", "training.ema=0.9")
    trainer.fit()
    model, tensors = trainer.run.load_model()[0], trainer.run.latest_checkpoint()[0].tensors
    assert all(torch.equal(value, tensors[f"average/module.{name}"]) for name, value in model.items())
    assert any(not torch.equal(value, tensors[f"network/{name}"]) for name, value in model.items())
