"""Studies and cohorts: their tables on disk and the checks that need no pixels."""

from mtinet.cohort.checks import structural_findings
from mtinet.cohort.cohort import Cohort, read_with_findings
from mtinet.cohort.study import (
    ACQUISITION,
    ALL_SITES,
    MASK_SOURCES,
    MAX_LESIONS,
    NO_LESION,
    REFERENCE_ORDER,
    CohortError,
    Study,
    nifti_files,
)
from mtinet.cohort.tables import COHORT_FORMAT, SNOMED_CT

__all__ = [
    "ACQUISITION",
    "ALL_SITES",
    "COHORT_FORMAT",
    "MASK_SOURCES",
    "MAX_LESIONS",
    "NO_LESION",
    "REFERENCE_ORDER",
    "SNOMED_CT",
    "Cohort",
    "CohortError",
    "Study",
    "nifti_files",
    "read_with_findings",
    "structural_findings",
]
