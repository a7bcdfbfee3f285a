"""The machine on which a benchmark runs."""

from __future__ import annotations

import os
import platform
from pathlib import Path

BUSY = 0.5
"""Load a core, before the run, from which the machine counts as busy."""


_INSTRUCTIONS = {"avx512_bf16": "AVX-512 with bfloat16", "avx512f": "AVX-512", "avx2": "AVX2"}
"""What decides about kernels, by Linux' flag, the latest first."""


def processor(info: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the processor, as the system gives it, and the instructions for which libraries choose kernels."""
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = told.get("model name") or platform.processor()
    flags = told.get("flags", "").split()
    known = next((meaning for flag, meaning in _INSTRUCTIONS.items() if flag in flags), "")
    return f"{name} ({known})" if known else name


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
