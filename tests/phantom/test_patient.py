"""Whole virtual patients: reproducible, consistent, and true to their own truth."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from mtinet.config import SIMULATIONS, SimulationSettings
from mtinet.phantom.acquisition import AcquisitionError
from mtinet.phantom.lesions import LesionClassError
from mtinet.phantom.patient import VirtualPatient, assign, simulate_patient

TINY = SIMULATIONS["tiny"]()
STILL = TINY.model_copy(update={"breathing_mm": 0.0, "missing_phase_rate": 0.0})


def _with_sites(settings: SimulationSettings, **changes: object) -> SimulationSettings:
    return settings.model_copy(
        update={"sites": tuple(site.model_copy(update=changes) for site in settings.sites)}
    )


@pytest.fixture(scope="module")
def cohort() -> list[VirtualPatient]:
    return [simulate_patient(TINY, index) for index in range(18)]


def _same(a: VirtualPatient, b: VirtualPatient) -> bool:
    return (
        list(a.images) == list(b.images)
        and all(np.array_equal(a.images[p].array, b.images[p].array) for p in a.images)
        and all(np.array_equal(a.images[p].affine, b.images[p].affine) for p in a.images)
        and all(np.array_equal(a.masks[p].array, b.masks[p].array) for p in a.images)
        and np.array_equal(a.mask.array, b.mask.array)
        and np.array_equal(a.liver.array, b.liver.array)
        and (a.times_s, a.displacement_mm, a.lesions) == (b.times_s, b.displacement_mm, b.lesions)
        and a.parameters == b.parameters
    )


# ---------------------------------------------------------------- reproducible
def test_a_patient_depends_on_seed_and_number_alone(cohort: list[VirtualPatient]) -> None:
    for index in (17, 3, 9):
        assert _same(simulate_patient(TINY, index), cohort[index])
    longer = TINY.model_copy(update={"subjects": 500})
    assert _same(simulate_patient(longer, 3), cohort[3])
    other = TINY.model_copy(update={"seed": 1})
    assert not _same(simulate_patient(other, 3), cohort[3])


def test_asking_for_more_changes_nothing_else(cohort: list[VirtualPatient]) -> None:
    more = simulate_patient(TINY.model_copy(update={"truth": True, "readers": 2}), 1)
    assert _same(more, cohort[1])
    assert cohort[1].truth is None
    assert cohort[1].mask_2 is None
    assert more.mask_2 is not None
    assert more.mask_2.array.any()
    assert not np.array_equal(more.mask_2.array, more.mask.array)


def test_one_side_of_a_patient_does_not_shift_another(cohort: list[VirtualPatient]) -> None:
    """Noise, a missing phase and breathing leave body, lesions and the other phases as they are."""
    whole = simulate_patient(TINY.model_copy(update={"missing_phase_rate": 0.0}), 1)
    lacking = simulate_patient(TINY.model_copy(update={"missing_phase_rate": 1.0}), 1)
    assert len(lacking.images) == len(whole.images) - 1
    for phase, image in lacking.images.items():
        np.testing.assert_array_equal(image.array, whole.images[phase].array)
    for changed in (
        _with_sites(TINY, noise=0.2),
        _with_sites(TINY, bias=0.0),
        _with_sites(TINY, timing_jitter_s=9.0),
        TINY.model_copy(update={"agent": "gadoxetate"}),
    ):
        other = simulate_patient(changed, 1)
        np.testing.assert_array_equal(other.mask.array, cohort[1].mask.array)
        np.testing.assert_array_equal(other.liver.array, cohort[1].liver.array)
        assert [x.kinetics for x in other.lesions] == [x.kinetics for x in cohort[1].lesions]


# ---------------------------------------------------------------- consistent
def test_images_masks_and_truth_share_grid_and_phases(cohort: list[VirtualPatient]) -> None:
    for patient in cohort:
        for image in (*patient.images.values(), *patient.masks.values(), patient.liver):
            assert image.shape == patient.site.matrix == patient.mask.shape
            np.testing.assert_array_equal(image.affine, patient.mask.affine)
        assert all(image.array.dtype == np.int16 for image in patient.images.values())
        assert set(patient.times_s) == set(patient.images) - {"pre"}
        assert set(patient.masks) == set(patient.displacement_mm) == set(patient.images)
        np.testing.assert_array_equal(patient.masks["portal_venous"].array, patient.mask.array)
        assert all(set(lesion.enhancement) <= set(patient.images) for lesion in patient.lesions)


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
            assert 0.75 * low <= lesion.diameter_mm <= 1.08 * high
            volume = np.count_nonzero(patient.mask.array == lesion.number) * patient.mask.voxel_mm3
            if lesion.diameter_mm > 30.0:
                assert volume == pytest.approx(np.pi / 6.0 * lesion.diameter_mm**3, rel=0.25)


def test_enhancement_is_the_image_mean_when_there_is_no_noise() -> None:
    quiet = _with_sites(TINY.model_copy(update={"missing_phase_rate": 0.0}), noise=1e-3)
    for index in range(6):
        patient = simulate_patient(quiet, index)
        for lesion in patient.lesions:
            for phase, value in lesion.enhancement.items():
                under = patient.images[phase].array[patient.masks[phase].array == lesion.number]
                assert under.mean() == pytest.approx(value, rel=0.005), (index, phase)


def test_masks_move_as_the_field_says() -> None:
    """The centre of a lesion in a phase is its centre at rest plus the field where it now lies."""
    # slices as thick as a voxel is wide: the centre of a mask of few slices is too coarse a measure
    fine = _with_sites(TINY, spacing_mm=(6.0, 6.0, 6.0), matrix=(56, 44, 20))
    wide = fine.model_copy(update={"breathing_mm": 9.0, "missing_phase_rate": 0.0, "truth": True})
    checked = 0
    for index in range(8):
        patient = simulate_patient(wide, index)
        assert patient.truth is not None
        for phase, mask in patient.masks.items():
            field = patient.truth.displacement_mm[phase]
            for lesion in patient.lesions:
                at_rest = np.argwhere(patient.mask.array == lesion.number)
                now = np.argwhere(mask.array == lesion.number)
                edge = patient.site.matrix[2] - 1
                if (
                    lesion.diameter_mm < 28.0
                    or not len(now)
                    or now[:, 2].min() == 0
                    or now[:, 2].max() == edge
                ):
                    continue
                moved = (now.mean(axis=0) - at_rest.mean(axis=0)) * patient.site.spacing_mm
                here = field[tuple(now.T)].mean(axis=0)
                np.testing.assert_allclose(moved, here, atol=2.5)
                checked += 1
    assert checked > 10


def test_without_breathing_all_masks_are_the_same() -> None:
    patient = simulate_patient(STILL, 1)
    assert set(patient.displacement_mm.values()) == {(0.0, 0.0, 0.0)}
    for phase, mask in patient.masks.items():
        np.testing.assert_array_equal(mask.array, patient.mask.array)
        np.testing.assert_array_equal(patient.livers[phase].array, patient.liver.array)


def test_livers_move_with_their_phases() -> None:
    wide = STILL.model_copy(update={"breathing_mm": 12.0})
    patient = simulate_patient(wide, 1)
    np.testing.assert_array_equal(patient.livers["portal_venous"].array, patient.liver.array)
    for phase, liver in patient.livers.items():
        assert np.all(liver.array[patient.masks[phase].array > 0] == 1)
        moved = np.linalg.norm(patient.displacement_mm[phase]) > 0.0
        assert moved == bool((liver.array != patient.liver.array).any())
    assert any(np.linalg.norm(d) > 0.0 for d in patient.displacement_mm.values())


def test_truth_holds_tissues_fields_and_clean_images() -> None:
    patient = simulate_patient(TINY.model_copy(update={"truth": True, "missing_phase_rate": 0.0}), 1)
    truth = patient.truth
    assert truth is not None
    assert {tissue.name for tissue in truth.tissues} == set(truth.legend.values())
    number = {name: n for n, name in truth.legend.items()}
    names = np.array([truth.legend[n] for n in range(len(truth.legend))])[truth.tissue.array]
    assert names[0, 0, 0] == "air"
    # at its border a lesion of several tissues can fill half a voxel while none of them fills most of it
    inner = ndimage.binary_erosion(patient.mask.array == 1, np.ones((3, 3, 1), dtype=bool))
    assert inner.any()
    assert np.all(np.char.startswith(names[inner].astype(str), patient.label))
    assert np.count_nonzero(truth.tissue.array == number["aorta"]) > 10
    for phase, clean in truth.noise_free.items():
        body = truth.tissue.array != number["air"]
        difference = patient.images[phase].array[body] - clean.array[body]
        sigma = patient.site.noise * patient.parameters["gain"]
        assert np.abs(difference.mean()) < 0.2 * sigma
        assert sigma * 0.95 < difference.std() < 1.3 * sigma
        mean = patient.displacement_mm[phase]
        field = truth.displacement_mm[phase][patient.liver.array > 0]
        np.testing.assert_allclose(field.mean(axis=0), mean, atol=0.7)


# ---------------------------------------------------------------- the patient's story
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
    patients = [simulate_patient(often, index) for index in range(12)]
    lacking = sum(len(patient.images) < 4 for patient in patients)
    assert 2 <= lacking <= 10
    for patient in patients:
        assert {"pre", "portal_venous"} <= set(patient.images)


def test_incidental_cysts_are_lesions_only_where_cyst_is_a_class() -> None:
    changes = {"cyst_fraction": 1.0, "diameter_mm": (6.0, 60.0), "no_lesion_fraction": 0.3}
    background = TINY.model_copy(update=changes)
    counted = background.model_copy(update={"classes": ("hemangioma", "cyst")})
    found = 0
    for index in range(7):
        assert all(
            x.label == "hemangioma" or x.label == "hcc" for x in simulate_patient(background, index).lesions
        )
        patient = simulate_patient(counted, index)
        labels = [lesion.label for lesion in patient.lesions]
        if patient.label == "none":
            assert not labels
            continue
        largest = max(patient.lesions, key=lambda lesion: lesion.diameter_mm)
        assert largest.label == patient.label
        assert set(labels) <= {patient.label, "cyst"}
        found += patient.label != "cyst" and "cyst" in labels
    assert found > 0


def test_background_cysts_change_the_liver_but_no_mask() -> None:
    none = STILL.model_copy(update={"cyst_fraction": 0.0, "no_lesion_fraction": 1.0, "truth": True})
    many = none.model_copy(update={"cyst_fraction": 1.0})
    a, b = simulate_patient(none, 0), simulate_patient(many, 0)
    assert not b.mask.array.any()
    assert b.truth is not None
    assert any("cyst" in name for name in b.truth.legend.values())
    np.testing.assert_array_equal(a.liver.array, b.liver.array)
    assert not np.array_equal(a.images["delayed"].array, b.images["delayed"].array)


def test_sub_forms_follow_their_weights() -> None:
    wanted = STILL.model_copy(
        update={
            "classes": ("hcc",),
            "no_lesion_fraction": 0.0,
            "subtypes": {"hcc": {"hcc_hypovascular": 1.0}},
        }
    )
    for index in range(3):
        assert {x.subtype for x in simulate_patient(wanted, index).lesions} == {"hcc_hypovascular"}


def test_gadoxetate_has_its_own_phases_and_brightens_the_liver_late() -> None:
    patient = simulate_patient(STILL.model_copy(update={"agent": "gadoxetate", "cirrhosis_fraction": 0.0}), 1)
    assert list(patient.images) == ["pre", "arterial", "portal_venous", "transitional", "hepatobiliary"]
    liver = (patient.liver.array > 0) & (patient.mask.array == 0)
    level = {phase: np.median(image.array[liver]) for phase, image in patient.images.items()}
    assert level["hepatobiliary"] > 1.15 * level["portal_venous"] > 1.15 * level["pre"]


@pytest.mark.parametrize("seed", [0, 5])
def test_classes_and_sites_are_spread_evenly(seed: int) -> None:
    settings = SIMULATIONS["demo"]().model_copy(update={"seed": seed})
    drawn = [assign(settings, index) for index in range(72)]
    labels = Counter(label for label, _ in drawn)
    assert labels["none"] == round(0.16 * 72)
    assert abs(labels["hcc"] - labels["hemangioma"]) <= 3
    for label in ("hcc", "hemangioma"):
        sites = Counter(site.name for found, site in drawn if found == label)
        assert max(sites.values()) - min(sites.values()) <= 2
    assert {site.name for label, site in drawn if label == "none"} == {"A", "B", "C"}


def test_six_classes_at_six_sites_meet_equally_often() -> None:
    settings = SIMULATIONS["multicentre"]().model_copy(update={"no_lesion_fraction": 0.0})
    block = len(settings.classes) * len(settings.sites)
    assert block == 36
    met = Counter(
        (label, site.name) for label, site in (assign(settings, index) for index in range(2 * block))
    )
    assert set(met.values()) == {2}


def test_fractions_at_their_ends() -> None:
    everybody = TINY.model_copy(update={"no_lesion_fraction": 1.0})
    nobody = TINY.model_copy(update={"no_lesion_fraction": 0.0})
    assert {assign(everybody, index)[0] for index in range(10)} == {"none"}
    assert "none" not in {assign(nobody, index)[0] for index in range(40)}


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(LesionClassError, match=r"valid: .*hemangioma"):
        simulate_patient(TINY.model_copy(update={"classes": ("hcc", "abscess")}), 0)
    hasty = _with_sites(TINY, times_s={"arterial": 20.0})
    with pytest.raises(AcquisitionError, match="no time for the phase portal_venous, delayed"):
        simulate_patient(hasty, 0)


@pytest.mark.slow
def test_default_patients_show_their_lesions() -> None:
    settings = SIMULATIONS["demo"]().model_copy(update={"missing_phase_rate": 0.0, "breathing_mm": 0.0})
    contrast = []
    for index in range(8):
        patient = simulate_patient(settings, index)
        liver = (patient.liver.array > 0) & (patient.mask.array == 0)
        background = {phase: np.median(image.array[liver]) for phase, image in patient.images.items()}
        for lesion in patient.lesions:
            differences = [value - background[phase] for phase, value in lesion.enhancement.items()]
            contrast.append(np.abs(differences).max() / (patient.site.noise * patient.site.gain))
    assert np.mean(np.array(contrast) > 4.0) >= 0.9
