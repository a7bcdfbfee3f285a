"""The benchmark: what is compared, that hooks and marks change no number, and what becomes of the repeats."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mtinet.config import Config, difference, resolve, resolve_settings
from mtinet.data.dataset import PatchDataset, collate
from mtinet.errors import UserError
from mtinet.model.build import build_network
from mtinet.model.mdief import Mdief
from mtinet.workflows import bench as bench_workflow
from mtinet.workflows import bench_parts
from mtinet.workflows.bench import BenchOptions, bench
from mtinet.workflows.bench_cases import MARK, MODELS, Case, Patients, cases, virtual_patients, with_marks
from mtinet.workflows.bench_measures import (
    Contender,
    MemoryJob,
    marked_predictor,
    multiply_adds,
    peak_memory_mb,
    predict_marked,
)
from mtinet.workflows.bench_table import readable, summarise

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def config() -> Config:
    return resolve("tiny")


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory, config: Config) -> Patients:
    place = tmp_path_factory.mktemp("bench")
    return virtual_patients(place, config, simulation="tiny", subjects=2, workers=1)


@pytest.fixture
def make(patients: Patients, tmp_path: Path, config: Config) -> Callable[..., Contender]:
    def contender(name: str = "mtinet", place: str = "runs") -> Contender:
        (case,) = (case for case in cases(config, MODELS) if case.name == name)
        return Contender(case, patients, tmp_path / place, "cpu", 20)

    return contender


# ---------------------------------------------------------------------- what is compared
def test_networks_differ_in_nothing_but_the_network():
    found = {case.name: case for case in cases(resolve("small"), MODELS)}
    assert list(found) == [
        "mtinet",
        "mtinet-per-phase",
        "basic_unet-12",
        "basic_unet-32",
        "dynunet-32",
        "swinunetr-24",
        "attention_unet-32",
    ]
    assert found["basic_unet-12"].width == found["mtinet"].width == 12
    reference = found["mtinet"].config
    for case in found.values():
        changed = set(difference(reference, case.config))
        assert changed <= {"model", "baseline.width", "encoder.shared"}
    assert set(difference(reference, found["mtinet-per-phase"].config)) == {"encoder.shared"}


def test_a_basic_unet_of_the_same_width_is_measured_once():
    config = resolve("small", assignments=["baseline.width=12"])
    assert [case.name for case in cases(config, ["basic_unet"])] == ["basic_unet-12"]


@pytest.mark.parametrize("models", [["mtinet", "resnet"], [], ["dynunet", "dynunet"]])
def test_other_names_are_refused(models):
    with pytest.raises(UserError, match=r"valid: mtinet, .*attention_unet"):
        cases(resolve("tiny"), models)


def test_every_patient_has_a_lesion_and_all_phases(patients: Patients):
    assert all(study.lesions and all(study.present) for study in patients.training)


# ---------------------------------------------------------------------- marks
def marked_voxels(image: np.ndarray) -> np.ndarray:
    return np.asarray(image) == MARK


def test_marks_are_on_the_lesions_and_nowhere_else(patients: Patients):
    marked = patients.marked
    assert (marked_voxels(marked.image[0]) == (np.asarray(marked.mask) > 0)).all()
    assert not marked_voxels(marked.image[1:]).any()


@pytest.mark.parametrize(
    "changes", [(), ("spatial_dims=3", "sampling.patch_size=8,24,32"), ("model=basic_unet",)]
)
def test_an_untrained_network_finds_the_marked_lesions_after_its_own_work(patients: Patients, changes):
    config = resolve("tiny", assignments=[*changes, "inference.min_diameter_mm=0"])
    network = build_network(config, 2)
    worked = []
    segment = network.segment
    network.segment = lambda features: worked.append(1) or segment(features)
    predictor = marked_predictor(network, config, patients.classes)
    labels = predictor.predict_prepared(patients.marked).labels
    assert ((labels > 0) == (np.asarray(patients.marked.mask) > 0)).all()
    assert worked


def test_a_predictor_that_passes_the_marks_by_is_noticed(patients: Patients, tmp_path: Path):
    config = resolve("tiny")
    study = with_marks(patients.training[0], tmp_path / "marked")
    predictor = marked_predictor(build_network(config, 2), config, patients.classes)
    del predictor.network.encode
    del predictor.network.segment
    with torch.no_grad():
        predictor.network.decoder.mask.bias.fill_(50.0)
    with pytest.raises(RuntimeError, match="others"):
        predict_marked(predictor, study)


# ---------------------------------------------------------------------- counting
def test_multiply_adds_are_those_of_the_layers_and_follow_the_batch(patients: Patients, config: Config):
    config = resolve_settings(config, None, ["fusion=spatial"])  # a filter has products of its own
    network = build_network(config, 2)
    data = PatchDataset(patients.training, config, patients.classes, 0)
    samples = [data.sample(0, slot) for slot in range(2)]
    by_hand = [0.0]

    def add(layer: torch.nn.Module, _: Any, output: torch.Tensor) -> None:
        each = layer.weight[0].numel()
        by_hand[0] += output.numel() * each

    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(add)
    one = multiply_adds(network, collate(samples[:1] * 2), config)
    # what is left are the products of attention and of pooling
    assert by_hand[0] <= one <= 1.05 * by_hand[0]
    assert multiply_adds(network, collate(samples[:1] * 4), config) == pytest.approx(2 * one)


# ---------------------------------------------------------------------- parts
class Tick(torch.autograd.Function):
    """Moves the clock in both directions of the pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, clock: list[float], back: float) -> torch.Tensor:
        ctx.clock, ctx.back = clock, back
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        ctx.clock[0] += ctx.back
        return gradient, None, None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(bench_parts.PartTimer, "_now", lambda _: now[0])
    return now


