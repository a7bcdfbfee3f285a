from __future__ import annotations

import os
import shutil
import zipfile

import pytest

from mtinet.dicom import members
from mtinet.dicom.sources import find_files
from mtinet.dicom.study import read_studies
from mtinet.errors import UnusableError


@pytest.fixture
def volume(series_writer):
    """A folder with one whole series of five images."""
    writer = series_writer()
    for place in range(5):
        writer.add(place, place)
    return writer.folder


def write_zip(path, members, **settings):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **settings) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def ids(findings):
    return sorted(finding.id for finding in findings)


def test_folder_and_zip_give_the_same_voxels(volume, tmp_path):
    (volume / "deep" / "deeper").mkdir(parents=True)
    for k, path in enumerate(sorted(volume.glob("*.dcm"))):
        path.rename(volume / "deep" / "deeper" / f"IM{k}")  # without suffix
    (volume / "notes.txt").write_text("not DICOM")
    (volume / "empty").touch()
    members = {p.relative_to(volume).as_posix(): p.read_bytes() for p in volume.rglob("*") if p.is_file()}
    archive = write_zip(tmp_path / "export.zip", members)
    arrays = []
    for source in (volume, archive):
        studies, findings = read_studies(source)
        assert findings == []
        arrays.append(studies[0].series[0].volumes[0].info.load().array)
    assert arrays[0][0, 0].tolist() == [0, 1, 2, 3, 4]
    assert (arrays[0] == arrays[1]).all()


def test_unsafe_members_are_named_and_the_rest_is_read(volume, tmp_path):
    members = {p.name: p.read_bytes() for p in volume.glob("*.dcm")}
    one = next(iter(members.values()))
    bad = {"../up.dcm": one, "/abs.dcm": one, "C:/win.dcm": one, "a/../../up.dcm": one, "..\\up.dcm": one}
    archive = write_zip(tmp_path / "x.zip", members | bad)
    before = set(tmp_path.rglob("*"))
    studies, findings = read_studies(archive)
    assert ids(findings) == ["unsafe-member"] * 5
    assert studies[0].series[0].info.n_images == 5
    assert set(tmp_path.rglob("*")) == before, "nothing is written"


def test_a_link_in_a_zip_is_not_followed(volume, tmp_path):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as out:
        link = zipfile.ZipInfo("link.dcm")
        link.external_attr = 0o120777 << 16
        out.writestr(link, "/etc/passwd")
    _, findings = read_studies(archive)
    assert ids(findings) == ["unsafe-member"]
    assert "link" in findings[0].meaning


def restate_size(path, size):
    """Another unpacked size in the zip's directory and in the member's own header."""
    data = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        start = data.index(mark)
        data[start + at : start + at + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)


def test_bombs_are_refused_by_what_the_zip_states(tmp_path):
    bomb = write_zip(tmp_path / "bomb.zip", {"a.dcm": b"\0" * (4 << 20)})
    _, findings = read_studies(bomb)
    assert ids(findings) == ["unsafe-member"]
    assert "250 times" in findings[0].meaning
    restate_size(bomb, 0x7FFFFFFF)
    _, findings = read_studies(bomb)
    assert ids(findings) == ["zip-refused"]


def test_a_bomb_that_understates_its_size_is_not_unpacked_further(volume, tmp_path):
    data = next(volume.glob("*.dcm")).read_bytes()
    bomb = write_zip(tmp_path / "bomb.zip", {"a.dcm": data + b"\0" * (4 << 20)})
    restate_size(bomb, len(data))
    _, findings = read_studies(bomb)
    assert ids(findings) == ["unreadable-file"]


def test_archives_within_archives_are_named(volume, tmp_path):
    inner = write_zip(tmp_path / "inner.zip", {p.name: p.read_bytes() for p in volume.glob("*.dcm")})
    outer = write_zip(tmp_path / "outer.zip", {"inner.zip": inner.read_bytes(), "x.tar.gz": b"x"})
    studies, findings = read_studies(outer)
    assert studies == []
    assert ids(findings) == ["archive", "archive"]


