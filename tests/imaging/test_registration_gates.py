"""Registration on virtual patients whose displacement is known."""

import importlib
import sys
from pathlib import Path

import pandas as pd
import pytest

from mtinet.config import PreparationSettings
from mtinet.workflows.simulate import simulate


@pytest.mark.slow
def test_the_liver_of_virtual_patients_is_brought_back(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    benchmark = importlib.import_module("registration")
    monkeypatch.delitem(sys.modules, "registration")
    settings = benchmark.cohort_settings(2, breathing_mm=8.0)
    settings = settings.with_spacing((3.0, 3.0, 6.0))
    cohort = simulate(tmp_path / "cohort", settings, workers=1)
    preparation = PreparationSettings(registration="bspline")
    rows = [row for study in cohort.studies for row in benchmark.measure(preparation, (cohort, study, True))]
    table = pd.DataFrame(rows)
    assert (table["before_mm"] > 3.0).any()
    missed = {name for name, _, holds in benchmark.gates(table) if not holds}
    assert not missed
