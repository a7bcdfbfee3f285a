"""Lesions behave as radiologists describe them, and as the published numbers that nothing was fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from mtinet.config import SiteSettings
from mtinet.phantom.agents import AGENTS
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.circulation import typical_circulation
from mtinet.phantom.enhancement import relaxation, signals
from mtinet.phantom.host import Host
from mtinet.phantom.lesions import (
    LESION_CLASSES,
    SUBTYPES,
    Pattern,
    draw_subtype,
    draw_tissue,
    grow,
    make_ball,
)
from mtinet.phantom.shapes import Grid
from mtinet.phantom.tissues import draw_organs

GRID = Grid((40, 40, 40), (1.5, 1.5, 1.5))
SITE = SiteSettings(name="A")
TIMES = {
    "gadobutrol": [0.0, 26.0, 38.0, 68.0, 180.0, 300.0],
    "gadoxetate": [0.0, 26.0, 38.0, 68.0, 150.0, 900.0, 1200.0],
}
PRE, ARTERIAL, LATE_ARTERIAL, PORTAL, DELAYED, LATER = range(6)
HEPATOBILIARY = 6
SEEDS = range(13)
EVERY = [subtype.name for subtypes in SUBTYPES.values() for subtype in subtypes]


@dataclass(frozen=True)
class Made:
    """One lesion, seen: signal of its voxels and of the liver, time last, noise-free."""

    pattern: Pattern
    depth: np.ndarray  # of its voxels
    unit: np.ndarray
    part: np.ndarray
    signal: np.ndarray
    t1_s: np.ndarray
    """Of its voxels, time last."""
    liver: np.ndarray

    def relative(self, where: np.ndarray | None = None) -> np.ndarray:
        """Mean signal over the liver's, by time."""
        chosen = self.signal if where is None else self.signal[where]
        return np.asarray(chosen.mean(axis=0) / self.liver)

    def named(self, name: str) -> np.ndarray:
        """Voxels whose part has that name."""
        names = np.array([tissue.name for tissue in self.pattern.parts])
        return np.asarray(names[self.part] == name)


@cache
def made(
    subtype: str, seed: int, diameter_mm: float = 30.0, agent: str = "gadobutrol", cirrhosis: float = 0.0
) -> Made:
    label, host = subtype.split("_")[0], Host(3.0, cirrhosis)
    canvas = Canvas(GRID, draw_organs(np.random.default_rng([seed, 1]), host))
    liver = canvas.tissues[canvas.number("liver")]
    canvas.labels[:] = canvas.number("liver")
    rng = np.random.default_rng([seed, 2])
    ball = make_ball(rng, GRID, (0.0, 0.0, 0.0), diameter_mm, 0.1)
    pattern, inside = grow(rng, canvas, np.ones(GRID.shape, bool), label, ball, host, {subtype: 1.0})
    drug, times = AGENTS[agent], TIMES[agent]
    flow = typical_circulation(drug, drug.dose_mmol_kg, None, times[-1])
    added = relaxation(canvas.tissues, flow, drug, liver, host.field_T, times)
    seen = signals(canvas.tissues, added, SITE)
    t1_s = 1.0 / (1.0 / np.array([t.t1_s for t in canvas.tissues])[:, None] + added.r1)
    voxels = canvas.labels[ball.box][inside]
    return Made(
        pattern=pattern,
        depth=ball.depth[inside],
        unit=ball.unit[inside],
        part=pattern.chosen[inside],
        signal=seen[voxels],
        t1_s=t1_s[voxels],
        liver=seen[canvas.number("liver")],
    )


def median(subtype: str, **how: float | str) -> np.ndarray:
    """Median over lesions of the mean signal relative to the liver, by time."""
    return np.median([made(subtype, seed, **how).relative() for seed in SEEDS], axis=0)  # type: ignore[arg-type]


# ---------------------------------------------------------------- hemangioma
def test_typical_hemangiomas_enhance_in_nodules_on_the_rim() -> None:
    uneven = []
    for seed in SEEDS:
        lesion = made("hemangioma_typical", seed)
        shell = lesion.signal[lesion.depth > 0.75, ARTERIAL] / lesion.liver[ARTERIAL]
        # some of the rim is brighter than the liver, some is not: neither a ring nor nothing
        uneven.append((shell > 1.2).mean())
        core = lesion.signal[lesion.depth < 0.3, ARTERIAL]
        assert np.percentile(lesion.signal[:, ARTERIAL], 98) > 1.5 * core.mean()
    assert 0.05 < np.median(uneven) < 0.7


