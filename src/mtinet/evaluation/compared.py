"""What a comparison of rows consists of: endpoints and their families, rows, differences, and what was tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mtinet.config.comparison import ComparisonSettings
from mtinet.evaluation.pooling import AUROC
from mtinet.evaluation.statistics import NO_ESTIMATE, Estimate

Family = Literal["primary", "secondary", "described"]
Verdict = Literal["better", "worse", "not distinguishable", "no claim", "not scored", "described"]


@dataclass(frozen=True)
class Endpoint:
    """A number that rows are compared by.

    Attributes
    ----------
    name : str
    better : {"lower", "higher", ""}
        Empty where neither is: a bias, which is best at 0.
    family : {"primary", "secondary", "described"}
    """

    name: str
    better: Literal["lower", "higher", ""]
    family: Family


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("enhancement_error", "lower", "primary"),
    Endpoint("relative_error_percent", "lower", "described"),
    Endpoint("dice", "higher", "primary"),
    Endpoint("accuracy", "higher", "secondary"),
    Endpoint(AUROC, "higher", "secondary"),
    Endpoint("iou", "higher", "described"),
    Endpoint("nsd", "higher", "described"),
    Endpoint("hd95_mm", "lower", "described"),
    Endpoint("volume_bias_ml", "", "described"),
    Endpoint("enhancement_bias", "", "described"),
)
DEFAULT_ENDPOINTS = ("enhancement_error", "relative_error_percent", "dice", "accuracy", AUROC)


@dataclass(frozen=True)
class RowSummary:
    """What a row scored by itself.

    Attributes
    ----------
    name, title : str
    number : float or None
    curve : str
        As of :class:`~mtinet.evaluation.pooling.RowRecords`.
    runs, planned : int
        Finished runs, and those planned (0 = not known).
    moved : dict
    at_rest : bool
        How far its runs moved at their end, and whether that is rest.
    seeds : tuple of int
    blocks : tuple of str
        Folds or sites that were held out.
    patients : int
    step_s : float
        Median seconds a training step.
    values : dict
        Estimate by endpoint.
    by_seed : dict
        Mean by endpoint and seed.
    """

    name: str
    title: str
    number: float | None
    curve: str
    runs: int
    planned: int
    moved: dict[str, float | None]
    at_rest: bool
    seeds: tuple[int, ...]
    blocks: tuple[str, ...]
    patients: int
    step_s: float
    values: dict[str, Estimate]
    by_seed: dict[str, dict[int, float]]


@dataclass(frozen=True)
class PairedDifference:
    """A row minus the reference, on the patients that both scored.

    Attributes
    ----------
    row, endpoint : str
    family : {"primary", "secondary", "described"}
    difference : Estimate
        Mean with its 95 % interval; ``n`` = patients.
    effect : Estimate
        Standardised difference (Cohen's d_z) with its interval; NaN where it is not defined (AUROC).
    test : str
        Empty where nothing was tested.
    p, p_holm : float
        Of the test, and adjusted within the family.
    standard_error : float
        Of the difference.
    detectable : float
        Smallest true difference that a test at the first level of Holm's procedure finds with the stated
        power.
    verdict : str
    reason : str
        Why there is no claim, or nothing was scored; empty otherwise.
    same_as : str
        Earlier row that reads the same number from the same runs, and so shares its test; empty otherwise.
    """

    row: str
    endpoint: str
    family: Family
    difference: Estimate
    effect: Estimate = NO_ESTIMATE
    test: str = ""
    p: float = math.nan
    p_holm: float = math.nan
    standard_error: float = math.nan
    detectable: float = math.nan
    verdict: Verdict = "not scored"
    reason: str = ""
    same_as: str = ""


@dataclass(frozen=True)
class Comparison:
    """An experiment's numbers.

    Attributes
    ----------
    reference : str
        Name of the row that the others are compared with.
    endpoints : tuple of Endpoint
    rows : tuple of RowSummary
        The reference among them.
    differences : tuple of PairedDifference
    settings : ComparisonSettings
    cohort, cohort_hash : str
    notes : tuple of str
        What limits the comparison: unfinished rows, mixed revisions, one seed only, ...
    awaited : tuple of (str, str)
        Row and endpoint of the tests of rows that have no run yet.  They count in Holm's procedure, or what is
        said of the others would change when they come.
    """

    reference: str
    endpoints: tuple[Endpoint, ...]
    rows: tuple[RowSummary, ...]
    differences: tuple[PairedDifference, ...]
    settings: ComparisonSettings
    cohort: str
    cohort_hash: str
    notes: tuple[str, ...] = ()
    awaited: tuple[tuple[str, str], ...] = ()

    def row(self, name: str) -> RowSummary:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def difference(self, row: str, endpoint: str) -> PairedDifference:
        """A row's difference in one endpoint; the reference has none."""
        return next(item for item in self.of(endpoint) if item.row == row)

    def of(self, endpoint: str) -> tuple[PairedDifference, ...]:
        """The differences in one endpoint, in the order of the rows."""
        return tuple(item for item in self.differences if item.endpoint == endpoint)

    def family_size(self, family: Family) -> int:
        """Tests that Holm's procedure runs over."""
        return len(family_tests(self.differences, self.awaited, family))


def family_tests(
    differences: Sequence[PairedDifference], awaited: Sequence[tuple[str, str]], family: Family
) -> dict[tuple[str, str], float]:
    """The p-values of a family by row and endpoint, each test once; 1 where a run lacks, or nothing varies."""
    families = {endpoint.name: endpoint.family for endpoint in ENDPOINTS}
    done = {
        (item.row, item.endpoint): 1.0 if math.isnan(item.p) else item.p
        for item in differences
        if item.family == family and item.test and not item.same_as and not math.isnan(item.difference.value)
    }
    return done | {test: 1.0 for test in awaited if families[test[1]] == family}
