"""What is wrong with a liver: lesions take their own room, cysts stay smaller."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.config import SIMULATIONS
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.disease import Grown, grow_cysts, grow_lesions
from mtinet.phantom.host import Host
from mtinet.phantom.shapes import BoolArray, Grid
from mtinet.phantom.tissues import draw_organs

SETTINGS = SIMULATIONS["tiny"]().model_copy(update={"extra_lesions": 3.0, "cyst_fraction": 1.0})
HOST = Host(3.0)


def _liver(seed: int) -> tuple[Canvas, BoolArray]:
    canvas = Canvas(Grid((70, 70, 60), (2.5, 2.5, 2.5)), draw_organs(np.random.default_rng(seed), HOST))
    x, y, z = canvas.grid.mesh(canvas.grid.whole)
    liver = np.asarray(x**2 + y**2 + z**2 < 70.0**2)
    canvas.paint(canvas.grid.whole, liver, "liver")
    return canvas, liver


def _filled(canvas: Canvas, lesions: list[Grown]) -> np.ndarray:
    count = np.zeros(canvas.grid.shape, dtype=np.uint8)
    for lesion in lesions:
        count[lesion.box] += lesion.inside
    return count


@pytest.mark.parametrize("label", ["hemangioma", "hcc", "metastasis", "icc"])
def test_lesions_share_no_voxel_and_lie_in_the_room(label: str) -> None:
    for seed in range(4):
        canvas, liver = _liver(seed)
        room = liver.copy()
        room[:, :, 40:] = False
        before = room.copy()
        lesions = grow_lesions(np.random.default_rng(seed), SETTINGS, label, canvas, liver, room, HOST)
        count = _filled(canvas, lesions)
        assert lesions
        assert count.max() == 1
        assert before[count > 0].all()
        assert not room[count > 0].any()
        # what is no liver any more is neither lesion nor liver tissue
        assert not (count[~liver] > 0).any()
        for lesion in lesions:
            volume = lesion.inside.sum() * 2.5**3
            assert lesion.diameter_mm == pytest.approx((6.0 * volume / np.pi) ** (1 / 3))


def test_no_lesion_paints_nothing() -> None:
    canvas, liver = _liver(0)
    labels = canvas.labels.copy()
    assert not grow_lesions(np.random.default_rng(0), SETTINGS, "none", canvas, liver, liver.copy(), HOST)
    np.testing.assert_array_equal(canvas.labels, labels)


def test_cysts_are_few_small_and_apart_from_the_lesions() -> None:
    counts = set()
    for seed in range(6):
        canvas, liver = _liver(seed)
        room = liver.copy()
        lesions = grow_lesions(np.random.default_rng(seed), SETTINGS, "hcc", canvas, liver, room, HOST)
        cysts = grow_cysts(np.random.default_rng(seed), SETTINGS, lesions, canvas, liver, room, HOST)
        counts.add(len(cysts))
        assert _filled(canvas, [*lesions, *cysts]).max() == 1
        assert {cyst.label for cyst in cysts} <= {"cyst"}
        for cyst in cysts:
            assert cyst.diameter_mm < min(0.75 * lesions[0].diameter_mm, 17.0)
    assert counts <= {0, 1, 2, 3}
    assert max(counts) > 1


def test_patients_without_lesion_have_cysts_only_where_cyst_is_no_class() -> None:
    with_class = SETTINGS.model_copy(update={"classes": ("hcc", "cyst")})
    for settings, expected in ((SETTINGS, True), (with_class, False)):
        canvas, liver = _liver(1)
        cysts = grow_cysts(np.random.default_rng(1), settings, [], canvas, liver, liver.copy(), HOST)
        assert bool(cysts) == expected
