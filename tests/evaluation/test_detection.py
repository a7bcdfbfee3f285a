import numpy as np
import pytest

from mtinet.errors import UserError
from mtinet.evaluation.detection import count_lesions, match_lesions, size_group_names, size_groups


def row(*numbers: int) -> np.ndarray:
    return np.array(numbers)[None, None]


def test_overlap_of_a_pair() -> None:
    (match,) = match_lesions(row(1, 1, 1, 0, 0), row(0, 7, 7, 7, 0), 0.1)
    assert (match.reference, match.predicted) == (1, 7)
    assert match.iou == pytest.approx(2 / 4)
    assert match.dice == pytest.approx(4 / 6)
    assert (match.reference_voxels, match.predicted_voxels) == (3, 3)


def test_one_to_one_takes_the_best_total() -> None:
    # Greedy would give component 1 to lesion 1 (IoU 3/5) and leave lesion 2 without any.
    reference = row(1, 1, 1, 1, 2, 0, 0)
    predicted = row(3, 1, 1, 1, 1, 0, 0)
    matches = match_lesions(reference, predicted, 0.1)
    assert {(m.reference, m.predicted) for m in matches} == {(1, 1), (2, None), (None, 3)}
    matches = match_lesions(row(1, 1, 1, 2, 2), row(3, 1, 1, 1, 1), 0.1)
    assert {(m.reference, m.predicted) for m in matches} == {(1, 3), (2, 1)}


def test_fragments_are_false_positives_and_merged_lesions_missed() -> None:
    broken = count_lesions(match_lesions(row(1, 1, 1, 1, 1), row(1, 1, 0, 2, 2), 0.1))
    assert (broken.n_found, broken.n_false_positive) == (1, 1)
    merged = count_lesions(match_lesions(row(1, 1, 0, 2, 2), row(1, 1, 1, 1, 1), 0.1))
    assert (merged.n_reference, merged.n_predicted, merged.n_found) == (2, 1, 1)


@pytest.mark.parametrize(("threshold", "found"), [(0.2, 1), (0.21, 0)])
def test_threshold_is_inclusive(threshold: float, found: int) -> None:
    matches = match_lesions(row(1, 1, 1, 0, 0), row(0, 0, 1, 1, 1), threshold)
    assert count_lesions(matches).n_found == found


def test_a_threshold_of_zero_still_needs_a_common_voxel() -> None:
    assert count_lesions(match_lesions(row(1, 0), row(0, 1), 0.0)).n_found == 0


@pytest.mark.parametrize("seed", range(5))
def test_counts_add_up_and_numbers_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng([seed])
    reference = np.repeat(rng.integers(0, 5, (4, 4, 4)), 3, axis=0)
    predicted = np.where(rng.random(reference.shape) < 0.7, reference, rng.integers(0, 5, reference.shape))
    matches = match_lesions(reference, predicted, 0.1)
    counts = count_lesions(matches)
    assert counts.n_reference == len(set(reference.flat) - {0})
    assert counts.n_found + counts.n_false_positive == counts.n_predicted
    assert sum(m.reference_voxels for m in matches) == np.count_nonzero(reference)
    assert sum(m.predicted_voxels for m in matches) == np.count_nonzero(predicted)
    renamed = match_lesions(reference * 10, np.where(predicted > 0, 100 - predicted, 0), 0.1)
    assert {(m.reference * 10, 100 - m.predicted) for m in matches if m.reference and m.predicted} == {
        (m.reference, m.predicted) for m in renamed if m.reference and m.predicted
    }


@pytest.mark.parametrize(
    ("reference", "predicted", "counts"),
    [
        (row(0, 0), row(0, 0), (0, 0, 0, 0)),
        (row(1, 2), row(0, 0), (2, 0, 0, 0)),
        (row(0, 0), row(1, 2), (0, 2, 0, 2)),
    ],
)
def test_empty_maps(reference: np.ndarray, predicted: np.ndarray, counts: tuple[int, ...]) -> None:
    found = count_lesions(match_lesions(reference, predicted, 0.1))
    assert (found.n_reference, found.n_predicted, found.n_found, found.n_false_positive) == counts


def test_two_grids_are_refused() -> None:
    with pytest.raises(UserError, match="resample"):
        match_lesions(row(1, 1), row(1, 1, 1), 0.1)


def test_size_groups() -> None:
    names = size_group_names((20.0, 10.0))
    assert names == ["< 10 mm", "10-20 mm", ">= 20 mm"]
    assert size_groups(np.array([3.0, 10.0, 19.9, 20.0, 60.0]), (20.0, 10.0)).tolist() == [0, 1, 1, 2, 2]
    assert size_group_names(()) == []
