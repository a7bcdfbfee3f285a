"""What is pooled over the folds of a cross-validation."""

from __future__ import annotations

import pandas as pd
import pytest

from mtinet.evaluation.sections import Row
from mtinet.experiments.crossval import ranked_within_folds


def test_folds_are_never_ranked_together(record_maker):
    """Two networks that order their own patients rightly on other scales: an area of 1, pooled or not."""
    records = []
    for record in record_maker(patients=24).row(missed=2):
        offset = 0.3 * record.fold
        studies = []
        for study in record.scorings[0].studies:
            own = 0.1 + offset + (0.2 if study.label == record.classes[0] else 0.0)
            others = [name for name in record.classes if name != record.classes[0]]
            # of two classes the scores are each other's complement
            shares = {record.classes[0]: own, **{name: (1 - own) / len(others) for name in others}}
            label = study.label if study.label == record.classes[0] else others[0]
            seen = shares if study.probabilities else {}  # a missed lesion has none
            studies.append(study.model_copy(update={"probabilities": seen, "label": label}))
        scoring = record.scorings[0].model_copy(update={"studies": tuple(studies)})
        records.append(record.model_copy(update={"scorings": (scoring,)}))
    studies = pd.DataFrame(
        [(s.study_id, s.site) for record in records for s in record.scorings[0].studies],
        columns=["study_id", "site"],
    )
    pooled = Row("all", "classification", "all", "auc", "network", 0.75, 0.6, 0.9, 24)
    detected = Row("all", "classification", "all", "auc", "network_detected_only", 0.75, 0.6, 0.9, 22)
    of_site = Row("A", "classification", "all", "auc", "network", 0.75, 0.6, 0.9, 12)
    other = Row("all", "classification", "all", "accuracy", "network", 0.8, 0.7, 0.9, 24)
    ranked = ranked_within_folds([pooled, of_site, other, detected], tuple(records), studies)
    assert ranked[2] == other
    assert 0.75 < ranked[0].value < 1.0  # the missed ones are no right answers
    assert ranked[0].high <= 1.0
    assert ranked[0].n == 24
    assert ranked[1].n == 12
    assert ranked[3].value == pytest.approx(1.0)
    assert ranked[3].n == 22
