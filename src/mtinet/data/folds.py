"""Which studies train and which are held out: whole patients, classes mixed evenly."""

from __future__ import annotations

import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtinet.cohort import Cohort, Study
from mtinet.errors import UserError

STREAM_PATIENTS = 605


class SplitError(UserError):
    """A split cannot be made or does not fit the cohort; the message says why and what to do."""


@dataclass(frozen=True)
class Split:
    """Study ids on the two sides, in the order of the ids.

    Attributes
    ----------
    train, test : tuple of str
    fold : int or None
        Which of the folds is held out; None = everybody trains.
    folds : int
    cohort_hash : str
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    fold: int | None
    folds: int
    cohort_hash: str

    def to_dict(self) -> dict[str, Any]:
        """The content of ``split.json``."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Split:
        """A split from :meth:`to_dict`'s values."""
        return cls(
            tuple(values["train"]),
            tuple(values["test"]),
            values["fold"],
            int(values["folds"]),
            str(values["cohort_hash"]),
        )

    def check(self, cohort: Cohort) -> None:
        """Refuse a split of another cohort, and one that has a patient on both sides.

        Raises
        ------
        SplitError
        """
        if self.cohort_hash != cohort.hash:
            raise SplitError(
                f"the split was made for another state of cohort {cohort.name} (hash {self.cohort_hash}, now "
                f"{cohort.hash}); train again, or restore the tables"
            )
        refuse_shared_patients(cohort, self.train, self.test)


