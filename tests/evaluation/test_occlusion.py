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
        studies = tuple(without(score, phase, 1 if follows(score) else -1) for score in base.studies)
        scorings.append(Scoring(variation=ScoringVariation(phases=kept), studies=studies))
    return record.model_copy(update={"scorings": tuple(scorings), "config": config})


def without(score, phase, sign):
    """The other phases' signal farther from the truth, or nearer to it, by the hidden one's attention."""
    predicted = {
        p: score.true[p] + 50 + sign * 10 * score.attention.get(phase, 0.0)
        for p in score.predicted
        if p != phase
    }
    return score.model_copy(update={"predicted": predicted})


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


def test_a_phase_that_changes_no_other_has_no_effect_whatever_its_own_error(record_maker):
    """Hiding it leaves its own error out, which is no effect."""

    def uneven(score):
        off = {p: score.true[p] + 10.0 * n for n, p in enumerate(score.predicted)}
        return score.model_copy(update={"predicted": off})

    records = []
    for record in record_maker(patients=8).row():
        (base,) = with_occlusion(record, lambda score: True).scorings[:1]
        full = tuple(map(uneven, base.studies))
        scorings = [Scoring(variation=base.variation, studies=full)]
        for phase in PHASES:
            kept = tuple(other for other in PHASES if other != phase)
            hidden = tuple(
                s.model_copy(update={"predicted": {p: v for p, v in s.predicted.items() if p != phase}})
                for s in full
            )
            scorings.append(Scoring(variation=ScoringVariation(phases=kept), studies=hidden))
        config = record.config.model_copy(update={"phases": PHASES})
        records.append(record.model_copy(update={"scorings": tuple(scorings), "config": config}))
    assert not (correlations(RowRecords("a", "a", tuple(records)))["effect"] == "enhancement").any()


def test_a_study_that_has_no_other_phase_is_scored_without_its_own_by_nobody(record_maker):
    whole = row(record_maker, lambda score: True)
    records = []
    for record in whole.records:
        (base, first, *others) = record.scorings
        fewer = first.model_copy(update={"studies": first.studies[1:]})
        records.append(record.model_copy(update={"scorings": (base, fewer, *others)}))
    assert len(correlations(RowRecords("a", "a", tuple(records)))) == len(correlations(whole))


def test_right_and_wrong_cases_are_told_apart(record_maker):
    mixed = row(record_maker, lambda score: score.predicted_label == score.label)
    assert found(mixed, "right").estimate.value == pytest.approx(1.0)
    assert found(mixed, "wrong").estimate.value == pytest.approx(-1.0)
    contrast = found(mixed, "right - wrong")
    assert contrast.estimate.value == pytest.approx(2.0)
    assert math.isnan(contrast.p)


def test_without_hidden_phases_there_is_nothing_to_say(record_maker):
    assert agreements(RowRecords("a", "a", record_maker(patients=6).row()), QUICK) == []
