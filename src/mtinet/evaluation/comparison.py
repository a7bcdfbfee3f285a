"""The rows of an experiment against their reference: paired tests, corrected, and a verdict for each.

Families as in the paper's order: the enhancement error, then Dice, are primary; accuracy and the area under
the ROC curve are secondary.  Holm's procedure runs over rows x endpoints of each family; rows that read the
same number from the same runs (the Dice of a network with two classifiers) are one test.  What is only
described (the relative error beside the raw one, other overlaps, signed biases) is given with its interval and
without a test.  Intervals cover patients, not another training: seeds are shown as seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mtinet.config.comparison import ComparisonSettings
from mtinet.errors import UserError
from mtinet.evaluation import paired
from mtinet.evaluation.areas import AreaDifference, area_between, area_of
from mtinet.evaluation.comparable import check_cohort, check_revisions, limits
from mtinet.evaluation.compared import (
    DEFAULT_ENDPOINTS,
    ENDPOINTS,
    Comparison,
    Endpoint,
    Family,
    PairedDifference,
    RowSummary,
)
from mtinet.evaluation.pooling import AUROC, NONE, ORACLE, RowRecords, class_scores
from mtinet.evaluation.statistics import NO_ESTIMATE, Estimate, PatientBootstrap
from mtinet.evaluation.verdicts import judged


def compare(
    rows: Sequence[RowRecords],
    reference: str,
    endpoints: Sequence[str] = DEFAULT_ENDPOINTS,
    settings: ComparisonSettings | None = None,
    allow_mixed: bool = False,
) -> Comparison:
    """Compare the rows of an experiment with one of them.

    Parameters
    ----------
    rows : sequence of RowRecords
        A row without a record is left out, and said; its tests count all the same.
    reference : str
        Name of the row that the others are compared with.
    endpoints : sequence of str
        Names out of :data:`ENDPOINTS`.
    settings : ComparisonSettings, optional
    allow_mixed : bool
        Also compare rows that other code or other library versions made, and say so.

    Raises
    ------
    UserError
        The reference has no record, records are of other cohorts, or of mixed revisions without
        ``allow_mixed``.
    """
    settings = settings or ComparisonSettings()
    chosen = tuple(endpoint for endpoint in ENDPOINTS if endpoint.name in endpoints)
    done = [row for row in rows if row.records]
    if reference not in [row.name for row in done]:
        raise UserError(f"the reference row {reference} has no finished run yet; run the experiment further")
    records = [record for row in done for record in row.records]
    mixed = check_revisions(done, allow_mixed)
    cohort = check_cohort(records)
    classes = records[0].classes
    base = next(row for row in done if row.name == reference)
    everybody = sorted({patient for row in done for patient in row.table["patient_id"]})
    bootstrap = PatientBootstrap(everybody, settings.bootstrap, settings.seed)
    differences, awaited = [], []
    for endpoint in chosen:
        first: dict[tuple[object, ...], str] = {}
        for row in sorted(rows, key=lambda row: not row.records):
            if row.name == reference:
                continue
            source = first.setdefault(_source(row, endpoint), row.name)
            if row.records:
                found = _difference(row, base, endpoint, classes, bootstrap, settings)
                differences.append(replace(found, same_as="" if source == row.name else source))
            elif (
                source == row.name
                and _family(row, base, endpoint) != "described"
                and row.can_have(endpoint.name)
                and base.can_have(endpoint.name)
            ):
                awaited.append((row.name, endpoint.name))
    return Comparison(
        reference=reference,
        endpoints=chosen,
        rows=tuple(_summary(row, chosen, classes, bootstrap) for row in done),
        differences=judged(differences, awaited, {row.name: row for row in done}, base, settings),
        settings=settings,
        cohort=cohort.cohort,
        cohort_hash=cohort.cohort_hash,
        notes=(*mixed, *limits(rows, done, base)),
        awaited=tuple(awaited),
    )


# ---------------------------------------------------------------------- a row by itself
def _summary(
    row: RowRecords, endpoints: Sequence[Endpoint], classes: Sequence[str], bootstrap: PatientBootstrap
) -> RowSummary:
    values, by_seed = {}, {}
    for endpoint in endpoints:
        if endpoint.name == AUROC:
            values[AUROC], by_seed[AUROC] = _own_area(row, classes)
            continue
        own = row.patients(endpoint.name)
        values[endpoint.name] = bootstrap.mean(own.index.to_numpy(), own.to_numpy())
        by_seed[endpoint.name] = row.seed_means(endpoint.name)
    return RowSummary(
        name=row.name,
        title=row.title,
        number=row.number,
        curve=row.curve,
        runs=len(row.records),
        planned=row.planned,
        moved=row.moved,
        at_rest=row.at_rest,
        seeds=row.seeds,
        blocks=row.blocks,
        patients=int(row.table["patient_id"].nunique()),
        step_s=float(np.median([record.step_s for record in row.records])),
        values=values,
        by_seed=by_seed,
    )


def _own_area(row: RowRecords, classes: Sequence[str]) -> tuple[Estimate, dict[int, float]]:
    scores = class_scores(row, classes)
    area = area_of(scores)
    seeds = {seed: area_of(scores[scores["seed"] == seed]) for seed in row.seeds}
    found = _area_estimate(area)
    # the normal interval of an area near 1 reaches beyond
    found = replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0)) if found.n else found
    return found, {seed: found.value for seed, found in seeds.items() if found is not None}


def _area_estimate(area: AreaDifference | None) -> Estimate:
    if area is None:
        return NO_ESTIMATE
    return Estimate(area.value, *area.interval(), area.n)


# ---------------------------------------------------------------------- a row against the reference
def _difference(
    row: RowRecords,
    base: RowRecords,
    endpoint: Endpoint,
    classes: Sequence[str],
    bootstrap: PatientBootstrap,
    settings: ComparisonSettings,
) -> PairedDifference:
    endpoint = replace(endpoint, family=_family(row, base, endpoint))
    if endpoint.name == AUROC:
        return _area_pair(row, base, endpoint, classes)
    own, other = row.patients(endpoint.name), base.patients(endpoint.name)
    patients = own.index.intersection(other.index).sort_values()
    values = (own.loc[patients] - other.loc[patients]).to_numpy(dtype=np.float64)
    names = patients.to_numpy()
    if not len(values):
        return PairedDifference(row.name, endpoint.name, endpoint.family, NO_ESTIMATE)
    effect = bootstrap.estimates(names, lambda w: paired.standardised_difference(w, values))["d_z"]
    found = PairedDifference(
        row.name,
        endpoint.name,
        endpoint.family,
        bootstrap.mean(names, values),
        effect,
        standard_error=float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan,
    )
    if endpoint.family == "described":
        return found
    if endpoint.name == "accuracy" and set(np.unique(values)) <= {-1.0, 0.0, 1.0}:
        p = paired.mcnemar_test(int((values > 0).sum()), int((values < 0).sum()))
        return replace(found, test="McNemar, exact", p=p)
    p = paired.sign_flip_test(values, settings.permutations, settings.seed)
    return replace(found, test="permutation of signs", p=p)


def _method(row: RowRecords, endpoint: Endpoint) -> str:
    """Whose number of an endpoint the row stands for; empty where it is the network's mask in any case."""
    if endpoint.name in ("enhancement_error", "relative_error_percent", "enhancement_bias"):
        return row.enhancement
    return row.classes if endpoint.name in ("accuracy", AUROC) else ""


