import math

import pytest

from mtinet.evaluation.sections import Row
from mtinet.evaluation.summary import Summary
from mtinet.reporting.scoreboard import mask_table, method_table, site_table, verdicts


def summary_of(*rows, counts=None):
    return Summary(("pre",), ("hcc",), 5, 5, counts or {"all": {}}, rows, {}, ())


def row(metric, method, value, low=math.nan, high=math.nan, task="enhancement", site="all", group="all"):
    return Row(site, task, group, metric, method, value, low, high, 5)


@pytest.mark.parametrize(
    ("low", "high", "kind"), [(-3.0, -1.0, "better"), (1.0, 3.0, "worse"), (-1.0, 2.0, "undecided")]
)
def test_verdict_on_an_error_follows_the_interval(low, high, kind):
    (verdict,) = verdicts(summary_of(row("mae_relative", "head_minus_read_out", (low + high) / 2, low, high)))
    assert verdict.kind == kind


def test_verdict_on_a_score_is_the_other_way_round():
    better = row("balanced_accuracy", "network_minus_majority", 0.2, 0.1, 0.3, "classification")
    (verdict,) = verdicts(summary_of(better))
    assert verdict.kind == "better"
    assert "20.0 percentage points (10.0 to 30.0)" in verdict.text


def test_nothing_is_decided_without_an_interval():
    (verdict,) = verdicts(summary_of(row("mae_relative", "head_minus_training_mean", -5.0)))
    assert verdict.kind == "undecided"


def test_best_is_chosen_among_comparable_methods_only():
    rows = [
        row("mae_relative", "head", 10.0),
        row("mae_relative", "training_mean", 20.0),
        row("mae_relative", "oracle_mask", 1.0),
        row("mae_relative", "head_detected_only", 2.0),
    ]
    table = method_table(summary_of(*rows), "enhancement", ("mae_relative",))
    assert table is not None
    ((_, cells),) = table.rows
    assert [cell.best for cell in cells] == [True, False, False, False]
    assert table.unequal == 2


def test_methods_without_values_leave_no_table():
    assert method_table(summary_of(), "enhancement", ("mae_relative",)) is None


def test_sites_are_compared_from_two_on():
    one = {"all": {"scored": 5}}
    assert site_table(summary_of(counts=one)) is None
    two = {"all": {"scored": 5}, "A": {"scored": 2}, "B": {"scored": 3}}
    table = site_table(summary_of(row("dice", "network", 0.5, task="segmentation", site="A"), counts=two))
    assert table is not None
    assert [(label, cells[0].value, cells[1].value) for label, cells in table.rows] == [
        ("A", "2", "0.50"),
        ("B", "3", "–"),
    ]


def test_masks_stand_beside_those_of_a_second_reader_where_there_is_one():
    rows = [row("dice", "network", 0.5, task="segmentation", group=group) for group in ("all", "scored")]
    alone = mask_table(summary_of(*rows))
    readers = [
        row("dice", method, value, task="segmentation", group="two_readers")
        for method, value in (
            ("network", 0.6),
            ("second_reader", 0.8),
            ("network_minus_second_reader", -0.2),
        )
    ]
    both = mask_table(summary_of(*rows, *readers))
    assert [cell.value for cell in alone.rows[0][1]] == ["0.50", "0.50"]
    assert [cell.value for cell in both.rows[0][1]] == ["0.50", "0.50", "0.60", "0.80", "−0.20"]
    assert both.columns[-2] == "second reader there"
