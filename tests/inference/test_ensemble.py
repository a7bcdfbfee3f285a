from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mtinet.config import resolve
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError
from mtinet.inference.ensemble import Ensemble
from mtinet.inference.forward import survey
from mtinet.inference.panel import Opinions, Panel, mirrored_study
from mtinet.inference.predictor import Predictor
from mtinet.model.build import build_network
from mtinet.workflows.prepare import prepare

CLASSES = ("hemangioma", "hcc")


@pytest.fixture
def study(toy_cohort, tmp_path) -> PreparedStudy:
    torch.set_num_threads(1)
    return prepare(toy_cohort.subset(["s0"]), resolve("tiny"), tmp_path / "cache", workers=1).studies[0]


def predictor(seed: int, *changes: str) -> Predictor:
    torch.manual_seed(seed)
    # a threshold at which an untrained network draws something
    config = resolve("tiny", assignments=["inference.threshold=0.4", *changes])
    network = build_network(config, len(CLASSES))
    network.set_enhancement_statistics(1.0, 0.5)
    return Predictor(network, config, CLASSES, {"run": str(seed), "digest": str(seed)})


def same(a, b) -> None:
    assert np.array_equal(a.vote.probability, b.vote.probability)
    assert np.array_equal(a.labels, b.labels)
    assert a.result.lesions == b.result.lesions


def test_an_ensemble_of_one_is_the_model(study: PreparedStudy):
    model = predictor(0)
    alone, ensemble = model.predict_prepared(study), Ensemble([model]).predict_prepared(study)
    same(alone, ensemble)
    assert alone.result.lesions
    assert ensemble.vote.information is None


def test_who_only_scores_the_network_gets_the_same_lesions_without_measurements(study: PreparedStudy):
    model = predictor(0)
    whole, bare = model.predict_prepared(study), model.predict_prepared(study, measured=False)
    assert whole.result.measurements
    assert bare.result.measurements == ()
    assert bare.result.lesions == tuple(replace(one, measurements=()) for one in whole.result.lesions)


def test_a_model_asked_twice_agrees_with_itself(study: PreparedStudy):
    model = predictor(0)
    twice = Ensemble([model, model]).predict_prepared(study)
    assert twice.vote.information == pytest.approx(0, abs=1e-6)
    assert twice.vote.probability == pytest.approx(model.predict_prepared(study).vote.probability, abs=1e-6)


def test_members_are_averaged(study: PreparedStudy):
    models = [predictor(0), predictor(1)]
    ensemble = Ensemble(models)
    maps = [survey(m.passes, study, m.config).probability for m in models]
    assert ensemble.vote(study).probability == pytest.approx(np.mean(maps, axis=0), abs=1e-6)
    labels = np.zeros(study.shape, dtype=np.int32)
    labels[3:5, 10:15, 10:15] = 4
    own = [m.read(study, labels)[4] for m in models]
    mean = ensemble.read(study, labels)[4]
    assert mean.probabilities == pytest.approx(np.mean([r.probabilities for r in own], axis=0))
    assert mean.enhancement == pytest.approx(np.mean([r.enhancement for r in own], axis=0))


def test_mirroring_is_undone_exactly(study: PreparedStudy):
    again = mirrored_study(mirrored_study(study))
    assert np.array_equal(again.image, study.image)
    model = predictor(0)
    flipped = Panel([model], Opinions(flips=True))
    plain, mirrored = flipped._surveys(study)
    other = survey(model.passes, mirrored_study(study), model.config)
    assert np.array_equal(mirrored.probability, other.probability[..., ::-1])
    assert np.array_equal(plain.probability, survey(model.passes, study, model.config).probability)


def test_a_network_that_does_not_know_left_from_right_says_the_same_of_the_mirrored_study(study):
    model = predictor(0)
    ensemble = Panel([model], Opinions(flips=True))
    model.network.segment = lambda features: features.maps[0]
    model.network.describe = lambda features: features.maps[0].flatten(2)
    model.network.encode = lambda image, present, times: type(
        "F", (), {"maps": (image.mean(1, keepdim=True) - 0.5,)}
    )()
    plain, mirrored = ensemble._surveys(study)
    # the last bit of a sigmoid depends on where in a row of registers the pixel stands
    np.testing.assert_allclose(plain.probability, mirrored.probability, rtol=1e-6)


def test_flips_that_were_never_learned_are_said(study: PreparedStudy):
    said = Ensemble([predictor(0)], Opinions(flips=True)).predict_prepared(study).result.findings
    assert [f.id for f in said] == ["flip-not-learned"]
    learned = Ensemble([predictor(0, "augmentation.flip=0.5")], Opinions(flips=True))
    assert learned.predict_prepared(study).result.findings == ()


def test_thinned_networks_repeat_and_leave_no_trace(study: PreparedStudy):
    model = predictor(0, "decoder.dropout=0.3", "head.dropout=0.3")
    before = model.predict_prepared(study)
    ensemble = Ensemble([model], Opinions(dropout=4))
    one, two = ensemble.predict_prepared(study), ensemble.predict_prepared(study)
    same(one, two)
    assert one.vote.information is not None
    assert one.vote.information.max() > 0
    same(before, model.predict_prepared(study))


def test_a_network_without_dropout_cannot_be_thinned():
    with pytest.raises(UserError, match="without dropout"):
        Ensemble([predictor(0)], Opinions(dropout=4))


@pytest.mark.parametrize("virtual", [(True, True), (True, False), (False, True)])
def test_a_mean_that_a_model_of_people_joins_is_not_of_virtual_patients_alone(study: PreparedStudy, virtual):
    models = [predictor(seed) for seed in (0, 1)]
    for model, own in zip(models, virtual):
        model.facts = {**model.facts, **({"virtual": True} if own else {})}
    said = Ensemble(models).predict_prepared(study).result
    assert ("virtual-training" in [finding.id for finding in said.findings]) == all(virtual)
    assert said.model.get("virtual", False) == all(virtual)


def test_runs_on_other_images_or_classes_do_not_join():
    with pytest.raises(UserError, match="preparation"):
        Ensemble([predictor(0), predictor(1, "preparation.n4=true")])
    other = predictor(1)
    other.classes = ("hcc", "cyst")
    with pytest.raises(UserError, match="classes"):
        Ensemble([predictor(0), other])