def ticking(module: torch.nn.Module, clock: list[float], forth: float, back: float) -> None:
    """Make a module take some time on a clock that nothing else moves."""
    forward = module.forward

    def slow(*args: Any) -> Any:
        clock[0] += forth
        out = forward(*args)
        return (
            (Tick.apply(out[0], clock, back), *out[1:])
            if isinstance(out, tuple)
            else Tick.apply(out, clock, back)
        )

    module.forward = slow


def test_parts_hold_their_forward_and_backward_passes_and_nothing_else(make: Callable, clock: list[float]):
    contender = make()
    network, trainer = contender.trainer.network, contender.trainer
    fusions = [module for module in network.modules() if isinstance(module, Mdief)]
    for module in fusions:
        ticking(module, clock, 1.0, 10.0)
    ticking(network.decoder, clock, 1e3, 1e4)
    ticking(network.encoder.encoders[0].blocks[0], clock, 1e5, 1e6)
    ticking(trainer.adversary.discriminator, clock, 0.01, 0.1)
    timer = bench_parts.PartTimer(trainer, contender.synchronise)
    steps = 3
    contender.train(1)  # the penalty's step calls the discriminator otherwise
    with timer.watching():
        contender.train(steps)
    assert timer.seconds["mdief"] == pytest.approx(steps * len(fusions) * 11.0)
    # once on real and predicted pairs together in the update, once on predicted ones for the network
    assert timer.seconds["discriminator"] == pytest.approx(steps * 2 * 0.11, abs=1e-3)


def test_watching_changes_no_number_and_leaves_nothing_behind(make: Callable):
    plain, watched = make(place="a").trainer, make(place="b").trainer

    def losses(trainer: Any) -> Iterator[float]:
        for _, batch in zip(range(3), trainer.batches(), strict=False):
            yield trainer.step(batch)["total"]

    with bench_parts.PartTimer(watched, lambda: None).watching():
        seen = list(losses(watched))
    assert seen == list(losses(plain))
    modules = [*watched.network.modules(), *watched.adversary.discriminator.modules()]
    for module in modules:
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            assert not hooks
    assert not {"pairs", "update", "generator_loss"} & set(vars(watched.adversary))


def test_every_term_takes_part_from_the_start_and_only_the_first_step_looks(make: Callable):
    contender = make()
    batch = next(contender.trainer.batches())
    first, then = contender.trainer.step(batch), contender.trainer.step(batch)
    assert {"segmentation", "regression", "classification", "tim", "adversarial"} <= set(then)
    assert "class_chance" in first  # the first step looks, whatever is set
    assert "class_chance" not in then


