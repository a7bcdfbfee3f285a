"""Which studies of a row count, and with what."""

from __future__ import annotations

import numpy as np

from mtinet.cohort import NO_LESION
from mtinet.evaluation.areas import area_of
from mtinet.evaluation.pooling import RowRecords, class_scores
from mtinet.records import RunRecord


def that_found(record: RunRecord, lesions: int) -> RunRecord:
    """The record, had the run found so many of its lesions."""
    (scoring,) = record.scorings
    studies = [
        one
        if place < lesions
        else one.model_copy(update={"probabilities": {}, "predicted_label": NO_LESION if one.label else ""})
        for place, one in enumerate(scoring.studies)
    ]
    return record.model_copy(update={"scorings": (scoring.model_copy(update={"studies": tuple(studies)}),)})


def test_a_run_that_found_nothing_counts_as_chance(record_maker):
    good, other = record_maker(patients=60).row(right=5.0)
    classes = good.classes
    for found in (0, 1):  # one lesion makes no difference of kind
        row = RowRecords("a", "A", (good, that_found(other, found)))
        table = class_scores(row, classes)
        assert len(table) == len(class_scores(RowRecords("a", "A", (good, other)), classes))
        chance = np.array([np.ptp(scores) == 0 for scores in table["scores"]])
        assert chance.sum() >= len(other.scorings[0].studies) - found - 1
    assert area_of(table).value < area_of(class_scores(RowRecords("a", "A", (good,)), classes)).value


def test_a_study_without_a_mask_does_not_take_the_others_along(record_maker):
    """It has a class and no lesion whose probabilities could be known."""
    (scoring,) = (records := record_maker(patients=60).row(right=5.0))[0].scorings
    undrawn = next(one for one in scoring.studies if one.probabilities)
    studies = tuple(
        one.model_copy(update={"probabilities": {}}) if one is undrawn else one for one in scoring.studies
    )
    drawn = scoring.model_copy(update={"studies": studies})
    changed = records[0].model_copy(update={"scorings": (drawn,)})
    table = class_scores(RowRecords("a", "A", (changed, *records[1:])), records[0].classes)
    whole = class_scores(RowRecords("a", "A", records), records[0].classes)
    assert set(whole["study_id"]) - set(table["study_id"]) == {undrawn.study_id}


def test_a_labelled_study_without_a_mask_is_scored_by_no_method(record_maker):
    """No method was shown its lesion: a classifier that was not asked is not wrong, nor is a class said of it right."""
    records = record_maker(patients=60).row(right=5.0)
    (scoring,) = records[0].scorings
    undrawn = [one for one in scoring.studies if one.label in records[0].classes][:2]
    studies = tuple(
        one.model_copy(
            update={
                "volume_ml": None,
                "probabilities": {},
                "baselines": {},
                "baseline_probabilities": {},
                # of the largest of the components that the network drew
                "predicted_label": one.label,
            }
        )
        if one in undrawn
        else one
        for one in scoring.studies
    )
    changed = records[0].model_copy(update={"scorings": (scoring.model_copy(update={"studies": studies}),)})
    for method in ("network", "logistic_regression"):
        row = RowRecords("a", "A", (changed, *records[1:]), classes=method)
        whole = RowRecords("a", "A", records, classes=method)
        lost = {one.patient_id for one in undrawn}
        assert row.patients("accuracy").to_dict() == whole.patients("accuracy").drop(list(lost)).to_dict()
        scores = [set(class_scores(one, records[0].classes)["patient_id"]) for one in (row, whole)]
        assert scores[0] == scores[1] - lost
