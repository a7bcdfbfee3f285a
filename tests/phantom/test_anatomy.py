"""The drawn abdomen: sizes, sides, what lies inside what, and what disease changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from mtinet.phantom.anatomy import draw_anatomy
from mtinet.phantom.anatomy.frame import draw_frame
from mtinet.phantom.anatomy.liver import VARIANTS, plan_liver
from mtinet.phantom.anatomy.parenchyma import PARENCHYMA, SEPTUM
from mtinet.phantom.anatomy.tree import Tree, spread
from mtinet.phantom.anatomy.vessels import draw_collaterals
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.host import Host
from mtinet.phantom.shapes import Grid
from mtinet.phantom.tissues import draw_organs

GRID = Grid((112, 88, 46), (3.0, 3.0, 3.0))
ML = 0.027

Patient = tuple[Canvas, np.ndarray]


def _draw(seed: int, host: Host, grid: Grid = GRID) -> Patient:
    canvas = Canvas(grid, draw_organs(np.random.default_rng(seed), host))
    return canvas, draw_anatomy(np.random.default_rng(seed), canvas, host)


@pytest.fixture(scope="module")
def patients() -> list[Patient]:
    return [_draw(seed, Host(3.0)) for seed in range(12)]


@pytest.fixture(scope="module")
def cirrhotic() -> list[Patient]:
    return [_draw(seed, Host(3.0, cirrhosis=1.0)) for seed in range(12)]


def _named(canvas: Canvas, *names: str) -> np.ndarray:
    chosen = np.array([tissue.name in names for tissue in canvas.tissues])
    return chosen[canvas.labels]


def _centre(where: np.ndarray) -> np.ndarray:
    index = np.argwhere(where)
    return np.array([GRID.axes[k][index[:, k]].mean() for k in range(3)])


def test_livers_have_human_volumes_that_vary(patients: list[Patient]) -> None:
    # the slab of 138 mm cuts the tip of most livers
    millilitres = [liver.sum() * ML for _, liver in patients]
    assert min(millilitres) > 650.0
    assert max(millilitres) < 2000.0
    assert 900.0 < np.median(millilitres) < 1600.0
    assert np.std(millilitres) > 60.0


def test_the_liver_is_one_piece(patients: list[Patient]) -> None:
    for _, liver in patients:
        pieces, _ = ndimage.label(liver, ndimage.generate_binary_structure(3, 3))
        assert np.bincount(pieces.ravel())[1:].max() > 0.985 * liver.sum()


def test_organs_are_on_their_sides(patients: list[Patient]) -> None:
    for canvas, liver in patients:
        assert _centre(liver)[0] > 20.0
        assert _centre(_named(canvas, "spleen"))[0] < -50.0
        aorta, cava = _centre(_named(canvas, "aorta")), _centre(_named(canvas, "vena_cava"))
        assert aorta[0] < 0.0 < cava[0]
        assert _centre(_named(canvas, "stomach_wall"))[0] < 0.0
        assert _centre(_named(canvas, "spinal_canal"))[1] < aorta[1] < _centre(liver)[1] + 20.0


def test_every_organ_is_there(patients: list[Patient]) -> None:
    wanted = "fat muscle spleen renal_cortex renal_medulla pancreas bowel aorta vena_cava portal_vein"
    more = "hepatic_vein marrow cortical_bone disc lung myocardium heart_blood stomach_wall adrenal"
    for canvas, _ in patients:
        for name in (*wanted.split(), *more.split()):
            assert _named(canvas, name).any(), name
    # a gallbladder may have been removed
    assert np.mean([_named(canvas, "bile_wall").any() for canvas, _ in patients]) > 0.6


def test_kidneys_have_a_cortex_outside_their_pyramids(patients: list[Patient]) -> None:
    for canvas, _ in patients:
        cortex, medulla = _named(canvas, "renal_cortex"), _named(canvas, "renal_medulla")
        assert 0.1 < medulla.sum() / cortex.sum() < 1.0
        kidney = ndimage.binary_closing(cortex | medulla)
        depth = ndimage.distance_transform_edt(kidney)
        assert depth[medulla].mean() > depth[cortex].mean()


def test_the_liver_is_parenchyma_and_veins_only(patients: list[Patient], cirrhotic: list[Patient]) -> None:
    for canvas, liver in (*patients, *cirrhotic):
        inside = {canvas.tissues[n].name for n in np.unique(canvas.labels[liver])}
        assert inside <= {*PARENCHYMA, "portal_vein", "hepatic_vein"}
        assert {"portal_vein", "hepatic_vein"} <= inside
        assert not np.any(_named(canvas, *PARENCHYMA) & ~liver)


def test_veins_take_a_plausible_share_of_the_liver(patients: list[Patient]) -> None:
    for canvas, liver in patients:
        for name in ("portal_vein", "hepatic_vein"):
            assert 0.005 < np.mean(_named(canvas, name)[liver]) < 0.06, name


def test_livers_stay_below_the_lungs_and_inside_the_wall(patients: list[Patient]) -> None:
    for canvas, liver in patients:
        lung = _named(canvas, "lung")
        highest_liver = np.where(liver, np.arange(GRID.shape[2]), -1).max(axis=2)
        lowest_lung = np.where(lung, np.arange(GRID.shape[2]), 10**6).min(axis=2)
        assert np.mean((highest_liver >= lowest_lung)[liver.any(axis=2)]) < 0.01
        near_air = ndimage.binary_dilation(liver, iterations=3) & (canvas.labels == canvas.number("air"))
        # air beside the liver is gas in the stomach or colon, never the outside
        outside, _ = ndimage.label(canvas.labels == canvas.number("air"))
        assert not np.any(near_air & (outside == outside[0, 0, 0]))


def test_body_is_surrounded_by_air(patients: list[Patient]) -> None:
    for canvas, _ in patients:
        air = canvas.number("air")
        assert np.all(canvas.labels[[0, -1]] == air)
        assert np.all(canvas.labels[:, [0, -1]] == air)


def test_cirrhosis_shrinks_the_right_lobe_and_enlarges_left_lobe_and_spleen(
    patients: list[Patient], cirrhotic: list[Patient]
) -> None:
    x = GRID.axes[0]
    # the same numbers draw both livers of a pair
    right, left, spleen = [], [], []
    for (sick, sick_liver), (well, well_liver) in zip(cirrhotic, patients):
        right.append(sick_liver[x > 45.0].sum() / well_liver[x > 45.0].sum())
        left.append(sick_liver[x < 15.0].sum() / well_liver[x < 15.0].sum())
        spleen.append(_named(sick, "spleen").sum() / _named(well, "spleen").sum())
    assert np.median(right) < 0.85
    assert np.median(left) > 1.05
    assert np.median(spleen) > 1.3


def test_cirrhosis_makes_the_surface_rough_and_brings_septa(
    patients: list[Patient], cirrhotic: list[Patient]
) -> None:
    def roughness(liver: np.ndarray) -> float:
        # what an opening takes away on the right, far from the fissures: nodules stand out
        side = liver[np.searchsorted(GRID.axes[0], 60.0) :]
        opened = ndimage.binary_opening(side, ndimage.generate_binary_structure(3, 1), iterations=2)
        return float((side & ~opened).sum() / side.sum())

    rough, smooth = ([roughness(liver) for _, liver in group] for group in (cirrhotic, patients))
    assert np.median(rough) > 1.3 * np.median(smooth)
    for canvas, liver in cirrhotic:
        share = np.mean(_named(canvas, SEPTUM)[liver])
        assert 0.05 < share < 0.35
        septum = next(tissue for tissue in canvas.tissues if tissue.name == SEPTUM)
        nodule = canvas.tissues[canvas.number("liver")]
        assert septum.t1_s > nodule.t1_s
        assert septum.distribution_volume > nodule.distribution_volume
    assert not any(_named(canvas, SEPTUM).any() for canvas, _ in patients)


@pytest.mark.parametrize("cirrhosis", [0.0, 1.0])
def test_mixing_keeps_the_mean_volume_of_the_parenchyma(cirrhosis: float) -> None:
    for seed in range(4):
        canvas, liver = _draw(seed, Host(3.0, cirrhosis))
        whole = canvas.tissues[canvas.number("liver")].distribution_volume
        volumes = np.array([tissue.distribution_volume for tissue in canvas.tissues])
        mean = volumes[canvas.labels[liver & _named(canvas, *PARENCHYMA)]].mean()
        assert mean == pytest.approx(whole, rel=0.06)


def test_fat_varies_in_a_fatty_liver_about_its_fraction() -> None:
    spared = 0
    for seed in range(8):
        canvas, liver = _draw(seed, Host(3.0, fat_fraction=0.25))
        proton = np.array([tissue.proton for tissue in canvas.tissues])
        values = proton[canvas.labels[liver & _named(canvas, "liver")]]
        base = canvas.tissues[canvas.number("liver")].proton
        assert values.mean() == pytest.approx(base, rel=0.03)
        assert values.std() > 0.005
        spared += bool(np.any(values > 1.15 * base))
    assert 3 <= spared <= 8


def test_a_patient_is_a_function_of_the_numbers() -> None:
    host = Host(3.0, 0.7, 0.2)
    first, second = _draw(3, host), _draw(3, host)
    np.testing.assert_array_equal(first[0].labels, second[0].labels)
    np.testing.assert_array_equal(first[1], second[1])
    assert first[0].tissues == second[0].tissues


def test_the_liver_hardly_depends_on_the_grid() -> None:
    coarse = _draw(5, Host(3.0))[1].sum() * ML
    fine = Grid((150, 118, 62), (2.24, 2.24, 2.226))
    volume = _draw(5, Host(3.0), fine)[1].sum() * float(np.prod(fine.spacing_mm)) / 1000.0
    assert volume == pytest.approx(coarse, rel=0.03)


@pytest.mark.parametrize("shape", [(55, 45, 10), (60, 50, 60)])
def test_a_small_field_of_view_still_holds_a_liver(shape: tuple[int, int, int]) -> None:
    for seed in range(3):
        _, liver = _draw(seed, Host(3.0, 0.8, 0.2), Grid(shape, (4.0, 4.0, 4.0)))
        assert liver.any()


def test_all_forms_of_the_liver_are_drawn() -> None:
    drawn = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        drawn.append(plan_liver(rng, draw_frame(rng), Host(3.0)).variant)
    for name, rate in VARIANTS.items():
        assert drawn.count(name) / len(drawn) == pytest.approx(rate, abs=0.12)


def test_a_tree_reaches_its_targets_and_thins_by_murrays_law() -> None:
    rng = np.random.default_rng(0)
    targets = spread(rng, rng.uniform(-50.0, 50.0, (4000, 3)), 15.0, 60)
    gaps = np.linalg.norm(targets[:, None] - targets, axis=-1)[~np.eye(len(targets), dtype=bool)]
    assert gaps.min() >= 15.0
    tree = Tree(np.array([-60.0, 0.0, 0.0]))
    tree.grow(targets)
    away = np.linalg.norm(tree.points[:, None] - targets, axis=-1).min(axis=0)
    assert away.max() < 1e-9
    # an integral tree: every parent comes before its child
    assert all(parent < child for child, parent in enumerate(tree.parents))
    radius = tree.radii(20.0)
    assert radius[0] == pytest.approx(20.0)
    children = [n for n, parent in enumerate(tree.parents) if parent == 0]
    ends = set(range(len(tree.parents))) - set(tree.parents)
    if not ends & set(children):
        assert sum(radius[n] ** 2.8 for n in children) == pytest.approx(20.0**2.8)
    for child, parent in enumerate(tree.parents[1:], start=1):
        assert radius[child] <= radius[parent] + 1e-9


def test_a_second_tree_keeps_clear_of_the_first() -> None:
    rng = np.random.default_rng(2)
    places = spread(rng, rng.uniform(-50.0, 50.0, (4000, 3)), 16.0, 80)
    first, second = Tree(np.array([-60.0, 0.0, 0.0])), Tree(np.array([60.0, 0.0, 0.0]))
    first.grow(places[::2])
    second.grow(places[1::2], first.points, clearance_mm=4.0)
    gap = np.linalg.norm(first.points[:, None] - second.points, axis=-1)
    assert gap.min() >= 4.0
    reached = np.linalg.norm(second.points[:, None] - places[1::2], axis=-1).min(axis=0) < 1e-9
    assert reached.mean() > 0.6


def test_collaterals_need_severe_cirrhosis_and_run_through_fat(patients: list[Patient]) -> None:
    canvas, _ = patients[0]
    before = canvas.labels.copy()
    fat, vein = canvas.number("visceral_fat"), canvas.number("portal_vein")
    opened = 0
    for seed in range(12):
        frame = draw_frame(np.random.default_rng(0))
        draw_collaterals(np.random.default_rng(seed), canvas, frame, Host(3.0, cirrhosis=0.4))
        assert np.array_equal(canvas.labels, before)
        draw_collaterals(np.random.default_rng(seed), canvas, frame, Host(3.0, cirrhosis=0.9))
        changed = canvas.labels != before
        opened += bool(changed.any())
        assert np.all(canvas.labels[changed] == vein)
        assert set(before[changed]) <= {fat}
        canvas.labels[...] = before
    assert 2 <= opened < 12


def test_fat_changes_the_mixture_and_not_the_shape() -> None:
    lean, fatty = _draw(7, Host(3.0)), _draw(7, Host(3.0, fat_fraction=0.3))
    np.testing.assert_array_equal(lean[1], fatty[1])
    names = ("spleen", "portal_vein", "hepatic_vein", "stomach_wall", "renal_cortex")
    for name in names:
        np.testing.assert_array_equal(_named(lean[0], name), _named(fatty[0], name))