def split_cohort(cohort: Cohort, fold: int | None = 0, folds: int = 5, seed: int = 0) -> Split:
    """Hold out one of several folds.

    Patients are never divided, and the labels (with ``none`` and unknown as labels of their own) are spread
    evenly over the folds; a study without label counts by its lesions' classes.  Where no label has as many
    studies as there are folds, patients are dealt out without regard to it.  The order of the rows does not
    matter.

    Parameters
    ----------
    cohort : Cohort
    fold : int or None
        0 to ``folds`` - 1; None trains on everybody.
    folds : int
    seed : int
        Another seed, another division.

    Raises
    ------
    SplitError
        Fewer patients than folds, or no such fold.
    """
    studies = sorted(cohort.studies, key=lambda study: study.study_id)
    ids = [study.study_id for study in studies]
    if fold is None:
        return Split(tuple(ids), (), None, folds, cohort.hash)
    if not 0 <= fold < folds:
        raise SplitError(f"there is no fold {fold}; valid: 0 to {folds - 1}")
    patients = [study.patient_id for study in studies]
    if len(set(patients)) < folds:
        raise SplitError(
            f"cohort {cohort.name} has {len(set(patients))} patients, too few for {folds} folds; "
            "add patients or train on everybody (--all)"
        )
    # scikit-learn takes a second to be there: who trains on everybody does not wait for it
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    labels = [_label(cohort, study) for study in studies]
    stratify = max(labels.count(label) for label in set(labels)) >= folds
    divider = (StratifiedGroupKFold if stratify else GroupKFold)(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # a class with fewer members than folds is absent from some of them: nothing can be done about it
        warnings.simplefilter("ignore", UserWarning)
        train, test = list(divider.split(ids, labels, patients))[fold]
    split = Split(tuple(ids[i] for i in train), tuple(ids[i] for i in test), fold, folds, cohort.hash)
    refuse_shared_patients(cohort, split.train, split.test)
    return split


def split_by_site(cohort: Cohort, site: str, folds: int = 5) -> Split:
    """Hold out one site and train on the others.

    A patient who was scanned at several sites, one of them the held-out one, trains nothing: his other studies
    are left out.

    Parameters
    ----------
    cohort : Cohort
    site : str
    folds : int
        As the split says it; no fold is held out.

    Raises
    ------
    SplitError
        The cohort has no such site, or no other.
    """
    sites = sorted({study.site for study in cohort.studies})
    if site not in sites:
        raise SplitError(f"cohort {cohort.name} has no site {site!r}; it has {', '.join(map(repr, sites))}")
    studies = sorted(cohort.studies, key=lambda study: study.study_id)
    held_out = {study.patient_id for study in studies if study.site == site}
    test = tuple(study.study_id for study in studies if study.site == site)
    train = tuple(study.study_id for study in studies if study.patient_id not in held_out)
    if not train:
        raise SplitError(
            f"cohort {cohort.name} has nobody to train on without site {site!r}: use a cohort of several sites"
        )
    return Split(train, test, None, folds, cohort.hash)


def fewer_patients(split: Split, cohort: Cohort, patients: int, seed: int) -> Split:
    """The split with so many of its training patients; all of them, where there are no more.

    Subsets are nested: the patients of a smaller number are among those of a larger one with the same seed.
    Labels keep their shares as far as whole patients allow.  The other side stays as it is.

    Parameters
    ----------
    split : Split
    cohort : Cohort
    patients : int
    seed : int
        Of the order in which patients join.
    """
    of_study = {study.study_id: study for study in cohort.studies}
    by_patient = defaultdict(list)
    for study_id in sorted(split.train):
        study = of_study[study_id]
        by_patient[study.patient_id].append(_label(cohort, study))
    order = np.random.default_rng([seed, STREAM_PATIENTS]).permutation(sorted(by_patient)).tolist()
    # each label's patients are spread evenly over the order, from its own random offset
    labels = {patient: Counter(sorted(by_patient[patient])).most_common(1)[0][0] for patient in order}
    total, seen = Counter(labels.values()), Counter[str]()
    offset = {
        label: float(np.random.default_rng([seed, STREAM_PATIENTS, number]).random())
        for number, label in enumerate(sorted(total))
    }
    place = {}
    for patient in order:
        label = labels[patient]
        place[patient] = (seen[label] + offset[label]) / total[label]
        seen[label] += 1
    chosen = set(sorted(order, key=lambda patient: place[patient])[:patients])
    train = tuple(study_id for study_id in split.train if of_study[study_id].patient_id in chosen)
    return replace(split, train=train)


def _label(cohort: Cohort, study: Study) -> str:
    """A study's label; where it has none, the class of most of its lesions, whose sizes no table tells."""
    if study.label:
        return study.label
    counts = Counter(sorted(label for label in cohort.lesion_labels(study).values() if label))
    return counts.most_common(1)[0][0] if counts else ""


def read_split(path: Path, cohort: Cohort) -> Split:
    """A fixed division from a file, for example the official one of a public data set.

    It has ``train`` and ``test``, lists of study ids; ``fold``, ``folds`` and ``cohort_hash``, which programs
    write beside them, may be left out.

    Raises
    ------
    SplitError
        The file is not a division, is that of another cohort, or divides a patient.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        sides = {side: values[side] for side in ("train", "test")}
        if not all(isinstance(ids, list) and all(isinstance(i, str) for i in ids) for ids in sides.values()):
            raise TypeError("train and test are lists of study ids in quotes")
        split = Split.from_dict({"fold": None, "folds": 1, "cohort_hash": cohort.hash, **values})
    except OSError as error:
        raise SplitError(f"{path} cannot be read ({error.strerror}); correct the path") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SplitError(
            f"{path} is not a division of a cohort ({type(error).__name__}: {error}); write "
            '{"train": ["id", ...], "test": ["id", ...]}'
        ) from None
    if split.cohort_hash != cohort.hash:
        raise SplitError(
            f"{path} was made for another state of cohort {cohort.name} (hash {split.cohort_hash}, now "
            f"{cohort.hash}); make it again, or remove its cohort_hash if the studies are still the same"
        )
    twice = sorted(i for side in (split.train, split.test) for i, times in Counter(side).items() if times > 1)
    if twice:
        raise SplitError(f"{path} names {', '.join(twice)} more than once; keep each study once")
    both = sorted(set(split.train) & set(split.test))
    if both:
        raise SplitError(f"{path} has {', '.join(both)} on both sides; keep each study on one")
    if not split.train:
        raise SplitError(f"{path} has nobody to train on; list studies in train")
    try:
        refuse_shared_patients(cohort, split.train, split.test)
    except SplitError as error:
        raise SplitError(f"{path}: {error}") from None
    return split


def refuse_shared_patients(cohort: Cohort, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    """Raise :class:`SplitError` where a patient has studies on both sides, or the cohort lacks a study."""
    patient = {study.study_id: study.patient_id for study in cohort.studies}
    unknown = [study_id for study_id in (*train, *test) if study_id not in patient]
    if unknown:
        raise SplitError(
            f"the split names studies that the cohort lacks: {', '.join(unknown)}; correct the ids, or remove them"
        )
    shared = sorted({patient[i] for i in train} & {patient[i] for i in test})
    if shared:
        raise SplitError(
            f"patients on both sides of the split: {', '.join(shared)}; "
            "move all studies of a patient to one side"
        )
