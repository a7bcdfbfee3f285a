"""Whole virtual patients: reproducible, consistent, and true to their own truth."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mtinet.config import SIMULATIONS, SimulationSettings
from mtinet.phantom.acquisition import AcquisitionError
from mtinet.phantom.lesions import LesionClassError
from mtinet.phantom.patient import VirtualPatient, assign, simulate_patient

TINY = SIMULATIONS["tiny"]()


@pytest.fixture(scope="module")
def cohort() -> list[VirtualPatient]:
    return [simulate_patient(TINY, index) for index in range(24)]


def _same(a: VirtualPatient, b: VirtualPatient) -> bool:
    return (
        list(a.images) == list(b.images)
        and all(np.array_equal(a.images[p].array, b.images[p].array) for p in a.images)
        and all(np.array_equal(a.images[p].affine, b.images[p].affine) for p in a.images)
        and np.array_equal(a.mask.array, b.mask.array)
        and np.array_equal(a.liver.array, b.liver.array)
        and (a.times_s, a.displacement_mm, a.lesions) == (b.times_s, b.displacement_mm, b.lesions)
    )


def test_a_patient_depends_on_seed_and_number_alone(cohort: list[VirtualPatient]) -> None:
    for index in (17, 3, 9):
        assert _same(simulate_patient(TINY, index), cohort[index])
    longer = TINY.model_copy(update={"subjects": 500})
    assert _same(simulate_patient(longer, 3), cohort[3])
    other = TINY.model_copy(update={"seed": 1})
    assert not _same(simulate_patient(other, 3), cohort[3])


def test_images_masks_and_truth_share_grid_and_phases(cohort: list[VirtualPatient]) -> None:
    for patient in cohort:
        for image in (*patient.images.values(), patient.liver):
            assert image.shape == patient.site.matrix == patient.mask.shape
            np.testing.assert_array_equal(image.affine, patient.mask.affine)
        assert all(image.array.dtype == np.int16 for image in patient.images.values())
        assert set(patient.times_s) == set(patient.images) - {"pre"}
        for lesion in patient.lesions:
            assert set(lesion.enhancement) == set(patient.images)


def test_masks_hold_every_lesion_once_inside_the_liver(cohort: list[VirtualPatient]) -> None:
    for patient in cohort:
        numbers = np.unique(patient.mask.array)
        assert numbers.tolist() == list(range(len(patient.lesions) + 1))
        assert np.all(patient.liver.array[patient.mask.array > 0] == 1)
        assert (patient.label == "none") == (not patient.lesions)
        assert all(lesion.label == patient.label for lesion in patient.lesions)


def test_lesions_have_the_sizes_asked_for(cohort: list[VirtualPatient]) -> None:
    low, high = TINY.diameter_mm
    for patient in cohort:
        for lesion in patient.lesions:
            assert 0.8 * low <= lesion.diameter_mm <= 1.08 * high
            volume = np.count_nonzero(patient.mask.array == lesion.number) * patient.mask.voxel_mm3
            if lesion.diameter_mm > 30.0:
                assert volume == pytest.approx(np.pi / 6.0 * lesion.diameter_mm**3, rel=0.25)


def test_truth_is_the_image_mean_when_nothing_disturbs_it() -> None:
    sites = tuple(site.model_copy(update={"noise": 1e-3}) for site in TINY.sites)
    still = TINY.model_copy(update={"sites": sites, "breathing_mm": 0.0, "missing_phase_rate": 0.0})
    for index in range(6):
        patient = simulate_patient(still, index)
        for lesion in patient.lesions:
            for phase, value in lesion.enhancement.items():
                under = patient.images[phase].array[patient.mask.array == lesion.number]
                assert under.mean() == pytest.approx(value, rel=0.01), (index, phase)


def test_typical_patients_show_washout_against_persistence() -> None:
    # of moderate size: large hemangiomas are still filling in three minutes after the injection
    changes = {"atypical_fraction": 0.0, "missing_phase_rate": 0.0, "breathing_mm": 0.0}
    book = TINY.model_copy(update={**changes, "median_diameter_mm": 24.0})
    late: dict[str, list[float]] = {"hemangioma": [], "hcc": []}
    for index in range(30):
        patient = simulate_patient(book, index)
        delayed, mask = patient.images["delayed"].array, patient.mask.array
        liver = np.median(delayed[(patient.liver.array > 0) & (mask == 0)])
        if patient.lesions:
            late[patient.label].append(float(delayed[mask == 1].mean() / liver))
    assert np.median(late["hcc"]) < 0.97
    assert np.median(late["hemangioma"]) > 1.03


def test_gain_scales_images_and_truth_together() -> None:
    loud = TINY.model_copy(
        update={"sites": tuple(s.model_copy(update={"gain": 3.0 * s.gain}) for s in TINY.sites)}
    )
    for index in (0, 1):
        a, b = simulate_patient(TINY, index), simulate_patient(loud, index)
        assert [x.enhancement for x in b.lesions] == [
            pytest.approx({phase: 3.0 * value for phase, value in x.enhancement.items()}, rel=1e-4)
            for x in a.lesions
        ]


def test_missing_phases_are_absent_at_their_rate() -> None:
    often = TINY.model_copy(update={"missing_phase_rate": 0.5})
    patients = [simulate_patient(often, index) for index in range(30)]
    lacking = sum(len(patient.images) < len(often.phases) for patient in patients)
    assert 8 <= lacking <= 22
    for patient in patients:
        assert {"pre", "portal_venous"} <= set(patient.images)


@pytest.mark.parametrize("seed", [0, 5])
def test_classes_and_sites_are_spread_evenly(seed: int) -> None:
    settings = SimulationSettings(seed=seed)
    drawn = [assign(settings, index) for index in range(72)]
    labels = Counter(label for label, _ in drawn)
    assert labels["none"] == round(0.16 * 72)
    assert abs(labels["hcc"] - labels["hemangioma"]) <= 3
    for label in ("hcc", "hemangioma"):
        sites = Counter(site.name for found, site in drawn if found == label)
        assert max(sites.values()) - min(sites.values()) <= 2
    assert {site.name for label, site in drawn if label == "none"} == {"A", "B", "C"}


def test_fractions_at_their_ends() -> None:
    everybody = SimulationSettings(no_lesion_fraction=1.0)
    nobody = SimulationSettings(no_lesion_fraction=0.0)
    assert {assign(everybody, index)[0] for index in range(10)} == {"none"}
    assert "none" not in {assign(nobody, index)[0] for index in range(40)}


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(LesionClassError, match="valid: hemangioma, hcc"):
        simulate_patient(TINY.model_copy(update={"classes": ("hcc", "cyst")}), 0)
    with pytest.raises(AcquisitionError, match="valid: gadobutrol"):
        simulate_patient(TINY.model_copy(update={"agent": "gadoxetate"}), 0)


@pytest.mark.slow
def test_default_patients_show_their_lesions() -> None:
    settings = SimulationSettings(missing_phase_rate=0.0, breathing_mm=0.0)
    contrast = []
    for index in range(8):
        patient = simulate_patient(settings, index)
        liver = (patient.liver.array > 0) & (patient.mask.array == 0)
        background = {phase: np.median(image.array[liver]) for phase, image in patient.images.items()}
        for lesion in patient.lesions:
            differences = [value - background[phase] for phase, value in lesion.enhancement.items()]
            contrast.append(np.abs(differences).max() / (patient.site.noise * patient.site.gain))
    assert np.mean(np.array(contrast) > 4.0) >= 0.9
