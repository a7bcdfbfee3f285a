"""Attention against the effect of hiding phases."""

import math

import pytest

from mtinet.config.comparison import ComparisonSettings
from mtinet.config.variation import ScoringVariation
from mtinet.evaluation.occlusion import agreements, correlations
from mtinet.evaluation.pooling import RowRecords
from mtinet.records import Scoring

PHASES = ("pre", "arterial", "portal_venous", "delayed")
QUICK = ComparisonSettings(permutations=199, bootstrap=200)


def with_occlusion(record, follows):
    """The record, scored without each phase: the error rises with the phase's attention, or against it."""
    (base,) = record.scorings
    config = record.config.model_copy(update={"phases": PHASES})
    scorings = [base]
    for phase in PHASES:
        kept = tuple(other for other in PHASES if other != phase)
        studies = tuple(
            score.model_copy(
                update={
                    "relative_error_percent": score.relative_error_percent
                    + (1 if follows(score) else -1) * 10 * score.attention.get(phase, 0.0)
                }
            )
            for score in base.studies
        )
        scorings.append(Scoring(variation=ScoringVariation(phases=kept), studies=studies))
    return record.model_copy(update={"scorings": tuple(scorings), "config": config})


def row(record_maker, follows):
    records = record_maker(patients=24).row(right=0.3)
    return RowRecords("a", "a", tuple(with_occlusion(record, follows) for record in records))


def found(row, group):
    return next(a for a in agreements(row, QUICK) if (a.effect, a.group) == ("enhancement", group))


def test_attention_that_follows_the_effect_correlates_wholly(record_maker):
    forward = row(record_maker, lambda score: True)
    assert found(forward, "all").estimate.value == pytest.approx(1.0)
    assert found(forward, "all").p < 0.05
    assert found(row(record_maker, lambda score: False), "all").estimate.value == pytest.approx(-1.0)
    # the one missed lesion has no attention
    assert len(correlations(forward)) == 23


def test_right_and_wrong_cases_are_told_apart(record_maker):
    mixed = row(record_maker, lambda score: score.predicted_label == score.label)
    assert found(mixed, "right").estimate.value == pytest.approx(1.0)
    assert found(mixed, "wrong").estimate.value == pytest.approx(-1.0)
    contrast = found(mixed, "right - wrong")
    assert contrast.estimate.value == pytest.approx(2.0)
    assert math.isnan(contrast.p)


def test_without_hidden_phases_there_is_nothing_to_say(record_maker):
    assert agreements(RowRecords("a", "a", record_maker(patients=6).row()), QUICK) == []
