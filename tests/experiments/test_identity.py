from __future__ import annotations

import ast
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mtinet.cohort import Cohort
from mtinet.config import resolve_settings
from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.experiments import identity
from mtinet.experiments.identity import cohort_content, current_revision, run_id
from mtinet.experiments.plan import Cell


def changed(cell: Cell, *assignments: str) -> Cell:
    return replace(cell, config=resolve_settings(cell.config, None, assignments))


@pytest.mark.parametrize(
    "same",
    [
        lambda cell: changed(cell, "training.workers=3"),
        lambda cell: changed(cell, "training.checkpoint_every=7"),
        lambda cell: changed(cell, "measurement.capsule_mm=3"),
        lambda cell: replace(cell, scorings=(ScoringVariation(noise=0.1),)),
    ],
)
def test_what_changes_no_number_changes_no_id(cells: tuple[Cell, ...], same):
    revision = current_revision()
    assert run_id(same(cells[0]), "c", revision) == run_id(cells[0], "c", revision)


def test_everything_else_does(cells: tuple[Cell, ...]):
    cell, revision = cells[0], current_revision()
    other = revision.model_copy(update={"versions": {**revision.versions, "torch": "0"}})
    ids = [
        run_id(cell, "c", revision),
        run_id(cell, "other cohort", revision),
        run_id(cell, "c", revision.model_copy(update={"sources": "0"})),
        run_id(cell, "c", other),
        run_id(changed(cell, "head.depth=2"), "c", revision),
        run_id(replace(cell, seed=1), "c", revision),
        run_id(replace(cell, fold=1), "c", revision),
        run_id(replace(cell, folds=4), "c", revision),
        run_id(replace(cell, learning=LearningVariation(noise=0.1)), "c", revision),
    ]
    assert len(set(ids)) == len(ids)


def test_the_content_of_a_cohort_is_its_bytes_and_not_its_place(cohort: Path, tmp_path: Path):
    before = cohort_content(Cohort.read(cohort))
    shutil.copytree(cohort, tmp_path / "moved", ignore=shutil.ignore_patterns(".cache"))
    assert cohort_content(Cohort.read(tmp_path / "moved")) == before
    image = next((tmp_path / "moved").rglob("mask.nii.gz"))
    image.write_bytes(image.read_bytes() + b"\0")
    assert cohort_content(Cohort.read(tmp_path / "moved")) != before


def test_sources_are_those_that_decide_numbers():
    names = identity.decisive_modules()
    for name in (
        "config.run",
        "data.augmentation",
        "data.folds",
        "data.preparation",
        "evaluation.metrics",
        "evaluation.readouts",
        "experiments.record",
        "inference.forward",
        "inference.lesions",
        "inference.reader",
        "model.baselines",
        "model.mtinet",
        "training.diagnostics",  # it halves the discriminator's rate
        "training.loop",
        "workflows.claims",
        "workflows.evaluate",
        "workflows.train",
    ):
        assert f"mtinet.{name}" in names


def test_what_users_see_beside_the_scores_is_no_source():
    places = (
        *("cli", "reporting", "phantom", "dicom", "workflows.imports", "workflows.predictions"),
        *("workflows.save", "workflows.predict", "workflows.calibrate", "cohort.checks", "config.presets"),
        *("inference.predictor", "inference.backends", "inference.graphs", "inference.certainty"),
        *("inference.measure", "inference.signs", "inference.describe", "results", "records", "progress"),
    )
    inside = [
        n for n in identity.decisive_modules() if any(identity._inside(n, f"mtinet.{p}") for p in places)
    ]
    assert not inside


def test_packages_that_are_passed_over_hand_on_only():
    """Code in an ``__init__.py`` would decide numbers without being counted."""
    root = Path(identity.mtinet.__file__).parent
    packages = {name.rpartition(".")[0] for name in identity.decisive_modules()} - {"mtinet"}
    assert packages
    for package in packages:
        path = root.joinpath(*package.split(".")[1:]) / "__init__.py"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            listed = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            assert listed or isinstance(node, (ast.Expr, ast.Import, ast.ImportFrom)), (package, node.lineno)


def test_nobody_takes_from_the_package_itself():
    """``from mtinet import name`` of anything but a module would be a source that is not followed."""
    root = Path(identity.mtinet.__file__).parent
    for name in identity.decisive_modules():
        for node in ast.walk(ast.parse(identity._module_file(name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "mtinet":
                for alias in node.names:
                    assert (root / alias.name).is_dir() or (root / f"{alias.name}.py").is_file(), name


def test_relative_imports_are_followed_too():
    tree = ast.parse(
        "from .heads import Head\nfrom . import tim\nfrom ..config import Config\nimport mtinet.errors\n"
    )
    found = set(identity._imported(tree, "mtinet.model"))
    assert found >= {"mtinet.model.heads", "mtinet.model.tim", "mtinet.config", "mtinet.errors"}


def test_comments_and_docstrings_are_no_code():
    plain = "def f(x):\n    return x + 1\n"
    spoken = '"""A module."""\n\n\ndef f(x):  # adds\n    """Add."""\n    return (x\n        + 1)\n'
    assert identity._bare(spoken) == identity._bare(plain)
    assert identity._bare(plain) != identity._bare(plain.replace("1", "2"))