def test_typical_hemangiomas_fill_in_towards_the_centre() -> None:
    for seed in SEEDS:
        lesion = made("hemangioma_typical", seed)
        core = lesion.relative(lesion.depth < 0.4)
        rim = lesion.relative(lesion.depth > 0.75)
        filled = core / rim
        assert filled[ARTERIAL] < filled[PORTAL] < filled[DELAYED] <= filled[LATER] + 0.02
    assert np.median([made("hemangioma_typical", s).relative()[DELAYED] for s in SEEDS]) > 1.05
    # the larger, the less of it has filled
    small, large = (
        np.median(
            [
                (
                    made("hemangioma_typical", s, d).signal[:, DELAYED]
                    > made("hemangioma_typical", s, d).liver[DELAYED]
                ).mean()
                for s in SEEDS
            ]
        )
        for d in (14.0, 44.0)
    )
    assert small > large


def test_flash_filling_hemangiomas_are_bright_at_once_and_stay_so() -> None:
    ratio = median("hemangioma_flash", diameter_mm=12.0)
    assert ratio[PRE] < 0.6
    assert ratio[ARTERIAL] > 1.4
    assert ratio[PORTAL] > 1.0
    assert ratio[DELAYED] > 1.0


def test_sclerosed_hemangiomas_enhance_little() -> None:
    ratio = median("hemangioma_sclerosed")
    assert ratio[ARTERIAL] < 0.8
    assert ratio[PORTAL] < 0.8
    assert ratio[DELAYED] > ratio[PORTAL]


# ---------------------------------------------------------------- hepatocellular carcinoma
def without_capsule(lesion: Made) -> np.ndarray:
    return ~lesion.named("hcc_capsule")


def test_classic_hcc_is_bright_in_the_arterial_phase_and_washes_out() -> None:
    lesions = [made("hcc_classic", seed, cirrhosis=0.6) for seed in SEEDS]
    ratio = np.median([lesion.relative(without_capsule(lesion)) for lesion in lesions], axis=0)
    assert ratio[PRE] < 0.97
    assert ratio[ARTERIAL] > 1.15
    assert ratio[DELAYED] < 0.98  # washout: 100/ratio above 102 (Kloeckner 2016)
    assert ratio[ARTERIAL] > ratio[PORTAL] > ratio[DELAYED]


def test_the_capsule_is_dark_early_and_bright_late() -> None:
    lesions = [made("hcc_classic", seed, cirrhosis=0.6) for seed in range(20)]
    capsules = [lesion for lesion in lesions if "capsule_mm" in lesion.pattern.kinetics]
    assert 11 <= len(capsules) <= 19  # of 20, published 80 %
    for lesion in capsules:
        rim, rest = (lesion.relative(where) for where in (~without_capsule(lesion), without_capsule(lesion)))
        assert rim[DELAYED] > rest[DELAYED]
        assert rim[DELAYED] / rim[ARTERIAL] > rest[DELAYED] / rest[ARTERIAL]
    assert np.median([m.relative(~without_capsule(m))[DELAYED] for m in capsules]) > 1.0


def test_mosaic_hcc_is_more_uneven_than_classic_hcc() -> None:
    def uneven(subtype: str) -> float:
        return float(
            np.median(
                [
                    made(subtype, s, 40.0).signal[:, ARTERIAL].std()
                    / made(subtype, s, 40.0).signal[:, ARTERIAL].mean()
                    for s in SEEDS
                ]
            )
        )

    assert uneven("hcc_mosaic") > 1.3 * uneven("hcc_classic")


def test_hypovascular_hcc_lacks_arterial_hyperenhancement() -> None:
    ratio = median("hcc_hypovascular", cirrhosis=0.6)
    assert ratio[ARTERIAL] < 1.05
    assert ratio[LATE_ARTERIAL] < 1.05
    assert median("hcc_small", diameter_mm=14.0)[ARTERIAL] > 1.15


def test_all_hcc_together_have_the_published_arterial_fraction() -> None:
    rng, host = np.random.default_rng(0), Host(3.0, 0.6)
    liver = draw_organs(rng, host)["liver"]
    drawn = np.array(
        [
            draw_tissue(rng, "hcc", draw_subtype(rng, "hcc", 40.0), host, liver).arterial_fraction
            for _ in range(1500)
        ]
    )
    # 0.66 ± 0.28 (Lee 2015), cut at 1, which lowers both
    assert drawn.mean() == pytest.approx(0.66, abs=0.06)
    assert drawn.std() == pytest.approx(0.28, abs=0.07)


