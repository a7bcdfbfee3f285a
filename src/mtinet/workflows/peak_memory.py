"""The most memory that a process held."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def peak_bytes(restart: bool = False) -> int:
    """Most memory that this process ever held, or since the last restart where the system can do that.

    Linux keeps ``ru_maxrss`` over exec, so a new process starts with the peak of the one that started it;
    ``VmHWM`` is its own.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        if restart:
            # where that is not allowed, the peak of importing counts as held before
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource  # not on every system

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
