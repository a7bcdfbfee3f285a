"""The README's results table is what the files under docs/results make."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from mtinet.config.comparison import ComparisonSettings
from mtinet.errors import UserError
from mtinet.evaluation.comparison import compare
from mtinet.evaluation.pooling import RowRecords
from mtinet.reporting.experiment import ExperimentResults, write_tables

ROOT = Path(__file__).parents[1]
EMPTY = "# x\n\n<!-- results:begin -->\n<!-- results:end -->\n\nend\n"


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("results_table")
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture
def page(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(EMPTY, encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def written(tmp_path_factory, record_maker):
    """The tables of one experiment."""
    folder = tmp_path_factory.mktemp("results")
    make = record_maker(patients=18)
    rows = (
        RowRecords("full", "MTI-Net", make.row(0)),
        RowRecords("unet", "BasicUNet | small", make.row(1, dice=-0.2, classes=False)),
        RowRecords("late", "Late", make.row(2, converged=False)),
    )
    comparison = compare(rows, "full", settings=ComparisonSettings(permutations=199, bootstrap=50))
    experiment = ExperimentResults("baselines", "MTI-Net and others", "Who is ahead?", comparison, rows)
    write_tables(experiment, folder / "baselines")
    return folder


@pytest.fixture
def results(tmp_path, written):
    return shutil.copytree(written, tmp_path / "results")


def test_the_committed_readme_is_up_to_date(tool):
    assert not tool.drifted(tool.README, tool.RESULTS)


def test_while_nothing_is_measured_the_page_says_so_or_stays_as_it_is(tool, page, tmp_path):
    tool.update(page, tmp_path / "none")
    assert tool.NOT_MEASURED in page.read_text(encoding="utf-8")
    page.write_text("no markers", encoding="utf-8")
    assert not tool.drifted(page, tmp_path / "none")
    tool.update(page, tmp_path / "none")
    assert page.read_text(encoding="utf-8") == "no markers"


def test_the_table_holds_every_row_with_its_verdict(tool, page, results):
    assert tool.drifted(page, results)
    tool.update(page, results)
    assert not tool.drifted(page, results)
    lines = page.read_text(encoding="utf-8").splitlines()
    unet = next(line for line in lines if "BasicUNet \\| small" in line)
    assert ", worse |" in unet
    assert unet.rstrip(" |").endswith("–")  # it has no class
    late = next(line for line in lines if line.startswith("| Late"))
    assert "not converged" in late
    assert ", no claim" in late
    assert any(line.startswith("| MTI-Net (reference)") for line in lines)


def test_an_edited_number_is_drift(tool, page, results):
    tool.update(page, results)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("0.", "1.", 1), encoding="utf-8")
    assert tool.drifted(page, results)


def test_results_without_a_place_for_them_and_newer_files_are_refused(tool, page, results):
    page.write_text("no markers", encoding="utf-8")
    with pytest.raises(UserError, match="results:begin"):
        tool.update(page, results)
    described = results / "baselines" / "experiment.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), "format": 99}), encoding="utf-8")
    page.write_text(EMPTY, encoding="utf-8")
    with pytest.raises(UserError, match="newer"):
        tool.update(page, results)
