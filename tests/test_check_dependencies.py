"""The check of licences: what it refuses, and what only another build of torch brings."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_file = Path(__file__).parents[1] / "tools" / "check_dependencies.py"
_spec = importlib.util.spec_from_file_location("check_dependencies", _file)
check_dependencies = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check_dependencies)


@pytest.mark.parametrize(
    ("name", "licence", "refused"),
    [
        ("one", "MIT", False),
        ("one", "LGPL-3.0-or-later", False),
        ("one", "MIT OR GPL-3.0-only", False),
        ("one", "GPL-3.0-only", True),
        ("one", "UNKNOWN", True),
        ("nvidia-cublas", "LicenseRef-NVIDIA-Proprietary", False),
        ("cuda_toolkit", "UNKNOWN", False),
        ("barracuda-tools", "UNKNOWN", True),
    ],
)
def test_a_licence_that_binds_others_is_refused(name, licence, refused):
    package = {
        "Name": name,
        "Version": "1",
        "License-Expression": licence,
        "License-Classifier": "UNKNOWN",
        "License-Metadata": "UNKNOWN",
    }
    found = check_dependencies.offenders([package])
    assert bool(found) == refused
    assert all(name in line for line in found)
