"""From records to verdicts."""

import numpy as np
import pytest

from mtinet.config.comparison import ComparisonSettings
from mtinet.config.variation import ScoringVariation
from mtinet.errors import UserError
from mtinet.evaluation.areas import area_of
from mtinet.evaluation.compared import DEFAULT_ENDPOINTS, ENDPOINTS
from mtinet.evaluation.comparison import compare
from mtinet.evaluation.pooling import RowRecords, class_scores

QUICK = ComparisonSettings(permutations=999, bootstrap=200)


# ---------------------------------------------------------------------- pooling
def test_a_patient_is_scored_by_the_fold_that_held_it_out(record_maker):
    row = RowRecords("a", "a", record_maker(patients=20, folds=4).row())
    dice = row.patients("dice")
    assert len(dice) == 20
    stored = {s.patient_id: s.dice for r in row.records for s in r.scorings[0].studies}
    assert dice.to_dict() == pytest.approx(stored)
    assert row.blocks == tuple(f"fold {i} of 4" for i in range(4))


def test_seeds_are_averaged_by_patient_and_shown_as_seeds(record_maker):
    row = RowRecords("a", "a", record_maker(patients=12).row(seeds=3))
    by_seed = row.seed_means("dice")
    assert sorted(by_seed) == [0, 1, 2]
    assert np.mean(list(by_seed.values())) == pytest.approx(row.patients("dice").mean())
    assert len(set(by_seed.values())) == 3


def test_overlapping_divisions_are_refused(record_maker):
    make, other = record_maker(patients=12, folds=2), record_maker(patients=12, folds=3)
    with pytest.raises(UserError, match="scored twice"):
        RowRecords("a", "a", (*make.row(), *other.row())).table  # noqa: B018


def test_a_row_stands_for_the_method_that_it_names(record_maker):
    records = record_maker(patients=12).row()
    head, measured = (RowRecords("a", "a", records, enhancement=method) for method in ("head", "read_out"))
    assert (measured.patients("enhancement_error") * 3).to_numpy() == pytest.approx(
        head.patients("enhancement_error").to_numpy()
    )
    assert len(RowRecords("a", "a", records, enhancement="oracle_mask").patients("enhancement_error")) == 0
    assert len(RowRecords("a", "a", records, classes="oracle_mask").patients("accuracy")) == 0
    fitted = RowRecords("a", "a", records, classes="logistic_regression")
    # the baselines of the made-up records repeat the network's class
    assert fitted.patients("accuracy").to_dict() == head.patients("accuracy").to_dict()
    assert len(RowRecords("a", "a", records, classes="boosting").patients("accuracy")) == 0


def test_a_network_without_classes_is_not_called_wrong(record_maker):
    without = RowRecords("a", "a", record_maker(patients=12).row(classes=False))
    assert len(without.patients("accuracy")) == 0


def test_a_scoring_variation_is_found_and_its_absence_said(record_maker):
    records = record_maker(patients=12).row(phases=("pre", "arterial"))
    hidden = RowRecords("a", "a", records, scoring=ScoringVariation(phases=("pre", "arterial")))
    assert hidden.patients("dice").mean() < RowRecords("a", "a", records).patients("dice").mean()
    with pytest.raises(UserError, match="not scored"):
        RowRecords("a", "a", records, scoring=ScoringVariation(noise=0.3)).table  # noqa: B018


# ---------------------------------------------------------------------- verdicts
def test_intervals_hold_the_difference_and_what_is_detectable_is_larger_than_its_error(rows):
    for item in compare(rows, "full", settings=QUICK).differences:
        assert item.difference.low <= item.difference.value <= item.difference.high
        if item.test:
            assert item.detectable > 2.8 * item.standard_error  # 0.84 + 1.96 at the least


def test_an_area_near_one_has_an_interval_within_0_and_1(record_maker):
    row = RowRecords("full", "full", record_maker(patients=12).row(0, right=0.6))
    area = area_of(class_scores(row, row.records[0].classes))
    assert area.interval()[1] > 1.0, "the normal interval reaches beyond"
    shown = compare([row], "full", settings=QUICK).row("full").values["auroc"]
    assert 0.0 <= shown.low <= shown.value <= shown.high == 1.0


