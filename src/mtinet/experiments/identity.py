"""What makes a run the run it is: the hash of everything that decides its numbers.

Two runs with one id have the same numbers (to the last digits that threads and devices leave open), so
experiments share runs, a finished one is skipped and an interrupted one is resumed.  Not part of the id: paths,
devices, loader processes, the steps between checkpoints, and under which variations a run is scored, because a
finished run can be scored under more of them without another training.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

import mtinet
from mtinet import provenance
from mtinet.cohort import Cohort
from mtinet.config import Config
from mtinet.config.variation import LearningVariation
from mtinet.data.cache import study_content
from mtinet.experiments.plan import Cell
from mtinet.records import Revision

ID_LENGTH = 16

ROOTS = ("mtinet.workflows.train", "mtinet.workflows.evaluate", "mtinet.experiments.record")
"""What trains, what scores, and what makes the record."""

NO_NUMBERS = (
    # pages, findings and commands
    *("mtinet.cli", "mtinet.reporting", "mtinet.workflows.views", "mtinet.results", "mtinet.progress"),
    *("mtinet.evaluation.summary", "mtinet.evaluation.calibration", "mtinet.evaluation.diagnostics"),
    # what makes and reads cohorts: the cohort's content counts for them
    *("mtinet.phantom", "mtinet.dicom", "mtinet.workflows.imports", "mtinet.config.simulation"),
    *("mtinet.cohort.tables", "mtinet.cohort.checks", "mtinet.cohort.findings"),
    # what makes settings (the resolved ones count), and those of measurements, which nobody scores
    *("mtinet.config.presets", "mtinet.config.resolving", "mtinet.config.measurement"),
    # how files, errors, times and processes are handled, and the form in which records are kept
    *("mtinet.files", "mtinet.errors", "mtinet.stages", "mtinet.provenance", "mtinet.workflows.pool"),
    "mtinet.records",
)
"""Modules that training and scoring import and that decide no number of a run."""

NOT_DECISIVE: dict[str, tuple[str, ...]] = {
    "training": ("seed", "workers", "checkpoint_every"),
    "measurement": (),
}
"""Settings that are named beside the configuration (the seed), or change no number; without names the group."""


def decisive_settings(config: Config) -> dict[str, Any]:
    """The settings that decide a run's numbers, in JSON's types."""
    values = config.model_dump(mode="json")
    for group, names in NOT_DECISIVE.items():
        for name in names:
            del values[group][name]
        if not names:
            del values[group]
    return values


def cell_key(config: Config, learning: LearningVariation, seed: int, fold: int, folds: int) -> str:
    """Hash of what was asked for, whatever cohort and code: by it records are found without the cohort."""
    asked = [decisive_settings(config), learning.model_dump(mode="json"), seed, fold, folds]
    return _hash(asked)


def run_id(cell: Cell, content: str, revision: Revision) -> str:
    """The id of a cell's run.

    Parameters
    ----------
    cell : Cell
    content : str
        :func:`cohort_content`.
    revision : Revision
        :func:`current_revision`.
    """
    key = cell_key(cell.config, cell.learning, cell.seed, cell.fold, cell.folds)
    return _hash([key, content, revision.model_dump(mode="json")])


def cohort_content(cohort: Cohort) -> str:
    """Hash of the studies' metadata, labels and files, to the byte; their place does not count.

    Raises
    ------
    OSError
        A file cannot be read.
    """
    studies = sorted(cohort.studies, key=lambda study: study.study_id)
    return _hash(
        [
            *[cohort.classes, cohort.phases],
            *(study_content(study, cohort.lesion_labels(study)) for study in studies),
        ]
    )


@cache
def current_revision() -> Revision:
    """The code and libraries of this process."""
    return Revision(
        sources=sources_digest(),
        versions={
            "python": ".".join(platform.python_version_tuple()[:2]),
            **{
                name: version.partition("+")[0]  # a build for another device is the same version
                for name, version in provenance.versions().items()
                if name != "mtinet"
            },
        },
    )


@cache
def sources_digest() -> str:
    """Hash of the modules that train and score; comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for name in decisive_modules():
        path = _module_file(name)
        assert path is not None
        digest.update(f"{name}\n{_bare(path.read_text(encoding='utf-8'))}\n".encode())
    return digest.hexdigest()[:ID_LENGTH]


def decisive_modules() -> tuple[str, ...]:
    """Names of the package's modules that training and scoring import, directly or not, in order.

    An ``__init__.py`` is followed and not counted: it hands on what others hold.  That of the package itself
    is not followed: it offers everything, and no module of the package takes anything from it.
    """
    found: set[str] = set()
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        path = _module_file(name)
        passed = (name == "mtinet", name in found, any(_inside(name, place) for place in NO_NUMBERS))
        if path is None or any(passed):
            continue
        found.add(name)
        inside = name if _is_package(name) else name.rpartition(".")[0]
        waiting += _imported(ast.parse(path.read_text(encoding="utf-8")), inside)
    return tuple(sorted(name for name in found if not _is_package(name)))


# ---------------------------------------------------------------------- parts
def _inside(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def _module_file(name: str) -> Path | None:
    """File of a module of this package; None for a name that is no module."""
    package, *parts = name.split(".")
    if package != "mtinet":
        return None
    place = Path(mtinet.__file__).parent.joinpath(*parts)
    if parts and place.with_suffix(".py").is_file():
        return place.with_suffix(".py")
    return place / "__init__.py" if (place / "__init__.py").is_file() else None


def _is_package(name: str) -> bool:
    path = _module_file(name)
    return path is not None and path.name == "__init__.py"


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Names that a module of a package imports anywhere in it (what is for type checkers only counts too)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _bare(source: str) -> str:
    """The code without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and ast.get_docstring(node, clean=False) is not None
        ):
            del node.body[0]
    return ast.dump(tree)


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]
