"""What `import mtinet` gives."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import mtinet


def test_what_is_listed_is_there():
    assert dir(mtinet) == sorted(mtinet.__all__)
    for name in dir(mtinet):
        assert getattr(mtinet, name) is not None
    assert mtinet.__version__ == version("mtinet")


def test_the_package_is_the_program():
    done = subprocess.run([sys.executable, "-m", "mtinet", "--version"], capture_output=True, text=True)
    assert done.stdout == f"mtinet {version('mtinet')}\n", done.stderr
