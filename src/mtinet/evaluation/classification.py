"""Scores of the class of a study's dominant lesion; a missed lesion is a misclassified one.

All are functions of the confusion matrix, or of pairwise comparisons, under a row of weights: one formula
gives the value and its 2000 resamples.  The values equal scikit-learn's (macro F1 with
``labels``: the classes that occur).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.evaluation.statistics import FloatArray, mean_of_defined, safe_ratio


@dataclass(frozen=True)
class ClassPredictions:
    """True and predicted classes of lesions, one a row.

    Attributes
    ----------
    classes : tuple of str
    truth : ndarray of int
        Index of the true class.
    predicted : ndarray of int
        Index of the predicted class; ``len(classes)`` = missed.
    probabilities : ndarray [rows, classes] or None
        None where the method gives no probabilities.
    """

    classes: tuple[str, ...]
    truth: NDArray[np.intp]
    predicted: NDArray[np.intp]
    probabilities: FloatArray | None

    @classmethod
    def from_labels(
        cls,
        classes: Sequence[str],
        truth: Sequence[str],
        predicted: Sequence[str],
        probabilities: NDArray[Any] | None = None,
    ) -> ClassPredictions:
        """From names; a predicted name that is no class (such as "") is a missed lesion.

        A missed lesion has equal probabilities for all classes, whatever ``probabilities`` holds for it.
        """
        number = {name: index for index, name in enumerate(classes)}
        guess = np.array([number.get(name, len(classes)) for name in predicted], dtype=np.intp)
        if probabilities is not None:
            missed = (guess == len(classes))[:, None]
            probabilities = np.where(missed, 1.0 / len(classes), probabilities.astype(np.float64))
        return cls(
            tuple(classes), np.array([number[name] for name in truth], dtype=np.intp), guess, probabilities
        )

    def subset(self, rows: NDArray[np.bool_]) -> ClassPredictions:
        """Those of the marked rows."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return ClassPredictions(self.classes, self.truth[rows], self.predicted[rows], probabilities)

    def scores(self, weights: FloatArray) -> dict[str, FloatArray]:
        """Accuracy, balanced accuracy, macro F1, Cohen's kappa and, with probabilities, AUC.

        Parameters
        ----------
        weights : ndarray [resamples, rows]

        Returns
        -------
        dict of ndarray [resamples]
            NaN where a score is not defined (AUC with one true class, kappa without variation).
        """
        found = confusion_scores(self.confusion(weights))
        if self.probabilities is not None:
            found["auc"] = self.auc(weights)
        return found

    def confusion(self, weights: FloatArray) -> FloatArray:
        """Confusion matrices [resamples, true class, predicted class or missed (last)]."""
        count = len(self.classes)
        cell = self.truth * (count + 1) + self.predicted
        cells = weights @ np.eye(count * (count + 1))[cell]
        return np.asarray(cells.reshape(len(weights), count, count + 1))

    def auc(self, weights: FloatArray) -> FloatArray:
        """Area under the ROC curve, each class against the rest, averaged over the classes that occur.

        The share of pairs of a lesion of the class and another one that are ordered rightly, ties counting
        one half (Hanley and McNeil 1982).  With two classes it is the AUC of the second.
        """
        if self.probabilities is None:
            raise ValueError("AUC needs probabilities")
        count = len(self.classes)
        scored = range(count) if count > 2 else range(count - 1, count)
        by_class = np.full((len(weights), len(scored)), np.nan)
        for place, index in enumerate(scored):
            own = self.truth == index
            score = self.probabilities[:, index]
            above = score[own][:, None] - score[~own][None, :]
            ordered = (above > 0) + 0.5 * (above == 0)
            right = ((weights[:, own] @ ordered) * weights[:, ~own]).sum(-1)
            by_class[:, place] = safe_ratio(right, weights[:, own].sum(-1) * weights[:, ~own].sum(-1))
        return mean_of_defined(by_class)


def confusion_scores(confusion: FloatArray) -> dict[str, FloatArray]:
    """Scores of confusion matrices [..., true class, predicted class or missed (last)].

    Balanced accuracy and macro F1 average over the classes that occur in the truth.  Cohen's kappa takes
    missed as a category of its own.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    true, guessed = confusion.sum(-1), confusion.sum(-2)[..., :-1]
    total = true.sum(-1)
    accuracy = safe_ratio(right.sum(-1), total)
    by_chance = safe_ratio((true * guessed).sum(-1), total**2)
    f1 = safe_ratio(2.0 * right, true + guessed)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": mean_of_defined(safe_ratio(right, true)),
        "macro_f1": mean_of_defined(np.where(true > 0, f1, np.nan)),
        "kappa": safe_ratio(accuracy - by_chance, 1.0 - by_chance),
    }
