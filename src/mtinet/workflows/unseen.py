"""Which studies a model has not seen in training: only on those may it be scored, calibrated or joined."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtinet.cohort import Cohort
from mtinet.data.folds import Split
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UnusableError
from mtinet.results import Finding
from mtinet.runs import Run


def training_sets(run: Run) -> list[dict[str, Any]]:
    """What a run learned from: its own training set, then those of the runs that it was fine-tuned from.

    Returns
    -------
    list of dict
        Name of the ``cohort``, its ``patients``, and hashes of the studies' content (``keys``) and of their
        image files (``images``).
    """
    own = run.document("preparation")
    return [
        {
            "cohort": run.manifest["cohort"],
            "patients": own["patients"],
            "keys": sorted(own["keys"].values()),
            "images": own.get("images", []),  # runs of earlier versions kept none
        },
        *(run.document("inherited") if run.has_document("inherited") else []),
    ]


def seen_in(
    training: Sequence[Mapping[str, Any]], cohort: Cohort, prepared: Sequence[PreparedStudy]
) -> set[str]:
    """Ids of the studies of a cohort whose patients are in training sets (:func:`training_sets`).

    A patient is in one if the content or an image of one of the studies is, or the patient's id in a cohort of
    the same name: a cohort that was edited since, merged or renamed is still the same patients.
    """
    known = {value for one in training for name in ("keys", "images") for value in one[name]}
    by_content = {
        study.patient_id for study in prepared if not known.isdisjoint({study.key, *study.image_hashes})
    }
    patients = by_content | _patients(training, cohort)
    return {study.study_id for study in prepared if study.patient_id in patients}


def _patients(training: Sequence[Mapping[str, Any]], cohort: Cohort) -> set[str]:
    return {patient for one in training if one["cohort"] == cohort.name for patient in one["patients"]}


def training_patients(run: Run, cohort: Cohort) -> Collection[str]:
    """Patients of a cohort who trained a run, or one that it was fine-tuned from: those of a cohort of that name."""
    return _patients(training_sets(run), cohort)


def never_seen(
    run: Run, cohort: Cohort, prepared: Sequence[PreparedStudy], stage: str = "evaluate"
) -> tuple[list[PreparedStudy], list[Finding]]:
    """The studies without those whose patients trained the run (:func:`seen_in`), and a finding for each left out."""
    seen = seen_in(training_sets(run), cohort, prepared)
    return [study for study in prepared if study.study_id not in seen], [
        Finding(
            "trained-on",
            stage,
            "warning",
            "the model trained on this patient, so the study is not used",
            "Nothing to do; what it says about this study says nothing about new patients.",
            study_id,
        )
        for study_id in sorted(seen)
    ]


def studies_to_score(run: Run, cohort_folder: Path | None) -> tuple[Cohort, list[str], list[Finding]]:
    """The held-out studies, or another cohort with its name; and what changed of the studies that trained."""
    split = Split.from_dict(run.document("split"))
    cohort = Cohort.read(cohort_folder or Path(run.manifest["cohort_folder"]))
    if cohort.hash == split.cohort_hash:
        if not split.test:
            raise UnusableError(
                f"{run.path} trained on everybody (--all): there is no held-out study; give another --cohort"
            )
        return cohort.subset(list(split.test)), [], _relabelled(run, cohort)
    if cohort_folder is None:
        folder = run.manifest["cohort_folder"]
        raise UnusableError(
            f"cohort {cohort.name} is no longer as {run.path} was trained on it (hash {split.cohort_hash}, now "
            f"{cohort.hash}); restore its tables, or score all of it that did not train: "
            f"mtinet evaluate {shlex.quote(str(run.path))} --cohort {shlex.quote(folder)}"
        )
    return cohort, [cohort.name], []


def _relabelled(run: Run, cohort: Cohort) -> list[Finding]:
    """Training studies whose lesions had a class that they no longer have; the cohort's hash does not know of them."""
    learned: dict[str, Counter[str]] = defaultdict(Counter)
    for lesion in run.document("preparation")["lesions"]:
        if lesion["label"]:
            learned[lesion["study_id"]][lesion["label"]] += 1
    changed = []
    for study in cohort.studies:
        given = Counter(label for label in cohort.lesion_labels(study).values() if label)
        if given.total() < learned[study.study_id].total():
            given[study.label] += 1  # of the largest lesion, where it has no class of its own
        if learned[study.study_id] - given:
            changed.append(study.study_id)
    if not changed:
        return []
    return [
        Finding(
            "training-relabelled",
            "evaluate",
            "warning",
            f"lesions of {len(changed)} training studies had another class when the model learned them "
            f"({', '.join(changed[:5])}{', ...' if len(changed) > 5 else ''})",
            "Train again: the classes that are scored are the new ones, and model and read-outs learned the old ones.",
        )
    ]
