import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from mtinet.cohort import Cohort
from mtinet.volume import Volume
from mtinet.workflows.check import check


def broken_cohort(folder, make):
    """A cohort in which everything is wrong that a cohort from a hospital may have wrong, once each."""
    toys = {name: make(index) for index, name in enumerate(BROKEN)}

    phase = toys["grids"].images["arterial"]
    toys["grids"] = toys["grids"].with_phase(
        "arterial", Volume(phase.array[::2], phase.affine @ np.diag([2, 1, 1, 1]))
    )
    nan = toys["nan"].images["delayed"].array.copy()
    nan[5, 5, 5] = np.nan
    toys["nan"] = toys["nan"].with_phase("delayed", phase.with_array(nan))
    toys["empty"] = replace(toys["empty"], mask=phase.with_array(np.zeros(phase.shape, np.uint8)))
    louder = toys["gain"].images["portal_venous"]
    toys["gain"] = toys["gain"].with_phase("portal_venous", louder.with_array(louder.array * 1.5))
    twin = toys["copied"].images["pre"]
    toys["copied"] = toys["copied"].with_phase("arterial", twin)

    studies = {
        name: toy.write(folder, name, "hcc" if name != "class" else "hcd") for name, toy in toys.items()
    }
    studies["missing"].images["pre"].unlink()
    truncated = studies["truncated"].images["arterial"]
    truncated.write_bytes(truncated.read_bytes()[:-3000])
    doubled = studies["doubled"].images
    studies["doubled"] = replace(studies["doubled"], images={**doubled, "delayed": doubled["pre"]})
    rows = [*studies.values(), replace(studies["labels"], label="hemangioma")]
    lesions = pd.DataFrame([{"study_id": "grids", "lesion": 4, "label": "hcc"}])
    Cohort("broken", tuple(rows), ("hemangioma", "hcc"), lesions=lesions).write(folder)


BROKEN = {
    "missing": ("missing-file", "error"),
    "grids": ("two-grids", "note"),
    "nan": ("not-finite", "error"),
    "empty": ("empty-mask", "error"),
    "class": ("unknown-class", "error"),
    "labels": ("two-labels", "error"),
    "doubled": ("duplicate-phase", "error"),
    "copied": ("duplicate-phase", "error"),
    "truncated": ("unreadable", "error"),
    "gain": ("gain-change", "warning"),
}


def test_every_finding_of_a_broken_cohort_is_listed_with_its_repair(tmp_path, toy_maker):
    broken_cohort(tmp_path, toy_maker)
    findings = check(tmp_path, workers=0)
    serious = {(f.case, f.id, f.severity) for f in findings if f.severity != "note" or f.id == "two-grids"}
    expected = {(case, id, severity) for case, (id, severity) in BROKEN.items()}
    assert serious == expected | {("grids", "unknown-lesion", "error")}
    assert all(finding.action and finding.meaning for finding in findings)
    ranks = [{"error": 0, "warning": 1, "note": 2}[f.severity] for f in findings]
    assert ranks == sorted(ranks)
    assert len(findings) == len(set(findings))


def test_a_cohort_in_order_has_no_error(toy_cohort):
    seen = []
    findings = check(toy_cohort.folder, workers=0, on_progress=lambda done, total: seen.append((done, total)))
    assert {f.severity for f in findings} <= {"note"}
    assert seen[-1] == (6, 6)


def test_a_folder_that_is_no_cohort(tmp_path):
    assert {f.id for f in check(tmp_path)} == {"no-description", "no-table"}


def test_the_documentation_explains_every_finding():
    root = Path(__file__).parents[2]
    sources = [*sorted((root / "src/mtinet/cohort").glob("*.py")), root / "src/mtinet/imaging/checks.py"]
    found = {id for path in sources for id in re.findall(r'\badd\(\s*"([a-z-]+)",\s*"', path.read_text())}
    explained = set(re.findall(r"`([a-z-]+)`", (root / "docs/cohort.md").read_text(encoding="utf-8")))
    assert len(found) > 35
    assert found - explained == set()


def test_the_same_images_under_two_patients_are_found_by_their_voxels(tmp_path, toy_maker):
    toy, other = toy_maker(0), toy_maker(1)
    flipped = {
        phase: Volume(np.ascontiguousarray(v.array[::-1]), v.affine @ _flip(v.shape[0]))
        for phase, v in toy.images.items()
    }
    studies = (
        toy.write(tmp_path, "a", "hcc", "p1"),
        other.write(tmp_path, "b", "hemangioma", "p2"),
        replace(toy, images=flipped, mask=other.mask).write(tmp_path, "c", "hcc", "p3"),
        other.with_phase("pre", toy_maker(2).images["pre"]).write(tmp_path, "d", "hemangioma", "p2"),
    )
    Cohort("copies", studies, ("hemangioma", "hcc")).write(tmp_path)
    found = {f.id: f for f in check(tmp_path, workers=0) if f.id.startswith("copied")}
    assert {name: f.case for name, f in found.items()} == {"copied-patient": "c", "copied-study": "d"}
    assert "study a" in found["copied-patient"].meaning
    assert "pre" not in found["copied-study"].meaning


def _flip(n):
    matrix = np.eye(4)
    matrix[0, 0], matrix[0, 3] = -1, n - 1
    return matrix