def test_washout_ratio_of_hcc_is_predicted() -> None:
    agent, host, ratios = AGENTS["gadobutrol"], Host(3.0, 0.6), []
    flow = typical_circulation(agent, agent.dose_mmol_kg, None, 300.0)
    for seed in range(80):
        rng = np.random.default_rng([seed, 3])
        liver = draw_organs(rng, host)["liver"]
        lesion = draw_tissue(rng, "hcc", draw_subtype(rng, "hcc", 25.0, None, 0.6), host, liver)
        added = relaxation([lesion, liver], flow, agent, liver, 3.0, [180.0, 300.0])
        in_lesion, in_liver = signals([lesion, liver], added, SITE)
        ratios.append(100.0 * in_liver / in_lesion)
    equilibrium, delayed = np.median(ratios, axis=0)
    # medians of 69 HCC (Kloeckner 2016); times, agent and sequence of the source are assumed
    assert equilibrium == pytest.approx(116.2, rel=0.3)
    assert delayed == pytest.approx(112.9, rel=0.3)
    assert equilibrium > 102.0  # the source's threshold for washout


# ---------------------------------------------------------------- focal nodular hyperplasia
@pytest.mark.parametrize("subtype", ["fnh_scar", "fnh_plain"])
def test_fnh_is_very_bright_early_and_like_liver_later(subtype: str) -> None:
    lesions = [made(subtype, seed) for seed in SEEDS]
    ratio = np.median([lesion.relative(lesion.named("fnh")) for lesion in lesions], axis=0)
    assert 0.75 < ratio[PRE] < 1.0
    assert ratio[ARTERIAL] > 1.4
    assert ratio[PORTAL] == pytest.approx(1.0, abs=0.12)
    assert ratio[DELAYED] == pytest.approx(1.0, abs=0.1)


def test_the_scar_of_fnh_is_dark_early_and_bright_late() -> None:
    for seed in SEEDS:
        lesion = made("fnh_scar", seed)
        scar, rest = lesion.relative(lesion.named("fnh_scar")), lesion.relative(lesion.named("fnh"))
        assert scar[PRE] < 0.85 * rest[PRE]
        assert scar[ARTERIAL] < 0.8 * rest[ARTERIAL]
    late = [made("fnh_scar", s).relative(made("fnh_scar", s).named("fnh_scar"))[LATER] for s in SEEDS]
    assert np.median(late) > 1.02


def test_fnh_takes_up_gadoxetate_and_the_others_do_not() -> None:
    def hepatobiliary(subtype: str) -> float:
        return float(median(subtype, agent="gadoxetate", diameter_mm=20.0)[HEPATOBILIARY])

    assert 0.95 < hepatobiliary("fnh_plain") < 1.5
    for subtype in ("hemangioma_typical", "hcc_classic", "metastasis_rim", "icc_rim", "cyst_simple"):
        assert hepatobiliary(subtype) < 0.8


# ---------------------------------------------------------------- metastasis, cholangiocarcinoma, cyst
@pytest.mark.parametrize("subtype", ["metastasis_rim", "icc_rim"])
def test_a_closed_rim_enhances_first(subtype: str) -> None:
    closed = []
    for seed in SEEDS:
        lesion = made(subtype, seed)
        centre = lesion.signal[lesion.depth < 0.35, ARTERIAL].mean()
        rim = lesion.depth > 0.8
        octant = (lesion.unit > 0.0) @ np.array([1, 2, 4])
        closed.append(
            all(lesion.signal[rim & (octant == k), ARTERIAL].mean() > 1.2 * centre for k in range(8))
        )
    assert np.mean(closed) > 0.9


def test_metastases_wash_out_at_the_periphery() -> None:
    lesions = [made("metastasis_rim", seed) for seed in SEEDS]
    rim, core = (
        np.median([m.relative(near(m.depth)) for m in lesions], axis=0)
        for near in (lambda depth: depth > 0.85, lambda depth: depth < 0.4)
    )
    assert rim[ARTERIAL] > 1.1
    assert rim[DELAYED] < 0.95
    assert core[ARTERIAL] < core[PORTAL] < core[DELAYED]
    assert core[PORTAL] < 0.85


