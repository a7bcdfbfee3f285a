import pytest
import yaml

from mtinet import config
from mtinet.config import Config, SettingsError, SimulationSettings
from mtinet.config.simulation import SITES


@pytest.mark.parametrize("name", config.PRESETS)
def test_presets_survive_yaml(name):
    preset = config.resolve(name)
    assert config.from_yaml(Config, config.to_yaml(preset)) == preset
    assert config.difference(preset, preset) == {}


@pytest.mark.parametrize("name", config.SIMULATIONS)
def test_simulations_survive_yaml(name):
    preset = config.resolve_simulation(name)
    assert config.from_yaml(SimulationSettings, config.to_yaml(preset)) == preset


def test_the_settings_of_a_cohort_make_it_again(tmp_path):
    made = config.resolve_simulation("multicentre", options={"seed": 4}, sites=["D", "X"], spacing_mm=[3.0])
    (tmp_path / "settings.yaml").write_text(config.to_yaml(made), encoding="utf-8")
    assert config.resolve_simulation("tiny", tmp_path / "settings.yaml") == made


def test_the_presets_are_what_their_names_promise():
    paper = config.resolve_simulation("paper")
    assert (paper.subjects, paper.classes, paper.no_lesion_fraction) == (238, ("hemangioma", "hcc"), 0.0)
    (site,) = paper.sites
    assert (site.field_T, site.matrix, paper.agent) == (3.0, (128, 128, 24), "gadobutrol")
    many = config.resolve_simulation("multicentre")
    assert len(many.classes) == 6
    assert {site.habits for site in many.sites} == {"vibe", "lava", "thrive"}
    assert {site.field_T for site in many.sites} == {1.5, 3.0}
    assert {site.timing for site in many.sites} == {"fixed", "bolus"}
    assert len(many.sites) == 6
    for number in ("gain", "tr_ms", "te_ms"):
        assert len({getattr(site, number) for site in many.sites}) == 6
    reported = {site.name for name in ("demo", "paper", "multicentre") for site in _simulation(name).sites}
    development = _simulation("development")
    assert not reported & {site.name for site in development.sites}
    assert development.seed not in {_simulation(name).seed for name in ("demo", "paper", "multicentre")}


def _simulation(name):
    return config.resolve_simulation(name)


@pytest.mark.parametrize("name", SITES)
def test_every_site_sees_a_whole_liver_and_knows_when_to_scan(name):
    site = SITES[name]
    extent_mm = [n * step for n, step in zip(site.matrix, site.spacing_mm, strict=True)]
    assert all(given >= needed for given, needed in zip(extent_mm, (330.0, 250.0, 115.0), strict=True))
    assert list(site.times_s.values()) == sorted(site.times_s.values())
    assert set(site.times_s) == {*config.PHASES} - {"pre"}


