import math
from pathlib import Path

import numpy as np
import pytest

from mtinet.errors import UserError
from mtinet.evaluation.metrics import (
    EMPTY_MASK_RULES,
    OUTCOMES,
    MaskRule,
    border_distances_mm,
    image_diagonal_mm,
    score_masks,
)

SHAPE = (12, 16, 18)
SPACING = (5.0, 2.5, 1.5)


def box(*ranges: tuple[int, int], shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(low, high) for low, high in ranges)] = True
    return mask


def ball(radius_mm: float, shape: tuple[int, int, int], spacing: tuple[float, ...]) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= radius_mm**2


def blob(seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng([seed])
    mask = box((3, 8), (4, 11), (4, 12), shape=shape)
    return mask ^ (rng.random(shape) < 0.03)


@pytest.mark.parametrize("rule", EMPTY_MASK_RULES, ids=lambda rule: rule.outcome)
def test_empty_mask_table(rule: MaskRule) -> None:
    masks = {"lesion": box((3, 6), (4, 9), (4, 9)), "empty": box((0, 0)), "unknown": None}
    masks["any"] = masks["lesion"]
    scores = score_masks(masks[rule.reference], masks[rule.predicted], SPACING, 2.0)
    assert scores.outcome == rule.outcome
    expected = 1.0 if rule.overlap is None else rule.overlap
    for value in (scores.dice, scores.iou, scores.nsd):
        np.testing.assert_equal(value, expected)
    distance = {"computed": 0.0, "nan": math.nan, "diagonal": math.hypot(60.0, 40.0, 27.0)}[rule.hd95]
    np.testing.assert_allclose(scores.hd95_mm, distance)


def test_the_documentation_shows_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for rule in EMPTY_MASK_RULES:
        overlap = "computed" if rule.overlap is None else "NaN" if math.isnan(rule.overlap) else "0"
        distance = {"computed": "computed", "nan": "NaN", "diagonal": "image diagonal"}[rule.hd95]
        assert f"| {rule.reference} | {rule.predicted} | `{rule.outcome}` | {overlap} | {distance} |" in page


def test_every_outcome_has_one_rule() -> None:
    assert sorted(rule.outcome for rule in EMPTY_MASK_RULES) == sorted(OUTCOMES)


@pytest.mark.parametrize(("axis", "steps"), [(0, 1), (1, 2), (2, 3)])
def test_shifted_box(axis: int, steps: int) -> None:
    cube = box((3, 7), (4, 8), (4, 8))
    scores = score_masks(cube, np.roll(cube, steps, axis), SPACING, SPACING[axis] * steps)
    common = (4 - steps) / 4
    assert scores.dice == pytest.approx(common)
    assert scores.iou == pytest.approx(common / (2 - common))
    assert scores.hd95_mm == pytest.approx(SPACING[axis] * steps)
    assert scores.nsd == 1.0
    strict = score_masks(cube, np.roll(cube, steps, axis), SPACING, SPACING[axis] * steps - 0.01)
    assert strict.nsd < 1.0


def test_a_border_as_far_as_the_tolerance_is_within_it_however_the_affine_is_rounded() -> None:
    cube = box((3, 7), (4, 8), (4, 8))
    for angle in np.linspace(0.0, 0.6, 13):
        turned = 2.0 * np.array([np.cos(angle), np.sin(angle), 0.0])
        spacing = float(np.linalg.norm(turned.astype(np.float32).astype(np.float64)))
        assert score_masks(cube, np.roll(cube, 1, 0), (spacing, 1.0, 1.0), 2.0).nsd == 1.0


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
def test_concentric_balls(spacing: tuple[float, float, float]) -> None:
    shape = (int(50 / spacing[0]) | 1, 51, 51)
    small, large = ball(12.0, shape, spacing), ball(18.0, shape, spacing)
    scores = score_masks(small, large, spacing, 2.0)
    ratio = (12.0 / 18.0) ** 3
    assert scores.dice == pytest.approx(2 * ratio / (1 + ratio), rel=0.02)
    assert scores.hd95_mm == pytest.approx(6.0, abs=max(spacing))
    assert scores.nsd == 0.0
    assert score_masks(small, large, spacing, 6.0 + max(spacing)).nsd == 1.0


@pytest.mark.parametrize("swapped", [False, True])
def test_hd95_is_that_of_the_worse_direction(swapped: bool) -> None:
    # every voxel of the end lies in the rod: nothing is far in one direction
    rod, end = (box((1, 2), (1, 2), (5, stop), shape=(3, 3, 60)) for stop in (55, 15))
    pair = (end, rod) if swapped else (rod, end)
    farthest = 2.0 * np.maximum(np.arange(5, 55) - 14, 0)
    assert score_masks(*pair, (1.0, 1.0, 2.0), 1.0).hd95_mm == pytest.approx(np.percentile(farthest, 95))


@pytest.mark.parametrize("seed", range(5))
def test_symmetry_scale_and_position(seed: int) -> None:
    reference, predicted = blob(seed), blob(seed + 100)
    scores = score_masks(reference, predicted, SPACING, 2.0)
    swapped = score_masks(predicted, reference, SPACING, 2.0)
    assert (swapped.dice, swapped.iou) == (scores.dice, scores.iou)
    assert swapped.hd95_mm == scores.hd95_mm
    assert swapped.nsd == scores.nsd
    assert scores.dice == pytest.approx(2 * scores.iou / (1 + scores.iou))
    doubled = score_masks(reference, predicted, tuple(2 * s for s in SPACING), 4.0)
    assert doubled.hd95_mm == pytest.approx(2 * scores.hd95_mm)
    assert doubled.nsd == scores.nsd
    turned = score_masks(reference.T, predicted.T, SPACING[::-1], 2.0)
    assert turned.hd95_mm == pytest.approx(scores.hd95_mm)
    assert turned.nsd == pytest.approx(scores.nsd)


@pytest.mark.parametrize("seed", range(3))
def test_distances_against_exhaustive_search(seed: int) -> None:
    reference, predicted = blob(seed), blob(seed + 50)
    of_reference, of_predicted = border_distances_mm(reference, predicted, SPACING)

    def border(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        inner = np.ones_like(mask)
        for axis in range(3):
            for step in (-1, 1):
                inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inner) * np.array(SPACING)

    pairs = np.linalg.norm(border(reference)[:, None] - border(predicted)[None], axis=-1)
    np.testing.assert_allclose(of_reference, pairs.min(1), rtol=1e-12)
    np.testing.assert_allclose(of_predicted, pairs.min(0), rtol=1e-12)


def test_nothing_is_farther_than_the_diagonal() -> None:
    first, second = box((0, 1), (0, 1), (0, 1)), box((11, 12), (15, 16), (17, 18))
    assert 0 < score_masks(first, second, SPACING, 2.0).hd95_mm < image_diagonal_mm(SHAPE, SPACING)


def test_two_grids_are_refused() -> None:
    with pytest.raises(UserError, match="resample the prediction"):
        score_masks(box((1, 2)), np.zeros((3, 3, 3)), SPACING, 2.0)
    with pytest.raises(UserError, match="spacing_mm"):
        score_masks(box((1, 2)), box((1, 2)), (1.0, 1.0), 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_parity_with_monai(seed: int) -> None:
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    # MONAI's own border is not closed at the image's edge unless it crops; the blobs may touch the edge.
    reference, predicted = blob(seed), blob(seed + 10)
    pair = [torch.from_numpy(mask[None, None].copy()) for mask in (predicted, reference)]
    scores = score_masks(reference, predicted, SPACING, 3.0)
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=SPACING)
    nsd = compute_surface_dice(*pair, [3.0], include_background=True, spacing=SPACING)
    assert scores.hd95_mm == pytest.approx(float(hd95), rel=1e-5)
    assert scores.nsd == pytest.approx(float(nsd), rel=1e-5)
