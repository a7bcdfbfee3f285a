"""The README's results table, from the files under ``docs/results``: ``python benchmarks/results_table.py``.

Puts the table between the README's markers ``<!-- results:begin -->`` and ``<!-- results:end -->``.  With
``--check`` nothing is written and a README that differs makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import pandas as pd
from page import DOCS, markdown, put_into

from mtinet.errors import UserError
from mtinet.reporting.experiment import CSV_FILE, EXPERIMENT_FILE, EXPERIMENT_FORMAT
from mtinet.reporting.experiment_tables import QUANTITIES, with_interval

README = DOCS.parent / "README.md"
RESULTS = DOCS / "results"
BLOCK = "results"
EXPERIMENTS = ("baselines", "ablation")
ENDPOINTS = ("enhancement_error", "relative_error_percent", "dice", "accuracy")
NOT_MEASURED = "*Not measured yet: `docs/results` holds no finished experiment.*"


def main() -> int:
    """Write the block, or check it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page differs")
    parser.add_argument("--page", type=Path, default=README)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    try:
        if not options.check:
            update(options.page, options.results)
        elif drifted(options.page, options.results):
            print(
                f"{options.page} differs from {options.results}; run python benchmarks/results_table.py",
                file=sys.stderr,
            )
            return 1
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def update(page: Path, results: Path) -> None:
    """Put the table into the page.  A page without markers is left alone while nothing is measured.

    Raises
    ------
    UserError
        There are results, and the page has no markers.
    """
    text = block(results)
    if text != NOT_MEASURED or f"<!-- {BLOCK}:begin -->" in page.read_text(encoding="utf-8"):
        put_into(page, BLOCK, text)


def drifted(page: Path, results: Path) -> bool:
    """Whether :func:`update` would change the page."""
    before = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / page.name
        copy.write_text(before, encoding="utf-8")
        update(copy, results)
        return copy.read_text(encoding="utf-8") != before


def block(results: Path) -> str:
    """The tables of the experiments that are measured, or that none is."""
    folders = [results / name for name in EXPERIMENTS if (results / name / EXPERIMENT_FILE).is_file()]
    return "\n\n".join(map(experiment_block, folders)) or NOT_MEASURED


def experiment_block(folder: Path) -> str:
    """One experiment: what it is, its table, and where the whole is."""
    described = json.loads((folder / EXPERIMENT_FILE).read_text(encoding="utf-8"))
    if described["format"] > EXPERIMENT_FORMAT:
        raise UserError(f"{folder / EXPERIMENT_FILE} is newer than this mtinet reads; update mtinet")
    table = pd.read_csv(folder / CSV_FILE, keep_default_na=False, na_values=[""])
    shown = [name for name in ENDPOINTS if name in set(table["endpoint"])]
    by_row = [own for _, own in table[table["endpoint"].isin(shown)].groupby("row", sort=False)]
    patients = [int(own["patients"].max()) for own in by_row]
    heads = ["", "patients", *(_head(name) for name in shown)]
    rows = [
        [_title(own, described["reference"]), str(count), *(_cell(own, name) for name in shown)]
        for own, count in zip(by_row, patients, strict=True)
    ]
    kind = "virtual patients" if described["virtual"] else "cohort"
    parts = [
        f"**{described['title']}** ({kind} {described['cohort']}, hash `{described['cohort_hash']}`, out of fold; "
        f"[all numbers](docs/results/{folder.name}/results.md))",
        markdown(heads, rows),
    ]
    if len(set(patients)) > 1:
        parts.append(
            "Rows with fewer patients were scored on fewer folds: values of two rows compare only where their "
            "patients are the same. A verdict is about the patients that the row and the reference both scored."
        )
    if (table["verdict"] == "no claim").any():
        parts.append(
            "A row that is unfinished or had not converged supports no claim, in either direction, and where it is the "
            "reference no other does ([why](docs/comparison.md#what-supports-no-claim))."
        )
    return "\n\n".join(parts)


def _head(endpoint: str) -> str:
    quantity = QUANTITIES[endpoint]
    return f"{quantity.label} ({quantity.unit})" if quantity.unit else quantity.label


def _title(own: pd.DataFrame, reference: str) -> str:
    first = own.iloc[0]
    marks = ["reference"] if first["row"] == reference else []
    if not first["at_rest"]:
        marks.append("not converged")
    if first["runs"] < first["planned"]:  # an unknown plan is NaN
        marks.append(f"unfinished, {first['runs']:.0f} of {first['planned']:.0f} runs")
    return f"{first['title']} ({', '.join(marks)})" if marks else str(first["title"])


def _cell(own: pd.DataFrame, endpoint: str) -> str:
    """The value with its interval, and the verdict against the reference where there is one."""
    line = own[own["endpoint"] == endpoint].iloc[0]
    if math.isnan(line["value"]):
        return "–"
    text = with_interval(QUANTITIES[endpoint], line["value"], line["low"], line["high"])
    verdict = line["verdict"] if line["verdict"] not in ("reference", "described", "not scored") else ""
    return f"{text}, {verdict}" if verdict else text


if __name__ == "__main__":
    sys.exit(main())
