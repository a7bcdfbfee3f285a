import numpy as np
import pytest

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


@pytest.mark.slow
def test_processes_simulate_the_same_voxels(tmp_path):
    here = simulate(tmp_path / "a", SETTINGS, workers=0)
    there = simulate(tmp_path / "b", SETTINGS, workers=2)
    assert here.hash == there.hash
    for a, b in zip(here.studies, there.studies, strict=True):
        for column, path in a.paths().items():
            np.testing.assert_array_equal(read_nifti(path).array, read_nifti(b.paths()[column]).array)
