from __future__ import annotations

import pytest

from mtinet.config import PRESETS, SettingsError
from mtinet.config.variation import LearningVariation
from mtinet.errors import UserError
from mtinet.experiments.catalogue import EXPERIMENTS, experiment
from mtinet.experiments.plan import Choice, Experiment, Row, plan, row_config


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_row_is_a_valid_run_under_every_preset(name, preset):
    planned = plan(experiment(name), Choice(preset=preset), sites=("A", "B", "C"))
    assert planned.experiment.reference in planned.rows
    for cells in planned.rows.values():
        assert len({(cell.seed, cell.fold) for cell in cells}) == len(cells)
        for cell in cells:
            assert cell.config.training.seed == cell.seed


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_baseline_has_less_data_or_fewer_steps_than_the_reference(name):
    found = experiment(name)
    reference = row_config(found, found.row(found.reference))
    for row in found.rows:
        config = row_config(found, row)
        assert config.sampling == reference.sampling
        assert config.preparation == reference.preparation
        assert config.training.steps == reference.training.steps
        assert config.training.batch_size == reference.training.batch_size
        assert config.inference == reference.inference


def test_every_network_gets_the_same_tuning_trials():
    by_network: dict[str, set] = {}
    for row in experiment("tuning").rows:
        config = row_config(experiment("tuning"), row)
        by_network.setdefault(config.model, set()).add(config.training)
    assert len(by_network) == 5
    assert len(set(map(frozenset, by_network.values()))) == 1


def test_a_rows_changes_come_after_the_users(pair: Experiment):
    choice = Choice(assignments=("tdd.enabled=true", "head.depth=2"))
    config = row_config(pair, pair.row("no-tdd"), choice)
    assert not config.tdd.enabled
    assert config.head.depth == 2


def test_a_row_that_is_the_reference_is_left_out(pair: Experiment):
    planned = plan(pair, Choice(assignments=("tdd.enabled=false",)))
    assert list(planned.rows) == ["full"]


def test_seeds_count_up_from_the_given_one(pair: Experiment):
    planned = plan(pair, Choice(assignments=("training.seed=7",), seeds=3, folds=(1, 4)))
    assert [(c.seed, c.fold, c.folds) for c in planned.rows["full"]] == [
        (seed, fold, 5) for seed in (7, 8, 9) for fold in (1, 4)
    ]
    order = [(cell.seed, cell.fold) for cell in planned.cells]
    assert order == sorted(order)  # whole comparisons first


def test_sites_take_the_place_of_folds():
    by_site = Experiment("s", "S", "?", "r", (Row("r", "R"), Row("n", "N", ("tim.enabled=false",))), "sites")
    planned = plan(by_site, Choice(preset="tiny"), sites=("B", "A", "B"))
    assert [(c.learning.held_out_site, c.fold, c.folds) for c in planned.rows["r"]] == [
        ("A", 0, 2),
        ("B", 1, 2),
    ]
    with pytest.raises(UserError, match="cohort has 1"):
        plan(by_site, Choice(preset="tiny"), sites=("A", "A"))


def test_the_reference_is_always_run_and_unknown_names_are_listed(pair: Experiment):
    assert list(plan(pair, Choice(rows=("no-tdd",))).rows) == ["full", "no-tdd"]
    with pytest.raises(UserError, match="has no row no-tim; it has full, no-tdd"):
        plan(pair, Choice(rows=("no-tim",)))
    with pytest.raises(UserError, match="no fold 5; valid: 0 to 4"):
        plan(pair, Choice(folds=(5,)))
    with pytest.raises(UserError, match="there is no experiment ablate"):
        experiment("ablate")


def test_settings_that_do_not_go_together_name_the_row():
    odd = Experiment("odd", "Odd", "?", "r", (Row("r", "R"), Row("n", "N", ("decoder.skips=none",))))
    with pytest.raises(SettingsError, match="row n of experiment odd"):
        plan(odd)


def test_an_experiment_has_its_reference_and_no_row_twice():
    with pytest.raises(ValueError, match="reference"):
        Experiment("e", "E", "?", "x", (Row("r", "R"),))
    with pytest.raises(ValueError, match="twice"):
        Experiment("e", "E", "?", "r", (Row("r", "R"), Row("r", "R", learning=LearningVariation(noise=1))))
