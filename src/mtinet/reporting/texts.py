"""Tables of text, in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

INDENT = "  "


@dataclass(frozen=True)
class Text:
    """A table whose cells are text.

    Attributes
    ----------
    caption : str
    heads : tuple of str
    rows : tuple of tuple of str
        A first cell that begins with :data:`INDENT` belongs to the row with a head above.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def to_markdown(table: Text) -> str:
    """A table in Markdown, its caption above."""
    lines = ["| " + " | ".join(map(_markdown_cell, row)) + " |" for row in (table.heads, *table.rows)]
    lines.insert(1, "|" + "---|" * len(table.heads))
    return "\n".join([f"{table.caption}.", "", *lines])


def to_latex(table: Text) -> str:
    """A table in LaTeX; the document loads the package booktabs."""
    body = [" & ".join(map(latex, row)) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(table.caption)}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.heads)}}}",
            r"\toprule",
            " & ".join(map(latex, table.heads)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "–": "--",
    "≥": r"$\geq$",
    "±": r"$\pm$",
    "×": r"$\times$",
}


def latex(text: str) -> str:
    """Text that LaTeX prints as it is; an indented line stays indented."""
    if text.startswith(INDENT):
        return r"\quad " + latex(text[len(INDENT) :])
    return "".join(LATEX.get(character, character) for character in text)


def _markdown_cell(text: str) -> str:
    if text.startswith(INDENT):
        return "&emsp;" + _markdown_cell(text[len(INDENT) :])
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def to_csv(table: Text) -> str:
    """A table as CSV, without its caption."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([table.heads, *table.rows])
    return stream.getvalue()
