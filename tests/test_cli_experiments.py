"""The commands on many runs, as a user gives them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FAST = [
    part
    for setting in (
        "training.steps=4",
        "training.validate_every=2",
        "training.log_every=1",
        "evaluation.bootstrap=10",
    )
    for part in ("--set", setting)
]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, toy_cohort_writer) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "cohort"
    toy_cohort_writer(folder, 12)
    return folder


def mtinet(*words: object) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "mtinet.cli", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def test_the_experiments_are_listed_with_their_questions():
    done = mtinet("experiment", "--list")
    assert done.returncode == 0, done.stderr
    for name in ("ablation", "baselines", "synergy", "tim-bias", "sites"):
        assert f"{name} (" in done.stdout


def test_an_unknown_experiment_names_those_that_there_are(cohort: Path, tmp_path: Path):
    refused = mtinet("experiment", "ablations", cohort, "-o", tmp_path / "out")
    assert refused.returncode == 2
    assert "there are baselines, tuning, ablation" in refused.stderr


@pytest.mark.slow
def test_a_folder_of_records_that_is_none_is_named(tmp_path: Path):
    report = ["--report", tmp_path / "out"]
    absent = mtinet("experiment", "baselines", "--records", tmp_path / "nope", *report)
    assert absent.returncode == 2
    assert "nope is no folder of records" in absent.stderr
    budget = mtinet("experiment", "baselines", "--records", tmp_path, *report, "--budget")
    assert budget.returncode == 2
    assert "give a cohort and --out" in budget.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_experiment_ends_with_its_page_and_is_not_run_twice(cohort: Path, tmp_path: Path):
    out = tmp_path / "campaign"
    given = ["experiment", "depth", cohort, "-o", out, "--preset", "tiny", *FAST]
    given += ["--rows", "depth-0", "--folds", "0", "--json"]
    done = mtinet(*given)
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert set(first["outcomes"].values()) == {"done"}
    assert (out / "report.html").is_file()
    assert len(list((out / "records").glob("*.json"))) == len(first["outcomes"])
    refused = mtinet(*given)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    again = mtinet(*given, "--resume")
    assert set(json.loads(again.stdout)["outcomes"].values()) == {"skipped"}


@pytest.mark.slow
def test_crossval_scores_everybody_once(cohort: Path, tmp_path: Path):
    done = mtinet("crossval", cohort, "-o", tmp_path / "cv", "--preset", "tiny", *FAST, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["summary"]["studies"] == 12
    assert set(said["outcomes"].values()) == {"done"}
    assert all(f["severity"] != "error" for f in said["findings"])


@pytest.mark.slow
def test_a_failed_crossval_is_a_document_too(cohort: Path, tmp_path: Path):
    out = tmp_path / "cv"
    out.mkdir()
    (out / "runs").write_text("where the folders of the runs have to be")
    done = mtinet("crossval", cohort, "-o", out, "--preset", "tiny", *FAST, "--json")
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert said["summary"] is None
    assert set(said["outcomes"].values()) == {"failed"}
    assert [f["id"] for f in said["findings"]] == ["run-failed"] * 5


@pytest.mark.slow
def test_a_budget_is_one_document_with_what_was_found(tmp_path: Path, toy_cohort_writer):
    toy_cohort_writer(tmp_path / "cohort", 12)
    broken = sorted((tmp_path / "cohort").rglob("*.nii.gz"))[0]
    broken.write_bytes(b"no image")
    given = ["experiment", "depth", tmp_path / "cohort", "-o", tmp_path / "out", "--preset", "tiny", *FAST]
    done = mtinet(*given, "--rows", "depth-0", "--folds", "0", "--budget", "--json")
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert any(f["severity"] == "error" for f in said["findings"])
    assert said["runs"] == sum(row["runs"] for row in said["rows"])
    assert said["seconds"] == pytest.approx(sum(row["seconds"] for row in said["rows"]))
    assert said["seconds"] > 0