def test_two_readings_of_the_same_runs_are_one_test_where_they_say_the_same(rows, record_maker):
    records = record_maker().row(1, dice=-0.02)
    two = [RowRecords(name, name, records, "read_out", name) for name in ("logistic_regression", "network")]
    comparison = compare([rows[0], *two], "full", settings=QUICK)
    alone = compare([rows[0], two[0]], "full", settings=QUICK)
    # one Dice, one enhancement error; of the classes and their areas two
    assert [comparison.family_size(family) for family in ("primary", "secondary")] == [2, 4]
    for endpoint in ("dice", "enhancement_error"):
        first, second = (comparison.difference(row.name, endpoint) for row in two)
        assert (first.same_as, second.same_as) == ("", "logistic_regression")
        assert first.p_holm == second.p_holm == alone.difference(two[0].name, endpoint).p_holm
        assert first.verdict == second.verdict
    # the same runs under another variation, and other runs, are tests of their own
    hidden = record_maker().row(5, dice=-0.02, phases=("pre", "arterial"))
    variation = ScoringVariation(phases=("pre", "arterial"))
    apart = [RowRecords("a", "a", hidden), RowRecords("b", "b", hidden, scoring=variation), rows[1]]
    assert compare([rows[0], *apart], "full", ["dice"], QUICK).family_size("primary") == 3


def test_one_seed_takes_mcnemar_and_several_the_permutation(rows, record_maker):
    assert compare(rows, "full", settings=QUICK).difference("poor", "accuracy").test == "McNemar, exact"
    several = [RowRecords("full", "f", record_maker().row(0, seeds=2)), rows[1]]
    assert (
        compare(several, "full", settings=QUICK).difference("poor", "accuracy").test == "permutation of signs"
    )


def test_a_read_out_has_an_area_of_its_own(record_maker):
    make = record_maker()
    network = RowRecords("full", "f", make.row(0))
    classifier = RowRecords(
        "unet", "u", make.row(1, classes=False), enhancement="read_out", classes="logistic_regression"
    )
    comparison = compare([network, classifier], "full", settings=QUICK)
    assert comparison.difference("unet", "auroc").difference.n == 60
    assert 0.5 < comparison.row("unet").values["auroc"].value < 1
    majority = RowRecords("m", "m", make.row(1, classes=False), classes="majority")
    assert (
        compare([network, majority], "full", settings=QUICK).difference("m", "auroc").verdict == "not scored"
    )


def test_only_patients_that_both_scored_are_paired(rows, record_maker):
    half = RowRecords("half", "half", record_maker().row(3, folds=(1,)), cells=("a", "b"))
    comparison = compare([rows[0], half], "full", settings=QUICK)
    assert comparison.difference("half", "dice").difference.n == 30
    assert any("1 of 2" in note for note in comparison.notes)
    for item in comparison.differences:
        if item.family != "described":
            assert (item.verdict, item.reason) == ("no claim", "runs of the row are missing")
    assert any("different folds" in note for note in comparison.notes)


def test_a_cohort_may_be_renamed_while_its_content_stays(rows, record_maker):
    def said(record, content):
        update = {"cohort": "renamed", "cohort_hash": "other", "manifest": {"content": content}}
        return record.model_copy(update=update)

    base = tuple(r.model_copy(update={"manifest": {"content": "same"}}) for r in rows[0].records)
    full = RowRecords("full", "Full", base)
    moved = RowRecords("moved", "Moved", tuple(said(r, "same") for r in record_maker().row(1)))
    assert any("and one content: " in note for note in compare([full, moved], "full", settings=QUICK).notes)
    other = RowRecords("moved", "Moved", tuple(said(r, "changed") for r in record_maker().row(1)))
    with pytest.raises(UserError, match="different cohorts"):
        compare([full, other], "full", settings=QUICK)


def test_who_was_told_the_place_competes_with_nobody_who_had_to_find_it(rows, record_maker):
    records = []
    for record in record_maker().row(1):
        (scoring,) = record.scorings
        studies = tuple(s.model_copy(update={"oracle_error": s.enhancement_error}) for s in scoring.studies)
        records.append(
            record.model_copy(update={"scorings": (scoring.model_copy(update={"studies": studies}),)})
        )
    told = RowRecords("told", "told", tuple(records), enhancement="oracle_mask", classes="none")
    comparison = compare([rows[0], told], "full", settings=QUICK)
    item = comparison.difference("told", "enhancement_error")
    assert (item.verdict, item.test, item.difference.n) == ("described", "", 60)
    assert comparison.difference("told", "accuracy").verdict == "not scored"
    assert comparison.family_size("primary") == 1  # Dice
    assert comparison.family_size("secondary") == 0


