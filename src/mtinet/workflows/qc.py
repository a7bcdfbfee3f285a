"""``mtinet qc``: one page that shows every study of a cohort as it will be used."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mtinet.cohort import Cohort, CohortError, Study, read_with_findings
from mtinet.data import cache as entries
from mtinet.data.prepared import PreparedStudy
from mtinet.imaging.checks import StudyLook, copied_images
from mtinet.reporting.qc import QC_PAGE, StudyPictures, draw_study, write_page
from mtinet.results import Finding
from mtinet.workflows.check import import_record, look_at_one, worst_first
from mtinet.workflows.imports.inclusion import INCLUSION_FILE, InclusionRow
from mtinet.workflows.pool import OnProgress, for_each


class QualityControl(NamedTuple):
    """The page, and the findings that head it."""

    page: Path
    findings: list[Finding]


def qc(
    cohort_dir: Path,
    out: Path | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> QualityControl:
    """Check a cohort and draw its studies on one page.

    Parameters
    ----------
    cohort_dir : Path
    out : Path, optional
        The page; None = ``qc.html`` in the cohort's folder.
    cache : Path, optional
        Where prepared studies are; None = where ``prepare`` puts them.  Studies found there are shown before
        and after registration.
    workers : int, optional
        Processes; None = from the machine.
    on_progress : callable, optional

    Raises
    ------
    CohortError
        There is no cohort to read.
    """
    cohort, findings = read_with_findings(cohort_dir)
    if cohort is None:
        raise CohortError("\n".join(f"{f.meaning}. {f.action}" for f in findings))
    imported = import_record(cohort_dir)
    prepared = _prepared(entries.cache_folder(cache, cohort_dir))
    found = for_each(partial(_one, cohort, prepared), cohort.studies, workers, on_progress)
    for look, _ in found:
        findings += look.findings
    findings += copied_images((study, look) for study, (look, _) in zip(cohort.studies, found, strict=True))
    findings += [Finding(**finding) for finding in imported.get("findings", [])]
    findings = worst_first(findings)
    page = out or cohort_dir / QC_PAGE
    write_page(
        page,
        cohort,
        [pictures for _, pictures in found],
        findings,
        inclusion_of(cohort_dir),
        imported.get("studies", {}),
    )
    return QualityControl(page, findings)


def _one(cohort: Cohort, prepared: Mapping[str, Path], study: Study) -> tuple[StudyLook, StudyPictures]:
    folder = prepared.get(study.study_id)
    return look_at_one(cohort, study), draw_study(study, None if folder is None else _open(folder))


def _open(folder: Path) -> PreparedStudy | None:
    try:
        return PreparedStudy.open(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # another writer has just removed it: the page does without


def _prepared(cache: Path) -> dict[str, Path]:
    """The newest prepared form of each study."""
    if not cache.is_dir():
        return {}
    newest = sorted(entries.cache_entries(cache), key=lambda entry: entry.folder.stat().st_mtime)
    return {entry.study_id: entry.folder for entry in newest}


def inclusion_of(folder: Path) -> list[InclusionRow]:
    """The inclusion table of an imported cohort; empty where there is none."""
    try:
        with (folder / INCLUSION_FILE).open(encoding="utf-8", newline="") as lines:
            return [InclusionRow(r["step"], int(r["studies"]), r["reason"]) for r in csv.DictReader(lines)]
    except (OSError, KeyError, ValueError):
        return []