def test_the_later_wins_preset_file_options_assignments(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("{subjects: 7, seed: 7, breathing_mm: 7, extra_lesions: 0.7}\n", encoding="utf-8")
    resolved = config.resolve_simulation(
        "tiny", file, ["breathing_mm=9"], options={"seed": 8, "breathing_mm": 8.0}
    )
    assert (resolved.extra_lesions, resolved.seed, resolved.breathing_mm) == (0.7, 8, 9.0)
    assert resolved.no_lesion_fraction == config.resolve_simulation("tiny").no_lesion_fraction


def test_sites_are_chosen_by_name_and_the_presets_own_come_first():
    chosen = config.resolve_simulation("tiny", sites=["E", "A"])
    assert chosen.sites == (SITES["E"], config.resolve_simulation("tiny").sites[0])
    with pytest.raises(SettingsError, match="unknown site 'Q'; valid: A, B"):
        config.resolve_simulation("demo", sites=["A", "Q"])
    with pytest.raises(SettingsError, match="each site once"):
        config.resolve_simulation("demo", sites=["A", "A"])
    with pytest.raises(SettingsError, match="no site is named"):
        config.resolve_simulation("demo", sites=[])


@pytest.mark.parametrize("spacing", [(3.0,), (2.0, 2.5, 4.0), (7.0, 5.0, 9.0)])
def test_other_voxels_keep_the_field_of_view(spacing):
    before, after = (config.resolve_simulation("multicentre", spacing_mm=s) for s in (None, spacing))
    wanted = spacing * 3 if len(spacing) == 1 else spacing
    for old, new in zip(before.sites, after.sites, strict=True):
        assert new.spacing_mm == wanted
        for axis in range(3):
            kept = new.matrix[axis] * new.spacing_mm[axis] - old.matrix[axis] * old.spacing_mm[axis]
            assert abs(kept) <= wanted[axis] / 2 + 1e-9
        assert new.model_copy(update={"spacing_mm": old.spacing_mm, "matrix": old.matrix}) == old


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"spacing_mm": (2.0, 2.0)}, "one or three"),
        ({"spacing_mm": (0.0,)}, "one or three"),
        ({"spacing_mm": (0.2,)}, "larger voxels"),
        ({"options": {"agent": "gadolinium"}}, "'gadobutrol' or 'gadoxetate'"),
        ({"options": {"classes": ["hcc", "hcc"]}}, "each once"),
        ({"options": {"phases": ["pre", "arterial", "arterial"]}}, "each once"),
        ({"options": {"readers": 3}}, "readers"),
        ({"assignments": ["sites=[]"]}, "sites"),
        ({"assignments": ["diameter_mm=60,6"]}, "smallest diameter first"),
        ({"assignments": ["subject=3"]}, "did you mean 'subjects'"),
        ({"assignments": ["phantom=1"]}, "phantom"),
        ({"preset": "papers"}, "valid: demo, paper, multicentre"),
    ],
)
def test_a_cohort_that_cannot_be_is_refused_with_what_is_valid(given, message):
    with pytest.raises(SettingsError, match=message):
        config.resolve_simulation(**given)


def test_one_class_may_be_written_as_a_word():
    assert config.resolve_simulation("tiny", None, ["classes=hcc"]).classes == ("hcc",)


def test_sites_of_one_name_are_refused():
    site = SITES["A"]
    with pytest.raises(SettingsError, match="a name of its own"):
        config.validate(SimulationSettings, {"sites": [site.model_dump(), site.model_dump()]})


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
        (["augmentation.scale=1"], "augmentation.scale"),
        (["model=unet_cnn", "head.readout=none", "head.pooling=global"], "no lesion to see"),
        (
            ["encoder.norm=instance", "sampling.patch_size=2,2"],
            "encoder.norm=instance makes maps of one voxel",
        ),
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
    plain = config.resolve("small")
    monkeypatch.setenv("SEED", "99")
    monkeypatch.setenv("MODEL", "dynunet")
    assert config.resolve("small") == plain


def test_a_network_has_a_block():
    with pytest.raises(SettingsError, match=r"encoder\.channels.*decoder\.channels"):
        config.resolve("small", assignments=["encoder.channels=[]", "decoder.channels=[]"])


@pytest.mark.parametrize(
    ("given", "example"),
    [
        ("sampling.patch_size=64", "sampling.patch_size=64,64"),
        ("phases=pre", "phases=pre,arterial,portal_venous,delayed"),
        ("preparation.spacing_mm=2", "preparation.spacing_mm="),
    ],
)
def test_one_value_for_several_is_refused_with_an_example_that_is_taken(given, example):
    with pytest.raises(SettingsError, match=f"for example {example}") as told:
        config.resolve("small", assignments=[given])
    shown = str(told.value).split("for example ")[1].split(" (given")[0]
    config.resolve("small", assignments=[shown])


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        config.resolve("small").head.depth = 7  # type: ignore[misc]


def test_the_file_lists_every_field():
    written = yaml.safe_load(config.to_yaml(config.resolve("small")))
    assert list(written) == list(Config.model_fields)


@pytest.mark.parametrize(
    "name",
    ["training.learning_rate", "training.weight_decay", "augmentation.gain", "objective.tim", "tdd.r1"],
)
def test_an_infinite_number_is_refused(name):
    with pytest.raises(SettingsError, match=f"{name}: Input should be a finite number"):
        config.resolve("tiny", assignments=[f"{name}=inf"])


@pytest.mark.parametrize("name", ["training.ema", "decoder.dropout", "head.dropout", "tdd.dropout"])
def test_a_one_that_leaves_nothing_is_refused(name):
    assert config.resolve("tiny", assignments=[f"{name}=0.9"])
    with pytest.raises(SettingsError, match=f"{name}: Input should be less than 1"):
        config.resolve("tiny", assignments=[f"{name}=1"])
