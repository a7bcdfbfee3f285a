"""Phases of a table: reading it, the JSON, and the figures on real series lists."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from mtinet.cli import app, main
from mtinet.config import PHASES
from mtinet.dicom.exam import Exam
from mtinet.dicom.write import write_exam
from mtinet.errors import UserError
from mtinet.workflows.ingest import IngestOptions, ingest
from mtinet.workflows.phases import identify_phases, read_series_table, to_json

HEADER = "StudyKey,SeriesInstanceUID,SeriesDescription,SeriesNumber,NumberOfInstances\n"
ROWS = ["pre", "art", "portal", "3 min"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "series.csv"
    rows = [f"007,1.2.{n},Ax LAVA {name},00{n},96\n" for n, name in enumerate(ROWS, start=1)]
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


def test_every_cell_is_text(table):
    (study,) = read_series_table(table).values()
    assert study[0].study_key == "007"
    assert study[0].series_number == "001"


def test_the_json_is_what_programs_were_promised(table, tmp_path):
    out = tmp_path / "phases.json"
    result = CliRunner().invoke(app, ["phases", str(table), "-o", str(out)])
    assert result.exit_code == 0
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written["schema"] == 1
    study = written["007"]
    assert set(study) == {*PHASES, "missing", "excluded"}
    assert study["pre"]["series"] == "001"
    assert set(study["pre"]) == {"series", "series_uid", "volume", "n_volumes", "confidence", "evidence"}
    assert study["hepatobiliary"] is None
    assert "portal_venous" in result.stdout
    printed = CliRunner().invoke(app, ["phases", str(table), "--json"])
    assert json.loads(printed.stdout) == written


def test_an_answer_that_cannot_be_written_names_the_place(table, tmp_path, monkeypatch, capsys):
    place = tmp_path / "folder"
    place.mkdir()
    monkeypatch.setattr(sys, "argv", ["mtinet", "phases", str(table), "-o", str(place)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert f"mtinet: {place}: Is a directory" in capsys.readouterr().err
    assert list(tmp_path.glob(".tmp*")) == []


def test_the_order_of_the_rows_is_no_evidence_beside_numbers(table):
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    first = to_json(identify_phases(table)[0])
    table.write_text(lines[0] + "".join(reversed(lines[1:])), encoding="utf-8")
    assert to_json(identify_phases(table)[0]) == first


EXAMINATION = ["localizer", "t2_haste", "in_opp", "vibe", "care bolus", "vibe", "vibe", "vibe", "dwi"]
"""As it was acquired: the dynamic series have one name."""


def listed(path: Path, numbers, uids=(5, 9, 1, 8, 3, 7, 2, 6, 4)):
    """The phases of an examination whose rows are in the order of acquisition: uid by phase, and the study."""
    counts = {"vibe": 80, "localizer": 15, "care bolus": 40}
    lines = [
        f"1,1.2.{uid},{name},{number},{counts.get(name, 30)}\n"
        for uid, name, number in zip(uids, EXAMINATION, numbers, strict=True)
    ]
    path.write_text(HEADER + "".join(lines), encoding="utf-8")
    (study,) = identify_phases(path)[0]
    return study.identification.phases


def test_rows_in_the_order_of_acquisition_stand_in_for_numbers_that_are_not(tmp_path):
    found = listed(tmp_path / "series.csv", numbers=(8, 3, 6, 2, 9, 7, 1, 5, 4))
    stated = {phase: choice.series_uid for phase, choice in found.items() if choice is not None}
    assert stated == {"pre": "1.2.8", "arterial": "1.2.7", "portal_venous": "1.2.2", "delayed": "1.2.6"}
    for choice in found.values():
        assert choice is None or choice.confidence <= 0.8
        assert choice is None or any("the table's rows" in text for text in choice.evidence)


def test_numbers_that_are_believed_need_no_rows(tmp_path):
    found = listed(tmp_path / "series.csv", numbers=range(1, 10))
    assert found["arterial"].confidence > 0.8
    assert not any("rows" in text for text in found["arterial"].evidence)


@pytest.mark.parametrize(
    ("numbers", "uids"),
    [((8, 3, 6, 2, 9, 7, 1, 5, 4), range(1, 10)), ((8, 3, 6, 2, 9, 7, 1, 5, 4), range(9, 0, -1))],
)
def test_rows_that_are_sorted_by_another_column_say_nothing(tmp_path, numbers, uids):
    assert not any(listed(tmp_path / "series.csv", numbers, uids).values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("StudyKey,SeriesInstanceUID\n1,2\n", "SeriesDescription"),
        (HEADER + "1,2,vibe,3,many\n", "line 2"),
        ("", "no row"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_series_table(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("101530.25", 36930.25),
        ("10:15:30", 36930.0),
        ("9:50", 35400.0),
        ("095012", 35412.0),
        ("95012", 35412.0),  # a spreadsheet ate the zero, or made it a number
        ("95012.0", 35412.0),
        ("000000", 0.0),
        ("", None),
    ],
)
def test_a_table_may_hold_times(tmp_path, text, expected):
    path = tmp_path / "timed.csv"
    path.write_text(HEADER.strip() + f",SeriesTime\n1,2,vibe,3,96,{text}\n", encoding="utf-8")
    assert read_series_table(path)["1"][0].time_s == expected


@pytest.mark.parametrize(
    "text", ["about ten", "nan", "1015", "12", "25:00:00", "10:75", "106030", "2026-01-02"]
)
def test_a_time_that_cannot_be_read_is_named_with_its_line(tmp_path, text):
    path = tmp_path / "timed.csv"
    rows = f"1,2,vibe,3,96,101500,\n1,3,vibe,4,96,,{text}\n"
    path.write_text(HEADER.strip() + ",AcquisitionTime,SeriesTime\n" + rows, encoding="utf-8")
    with pytest.raises(UserError, match=f"line 3: SeriesTime is '{text}'; write it like"):
        read_series_table(path)


def test_times_without_their_zero_keep_the_order(tmp_path):
    path = tmp_path / "timed.csv"
    times = {7: "95012", 4: "95958", 6: "100040", 5: "100300"}
    rows = "".join(f"1,1.{n},t1_vibe,{n},96,{time}\n" for n, time in times.items())
    path.write_text(HEADER.strip() + ",AcquisitionTime\n" + rows, encoding="utf-8")
    (study,) = identify_phases(path)[0]
    stated = {phase: c.series_number for phase, c in study.identification.phases.items() if c is not None}
    assert stated == {"pre": "7", "arterial": "4", "portal_venous": "6", "delayed": "5"}


def test_two_patients_with_one_study_uid_are_two_studies(thick_toy, tmp_path):
    images = thick_toy(31).images
    source, uid = tmp_path / "export", ""
    for patient_id in ("Q4711", "Q0815"):
        exam = Exam(
            patient_id, "st", "siemens", images, {"arterial": 22.0, "portal_venous": 65.0, "delayed": 180.0}
        )
        write_exam(source / patient_id, exam)
        uid = uid or exam.uid("study")
    for path in source.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID = uid
        dataset.save_as(path)
    found, findings = identify_phases(source, use_pixels=False)
    assert [study.study_key for study in found] == [f"{uid}/Q0815", f"{uid}/Q4711"]
    assert [finding.id for finding in findings].count("two-patients") == 1
    # what was found may be corrected, and given to an import, study by study
    told = to_json(found)
    told[f"{uid}/Q0815"] = {"delayed": None}
    (tmp_path / "phases.json").write_text(json.dumps(told), encoding="utf-8")
    options = IngestOptions(key=tmp_path / "key", phases=tmp_path / "phases.json", keep_ids=True)
    cohort = ingest(source, tmp_path / "cohort", options, workers=1).cohort
    assert {study.patient_id: "delayed" in study.images for study in cohort.studies} == {
        "Q4711": True,
        "Q0815": False,
    }


@pytest.mark.slow
@pytest.mark.reference
def test_real_series_lists(reference_folder, benchmark):
    script = benchmark("phase_figures")
    folder = reference_folder / "series_tables"
    studies = read_series_table(folder / "tcga_lihc_dev.csv")
    expected = json.loads((folder / "tcga_lihc_dev_expected.json").read_text(encoding="utf-8"))
    figures = script.figures(studies, expected, shuffles=10)
    confident = "wrong while stated > 0.8"
    plain, deleted, others = (figures[name] for name in ("as it is", script.DELETED, script.LEFT))
    assert plain["right"] >= 0.95 * plain["total"]
    assert deleted["empty"] >= 0.9 * deleted["total"] > 0
    assert others["unchanged"] >= 0.9 * others["total"] > 0
    for name in (
        "as it is",
        script.DELETED,
        script.LEFT,
        "generic names",
        script.SHUFFLED,
        script.BOTH,
    ):
        assert figures[name][confident] <= 0.02 * figures[name]["total"], name
    for name in ("generic names", script.SHUFFLED):
        assert figures[name]["right"] >= 0.9 * figures[name]["total"]
    # numbers that are right need no rows
    assert figures[script.ROWS]["right"] >= 0.99 * figures[script.ROWS]["total"]
    told, alike = (figures[f"{script.BOTH}, {part}"] for part in ("decidable", "alike but for numbers"))
    assert told["right"] >= 0.95 * told["total"]
    assert told["wrong"] <= 0.02 * told["total"]
    # nothing tells them apart, so the right answer is none; some shuffles look like an examination
    assert alike["missed"] >= 0.7 * alike["total"]
    assert told["total"] + alike["total"] == figures[script.BOTH]["total"]
