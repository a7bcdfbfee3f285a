import json
import math

import numpy as np
import pandas as pd
import pytest

from mtinet.config import EvaluationSettings
from mtinet.errors import UserError
from mtinet.evaluation.readouts import fit
from mtinet.evaluation.summary import Summary, summarise, to_table

FAST = EvaluationSettings(bootstrap=200)


@pytest.fixture
def score(training_lesions, phases, classes):
    def run(tables: tuple[pd.DataFrame, pd.DataFrame], readouts: bool = True) -> Summary:
        fitted = fit(training_lesions, phases, classes) if readouts else None
        return summarise(*tables, phases, classes, FAST, 0, fitted)

    return run


def value(summary: Summary, *name: str, **where: str) -> float:
    row = summary.find(*name, **where)
    assert row is not None, name
    return row.value


def test_masks_and_counts(score, make_tables) -> None:
    summary = score(make_tables())
    assert summary.counts["all"] == {
        "scored": 38,
        "missed": 2,
        "hallucinated": 1,
        "absent": 5,
        "unlabelled": 0,
    }
    assert {k: v + summary.counts["B"][k] for k, v in summary.counts["A"].items()} == summary.counts["all"]
    dice = summary.find("segmentation", "dice")
    assert dice is not None
    assert dice.value == pytest.approx(0.8 * 38 / 41)
    assert dice.n == 41
    assert dice.low < dice.value < dice.high
    assert value(summary, "segmentation", "dice", group="scored") == pytest.approx(0.8)
    assert value(summary, "segmentation", "hd95_mm") == pytest.approx((38 * 4 + 3 * 400) / 41)
    assert value(summary, "segmentation", "studies_missed") == 2


def test_detection(score, make_tables) -> None:
    studies, lesions = make_tables()
    summary = score((studies, lesions))
    assert value(summary, "detection", "sensitivity") == pytest.approx(38 / 40)
    assert value(summary, "detection", "false_positives_per_study") == pytest.approx(1 / 46)
    assert value(summary, "detection", "false_positives_per_study", group="< 10 mm") == pytest.approx(1 / 46)
    assert value(summary, "detection", "false_positives_per_study", group=">= 20 mm") == 0.0
    assert value(summary, "detection", "precision") == pytest.approx(38 / 39)
    assert value(summary, "detection", "specificity") == pytest.approx(5 / 6)
    sizes = [summary.find("detection", "sensitivity", group=g) for g in ("< 10 mm", "10-20 mm", ">= 20 mm")]
    assert sum(row.n for row in sizes if row) == 40


def test_enhancement(score, make_tables) -> None:
    studies, lesions = make_tables()
    summary = score((studies, lesions))
    head = value(summary, "enhancement", "mae_raw", "head")
    assert value(summary, "enhancement", "mae_raw", "oracle_mask") == 0.0
    assert value(summary, "enhancement", "mae_raw", "head_detected_only") < head
    assert head < value(summary, "enhancement", "mae_raw", "read_out")
    assert value(summary, "enhancement", "mae_raw", "read_out") < value(
        summary, "enhancement", "mae_raw", "training_mean"
    )
    phases = ("pre", "arterial", "portal_venous", "delayed")
    error = [(lesions[f"mean_{p}"] - lesions[f"true_{p}"]).abs().mean() for p in phases]
    assert value(summary, "enhancement", "mae_raw", "training_mean") == pytest.approx(np.mean(error))
    assert value(summary, "enhancement", "mae_raw", "training_mean", "pre") == pytest.approx(error[0])
    difference = summary.find("enhancement", "mae_raw", "head_minus_training_mean")
    assert difference is not None
    assert difference.value == pytest.approx(head - np.mean(error))
    assert difference.high < 0


def test_raw_never_without_relative(score, make_tables) -> None:
    table = to_table(score(make_tables()))
    keys = ["site", "task", "group", "method"]
    for metric in ("mae", "bias", "loa_low", "loa_high", "ccc"):
        raw = table[(table["metric"] == f"{metric}_raw") & (table["group"] != "pre")]
        relative = table[table["metric"] == f"{metric}_relative"]
        assert len(raw)
        assert set(map(tuple, raw[keys].to_numpy())) == set(map(tuple, relative[keys].to_numpy()))


def test_gain_changes_raw_only(score, make_tables) -> None:
    studies, lesions = make_tables()
    sources = ("true_", "mean_", "predicted_", "measured_", "oracle_", "noise_free_")
    columns = [c for c in lesions if c.startswith(sources) and not c.endswith("label")]
    brighter = lesions.assign(**{c: 3.0 * lesions[c] for c in columns})
    before, after = score((studies, lesions)), score((studies.assign(gain=3.0 * studies["gain"]), brighter))
    for method in ("head", "read_out", "training_mean"):
        raw, relative = ("enhancement", "mae_raw", method), ("enhancement", "mae_relative", method)
        assert value(after, *raw) == pytest.approx(3.0 * value(before, *raw))
        assert value(after, *relative) == pytest.approx(value(before, *relative))
    logistic = ("classification", "accuracy", "logistic_regression")
    assert value(after, *logistic) == value(before, *logistic)


