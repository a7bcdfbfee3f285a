from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mtinet.config import PRESETS, SettingsError, difference, resolve
from mtinet.config.variation import LearningVariation
from mtinet.errors import UserError
from mtinet.experiments.catalogue import EXPERIMENTS, experiment
from mtinet.experiments.crossval import EXPERIMENT as CROSSVAL
from mtinet.experiments.plan import Choice, Experiment, Row, plan, row_config
from mtinet.experiments.tuned import TUNED

ROOT = Path(__file__).parents[2]


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
        network = "mtinet-paper" if row.name.startswith("mtinet-paper") else config.model
        by_network.setdefault(network, set()).add(config.training)
    assert len(by_network) == 6
    assert len(set(map(frozenset, by_network.values()))) == 1


def test_baselines_differ_in_nothing_but_their_network_and_its_optimisation():
    """Same images, patches, augmentation, steps and rules of what a lesion is, also under the campaign's settings."""
    baselines, file = experiment("baselines"), ROOT / "docs" / "results" / "settings.yaml"
    same = ("phases", "preparation", "sampling", "augmentation", "inference", "evaluation", "spatial_dims")
    budget = (
        "steps",
        "batch_size",
        "ema",
        "clip",
        "warmup",
        "precision",
        "validate_every",
        "validate_studies",
    )
    configs = [row_config(baselines, row, Choice(file=file)) for row in baselines.rows]
    for config in configs:
        for name in same:
            assert getattr(config, name) == getattr(configs[0], name), name
        for name in budget:
            assert getattr(config.training, name) == getattr(configs[0].training, name), name
        assert config.sampling.patch_size == (96, 96)
    networks = {config.baseline for config in configs}
    assert len(networks) == 1


def test_the_published_row_takes_the_papers_side_at_the_campaigns_size():
    """Of what the preset ``paper`` sets otherwise than the defaults, all but sizes and the optimisation."""
    baselines, file = experiment("baselines"), ROOT / "docs" / "results" / "settings.yaml"
    row = row_config(baselines, baselines.row("mtinet-paper"), Choice(file=file))
    paper, ours = PRESETS["paper"](), row_config(baselines, baselines.row("mtinet"), Choice(file=file))
    sizes = {
        *("sampling.patch_size", "preparation.spacing_mm", "encoder.channels", "decoder.channels"),
        *("head.width", "head.heads", "head.dropout", "training"),
    }
    published = {name: there for name, (there, _) in difference(paper, ours).items()}
    for name, value in published.items():
        group, _, setting = name.partition(".")
        if name not in sizes and group not in sizes:
            assert getattr(getattr(row, group), setting) == value, name
    assert {
        name for name in difference(row, ours) if name.partition(".")[0] in ("encoder", "decoder", "head")
    } == {*("encoder.shared", "decoder.skips", "head.levels", "head.pooling", "head.readout")}


def test_what_won_the_trials_is_where_every_row_of_a_network_starts(monkeypatch):
    won = {
        "mtinet": ("training.learning_rate=0.002",),
        "mtinet-paper": ("training.learning_rate=0.003",),
        "basic_unet": ("training.optimizer=sgd",),
    }
    monkeypatch.setitem(TUNED, "small", won)
    for found in (experiment("baselines"), experiment("ablation"), experiment("depth")):
        for row in found.rows:
            config = row_config(found, row)
            mtinet, sgd = config.model == "mtinet", config.model in ("basic_unet", "unet_cnn")
            rate = 0.003 if row.name == "mtinet-paper" else 0.002 if mtinet else 0.004
            assert config.training.learning_rate == rate, row.name
            assert config.training.optimizer == ("sgd" if sgd else "adamw"), row.name
    # experiments share the run of the full model, and the trials stay what they are
    full, mtinet = (plan(experiment(name)).cells[0] for name in ("ablation", "baselines"))
    assert full.config == mtinet.config
    tuned = {row.name: row_config(experiment("tuning"), row).training for row in experiment("tuning").rows}
    monkeypatch.setitem(TUNED, "small", {})
    assert tuned == {
        row.name: row_config(experiment("tuning"), row).training for row in experiment("tuning").rows
    }
    # other presets have their own optimisation, and a user's word counts more
    monkeypatch.setitem(TUNED, "small", won)
    baselines = experiment("baselines")
    assert (
        row_config(baselines, baselines.row("mtinet"), Choice(preset="paper")).training.learning_rate == 1e-4
    )
    asked = Choice(assignments=("training.learning_rate=0.1",))
    assert row_config(baselines, baselines.row("mtinet"), asked).training.learning_rate == 0.1


