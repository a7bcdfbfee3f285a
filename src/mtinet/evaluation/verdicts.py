"""The verdict of each paired difference: Holm's procedure over a family, and what supports no claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mtinet.config.comparison import ComparisonSettings
from mtinet.evaluation import paired
from mtinet.evaluation.compared import ENDPOINTS, Family, PairedDifference, Verdict, family_tests
from mtinet.evaluation.pooling import AUROC, RowRecords


def judged(
    differences: Sequence[PairedDifference],
    awaited: Sequence[tuple[str, str]],
    rows: Mapping[str, RowRecords],
    base: RowRecords,
    settings: ComparisonSettings,
) -> tuple[PairedDifference, ...]:
    """The differences with their adjusted p, what they could have detected, and a verdict each.

    Parameters
    ----------
    differences : sequence of PairedDifference
        As they were tested.
    awaited : sequence of (str, str)
        Row and endpoint of tests that count though their rows have no run yet.
    rows : mapping of str to RowRecords
        By name, those of the differences.
    base : RowRecords
        The reference.
    settings : ComparisonSettings
        Level and power.
    """
    adjusted: dict[tuple[str, str], float] = {}
    sizes: dict[str, int] = {}
    families: tuple[Family, ...] = ("primary", "secondary")
    for family in families:
        tests = family_tests(differences, awaited, family)
        adjusted |= paired.holm(tests)
        sizes[family] = max(1, len(tests))
    better = {endpoint.name: endpoint.better for endpoint in ENDPOINTS}
    found = []
    for item in differences:
        level = settings.level / sizes.get(item.family, 1)
        p_holm = math.nan
        if not math.isnan(item.p):
            p_holm = adjusted.get((item.same_as or item.row, item.endpoint), math.nan)
        verdict, reason = _verdict(
            replace(item, p_holm=p_holm), rows[item.row], base, better[item.endpoint], settings.level
        )
        found.append(
            replace(
                item,
                p_holm=p_holm,
                detectable=paired.detectable_difference(item.standard_error, level, settings.power)
                if item.test
                else math.nan,
                verdict=verdict,
                reason=reason,
            )
        )
    return tuple(found)


def _verdict(
    item: PairedDifference, row: RowRecords, base: RowRecords, better: str, level: float
) -> tuple[Verdict, str]:
    if not item.difference.n or math.isnan(item.difference.value):
        if item.endpoint == AUROC and row.can_have(AUROC) and base.can_have(AUROC):
            return "not scored", "no fold has two lesions of two classes that both scored"
        return "not scored", "no patient was scored by both in this endpoint"
    if item.family == "described":
        return "described", ""
    if math.isnan(item.p):
        return "not scored", "no test: nothing varies between patients"
    # verdicts while runs come in would be many looks at one test
    both = (("row", row), ("reference", base))
    unfinished = [name for name, one in both if one.unfinished]
    if unfinished:
        return "no claim", f"runs of the {' and the '.join(unfinished)} are missing"
    moving = [name for name, one in both if not one.at_rest]
    if moving:
        return "no claim", f"the {' and the '.join(moving)} had not converged"
    if item.p_holm > level:
        return "not distinguishable", ""
    return ("better" if (item.difference.value > 0) == (better == "higher") else "worse"), ""