# ---------------------------------------------------------------------- memory
@pytest.mark.slow
def test_a_larger_batch_takes_more_memory(patients: Patients, tmp_path: Path, config: Config):
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    case = Case("mtinet", resolve("tiny", assignments=["training.batch_size=64"]))
    shared = (patients.training, patients.marked, patients.classes)
    jobs = [
        MemoryJob(one, *shared, tmp_path / name, "cpu", "train", 1, 1)
        for name, one in (("small", Case("mtinet", config)), ("large", case))
    ]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        small, large = pool.map(peak_memory_mb, jobs)
    image_mb = 60 * 4 * 32 * 32 * 4 * 4 / 1e6  # the first maps of 60 samples more, 4 phases, 4 channels
    assert large - small > image_mb


# ---------------------------------------------------------------------- the table
def made_up(slow: float) -> pd.DataFrame:
    """Five repeats of two networks, one twice as slow; in the third the machine is slower."""
    rows = []
    for repeat, pace in enumerate((1.0, 1.1, slow, 0.9, 1.2)):
        for model, seconds in (("mtinet", 0.2), ("dynunet-32", 0.4)):
            shared = {"device": "cpu", "model": model, "repeat": repeat}
            rows.append({**shared, "stage": "train", "seconds": seconds * pace, "loading_s": 0.02 * pace})
            rows.append({**shared, "stage": "infer", "seconds": 2 * seconds * pace, "loading_s": np.nan})
    return pd.DataFrame(rows)


FACTS = [
    {
        "device": "cpu",
        "model": model,
        "width": 12,
        "parameters": 10**6,
        "discriminator_parameters": 0,
        "multiply_adds": 1e9,
        "mdief_share": share,
        "discriminator_share": np.nan,
        "looks_share": 0.01,
        "train_peak_mb": 100.0,
        "infer_peak_mb": 50.0,
    }
    for model, share in (("mtinet", 0.04), ("dynunet-32", np.nan))
]


@pytest.mark.parametrize("slow", [1.0, 50.0])
def test_ratios_do_not_see_a_machine_that_slows_down(slow):
    table = summarise(made_up(slow), FACTS, "dynunet-32", "basic_unet-12").set_index("model")
    row = table.loc["mtinet"]
    for stage in ("train", "infer"):
        for column in ("", "_low", "_high"):
            assert row[f"{stage}_vs_dynunet{column}"] == pytest.approx(0.5)
            assert np.isnan(row[f"{stage}_vs_basic_unet{column}"])
    assert table.loc["dynunet-32", "train_vs_dynunet"] == 1.0
    assert row["train_s"] == pytest.approx(0.2 * np.median([1.0, 1.1, slow, 0.9, 1.2]))
    assert row["train_s_low"] <= row["train_s"] <= row["train_s_high"]
    assert row["loading_share"] == pytest.approx(0.1)


def test_what_a_network_does_not_have_is_left_empty():
    shown = readable(summarise(made_up(1.0), FACTS, "dynunet-32", "basic_unet-12"))
    assert list(shown["MdIEF (%)"]) == ["4.0", ""]
    assert list(shown["step vs basic"]) == ["", ""]
    assert list(shown["study vs dynunet"]) == ["0.50", "1.00"]
    assert shown["step (s)"][0].startswith("0.2")


