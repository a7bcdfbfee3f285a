"""What the documents show exists: commands with their options, settings, files, headings, names of Python."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token

from mtinet import config
from mtinet.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "src").rglob("*.md")),
]
MAKE = (ROOT / "Makefile").read_text(encoding="utf-8")


@cache
def tokens(document: Path) -> list[Token]:
    """All tokens of a document, those inside of paragraphs behind them."""
    flat: list[Token] = []
    for token in MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8")):
        flat += [token, *(token.children or [])]
    return flat


@cache
def anchors(document: Path) -> set[str]:
    """What can follow the ``#`` of a link to this document, as GitHub makes it of its headings."""
    made = list(tokens(document))
    heads = [made[n + 1].content for n, token in enumerate(made) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def lines_of_code(document: Path) -> Iterator[tuple[str, bool]]:
    """Each line of code without its comment, and whether it stands in a block; continued lines are joined."""
    for token in tokens(document):
        if token.type in ("fence", "code_inline") and token.info != "python":
            for line in token.content.replace("\\\n", " ").splitlines():
                yield re.split(r"\s#\s", line)[0].strip(), token.type == "fence"


def shown(pattern: str) -> list:
    """What ``pattern`` finds in the documents' lines of code, as cases of a test."""
    found = {}
    for document in DOCUMENTS:
        for line, whole in lines_of_code(document):
            if match := re.search(pattern, line):
                found[f"{document.relative_to(ROOT)}: {match[0].strip()}"] = match[1], whole
    return [pytest.param(*case, id=name) for name, case in found.items()]


def each(words: list[str]) -> Iterator[list[str]]:
    """``cache list|clear COHORT`` as the commands that it stands for."""
    for n, word in enumerate(words):
        if re.fullmatch(r"[a-z]+(\|[a-z]+)+", word):
            for one in word.split("|"):
                yield from each([*words[:n], one, *words[n + 1 :]])
            return
    yield words


@pytest.mark.parametrize(("line", "whole"), shown(r"(?:^|[ =/])mtinet(?= (?:[a-z]|-))(.*)$"))
def test_a_command_takes_what_it_is_given(line, whole):
    line = re.sub(r" [>|&] .*$", "", line)
    for words in each(shlex.split(re.sub(r"[][]", "", line) if "[-" in line else line)):
        command = typer.main.get_command(app)
        context = command.make_context("mtinet", [], resilient_parsing=True)
        while hasattr(command, "commands"):
            _, words, _ = command.make_parser(context).parse_args(words)
            if not words or words[0] in ("COMMAND", "..."):
                return
            assert words[0] in command.commands
            command = command.commands[words[0]]
            context = command.make_context(words[0], [], parent=context, resilient_parsing=True)
            words = words[1:]
        context.resilient_parsing = False
        if not whole and any(words[-1:] == [o] and not p.is_flag for p in command.params for o in p.opts):
            words = [*words, "VALUE"]  # an option mentioned by its name alone
        given, left, _ = command.make_parser(context).parse_args(list(words))
        assert not left
        if whole and "--help" not in words:
            assert all(given.get(p.name) is not None for p in command.params if p.required)
        resolve = config.resolve_simulation if command.name == "simulate" else config.resolve
        resolve(assignments=given.get("set_") or [])


@pytest.mark.parametrize(("target", "whole"), shown(r"^make ([\w-]+)"))
def test_a_target_of_make_is_in_the_makefile(target, whole):
    assert re.search(rf"^{target}:", MAKE, re.MULTILINE)


@pytest.mark.parametrize(
    ("path", "whole"), shown(r"(?:^|python )((?:src|tests|docs|benchmarks|tools)/[\w./-]+)")
)
def test_a_file_that_is_named_is_there(path, whole):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for token in tokens(document):
        goal = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if goal and "://" not in goal and not goal.startswith("mailto:"):
            path, _, anchor = goal.partition("#")
            place = document if not path else document.parent / path
            assert place.exists(), goal
            assert not anchor or anchor in anchors(place.resolve()), goal


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_python_names_what_there_is(document):
    for token in tokens(document):
        if token.type == "fence" and token.info == "python":
            for node in ast.walk(ast.parse(token.content)):
                if isinstance(node, ast.ImportFrom) and node.module.startswith("mtinet"):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)
                elif isinstance(node, ast.Import):
                    for name in node.names:
                        importlib.import_module(name.name)
                elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "mtinet":
                    assert hasattr(importlib.import_module("mtinet"), node.attr), ast.unparse(node)
