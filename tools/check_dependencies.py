"""Fail on a dependency that may not be shipped with Apache-2.0 software, and on torchvision.

torchvision beside a CPU build of torch breaks packages that look for it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

FORBIDDEN = re.compile(r"\bA?GPL|GNU (Affero )?General Public|non-?commercial|CC[ -]BY-NC", re.IGNORECASE)
ALLOWED = re.compile(r"LGPL|Lesser General Public|WITH GCC-exception", re.IGNORECASE)
"""Libraries used unchanged, and the compiler's run-time parts: they ask nothing of what uses them."""

FIELDS = ("License-Expression", "License-Classifier", "License-Metadata")


def licences(package: dict[str, str]) -> list[str]:
    """The licences between which a user of the package may choose, from the first field that names any."""
    for field in FIELDS:
        text = package[field].strip()
        if text not in ("", "UNKNOWN"):
            # some put the licence's whole text there; its first line is its name
            return re.split(r"\s+OR\s+|;\s*", text.splitlines()[0])
    return []


def main() -> int:
    """Print every offender and return the exit code."""
    listed = subprocess.run(
        [str(Path(sys.executable).with_name("pip-licenses")), "--format=json", "--from=all"],
        check=True,
        capture_output=True,
        text=True,
    )
    offenders = []
    for package in json.loads(listed.stdout):
        choices = licences(package)
        free = [c for c in choices if ALLOWED.search(c) or not FORBIDDEN.search(c)]
        if not free:
            offenders.append(
                f"{package['Name']} {package['Version']}: {'; '.join(choices) or 'no licence named'}"
            )
    if importlib.util.find_spec("torchvision") is not None:
        offenders.append("torchvision is installed; find what dragged it in (pip show torchvision)")
    for line in offenders:
        print(line, file=sys.stderr)
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main())
