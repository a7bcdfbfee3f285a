import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from mtinet.config import resolve
from mtinet.errors import UserError
from mtinet.imaging.registration import Registration
from mtinet.volume import Volume
from mtinet.workflows.prepare import (
    cache_entries,
    clear_cache,
    prepare,
    prepare_cohort,
    registration_table,
)

CONFIG = resolve("tiny")


def test_a_study_that_fails_is_found_and_does_not_stop_the_others(toy_cohort, tmp_path):
    broken = toy_cohort["s2"].images["pre"]
    broken.write_bytes(broken.read_bytes()[:500])
    toy_cohort["s3"].mask.unlink()
    seen = []
    studies, findings = prepare(
        toy_cohort, CONFIG, tmp_path / "c", workers=0, on_progress=lambda *numbers: seen.append(numbers)
    )
    assert [study.study_id for study in studies] == ["s0", "s1", "s4", "s5"]
    assert [(f.id, f.case, f.severity) for f in findings] == [
        ("not-prepared", "s2", "error"),
        ("not-prepared", "s3", "error"),
    ]
    assert "pre.nii.gz" in findings[0].meaning
    assert all(finding.action for finding in findings)
    assert seen[-1] == (6, 6)


def test_lesion_labels_come_from_the_cohort(toy_cohort, tmp_path):
    rows = pd.DataFrame([{"study_id": "s0", "lesion": "1", "label": "hemangioma"}])
    labelled = replace(toy_cohort, lesions=rows)
    studies, _ = prepare(labelled, CONFIG, tmp_path / "c", workers=0)
    assert studies[0].lesions[0].label == "hemangioma"
    assert studies[1].lesions[0].label == "hemangioma"
    assert studies[2].lesions[0].label == "hcc"


def test_what_is_prepared_starts_no_process(toy_cohort, tmp_path, monkeypatch):
    first = prepare(toy_cohort.subset(["s0", "s2"]), CONFIG, tmp_path / "c", workers=0).studies
    monkeypatch.setattr("mtinet.workflows.pool.ProcessPoolExecutor", None)
    seen = []
    again = prepare(
        toy_cohort.subset(["s0", "s2"]),
        CONFIG,
        tmp_path / "c",
        workers=2,
        on_progress=lambda *n: seen.append(n),
    )
    assert [(s.key, s.image_hashes) for s in again.studies] == [(s.key, s.image_hashes) for s in first]
    assert seen == [(1, 2), (2, 2)]
    seen.clear()
    more = prepare(
        toy_cohort.subset(["s0", "s1", "s2"]),
        CONFIG,
        tmp_path / "c",
        workers=1,
        on_progress=lambda *n: seen.append(n),
    )
    assert [study.study_id for study in more.studies] == ["s0", "s1", "s2"]
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.slow
def test_processes_prepare_the_same(toy_cohort, tmp_path):
    here = prepare(toy_cohort, CONFIG, tmp_path / "a", workers=0).studies
    there = prepare(toy_cohort, CONFIG, tmp_path / "b", workers=2).studies
    for a, b in zip(here, there, strict=True):
        assert a.key == b.key
        assert a.lesions == b.lesions
        np.testing.assert_array_equal(a.image, b.image)


def test_a_registration_that_is_not_trusted_is_said_and_agreement_only_listed(
    toy_cohort, tmp_path, monkeypatch
):
    one = toy_cohort.subset(["s0"])
    changes = {"preparation": CONFIG.preparation.model_copy(update={"registration": "rigid"})}
    studies, findings = prepare(one, CONFIG.model_copy(update=changes), tmp_path / "c", workers=0)
    assert findings == []
    assert {record["outcome"] for record in studies[0].registrations.values()} == {"agrees"}
    table = registration_table(studies)
    assert list(table["phase"]) == ["pre", "arterial", "delayed"]
    assert (table["applied"] == "none").all()
    refused = Registration("none", "rejected", "it folds")
    monkeypatch.setattr("mtinet.data.alignment.register", lambda *_: refused)
    _, findings = prepare(one, CONFIG.model_copy(update=changes), tmp_path / "d", workers=0)
    assert [f.id for f in findings] == ["registration-rejected"] * 3
    assert all("it folds; used instead: the phase as it lies" in f.meaning for f in findings)


def test_the_cohorts_own_cache_is_listed_and_cleared(toy_cohort):
    studies, _ = prepare_cohort(toy_cohort.folder, CONFIG, workers=0)
    assert studies[0].folder.parent == toy_cohort.folder / ".cache"
    found = cache_entries(toy_cohort.folder)
    assert [entry["study_id"] for entry in found] == [study.study_id for study in studies]
    assert found == cache_entries(toy_cohort.folder / ".cache")
    assert clear_cache(toy_cohort.folder) == 6
    assert cache_entries(toy_cohort.folder) == []
    with pytest.raises(UserError, match="not a folder"):
        cache_entries(toy_cohort.folder / "nowhere")


def test_cohorts_that_cannot_be_written_to_have_a_cache_each(toy_cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "home")
    (tmp_path / "home").mkdir()
    other = tmp_path / "other" / toy_cohort.folder.name
    shutil.copytree(toy_cohort.folder, other)
    (study, *_), _ = prepare_cohort(toy_cohort.folder, CONFIG, workers=0)
    assert study.folder.is_relative_to(tmp_path / "home" / ".cache" / "mtinet")
    assert cache_entries(other) == []
    assert clear_cache(other) == 0
    assert len(cache_entries(toy_cohort.folder)) == 6
    assert clear_cache(toy_cohort.folder) == 6


def test_a_cohort_of_another_program_is_prepared_with_no_step_by_hand(toy_cohort, tmp_path):
    """Other spacing, orientation, oblique axes and number types, unlabelled and unsegmented studies."""
    cohort = toy_cohort
    study = cohort["s0"]
    angle = np.deg2rad(15)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    for name, path in study.paths().items():
        image = nib.load(path)
        array, affine = np.asarray(image.dataobj)[::-1].transpose(2, 0, 1), image.affine.copy()
        flip = np.eye(4)
        flip[0, 0], flip[0, 3] = -1, image.shape[0] - 1
        order = np.eye(4)[:, [2, 0, 1, 3]]
        whole = array.astype(np.int16 if name != "pre" else np.float64)
        Volume(whole, turn @ affine @ flip @ order).write_nifti(path)
    others = [study, replace(cohort["s1"], label="", patient_id="x"), replace(cohort["s2"], mask=None)]
    mixed = replace(cohort, studies=(*others, cohort["s4"], cohort["s5"]))
    studies, findings = prepare(mixed, CONFIG, tmp_path / "c", workers=0)
    assert findings == []
    assert [len(s.lesions) for s in studies] == [1, 1, 0, 0, 1]
    assert [s.has_mask for s in studies] == [True, True, False, True, True]
    straight = prepare(toy_cohort.subset(["s2"]), CONFIG, tmp_path / "c", workers=0).studies[0]
    assert studies[0].image.shape == straight.image.shape
