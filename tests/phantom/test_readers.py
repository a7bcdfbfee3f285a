import numpy as np
import pytest
from scipy import ndimage

from mtinet.config import resolve_simulation
from mtinet.phantom import readers
from mtinet.phantom.patient import simulate_patient
from mtinet.phantom.readers import second_reader

SPACING = (2.5, 2.5, 5.0)
SHAPE = (48, 48, 24)


def ball(centre_mm, diameter_mm):
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, SPACING)), indexing="ij", sparse=True)
    return sum((a - c) ** 2 for a, c in zip(axes, centre_mm)) <= (diameter_mm / 2) ** 2


def lesions(*balls):
    mask = np.zeros(SHAPE, dtype=np.uint8)
    for number, (centre, diameter) in enumerate(balls, start=1):
        mask[ball(centre, diameter)] = number
    return mask


LARGE = ((40.0, 60.0, 60.0), 40.0)


def dice(a, b):
    return 2 * np.count_nonzero((a > 0) & (b > 0)) / (np.count_nonzero(a) + np.count_nonzero(b))


def several(mask, n, labels=None, **more):
    return [second_reader(np.random.default_rng(i), mask, SPACING, labels, **more) for i in range(n)]


@pytest.mark.slow
def test_readers_agree_on_hcc_as_published():
    """Between observers Dice on HCC is 0.79 +- 0.10 (EJNMMI Phys 2022): the mean and spread over studies."""
    # one phase is enough: the masks do not depend on the others
    chosen = ["classes=hcc", "no_lesion_fraction=0", "phases=portal_venous", "seed=31"]
    settings = resolve_simulation("demo", None, chosen)
    found = []
    for index in range(14):
        patient = simulate_patient(settings, index)
        mask, labels = patient.mask.array, {lesion.number: lesion.label for lesion in patient.lesions}
        for draw in range(10):
            rng = np.random.default_rng([index, draw])
            other = second_reader(rng, mask, patient.mask.spacing_mm, labels, patient.liver.array > 0)
            found.append(dice(mask, other))
    assert np.mean(found) == pytest.approx(0.79, abs=0.03)
    assert np.std(found) == pytest.approx(0.10, abs=0.03)


def test_the_same_state_gives_the_same_outline_and_the_first_readers_stays():
    mask = lesions(LARGE, ((90.0, 60.0, 60.0), 20.0))
    before = mask.copy()
    one, two, other = (second_reader(np.random.default_rng(s), mask, SPACING) for s in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert np.any(one != other)
    np.testing.assert_array_equal(mask, before)
    assert one.dtype == np.uint8
    assert one.shape == mask.shape


def test_nobody_sees_a_lesion_where_there_is_none():
    assert not any(outline.any() for outline in several(np.zeros(SHAPE, dtype=np.uint8), 5))


def test_the_second_reader_is_larger_as_often_as_smaller():
    mask = lesions(LARGE)
    ratio = np.log([np.count_nonzero(o) / np.count_nonzero(mask) for o in several(mask, 120)])
    assert abs(ratio.mean()) < 0.1
    assert 0.35 < np.mean(ratio > 0) < 0.65


def test_small_lesions_and_unsharp_ones_agree_less():
    def mean(diameter, label):
        mask = lesions(((60.0, 60.0, 60.0), diameter))
        return np.mean([dice(mask, o) for o in several(mask, 40, {1: label})])

    assert mean(50.0, "hcc") > mean(25.0, "hcc") > mean(12.0, "hcc")
    assert mean(30.0, "cyst") > mean(30.0, "hcc") > mean(30.0, "icc")
    assert mean(30.0, "hcc") == mean(30.0, "a class of one's own")


def test_small_lesions_are_missed_at_the_stated_rate_but_never_the_largest():
    small = ((95.0, 60.0, 60.0), 12.0)
    mask = lesions(small, LARGE)
    n = 200
    outlines = several(mask, n)
    missed = np.mean([o.max() == 1 for o in outlines])
    rate = dict(readers.MISSED)[20.0]
    assert abs(missed - rate) < 3 * np.sqrt(rate * (1 - rate) / n)
    assert all(np.any(o[ball(*LARGE)]) for o in outlines)
    alone = lesions(small)
    assert all(np.any(o) for o in several(alone, n))


def test_outlines_that_nearly_touch_become_one_lesion_and_no_others(monkeypatch):
    monkeypatch.setattr(readers, "MISSED", ())
    mask = lesions(LARGE, ((78.0, 60.0, 60.0), 30.0))
    monkeypatch.setattr(readers, "MERGED", 0.0)
    apart = several(mask, 30)
    monkeypatch.setattr(readers, "MERGED", 1.0)
    together = several(mask, 30)
    merged = []
    for separate, result in zip(apart, together, strict=True):
        assert separate.max() == 2
        np.testing.assert_array_equal(separate > 0, result > 0)
        gap = ndimage.distance_transform_edt(separate != 1, sampling=SPACING)[separate == 2].min()
        merged.append(result.max() == 1)
        assert merged[-1] == (gap <= readers.MERGED_GAP_MM)
    assert 0 < sum(merged) < 30


def test_numbers_have_no_gaps_and_nothing_is_drawn_outside_the_liver():
    mask = lesions(((20.0, 20.0, 60.0), 8.0), LARGE, ((95.0, 95.0, 60.0), 9.0), ((20.0, 95.0, 60.0), 8.0))
    within = ball((60.0, 60.0, 60.0), 110.0)
    for outline in several(mask, 60, within=within):
        numbers = np.unique(outline[outline > 0])
        np.testing.assert_array_equal(numbers, np.arange(1, numbers.size + 1))
        assert not np.any(outline[~within & (mask == 0)])


def test_an_outline_is_one_piece():
    for outline in several(lesions(LARGE), 30):
        assert ndimage.label(outline)[1] == 1
