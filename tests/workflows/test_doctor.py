"""What the machine and the installation have."""

import importlib.util
import tomllib
from pathlib import Path

from mtinet.workflows.doctor import EXTRAS, doctor

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_every_extra_of_the_package_is_told_with_what_it_is_for(monkeypatch):
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) == set(declared) - {"all", "dev"}
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find_spec(name))
    facts, _ = doctor()
    for extra, (modules, purpose) in EXTRAS.items():
        told = facts[f"mtinet[{extra}]"]
        assert purpose in told
        if "onnx" in modules:
            assert told.startswith(f"no (pip install 'mtinet[{extra}]')")
