"""Lesions behave as radiologists describe them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtinet.config import SiteSettings
from mtinet.phantom.circulation import circulation
from mtinet.phantom.lesions import (
    LESION_CLASSES,
    Ball,
    Host,
    LesionClassError,
    Pattern,
    check_classes,
    make_ball,
)
from mtinet.phantom.shapes import Grid
from mtinet.phantom.tissues import Tissue, concentrations, relative_signals

GRID = Grid((56, 56, 56), (1.25, 1.25, 1.25))
SITE = SiteSettings(name="A")
TYPICAL = Host(3.0, atypical_fraction=0.0)
FLOW = circulation(
    {"arrival_s": 10.0, "stretch": 1.0, "scale": 1.0, "gut_transit_s": 9.0, "hct": 0.42}, 0.1, 600.0
)
LIVER = Tissue("liver", 0.809, flow_per_min=0.44, arterial_fraction=0.22, distribution_volume=0.20)
TIMES = [0.0, 22.0, 65.0, 180.0, 600.0]


def _make(label: str, seed: int, diameter_mm: float = 30.0, host: Host = TYPICAL) -> tuple[Ball, Pattern]:
    rng = np.random.default_rng(seed)
    ball = make_ball(rng, GRID, (0.0, 0.0, 0.0), diameter_mm, 0.1)
    return ball, LESION_CLASSES[label](rng, GRID, ball, host)


def _signal(pattern: Pattern) -> np.ndarray:
    """Signal over the ball's box at each of TIMES, in units of the unenhanced liver; time last."""
    conc = concentrations(pattern.parts, FLOW, LIVER, TIMES)
    return relative_signals(pattern.parts, conc, SITE)[pattern.chosen]


def _liver_signal() -> np.ndarray:
    return relative_signals([LIVER], concentrations([LIVER], FLOW, LIVER, TIMES), SITE)[0]


@pytest.mark.parametrize("diameter", [8.0, 20.0, 40.0])
def test_ball_keeps_its_volume_whatever_its_bumps(diameter: float) -> None:
    for seed in range(5):
        ball = make_ball(np.random.default_rng(seed), GRID, (1.0, -2.0, 0.5), diameter, 0.13)
        volume = np.count_nonzero(ball.depth <= 1.0) * 1.25**3
        assert volume == pytest.approx(np.pi / 6.0 * diameter**3, rel=0.12)


def test_hemangiomas_fill_in_from_the_rim() -> None:
    for seed in range(8):
        ball, pattern = _make("hemangioma", seed)
        assert pattern.subtype == "hemangioma_typical"
        signal = _signal(pattern)
        core, rim = signal[ball.depth < 0.35], signal[(ball.depth > 0.7) & (ball.depth <= 1.0)]
        assert rim[:, 1].mean() > 1.2 * core[:, 1].mean()
        # the rim is uneven early: nodules, not a ring
        assert rim[:, 1].std() > 0.15 * rim[:, 1].mean()
        filled = core.mean(axis=0) / rim.mean(axis=0)
        assert filled[1] < filled[2] < filled[3] < filled[4]


def test_hemangiomas_stay_brighter_than_liver() -> None:
    late = [
        _signal(p)[b.depth <= 1.0][:, 4].mean() for b, p in (_make("hemangioma", s, 20.0) for s in range(12))
    ]
    assert np.median(late) > 1.05 * _liver_signal()[4]


def test_classic_hcc_enhances_early_and_washes_out() -> None:
    liver = _liver_signal()
    signals = []
    for seed in range(30):
        ball, pattern = _make("hcc", seed, 20.0)
        assert pattern.subtype == "hcc_classic"
        signals.append(_signal(pattern)[ball.depth <= 0.7].mean(axis=0))  # a reader leaves out the capsule
    pre, arterial, _, delayed, _ = np.median(signals, axis=0)
    assert pre < liver[0]
    assert arterial > 1.15 * liver[1]
    assert 100.0 < 100.0 * liver[3] / delayed < 130.0  # published median: 113 to 116


def test_some_hcc_have_a_capsule_that_is_bright_late() -> None:
    made = [_make("hcc", seed) for seed in range(20)]
    capsules = [(ball, pattern) for ball, pattern in made if "capsule_mm" in pattern.kinetics]
    assert 4 <= len(capsules) <= 18
    for ball, pattern in capsules:
        signal = _signal(pattern)[..., 3]
        assert signal[(ball.depth > 0.95) & (ball.depth <= 1.0)].mean() > signal[ball.depth < 0.7].mean()


def test_atypical_forms_come_at_their_rate_and_overlap_the_other_class() -> None:
    always = replace(TYPICAL, atypical_fraction=1.0)
    subtypes = {
        label: {_make(label, s, 15.0, always)[1].subtype for s in range(30)} for label in LESION_CLASSES
    }
    assert subtypes["hemangioma"] == {"hemangioma_flash", "hemangioma_sclerosed"}
    assert subtypes["hcc"] == {"hcc_no_washout", "hcc_hypovascular"}
    half = replace(TYPICAL, atypical_fraction=0.5)
    share = np.mean([_make("hcc", s, 10.0, half)[1].subtype != "hcc_classic" for s in range(200)])
    assert share == pytest.approx(0.5, abs=0.12)


def test_unknown_classes_are_refused_with_the_valid_ones() -> None:
    with pytest.raises(LesionClassError, match=r"'fnh'.*valid: hemangioma, hcc"):
        check_classes(("hcc", "fnh"))
