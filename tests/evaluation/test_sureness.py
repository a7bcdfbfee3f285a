"""How sure a row's method is: the numbers are those of their definitions, and pairs share their resamples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtinet.config.comparison import ComparisonSettings
from mtinet.config.variation import ScoringVariation
from mtinet.evaluation.conformal import risk_coverage
from mtinet.evaluation.pooling import RowRecords, class_scores
from mtinet.evaluation.sureness import MEASURES, sureness
from mtinet.records import RunRecord, Scoring

QUICK = ComparisonSettings(bootstrap=200)
TOGETHER = ScoringVariation(networks=2)


def asked_together(record: RunRecord, other: RunRecord) -> RunRecord:
    """The record with a further scoring: the mean of its own and another seed's probabilities."""
    pairs = zip(record.scorings[0].studies, other.scorings[0].studies, strict=True)
    means = [
        (one, {k: (v + two.probabilities[k]) / 2 for k, v in one.probabilities.items()}) for one, two in pairs
    ]
    studies = [one.model_copy(update={"probabilities": mean}) for one, mean in means]
    further = Scoring(variation=TOGETHER, studies=tuple(studies), study_s=0.5)
    return record.model_copy(update={"scorings": (*record.scorings, further)})


@pytest.fixture
def rows(record_maker) -> tuple[RowRecords, RowRecords]:
    """One network with two seeds, and both together."""
    records = record_maker(patients=60).row(0, seeds=2, right=0.5)
    by_seed = {(record.seed, record.fold): record for record in records}
    both = tuple(asked_together(by_seed[0, fold], by_seed[1, fold]) for fold in (0, 1))
    return RowRecords("one", "One", records), RowRecords("both", "Both", both, scoring=TOGETHER)


def test_nobody_is_described_where_nobody_asks_twice(rows):
    assert sureness(rows[:1], "one", QUICK) == []


def test_values_are_those_of_the_definitions(rows):
    table = class_scores(rows[1], rows[1].records[0].classes)
    truth, probabilities = table["truth"].to_numpy(int), np.stack(table["scores"])
    missed = np.ptp(probabilities, axis=1) == 0
    wrong = missed | (probabilities.argmax(1) != truth)
    found = sureness(rows, "one", QUICK)[1]
    assert found.row == "both"
    assert found.study_s == 0.5
    assert found.values["brier"].value == pytest.approx(
        ((probabilities - np.eye(3)[truth]) ** 2).sum(1).mean()
    )
    share, risk = risk_coverage(probabilities.max(1), wrong)
    assert found.values["risk_area"].value == pytest.approx(risk.mean())
    assert found.risk[-1] == pytest.approx(wrong.mean())
    np.testing.assert_array_equal(found.coverage, share)
    place = np.ceil(probabilities.max(1) * 10)
    gaps = [abs((probabilities.max(1) - ~wrong)[place == k].sum()) for k in set(place)]
    assert found.values["ece"].value == pytest.approx(sum(gaps) / len(table))


def test_a_mean_of_two_is_truer_than_one_and_the_pair_is_narrower_than_its_parts(rows):
    one, both = sureness(rows, "one", QUICK)
    assert one.differences == {}
    brier = both.differences["brier"]
    assert brier.high < 0  # the mean of two cannot be worse than the mean of their scores: it is convex
    assert brier.value == pytest.approx(both.values["brier"].value - one.values["brier"].value)
    assert brier.high - brier.low < both.values["brier"].high - both.values["brier"].low
    for name in ("brier", "risk_area"):  # resampled calibration errors lie above the sample's own
        assert one.values[name].low <= one.values[name].value <= one.values[name].high


def test_a_row_differs_by_nothing_from_itself(rows):
    again = replace(rows[1], name="again")
    found = {item.row: item for item in sureness((*rows, again), "both", QUICK)}
    for name in MEASURES:
        estimate = found["again"].differences[name]
        assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)
    assert found["both"].differences == {}


def test_seeds_are_measured_one_by_one_and_averaged(rows):
    """Pooled, three seeds would seem better calibrated than one: the error falls with the number of lesions."""
    alone = [replace(rows[0], records=tuple(r for r in rows[0].records if r.seed == seed)) for seed in (0, 1)]
    together = sureness(rows, "both", QUICK)[0]
    apart = [sureness((row, rows[1]), "both", QUICK)[0] for row in alone]
    for name in MEASURES:
        mean = np.mean([item.values[name].value for item in apart])
        assert together.values[name].value == pytest.approx(mean)
        assert together.values[name].n == apart[0].values[name].n
    np.testing.assert_allclose(together.risk, np.mean([item.risk for item in apart], axis=0))


def test_a_row_without_classes_is_left_out(rows, record_maker):
    masks = RowRecords("masks", "Masks", record_maker(patients=60).row(3, classes=False))
    assert [item.row for item in sureness((*rows, masks), "one", QUICK)] == ["one", "both"]


def test_a_missed_lesion_is_wrong_whatever_its_class(record_maker):
    """Equal probabilities name no class, the first neither."""
    records = record_maker(patients=60).row(right=5.0)  # so far right that only what is missed is wrong
    classes = records[0].classes
    for lost in classes:
        missed = tuple(record_without(record, lost) for record in records)
        row = RowRecords("a", "A", missed)
        two = RowRecords("b", "B", missed, scoring=ScoringVariation(networks=2))
        found = sureness((row, two), "a", QUICK)[0]
        table = class_scores(row, classes)
        equal = np.array([np.ptp(scores) == 0 for scores in table["scores"]])
        assert equal.any()
        probable = np.stack(table["scores"]).argmax(1) == table["truth"]
        assert found.risk[-1] == pytest.approx((equal | ~probable).mean())


def record_without(record: RunRecord, lost: str) -> RunRecord:
    """The record, had no lesion of a class been found."""
    studies = tuple(
        one.model_copy(update={"probabilities": {}, "predicted_label": "none"}) if one.label == lost else one
        for one in record.scorings[0].studies
    )
    both = (Scoring(variation=v, studies=studies) for v in (ScoringVariation(), ScoringVariation(networks=2)))
    return record.model_copy(update={"scorings": tuple(both)})
