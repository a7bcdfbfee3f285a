from __future__ import annotations

import re
import stat
from pathlib import Path

import pydicom
import pytest

from mtinet.dicom.deidentify import (
    KeyFileError,
    Pseudonyms,
    action_of,
    dropped_attributes,
    is_pseudonym,
)
from mtinet.dicom.write import write_exam

KEY = Pseudonyms(bytes(range(32)))


def test_a_key_is_made_once_for_its_owner_only(tmp_path):
    first = Pseudonyms.open(tmp_path / "a" / "key")
    again = Pseudonyms.open(tmp_path / "a" / "key")
    assert first.key == again.key
    assert len(first.key) == 32
    assert stat.S_IMODE((tmp_path / "a" / "key").stat().st_mode) == 0o600
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["key"]
    other = Pseudonyms.open(tmp_path / "b" / "key")
    assert first.patient("007") == again.patient("007") == first.patient("007 ")
    assert first.uid("1.2.3") == again.uid("1.2.3 ") != other.uid("1.2.3")
    assert re.fullmatch(r"2\.25\.[1-9]\d{0,38}", first.uid("1.2.3"))
    assert len({first.patient("007"), other.patient("007"), first.patient("7"), first.study("007")}) == 4


def test_a_key_that_is_none_is_refused(tmp_path):
    for content in ("", "abcd", "not hexadecimal"):
        (tmp_path / "key").write_text(content)
        with pytest.raises(KeyFileError, match="holds no key"):
            Pseudonyms.open(tmp_path / "key")
    with pytest.raises(KeyFileError, match="no id"):
        KEY.patient("  ")


def test_a_place_where_no_key_can_be_kept_names_the_option(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(
        KeyFileError, match=r"pseudonyms\.key \(Not a directory\); give another file with --key"
    ):
        Pseudonyms.open()
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(KeyFileError, match=r"no home directory.*--key"):
        Pseudonyms.open()


def test_a_pseudonym_of_a_study_is_known_by_its_form():
    assert is_pseudonym(KEY.study("1.2.3"))
    for name in ("study-1", "patient-" + "0" * 16, "p0001", ""):
        assert not is_pseudonym(name)


def test_the_profile_is_that_of_the_standard():
    # PS3.15 Table E.1-1
    assert action_of(0x00100010) == "Z"
    assert action_of(0x0020000D) == "U"
    assert action_of(0x00081030) == "X"
    assert action_of(0x2005100E) == "X"
    assert action_of(0x60023000) == "X"
    assert action_of(0x00280030) == action_of(0x00200037) == action_of(0x00180080) == ""


@pytest.mark.parametrize("habit", ["philips", "enhanced"])
def test_what_the_profile_drops_is_listed(habit, tmp_path, exam_maker):
    write_exam(tmp_path, exam_maker(habit, phases=("pre", "arterial")))
    dataset = pydicom.dcmread(next(tmp_path.rglob("s601/*.dcm")))
    tags = {int(element.tag) for element in dataset.iterall()}
    listed = dropped_attributes(dict.fromkeys(tags, 1))
    assert {"PatientName", "StudyDate", "InstitutionName"} <= {item.keyword for item in listed}
    assert listed[-1].keyword == "private attributes"
    assert "(0010,0010)" in next(str(item) for item in listed if item.keyword == "PatientName")
    assert {item.tag for item in listed[:-1]}.isdisjoint({0x00280010, 0x7FE00010})
