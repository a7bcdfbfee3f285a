"""The script behind docs/certainty.md: what its tables count, and that studies are made strange as it says."""

from __future__ import annotations

import importlib
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mtinet.config import resolve
from mtinet.data.prepared import PreparedStudy
from mtinet.evaluation.conformal import ClassSets, Difficulty, Intervals
from mtinet.files import plain
from mtinet.inference.certainty import Calibration
from mtinet.inference.familiar import Familiarity, Look
from mtinet.results import Lesion
from mtinet.workflows.calibrate import LesionCase, StudyCase, divide, fit_calibration
from mtinet.workflows.prepare import prepare

ROOT = Path(__file__).parents[1]
PHASES = ("pre", "arterial")


@pytest.fixture(scope="module")
def benchmark():
    """Import a script by name, as it is when it is run: its folder comes first."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "benchmarks"))


def look(rng: np.random.Generator) -> Look:
    change = 0.3 + 0.1 * rng.standard_normal((1, 4))
    return Look(rng.standard_normal((2, 5)), rng.standard_normal(2), change, 0.0, 1.2)


def case(rng: np.random.Generator, number: int) -> StudyCase:
    """A study whose errors grow with doubt, and are larger where hcc is read."""
    label = ("hemangioma", "hcc")[number % 2]
    right = float(np.clip(rng.normal(0.8, 0.15), 0.01, 0.99))
    other = "hcc" if label == "hemangioma" else "hemangioma"
    probabilities = {"hemangioma": 0.0, "hcc": 0.0} | {label: right, other: 1 - right}
    doubt = rng.uniform(0.02, 0.2)
    spread = doubt * (3 if probabilities["hcc"] > 0.5 else 1)
    volume = 1000 * math.exp(spread * rng.standard_normal())
    signal = {"pre": 300.0, "arterial": 500.0}
    lesion = Lesion(
        1,
        volume,
        12.0,
        (0, 0, 0),
        1 - doubt,
        probabilities,
        {p: s + 100 * spread * rng.standard_normal() for p, s in signal.items()},
        {},
        {},
    )
    real = LesionCase(lesion, label, True, 1000.0, signal)
    false = LesionCase(
        Lesion(2, 200.0, 7.0, (0, 0, 0), 0.6, lesion.probabilities, signal, {}, {}), "", False, math.nan, {}
    )
    return StudyCase(f"s{number}", f"p{number}", "AB"[number % 3 == 0], 500.0, (real, false), look(rng))


@pytest.fixture(scope="module")
def cases() -> list[StudyCase]:
    rng = np.random.default_rng(0)
    return [case(rng, number) for number in range(2000)]


def predictor() -> SimpleNamespace:
    return SimpleNamespace(
        classes=("hemangioma", "hcc"), facts={"digest": "w"}, config=SimpleNamespace(phases=PHASES)
    )


@pytest.mark.slow
def test_coverage_over_divisions_is_the_nominal_one(benchmark, cases):
    tables = benchmark("certainty_tables")
    rows = tables.split_rows(predictor(), cases[:1000], cases[1000:], 0.9)
    means = {(r["what"], r["group"]): r["value"] for r in rows}
    groups = {"all", "class hemangioma", "class hcc"}
    assert {group for _, group in means} == groups | {f"{group}, one width" for group in groups}
    for value in [value for (_, group), value in means.items() if group in groups]:
        assert value == pytest.approx(0.9, abs=0.04)  # 1000 and 1000 patients


@pytest.mark.slow
def test_intervals_go_by_predicted_class_and_by_doubt_as_the_first_part_has_it(benchmark, cases):
    tables = benchmark("certainty_tables")
    fitted = fit_calibration(cases[:1000], predictor(), 0.9, 0)
    first, second = divide(cases[:1000], 0)
    wrong = [c for c in second if c.main.label != c.main.lesion.label]
    assert wrong  # else groups by the true class would pass
    for name in ("hemangioma", "hcc"):
        read = [c for c in second if c.main.lesion.label == name]
        assert (
            len(fitted.volume.residuals[name])
            == len(read)
            != len([c for c in second if c.main.label == name])
        )
    assert fitted.volume.residuals[""] == ()
    errors = np.array([math.log(c.main.lesion.volume_mm3 / c.main.volume_mm3) for c in first])
    doubts = np.array([1 - c.main.lesion.confidence for c in first])
    assert fitted.volume.difficulty == Difficulty.fit(errors, doubts)
    assert fitted.volume.difficulty.exponent == pytest.approx(1, abs=0.3)

    sure = cases[0].main.lesion
    benign = replace(sure, confidence=0.95, probabilities={"hemangioma": 0.9, "hcc": 0.1})
    malign = replace(benign, probabilities={"hemangioma": 0.1, "hcc": 0.9})
    one, three = (fitted.half_widths(lesion)[0] for lesion in (benign, malign))
    assert three / one == pytest.approx(3, rel=0.25)

    # the coverage over all lesions is that of one width; among the doubtful it is not
    rows = tables.split_rows(predictor(), cases[:1000], cases[1000:], 0.9)
    means = {(r["what"], r["group"]): r["value"] for r in rows}
    assert means["volume interval", "all, one width"] == pytest.approx(0.9, abs=0.03)
    assert means["volume interval", "class hcc, one width"] < 0.87
    assert means["volume interval", "class hemangioma, one width"] > 0.93


def test_sizes_and_widths_are_those_of_the_calibration(benchmark, cases):
    tables = benchmark("certainty_tables")
    fitted = fit_calibration(cases[:1000], predictor(), 0.9, 0)
    (*_, pre, arterial) = tables.size_rows(fitted, "1000 patients", cases[1000:])
    assert (pre["what"], arterial["what"]) == ("pre interval", "arterial interval")
    assert pre["value"] == pytest.approx(0.9, abs=0.04)
    assert pre["low"] < pre["value"] < pre["high"]
    (volume, *_) = tables.width_rows(fitted, "all", [c.main.lesion for c in cases[1000:]])
    widths = [math.exp(fitted.half_widths(c.main.lesion)[0]) for c in cases[1000:]]
    assert volume["value"] == pytest.approx(np.median(widths))
    assert volume["low"] < volume["value"] < volume["high"]


def test_what_is_counted_as_covered(benchmark, cases):
    tables = benchmark("certainty_tables")
    never = Calibration(
        method="m",
        coverage=0.5,
        temperature=1.0,
        existence=None,
        class_sets=ClassSets({"hemangioma": (0.0,) * 50, "hcc": (1.0,) * 50}),
        volume=Intervals({"": (0.0,) * 50}),
        enhancement={"pre": Intervals({"": (9.0,) * 50}), "arterial": Intervals({"": (0.0,) * 50})},
        familiarity=Familiarity.fit([c.look for c in cases[:50]], [c.look for c in cases[50:90]], PHASES),
        counts={},
    )
    rows = tables.coverage_rows(never, cases[:40], ("hemangioma", "hcc"))
    share = {(r["what"], r["group"]): r["value"] for r in rows if r["table"] == "coverage"}
    assert share["class set", "class hcc"] == 1
    assert share["class set", "class hemangioma"] == 0
    assert share["class set", "all"] == 0.5
    assert share["volume interval", "all"] == 0
    assert share["pre interval", "all"] == 1
    assert share["arterial interval", "all"] == 0
    sizes = {r["what"]: r["value"] for r in rows if r["table"] == "set size" and r["group"] == "all"}
    assert sizes["mean size"] == 1
    assert sizes["one class"] == 1


def test_cases_survive_their_file(benchmark, cases, tmp_path):
    kept = benchmark("certainty_cases")
    back = kept._case(plain(asdict(cases[0])))
    assert back.lesions[0] == cases[0].lesions[0]
    assert math.isnan(back.lesions[1].volume_mm3)
    assert np.array_equal(back.look.description, cases[0].look.description)

    made = []
    studies = [SimpleNamespace(study_id=f"s{i}") for i in range(4)]
    path = tmp_path / "cases.jsonl"

    def make(study):
        made.append(study.study_id)
        return {"id": study.study_id}

    kept.kept(path, studies[:2], make)
    path.write_text(path.read_text() + '{"study_id": "s2", "va')  # killed while writing
    assert [v["id"] for v in kept.kept(path, studies, make)] == ["s0", "s1", "s2", "s3"]
    assert made == ["s0", "s1", "s2", "s3"]


@pytest.fixture
def study(toy_cohort, tmp_path) -> PreparedStudy:
    return prepare(toy_cohort.subset(["s0"]), resolve("tiny"), tmp_path / "cache", workers=1).studies[0]


def test_strange_studies_are_what_their_name_says(benchmark, study: PreparedStudy):
    strange = benchmark("strange_studies")
    rng = np.random.default_rng(0)
    original = np.array(study.image)

    swapped = np.array(strange.exchanged(study, rng).image)
    moved = [i for i in range(4) if np.corrcoef(swapped[i].ravel(), original[i].ravel())[0, 1] < 0.999]
    assert len(moved) == 2

    empty = np.array(strange.with_empty_slices(study, rng).image)
    count = (empty.reshape(4, empty.shape[1], -1).max(-1) == 0).sum()
    assert count == round(strange.EMPTY_SHARE * empty.shape[1])

    bare = np.array(strange.without_agent(study, rng).image)
    assert bare[3].mean() == pytest.approx(bare[0].mean(), rel=0.05)

    noisy = np.array(strange.with_noise(study, rng, 0.2).image)
    assert (noisy - original).std() > 0.1

    for name in ("head", "thighs"):
        drawn = np.array(getattr(strange, name)(study, rng).image)
        assert drawn.shape == original.shape
        assert abs(np.corrcoef(drawn[0].ravel(), original[0].ravel())[0, 1]) < 0.9
    assert np.array_equal(study.image, original)


def test_the_page_has_a_place_for_every_table(benchmark):
    tables = benchmark("certainty_tables")
    page = (ROOT / "docs" / "certainty.md").read_text(encoding="utf-8")
    for name in tables.tables([]):
        assert page.count(f"<!-- {name}:begin -->") == page.count(f"<!-- {name}:end -->") == 1
