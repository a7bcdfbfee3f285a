"""Gathered records become tables and a page; rows stand where their number is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.errors import UserError
from mtinet.experiments.catalogue import EXPERIMENTS
from mtinet.experiments.gather import Gathered, gather
from mtinet.experiments.plan import Axis, Choice, Experiment, plan
from mtinet.experiments.report import row_records, write_report


@pytest.fixture
def gathered(pair: Experiment, fast: Choice, finished) -> Gathered:
    return gather(plan(pair, fast), finished[1])


def test_the_report_compares_every_row_with_the_reference(gathered: Gathered, tmp_path: Path):
    page = write_report(gathered, tmp_path, latex=True)
    text = page.read_text(encoding="utf-8")
    assert "No TDD" in text
    assert "Does the discriminator matter?" in text
    assert {
        "results.csv",
        "results.md",
        "results.tex",
        "experiment.json",
        "checklists.md",
        "report.html",
    } == {path.name for path in tmp_path.iterdir()}
    described = json.loads((tmp_path / "experiment.json").read_text())
    assert described["reference"] == "full"
    table = pd.read_csv(tmp_path / "results.csv")
    assert {"full", "no-tdd"} <= set(table["row"])
    dice = [
        s.dice
        for r in gathered.records["no-tdd"]
        for s in r.scorings[0].studies
        if s.dice is not None and s.volume_ml
    ]
    own = table[(table["row"] == "no-tdd") & (table["endpoint"] == "dice")]
    assert own["value"].iloc[0] == pytest.approx(sum(dice) / len(dice), rel=1e-4)


def test_without_the_reference_nothing_is_compared(gathered: Gathered, tmp_path: Path):
    lacking = replace(gathered, records={"no-tdd": gathered.records["no-tdd"]})
    with pytest.raises(UserError, match="full has no finished run"):
        write_report(lacking, tmp_path)


def numbers(gathered: Gathered, axis: Axis, **changes: object) -> dict[str, float | None]:
    experiment = gathered.plan.experiment
    rows = (replace(experiment.rows[0], **changes), experiment.rows[1])
    moved = replace(
        gathered, plan=replace(gathered.plan, experiment=replace(experiment, rows=rows, axis=axis))
    )
    return {row.name: row.number for row in row_records(moved)}


def test_a_row_stands_where_its_setting_is(gathered: Gathered):
    depth = gathered.records["full"][0].config.head.depth
    found = numbers(gathered, Axis("config", "head.depth", "blocks"))
    assert found == {"full": depth, "no-tdd": depth}
    learned = numbers(gathered, Axis("learning", "patients", ""), learning=LearningVariation(patients=20))
    assert learned == {"full": 20, "no-tdd": None}


def test_a_row_stands_where_its_runs_are(gathered: Gathered):
    # of so many patients it learned, whatever it asked for: ten of the twelve of the cohort
    found = numbers(gathered, Axis("run", "training_patients", ""))
    assert found["full"] == found["no-tdd"]
    assert 8 <= found["full"] <= 10
    assert numbers(gathered, Axis("run", "unheard", "")) == {"full": None, "no-tdd": None}


def test_what_an_experiment_asks_to_be_described_is_in_its_tables(gathered: Gathered, tmp_path: Path):
    experiment = replace(gathered.plan.experiment, described=("volume_bias_ml",))
    page = write_report(replace(gathered, plan=replace(gathered.plan, experiment=experiment)), tmp_path)
    assert "Volume, predicted" in page.read_text(encoding="utf-8")
    assert "volume_bias_ml" in set(pd.read_csv(tmp_path / "results.csv")["endpoint"])


def test_a_scoring_stands_on_the_axis_of_what_alone_it_changes(gathered: Gathered):
    scorings = (ScoringVariation(noise=0.1), ScoringVariation(heterogeneity=0.2))
    found = numbers(gathered, Axis("scoring", "noise", ""), scorings=scorings)
    assert sorted(found.items(), key=lambda item: str(item)) == sorted(
        {
            "full": 0.0,
            "no-tdd": 0.0,
            f"full {scorings[0].name}": 0.1,
            f"full {scorings[1].name}": None,
        }.items(),
        key=lambda item: str(item),
    )


def test_every_axis_of_the_catalogue_is_one_on_which_rows_differ(gathered: Gathered):
    for experiment in EXPERIMENTS.values():
        if experiment.axis is not None and experiment.axis.of != "run":
            everything = Gathered(
                plan(experiment, sites=("A", "B")),
                {row.name: gathered.records["full"] for row in experiment.rows},
                {},
                (),
            )
            assert len({row.number for row in row_records(everything)} - {None}) > 1, experiment.name