def test_classification(score, make_tables) -> None:
    summary = score(make_tables(right=1.0))
    assert value(summary, "classification", "accuracy") == pytest.approx(38 / 40)
    assert value(summary, "classification", "accuracy", "network_detected_only") == 1.0
    assert value(summary, "classification", "accuracy", "oracle_mask") == 1.0
    assert value(summary, "classification", "accuracy", "majority") == 0.5
    assert value(summary, "classification", "auc", "majority") == 0.5
    assert value(summary, "classification", "accuracy", "network_minus_majority") == pytest.approx(18 / 40)
    assert 0.7 < value(summary, "classification", "accuracy", "logistic_regression") <= 38 / 40
    assert summary.confusion["network"] == [[19, 0, 1], [0, 19, 1]]
    assert sum(b.n for b in summary.reliability) == 38
    assert value(summary, "calibration", "ece", "network_detected_only") == pytest.approx(0.2)


def test_a_summary_survives_json(score, make_tables) -> None:
    summary = score(make_tables())
    stored = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    again = Summary.from_dict(stored)
    assert again.to_dict() == summary.to_dict()
    assert [r.value for r in again.rows] == pytest.approx([r.value for r in summary.rows], nan_ok=True)
    assert again.find("segmentation", "dice") == summary.find("segmentation", "dice")
    with pytest.raises(KeyError):
        Summary.from_dict({key: value for key, value in stored.items() if key != "rows"})


def test_every_value_lies_in_its_interval(score, make_tables) -> None:
    table = to_table(score(make_tables()))
    with_interval = table[table["low"].notna() & ~table["metric"].isin(["ccc_raw", "ccc_relative", "kappa"])]
    assert (with_interval["low"] <= with_interval["high"]).all()
    means = with_interval[with_interval["metric"].isin(["dice", "mae_raw", "accuracy", "sensitivity"])]
    assert len(means) > 20
    assert (means["low"] <= means["value"] + 1e-9).all()
    assert (means["value"] <= means["high"] + 1e-9).all()


def test_json_and_long_table(score, make_tables) -> None:
    summary = score(make_tables(healthy=0))
    stored = json.loads(json.dumps(summary.to_dict(), allow_nan=False))
    assert len(stored["rows"]) == len(summary.rows)
    assert list(to_table(summary)) == [
        "site",
        "task",
        "group",
        "metric",
        "method",
        "value",
        "low",
        "high",
        "n",
    ]
    keys = to_table(summary)[["site", "task", "group", "metric", "method"]]
    assert not keys.duplicated().any()
    assert summary.find("segmentation", "jaccard") is None


def test_row_order_does_not_matter(score, make_tables) -> None:
    studies, lesions = make_tables()
    mixed = (studies.sample(frac=1, random_state=1), lesions.sample(frac=1, random_state=2))
    pd.testing.assert_frame_equal(to_table(score((studies, lesions))), to_table(score(mixed)))


def test_one_site_is_not_repeated(score, make_tables) -> None:
    assert {row.site for row in score(make_tables(sites=("A",))).rows} == {"all"}


def test_masks_of_an_outsider(score, make_tables) -> None:
    studies, lesions = make_tables()
    other = lesions.filter(regex=r"^(?!predicted_|measured_|oracle_|noise_free_|p_)")
    summary = score((studies, other), readouts=False)
    assert summary.confusion == {}
    assert summary.reliability == ()
    assert value(summary, "segmentation", "dice") > 0
    assert summary.find("enhancement", "mae_raw", "head") is None
    assert summary.find("enhancement", "mae_raw", "training_mean") is not None


@pytest.mark.parametrize(
    "change",
    [
        {"studies": 1, "healthy": 0, "missed": 0},
        {"studies": 0, "missed": 0},
        {"studies": 3, "missed": 3},
    ],
    ids=["one study", "no lesion", "all missed"],
)
def test_degenerate_cohorts(score, make_tables, change) -> None:
    studies, lesions = make_tables(**change)
    if not change["studies"]:
        lesions = pd.concat([lesions, make_tables()[1].iloc[:0]])
    summary = score((studies, lesions))
    for row in summary.rows:
        assert row.n > 0 or math.isnan(row.value) or row.metric.startswith("studies_")
    if change["missed"]:
        assert value(summary, "classification", "accuracy") == 0.0
        head = value(summary, "enhancement", "mae_raw", "head")
        assert head == value(summary, "enhancement", "mae_raw", "training_mean")


def test_readouts_of_other_classes_are_refused(make_tables, training_lesions, phases, classes) -> None:
    readouts = fit(training_lesions, phases, classes[::-1])
    with pytest.raises(UserError, match="fit them to the same"):
        summarise(*make_tables(), phases, classes, FAST, 0, readouts)
