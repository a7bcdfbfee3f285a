"""What is said of a difference."""

import math
from dataclasses import replace

import pytest

from mtinet.config.comparison import ComparisonSettings
from mtinet.evaluation.comparison import compare
from mtinet.evaluation.paired import detectable_difference
from mtinet.evaluation.pooling import RowRecords

QUICK = ComparisonSettings(permutations=999, bootstrap=200)


def test_a_poorer_row_is_worse_and_the_same_is_not_distinguished(rows):
    comparison = compare(rows, "full", settings=QUICK)
    for endpoint in ("enhancement_error", "dice", "accuracy", "auroc"):
        assert comparison.difference("poor", endpoint).verdict == "worse", endpoint
        assert comparison.difference("same", endpoint).verdict == "not distinguishable", endpoint
    turned = compare(rows, "poor", settings=QUICK)
    assert turned.difference("full", "enhancement_error").verdict == "better"
    assert turned.difference("full", "dice").difference.value == pytest.approx(
        -comparison.difference("poor", "dice").difference.value
    )


def test_what_is_detectable_is_by_the_first_level_of_holms_procedure(rows):
    comparison = compare(rows, "full", ["enhancement_error", "dice"], QUICK)
    for item in comparison.differences:
        own, reference = (row.patients(item.endpoint) for row in (rows[1 + (item.row == "same")], rows[0]))
        error = (own - reference).std(ddof=1) / math.sqrt(60)
        assert item.standard_error == pytest.approx(error, rel=1e-9)
        expected = detectable_difference(error, QUICK.level / 4, QUICK.power)
        assert item.detectable == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("others", [0, 80])
def test_a_verdict_is_that_of_the_adjusted_p(rows, others):
    """One of many tests is a claim only where Holm's procedure leaves it one."""
    absent = [RowRecords(f"later {n}", f"Later {n}", (), cells=(f"a{n}", f"b{n}")) for n in range(others)]
    item = compare([*rows[:2], *absent], "full", ["dice"], QUICK).difference("poor", "dice")
    assert item.p <= 0.002
    assert item.p_holm == pytest.approx(item.p * (1 + others))
    assert item.verdict == ("not distinguishable" if others else "worse")


def test_a_reference_whose_runs_are_missing_supports_no_claim(rows):
    waiting = replace(rows[0], cells=("a", "b", "c"))
    for item in compare([waiting, rows[1]], "full", settings=QUICK).differences:
        if item.family != "described":
            assert (item.verdict, item.reason) == ("no claim", "runs of the reference are missing")


def test_families_are_corrected_apart_and_described_endpoints_not_tested(rows):
    comparison = compare(rows, "full", settings=QUICK)
    assert [comparison.family_size(family) for family in ("primary", "secondary")] == [4, 4]
    alone = compare(rows[:2], "full", ["dice"], QUICK)
    one = alone.difference("poor", "dice")
    assert one.p_holm == one.p
    assert comparison.difference("poor", "dice").p_holm >= one.p
    beside = comparison.difference("poor", "relative_error_percent")
    assert (beside.verdict, beside.test) == ("described", "")
    assert math.isnan(beside.p)


def test_a_test_that_cannot_be_made_stays_in_its_family(rows):
    """DeLong's variance is 0 between a perfect row and one that found nothing: the others' p must not fall by that."""
    comparison = compare(rows, "full", settings=QUICK)
    cannot = {("poor", "auroc"): math.nan}
    changed = tuple(
        replace(item, p=cannot.get((item.row, item.endpoint), item.p)) for item in comparison.differences
    )
    assert replace(comparison, differences=changed).family_size("secondary") == comparison.family_size(
        "secondary"
    )


def test_what_the_reference_itself_reads_is_no_test(rows):
    """The mask of a reference read by a classifier: one mask, another class."""
    read = RowRecords("read", "Read", rows[0].records, "read_out", "logistic_regression")
    comparison = compare([rows[0], read, rows[1]], "full", settings=QUICK)
    dice = comparison.difference("read", "dice")
    assert (dice.difference.value, dice.test, dice.verdict) == (0.0, "", "described")
    assert comparison.difference("read", "enhancement_error").test == "permutation of signs"
    assert [comparison.family_size(family) for family in ("primary", "secondary")] == [3, 4]
    later = RowRecords("again", "Again", (), cells=("a", "b"))
    base = replace(rows[0], cells=("a", "b"))
    assert compare([base, later], "full", settings=QUICK).awaited == ()


def test_rows_that_still_move_support_no_claim(rows, record_maker):
    moving = RowRecords("poor", "poor", record_maker().row(1, dice=-0.2, converged=False))
    comparison = compare([rows[0], moving], "full", settings=QUICK)
    item = comparison.difference("poor", "dice")
    assert (item.verdict, item.reason) == ("no claim", "the row had not converged")
    assert item.p_holm < 0.05
    assert any("Not converged" in note for note in comparison.notes)
    other_way = compare([rows[0], moving], "poor", settings=QUICK)
    item = other_way.difference("full", "dice")
    assert (item.verdict, item.reason) == ("no claim", "the reference had not converged")


def test_rows_without_a_run_count_in_the_correction(rows, record_maker):
    """Or every row that comes later would take away what was said of the others."""
    row = RowRecords("poor", "poor", record_maker().row(1, dice=-0.2), cells=("c", "d"))
    absent = RowRecords("later", "Later", (), cells=("e", "f"))
    twin = RowRecords("twin", "Read otherwise", (), classes="logistic_regression", cells=("e", "f"))
    alone = compare([rows[0], row], "full", settings=QUICK)
    awaiting = compare([rows[0], row, absent, twin], "full", settings=QUICK)
    # the twin reads mask and enhancement from the same runs: it adds its class alone
    assert alone.family_size("primary") == 2
    assert awaiting.family_size("primary") == 4
    assert awaiting.family_size("secondary") == alone.family_size("secondary") + 4
    assert awaiting.difference("poor", "dice").p_holm > alone.difference("poor", "dice").p_holm
    assert [summary.name for summary in awaiting.rows] == ["full", "poor"]
    assert any("Without a finished run, so not in the tables: Later" in note for note in awaiting.notes)


def test_what_a_row_can_never_have_is_not_waited_for(rows):
    """Or verdicts would change when it comes and has none of it."""
    maskless = RowRecords("class", "Class alone", (), enhancement="none", cells=("e", "f"), masks=False)
    mean = RowRecords("trivial", "Mean", (), "training_mean", "majority", cells=("g", "h"))
    waiting = compare([rows[0], maskless, mean], "full", settings=QUICK)
    assert set(waiting.awaited) == {
        *(("class", endpoint) for endpoint in ("accuracy", "auroc")),
        *(("trivial", endpoint) for endpoint in ("enhancement_error", "dice", "accuracy")),
    }
    # nor is what the reference cannot have
    base = replace(rows[0], masks=False)
    later = RowRecords("later", "Later", (), cells=("e", "f"))
    assert "dice" not in {endpoint for _, endpoint in compare([base, later], "full", settings=QUICK).awaited}
