from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from mtinet.config import ObjectiveSettings, TimSettings, resolve
from mtinet.data.dataset import PatchDataset, collate
from mtinet.data.prepared import PreparedStudy
from mtinet.model.build import build_network
from mtinet.model.network import Prediction
from mtinet.training.objective import (
    Objective,
    dice_and_cross_entropy,
    masked_mean,
)
from mtinet.training.optimization import projected_gradients
from mtinet.training.regions import near_regions, one_hot_regions


def own(count: torch.Tensor) -> torch.Tensor:
    return count


def square(rows: int = 2) -> torch.Tensor:
    target = torch.zeros(rows, 1, 16, 16)
    target[0, :, 4:9, 4:9] = 1
    return target


def everywhere(rows: int) -> torch.Tensor:
    return torch.ones(rows, dtype=torch.bool)


def test_perfect_mask_costs_nothing_and_inverted_mask_most():
    target = square()
    assert dice_and_cross_entropy((target * 2 - 1) * 40, target, everywhere(2), own) < 1e-6
    assert dice_and_cross_entropy((1 - target * 2) * 40, target, everywhere(2), own) > 1


def test_empty_batch_without_prediction_costs_nothing():
    empty = torch.zeros(1, 1, 8, 8)
    assert dice_and_cross_entropy(empty - 40.0, empty, everywhere(1), own) < 1e-6


def test_a_sample_without_a_mask_costs_nothing_and_gets_no_gradient():
    target, logits = square(3), torch.randn(3, 1, 16, 16, requires_grad=True)
    known = torch.tensor([True, True, False])
    cost = dice_and_cross_entropy(logits, target, known, own)
    torch.testing.assert_close(cost, dice_and_cross_entropy(logits[:2], target[:2], everywhere(2), own))
    cost.backward()
    assert not logits.grad[2].any()
    assert logits.grad[:2].any()


def test_processes_together_have_the_gradient_of_the_whole_batch():
    # two processes with unlike shares of lesion and of known masks, their means handed to each other
    target, logits = square(4), torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([True, True, True, False])
    halves = [slice(0, 2), slice(2, 4)]
    whole = logits.clone().requires_grad_()
    dice_and_cross_entropy(whole, target, known, lambda x: x).backward()

    class Asked(list[torch.Tensor]):
        def count(self, local):
            self.append(local)
            return local

    seen = [Asked(), Asked()]
    for half, asked in zip(halves, seen):
        dice_and_cross_entropy(logits[half], target[half], known[half], asked.count)
    means = [torch.stack(pair).mean(0) for pair in zip(*seen)]
    for half in halves:
        mine, answer = logits[half].clone().requires_grad_(), partial(next, iter(means))
        dice_and_cross_entropy(mine, target[half], known[half], lambda _, answer=answer: answer()).backward()
        # the mean over two processes of what each adds: the other one's share is zero
        torch.testing.assert_close(mine.grad / 2, whole.grad[half])


def test_masked_mean_ignores_what_is_not_known_even_nan():
    values = torch.tensor([1.0, float("nan"), 3.0], requires_grad=True)
    mean = masked_mean(values, torch.tensor([True, False, True]), own)
    assert mean.item() == 2.0
    (gradient,) = torch.autograd.grad(mean, values)
    assert torch.isfinite(gradient).all()
    assert masked_mean(values, torch.zeros(3, dtype=torch.bool), own).item() == 0.0


