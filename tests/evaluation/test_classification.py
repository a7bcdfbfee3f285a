import itertools

import numpy as np
import pytest
from sklearn import metrics

from mtinet.evaluation.classification import ClassPredictions

CLASSES = ("a", "b", "c")


def draw(seed: int, classes: tuple[str, ...], n: int = 50, missed: float = 0.1) -> ClassPredictions:
    rng = np.random.default_rng([seed])
    truth = rng.choice(classes, n)
    probabilities = rng.dirichlet(np.ones(len(classes)), n).round(2) + 0.3 * (
        truth[:, None] == np.array(classes)
    )
    probabilities /= probabilities.sum(1, keepdims=True)
    names = np.array(classes)[probabilities.argmax(1)]
    predicted = np.where(rng.random(n) < missed, "", names)
    return ClassPredictions.from_labels(classes, list(truth), list(predicted), probabilities)


def once(predictions: ClassPredictions) -> dict[str, float]:
    weights = np.ones((1, len(predictions.truth)))
    return {name: float(values[0]) for name, values in predictions.scores(weights).items()}


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [CLASSES[:2], CLASSES])
def test_parity_with_scikit_learn(seed: int, classes: tuple[str, ...]) -> None:
    case = draw(seed, classes)
    found = once(case)
    y, p = case.truth, case.predicted
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, p))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, p))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(y, p, labels=np.unique(y), average="macro"))
    assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(y, p))
    assert case.probabilities is not None
    if len(classes) == 2:
        auc = metrics.roc_auc_score(y, case.probabilities[:, 1])
    else:
        auc = metrics.roc_auc_score(y, case.probabilities, multi_class="ovr")
    assert found["auc"] == pytest.approx(auc)
    full = metrics.confusion_matrix(y, p, labels=range(len(classes) + 1))
    np.testing.assert_array_equal(case.confusion(np.ones((1, len(y))))[0], full[:-1])


def test_weights_are_repetitions() -> None:
    case = draw(5, CLASSES)
    counts = np.random.default_rng([6]).integers(0, 3, len(case.truth))
    repeated = case.subset(np.ones(len(counts), dtype=bool))
    assert repeated.probabilities is not None
    repeated = ClassPredictions(
        CLASSES,
        np.repeat(case.truth, counts),
        np.repeat(case.predicted, counts),
        np.repeat(repeated.probabilities, counts, axis=0),
    )
    weighted = {name: values[0] for name, values in case.scores(counts[None].astype(float)).items()}
    assert weighted == pytest.approx(once(repeated))


def test_a_missed_lesion_is_misclassified_with_equal_probabilities() -> None:
    sure = np.array([[0.9, 0.1], [0.1, 0.9]])
    case = ClassPredictions.from_labels(("a", "b"), ["a", "b"], ["", "b"], sure)
    assert once(case)["accuracy"] == 0.5
    assert case.probabilities is not None
    assert case.probabilities.tolist() == [[0.5, 0.5], [0.1, 0.9]]
    assert case.confusion(np.ones((1, 2)))[0].tolist() == [[0, 0, 1], [0, 1, 0]]


def test_missing_more_lesions_never_improves_accuracy_or_f1() -> None:
    case = draw(8, CLASSES, missed=0.0)
    scores = [once(case)]
    for last in range(1, 10):
        predicted = case.predicted.copy()
        predicted[:last] = len(CLASSES)
        scores.append(once(ClassPredictions(CLASSES, case.truth, predicted, None)))
    assert all(later["accuracy"] <= now["accuracy"] for now, later in itertools.pairwise(scores))


def test_one_class_and_nothing() -> None:
    alone = ClassPredictions.from_labels(("a", "b"), ["a", "a"], ["a", "b"], np.full((2, 2), 0.5))
    found = once(alone)
    assert (found["accuracy"], found["balanced_accuracy"]) == (0.5, 0.5)
    assert np.isnan(found["auc"])
    perfect = ClassPredictions.from_labels(("a", "b"), ["a", "a"], ["a", "a"])
    assert np.isnan(once(perfect)["kappa"])
    assert "auc" not in once(perfect)
    nothing = ClassPredictions.from_labels(("a", "b"), [], [], np.zeros((0, 2)))
    assert all(np.isnan(value) for value in once(nothing).values())
