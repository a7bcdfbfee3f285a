"""Sub-forms, T1 and outlines of lesions are drawn as stated; retraction dents the liver and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.phantom.canvas import Canvas
from mtinet.phantom.host import Host
from mtinet.phantom.lesions import (
    LESION_CLASSES,
    SUBTYPES,
    LesionClassError,
    check_classes,
    check_weights,
    draw_subtype,
    draw_tissue,
    grow,
    make_ball,
)
from mtinet.phantom.lesions.ball import Form, shaped, trimmed
from mtinet.phantom.lesions.numbers import NUMBERS, Number, truncated_normal
from mtinet.phantom.lesions.retraction import retract
from mtinet.phantom.shapes import Grid
from mtinet.phantom.tissues import T1_S, at_field, draw_organs

GRID = Grid((56, 56, 56), (1.25, 1.25, 1.25))
VOXEL_MM3 = 1.25**3
EVERY = [subtype.name for subtypes in SUBTYPES.values() for subtype in subtypes]


def bed(host: Host, surface_x_mm: float = 100.0) -> tuple[Canvas, np.ndarray]:
    """Liver up to a plane, muscle beyond."""
    canvas = Canvas(GRID, draw_organs(np.random.default_rng(5), host))
    liver = np.broadcast_to(GRID.mesh(GRID.whole)[0] < surface_x_mm, GRID.shape).copy()
    canvas.labels[:] = canvas.number("muscle")
    canvas.paint(GRID.whole, liver, "liver")
    return canvas, liver


# ---------------------------------------------------------------- sub-forms
def test_unknown_classes_are_refused_with_the_valid_ones() -> None:
    with pytest.raises(LesionClassError, match=r"'adenoma'.*valid: hemangioma, hcc, fnh"):
        check_classes(("hcc", "adenoma"))
    with pytest.raises(LesionClassError, match="none given"):
        check_classes(())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"hcc_typical": 1.0}, r"subtypes\.hcc: 'hcc_typical'.*valid: hcc_small, hcc_classic"),
        ({"hcc_small": -1.0, "hcc_classic": 2.0}, "0 or more"),
        ({"hcc_small": 0.0}, "above 0"),
        ({}, "above 0"),
    ],
)
def test_wrong_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(LesionClassError, match=message):
        check_weights("hcc", weights)
    with pytest.raises(LesionClassError, match=message):
        draw_subtype(np.random.default_rng(0), "hcc", 30.0, weights)


def test_subtypes_come_at_their_weights() -> None:
    rng = np.random.default_rng(0)
    weights = {"hcc_mosaic": 3.0, "hcc_small": 1.0}
    drawn = [draw_subtype(rng, "hcc", 30.0, weights) for _ in range(2000)]
    assert set(drawn) == set(weights)
    assert drawn.count("hcc_mosaic") / 2000 == pytest.approx(0.75, abs=0.035)


@pytest.mark.parametrize("label", list(SUBTYPES))
@pytest.mark.parametrize("diameter_mm", [8.0, 17.5, 40.0])
def test_subtypes_come_at_the_rates_of_their_size(label: str, diameter_mm: float) -> None:
    rng = np.random.default_rng(1)
    drawn = [draw_subtype(rng, label, diameter_mm) for _ in range(2000)]
    for subtype in SUBTYPES[label]:
        expected = subtype.weight(diameter_mm)
        # four standard errors
        assert drawn.count(subtype.name) / 2000 == pytest.approx(
            expected, abs=4.0 * np.sqrt(max(expected * (1.0 - expected), 1e-4) / 2000)
        )


def test_cirrhosis_makes_sclerosed_hemangiomas_frequent() -> None:
    rng = np.random.default_rng(2)
    healthy, cirrhotic = (
        [draw_subtype(rng, "hemangioma", 30.0, None, severity) for _ in range(1500)].count(
            "hemangioma_sclerosed"
        )
        for severity in (0.0, 1.0)
    )
    assert cirrhotic > 2 * healthy


# ---------------------------------------------------------------- T1
def test_truncated_normal_keeps_to_its_limits_and_its_moments() -> None:
    rng = np.random.default_rng(3)
    drawn = np.array([truncated_normal(rng, 2.0, 1.0, -50.0, 50.0) for _ in range(4000)])
    assert drawn.mean() == pytest.approx(2.0, abs=0.06)
    assert drawn.std() == pytest.approx(1.0, abs=0.05)
    cut = [truncated_normal(rng, 0.0, 1.0, 0.5, 0.7) for _ in range(200)]
    assert min(cut) >= 0.5
    assert max(cut) <= 0.7


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_numbers_are_drawn_within_their_range_around_their_middle(number: Number) -> None:
    rng = np.random.default_rng(8)
    drawn = np.array([number.draw(rng) for _ in range(300)])
    assert number.source
    assert number.low - 1e-9 <= drawn.min()
    assert drawn.max() <= number.high + 1e-9
    # a range that holds the middle is drawn on both sides of it
    if number.low < number.middle < number.high:
        assert 0.1 < (drawn < number.middle).mean() < 0.9


def test_numbers_have_names_of_their_own() -> None:
    assert len({number.name for number in NUMBERS}) == len(NUMBERS)


@pytest.mark.parametrize(
    ("label", "mean_ms", "sd_ms"),
    [
        ("hcc", 1056.0, 292.0),
        ("metastasis", 1757.0, 723.0),
        ("hemangioma", 2524.0, 908.0),
        ("cyst", 3793.0, 207.0),
    ],
)
def test_t1_has_the_published_mean_and_spread(label: str, mean_ms: float, sd_ms: float) -> None:
    rng, host = np.random.default_rng(4), Host(3.0)
    liver = draw_organs(rng, host)["liver"]
    weights = {"cyst_simple": 1.0} if label == "cyst" else None
    drawn = 1e3 * np.array(
        [
            draw_tissue(rng, label, draw_subtype(rng, label, 30.0, weights), host, liver).t1_s
            for _ in range(1500)
        ]
    )
    assert drawn.mean() == pytest.approx(mean_ms, rel=0.05)
    # the cut at the T1 of water narrows that of hemangiomas a little
    assert drawn.std() == pytest.approx(sd_ms, rel=0.15)


def test_lesion_and_liver_keep_their_ratio_of_t1_at_every_field() -> None:
    liver = draw_organs(np.random.default_rng(0), Host(3.0))["liver"]
    for label, made in LESION_CLASSES.items():
        for subtype in made.subtypes:
            ratio = [
                draw_tissue(np.random.default_rng(9), label, subtype.name, Host(field_T), liver).t1_s
                / at_field(T1_S["liver"], field_T)
                for field_T in (1.5, 3.0)
            ]
            assert ratio[0] == pytest.approx(ratio[1])


# ---------------------------------------------------------------- outline
@pytest.mark.parametrize("diameter_mm", [8.0, 20.0, 40.0])
def test_ball_keeps_its_volume_whatever_its_bumps(diameter_mm: float) -> None:
    for seed in range(5):
        ball = make_ball(np.random.default_rng(seed), GRID, (1.0, -2.0, 0.5), diameter_mm, 0.13)
        volume = np.count_nonzero(ball.depth <= 1.0) * VOXEL_MM3
        assert volume == pytest.approx(np.pi / 6.0 * diameter_mm**3, rel=0.03)


@pytest.mark.parametrize("form", [Form(0.3), Form(lobes=0.25), Form(1.2, lobes=0.2, fringe=0.05)])
def test_forms_keep_the_volume_and_stay_in_the_box(form: Form) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        ball = shaped(rng, GRID, make_ball(rng, GRID, (1.0, -2.0, 0.5), 30.0, 0.1), form)
        inside = ball.depth <= 1.0
        assert np.count_nonzero(inside) * VOXEL_MM3 == pytest.approx(np.pi / 6.0 * 30.0**3, rel=0.03)
        small, within = trimmed(ball)
        assert np.count_nonzero(small.depth <= 1.0) == np.count_nonzero(inside)
        np.testing.assert_array_equal(ball.depth[within], small.depth)
        assert [s.stop - s.start for s in small.box] == list(small.depth.shape)


def test_lobes_and_fringe_roughen_the_outline_and_smoothing_smooths_it() -> None:
    def roughness(form: Form) -> float:
        values = []
        for seed in range(6):
            rng = np.random.default_rng(seed)
            ball = shaped(rng, GRID, make_ball(rng, GRID, (0.0, 0.0, 0.0), 30.0, 0.1), form)
            near = np.abs(ball.depth - 1.0) < 0.03
            values.append(float(ball.length_mm[near].std() / ball.length_mm[near].mean()))
        return float(np.mean(values))

    smooth, plain, lobed = (roughness(form) for form in (Form(0.2), Form(), Form(1.0, 0.2, 0.04)))
    assert smooth < plain < lobed


# ---------------------------------------------------------------- growing
@pytest.mark.parametrize("subtype", EVERY)
def test_lesions_grow_in_the_liver_only_and_the_same_for_a_seed(subtype: str) -> None:
    maps = []
    for _ in range(2):
        canvas, liver = bed(Host(3.0), surface_x_mm=9.0)
        before, labels = liver.copy(), canvas.labels.copy()
        rng = np.random.default_rng(11)
        ball = make_ball(rng, GRID, (0.0, 0.0, 0.0), 26.0, 0.1)
        _, inside = grow(rng, canvas, liver, subtype.split("_")[0], ball, Host(3.0), {subtype: 1.0})
        assert inside.any()
        assert not (inside & ~before[ball.box]).any()
        # every voxel that changed is lesion, or was drawn in from the surface
        changed = canvas.labels != labels
        assert not (changed & ~before).any()
        taken = np.zeros_like(before)
        taken[ball.box] = inside
        np.testing.assert_array_equal(changed, taken | (before & ~liver))
        maps.append(canvas.labels)
    np.testing.assert_array_equal(*maps)


def test_retraction_dents_the_surface_near_a_lesion() -> None:
    canvas, liver = bed(Host(3.0), surface_x_mm=15.0)
    before = liver.copy()
    ball = make_ball(np.random.default_rng(0), GRID, (0.0, 0.0, 0.0), 30.0, 0.05)
    depth_mm = retract(np.random.default_rng(1), canvas, liver, ball)
    lost = before & ~liver
    assert 3.0 < depth_mm <= 7.5
    assert (canvas.labels[lost] == canvas.number("visceral_fat")).all()
    x, y, z = GRID.mesh(GRID.whole)
    assert not (lost & (x < 15.0 - depth_mm - 1.25)).any()
    # deepest above the lesion, nothing far aside
    aside_mm = np.broadcast_to(np.hypot(y, z), GRID.shape)
    assert lost.sum() > 50
    assert aside_mm[lost].max() < 25.0


def test_retraction_leaves_deep_lesions_alone() -> None:
    canvas, liver = bed(Host(3.0), surface_x_mm=30.0)
    before = liver.copy()
    ball = make_ball(np.random.default_rng(0), GRID, (0.0, 0.0, 0.0), 30.0, 0.05)
    assert retract(np.random.default_rng(1), canvas, liver, ball) == 0.0
    np.testing.assert_array_equal(liver, before)