def test_a_users_optimiser_is_not_mixed_with_that_of_the_trials(tmp_path):
    """A rate that was meant for AdamW would otherwise go to nnU-Net's SGD."""
    baselines = experiment("baselines")
    files = []
    # also where a file says what the preset says
    for name, value in (("weight_decay", "0.5"), ("optimizer", "adamw"), ("learning_rate", "0.004")):
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(f"training:\n  {name}: {value}\n", encoding="utf-8")
    for choice in (
        Choice(assignments=("training.learning_rate=0.002",)),
        *(Choice(file=file) for file in files),
    ):
        for name in ("mtinet", "mtinet-paper", "basic_unet"):
            training = row_config(baselines, baselines.row(name), choice).training
            assert training.optimizer == PRESETS["small"]().training.optimizer
    steps = Choice(assignments=("training.steps=5",))
    assert row_config(baselines, baselines.row("mtinet"), steps).training.optimizer == "sgd"


def test_cross_validation_follows_the_recipe_of_train():
    """Or it would estimate another model than the one that is trained for use."""
    for preset in PRESETS:
        (row,) = CROSSVAL.rows
        assert row_config(CROSSVAL, row, Choice(preset=preset)) == resolve(preset)


def test_every_subset_of_tasks_has_rates_around_the_one_that_won():
    synergy = experiment("synergy")
    full = row_config(experiment("ablation"), experiment("ablation").row("full")).training
    assert row_config(synergy, synergy.row(synergy.reference)).training == full
    assert {row_config(synergy, row).training.optimizer for row in synergy.rows} == {full.optimizer}


@pytest.mark.parametrize("folds", [(), (0, 0), (0, 1, 0)])
def test_a_fold_is_named_once(folds):
    with pytest.raises(UserError, match="each once"):
        plan(experiment("baselines"), Choice(folds=folds))


def test_under_the_reference_mask_the_signal_is_no_answer():
    """There it is the truth by definition: a row that is read so has to regress by itself."""
    for found in EXPERIMENTS.values():
        for row in found.rows:
            if row.enhancement == "oracle_mask":
                assert row_config(found, row).head.readout == "none", (found.name, row.name)


def test_a_rows_changes_come_after_the_users(pair: Experiment):
    choice = Choice(assignments=("tdd.enabled=true", "head.depth=2"))
    config = row_config(pair, pair.row("no-tdd"), choice)
    assert not config.tdd.enabled
    assert config.head.depth == 2


def test_a_row_that_is_the_reference_is_left_out(pair: Experiment):
    planned = plan(pair, Choice(assignments=("tdd.enabled=false",)))
    assert list(planned.rows) == ["full"]
    twice = replace(
        pair, rows=(*pair.rows, replace(pair.rows[1], name="again"), Row("depth", "d", ("head.depth=2",)))
    )
    assert list(plan(twice).rows) == ["full", "no-tdd", "depth"]
    read_otherwise = replace(
        pair, rows=(*pair.rows, replace(pair.rows[1], name="again", enhancement="read_out"))
    )
    assert list(plan(read_otherwise).rows) == ["full", "no-tdd", "again"]


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"changes": "fusion=concat"}, r"write \('fusion=concat',\)"),
        ({"enhancement": "readout"}, "head, read_out, training_mean"),
        ({"classes": "logistic"}, "logistic_regression"),
    ],
)
def test_a_row_that_could_not_be_scored_is_refused_before_it_is_run(changes, message):
    with pytest.raises(ValueError, match=message):
        Row("a", "A", **changes)


def test_an_endpoint_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"hd95_mm.*not hd95$"):
        plan(Experiment("e", "E", "?", "a", (Row("a", "A"),), described=("hd95",)))
