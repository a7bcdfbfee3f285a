"""Phases of a table: reading it, the JSON, and the figures on real series lists."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtinet.cli import app
from mtinet.config import PHASES
from mtinet.errors import UserError
from mtinet.workflows.phases import identify_phases, read_series_table, to_json

HEADER = "StudyKey,SeriesInstanceUID,SeriesDescription,SeriesNumber,NumberOfInstances\n"
ROWS = ["pre", "art", "portal", "3 min"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "series.csv"
    rows = [f"007,1.2.{n},Ax LAVA {name},00{n},96\n" for n, name in enumerate(ROWS, start=1)]
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


def test_every_cell_is_text(table):
    (study,) = read_series_table(table).values()
    assert study[0].study_key == "007"
    assert study[0].series_number == "001"


def test_the_json_is_what_programs_were_promised(table, tmp_path):
    out = tmp_path / "phases.json"
    result = CliRunner().invoke(app, ["phases", str(table), "--json", str(out)])
    assert result.exit_code == 0
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["schema"] == 1
    study = written["007"]
    assert set(study) == {*PHASES, "missing", "excluded"}
    assert study["pre"]["series"] == "001"
    assert set(study["pre"]) == {"series", "series_uid", "volume", "n_volumes", "confidence", "evidence"}
    assert study["hepatobiliary"] is None
    assert "portal_venous" in result.stdout


def test_the_order_of_the_rows_is_no_evidence(table):
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    first = to_json(identify_phases(table)[0])
    table.write_text(lines[0] + "".join(reversed(lines[1:])), encoding="utf-8")
    assert to_json(identify_phases(table)[0]) == first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("StudyKey,SeriesInstanceUID\n1,2\n", "SeriesDescription"),
        (HEADER + "1,2,vibe,3,many\n", "line 2"),
        ("", "no row"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_series_table(path)


@pytest.mark.parametrize(
    ("text", "expected"), [("101530.25", 36930.25), ("10:15:30", 36930.0), ("", None), ("about ten", None)]
)
def test_a_table_may_hold_times(tmp_path, text, expected):
    path = tmp_path / "timed.csv"
    path.write_text(HEADER.strip() + f",SeriesTime\n1,2,vibe,3,96,{text}\n", encoding="utf-8")
    assert read_series_table(path)["1"][0].time_s == expected


@pytest.mark.reference
def test_real_series_lists(reference_folder, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    benchmark = importlib.import_module("phase_figures")
    folder = reference_folder / "series_tables"
    studies = read_series_table(folder / "tcga_lihc_dev.csv")
    expected = json.loads((folder / "tcga_lihc_dev_expected.json").read_text(encoding="utf-8"))
    figures = benchmark.figures(studies, expected, shuffles=10)
    confident = "wrong while stated > 0.8"
    plain, deleted, others = (figures[name] for name in ("as it is", benchmark.DELETED, benchmark.LEFT))
    assert plain["right"] >= 0.95 * plain["total"]
    assert deleted["empty"] >= 0.9 * deleted["total"] > 0
    assert others["unchanged"] >= 0.9 * others["total"] > 0
    for name in ("as it is", benchmark.DELETED, benchmark.LEFT, "generic names", "shuffled numbers"):
        assert figures[name][confident] <= 0.02 * figures[name]["total"], name
    assert figures["generic names"]["right"] >= 0.9 * figures["generic names"]["total"]
    told, alike = (figures[f"shuffled numbers, {part}"] for part in ("decidable", "alike but for numbers"))
    assert told["right"] >= 0.95 * told["total"]
    assert told["wrong"] <= 0.02 * told["total"]
    assert alike["missed"] >= 0.75 * alike["total"]  # nothing tells them apart: the right answer is none
    assert told["total"] + alike["total"] == figures["shuffled numbers"]["total"]
    sys.modules.pop("phase_figures", None)