@pytest.mark.slow
def test_nothing_is_kept_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("mtinet.workflows.bench._memory", lambda *_: 1.0)  # else in processes of their own
    found = bench(None, resolve("tiny"), BenchOptions(("mtinet",), 1, 1, "tiny", 1, workers=1))
    shares = found.table.loc[0, ["loading_share", "mdief_share", "discriminator_share"]]
    assert (shares > 0).all()
    assert shares.sum() < 1
    assert found.manifest["bench"]["study"]["lesions"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_one_run_makes_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out, seen = tmp_path / "out", []
    measured, told = (
        bench_workflow._memory,
        {("basic_unet-4", "train"): 300.0, ("basic_unet-4", "infer"): 200.0},
    )
    told["mtinet", "train"] = 400.0

    def memory(plan: Any, case: Case, stage: Any, device: str) -> float:
        """One in a process of its own: each takes as long as importing torch, and all are measured alike."""
        return told.get((case.name, stage)) or measured(plan, case, stage, device)

    monkeypatch.setattr("mtinet.workflows.bench._memory", memory)
    options = BenchOptions(("mtinet", "basic_unet"), 2, 1, "tiny", 2, workers=1)
    found = bench(out, resolve("tiny"), options, lambda done, total: seen.append((done, total)))
    assert list(found.table["model"]) == ["mtinet", "basic_unet-4"]
    assert found.table.set_index("model").loc["basic_unet-4", "train_vs_basic_unet"] == 1.0
    assert seen[-1][0] == seen[-1][1] == len(seen)
    assert len(found.repeats) == 2 * 2 * 2
    positive = ["train_s", "infer_s", "train_peak_mb", "infer_peak_mb", "multiply_adds", "parameters"]
    assert (found.table[positive] > 0).all().all()
    assert list(found.table["train_peak_mb"]) == [400.0, 300.0]
    read = pd.read_csv(out / "bench.csv")
    pd.testing.assert_frame_equal(read, found.table, check_dtype=False)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["cases"]["mtinet"]["model"] == "mtinet"
    assert "mtinet" in found.text
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_file_is_no_place_for_a_benchmark(tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"):
        bench(tmp_path / "out", resolve("tiny"))


# ---------------------------------------------------------------------- benchmarks/cost_curves.py
@pytest.fixture(scope="module")
def curves() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("cost_curves")
    sys.path.remove(str(ROOT / "benchmarks"))


def test_an_axis_changes_its_size_alone(curves):
    base = resolve("small")
    changed = {
        "patch": {"sampling.patch_size"},
        "phases": {"phases"},
        "batch": {"training.batch_size"},
        "width": {"encoder.channels", "decoder.channels", "baseline.width"},
        "slices": set(),
    }
    for axis, values in curves.AXES.items():
        for value in values:
            assert set(difference(base, curves.config_at(base, axis, value))) <= changed[axis]
    wide = curves.config_at(base, "width", 24)
    assert wide.encoder.channels == tuple(2 * c for c in base.encoder.channels)
    assert [case.width for case in curves.compared(wide)] == [24, 24, 24]
    assert [case.width for case in curves.compared(base)] == [12, 12, 32]


@pytest.mark.parametrize("slices", [2, 6, 48])
def test_a_third_of_the_slices_shows_the_lesion(curves, tmp_path: Path, slices):
    study = curves.noise_study(("pre", "arterial"), (slices, 20, 24), tmp_path / "study")
    shown = np.asarray(study.mask).any((1, 2))
    assert shown.sum() == max(slices // 3, 1)
    assert np.asarray(study.mask)[study.lesions[0].slices].sum() == study.lesions[0].voxels


def test_exponents_are_those_of_power_laws(curves):
    values = np.array([8.0, 16.0, 64.0])
    table = pd.DataFrame(
        {
            "axis": "patch",
            "value": np.tile(values, 2),
            "network": np.repeat(["a", "b"], 3),
            "seconds": np.concatenate([0.1 * values**2, 0.3 * values]),
            "share_of_ceiling": 0.2,
        }
    )
    assert curves.exponents(table)["exponent"].to_numpy() == pytest.approx([2.0, 1.0])


def test_the_page_has_a_place_for_both_tables():
    page = (ROOT / "docs/performance.md").read_text("utf-8")
    for name in ("bench", "study", "cost"):
        assert page.count(f"<!-- {name}:begin -->") == page.count(f"<!-- {name}:end -->") == 1


@pytest.mark.slow
def test_the_curves_run_at_their_smallest(curves, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "performance.md").write_text("<!-- cost:begin -->\n<!-- cost:end -->\n")
    monkeypatch.setattr(sys, "argv", ["cost_curves.py", "--quick", "--docs", str(tmp_path)])
    curves.main()
    table = pd.read_csv(tmp_path / "cost-curves.csv")
    assert set(table["axis"]) == set(curves.QUICK)
    assert set(table["network"]) == {"mtinet", "basic_unet", "dynunet"}
    assert (table[["seconds", "multiply_adds", "gmac_s"]] > 0).all().all()
    counts = table[(table["axis"] == "patch") & (table["network"] == "basic_unet")]
    # four times the pixels, four times the operations
    assert counts["multiply_adds"].iloc[1] == pytest.approx(4 * counts["multiply_adds"].iloc[0], rel=0.05)
    assert "exponent" in (tmp_path / "performance.md").read_text()
    assert (tmp_path / "images" / "cost-curves.png").is_file()
