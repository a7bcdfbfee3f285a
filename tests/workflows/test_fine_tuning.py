"""Which weights of a start run are taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtinet.config import Config, resolve
from mtinet.model.build import build_network, class_tensors, enhancement_tensors
from mtinet.model.network import MultiTaskNetwork
from mtinet.runs import Run
from mtinet.workflows.fine_tuning import initialise


def untrained(place: Path, config: Config, classes: tuple[str, ...]) -> tuple[Run, MultiTaskNetwork]:
    """A run whose model is a network as it was built from another seed."""
    other = resolve("tiny", assignments=[f"model={config.model}", "training.seed=3"]).training
    network = build_network(config.model_copy(update={"training": other}), len(classes))
    run = Run.create(place, config, {"classes": {"classes": list(classes)}, "manifest": {"format": 1}})
    run.save_model(network.state_dict(), {})
    return run, network


@pytest.mark.parametrize("model", ["mtinet", pytest.param("unet_cnn", marks=pytest.mark.slow)])
def test_classes_of_a_start_run_are_taken_by_name(tmp_path: Path, model):
    config = resolve("tiny", assignments=[f"model={model}"])
    start, trained = untrained(tmp_path / "run", config, ("cyst", "hcc", "fnh"))
    network = build_network(config, 3)
    assert initialise(network, start, ("fnh", "cyst", "hcc")) == []
    image = torch.rand(2, 4, 32, 32)
    before, after = trained.eval()(image), network.eval()(image)
    torch.testing.assert_close(after.class_logits, before.class_logits[..., [2, 0, 1]])
    torch.testing.assert_close(after.enhancement, before.enhancement)

    fresh = build_network(config, 3)
    (finding,) = initialise(fresh, start, ("fnh", "cyst", "icc"))
    assert "cyst, hcc, fnh there and fnh, cyst, icc here" in finding.meaning
    untouched = build_network(config, 3).state_dict()
    own, theirs = fresh.state_dict(), trained.state_dict()
    for name, tensor in own.items():
        expected = untouched if name in class_tensors(config, 3) else theirs
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("changes", [(), ("encoder.shared=false",), ("model=basic_unet",)])
def test_what_belongs_to_other_phases_starts_fresh(tmp_path: Path, changes):
    config = resolve("tiny", assignments=changes)
    start, trained = untrained(tmp_path / "run", config, ("cyst", "hcc"))
    other = resolve("tiny", assignments=[*changes, "phases=arterial,pre,portal_venous,hepatobiliary"])
    network = build_network(other, 2)
    (finding,) = initialise(network, start, ("cyst", "hcc"))
    assert "hepatobiliary here" in finding.meaning
    own, theirs, untouched = (n.state_dict() for n in (network, trained, build_network(other, 2)))
    taken = {name for name in own if torch.equal(own[name], theirs[name])}
    fresh = {name for name in own if torch.equal(own[name], untouched[name])}
    assert taken | fresh == set(own)
    first = {"model=basic_unet": "body."}.get("".join(changes), "encoder.encoders.0.")
    weights = [
        name for name in own if name.startswith(first) and name.endswith("weight") and own[name].ndim > 2
    ]
    # one encoder for all phases knows none of them
    assert (weights[0] in taken) == (changes == ())
    assert [name for name in own if name in taken - fresh]


@pytest.mark.parametrize("model", ["mtinet", "basic_unet", pytest.param("unet_cnn", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("there", "here"), [("none", "residual"), ("residual", "none")])
def test_what_says_the_enhancement_is_not_taken_for_what_is_added_to_it(tmp_path: Path, model, there, here):
    configs = [resolve("tiny", assignments=[f"model={model}", f"head.readout={r}"]) for r in (there, here)]
    start, trained = untrained(tmp_path / "run", configs[0], ("cyst", "hcc"))
    network = build_network(configs[1], 2)
    untouched = build_network(configs[1], 2).state_dict()
    (finding,) = initialise(network, start, ("cyst", "hcc"))
    assert f"head.readout={there} there and {here} here" in finding.meaning
    fresh = enhancement_tensors(configs[1], 2)
    assert fresh
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, untouched[name] if name in fresh else trained.state_dict()[name]), name


def test_a_shared_encoder_becomes_that_of_each_phase_and_not_the_other_way(tmp_path: Path):
    shared, single = (resolve("tiny", assignments=[f"encoder.shared={s}"]) for s in ("true", "false"))
    start, trained = untrained(tmp_path / "shared", shared, ("cyst", "hcc"))
    network = build_network(single, 2)
    assert initialise(network, start, ("cyst", "hcc")) == []
    one = trained.state_dict()
    for name, tensor in network.state_dict().items():
        place, _, rest = name.removeprefix("encoder.encoders.").partition(".")
        like = f"encoder.encoders.0.{rest}" if place.isdigit() else name
        assert torch.equal(tensor, one[like]), name

    start, _ = untrained(tmp_path / "single", single, ("cyst", "hcc"))
    network = build_network(shared, 2)
    (finding,) = initialise(network, start, ("cyst", "hcc"))
    assert "one for all here" in finding.meaning
    untouched = build_network(shared, 2).state_dict()
    encoder = [name for name in untouched if name.startswith("encoder.encoders.")]
    assert all(torch.equal(network.state_dict()[name], untouched[name]) for name in encoder)


def test_another_network_is_a_warning_with_the_repair(tmp_path: Path):
    start, _ = untrained(tmp_path / "run", resolve("tiny"), ("cyst", "hcc"))
    same = build_network(resolve("tiny"), 2)
    (finding,) = initialise(same, start, ("cyst", "icc"))
    assert finding.severity == "note"
    wider = build_network(resolve("tiny", assignments=["encoder.stem=2"]), 2)
    (finding,) = initialise(wider, start, ("cyst", "hcc"))
    assert finding.severity == "warning"
    assert "--config" in finding.action
