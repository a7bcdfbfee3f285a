from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mtinet.config import resolve
from mtinet.inference.reader import trained_network
from mtinet.model.build import build_network
from mtinet.runs import RUN_FORMAT, Run, RunError


@pytest.fixture
def run(tmp_path: Path) -> Run:
    documents = {"manifest": {"format": RUN_FORMAT}, "classes": {"classes": ["hcc", "fnh"]}}
    run = Run.create(tmp_path / "run", resolve("tiny"), documents)
    run.save_model(build_network(run.config, 2).state_dict(), {"step": 3})
    return run


def test_the_network_of_a_run_has_its_weights_and_facts(run: Run):
    network, facts = trained_network(run, "cpu")
    assert facts == {"step": 3}
    for name, tensor in run.load_model()[0].items():
        assert torch.equal(network.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("head:\n  width: 16\n  depth: 1", "head:\n  width: 16\n  depth: 2"), ("- 16\n", "- 12\n")],
)
def test_settings_of_another_network_are_told_apart_from_its_weights(run: Run, right, wrong):
    settings = run.path / "config.yaml"
    text = settings.read_text()
    assert right in text
    settings.write_text(text.replace(right, wrong))
    with pytest.raises(
        RunError,
        match=r"config\.yaml .* do not belong to the weights of the model; restore .* or train again",
    ):
        trained_network(run, "cpu")


def test_classes_of_another_network_are_told_apart_from_its_weights(run: Run):
    run.write_document("classes", {"classes": ["hcc", "fnh", "cyst"]})
    with pytest.raises(RunError, match=r"classes\.json\) do not belong to the weights"):
        trained_network(run, "cpu")
