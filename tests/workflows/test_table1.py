"""The "Table 1" of a cohort."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mtinet.cohort import Cohort, Study
from mtinet.imaging.masks import equivalent_diameter_mm
from mtinet.reporting.checklists import fact_names, filled_checklists
from mtinet.volume import Volume
from mtinet.workflows.table1 import table1

AFFINE = np.diag([2.0, 2.0, 5.0, 1.0])


def write_mask(path, sizes):
    """A mask with one block of so many voxels for each lesion."""
    mask = np.zeros((20, 20, 4), dtype=np.uint8)
    for place, voxels in enumerate(sizes):
        mask[:, :, place].flat[:voxels] = place + 1
    Volume(mask, AFFINE).write_nifti(path)
    return path


@pytest.fixture
def cohort(tmp_path):
    """Four studies of three patients: two lesions, one, none, and one that was never segmented."""

    def images(study, *phases):
        image = Volume(np.ones((20, 20, 4), dtype=np.float32), AFFINE)
        paths = {phase: tmp_path / study / f"{phase}.nii.gz" for phase in phases}
        for path in paths.values():
            image.write_nifti(path)
        return paths

    one, two, three, four = (
        images(name, *phases)
        for name, phases in (
            ("s1", ("pre", "arterial")),
            ("s2", ("pre", "arterial")),
            ("s3", ("arterial",)),
            ("s4", ("pre", "arterial")),
        )
    )
    studies = (
        Study(
            "s1", one, "p1", "A", "hcc", write_mask(tmp_path / "m1.nii.gz", (50, 20)), times_s={"arterial": 20.0},
            acquisition={"field_T": 3.0, "dose_mmol_kg": 0.1}, agent="gadobutrol",
        ),
        Study("s2", two, "p1", "A", "cyst", write_mask(tmp_path / "m2.nii.gz", (30,)), times_s={"arterial": 30.0}),
        Study("s3", three, "p2", "B", "none", write_mask(tmp_path / "m3.nii.gz", ()), mask_source="program"),
        Study("s4", four, "p3", "B", ""),
    )  # fmt: skip
    found = Cohort(
        "mine",
        studies,
        classes=("hcc", "cyst"),
        phases=("pre", "arterial"),
        lesions=pd.DataFrame({"study_id": ["s1", "s1"], "lesion": ["1", "2"], "label": ["hcc", "cyst"]}),
    )
    found.write(tmp_path)
    return tmp_path


def cells(table, column=1):
    """Cells by name; phases stand below several heads and get that head before them."""
    named, head = {}, ""
    for row in table.rows:
        head = head if row[0].startswith("  ") else row[0]
        named[row[0] if not row[0].startswith("  ") else f"{head}/{row[0].strip()}"] = row[column]
    return named


def test_patients_phases_and_acquisition_are_counted(cohort):
    found = cells(table1(cohort, workers=1).table)
    assert [found[name] for name in ("Patients", "Studies", "Sites")] == ["3", "4", "2"]
    assert found["Phase missing/pre-contrast"] == "1 (25 %)"
    assert found["Phase missing/arterial"] == "0 (0 %)"
    assert found["Field strength (T)"] == "3: 1 (25 %); not stated: 3 (75 %)"
    assert found["Contrast agent"] == "gadobutrol: 1 (25 %); not stated: 3 (75 %)"
    assert found["Dose (mmol/kg), median (range)"] == "0.1 (0.1–0.1), known for 1"
    assert found["Time after injection (s), median (range)/arterial"] == "25 (20–30), known for 2"
    assert found["Reference masks"] == "reader: 2 (50 %); none: 1 (25 %); program: 1 (25 %)"


def test_lesions_are_counted_by_class_with_their_sizes(cohort):
    found = cells(table1(cohort, workers=1).table)
    assert found["Reference lesions"] == "3"
    assert found["Reference lesions/cyst"] == "2 (67 %)"
    assert found["Reference lesions/HCC"] == "1 (33 %)"
    assert found["Studies by class of the largest lesion/no lesion"] == "1 (25 %)"
    assert found["Studies by class of the largest lesion/unknown"] == "1 (25 %)"
    middle = equivalent_diameter_mm(30 * 20.0)
    assert found["Lesion diameter (mm), median (IQR)"].startswith(f"{middle:.0f} (")
    assert found["Lesion volume (mL), median (IQR)"].startswith("0.6 (")
    assert found["Lesions a study with any, median (range)"] == "1.5 (1–2)"


def test_sites_have_their_columns_and_add_up(cohort):
    table = table1(cohort, workers=1).table
    assert table.heads == ("", "all", "site A", "site B")
    assert [cells(table, column)["Studies"] for column in (1, 2, 3)] == ["4", "2", "2"]
    assert cells(table, 3)["Lesion diameter (mm), median (IQR)"] == "–"


def test_a_study_without_a_label_has_the_class_of_its_largest_lesion(cohort):
    before = cells(table1(cohort, workers=1).table)
    table = pd.read_csv(cohort / "cohort.csv", dtype=str, keep_default_na=False)
    table.loc[table["study_id"] == "s1", "label"] = ""
    table.to_csv(cohort / "cohort.csv", index=False)
    assert cells(table1(cohort, workers=1).table) == before


def test_without_a_table_of_lesions_only_the_largest_has_a_class(cohort):
    (cohort / "lesions.csv").unlink()
    found = cells(table1(cohort, workers=1).table)
    assert found["Reference lesions/HCC"] == "1 (33 %)"
    assert found["Reference lesions/unknown"] == "1 (33 %)"


def test_a_damaged_mask_is_said_and_nothing_stops(cohort):
    (cohort / "m1.nii.gz").write_bytes(b"nothing")
    found = table1(cohort, workers=1)
    assert [(f.id, f.case) for f in found.findings] == [("unreadable-mask", "s1")]
    assert cells(found.table)["Reference lesions"] == "1"


def test_facts_are_those_that_the_checklists_ask_for(cohort):
    found = table1(cohort, workers=1)
    assert set(found.facts) <= fact_names()
    assert "virtual" not in found.facts
    assert found.facts["missing_phases"] == "pre-contrast in 1"
    read = Cohort.read(cohort)
    simulated = replace(read, lesions=read.lesions.assign(noise_free_pre="1.0"))
    simulated.write(cohort)
    facts = table1(cohort, workers=1).facts
    assert facts["mask_source"].startswith("Masks by: simulator: 2")
    filled = {(i.checklist, i.number) for i in filled_checklists(facts) if i.status == "filled"}
    assert ("CLAIM", "11") in filled
    assert ("CLAIM", "14") in filled
