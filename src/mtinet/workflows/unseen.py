"""Which studies a model has not seen in training: only on those may it be scored, calibrated or joined."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mtinet.cohort import Cohort
from mtinet.data.prepared import PreparedStudy
from mtinet.results import Finding
from mtinet.runs import Run


def training_patients(run: Run, cohort: Cohort) -> Collection[str]:
    """Patients of a cohort who trained a run: those of the cohort of that name."""
    if cohort.name != run.manifest["cohort"]:
        return frozenset()
    return frozenset(run.document("preparation")["patients"])


def never_seen(
    run: Run, cohort: Cohort, prepared: Sequence[PreparedStudy], stage: str = "evaluate"
) -> tuple[list[PreparedStudy], list[Finding]]:
    """The studies without those that trained the run, and a finding for each left out.

    A study trained it if its content did, or its patient in a cohort of the same name: a cohort that was
    edited since is still the same patients.
    """
    keys = set(run.document("preparation")["keys"].values())
    patients = training_patients(run, cohort)
    unseen = [s for s in prepared if s.key not in keys and s.patient_id not in patients]
    left_out = sorted({s.study_id for s in prepared} - {s.study_id for s in unseen})
    return unseen, [
        Finding(
            "trained-on",
            stage,
            "warning",
            "the model trained on this patient, so the study is not used",
            "Nothing to do; what it says about this study says nothing about new patients.",
            study_id,
        )
        for study_id in left_out
    ]