def test_the_directory_of_a_zip_is_read_once_for_all_its_members(volume, tmp_path):
    files = {p.name: p.read_bytes() for p in volume.glob("*.dcm")}
    archive = write_zip(tmp_path / "x.zip", files)
    members._opened.cache_clear()
    for name, content in files.items():
        assert members.open_member(archive, name).read() == content
    assert members._opened.cache_info().misses == 1
    # another zip in its place is another one
    write_zip(archive, {name: content + b"x" for name, content in files.items()})
    for name, content in files.items():
        assert members.open_member(archive, name).read() == content + b"x"
    with pytest.raises(zipfile.BadZipFile, match="no longer there"):
        members.open_member(archive, "another.dcm")


def test_damaged_and_encrypted_zips_are_named(volume, tmp_path):
    archive = write_zip(tmp_path / "x.zip", {p.name: p.read_bytes() for p in volume.glob("*.dcm")})
    data = archive.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    assert ids(read_studies(tmp_path / "cut.zip")[1]) == ["unreadable-file"]
    locked = bytearray(data)
    at = locked.find(b"PK\x01\x02")
    while at >= 0:
        locked[at + 8] |= 1
        at = locked.find(b"PK\x01\x02", at + 4)
    (tmp_path / "locked.zip").write_bytes(locked)
    assert ids(read_studies(tmp_path / "locked.zip")[1]) == ["unsafe-member"] * 5


def test_a_file_that_claims_to_be_dicom_is_named_others_are_passed_over(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"nothing")
    (tmp_path / "b").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 500)
    (tmp_path / "d").write_bytes(b"\x08\x00\x05\x00 by chance")
    studies, findings = read_studies(tmp_path)
    assert studies == []
    assert sorted(f.case for f in findings) == ["a.dcm", "b"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_and_looping_links_do_not_hang(volume):
    os.mkfifo(volume / "pipe.dcm")
    (volume / "loop").symlink_to(volume, target_is_directory=True)
    files, findings = find_files(volume)
    assert len(files) == 5
    assert findings == []


def test_linked_folders_are_read(series_writer, tmp_path):
    for name in ("here", "elsewhere/there"):
        writer = series_writer(name, study_uid=f"1.2.{len(name)}")
        for place in range(3):
            writer.add(place)
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    studies, findings = read_studies(tmp_path / "here")
    assert findings == []
    assert [study.series[0].info.n_images for study in studies] == [3, 3]


def test_a_missing_source_is_an_error(tmp_path):
    with pytest.raises(UnusableError, match="does not exist"):
        read_studies(tmp_path / "nothing")


def test_dicomdir_names_absent_files(real_file, tmp_path):
    """pydicom's DICOMDIR of 7 series; without its images everything is missing."""
    root = real_file("MR_small.dcm").parent / "dicomdirtests"
    shutil.copy(root / "DICOMDIR", tmp_path / "DICOMDIR")
    _, findings = read_studies(tmp_path)
    assert ids(findings) == ["dicomdir-missing-files"]
    assert findings[0].value == 31.0
    for name in ("77654033", "98892001", "98892003"):
        shutil.copytree(root / name, tmp_path / name)
    studies, findings = read_studies(tmp_path)
    assert findings == []
    assert {s.patient_id for s in studies} == {"77654033", "98890234"}


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "is empty"), (b"just a text, not an archive", "is no zip file, whatever its name says")],
)
def test_what_is_only_called_a_zip_is_not_asked_to_be_unpacked(content, told, tmp_path):
    (tmp_path / "study.zip").write_bytes(content)
    _, (finding,) = read_studies(tmp_path / "study.zip")
    assert (finding.id, finding.meaning) == ("unreadable-file", f"it {told}")
    assert "Copy or upload it again" in finding.action


def test_a_zip_without_dicom_says_what_it_holds_instead(volume, tmp_path):
    assert "without a file" in read_studies(write_zip(tmp_path / "none.zip", {}))[1][0].meaning
    images = {"pre.nii.gz": b"x", "delayed.nii": b"x", "readme.txt": b"x"}
    _, (finding,) = read_studies(write_zip(tmp_path / "nifti.zip", images))
    assert finding.id == "nifti-in-zip"
    assert "NIfTI (2 files)" in finding.meaning
    assert "Unpack it" in finding.action
    dicom = {p.name: p.read_bytes() for p in volume.glob("*.dcm")}
    studies, findings = read_studies(write_zip(tmp_path / "both.zip", dicom | images))
    assert (len(studies), findings) == (1, [])
