"""What the machine and the installation have."""

import importlib.util
import re
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


def test_the_pages_that_messages_name_are_there():
    documentation = Path(doctor()[0]["documentation"])
    named = {
        page
        for path in (PYPROJECT.parent / "src").rglob("*.py")
        for page in re.findall(r"\bdocs/([a-z0-9-]+\.md)", path.read_text(encoding="utf-8"))
    }
    assert "cohort.md" in named
    assert [page for page in sorted(named) if not (documentation / page).is_file()] == []