def test_icc_enhances_progressively_in_its_centre() -> None:
    lesions = [made("icc_rim", seed) for seed in SEEDS]
    rim, core = (
        np.median([m.relative(near(m.depth)) for m in lesions], axis=0)
        for near in (lambda depth: depth > 0.88, lambda depth: depth < 0.4)
    )
    assert rim[ARTERIAL] > 1.1
    assert core[ARTERIAL] < 0.9
    assert core[ARTERIAL] < core[PORTAL] < core[DELAYED]
    assert core[DELAYED] > rim[DELAYED]


@pytest.mark.parametrize("subtype", ["metastasis_hypervascular", "icc_hypervascular"])
def test_hypervascular_forms_imitate_hcc(subtype: str) -> None:
    assert median(subtype)[ARTERIAL] > 1.15


@pytest.mark.parametrize("agent", list(TIMES))
def test_cysts_do_not_enhance(agent: str) -> None:
    lesion = made("cyst_simple", 0, agent=agent)
    np.testing.assert_allclose(lesion.signal, lesion.signal[:, :1].repeat(lesion.signal.shape[1], 1))
    assert lesion.relative()[PRE] < 0.35


# ---------------------------------------------------------------- T1 with agent
def t1_before_and_after(label: str) -> tuple[float, float]:
    """Mean over lesions before and 15 minutes after gadoxetate, ms."""
    cirrhosis, pairs = (0.5 if label == "hcc" else 0.0), []
    for seed in range(24):
        subtype = draw_subtype(np.random.default_rng([seed, 4]), label, 30.0, None, cirrhosis)
        t1_s = made(subtype, seed, agent="gadoxetate", cirrhosis=cirrhosis).t1_s
        pairs.append((t1_s[:, 0].mean(), t1_s[:, 5].mean()))
    before, after = 1e3 * np.mean(pairs, axis=0)
    return float(before), float(after)


@pytest.mark.parametrize(
    ("label", "published_ms"), [("hcc", 724.0), ("metastasis", 1033.0), ("cyst", 3671.0)]
)
def test_t1_fifteen_minutes_after_gadoxetate(label: str, published_ms: float) -> None:
    # means of EJRO 2020, 100312; 3 T and label dose assumed; hcc and cyst were fitted to nothing of it, and
    # hemangioma does not fit: lesions/hemangioma.py says why
    assert t1_before_and_after(label)[1] == pytest.approx(published_ms, rel=0.3)


def test_gadoxetate_shortens_t1_in_the_published_order() -> None:
    # 58 % in hemangioma, 41 and 31 % in metastasis and HCC (not significantly different), 3 % in cysts
    kept = {}
    for label in ("hemangioma", "metastasis", "hcc", "cyst"):
        before, after = t1_before_and_after(label)
        kept[label] = after / before
    assert kept["hemangioma"] < min(kept["metastasis"], kept["hcc"]) - 0.05
    assert max(kept["metastasis"], kept["hcc"]) < kept["cyst"] - 0.05


# ---------------------------------------------------------------- all
@pytest.mark.parametrize("subtype", EVERY)
def test_numbers_of_the_whole_lie_between_those_of_its_parts(subtype: str) -> None:
    lesion = made(subtype, 1)
    assert lesion.pattern.subtype == subtype
    assert len(lesion.pattern.parts) < 40
    used = [lesion.pattern.parts[k] for k in np.unique(lesion.part)]
    for name in ("t1_s", "flow_per_min", "arterial_fraction", "distribution_volume", "uptake_per_min"):
        values = [getattr(part, name) for part in used]
        assert min(values) - 1e-9 <= lesion.pattern.kinetics[name] <= max(values) + 1e-9
        if name == "distribution_volume":
            assert max(values) < 0.75
        if name == "t1_s":
            assert max(values) < 5.0


def test_every_class_is_described() -> None:
    assert set(LESION_CLASSES) == {"hemangioma", "hcc", "fnh", "metastasis", "icc", "cyst"}
    for label, subtypes in SUBTYPES.items():
        assert all(s.name.startswith(f"{label}_") and s.source and s.signs for s in subtypes)
        assert set(LESION_CLASSES[label].forms) == {s.name for s in subtypes}
        for diameter in (5.0, 60.0):
            assert sum(s.weight(diameter) for s in subtypes) == pytest.approx(1.0, abs=1e-9)
