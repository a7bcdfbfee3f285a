import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from mtinet.cohort import Study
from mtinet.config import resolve_simulation
from mtinet.volume import read_nifti
from mtinet.workflows import simulate as workflow
from mtinet.workflows.check import check
from mtinet.workflows.simulate import SimulationError, simulate

SETTINGS = resolve_simulation("tiny", None, ["subjects=4"])


@pytest.fixture
def counted(monkeypatch):
    """The patients that were really simulated, by number."""
    from mtinet.phantom import patient

    simulated = []
    original = patient.simulate_patient

    def counting(settings, index):
        simulated.append(index)
        return original(settings, index)

    monkeypatch.setattr(patient, "simulate_patient", counting)
    return simulated


def test_a_cohort_is_written_that_holds_what_was_simulated(tmp_path):
    from mtinet.phantom.patient import simulate_patient

    cohort = simulate(tmp_path / "out", SETTINGS, workers=0)
    assert len(cohort) == 4
    assert cohort.agent == SETTINGS.agent
    assert cohort.classes == SETTINGS.classes
    lesions = 0
    for index, study in enumerate(cohort.studies):
        patient = simulate_patient(SETTINGS, index)
        assert (study.study_id, study.label, study.site) == (
            patient.study_id,
            patient.label,
            patient.site.name,
        )
        assert set(study.images) == set(patient.images)
        assert study.times_s == pytest.approx(patient.times_s)
        assert study.acquisition["field_T"] == patient.site.field_T
        for phase, volume in patient.images.items():
            stored = read_nifti(study.images[phase])
            np.testing.assert_array_equal(stored.array, volume.array)
            np.testing.assert_allclose(stored.affine, volume.affine, atol=1e-4)
        np.testing.assert_array_equal(read_nifti(study.mask, labels=True).array, patient.mask.array)
        rows = cohort.lesions[cohort.lesions["study_id"] == study.study_id]
        assert rows["lesion"].astype(int).tolist() == [lesion.number for lesion in patient.lesions]
        for lesion, row in zip(patient.lesions, rows.to_dict("records"), strict=True):
            assert row["label"] == lesion.label
            for phase, value in lesion.enhancement.items():
                assert float(row[f"noise_free_{phase}"]) == pytest.approx(value)
            for name, value in lesion.kinetics.items():
                assert float(row[name]) == pytest.approx(value)
        lesions += len(rows)
    assert lesions > 0
    assert Study.from_folder(tmp_path / "out" / "images" / cohort.studies[0].study_id).liver_mask


def test_a_virtual_cohort_is_in_order(tmp_path):
    simulate(tmp_path / "out", SETTINGS, workers=0)
    serious = [f for f in check(tmp_path / "out", workers=0) if f.severity != "note"]
    assert serious == []


def test_a_broken_off_simulation_goes_on_where_it_stopped(tmp_path, counted, monkeypatch):
    out = tmp_path / "out"
    seen = []
    write = workflow._write

    def failing(folder, settings, patient):
        if len(counted) == 3:
            raise OSError("no space left on device")
        return write(folder, settings, patient)

    monkeypatch.setattr(workflow, "_write", failing)
    with pytest.raises(OSError, match="no space"):
        simulate(out, SETTINGS, workers=0)
    assert not (out / "cohort.csv").exists()
    monkeypatch.setattr(workflow, "_write", write)
    counted.clear()
    resumed = simulate(out, SETTINGS, workers=0, on_progress=lambda *numbers: seen.append(numbers))
    assert counted == [2, 3]
    assert seen[-1] == (4, 4)
    whole = simulate(tmp_path / "whole", SETTINGS, workers=0)
    assert resumed.hash == whole.hash
    assert resumed.lesions.equals(whole.lesions)


def test_a_study_whose_file_is_gone_is_simulated_again(tmp_path, counted):
    cohort = simulate(tmp_path / "out", SETTINGS, workers=0)
    cohort.studies[1].images["pre"].unlink()
    counted.clear()
    simulate(tmp_path / "out", SETTINGS, workers=0)
    assert counted == [1]


