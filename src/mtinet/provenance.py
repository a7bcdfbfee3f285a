"""Where a result comes from: versions, machine, settings and time, written beside every run."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib import metadata
from typing import Any

PACKAGES = (
    "mtinet",
    "torch",
    "lightning-fabric",
    "monai",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "nibabel",
    "SimpleITK",
)


def versions() -> dict[str, str]:
    """Installed version by package; empty text for one that is not installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def manifest(**facts: Any) -> dict[str, Any]:
    """Versions, machine and time, with ``facts`` added (seed, cohort hash, command, ...)."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],  # noqa: PTH119 (argv is text)
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "versions": versions(),
        **facts,
    }
