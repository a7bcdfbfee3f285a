"""What one gets without the network's heads: training mean, majority class, and classifiers of the signal.

The classifiers (scikit-learn: imputation with missing indicators, then standardisation and logistic regression,
or gradient boosting) see what a reader could measure under a mask: the normalised signal of each phase and the
relative enhancement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtinet.errors import UserError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FloatArray = NDArray[np.float64]

LOGISTIC, BOOSTING = "logistic_regression", "gradient_boosting"
CLASSIFIERS = (LOGISTIC, BOOSTING)
"""Classifiers of the signal, by the names that tables use."""


@dataclass(frozen=True)
class Readouts:
    """Baselines fitted to the training lesions.

    Attributes
    ----------
    phases, classes : tuple of str
    mean_enhancement : dict
        Mean normalised signal of the training lesions by phase; NaN for a phase that none has.
    class_frequencies : dict
        Share of each class among the training lesions with a known one.
    classifiers : dict
        By name (:data:`CLASSIFIERS`); empty when the training lesions have one class only: the majority is
        then the answer.
    """

    phases: tuple[str, ...]
    classes: tuple[str, ...]
    mean_enhancement: dict[str, float]
    class_frequencies: dict[str, float]
    classifiers: dict[str, Pipeline]

    @property
    def majority(self) -> str:
        """The most frequent class of the training lesions; the first in order among equals."""
        return max(self.classes, key=lambda name: self.class_frequencies[name])

    def predict(self, signals: NDArray[Any], method: str = LOGISTIC) -> FloatArray:
        """Class probabilities [rows, classes] from normalised signals [rows, phases] (NaN = absent)."""
        frequencies = np.array([self.class_frequencies[name] for name in self.classes])
        classifier = self.classifiers.get(method)
        if classifier is None or not len(signals):
            return np.tile(frequencies, (len(signals), 1))
        probabilities = np.zeros((len(signals), len(self.classes)))
        columns = [self.classes.index(name) for name in classifier.classes_]
        with _alone():
            probabilities[:, columns] = classifier.predict_proba(enhancement_features(signals, self.phases))
        return probabilities


def fit(train_lesions: pd.DataFrame, phases: Sequence[str], classes: Sequence[str]) -> Readouts:
    """Fit the baselines.

    Parameters
    ----------
    train_lesions : DataFrame
        One row a training lesion: ``label`` ("" = unknown) and ``true_<phase>``, the mean signal under the
        reference mask in normalised units (raw signal over the study's gain), NaN where absent.
    phases, classes : sequence of str

    Raises
    ------
    UserError
        No training lesion has a known class.
    """
    signals = _signals(train_lesions, phases)
    labels = train_lesions["label"].to_numpy(dtype=object)
    known = np.isin(labels, list(classes))
    if not known.any():
        raise UserError("no training lesion has a known class; label some, or leave the read-outs out")
    present = np.isfinite(signals)
    total = np.where(present, signals, 0.0).sum(0)
    mean = np.divide(total, present.sum(0), out=np.full(len(phases), np.nan), where=present.any(0))
    features = enhancement_features(signals[known], phases)
    fitted = {
        LOGISTIC: fit_classifier(features, labels[known]),
        BOOSTING: fit_boosting(features, labels[known]),
    }
    return Readouts(
        phases=tuple(phases),
        classes=tuple(classes),
        mean_enhancement={phase: float(value) for phase, value in zip(phases, mean)},
        class_frequencies={name: float((labels[known] == name).mean()) for name in classes},
        classifiers={name: classifier for name, classifier in fitted.items() if classifier is not None},
    )


def readout_balanced_accuracy(
    lesions: pd.DataFrame, phases: Sequence[str], folds: int = 5, seed: int = 0
) -> float:
    """How easily the classes are told from the true mean signals: the difficulty of a cohort.

    Out-of-fold predictions of the linear classifier, folds grouped by patient and stratified by class.

    Parameters
    ----------
    lesions : DataFrame
        ``patient_id``, ``label`` and normalised ``true_<phase>`` as in :func:`fit`.
    phases : sequence of str
    folds : int
    seed : int
        Of the shuffling of patients.

    Returns
    -------
    float
        Balanced accuracy; NaN with one class, or fewer patients in a class than 2.
    """
    lesions = lesions[lesions["label"] != ""]
    labels = lesions["label"].to_numpy(dtype=object)
    patients = lesions["patient_id"].to_numpy(dtype=object)
    smallest = lesions.groupby("label")["patient_id"].nunique().min() if len(lesions) else 0
    if len(set(labels)) < 2 or smallest < 2:
        return float("nan")
    # scikit-learn takes a second to be there: who fits nothing does not wait for it
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold

    features = enhancement_features(_signals(lesions, phases), phases)
    predicted = np.empty(len(labels), dtype=object)
    split = StratifiedGroupKFold(min(folds, int(smallest)), shuffle=True, random_state=seed)
    for train, test in split.split(features, labels, patients):
        classifier = fit_classifier(features[train], labels[train])
        predicted[test] = labels[train][0] if classifier is None else classifier.predict(features[test])
    return float(balanced_accuracy_score(labels.astype(str), predicted.astype(str)))


def enhancement_features(signals: NDArray[Any], phases: Sequence[str]) -> FloatArray:
    """Normalised signals and, for phases other than pre, (S_p - S_pre)/S_pre [rows, features]."""
    signals = np.asarray(signals, dtype=np.float64).reshape(-1, len(phases))
    if "pre" not in phases:
        return signals
    at = list(phases).index("pre")
    pre = np.where(signals[:, at] > 0, signals[:, at], np.nan)[:, None]
    return np.hstack([signals, np.delete((signals - pre) / pre, at, axis=1)])


def _signals(lesions: pd.DataFrame, phases: Sequence[str]) -> FloatArray:
    missing = [f"true_{phase}" for phase in phases if f"true_{phase}" not in lesions]
    if missing:
        raise UserError(f"the training lesions lack the columns {', '.join(missing)}")
    return lesions[[f"true_{phase}" for phase in phases]].to_numpy(dtype=np.float64)


def fit_classifier(features: FloatArray, labels: NDArray[Any]) -> Pipeline | None:
    """Logistic regression that fills gaps and weighs classes equally; None where there is one class only."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(class_weight="balanced", max_iter=1000)
    return _fitted(features, labels, StandardScaler(), regression)


def fit_boosting(features: FloatArray, labels: NDArray[Any]) -> Pipeline | None:
    """Gradient boosting that fills gaps and weighs classes equally; None where there is one class only.

    Of scikit-learn's defaults only the smallest leaf differs: 20 lesions are more than a class may have.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosting = HistGradientBoostingClassifier(
        min_samples_leaf=5, class_weight="balanced", early_stopping=False, random_state=0
    )
    return _fitted(features, labels, boosting)


def _fitted(features: FloatArray, labels: NDArray[Any], *steps: Any) -> Pipeline | None:
    if len(set(labels)) < 2:
        return None
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline

    gaps = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    with _alone():
        return make_pipeline(gaps, *steps).fit(features, labels.astype(str))


@contextmanager
def _alone() -> Iterator[None]:
    """One thread for scikit-learn's boosting.

    A cohort's lesions are so few that several threads are no faster, and they wait for each other by spinning: beside
    another program that uses the processors a fit takes minutes instead of a second.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="openmp"):
        yield
