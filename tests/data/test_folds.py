import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtinet.cohort import Cohort, Study
from mtinet.data.folds import (
    Split,
    SplitError,
    fewer_patients,
    read_split,
    split_by_site,
    split_cohort,
)


def cohort_of(rows):
    """Studies from (patient, label) pairs."""
    studies = tuple(
        Study(f"s{i:03d}", {"pre": Path(f"{i}.nii.gz")}, patient_id=patient, label=label)
        for i, (patient, label) in enumerate(rows)
    )
    return Cohort("c", studies, ("hcc", "fnh"))


LABELS = st.sampled_from(["hcc", "fnh", "none", ""])


@given(
    st.lists(st.tuples(st.integers(0, 14), LABELS), min_size=6, max_size=60),
    st.integers(2, 5),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_folds_cover_everybody_once_and_never_divide_a_patient(rows, folds, seed):
    cohort = cohort_of([(f"p{number}", label) for number, label in rows])
    if len({patient for patient, _ in rows}) < folds:
        with pytest.raises(SplitError, match="patients, too few"):
            split_cohort(cohort, 0, folds, seed)
        return
    splits = [split_cohort(cohort, fold, folds, seed) for fold in range(folds)]
    tested = [study_id for split in splits for study_id in split.test]
    assert sorted(tested) == [study.study_id for study in cohort.studies]
    for split in splits:
        split.check(cohort)
        assert sorted((*split.train, *split.test)) == sorted(tested)


def test_classes_are_spread_evenly():
    cohort = cohort_of([(f"p{i}", ("hcc", "fnh", "none", "hcc")[i % 4]) for i in range(60)])
    for fold in range(5):
        labels = [cohort[i].label for i in split_cohort(cohort, fold).test]
        assert labels.count("hcc") == 6
        assert labels.count("fnh") == labels.count("none") == 3


def test_classes_that_only_the_lesions_have_are_spread_evenly_too():
    cohort = cohort_of([(f"p{i}", ("hcc", "fnh", "none")[i % 3]) for i in range(60)])
    told = [(s.study_id, "1", s.label) for s in cohort.studies if s.label != "none"]
    unlabelled = replace(
        cohort,
        studies=tuple(replace(s, label="" if s.label != "none" else "none") for s in cohort.studies),
        lesions=pd.DataFrame(told, columns=["study_id", "lesion", "label"]),
    )
    for fold in range(5):
        assert split_cohort(unlabelled, fold).test == split_cohort(cohort, fold).test
    split = split_cohort(cohort, None)
    assert fewer_patients(split, unlabelled, 12, 0).train == fewer_patients(split, cohort, 12, 0).train


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    cohort = cohort_of([(f"p{i}", ("hcc", "fnh")[i % 2]) for i in range(40)])
    mixed = replace(cohort, studies=cohort.studies[::-1])
    assert split_cohort(mixed, 1) == split_cohort(cohort, 1)
    assert split_cohort(cohort, 1, seed=1) != split_cohort(cohort, 1)


def test_all_trains_on_everybody():
    cohort = cohort_of([("p1", "hcc")])
    assert split_cohort(cohort, None).train == ("s000",)
    assert split_cohort(cohort, None).test == ()


def test_json_round_trip():
    split = split_cohort(cohort_of([(f"p{i}", "hcc") for i in range(10)]), 2)
    assert Split.from_dict(json.loads(json.dumps(split.to_dict()))) == split


def test_a_patient_on_both_sides_and_another_cohort_are_refused():
    cohort = cohort_of([("p1", "hcc"), ("p1", "hcc"), ("p2", "fnh")])
    with pytest.raises(SplitError, match="both sides of the split: p1"):
        Split(("s000", "s002"), ("s001",), 0, 2, cohort.hash).check(cohort)
    with pytest.raises(SplitError, match="lacks: s009"):
        Split(("s009",), ("s001",), 0, 2, cohort.hash).check(cohort)
    relabelled = replace(cohort, studies=(replace(cohort.studies[0], label="fnh"), *cohort.studies[1:]))
    with pytest.raises(SplitError, match="another state of cohort"):
        Split(("s000",), ("s002",), 0, 2, cohort.hash).check(relabelled)


def test_a_fold_that_does_not_exist():
    with pytest.raises(SplitError, match="no fold 5; valid: 0 to 4"):
        split_cohort(cohort_of([(f"p{i}", "hcc") for i in range(10)]), 5)


def test_a_fixed_division_is_read_and_a_wrong_one_refused(tmp_path):
    cohort = cohort_of([("p1", "hcc"), ("p2", "hcc"), ("p3", "fnh")])
    path = tmp_path / "split.json"
    split = Split(("s000", "s001"), ("s002",), None, 1, cohort.hash)
    path.write_text(json.dumps(split.to_dict()))
    assert read_split(path, cohort) == split
    path.write_text(json.dumps({"train": ["s000", "s001"], "test": ["s002"]}))
    assert read_split(path, cohort) == split
    for wrong, told in (
        (split.to_dict() | {"test": ["s001"]}, "s001 on both sides; keep"),
        (split.to_dict() | {"train": ["s000", "s001", "s000"]}, "names s000 more than once; keep"),
        (split.to_dict() | {"train": []}, "nobody to train on; list"),
        (split.to_dict() | {"test": ["s002", "s009"]}, r"split\.json: .*lacks: s009; correct"),
        (split.to_dict() | {"cohort_hash": "x"}, "another state.*remove its cohort_hash"),
        ({"train": ["s000"]}, "not a division.*write"),
        ({"train": "s000", "test": []}, "not a division.*lists"),
        ({"train": [0], "test": [1]}, "not a division.*in quotes"),
        ([], "not a division"),
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(SplitError, match=told):
            read_split(path, cohort)
    with pytest.raises(SplitError, match="cannot be read"):
        read_split(tmp_path / "none.json", cohort)


@given(
    st.lists(st.tuples(st.integers(0, 30), LABELS), min_size=8, max_size=80),
    st.integers(0, 9),
    st.integers(1, 40),
)
@settings(max_examples=60, deadline=None)
def test_smaller_training_sets_are_nested_and_never_divide_a_patient(rows, seed, most):
    cohort = cohort_of([(f"p{number}", label) for number, label in rows])
    split = split_cohort(cohort, None)
    patient = {study.study_id: study.patient_id for study in cohort.studies}
    before: set[str] = set()
    for count in range(1, most + 1):
        smaller = fewer_patients(split, cohort, count, seed)
        chosen = {patient[i] for i in smaller.train}
        assert len(chosen) == min(count, len(set(patient.values())))
        assert before <= chosen
        assert smaller.train == tuple(i for i in split.train if patient[i] in chosen)
        before = chosen


def test_smaller_training_sets_keep_the_shares_of_the_labels_and_the_other_side():
    cohort = cohort_of([(f"p{i}", ("hcc", "fnh", "none", "hcc")[i % 4]) for i in range(100)])
    split = split_cohort(cohort, 0)
    for seed in range(5):
        labels = [cohort[i].label for i in fewer_patients(split, cohort, 20, seed).train]
        assert abs(labels.count("hcc") - 10) <= 1
        assert abs(labels.count("fnh") - 5) <= 1
    assert fewer_patients(split, cohort, 20, 0).test == split.test
    assert fewer_patients(split, cohort, 20, 0) != fewer_patients(split, cohort, 20, 1)
    assert fewer_patients(split, cohort, 500, 0) == split


def test_a_site_is_held_out_with_everybody_who_was_ever_there():
    cohort = cohort_of([("a", "hcc"), ("b", "fnh"), ("c", "hcc"), ("b", "fnh"), ("d", "hcc")])
    places = ("NA", "01", "NA", "NA", "01")
    sited = tuple(replace(study, site=site) for study, site in zip(cohort.studies, places))
    cohort = replace(cohort, studies=sited)
    split = split_by_site(cohort, "01")
    assert split.test == ("s001", "s004")
    # the third study of patient b was made elsewhere, and trains nothing all the same
    assert split.train == ("s000", "s002")
    split.check(cohort)
    with pytest.raises(SplitError, match="no site '1'; it has '01', 'NA'"):
        split_by_site(cohort, "1")
    with pytest.raises(SplitError, match="nobody to train on"):
        split_by_site(cohort.subset(["s001", "s004"]), "01")
