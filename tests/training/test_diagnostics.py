from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mtinet.config import ObjectiveSettings, TimSettings, resolve
from mtinet.model.build import build_network
from mtinet.training.diagnostics import StepDiagnostics
from mtinet.training.looks import class_chance, fusion_spread
from mtinet.training.objective import Objective

HEALTHY = {
    "discriminator_accuracy": 0.75,
    "discriminator_gap": 1.0,
    "discriminator_gradient": 0.5,
    "tim_gradient": 0.1,
    "fusion_spread": 0.2,
    "cosine_segmentation_regression": 0.1,
    "class_accuracy": 0.9,
    "class_chance": 0.5,
    "regression_error": 0.05,
    "read_error": 0.08,
}

SICK = {
    "discriminator-saturated": {"discriminator_accuracy": 0.99},
    "discriminator-collapsed": {
        "discriminator_accuracy": 0.5,
        "discriminator_gap": 0.01,
        "discriminator_gradient": 1e-6,
    },
    "tim-gradient-zero": {"tim_gradient": 0.0},
    "fusion-inert": {"fusion_spread": 0.001},
    "tasks-pulling-apart-segmentation-regression": {"cosine_segmentation_regression": -0.6},
    "class-at-chance": {"class_accuracy": 0.5},
    "regression-worse-than-read-out": {"regression_error": 0.2},
}


def watch(numbers, steps=40, tasks=lambda step: 1.0, **options):
    diagnostics = StepDiagnostics(steps, window=20, **options)
    found = []
    for step in range(1, steps + 1):
        found += diagnostics.observe(step, {**numbers, "tasks": tasks(step)})
    return diagnostics, found


def test_a_healthy_training_is_silent():
    _, found = watch(HEALTHY)
    assert found == []


@pytest.mark.parametrize("name", SICK)
def test_each_fires_once_alone_and_with_a_repair(name):
    _, found = watch(HEALTHY | SICK[name])
    assert [f.id for f in found] == [name]
    (finding,) = found
    assert finding.stage == "train"
    assert finding.step is not None
    assert finding.value is not None
    assert finding.threshold is not None
    assert finding.meaning
    assert finding.action.endswith(".")


def test_states_must_last():
    diagnostics = StepDiagnostics(100, window=20)
    for step in range(1, 60):
        accuracy = 0.5 if step % 15 == 0 else 0.99
        assert diagnostics.observe(step, HEALTHY | {"discriminator_accuracy": accuracy}) == []


def test_saturation_halves_the_rate_each_time():
    diagnostics, _ = watch(HEALTHY | SICK["discriminator-saturated"], steps=60)
    assert diagnostics.discriminator_rate == 0.5**3


def test_not_converged_fires_while_the_loss_falls():
    _, found = watch(HEALTHY, tasks=lambda step: 2.0 - step / 25)
    assert [f.id for f in found] == ["not-converged"]


def test_rest_is_judged_by_the_tasks_with_their_settings_weights():
    # learned scales (weighting=uncertainty) let the total fall through 0 at rest, late terms lift it
    settings = ObjectiveSettings(
        segmentation=1.0, regression=2.0, classification=0.5, weighting="uncertainty"
    )
    numbers = {"segmentation": 0.3, "regression": 0.1, "classification": 0.4, "tim": 9.0, "total": -1.0}
    assert Objective(settings, TimSettings()).of_tasks(numbers) == pytest.approx(0.3 + 2 * 0.1 + 0.5 * 0.4)


def test_the_spread_is_of_mdiefs_weights_on_the_phases_that_are_there():
    torch.manual_seed(0)
    batch = {
        "image": torch.rand(2, 4, 32, 32),
        "phase_present": torch.tensor([[True, False, False, True], [True] * 4]),
        "phase_times_s": torch.full((2, 4), torch.nan),
    }
    network = build_network(resolve("tiny"), 2)
    spread = fusion_spread(network, batch)
    weights = network.eval().encode(batch["image"], batch["phase_present"], None).domain_weights[-1]
    assert spread == pytest.approx(float(weights[0, [0, 3], :, 1].std(1).mean()))
    assert fusion_spread(build_network(resolve("tiny", assignments=["fusion=attention"]), 2), batch) is None


def test_memory_survives_json_and_goes_on():
    numbers = HEALTHY | SICK["discriminator-saturated"]
    whole, found = watch(numbers, steps=40)
    first = StepDiagnostics(40, window=20)
    early = [f for step in range(1, 18) for f in first.observe(step, {**numbers, "tasks": 1.0})]
    second = StepDiagnostics(40, window=20, state=json.loads(json.dumps(first.state)))
    late = [f for step in range(18, 41) for f in second.observe(step, {**numbers, "tasks": 1.0})]
    assert early + late == found
    assert second.state == whole.state


def test_chance_counts_the_classes_that_occur(prepared):
    # two of hcc and three of hemangioma, whatever else the cohort could hold
    assert class_chance(prepared, balanced=True) == 1 / 2
    assert class_chance(prepared, balanced=False) == 3 / 5
    assert class_chance([s for s in prepared if s.label == "hcc"], balanced=True) == 1.0
    assert class_chance([s for s in prepared if not s.lesions], balanced=True) == 1.0
    unmasked = [replace(s, has_mask=False, lesions=()) for s in prepared if s.lesions]
    assert class_chance(unmasked, balanced=True) == 1 / 2