def test_missing_labels_mask_their_terms(make_batch):
    config = resolve("tiny")
    batch = make_batch(config)
    batch["mask_known"][:] = False
    batch["enhancement_known"][:] = False
    batch["lesion_class"][:] = -1
    network = build_network(config, 2)
    regions = one_hot_regions(batch["labels"], batch["region_valid"].shape[1])
    prediction = network(batch["image"], batch["phase_present"], batch["phase_times_s"], regions)
    terms = Objective(config.objective, config.tim).terms(prediction, batch, None, own)
    assert {name: term.item() for name, term in terms.items()} == {
        "segmentation": 0.0,
        "regression": 0.0,
        "classification": 0.0,
    }
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_a_region_that_was_not_read_teaches_no_class_and_no_curve():
    batch = {
        "labels": torch.zeros(2, 16, 16, dtype=torch.int64),
        "mask_known": everywhere(2),
        "region_valid": torch.ones(2, 1, dtype=torch.bool),
        "enhancement": torch.zeros(2, 1, 4),
        "enhancement_known": torch.ones(2, 1, 4, dtype=torch.bool),
        "lesion_class": torch.tensor([[0], [1]]),
    }
    said = Prediction(
        torch.zeros(2, 1, 16, 16), torch.ones(2, 1, 4), torch.zeros(2, 1, 2), batch["region_valid"]
    )
    objective = Objective(ObjectiveSettings(), TimSettings())
    for read, learns in ((said.region_valid, True), (~said.region_valid, False)):
        terms = objective.terms(said._replace(region_valid=read), batch, None, own)
        assert [bool(terms[name] > 0) for name in ("regression", "classification")] == [learns, learns]


def test_each_term_enters_at_its_time_and_rises():
    objective = Objective(ObjectiveSettings(tim=0.4, tim_from=0.5, ramp=0.2), TimSettings())
    assert objective.weight("tim", 0.49) == 0.0
    assert objective.weight("tim", 0.6) == pytest.approx(0.2)
    assert objective.weight("tim", 0.9) == pytest.approx(0.4)
    assert objective.weight("segmentation", 0.0) == 1.0


def test_uncertainty_weighting_learns_its_variances():
    objective = Objective(ObjectiveSettings(weighting="uncertainty", regression=0.2), TimSettings())
    terms = {name: torch.tensor(2.0) for name in ("segmentation", "regression", "classification")}
    torch.stack(list(objective.weighted(terms, 1.0).values())).sum().backward()
    # d/ds (w·L·exp(-s) + s/2) = 1/2 - w·L at s = 0
    assert torch.allclose(objective.log_variance.grad, torch.tensor([0.5 - 2.0, 0.5 - 0.4, 0.5 - 0.4]))


def test_a_task_without_a_label_says_nothing_about_its_weight(make_batch):
    config = resolve("tiny", assignments=["objective.weighting=uncertainty"])
    batch = make_batch(config)
    batch["lesion_class"][:] = -1
    network, objective = build_network(config, 2), Objective(config.objective, config.tim)
    regions = one_hot_regions(batch["labels"], batch["region_valid"].shape[1])
    prediction = network(batch["image"], batch["phase_present"], batch["phase_times_s"], regions)
    labelled = objective.labelled(prediction, batch, own)
    assert {name: float(there) for name, there in labelled.items()} == {
        "segmentation": 1.0,
        "regression": 1.0,
        "classification": 0.0,
    }
    weighted = objective.weighted(objective.terms(prediction, batch, None, own), 1.0, labelled)
    torch.stack(list(weighted.values())).sum().backward()
    gradient = objective.log_variance.grad
    assert gradient[2] == 0.0
    assert (gradient[:2] != 0.0).all()


def test_projected_gradients_remove_conflicts_and_keep_agreement():
    rng = np.random.default_rng(0)
    agree = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([1.0, 1.0])}
    assert torch.equal(projected_gradients(agree, rng), torch.tensor([2.0, 1.0]))
    conflict = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([-1.0, 1.0])}
    total = projected_gradients(conflict, rng)
    # a without its part along b is (1/2, 1/2); b without its part along a is (0, 1)
    assert torch.allclose(total, torch.tensor([0.5, 1.5]))
    for gradient in conflict.values():
        assert torch.dot(total, gradient) >= 0


def test_near_regions_stay_apart():
    labels = torch.zeros(1, 20, 20, dtype=torch.long)
    labels[0, 4:7, 4:7] = 1
    labels[0, 4:7, 9:12] = 2
    near = near_regions(labels, 3)
    assert near[0, 0][labels[0] == 1].all()
    assert not near[0, 0][labels[0] == 2].any()
    assert near[0, 0].sum() > (labels == 1).sum()
    assert not near[0, 2].any()