def test_a_folder_with_something_else_is_refused(tmp_path):
    simulate(tmp_path / "out", SETTINGS.model_copy(update={"subjects": 1}), workers=0)
    with pytest.raises(SimulationError, match=r"other settings \(subjects 1 -> 4\)"):
        simulate(tmp_path / "out", SETTINGS, workers=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(SimulationError, match="not empty"):
        simulate(tmp_path / "full", SETTINGS, workers=0)
    with pytest.raises(SimulationError, match="is a file"):
        simulate(tmp_path / "full" / "thesis.txt", SETTINGS, workers=0)


def test_lesions_in_every_phase_and_what_was_drawn_lie_beside_the_images(tmp_path):
    from mtinet.phantom.patient import simulate_patient

    cohort = simulate(tmp_path / "out", SETTINGS, workers=0)
    patients = pd.read_csv(tmp_path / "out" / "patients.csv").set_index("study_id")
    assert list(patients.index) == [study.study_id for study in cohort.studies]
    for index, study in enumerate(cohort.studies):
        patient = simulate_patient(SETTINGS, index)
        assert study.agent == SETTINGS.agent
        assert study.mask_2 is None
        for phase, path in study.images.items():
            mask = read_nifti(path.with_name(f"mask_{phase}.nii.gz"), labels=True)
            np.testing.assert_array_equal(mask.array, patient.masks[phase].array)
        for name, value in patient.parameters.items():
            assert patients.loc[study.study_id, name] == pytest.approx(value)
        for phase, moved in patient.displacement_mm.items():
            columns = [f"moved_{phase}_{axis}_mm" for axis in "xyz"]
            assert patients.loc[study.study_id, columns].tolist() == pytest.approx(moved)
    assert not (tmp_path / "out" / "truth").exists()


def test_the_second_readers_masks_and_the_truth_are_written_on_request(tmp_path):
    from mtinet.phantom.patient import simulate_patient

    settings = SETTINGS.model_copy(update={"subjects": 2, "readers": 2, "truth": True})
    cohort = simulate(tmp_path / "out", settings, workers=0)
    for index, study in enumerate(cohort.studies):
        patient = simulate_patient(settings, index)
        np.testing.assert_array_equal(read_nifti(study.mask_2, labels=True).array, patient.mask_2.array)
        folder = tmp_path / "out" / "truth" / study.study_id
        written = json.loads((folder / "truth.json").read_text())
        assert {int(n): name for n, name in written["legend"].items()} == patient.truth.legend
        assert [part["t1_s"] for part in written["tissues"]] == [t.t1_s for t in patient.truth.tissues]
        tissue = read_nifti(folder / "tissue.nii.gz", labels=True)
        np.testing.assert_array_equal(tissue.array, patient.truth.tissue.array)
        np.testing.assert_allclose(tissue.affine, patient.mask.affine, atol=1e-4)
        for phase in study.images:
            clean = read_nifti(folder / f"noise_free_{phase}.nii.gz")
            np.testing.assert_array_equal(clean.array, patient.truth.noise_free[phase].array)
            field = nib.load(folder / f"displacement_{phase}.nii.gz")
            assert field.shape == (*patient.mask.shape, 3)
            assert field.header.get_xyzt_units()[0] == "mm"
            np.testing.assert_array_equal(field.get_fdata(), patient.truth.displacement_mm[phase])
    # the images do not depend on what is written beside them
    plain = simulate(
        tmp_path / "plain", settings.model_copy(update={"readers": 1, "truth": False}), workers=0
    )
    for a, b in zip(cohort.studies, plain.studies, strict=True):
        for phase in a.images:
            np.testing.assert_array_equal(
                read_nifti(a.images[phase]).array, read_nifti(b.images[phase]).array
            )


def test_a_lost_file_beside_the_images_is_simulated_again(tmp_path, counted):
    settings = SETTINGS.model_copy(update={"subjects": 2, "truth": True})
    simulate(tmp_path / "out", settings, workers=0)
    (tmp_path / "out" / "truth" / "v0001" / "truth.json").unlink()
    counted.clear()
    simulate(tmp_path / "out", settings, workers=0)
    assert counted == [1]


def test_phases_follow_the_agent(tmp_path):
    settings = SETTINGS.model_copy(update={"subjects": 1, "agent": "gadoxetate"})
    cohort = simulate(tmp_path / "out", settings, workers=0)
    assert cohort.agent == "gadoxetate"
    assert cohort.phases == ("pre", "arterial", "portal_venous", "transitional", "hepatobiliary")
    assert cohort.studies[0].acquisition["dose_mmol_kg"] == 0.025
    chosen = settings.model_copy(update={"phases": ("pre", "portal_venous")})
    assert simulate(tmp_path / "few", chosen, workers=0).phases == ("pre", "portal_venous")


def test_patients_of_another_version_are_refused(tmp_path):
    out = tmp_path / "out"
    simulate(out, SETTINGS.model_copy(update={"subjects": 1}), workers=0)
    described = out / "settings.yaml"
    values = yaml.safe_load(described.read_text())
    del values["phantom"]
    described.write_text(yaml.safe_dump({**values, "a setting of old": 3}))
    with pytest.raises(
        SimulationError, match=r"of version 1, and this mtinet draws version 3.*another folder"
    ):
        simulate(out, SETTINGS, workers=0)
    described.write_text("a: [")
    with pytest.raises(SimulationError, match="not YAML"):
        simulate(out, SETTINGS, workers=0)


def test_what_cannot_be_simulated_leaves_no_trace(tmp_path):
    from mtinet.phantom.lesions import LesionClassError

    with pytest.raises(LesionClassError, match="hemangioma"):
        simulate(tmp_path / "out", SETTINGS.model_copy(update={"classes": ("wart",)}), workers=0)
    assert not (tmp_path / "out").exists()


def test_settings_may_be_mended_as_long_as_no_study_is_done(tmp_path, monkeypatch):
    from mtinet.errors import UserError

    out = tmp_path / "out"
    timeless = SETTINGS.sites[0].model_copy(update={"times_s": {"arterial": 20.0}})
    with pytest.raises(UserError, match="times_s"):
        simulate(out, SETTINGS.model_copy(update={"sites": (timeless,)}), workers=0)
    assert len(simulate(out, SETTINGS.model_copy(update={"subjects": 1}), workers=0)) == 1


@pytest.mark.slow
def test_processes_simulate_the_same_voxels(tmp_path):
    here = simulate(tmp_path / "a", SETTINGS, workers=0)
    there = simulate(tmp_path / "b", SETTINGS, workers=2)
    assert here.hash == there.hash
    for a, b in zip(here.studies, there.studies, strict=True):
        for column, path in a.paths().items():
            np.testing.assert_array_equal(read_nifti(path).array, read_nifti(b.paths()[column]).array)
