"""Areas under ROC curves: DeLong's own data, scikit-learn's areas, and simulation."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mtinet.evaluation.areas import area_between, area_difference, area_influence, area_of, pooled

# 43 patients with ovarian cancer and intestinal obstruction: albumin, total protein, K-G score, and whether
# surgery failed (1); DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837
PATIENTS = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


@pytest.fixture(scope="module")
def ovarian():
    table = np.array(PATIENTS.split(), dtype=np.float64).reshape(-1, 4)
    scores = {
        name: np.stack([-values, values], axis=-1)[None]
        for name, values in (("albumin", table[:, 0]), ("protein", table[:, 1]), ("K-G", 10 - table[:, 2]))
    }
    return table[:, 3].astype(np.intp), scores


@pytest.mark.parametrize(
    ("name", "area", "error"), [("albumin", 0.7366, 0.0927), ("K-G", 0.7258, 0.1028), ("protein", 0.6478, 0.1000)]
)  # fmt: skip
def test_areas_and_errors_of_delongs_patients_as_published(ovarian, name, area, error):
    # SAS/STAT User's Guide, PROC LOGISTIC, example "Comparing Receiver Operating Characteristic Curves"
    truth, scores = ovarian
    found = area_difference(truth, scores[name])
    assert found.value == pytest.approx(area, abs=5e-5)
    assert found.standard_error == pytest.approx(error, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "difference", "chi2", "p"), [("albumin", 0.0108, 0.0127, 0.9102), ("protein", -0.0780, 0.5554, 0.4561)]
)  # fmt: skip
def test_delongs_test_of_his_patients_as_published(ovarian, name, difference, chi2, p):
    truth, scores = ovarian
    found = area_difference(truth, scores[name], scores["K-G"])
    assert found.value == pytest.approx(difference, abs=5e-5)
    assert (found.value / found.standard_error) ** 2 == pytest.approx(chi2, abs=5e-5)
    assert found.p == pytest.approx(p, abs=5e-5)


def simulated(rng, n=90, classes=3, skill=1.0):
    truth = np.sort(rng.integers(0, classes, n))
    logits = rng.normal(0, 1, (n, classes)) + skill * np.eye(classes)[truth]
    logits = np.round(logits, 1)  # ties
    return truth, np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_several_classes_have_the_area_of_scikit_learn():
    truth, scores = simulated(np.random.default_rng(0))
    area, influence = area_influence(truth, scores)
    assert area == pytest.approx(roc_auc_score(truth, scores, multi_class="ovr", average="macro"))
    assert influence.sum() == pytest.approx(0.0, abs=1e-12)


def test_the_error_of_several_classes_is_the_spread_over_samples():
    rng = np.random.default_rng(1)
    truth = np.repeat(np.arange(3), 25)

    def draw():
        logits = rng.normal(0, 1, (75, 3)) + 1.0 * np.eye(3)[truth]
        found = area_difference(truth, logits[None])
        return found.value, found.standard_error

    areas, errors = np.array([draw() for _ in range(250)]).T
    assert np.mean(errors) == pytest.approx(areas.std(), rel=0.15)


def test_p_values_are_uniform_where_two_methods_are_alike():
    rng = np.random.default_rng(2)
    truth = np.repeat(np.arange(3), 20)

    def p():
        shared = rng.normal(0, 1, (60, 3)) + np.eye(3)[truth]
        first, second = (shared + rng.normal(0, 0.7, shared.shape) for _ in range(2))
        return area_difference(truth, first[None], second[None]).p

    found = np.array([p() for _ in range(250)])
    for level in (0.05, 0.25, 0.5):
        assert (found <= level).mean() == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / 250))


def test_seeds_are_averaged_and_the_same_twice_is_itself():
    truth, scores = simulated(np.random.default_rng(3))
    once, twice = area_difference(truth, scores[None]), area_difference(truth, np.stack([scores, scores]))
    assert (once.value, once.variance) == pytest.approx((twice.value, twice.variance))


def test_rare_classes_are_left_out_and_one_class_has_no_area():
    truth, scores = simulated(np.random.default_rng(4))
    lone = np.concatenate([truth[truth < 2], [2]])
    own = np.concatenate([scores[truth < 2], scores[truth == 2][:1]])
    assert area_difference(lone, own[None]).n == len(lone) - 1
    assert area_difference(np.zeros(9, dtype=np.intp), scores[None, :9]) is None
    assert pooled([]) is None


def table_of(truth, scores, blocks, seed=0):
    return pd.DataFrame(
        {
            "study_id": [f"s{i}" for i in range(len(truth))],
            "patient_id": [f"p{i}" for i in range(len(truth))],
            "seed": seed,
            "block": blocks,
            "truth": truth,
            "scores": list(scores),
        }
    )


def test_folds_are_never_ranked_together():
    # in fold b every score is shifted: pooled ranks would see it, areas within folds do not
    truth, scores = simulated(np.random.default_rng(5))
    blocks = np.where(np.arange(90) % 2, "a", "b")
    shifted = scores + 5.0 * (blocks == "b")[:, None]
    assert area_of(table_of(truth, shifted, blocks)).value == pytest.approx(
        area_of(table_of(truth, scores, blocks)).value
    )
    assert area_between(table_of(truth, shifted, blocks), table_of(truth, scores, blocks)).value == 0.0


def test_only_lesions_that_both_scored_are_compared():
    truth, scores = simulated(np.random.default_rng(6))
    _, other = simulated(np.random.default_rng(7))
    whole = table_of(truth, scores, "a")
    half = table_of(truth, other, "a").iloc[::2]
    found = area_between(whole, half)
    assert found.n == 45
    assert found.value == pytest.approx(area_of(whole.iloc[::2]).value - area_of(half).value)
