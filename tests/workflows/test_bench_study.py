"""The benchmark of whole studies: what becomes of its measurements, and that it measures what it says."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtinet.errors import UserError
from mtinet.workflows import bench_study as workflow
from mtinet.workflows.bench_process import STAGES
from mtinet.workflows.bench_study import StudyOptions, bench_study, readable, summarise_studies

ROOT = Path(__file__).parents[2]
SECONDS = {"read": 0.1, "prepare": 0.4, "network": 2.0, "lesions": 0.5, "write": 1.0}


def made_up(slow: float = 1.0, backends=("torch", "openvino")) -> pd.DataFrame:
    """Three repeats of three studies; the second backend's network is twice as fast, one repeat is slower."""
    rows = []
    for repeat, pace in enumerate((1.0, slow, 1.2)):
        for backend in backends:
            own = 1.0 if backend == "openvino" else 2.0
            for study in range(3):
                stages = {name: value * pace for name, value in (SECONDS | {"network": own}).items()}
                whole = sum(stages.values()) + (3.0 * pace if study == 0 else 0.0)
                rows.append(
                    {"backend": backend, "repeat": repeat, "study": study, **stages, "whole": whole,
                     "peak_mb": 900.0 + study, "found": 2, "own_network": own * pace, "rival_network": 8.0 * pace}
                )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("slow", [1.0, 50.0])
def test_ratios_do_not_see_a_machine_that_slows_down(slow):
    table = summarise_studies(made_up(slow)).set_index("backend")
    for end in ("", "_low", "_high"):
        assert table.loc["openvino", f"network_vs_torch{end}"] == pytest.approx(0.5)
        assert table.loc["openvino", f"network_vs_dynunet{end}"] == pytest.approx(1 / 8)
    assert table.loc["torch", "network_vs_torch"] == 1.0


def test_the_first_study_is_cold_and_the_others_are_warm():
    row = summarise_studies(made_up()).set_index("backend").loc["torch"]
    assert row["cold_s"] == pytest.approx(sum(SECONDS.values()) + 3.0)
    assert row["start_s"] == pytest.approx(3.0)
    assert row["warm_s"] == pytest.approx(sum(SECONDS.values()))
    assert [row[f"{name}_s"] for name in STAGES] == pytest.approx(list(SECONDS.values()))
    assert (row["first_peak_mb"], row["last_peak_mb"]) == (900.0, 902.0)


def test_without_torch_there_is_no_ratio_to_it():
    table = summarise_studies(made_up(backends=("openvino",)))
    assert np.isnan(table.loc[0, "network_vs_torch"])
    assert list(readable(table)["network vs torch"]) == [""]


def test_what_cannot_be_measured_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"):
        bench_study(tmp_path / "out")
    with pytest.raises(UserError, match="at least two"):
        bench_study(None, StudyOptions(studies=1))
    warnings: list[str] = []
    monkeypatch.setattr(workflow.importlib.util, "find_spec", lambda name: name == "torch" or None)
    assert workflow._usable(("torch", "openvino"), warnings) == ["torch"]
    assert "openvino is not installed" in warnings[0]
    with pytest.raises(UserError, match="none of the backends"):
        workflow._usable(("openvino",), [])


@pytest.mark.slow
def test_one_run_makes_one_table_and_the_page_takes_it(tmp_path: Path):
    out, docs, seen = tmp_path / "out", tmp_path / "docs", []
    options = StudyOptions(backends=("torch",), matrix=(64, 64, 4), studies=2, repeats=1)
    found = bench_study(out, options, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
    assert list(found.repeats["study"]) == [0, 1]
    stages = found.repeats[list(STAGES)]
    assert (stages > 0).all().all()
    # the stages are parts of the whole, and most of a warm study
    assert (stages.sum(axis=1) <= found.repeats["whole"]).all()
    assert (found.table[["start_s", "network_vs_dynunet", "first_peak_mb"]] > 0).all().all()
    assert found.table.loc[0, "last_peak_mb"] >= found.table.loc[0, "first_peak_mb"]
    json.dumps(found.to_dict(), allow_nan=False)
    docs.mkdir()
    (docs / "performance.md").write_text("<!-- study:begin -->\n<!-- study:end -->\n")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        curves = importlib.import_module("cost_curves")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    curves.put_tables(out, docs)
    assert "| torch |" in (docs / "performance.md").read_text()
    assert {"study.csv", "study-manifest.json"} <= {path.name for path in docs.iterdir()}
    with pytest.raises(UserError, match=r"no study\.csv"):
        curves.put_tables(docs / "nothing", docs)
