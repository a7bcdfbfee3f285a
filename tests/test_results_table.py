"""The README's results table is what the files under docs/results make."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mtinet.config.comparison import ComparisonSettings
from mtinet.errors import UserError
from mtinet.evaluation.comparison import compare
from mtinet.evaluation.pooling import RowRecords
from mtinet.experiments.catalogue import EXPERIMENTS
from mtinet.experiments.plan import Choice, plan
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


def test_rows_on_fewer_folds_are_told_apart(tool, tmp_path, record_maker):
    make = record_maker(patients=18)
    rows = (
        RowRecords("full", "MTI-Net", make.row(0), cells=("a", "b")),
        RowRecords("half", "Half", make.row(1, folds=(1,)), cells=("c", "d")),
    )
    comparison = compare(rows, "full", settings=ComparisonSettings(permutations=199, bootstrap=50))
    write_tables(ExperimentResults("baselines", "t", "q?", comparison, rows), tmp_path / "baselines")
    text = tool.block(tmp_path)
    assert "| MTI-Net (reference) | 18 |" in text
    assert "| Half (unfinished, 1 of 2 runs) | 9 |" in text
    assert ", no claim" in text
    assert "compare only where their patients are the same" in text
    write_tables(
        ExperimentResults("baselines", "t", "q?", compare(rows[:1], "full"), rows[:1]), tmp_path / "baselines"
    )
    assert "compare only" not in tool.block(tmp_path)


@pytest.mark.slow
def test_a_campaign_that_is_half_done_gives_its_table(tool, page, tmp_path, record_maker):
    """As at its first commits: records of some rows and folds, no cohort, no run, other code by now."""
    planned = plan(EXPERIMENTS["baselines"], Choice(preset="tiny", folds=(0, 1, 2, 3, 4)))
    runs = tmp_path / "results" / "runs"
    make = record_maker(patients=25, folds=5)
    for number, (row, folds) in enumerate(
        {"mtinet": range(5), "basic_unet": range(2), "dynunet": ()}.items()
    ):
        for record, cell in zip(make.row(number, classes=row == "mtinet"), planned.rows[row], strict=True):
            if cell.fold in folds:
                manifest = {**record.manifest, "content": "c", "virtual": True}
                made = record.model_copy(
                    update={"config": cell.config, "learning": cell.learning, "manifest": manifest}
                )
                made.write(runs / f"{record.id}.json")
    # records alone are no finished experiment: nothing has to be in the README yet
    assert tool.block(tmp_path / "results") == tool.NOT_MEASURED
    call = [sys.executable, "-m", "mtinet.cli", "experiment", "baselines", "--preset", "tiny"]
    call += [
        "--folds",
        "0,1,2,3,4",
        "--rows",
        "mtinet-paper,basic_unet,dynunet",
        "--records",
        runs,
        "--report",
        tmp_path / "results" / "baselines",
    ]
    done = subprocess.run(list(map(str, call)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Runs are missing: mtinet-paper (5 of 5), basic_unet (3 of 5), dynunet (5 of 5)" in done.stdout
    tool.update(page, tmp_path / "results")
    assert not tool.drifted(page, tmp_path / "results")
    text = page.read_text(encoding="utf-8")
    assert "virtual patients virtual" in text
    assert "| MTI-Net (reference) | 25 |" in text
    assert "| BasicUNet, signal under the mask, logistic regression (unfinished, 2 of 5 runs) | 10 |" in text
    assert not any(f", {verdict}" in text for verdict in ("better", "worse", "not distinguishable"))
    assert "supports no claim, in either direction" in text
    assert "DynUNet" not in text
    markdown = (tmp_path / "results" / "baselines" / "results.md").read_text(encoding="utf-8")
    assert "Virtual patients are not patients" in markdown
    assert "different folds" in markdown
    assert (
        "Without a finished run, so not in the tables: MTI-Net, plain reading of the paper, DynUNet"
        in markdown
    )


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
