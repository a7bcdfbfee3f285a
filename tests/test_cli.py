from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import typer
import yaml

from mtinet.cli.base import exit_for, show
from mtinet.results import Finding

SMALL = (
    "--set",
    "training.steps=3",
    "--set",
    "training.validate_every=0",
    "--set",
    "training.checkpoint_every=2",
)


def mtinet(*words: str, **options) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-c", "from mtinet.cli import main; main()", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, **options)


def test_help_teaches_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom mtinet.cli import app\n"
        "app(['experiment', '--list'], standalone_mode=False)\n"
        "names = {'torch', 'monai', 'scipy', 'pandas', 'matplotlib', 'SimpleITK', 'sklearn'}\n"
        "heavy = names & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = mtinet("--help").stdout
    assert "mtinet demo" in out
    assert "Research use only" in out


def test_commands_are_those_that_the_readme_names():
    out = mtinet("--help").stdout
    for name in (
        "simulate",
        "check",
        "prepare",
        "train",
        "evaluate",
        "predict",
        "report",
        "config",
        "cache",
        "doctor",
        "demo",
        "crossval",
        "experiment",
        "calibrate",
        "revise",
        "table1",
    ):
        assert f" {name} " in out


def test_settings_come_from_preset_file_and_assignment_in_that_order(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("head: {depth: 5, width: 32}\n")
    out = mtinet("config", "show", "--preset", "tiny", "--config", file, "--set", "head.depth=2").stdout
    values = yaml.safe_load(out)
    assert values["head"]["depth"] == 2
    assert values["head"]["width"] == 32
    assert values["training"]["steps"] == 12
    environment = {"PATH": "/usr/bin", "SEED": "5", "MODEL": "dynunet", "TRAINING": "x"}
    assert yaml.safe_load(mtinet("config", "show", env=environment).stdout)["model"] == "mtinet"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("config", "show", "--set", "head.dept=2"), "did you mean 'depth'"),
        (("config", "show", "--set", "head.depth=deep"), "head.depth"),
        (("config", "show", "--preset", "big"), "tiny, small, paper"),
        (("train", "nowhere", "--out", "x"), "nowhere"),
        (("evaluate", "nowhere"), "is not a run folder"),
        (("predict", "nowhere", "nowhere", "-o", "x"), "nowhere"),
        (("simulate", "x", "--sites", "A,Q"), "valid: A, B, C, D, E, F"),
        (("simulate", "x", "--classes", "wart"), "hemangioma"),
        (("simulate", "x", "--spacing", "2,wide"), "for example 2.5 or 2.5,2.5,5"),
        (("simulate", "x", "--agent", "wine"), "gadoxetate"),
        (("simulate", "x", "--preset", "huge"), "demo, paper, multicentre"),
        (
            ("revise", "x", "m", "--study", "s", "--model", "r", "-o", "o", "--label", "hcc"),
            "give --keep too",
        ),
    ],
)
def test_errors_name_the_cause_without_a_traceback(tmp_path: Path, words, said):
    done = mtinet(*words, cwd=tmp_path)
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_simulate_takes_preset_file_options_and_assignments_in_that_order(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text("{subjects: 9, seed: 9, extra_lesions: 0.0, breathing_mm: 0.0}\n")
    out = tmp_path / "out"
    done = mtinet(
        *("simulate", out, "--preset", "tiny", "--config", file, "--subjects", "8", "--seed", "8"),
        *("--sites", "B", "--classes", "cyst,fnh", "--agent", "gadoxetate", "--spacing", "8,8,12"),
        *("--missing-phase-rate", "0", "--readers", "2", "--workers", "1"),
        *("--set", "subjects=2", "--json"),
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["studies"], said["classes"], said["sites"]) == (2, ["cyst", "fnh"], ["B"])
    assert said["phases"][-1] == "hepatobiliary"
    assert said["findings"] == []  # of the series as DICOM, which were not asked for
    written = yaml.safe_load((out / "settings.yaml").read_text())
    assert (written["subjects"], written["seed"], written["extra_lesions"]) == (2, 8, 0.0)
    assert written["sites"][0]["spacing_mm"] == [8.0, 8.0, 12.0]
    assert (out / "images" / "v0000" / "mask_2.nii.gz").is_file()


def test_debug_shows_the_traceback(tmp_path: Path):
    assert "Traceback" in mtinet("--debug", "evaluate", "nowhere", cwd=tmp_path).stderr


@pytest.mark.slow
def test_what_is_printed_does_not_hang_on_the_encoding_of_stdout(toy_cohort):
    table = toy_cohort.folder / "cohort.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("s0,", "Łódź,", 1), encoding="utf-8")
    (toy_cohort.folder / "images" / "s0" / "delayed.nii.gz").unlink()
    narrow = {"env": {**os.environ, "PYTHONIOENCODING": "cp1252"}, "encoding": "cp1252"}
    document = mtinet("check", toy_cohort.folder, "--json", **narrow)
    assert document.returncode == 1, document.stderr
    assert "Łódź" in {finding["case"] for finding in json.loads(document.stdout)}
    text = mtinet("check", toy_cohort.folder, **narrow)
    assert text.returncode == 1, text.stderr
    assert r"\u0141ód\u017a: " in text.stdout


def test_a_document_has_no_number_that_json_lacks(capsys):
    show({"value": float("nan"), "path": Path("a")}, "", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"value": None, "path": "a"}


def test_config_diff_and_schema():
    assert "encoder.shared: True -> False" in mtinet("config", "diff", "small", "paper").stdout
    assert "properties" in json.loads(mtinet("config", "schema").stdout)


@pytest.mark.slow
def test_check_exit_code_is_1_on_errors_only(toy_cohort):
    good = mtinet("check", toy_cohort.folder, "--json")
    assert good.returncode == 0, good.stderr
    assert all(f["severity"] != "error" for f in json.loads(good.stdout))
    next(toy_cohort.folder.glob("images/*/delayed.nii.gz")).unlink()
    bad = mtinet("check", toy_cohort.folder)
    assert bad.returncode == 1
    assert "does not exist" in bad.stdout


def test_check_repeats_what_the_import_found(toy_cohort):
    lost = Finding("missing-slice", "import", "error", "a slice is missing", "Export it again.", "s0")
    (toy_cohort.folder / "import.json").write_text(json.dumps({"findings": [lost.to_dict()]}))
    told = mtinet("check", toy_cohort.folder, "--json")
    assert told.returncode == 0, "it will stay so, whatever is mended here"
    assert lost.to_dict() in json.loads(told.stdout)


def test_a_study_that_has_its_result_did_not_fail():
    truncated = Finding("unusable-image", "import", "error", "an image is truncated", "Copy it again.", "s0")
    exit_for([truncated], True, done={"s0"})
    for done in ((), {"s1"}):
        with pytest.raises(typer.Exit) as end:
            exit_for([truncated], True, done)
        assert end.value.exit_code == 1


def test_a_program_gets_a_document_of_an_error_too(tmp_path: Path):
    done = mtinet("predict", "nomodel", "nowhere", "-o", "x", "--json", cwd=tmp_path)
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == done.returncode == 2
    assert error["message"] in done.stderr
    assert "nomodel" in error["message"]


def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path):
    running = subprocess.Popen(
        [sys.executable, "-m", "mtinet", "simulate", "out", "--preset", "paper", "--workers", "2"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a suite that runs in the background hands down that SIGINT is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out").exists():
            assert running.poll() is None, running.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    # where the interruption met text that is run (exec), Python ends by the signal itself: 130 to a shell, too
    assert running.returncode in (130, -signal.SIGINT), said
    assert "mtinet: interrupted; what is finished stays" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_whole_way_by_command(toy_cohort, tmp_path: Path):
    run = tmp_path / "run"
    cohort = toy_cohort.folder
    trained = mtinet("train", cohort, "-o", run, "--preset", "tiny", "--folds", "3", *SMALL, "--json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["run"] == str(run)
    again = mtinet("train", cohort, "-o", run, "--preset", "tiny")
    assert again.returncode == 2
    assert "--resume" in again.stderr
    scored = mtinet("evaluate", run)
    assert scored.returncode == 0, scored.stderr
    assert "Dice" in scored.stdout
    assert mtinet("report", run).returncode == 0
    assert (run / "report.html").stat().st_size > 10_000
    predicted = mtinet("predict", run, cohort / "images" / "s0", "-o", tmp_path / "out", "--json")
    assert predicted.returncode == 0, predicted.stderr
    assert (tmp_path / "out" / "result.json").is_file()
    told = mtinet("predict", run, cohort / "images" / "s0", "-o", tmp_path / "out")
    assert "kept from before: s0" in told.stdout
    assert told.stdout.endswith("Research use only. Not a medical device; not for diagnosis.\n")
    listed = json.loads(mtinet("cache", "list", cohort, "--json").stdout)
    assert {entry["study_id"] for entry in listed} == {s.study_id for s in toy_cohort.studies}
    assert mtinet("cache", "clear", cohort).returncode == 0
    assert json.loads(mtinet("cache", "list", cohort, "--json").stdout) == []


@pytest.mark.slow
def test_a_training_says_what_goes_wrong_at_that_step(toy_cohort, tmp_path: Path):
    flat = ("--set", "mdief.tau=1e6", "--set", "training.diagnose_every=2", "--set", "training.steps=20")
    words = ("train", toy_cohort.folder, "-o", tmp_path / "run", "--preset", "tiny", "--folds", "3")
    done = mtinet(*words, *flat, "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = (f for f in json.loads(done.stdout)["findings"] if f["id"] == "fusion-inert")
    said = f"step {found['step']}: warning: {found['meaning']}. {found['action']}\n"
    assert said in done.stderr
    assert done.stderr.index(said) < done.stderr.index("Training: 20/20")


@pytest.mark.slow
def test_doctor_finds_nothing_wrong_here():
    done = mtinet("doctor", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["facts"]["torch"]


@pytest.mark.slow
def test_a_training_is_resumed_as_it_was_begun(toy_cohort, tmp_path: Path):
    words = ("train", toy_cohort.folder, "--out", tmp_path / "run", "--resume", "--workers", "1")
    begun = mtinet(*words, "--preset", "tiny", "--folds", "3", *SMALL)
    assert begun.returncode == 0, begun.stderr
    assert "a new one starts" in begun.stderr
    refused = mtinet(*words, "--set", "head.depth=5")
    assert refused.returncode == 2
    assert "head.depth is 1, not 5" in refused.stderr
    # bare, and with the options of the first time
    for options in ((), ("--folds", "3", *SMALL)):
        resumed = mtinet(*words, *options)
        assert resumed.returncode == 0, resumed.stderr
        assert "a new one" not in resumed.stderr
    both = mtinet("train", toy_cohort.folder, "--out", tmp_path / "new", "--all", "--fold", "1")
    assert both.returncode == 2
    assert "--all and --fold exclude each other" in both.stderr
