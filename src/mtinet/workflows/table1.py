"""``mtinet table1``: the "Table 1" of a cohort, from its tables and masks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

from mtinet.cohort import Cohort, Study
from mtinet.imaging.masks import equivalent_diameter_mm, voxel_counts
from mtinet.reporting.cohort_table import Described, MeasuredLesion, cohort_facts, cohort_table
from mtinet.reporting.texts import Text
from mtinet.results import Finding
from mtinet.volume import VolumeError, read_nifti
from mtinet.workflows.pool import OnProgress, for_each


class CohortDescription(NamedTuple):
    """The table, what checklists take from it, and the masks that could not be read."""

    cohort: Cohort
    table: Text
    facts: dict[str, str]
    findings: list[Finding]


def table1(
    cohort_dir: Path, workers: int | None = None, on_progress: OnProgress | None = None
) -> CohortDescription:
    """Describe a cohort: patients, sites, acquisition, phases that are missing, lesions with their sizes.

    Parameters
    ----------
    cohort_dir : Path
    workers : int, optional
        Processes that read masks; None = from the machine.
    on_progress : callable, optional

    Raises
    ------
    CohortError
        The cohort cannot be read.
    """
    cohort = Cohort.read(cohort_dir)
    described = for_each(partial(describe_study, cohort), cohort.studies, workers, on_progress)
    findings = [
        Finding(
            "unreadable-mask",
            "cohort",
            "warning",
            "its mask cannot be read, so its lesions are not in the table",
            "Run mtinet check, which says why.",
            item.study.study_id,
        )
        for item in described
        if item.lesions is None and item.study.mask is not None
    ]
    return CohortDescription(
        cohort, cohort_table(cohort, described), cohort_facts(cohort, described), findings
    )


def describe_study(cohort: Cohort, study: Study) -> Described:
    """A study's lesions with class and size, each instance of its mask one."""
    if study.mask is None:
        return Described(study, None)
    try:
        mask = read_nifti(study.mask, labels=True)
    except VolumeError:
        return Described(study, None)
    counts = voxel_counts(mask.array)
    labels = cohort.lesion_labels(study)
    largest = max(counts, key=lambda n: counts[n], default=0)
    return Described(
        study,
        tuple(
            MeasuredLesion(
                # without lesions.csv only the class of the largest lesion is known
                labels.get(lesion, study.label if lesion == largest else ""),
                equivalent_diameter_mm(count * mask.voxel_mm3),
                count * mask.voxel_mm3 / 1000.0,
            )
            for lesion, count in counts.items()
        ),
    )
