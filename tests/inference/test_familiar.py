from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtinet.inference.familiar import Familiarity, Look

PHASES = ("pre", "arterial", "portal_venous", "delayed")


def look(rng: np.random.Generator, *, missing: int | None = None) -> Look:
    """A study of a world in which phases are different and one number a study moves them all."""
    own = rng.standard_normal()
    description = np.arange(4)[:, None] * np.ones(10) + 0.3 * own + 0.2 * rng.standard_normal((4, 10))
    noise = -4 + 0.1 * rng.standard_normal(4)
    change = np.array([1.0, 0.2, -0.2])[:, None] + 0.1 * rng.standard_normal((3, 4))
    if missing is not None:
        description[missing], noise[missing] = np.nan, np.nan
        change[max(missing - 1, 0) : missing + 1] = np.nan
    return Look(description, noise, change, 0.0, 1.1 + 0.01 * rng.random())


def looks(seed: int, n: int) -> list[Look]:
    rng = np.random.default_rng(seed)
    return [look(rng, missing=int(rng.integers(1, 4)) if i % 20 == 0 else None) for i in range(n)]


@pytest.fixture(scope="module")
def familiarity() -> Familiarity:
    return Familiarity.fit(looks(0, 200), looks(1, 400), PHASES)


def test_studies_like_the_calibration_ones_pass(familiarity: Familiarity):
    flagged = [bool(familiarity.findings(one, "s")) for one in looks(2, 1000)]
    assert np.mean(flagged) < 0.05


def test_studies_without_a_phase_have_the_same_limit(familiarity: Familiarity):
    rng = np.random.default_rng(3)
    distances = [familiarity.distance(look(rng, missing=2)) for _ in range(400)]
    assert np.mean(np.array(distances) > familiarity.distance_limit) < 0.05
    assert abs(np.median(distances)) < 1


def strange(one: Look, kind: str) -> Look:
    if kind == "exchanged":
        order = [0, 2, 1, 3]
        return replace(one, description=one.description[order], change=one.change * (-1, 1, 1, 1))
    if kind == "noisy":
        return replace(one, noise=one.noise + 2)
    if kind == "elsewhere":
        return replace(one, description=one.description + 5 * np.random.default_rng(0).standard_normal(10))
    return replace(one, **{kind: {"empty": 0.3, "darkest": 0.8}[kind]})


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("exchanged", "unlike"),
        ("noisy", "noise of"),
        ("elsewhere", "looks to the network"),
        ("empty", "30% of a phase's slices hold nothing"),
        ("darkest", "darker in a later phase"),
    ],
)
def test_what_is_strange_is_flagged_with_the_reason(familiarity: Familiarity, kind, said):
    (finding, *_) = familiarity.findings(strange(looks(4, 2)[1], kind), "s7")
    assert (finding.id, finding.case, finding.severity) == ("unfamiliar-study", "s7", "warning")
    assert said in finding.meaning
    assert finding.value is not None


def test_an_image_without_a_body_is_flagged(familiarity: Familiarity):
    one = looks(5, 2)[1]
    blank = replace(
        one, noise=one.noise * np.nan, change=one.change * np.nan, description=one.description * 0 - 9
    )
    assert familiarity.findings(blank, "s")


def test_it_is_the_same_after_json(familiarity: Familiarity):
    again = Familiarity.from_dict(familiarity.to_dict())
    for one in looks(6, 30):
        assert again.distance(one) == familiarity.distance(one)
        assert again.findings(one, "s") == familiarity.findings(one, "s")


def test_few_calibration_studies_flag_only_what_lies_beyond_them_all():
    few = looks(7, 6)
    fitted = Familiarity.fit(few[:3], few[3:], PHASES)
    assert not any(fitted.findings(one, "s") for one in few[3:])