def _source(row: RowRecords, endpoint: Endpoint) -> tuple[object, ...]:
    """Where a row has an endpoint's number from: rows that agree in it are one method there."""
    runs = row.cells or tuple(sorted(record.id for record in row.records))
    return (_method(row, endpoint), row.scoring, *runs)


def _family(row: RowRecords, base: RowRecords, endpoint: Endpoint) -> Family:
    """Nothing is tested of a row that was told where the lesion is, nor of one that reads what the reference reads."""
    if _source(row, endpoint) == _source(base, endpoint):
        return "described"
    method = _method(row, endpoint)
    helped = method == ORACLE and _method(base, endpoint) != ORACLE
    return "described" if helped or method == NONE else endpoint.family


def _area_pair(
    row: RowRecords, base: RowRecords, endpoint: Endpoint, classes: Sequence[str]
) -> PairedDifference:
    area = area_between(class_scores(row, classes), class_scores(base, classes))
    if area is None:
        return PairedDifference(row.name, endpoint.name, endpoint.family, NO_ESTIMATE)
    if endpoint.family == "described":
        return PairedDifference(row.name, endpoint.name, endpoint.family, _area_estimate(area))
    return PairedDifference(
        row.name,
        endpoint.name,
        endpoint.family,
        _area_estimate(area),
        test="DeLong within folds",
        p=area.p,
        standard_error=area.standard_error,
    )
