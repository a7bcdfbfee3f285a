import pytest
import yaml

from mtinet import config
from mtinet.config import Config, SettingsError, SimulationSettings


@pytest.mark.parametrize("name", config.PRESETS)
def test_presets_survive_yaml(name):
    preset = config.resolve(name)
    assert config.from_yaml(Config, config.to_yaml(preset)) == preset
    assert config.difference(preset, preset) == {}


@pytest.mark.parametrize("name", config.SIMULATIONS)
def test_simulations_survive_yaml(name):
    preset = config.resolve_simulation(name)
    assert config.from_yaml(SimulationSettings, config.to_yaml(preset)) == preset


def test_assignments_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("head: {depth: 1, width: 32}\n", encoding="utf-8")
    resolved = config.resolve("small", file, ["head.depth=2"])
    assert (resolved.head.depth, resolved.head.width) == (2, 32)
    assert resolved.head.heads == config.resolve("small").head.heads


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("training.learning_rate=1e-3", "training.learning_rate", 1e-3),
        ("phases=pre,delayed", "phases", ["pre", "delayed"]),
        ("sampling.patch_size=[64,48]", "sampling.patch_size", [64, 48]),
        ("preparation.spacing_mm=2,null,3.5", "preparation.spacing_mm", [2.0, None, 3.5]),
        ("tim.enabled=false", "tim.enabled", False),
        ("model=dynunet", "model", "dynunet"),
    ],
)
def test_assignments_are_read_as_the_fields_type(assignment, name, value):
    changed = config.difference(config.resolve("small"), config.resolve("small", None, [assignment]))
    assert {key: new for key, (_, new) in changed.items()} == {name: value}


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["head.dept=2"], "did you mean 'depth'"),
        (["heads.depth=2"], "did you mean 'head'"),
        (["model=unet"], "dynunet"),
        (["head.depth=-1"], "head.depth"),
        (["head=3"], "write head.width="),
        (["head.depth"], "name=value"),
        (["spatial_dims=3"], "one number a dimension"),
        (["phases=pre,pre"], "twice"),
        (["phases=pre,portal"], "portal_venous"),
    ],
)
def test_a_wrong_name_or_value_says_what_is_valid(assignments, message):
    with pytest.raises(SettingsError, match=message):
        config.resolve("small", None, assignments)


def test_an_unknown_preset_or_a_bad_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="valid: tiny, small, paper"):
        config.resolve("smal")
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        config.resolve("small", tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="not YAML"):
        config.resolve("small", tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="holds list"):
        config.resolve("small", tmp_path / "list.yaml")


def test_the_environment_changes_nothing(monkeypatch):
    monkeypatch.setenv("SEED", "99")
    monkeypatch.setenv("MODEL", "dynunet")
    assert config.resolve("small") == config.resolve("small")


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        config.resolve("small").head.depth = 7  # type: ignore[misc]


def test_the_file_lists_every_field():
    written = yaml.safe_load(config.to_yaml(config.resolve("small")))
    assert list(written) == list(Config.model_fields)
