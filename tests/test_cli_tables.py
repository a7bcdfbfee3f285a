"""``mtinet table1`` from the command line."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from mtinet.cli import app


def test_table1_prints_writes_and_gives_json(toy_cohort, tmp_path):
    run = CliRunner()
    folder = str(toy_cohort.folder or tmp_path)
    printed = run.invoke(app, ["table1", folder, "--workers", "1"])
    assert printed.exit_code == 0, printed.output
    assert f"| Studies | {len(toy_cohort)} |" in printed.stdout
    out = tmp_path / "tables" / "table1.tex"
    written = run.invoke(
        app, ["table1", folder, "--workers", "1", "--format", "latex", "--out", str(out), "--json"]
    )
    assert written.exit_code == 0, written.output
    assert r"\toprule" in out.read_text(encoding="utf-8")
    answer = json.loads(written.stdout)
    assert answer["columns"][:2] == ["", "all"]
    assert ["Studies", str(len(toy_cohort))] in [row[:2] for row in answer["rows"]]
