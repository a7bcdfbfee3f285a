"""How many studies were left out of an import, at which step and why."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mtinet import files

INCLUSION_FILE = "inclusion.csv"
"""Name of the inclusion table in the folder of an imported cohort."""


@dataclass(frozen=True)
class InclusionRow:
    """A line of the inclusion table.

    Attributes
    ----------
    step : str
        What was looked at, for example ``found``, ``phases``, ``mask``, ``included``.
    studies : int
        Studies that were counted in this line.
    reason : str
        Why they left; for the first and last line what they are.
    """

    step: str
    studies: int
    reason: str


class Inclusion:
    """Counts studies through the steps of an import: found, left out by step and reason, included.

    Parameters
    ----------
    found : iterable of str
        Ids of the studies that the source holds.
    what : str
        What the first line calls them.

    Examples
    --------
    >>> flow = Inclusion(["a", "b", "c"])
    >>> flow.leave_out("b", "phases", "no phase could be read")
    >>> [(row.step, row.studies) for row in flow.rows()]
    [('found', 3), ('phases', 1), ('included', 2)]
    """

    def __init__(self, found: Iterable[str], what: str = "studies in the source") -> None:
        self._found = tuple(dict.fromkeys(found))
        self._what = what
        self._left: dict[str, tuple[str, str]] = {}

    def leave_out(self, study: str, step: str, reason: str) -> None:
        """Count ``study`` as left out at ``step``; the first reason given for a study is the one that counts.

        Studies with the same step and reason share a line, so ``reason`` should not name the study.
        """
        if study not in self._found:
            raise KeyError(f"{study} was not among the studies found")
        self._left.setdefault(study, (step, reason))

    @property
    def included(self) -> tuple[str, ...]:
        """Ids of the studies that nothing has left out, in the order in which they were found."""
        return tuple(study for study in self._found if study not in self._left)

    def rows(self) -> tuple[InclusionRow, ...]:
        """The table: all found, then a line a step and reason, then those included; the counts add up."""
        lines: dict[tuple[str, str], int] = {}
        for key in self._left.values():
            lines[key] = lines.get(key, 0) + 1
        return (
            InclusionRow("found", len(self._found), self._what),
            *(InclusionRow(step, count, reason) for (step, reason), count in lines.items()),
            InclusionRow("included", len(self.included), "studies in the cohort"),
        )


def write_inclusion(folder: Path, rows: Iterable[InclusionRow]) -> Path:
    """Write ``inclusion.csv`` (columns step, studies, reason) into ``folder`` and return its path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "studies", "reason"])
    writer.writerows([row.step, row.studies, row.reason] for row in rows)
    path = folder / INCLUSION_FILE
    files.write_text(path, text.getvalue())
    return path


def inclusion_text(rows: Iterable[InclusionRow]) -> str:
    """The table for a terminal: what came in, what was left out and why, what remains."""
    lines = []
    for row in rows:
        sign = " " if row.step in ("found", "included") else "-"
        lines.append(f"{sign}{row.studies:6d}  {row.step:12s} {row.reason}")
    return "\n".join(lines)
