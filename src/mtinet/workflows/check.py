"""``mtinet check``: everything that is wrong with a cohort, before anything is computed on it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from mtinet.cohort import Cohort, Study, read_with_findings
from mtinet.imaging.checks import StudyLook, copied_images, look_at
from mtinet.results import Finding
from mtinet.workflows.imports.writing import IMPORT_FILE
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
        Each with its repair; empty for a cohort in order.  What its import found (stage ``import``) is among them.
    """
    cohort, findings = read_with_findings(cohort_dir)
    if cohort is None:
        return findings
    looks = for_each(partial(look_at_one, cohort), cohort.studies, workers, on_progress)
    for look in looks:
        findings += look.findings
    findings += copied_images(zip(cohort.studies, looks, strict=True))
    findings += [Finding(**finding) for finding in import_record(cohort_dir).get("findings", [])]
    # a study with two rows is read twice, and what it lacks is said once
    return worst_first(findings)


def import_record(folder: Path) -> dict[str, Any]:
    """``import.json`` of a cohort; empty where it was not imported."""
    try:
        return dict(json.loads((folder / IMPORT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, errors before warnings before notes."""
    return sorted(dict.fromkeys(findings), key=lambda finding: _RANK[finding.severity])


def look_at_one(cohort: Cohort, study: Study) -> StudyLook:
    """What a study's own files show, with what the cohort says about its lesions."""
    return look_at(study, cohort.lesion_labels(study), cohort.classes)
