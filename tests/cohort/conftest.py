"""A cohort folder in order, for the tests to spoil."""

import pytest

from mtinet.cohort import read_with_findings

CSV = """study_id,patient_id,label,pre,portal_venous,mask,time_portal_venous_s
a,1,hcc,a0.nii.gz,a1.nii.gz,am.nii.gz,65
b,2,fnh,b0.nii.gz,b1.nii.gz,bm.nii.gz,
"""
YAML = "name: test\nclasses: [hcc, fnh]\nphases: [pre, portal_venous]\n"


@pytest.fixture
def folder(tmp_path):
    for name in ("a0", "a1", "am", "b0", "b1", "bm"):
        (tmp_path / f"{name}.nii.gz").write_bytes(b"")
    (tmp_path / "cohort.yaml").write_text(YAML, encoding="utf-8")
    (tmp_path / "cohort.csv").write_text(CSV, encoding="utf-8")
    return tmp_path


@pytest.fixture
def ids(folder):
    """What is found in the folder now, by id."""
    return lambda: {finding.id for finding in read_with_findings(folder)[1]}


@pytest.fixture
def append(folder):
    """Adds a row to a table of the folder."""

    def add_row(row, name="cohort.csv"):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(row + "\n")

    return add_row


@pytest.fixture
def describe(folder):
    """Replaces a text in the folder's ``cohort.yaml``."""

    def exchange(old, new):
        assert old in YAML
        (folder / "cohort.yaml").write_text(YAML.replace(old, new), encoding="utf-8")

    return exchange
