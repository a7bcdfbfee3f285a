import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_info

from mtinet.errors import UserError
from mtinet.evaluation.readouts import (
    CLASSIFIERS,
    enhancement_features,
    fit,
    readout_balanced_accuracy,
)


def test_mean_majority_and_classifier(training_lesions, phases, classes) -> None:
    more = pd.concat([training_lesions, training_lesions[training_lesions["label"] == "hcc"]])
    readouts = fit(more, phases, classes)
    assert readouts.majority == "hcc"
    assert readouts.class_frequencies == pytest.approx({"hemangioma": 1 / 3, "hcc": 2 / 3})
    assert readouts.mean_enhancement["arterial"] == pytest.approx(more["true_arterial"].mean())
    for method in CLASSIFIERS:
        probabilities = readouts.predict(np.array([[1.0, 1.6, 1.9, 2.0], [1.0, 2.0, 1.6, 1.2]]), method)
        assert probabilities.argmax(1).tolist() == [0, 1]
        np.testing.assert_allclose(probabilities.sum(1), 1.0)


def test_missing_phases_are_no_obstacle(training_lesions, phases, classes) -> None:
    readouts = fit(training_lesions.assign(true_delayed=np.nan), phases, classes)
    assert np.isnan(readouts.mean_enhancement["delayed"])
    for method in CLASSIFIERS:
        found = readouts.predict(np.array([[np.nan, 2.0, 1.6, 1.2], [np.nan] * 4]), method)
        np.testing.assert_allclose(found.sum(1), 1.0)
    assert readouts.predict(np.zeros((0, 4))).shape == (0, 2)


def test_one_class_gives_its_frequency(training_lesions, phases, classes) -> None:
    alone = training_lesions[training_lesions["label"] == "hcc"]
    readouts = fit(alone, phases, classes)
    assert readouts.classifiers == {}
    for method in CLASSIFIERS:
        assert readouts.predict(np.ones((3, 4)), method).tolist() == [[0.0, 1.0]] * 3


def test_unlabelled_lesions_count_for_the_mean_only(training_lesions, phases, classes) -> None:
    unknown = training_lesions.assign(label="")
    both = fit(pd.concat([training_lesions, unknown]), phases, classes)
    alone = fit(training_lesions, phases, classes)
    assert both.class_frequencies == alone.class_frequencies
    assert both.mean_enhancement == pytest.approx(alone.mean_enhancement)
    with pytest.raises(UserError, match="no training lesion has a known class"):
        fit(unknown, phases, classes)
    with pytest.raises(UserError, match="true_delayed"):
        fit(training_lesions.drop(columns="true_delayed"), phases, classes)


def test_relative_features_do_not_know_the_gain() -> None:
    signals = np.array([[1.0, 2.0, 3.0], [0.0, 2.0, 3.0]])
    features = enhancement_features(signals, ("pre", "arterial", "delayed"))
    assert features.shape == (2, 5)
    assert features[0, 3:].tolist() == [1.0, 2.0]
    assert np.isnan(features[1, 3:]).all()
    scaled = enhancement_features(7 * signals, ("pre", "arterial", "delayed"))
    np.testing.assert_allclose(scaled[:, 3:], features[:, 3:])
    assert enhancement_features(signals, ("arterial", "portal_venous", "delayed")).shape == (2, 3)


def test_difficulty_of_a_cohort(training_lesions, phases) -> None:
    assert readout_balanced_accuracy(training_lesions, phases) > 0.85
    shuffled = training_lesions.assign(
        label=np.random.default_rng([1]).permutation(training_lesions["label"].to_numpy())
    )
    assert readout_balanced_accuracy(shuffled, phases) < 0.7
    again = [readout_balanced_accuracy(training_lesions, phases, seed=3) for _ in range(2)]
    assert again[0] == again[1]


def test_a_patient_is_never_on_both_sides() -> None:
    # classes without meaning, and as many signals as patients: who has seen a patient knows his class by heart
    phases = [f"phase{n}" for n in range(12)]
    noise = np.random.default_rng([4]).normal(5, 1, (12, 12))
    patients = pd.DataFrame(noise, columns=[f"true_{phase}" for phase in phases])
    patients["patient_id"], patients["label"] = [f"p{n}" for n in range(12)], ["hcc", "hemangioma"] * 6
    lesions = pd.concat([patients] * 3, ignore_index=True)
    assert readout_balanced_accuracy(lesions, phases) < 0.75
    strangers = lesions.assign(patient_id=[f"p{n}" for n in range(len(lesions))])
    assert readout_balanced_accuracy(strangers, phases) > 0.95


def test_no_difficulty_without_two_classes(training_lesions, phases) -> None:
    alone = training_lesions[training_lesions["label"] == "hcc"]
    assert np.isnan(readout_balanced_accuracy(alone, phases))
    assert np.isnan(readout_balanced_accuracy(alone.iloc[:0], phases))
    assert np.isnan(readout_balanced_accuracy(training_lesions.iloc[:3], phases))


def test_boosting_sees_what_no_line_parts(phases, classes) -> None:
    """Of two phases that are high or low, one class has them alike: no line parts the two."""
    rng = np.random.default_rng(0)
    high = rng.integers(0, 2, (80, 2))
    lesions = pd.DataFrame(
        {
            "label": np.where(high[:, 0] == high[:, 1], *classes),
            "true_pre": 1.0,
            "true_arterial": 1 + high[:, 0] + 0.05 * rng.standard_normal(80),
            "true_portal_venous": 1 + high[:, 1] + 0.05 * rng.standard_normal(80),
            "true_delayed": 1.5,
        }
    )
    readouts = fit(lesions, phases, classes)
    corners = np.array([[1.0, a, b, 1.5] for a in (1, 2) for b in (1, 2)])
    right = [0, 1, 1, 0]
    assert readouts.predict(corners, "gradient_boosting").argmax(1).tolist() == right
    assert readouts.predict(corners, "logistic_regression").argmax(1).tolist() != right


def test_boosting_waits_for_no_other_thread(training_lesions, phases, classes, monkeypatch) -> None:
    """Threads of few lesions wait for each other by spinning, for minutes where others use the processors."""

    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}

    seen: list[set[int]] = []
    for name in ("fit", "predict_proba"):
        own = getattr(HistGradientBoostingClassifier, name)
        monkeypatch.setattr(
            HistGradientBoostingClassifier,
            name,
            lambda *given, own=own, **more: seen.append(threads()) or own(*given, **more),
        )
    before = threads()
    fit(training_lesions, phases, classes).predict(np.array([[1.0, 1.6, 1.9, 2.0]]), "gradient_boosting")
    assert seen == [{1}, {1}]
    assert threads() == before
