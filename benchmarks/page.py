"""What the scripts share that write into pages of the documentation: markers and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mtinet import files, provenance
from mtinet.errors import UserError

DOCS = Path(__file__).parents[1] / "docs"
VIRTUAL_PATIENTS = DOCS / "virtual-patients.md"


def put_into(page: Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- name:begin -->`` and ``<!-- name:end -->``.

    Raises
    ------
    UserError
        The page lacks the markers, or has them more than once.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    old = page.read_text(encoding="utf-8")
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise UserError(f"{page} needs the lines {begin} and {end}, each once and in this order; add them")
    before, _, rest = old.partition(begin)
    _, _, after = rest.partition(end)
    files.write_text(page, f"{before}{begin}\n{text.strip()}\n{end}{after}")


def publish(docs: Path, name: str, table: pd.DataFrame, text: str, **facts: Any) -> None:
    """Write ``NAME.csv`` and ``NAME-manifest.json``, and put the text into ``performance.md`` where it is there."""
    files.write_text(docs / f"{name}.csv", table.to_csv(index=False))
    files.write_json(docs / f"{name}-manifest.json", provenance.manifest(**facts))
    if (docs / "performance.md").is_file():
        put_into(docs / "performance.md", name, text)


def markdown(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; floats with three significant figures, bars escaped."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: object) -> str:
    """One cell's text; what is not known is left empty."""
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value).replace("|", "\\|").replace("\n", " ")
