"""Write the report of an evaluated run."""

from __future__ import annotations

from pathlib import Path

from mtinet.reporting.page import write_report
from mtinet.runs import Run


def report(run: Path) -> Path:
    """Write ``report.html`` into the run folder and return its path."""
    return write_report(Run.open(run))
