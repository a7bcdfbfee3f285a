import hashlib
import re

import numpy as np
import pandas as pd
import pydicom
import pytest

from mtinet.config import SITES, resolve_simulation
from mtinet.dicom.masks import read_masks
from mtinet.dicom.study import read_studies
from mtinet.volume import read_nifti
from mtinet.workflows import simulate_dicom
from mtinet.workflows.simulate import simulate

SETTINGS = resolve_simulation("tiny", None, ["subjects=4"], sites=["C", "E"], spacing_mm=[7.0, 7.0, 12.0])


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "out"
    return out, simulate(out, SETTINGS, workers=0, dicom=True)


def test_habits_follow_the_sites_and_every_other_philips_study_is_enhanced():
    habits = [simulate_dicom.habit_of(SETTINGS, index) for index in range(8)]
    philips = [habit for habit in habits if habit in ("philips", "enhanced")]
    assert philips == (["philips", "enhanced"] * 4)[: len(philips)]
    assert habits.count("ge") == 4


def test_series_that_would_be_set_aside_are_told_with_slices_that_are_not():
    assert simulate_dicom.few_images(SETTINGS.model_copy(update={"sites": (SITES["C"], SITES["E"])})) == []
    tiny = resolve_simulation("tiny")
    found = simulate_dicom.few_images(tiny)
    assert [finding.case for finding in found] == [f"site {site.name}" for site in tiny.sites]
    for site, finding in zip(tiny.sites, found):
        told = [float(step) for step in re.search(r"--spacing ([\d.,]+)", finding.action)[1].split(",")]
        thinner = resolve_simulation("tiny", sites=[site.name], spacing_mm=told)
        assert simulate_dicom.few_images(thinner) == []


def test_the_studies_as_dicom_hold_the_cohort(simulated):
    out, cohort = simulated
    labels = pd.read_csv(out / "dicom" / "labels.csv", dtype=str, keep_default_na=False)
    assert list(labels.columns) == ["patient_id", "study_uid", "label"]
    studies, findings = read_studies(out / "dicom")
    assert [f for f in findings if f.severity == "error"] == []
    by_patient = {study.patient_id: study for study in studies}
    assert set(labels["study_uid"]) == {study.study_uid for study in studies}
    for study in cohort.studies:
        dicom = by_patient[study.patient_id]
        row = labels[labels["study_uid"] == dicom.study_uid].iloc[0]
        assert (row["patient_id"], row["label"]) == (study.patient_id, study.label)
        assert dicom.dose_mmol_kg == pytest.approx(study.acquisition["dose_mmol_kg"], rel=1e-3)
        volumes = [v.info.load() for s in dicom.series for v in s.volumes if not v.refused]
        for path in study.images.values():
            image = read_nifti(path)
            # within the quantisation: the phases' values differ by far more
            matching = [
                v
                for v in (volume.like_axes_of(image.affine) for volume in volumes)
                if v.corner_distance_mm(image) < 0.01 and np.abs(v.array - image.array).max() < 0.6
            ]
            assert len(matching) == 1, path
        mask = read_nifti(study.mask, labels=True)
        assert bool(dicom.masks) == bool(mask.array.any())
        for mask_file in dicom.masks:
            found = read_masks(mask_file.path, dicom.series).labels.like_axes_of(mask.affine)
            np.testing.assert_array_equal(found.array, mask.array)


def test_a_broken_off_study_is_written_again_and_gives_the_same_bytes(simulated, tmp_path, monkeypatch):
    whole, _ = simulated
    from mtinet.dicom import segment

    def failing(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(segment, "write_lesions", failing)
        with pytest.raises(OSError, match="no space"):
            simulate(tmp_path / "out", SETTINGS, workers=0, dicom=True)
    assert not (tmp_path / "out" / "dicom" / "labels.csv").exists()
    # a killed process leaves its temporary folder behind: it must not be imported as a second study
    record = next((tmp_path / "out" / "dicom").glob("p*"), tmp_path / "out" / "dicom" / "p0000")
    stale = record / f".tmp-0badc0de-{record.name.replace('p', 'v')}"
    stale.mkdir(parents=True)
    (stale / "i0001.dcm").write_bytes(b"half")
    simulate(tmp_path / "out", SETTINGS, workers=0, dicom=True)
    assert hashes(tmp_path / "out" / "dicom") == hashes(whole / "dicom")


def test_dicom_can_be_added_to_a_cohort_that_is_there(simulated, tmp_path):
    whole, cohort = simulated
    settings = SETTINGS.model_copy(update={"subjects": 1})
    simulate(tmp_path / "out", settings, workers=0)
    assert not (tmp_path / "out" / "dicom").exists()
    simulate(tmp_path / "out", settings, workers=0, dicom=True)
    first = f"dicom/{cohort.studies[0].patient_id}"
    assert hashes(tmp_path / "out" / first) == hashes(whole / first)


@pytest.mark.slow
def test_processes_write_the_same_bytes(simulated, tmp_path):
    whole, _ = simulated
    simulate(tmp_path / "out", SETTINGS, workers=2, dicom=True)
    assert hashes(tmp_path / "out" / "dicom") == hashes(whole / "dicom")


def test_every_instance_has_a_uid_of_its_own(simulated):
    out, _ = simulated
    paths = list((out / "dicom").rglob("*.dcm"))
    assert len({pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in paths}) == len(
        paths
    )
