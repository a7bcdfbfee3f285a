from __future__ import annotations

import io
import stat
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtinet.dicom.deidentify import (
    KeyFileError,
    Pseudonyms,
    action_of,
    deidentify,
    dropped_attributes,
    is_pseudonym,
    tags_of,
)
from mtinet.dicom.write import write_exam

KEY = Pseudonyms(bytes(range(32)))


def instance(tmp_path, exam_maker, habit="philips", **values):
    write_exam(tmp_path, exam_maker(habit, phases=("pre", "arterial"), **values))
    return pydicom.dcmread(next(tmp_path.rglob("s601/*.dcm")))


def stored(dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_a_key_is_made_once_for_its_owner_only(tmp_path):
    first = Pseudonyms.open(tmp_path / "a" / "key")
    again = Pseudonyms.open(tmp_path / "a" / "key")
    assert first.key == again.key
    assert len(first.key) == 32
    assert stat.S_IMODE((tmp_path / "a" / "key").stat().st_mode) == 0o600
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["key"]
    other = Pseudonyms.open(tmp_path / "b" / "key")
    assert first.patient("007") == again.patient("007") == first.patient("007 ")
    assert len({first.patient("007"), other.patient("007"), first.patient("7"), first.study("007")}) == 4


def test_a_key_that_is_none_is_refused(tmp_path):
    with pytest.raises(KeyFileError, match="does not exist"):
        Pseudonyms.open(tmp_path / "none", create=False)
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
def test_what_is_listed_as_dropped_is_what_goes(habit, tmp_path, exam_maker):
    dataset = instance(tmp_path, exam_maker, habit)
    before = tags_of(dataset)
    listed = dropped_attributes(dict.fromkeys(before, 1))
    assert {"PatientName", "StudyDate", "InstitutionName"} <= {item.keyword for item in listed}
    assert listed[-1].keyword == "private attributes"
    assert "(0010,0010)" in next(str(item) for item in listed if item.keyword == "PatientName")
    originals = {tag: dataset[tag].value for tag in before if tag in dataset}
    deidentify(dataset, KEY)
    for item in listed[:-1]:
        if originals.get(item.tag):
            assert item.tag not in dataset or dataset[item.tag].value != originals[item.tag], item
    assert not [tag for tag in tags_of(dataset) if tag >> 16 & 1]
    kept = [tag for tag in originals if not action_of(tag) and dataset.get_item(tag) is not None]
    assert {0x00280010, 0x7FE00010} <= set(kept)


def test_references_between_files_hold(tmp_path, exam_maker):
    write_exam(tmp_path, exam_maker("philips", phases=("pre", "arterial")))
    first, second = map(pydicom.dcmread, sorted(tmp_path.rglob("s601/*.dcm"))[:2])
    study, classes = first.StudyInstanceUID, first.SOPClassUID
    deidentify(first, KEY)
    deidentify(second, KEY)
    assert first.StudyInstanceUID == second.StudyInstanceUID == KEY.uid(study) != study
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SOPInstanceUID == first.file_meta.MediaStorageSOPInstanceUID
    assert first.SOPClassUID == classes
    assert first.PatientID == KEY.patient("007")


WORDS = st.text("ABCDEFGHJKLMNPQRSTVXYZ", min_size=8, max_size=12)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(WORDS, min_size=8, max_size=8, unique=True), st.sampled_from(["philips", "enhanced"]))
def test_no_original_identity_remains_anywhere(made, words, habit):
    dataset = pydicom.dcmread(io.BytesIO(made[habit]))
    name, number, place, physician, text, code, private, nested = words
    dataset.PatientName = f"{name}^{nested}"
    dataset.PatientID = number
    dataset.InstitutionName = place
    dataset.ReferringPhysicianName = physician
    dataset.StudyDescription = dataset.SeriesDescription = dataset.ProtocolName = text
    dataset.ImageComments = text
    dataset.PatientBirthDate, dataset.StudyDate, dataset.AcquisitionTime = "19530417", "20211103", "113759.25"
    # where the profile keeps the attribute, and in a sequence
    dataset.ContentLabel = name
    item = pydicom.Dataset()
    item.CodeMeaning, item.CodeValue, item.CodingSchemeDesignator = f"liver of {nested}", "1", "L"
    item.PatientName = name
    dataset.AnatomicRegionSequence = [item]
    dataset.RequestAttributesSequence = [item]
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "LO", private)
    dataset.AccessionNumber = code
    identities = [*words, "19530417", "20211103", "113759", dataset.StudyInstanceUID, dataset.SOPInstanceUID]
    identities += [dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID, dataset.DeviceSerialNumber]
    before = stored(dataset)
    # lower case in a kept text would hide a name from a search of bytes
    assert all(identity.encode() in before for identity in identities)
    deidentify(dataset, KEY)
    after = stored(dataset)
    remaining = [identity for identity in identities if identity.encode() in after]
    assert remaining == []
    pydicom.dcmread(io.BytesIO(after)).pixel_array  # noqa: B018


class Made(dict):
    """Files by habit; their bytes would fill the report of a failure."""

    def __repr__(self):
        return "files"


@pytest.fixture(scope="module")
def made(tmp_path_factory, exam_maker):
    return Made(
        (habit, stored(instance(tmp_path_factory.mktemp(habit), exam_maker, habit)))
        for habit in ("philips", "enhanced")
    )
