"""Say what this machine and installation have, and what is missing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from mtinet import provenance
from mtinet.results import Finding, Severity

EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "tensorboard": (("tensorboard",), "mtinet train --tensorboard"),
    "ray": (("ray",), "experiments on a cluster (mtinet experiment --ray)"),
    "combat": (("combatlearn",), "ComBat harmonisation between sites (harmonisation=combat)"),
    "pdf": (("weasyprint",), "the page of a study as PDF (--format pdf)"),
    "onnx": (("onnx", "onnxscript", "onnxruntime"), "export as ONNX, --backend onnxruntime"),
    "openvino": (("openvino", "onnx", "onnxscript"), "export for OpenVINO, --backend openvino"),
}
"""The optional parts of the installation: what has to be importable for each, and what it is for."""

NEEDED_MB = 4000
"""Free disk below which a training may not finish."""


def doctor() -> tuple[dict[str, Any], list[Finding]]:
    """Facts by name, and findings about what will not work."""
    findings: list[Finding] = []

    def add(id: str, severity: Severity, meaning: str, action: str) -> None:
        findings.append(Finding(id, "doctor", severity, meaning, action))

    facts: dict[str, Any] = {
        "python": sys.version.split()[0],
        **{name: version or "missing" for name, version in provenance.versions().items()},
        "documentation": str(_documentation()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    for name, version in provenance.versions().items():
        if not version:
            add("package-missing", "error", f"{name} is not installed", f"Install it: pip install {name}.")
    if importlib.util.find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except Exception as error:
            add(
                "torchvision-broken",
                "warning",
                f"torchvision does not fit the installed torch ({error}); packages that look for it fail",
                "mtinet does not need it: pip uninstall torchvision.",
            )
    if facts["torch"] != "missing":
        torch = importlib.import_module("torch")
        from mtinet.training.precision import native_bfloat16  # needs torch

        facts["threads"] = torch.get_num_threads()
        facts["gpu"] = (
            torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none (the CPU is used)"
        )
        native = native_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        facts["bfloat16"] = (
            "yes" if native else "no (training.precision=bf16-mixed would be slower, not faster)"
        )
    for extra, (modules, purpose) in EXTRAS.items():
        there = all(importlib.util.find_spec(module) is not None for module in modules)
        facts[f"mtinet[{extra}]"] = (
            "yes" if there else f"no (pip install 'mtinet[{extra}]')"
        ) + f": {purpose}"
    free = shutil.disk_usage(".").free // 10**6
    facts["free disk (MB)"] = free
    if free < NEEDED_MB:
        add("little-disk", "warning", f"{free} MB are free here", "Free some disk, or work elsewhere.")
    return facts, findings


def _documentation() -> Path:
    """The folder of the pages that messages name: inside the package, or of the checkout that it lies in."""
    package = Path(__file__).parents[1]
    installed = package / "docs"
    return installed if installed.is_dir() else package.parents[1] / "docs"
