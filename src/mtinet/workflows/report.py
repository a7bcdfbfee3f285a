"""Write the report of an evaluated run."""

from __future__ import annotations

from pathlib import Path

from mtinet.reporting.page import write_report
from mtinet.runs import Run


def report(run: Path, on: str | None = None) -> Path:
    """Write ``report.html`` and return its path.

    Parameters
    ----------
    run : Path
    on : str, optional
        Name of another evaluation (``evaluate --cohort`` or ``--predictions``); its page lies beside its
        tables.
    """
    opened = Run.open(run)
    return write_report(opened, None if on is None else opened.predictions_on(on))
