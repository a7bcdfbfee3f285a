"""The reporting checklists CLAIM (2024 update) and TRIPOD+AI, filled as far as the records know.

Items are numbered as in the originals and paraphrased; the wording that counts is theirs: Tejani et al.,
Radiology: Artificial Intelligence 2024;6:e240300 (CLAIM) and Collins et al., BMJ 2024;385:e078378 (TRIPOD+AI).
What only the authors know stays open, with what it asks for.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

SOURCES = {
    "CLAIM": "CLAIM, 2024 update (doi 10.1148/ryai.240300)",
    "TRIPOD+AI": "TRIPOD+AI (doi 10.1136/bmj-2023-078378)",
}
"""The checklists with where they are published."""


@dataclass(frozen=True)
class Item:
    """One item of a checklist.

    Attributes
    ----------
    checklist, number, section, topic : str
    status : {"filled", "open"}
    text : str
        What is known; empty where nothing is.
    asks : str
        What is still to be written; empty for a filled item.
    """

    checklist: str
    number: str
    section: str
    topic: str
    status: Literal["filled", "open"]
    text: str
    asks: str


def filled_checklists(facts: Mapping[str, str]) -> list[Item]:
    """Every item of every checklist.

    Parameters
    ----------
    facts : mapping of str
        What is known, by name: :func:`mtinet.reporting.checklist_facts.experiment_facts` and
        :func:`mtinet.reporting.cohort_table.cohort_facts`.  An item is filled when all that it needs is known
        and nothing else belongs to it.
    """
    return [_item(line, facts) for line in _lines()]


def fact_names() -> set[str]:
    """Names of all facts that the checklists ask for."""
    return {name for line in _lines() for name in line["fact"].split("+") if name}


def to_markdown(items: Sequence[Item]) -> str:
    """The checklists as one page."""
    parts = ["# Reporting checklists", _counts(items)]
    for name, source in SOURCES.items():
        own = [item for item in items if item.checklist == name]
        parts.append(f"## {source}\n\nOur short words for the items; the originals' wording is what counts.")
        lines = ["| item | topic | status | text |", "|---|---|---|---|"]
        for item in own:
            status = "filled" if item.status == "filled" else "**OPEN**"
            lines.append(
                f"| {item.number} | {item.section}: {item.topic} | {status} | {_cell(_text(item))} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _counts(items: Sequence[Item]) -> str:
    counts = [
        f"{name}: {sum(i.status == 'filled' for i in own)} of {len(own)} items filled"
        for name in SOURCES
        for own in ([item for item in items if item.checklist == name],)
    ]
    return "; ".join(counts) + ". Open items are the authors' to write."


def _text(item: Item) -> str:
    if item.status == "filled":
        return item.text
    return f"{item.text}. To add: {item.asks}" if item.text else f"To add: {item.asks}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _lines() -> list[dict[str, str]]:
    text = resources.files("mtinet.reporting").joinpath("checklists.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _item(line: Mapping[str, str], facts: Mapping[str, str]) -> Item:
    names = [name for name in line["fact"].split("+") if name]
    known = [facts[name] for name in names if facts.get(name)]
    filled = bool(names) and len(known) == len(names) and line["complete"] == "yes"
    return Item(
        checklist=line["checklist"],
        number=line["item"],
        section=line["section"],
        topic=line["topic"],
        status="filled" if filled else "open",
        text="; ".join(known),
        asks="" if filled else line["asks"],
    )
