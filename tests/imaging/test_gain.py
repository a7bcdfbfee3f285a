import numpy as np
import pytest

from mtinet.config import resolve_simulation
from mtinet.imaging.gain import MUSCLE_ENHANCEMENT, PhaseRatio, changed_gains, darker_than_first, phase_ratios
from mtinet.phantom.patient import simulate_patient

PATIENTS = range(8)


@pytest.fixture(scope="module")
def patients():
    settings = resolve_simulation("tiny")
    return [simulate_patient(settings, index).images for index in PATIENTS]


def scaled(images, phase, factor):
    return {**images, phase: images[phase].with_array(images[phase].array * factor)}


@pytest.mark.parametrize("index", PATIENTS)
def test_enhancement_alone_is_not_a_change_of_gain(patients, index):
    ratios = phase_ratios(patients[index])
    assert changed_gains(ratios) == {}
    assert darker_than_first(ratios) == []


@pytest.mark.parametrize("index", PATIENTS)
@pytest.mark.parametrize("factor", [1.5, 1 / 1.6])
def test_one_phase_with_another_gain_is_found_and_only_that(patients, index, factor):
    for phase in patients[index]:
        changed = changed_gains(phase_ratios(scaled(patients[index], phase, factor)))
        assert set(changed) == {phase}
        assert changed[phase] == pytest.approx(factor, rel=0.2)


@pytest.mark.parametrize("index", PATIENTS)
def test_a_phase_exchanged_with_pre_is_found(patients, index):
    images = patients[index]
    for phase in [p for p in images if p != "pre"]:
        swapped = {**images, "pre": images[phase], phase: images["pre"]}
        assert phase in darker_than_first(phase_ratios(swapped))


def test_a_gain_common_to_all_phases_changes_nothing(patients):
    loud = {phase: volume.with_array(volume.array * 40.0) for phase, volume in patients[0].items()}
    ours, theirs = phase_ratios(patients[0]), phase_ratios(loud)
    for phase, ratio in ours.items():
        assert theirs[phase].tissue == pytest.approx(ratio.tissue, rel=1e-4)
        assert theirs[phase].inside == pytest.approx(ratio.inside, rel=1e-3)


def test_of_two_phases_the_later_is_named():
    ratios = {
        "pre": PhaseRatio(1.0, 1.0, 1.0),
        "portal_venous": PhaseRatio(1.6 * MUSCLE_ENHANCEMENT, 2.5, 1.5),
    }
    assert changed_gains(ratios) == {"portal_venous": pytest.approx(1.6)}


def test_without_a_body_nothing_is_claimed(toy):
    noise = np.random.default_rng(0).uniform(1, 2, (3, 3, 2)).astype(np.float32)
    crop = {phase: type(volume)(noise, volume.affine) for phase, volume in toy.images.items()}
    assert phase_ratios(crop) == {}
    assert changed_gains({}) == {}
    assert darker_than_first({}) == []
