"""Masks on the scanner's grid and the map of tissues."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.config import Phase, SiteSettings
from mtinet.phantom.acquisition import scan_grid
from mtinet.phantom.disease import Grown
from mtinet.phantom.lesions import Pattern
from mtinet.phantom.motion import Displacement, no_displacement
from mtinet.phantom.tissues import Tissue
from mtinet.phantom.truth import describe, lesion_mask, lesion_numbers, tissue_map

GRID = scan_grid(SiteSettings(name="A", spacing_mm=(4.0, 4.0, 8.0), matrix=(80, 64, 12)), 5.0)


def _block(first: tuple[int, int, int], size: tuple[int, int, int]) -> Grown:
    """A block that begins at a scanner voxel and spans fine voxels."""
    x, y, z = (slice(m + f * a, m + f * a + n) for m, f, a, n in zip(GRID.margin, GRID.factor, first, size))
    pattern = Pattern("hcc_classic", (Tissue("hcc", 1.0),), np.zeros(size, dtype=np.intp), {"t1_s": 1.0})
    return Grown("hcc", (x, y, z), np.ones(size, dtype=np.bool_), pattern, 20.0)


def test_a_mask_holds_the_voxels_that_the_lesion_fills_by_half() -> None:
    lesions = [_block((20, 20, 4), (10, 11, 12)), _block((40, 30, 6), (4, 4, 1))]
    mask = lesion_mask(GRID, lesion_numbers(GRID, lesions), lesions, no_displacement(GRID))
    # 10 x 11 x 12 fine voxels of 2 x 2 x 4: half-filled rows belong to the lesion
    assert np.argwhere(mask == 1).tolist() == np.add(np.argwhere(np.ones((5, 6, 3))), (20, 20, 4)).tolist()
    # thinner than half a slice: it keeps the voxels that it fills most
    assert np.argwhere(mask == 2).tolist() == [[40, 30, 6], [40, 31, 6], [41, 30, 6], [41, 31, 6]]


@pytest.mark.parametrize("shift", [(2, 0, 0), (0, -2, 4), (0, 0, -4)])
def test_a_mask_moves_with_the_content(shift: tuple[int, int, int]) -> None:
    lesions = [_block((20, 20, 4), (10, 8, 8))]
    numbers = lesion_numbers(GRID, lesions)
    moved = Displacement(GRID, no_displacement(GRID).voxels + np.array(shift)[:, None, None])
    still, seen = (lesion_mask(GRID, numbers, lesions, d) for d in (no_displacement(GRID), moved))
    expected = np.roll(still, [s // f for s, f in zip(shift, GRID.factor)], axis=(0, 1, 2))
    np.testing.assert_array_equal(seen, expected)


def test_a_lesion_that_left_the_slices_is_in_no_mask_and_has_no_enhancement() -> None:
    lesions = [_block((20, 20, 0), (10, 8, 4)), _block((40, 30, 5), (10, 8, 8))]
    numbers = lesion_numbers(GRID, lesions)
    down = Displacement(GRID, no_displacement(GRID).voxels + np.array([0, 0, -4])[:, None, None])
    masks: dict[Phase, np.ndarray] = {
        "pre": lesion_mask(GRID, numbers, lesions, no_displacement(GRID)),
        "arterial": lesion_mask(GRID, numbers, lesions, down),
    }
    images: dict[Phase, np.ndarray] = {
        "pre": np.full(GRID.matrix, 2.0, np.float32),
        "arterial": np.full(GRID.matrix, 5.0, np.float32),
    }
    first, second = describe(lesions, masks, images)
    assert first.enhancement == {"pre": 2.0}
    assert second.enhancement == {"pre": 2.0, "arterial": 5.0}
    assert (first.number, second.number) == (1, 2)


def test_the_tissue_of_a_voxel_is_the_group_that_fills_most_of_it() -> None:
    tissues = [Tissue("air", 1.0), Tissue("hcc", 1.0), Tissue("liver", 1.0), Tissue("hcc", 1.2)]
    labels = np.zeros(GRID.fine.shape, dtype=np.uint16)
    x, y, z = (m + f * 10 if f < 4 else m for m, f in zip(GRID.margin, GRID.factor))
    voxel = labels[x : x + 2, y : y + 2, z : z + 4]
    # five and four of one group against seven of another
    flat = np.array([1] * 5 + [3] * 4 + [2] * 7, dtype=np.uint16).reshape(2, 2, 4)
    voxel[...] = flat
    found, legend = tissue_map(GRID, labels, tissues)
    assert legend == {0: "air", 1: "hcc", 2: "liver"}
    assert found[10, 10, 0] == 1
    assert np.count_nonzero(found) == 1
