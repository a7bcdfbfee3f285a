"""The machine on which a benchmark runs."""

from __future__ import annotations

import os
import platform
from pathlib import Path

BUSY = 0.5
"""Load a core, before the run, from which the machine counts as busy."""


def processor() -> str:
    """Name of the processor, as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def busy_warnings() -> list[str]:
    """What makes seconds doubtful: a machine that works on something else."""
    if not hasattr(os, "getloadavg"):
        return []
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load <= BUSY * cores:
        return []
    return [
        f"the machine was busy before the run (load {load:.1f} on {cores} cores): repeat it when it is quiet"
    ]
