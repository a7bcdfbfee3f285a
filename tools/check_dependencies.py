"""Fail on a dependency that may not be shipped with Apache-2.0 software, and on torchvision.

torchvision beside a CPU build of torch breaks packages that look for it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

FORBIDDEN = re.compile(r"\bA?GPL|GNU (Affero )?General Public|non-?commercial|CC[ -]BY-NC", re.IGNORECASE)
ALLOWED = re.compile(r"LGPL|Lesser General Public|WITH GCC-exception", re.IGNORECASE)
"""Libraries used unchanged, and the compiler's run-time parts: they ask nothing of what uses them."""

EXEMPT = (
    "nvidia-",  # libraries of a CUDA build of torch: NVIDIA's own licence, which lets torch's users run them
    "cuda-",  # NVIDIA's bindings and the toolkit's empty package, which names no licence
)
"""Beginnings of names of what only a CUDA build of torch brings: mtinet neither names nor ships it."""

FIELDS = ("License-Expression", "License-Classifier", "License-Metadata")


def licences(package: dict[str, str]) -> list[str]:
    """The licences between which a user of the package may choose, from the first field that names any."""
    for field in FIELDS:
        text = package[field].strip()
        if text not in ("", "UNKNOWN"):
            # some put the licence's whole text there; its first line is its name
            return re.split(r"\s+OR\s+|;\s*", text.splitlines()[0])
    return []


def offenders(packages: Iterable[dict[str, str]]) -> list[str]:
    """A line for each package of which no licence may be chosen."""
    lines = []
    for package in packages:
        if package["Name"].lower().replace("_", "-").startswith(EXEMPT):
            continue
        choices = licences(package)
        if not any(ALLOWED.search(c) or not FORBIDDEN.search(c) for c in choices):
            lines.append(
                f"{package['Name']} {package['Version']}: {'; '.join(choices) or 'no licence named'}"
            )
    return lines


def main() -> int:
    """Print every offender and return the exit code."""
    listed = subprocess.run(
        [str(Path(sys.executable).with_name("pip-licenses")), "--format=json", "--from=all"],
        check=True,
        capture_output=True,
        text=True,
    )
    found = offenders(json.loads(listed.stdout))
    if importlib.util.find_spec("torchvision") is not None:
        found.append("torchvision is installed; find what dragged it in (pip show torchvision)")
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