def test_tim_reaches_decoder_and_head(make_batch):
    config = resolve("tiny", assignments=["tim.min_confidence=0", "tim.against=both"])
    batch = make_batch(config)
    network = build_network(config, 2)
    network.set_enhancement_statistics(1.0, 0.5)
    regions = one_hot_regions(batch["labels"], batch["region_valid"].shape[1])
    prediction = network(batch["image"], batch["phase_present"], batch["phase_times_s"], regions)
    objective = Objective(config.objective, config.tim)
    terms = objective.terms(prediction, batch, objective.read(prediction, batch), own)
    terms["tim"].backward()
    decoder = max(float(p.grad.abs().max()) for p in network.decoder.parameters() if p.grad is not None)
    head = max(float(p.grad.abs().max()) for p in network.head.parameters() if p.grad is not None)
    assert decoder > 0
    assert head > 0


def test_a_lesion_is_read_whether_or_not_the_liver_was_drawn_with_it(make_batch):
    config = resolve("tiny")
    batch = make_batch(config)
    lesions = batch["labels"] > 0
    logits = (16.0 * lesions - 8).unsqueeze(1)
    rows = batch["region_valid"].shape[1]
    prediction = Prediction(
        logits, batch["enhancement"], torch.zeros(4, rows, 2), torch.ones(4, rows, dtype=torch.bool)
    )
    objective = Objective(config.objective, config.tim)
    whole, holed = (
        objective.read(prediction, batch | {"liver": liver})
        for liver in (batch["liver"] | lesions, batch["liver"] & ~lesions)
    )
    assert whole.valid.any()
    torch.testing.assert_close(whole.signal, holed.signal)
    assert torch.equal(whole.valid, holed.valid)


def test_tim_is_blind_to_a_phase_that_does_not_cover_the_lesion(prepared):
    config = resolve("tiny", assignments=["augmentation.enabled=false", "sampling.lesion_fraction=1"])

    def uncovered(study: PreparedStudy) -> PreparedStudy:
        image = np.array(study.image)
        image[1] = 0.0
        lesions = [
            replace(x, enhancement={p: v for p, v in x.enhancement.items() if p != study.phases[1]})
            for x in study.lesions
        ]
        return replace(study, memory={**study.memory, "image": image}, lesions=tuple(lesions))

    data = PatchDataset([uncovered(s) for s in prepared if s.lesions], config, ("hemangioma", "hcc"), seed=0)
    batch = collate([data.sample(0, slot) for slot in range(4)])
    said = batch["enhancement"].clone()
    said[..., 1] = 0.9
    logits = (80.0 * (batch["labels"] > 0) - 40).unsqueeze(1)
    rows = said.shape[1]
    prediction = Prediction(
        logits, said.requires_grad_(), torch.zeros(4, rows, 2), torch.ones(4, rows, dtype=torch.bool)
    )
    objective = Objective(config.objective, config.tim)
    tim = objective.terms(prediction, batch, objective.read(prediction, batch), own)["tim"]
    assert tim.item() == pytest.approx(0.0, abs=1e-5)
    (gradient,) = torch.autograd.grad(tim, said)
    assert not gradient[..., 1].any()


def test_regression_is_blind_to_absent_phases(make_batch):
    config = resolve("tiny")
    batch = make_batch(config, size=16)
    regions = batch["region_valid"].shape[1]
    shape = (16, regions, 4)
    exact = torch.where(batch["enhancement_known"], batch["enhancement"], 1e9)
    prediction = Prediction(
        torch.zeros(16, 1, 32, 32), exact, torch.zeros(16, regions, 2), batch["region_valid"]
    )
    assert batch["enhancement"].shape == shape
    assert not batch["enhancement_known"].all()
    terms = Objective(config.objective, config.tim).terms(prediction, batch, None, own)
    assert terms["regression"].item() == 0.0
