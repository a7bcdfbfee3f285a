"""``mtinet prepare``: bring a cohort's studies to the form that networks read, once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mtinet import files
from mtinet.cohort import Cohort, Study
from mtinet.config import Config
from mtinet.data import cache as entries
from mtinet.data.preparation import PreparationError, find_prepared, prepare_study
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError
from mtinet.results import Finding
from mtinet.workflows.pool import OnProgress, default_workers, for_each

_USED = {"none": "the phase as it lies", "rigid": "the rigid motion", "bspline": "the deformation"}

_COLUMNS = (
    "applied",
    "outcome",
    "reason",
    "around",
    "similarity_before",
    "similarity_after",
    "median_mm",
    "max_mm",
    "jacobian_min",
    "jacobian_max",
    "lesion_volume_change",
    "liver_dice_before",
    "liver_dice_after",
)


class Preparation(NamedTuple):
    """The studies that could be prepared, in the cohort's order, and what was found on the way."""

    studies: list[PreparedStudy]
    findings: list[Finding]


def prepare(
    cohort: Cohort,
    config: Config,
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> Preparation:
    """Prepare every study of a cohort, or open it where it was prepared before.

    Parameters
    ----------
    cohort : Cohort
    config : Config
        Its phases and preparation settings.
    cache : Path, optional
        Where prepared studies go; None = in the cohort's folder, else in the user's cache.
    workers : int, optional
        Processes; None = from the machine.
    on_progress : callable, optional
        Called with the number of studies done and their total.

    Returns
    -------
    Preparation
        A study that fails gives an error among the findings and does not stop the others.
    """
    job = _Job(config, entries.cache_folder(cache, cohort.folder))
    items = [(study, cohort.lesion_labels(study)) for study in cohort.studies]
    # hashing lets other threads run, and a process that would only look in the cache takes seconds to start
    outcomes: list[PreparedStudy | Finding | None] = []
    there = 0
    with ThreadPoolExecutor(max(1, default_workers() if workers is None else workers)) as threads:
        for found in threads.map(partial(_find_one, job), items):
            outcomes.append(found)
            there += found is not None
            if on_progress is not None and found is not None:
                on_progress(there, len(items))
    missing = [index for index, outcome in enumerate(outcomes) if outcome is None]
    made = for_each(
        partial(_prepare_one, job),
        [items[index] for index in missing],
        workers,
        None if on_progress is None else lambda done, _: on_progress(there + done, len(items)),
    )
    for index, outcome in zip(missing, made, strict=True):
        outcomes[index] = outcome
    studies: list[PreparedStudy] = []
    findings: list[Finding] = []
    for result in outcomes:
        if isinstance(result, Finding):
            findings.append(result)
        elif result is not None:
            studies.append(result)
            findings += _study_findings(result)
    return Preparation(studies, findings)


def prepare_cohort(
    cohort_dir: Path,
    config: Config,
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> Preparation:
    """Read a cohort and :func:`prepare` it."""
    return prepare(Cohort.read(cohort_dir), config, cache, workers, on_progress)


def cache_entries(place: Path) -> list[dict[str, Any]]:
    """What lies in the cache of a cohort, or in a cache folder: ``study_id, key, bytes, folder``."""
    return [
        {"study_id": e.study_id, "key": e.key, "bytes": e.size_bytes, "folder": str(e.folder)}
        for e in entries.cache_entries(_cache_at(place))
    ]


def clear_cache(place: Path) -> int:
    """Remove the prepared studies of a cohort, or of a cache folder; give their number."""
    return entries.clear(_cache_at(place))


def _cache_at(place: Path) -> Path:
    if not place.is_dir():
        raise UserError(f"{place} is not a folder; give a cohort or a cache folder")
    return entries.cache_folder(cohort_folder=place) if (place / "cohort.csv").is_file() else place


@dataclass(frozen=True)
class _Job:
    config: Config
    cache: Path


def _find_one(job: _Job, item: tuple[Study, dict[int, str]]) -> PreparedStudy | None:
    study, labels = item
    try:
        return find_prepared(study, job.config.phases, job.config.preparation, job.cache, labels)
    except PreparationError:
        return None  # said when it is to be prepared


def _prepare_one(job: _Job, item: tuple[Study, dict[int, str]]) -> PreparedStudy | Finding:
    study, labels = item
    try:
        return prepare_study(study, job.config.phases, job.config.preparation, job.cache, labels)
    except PreparationError as error:
        return Finding(
            "not-prepared",
            "prepare",
            "error",
            str(error),
            "Correct the study or remove its row; mtinet check lists everything that is wrong with it.",
            study.study_id,
        )


def _study_findings(study: PreparedStudy) -> list[Finding]:
    findings = [
        Finding(
            "registration-rejected",
            "prepare",
            "warning",
            f"{phase}: {record['reason']}; used instead: {_USED[record['applied']]}",
            "Look at the phases on top of each other; where they do not fit, export the phase again, give a "
            "liver mask, or leave the phase out.",
            study.study_id,
        )
        for phase, record in study.registrations.items()
        if record["outcome"] == "rejected"
    ]
    if study.lost_lesions:
        numbers = ", ".join(map(str, study.lost_lesions))
        findings.append(
            Finding(
                "lesion-outside",
                "prepare",
                "warning",
                f"lesion {numbers} of the mask lies outside the field of view of {study.reference_phase}",
                "Draw it on the reference phase, or leave the study out: nothing is measured in this lesion.",
                study.study_id,
            )
        )
    return findings


def registration_table(studies: Sequence[PreparedStudy]) -> pd.DataFrame:
    """Quality of the registration: a row for every study and phase that was registered.

    Columns: ``study_id, phase, reference, applied, outcome, reason, around, similarity_before,
    similarity_after, median_mm, max_mm, jacobian_min, jacobian_max, lesion_volume_change,
    liver_dice_before, liver_dice_after`` (docs/registration.md says what each means).

    Parameters
    ----------
    studies : sequence of PreparedStudy
    """
    rows = [
        {
            "study_id": study.study_id,
            "phase": phase,
            "reference": study.reference_phase,
            # what was prepared by an earlier release has no liver overlap
            **{name: record.get(name) for name in _COLUMNS},
        }
        for study in studies
        for phase, record in study.registrations.items()
    ]
    return pd.DataFrame(rows, columns=["study_id", "phase", "reference", *_COLUMNS])


def write_registration_table(path: Path, studies: Sequence[PreparedStudy]) -> None:
    """Write :func:`registration_table` as CSV."""
    files.write_text(path, registration_table(studies).to_csv(index=False))