def test_a_study_without_lesion_has_no_overlap_whatever_was_predicted(record_maker):
    """Its overlap is 0 where something was found and undefined where nothing was: no number of the pair."""

    def row(name: str, dice: float | None) -> RowRecords:
        (record,) = record_maker(patients=12, folds=1).row(0)
        first, *others = record.scorings[0].studies
        healthy = first.model_copy(update={"dice": dice, "iou": dice, "volume_ml": 0.0, "label": "none"})
        scoring = record.scorings[0].model_copy(update={"studies": (healthy, *others)})
        return RowRecords(name, name, (record.model_copy(update={"id": name, "scorings": (scoring,)}),))

    right, wrong = row("right", None), row("wrong", 0.0)
    assert right.patients("dice").equals(wrong.patients("dice"))
    assert len(right.patients("dice")) == 11
    difference = compare([right, wrong], "right", ["dice"], QUICK).difference("wrong", "dice").difference
    assert (difference.value, difference.n) == (0.0, 11)


def test_what_a_row_does_not_have_is_not_scored(rows, record_maker):
    network = RowRecords("unet", "U-Net", record_maker().row(3, classes=False))
    comparison = compare([rows[0], network], "full", settings=QUICK)
    assert comparison.difference("unet", "accuracy").verdict == "not scored"
    assert comparison.difference("unet", "auroc").verdict == "not scored"
    assert comparison.difference("unet", "dice").verdict == "not distinguishable"


def test_an_area_that_nobody_has_and_one_that_no_fold_gives_have_their_reasons(record_maker):
    records = record_maker(patients=2).row()
    rows = [RowRecords(name, name, records, classes=name) for name in ("network", "majority")]
    rows.append(RowRecords("again", "again", record_maker(patients=2).row(1)))
    comparison = compare(rows, "network", settings=QUICK)
    assert "no patient" in comparison.difference("majority", "auroc").reason
    assert "no fold" in comparison.difference("again", "auroc").reason


def test_sites_take_the_place_of_folds(record_maker):
    make = record_maker()
    rows = [RowRecords(name, name, make.row(place, held_out_sites=True)) for place, name in enumerate("ab")]
    comparison = compare(rows, "a", settings=QUICK)
    assert comparison.row("a").blocks == ("site A", "site B")
    assert comparison.difference("b", "auroc").difference.n == 60


# ---------------------------------------------------------------------- what may be compared
def test_mixed_revisions_are_refused_unless_asked_for_and_then_said(rows, record_maker):
    old = RowRecords("old", "old", record_maker().row(3, sources="ffff0000"))
    with pytest.raises(UserError, match="2 revisions"):
        compare([rows[0], old], "full", settings=QUICK)
    notes = compare([rows[0], old], "full", settings=QUICK, allow_mixed=True).notes
    assert any("ffff0000" in note and "old" in note for note in notes)


def test_other_cohorts_and_an_absent_reference_are_refused(rows, record_maker):
    other = RowRecords("other", "other", record_maker().row(3, cohort_hash="beef"))
    with pytest.raises(UserError, match="different cohorts"):
        compare([rows[0], other], "full", settings=QUICK)
    with pytest.raises(UserError, match="no finished run"):
        compare([RowRecords("full", "full", ()), rows[1]], "full", settings=QUICK)
    comparison = compare([rows[0], RowRecords("later", "later", ())], "full", settings=QUICK)
    assert any("later" in note for note in comparison.notes)


@pytest.mark.slow
def test_no_difference_is_called_in_the_stated_share_of_experiments(record_maker):
    # 25 experiments with two rows like the reference: at most 5 % with any primary claim, plus chance
    make = record_maker(patients=24)
    claimed = 0
    for start in range(0, 75, 3):
        rows = [RowRecords(str(k), str(k), make.row(start + k, course=False)) for k in range(3)]
        comparison = compare(
            rows, "0", ["enhancement_error", "dice"], QUICK.model_copy(update={"bootstrap": 10})
        )
        claimed += any(item.verdict in ("better", "worse") for item in comparison.differences)
    assert claimed <= 5  # P(more than 5 of 25 at 5 %) < 0.002


def test_the_default_endpoints_are_known():
    assert set(DEFAULT_ENDPOINTS) <= {endpoint.name for endpoint in ENDPOINTS}
