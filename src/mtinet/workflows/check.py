"""``mtinet check``: everything that is wrong with a cohort, before anything is computed on it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mtinet.cohort import Cohort, Study, read_with_findings
from mtinet.imaging.checks import pixel_findings
from mtinet.results import Finding
from mtinet.workflows.pool import OnProgress, for_each

_RANK = {"error": 0, "warning": 1, "note": 2}


def check(
    cohort_dir: Path, workers: int | None = None, on_progress: OnProgress | None = None
) -> list[Finding]:
    """List every finding on a cohort's tables and images, errors first.

    Parameters
    ----------
    cohort_dir : Path
        Folder with ``cohort.csv`` and ``cohort.yaml``.
    workers : int, optional
        Processes; None = from the machine.
    on_progress : callable, optional
        Called with the number of studies looked at and their total.

    Returns
    -------
    list of Finding
        Each with its repair; empty for a cohort in order.
    """
    cohort, findings = read_with_findings(cohort_dir)
    if cohort is None:
        return findings
    for found in for_each(partial(_check_study, cohort), cohort.studies, workers, on_progress):
        findings += found
    # a study with two rows is read twice, and what it lacks is said once
    return sorted(dict.fromkeys(findings), key=lambda finding: _RANK[finding.severity])


def _check_study(cohort: Cohort, study: Study) -> list[Finding]:
    return pixel_findings(study, cohort.lesion_labels(study), cohort.classes)
