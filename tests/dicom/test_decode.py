from __future__ import annotations

import os
import pickle
import signal
import zlib

import numpy as np
import pydicom
import pytest

from mtinet.dicom import contained
from mtinet.dicom.contained import Reader, UnreadableError
from mtinet.dicom.decode import stored_frames, why_unusable
from mtinet.dicom.sources import SourceFile, find_files
from mtinet.dicom.study import read_studies

FILES = [
    # name, transfer syntax, a file of the same pixels without compression
    ("MR_small_RLE.dcm", "1.2.840.10008.1.2.5", "MR_small.dcm"),
    ("MR_small_jp2klossless.dcm", "1.2.840.10008.1.2.4.90", "MR_small.dcm"),
    ("MR_small_jpeg_ls_lossless.dcm", "1.2.840.10008.1.2.4.80", "MR_small.dcm"),
    ("MR_small_bigendian.dcm", "1.2.840.10008.1.2.2", "MR_small.dcm"),
    ("MR_small_implicit.dcm", "1.2.840.10008.1.2", "MR_small.dcm"),
    ("MR_small_padded.dcm", "1.2.840.10008.1.2.1", "MR_small.dcm"),
    ("emri_small.dcm", "1.2.840.10008.1.2.1", None),
    ("emri_small_big_endian.dcm", "1.2.840.10008.1.2.2", "emri_small.dcm"),
    ("emri_small_RLE.dcm", "1.2.840.10008.1.2.5", "emri_small.dcm"),
    ("emri_small_jpeg_2k_lossless.dcm", "1.2.840.10008.1.2.4.90", "emri_small.dcm"),
    ("emri_small_jpeg_ls_lossless.dcm", "1.2.840.10008.1.2.4.80", "emri_small.dcm"),
    ("MR-SIEMENS-DICOM-WithOverlays.dcm", "1.2.840.10008.1.2.1", None),
    ("693_J2KI.dcm", "1.2.840.10008.1.2.4.91", None),
    ("JPEG-LL.dcm", "1.2.840.10008.1.2.4.70", None),
    ("JPGLosslessP14SV1_1s_1f_8b.dcm", "1.2.840.10008.1.2.4.70", None),
    ("image_dfl.dcm", "1.2.840.10008.1.2.1.99", None),
]


@pytest.fixture(scope="module")
def reader():
    with Reader() as one:
        yield one


def the_file(path):
    (file,), _ = find_files(path)
    return file


@pytest.mark.parametrize(("name", "syntax", "reference"), FILES)
def test_real_files_decode_to_what_pydicom_reads(real_file, reader, name, syntax, reference):
    path = real_file(name)
    file = the_file(path)
    form = reader.header(file).format
    assert form.syntax == syntax
    frames = list(stored_frames(file, form, range(form.frames)))
    expected = pydicom.dcmread(real_file(reference) if reference else path).pixel_array
    np.testing.assert_array_equal(np.squeeze(np.stack(frames)), expected)


def test_multi_frame_without_functional_groups_has_no_geometry(real_file):
    """pydicom-data's 'emri' files lack the functional groups that enhanced MR must have."""
    studies, _ = read_studies(real_file("emri_small.dcm"))
    (study,) = studies
    assert study.series[0].volumes == ()
    assert {f.id for f in study.findings} == {"no-geometry"}


def test_bits_above_the_stored_ones_are_ignored_and_the_sign_extended(series_writer, reader):
    writer = series_writer(common={"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}, shape=(2, 2))
    path = writer.add(0, np.array([[0xF001, 0x0FFF], [0x0800, 0x07FF]], np.uint16))
    file = the_file(path)
    (frame,) = stored_frames(file, reader.header(file).format, [0])
    assert frame.tolist() == [[1, -1], [-2048, 2047]]


def test_truncated_pixels_are_named(real_file):
    studies, _ = read_studies(real_file("MR_truncated.dcm"))
    (finding,) = studies[0].findings
    assert finding.id == "unusable-image"
    assert "truncated" in finding.meaning


def test_huge_dimensions_are_refused_before_anything_is_allocated(series_writer, reader):
    writer = series_writer()
    path = writer.add(0, 1, Rows=65535, Columns=65535)
    form = reader.header(the_file(path)).format
    assert "65535 rows" in why_unusable(form)


def test_a_loader_survives_the_removal_of_a_file(series_writer):
    writer = series_writer()
    paths = [writer.add(place, 1) for place in range(3)]
    studies, _ = read_studies(writer.folder)
    load = studies[0].series[0].volumes[0].info.load
    paths[1].unlink()
    with pytest.raises(UnreadableError, match=paths[1].name):
        load()


def test_a_loader_can_be_sent_to_another_process(series_writer):
    writer = series_writer()
    for place in range(3):
        writer.add(place, place)
    studies, _ = read_studies(writer.folder)
    load = pickle.loads(pickle.dumps(studies[0].series[0].volumes[0].info.load))
    assert load().array[0, 0].tolist() == [0, 1, 2]


class TestContainment:
    """What a hostile file or decoder can do to the child, and that the next file is read all the same."""

    @pytest.fixture
    def good(self, series_writer):
        return the_file(series_writer("good").add(0, 1))

    @pytest.mark.parametrize(
        ("number", "kind"),
        [("SIGSEGV", "crash"), ("SIGABRT", "crash"), ("SIGPROF", "time"), ("SIGKILL", "memory")],
    )
    def test_a_child_that_dies_is_replaced(self, good, number, kind, monkeypatch):
        with Reader() as reader:
            reader.header(good)
            pid, write = reader._child.pid, reader._write

            def write_and_die(values):
                write(values)
                os.kill(pid, getattr(signal, number))
                os.kill(pid, signal.SIGCONT)

            monkeypatch.setattr(reader, "_write", write_and_die)
            os.kill(pid, signal.SIGSTOP)  # it cannot answer before the signal comes
            with pytest.raises(UnreadableError) as caught:
                reader.header(good)
            assert caught.value.kind == kind
            monkeypatch.undo()
            assert reader.header(good).images
            assert reader._child.pid != pid

    def test_a_child_that_never_answers_is_replaced(self, good, monkeypatch):
        monkeypatch.setattr(contained, "WALL_FACTOR", 0.1)
        with Reader(cpu_s=5.0) as reader:
            reader.header(good)
            os.kill(reader._child.pid, signal.SIGSTOP)
            with pytest.raises(UnreadableError) as caught:
                reader.header(good)
            assert caught.value.kind == "time"
            assert reader.header(good).images

    def test_time_is_processor_time_and_limited(self, good, enhanced_maker, tmp_path):
        frames = [{"position": (0.0, 0.0, float(k))} for k in range(1500)]
        dataset = enhanced_maker(frames, np.zeros((1500, 1, 1), np.uint16))
        dataset.save_as(tmp_path / "slow.dcm", enforce_file_format=True)
        with Reader(cpu_s=0.1) as reader:
            with pytest.raises(UnreadableError) as caught:
                reader.header(the_file(tmp_path / "slow.dcm"))
            assert caught.value.kind == "time"
            assert reader.header(good).images

    def test_memory_is_limited(self, good, tmp_path):
        """A deflated header that unpacks to more than the limit."""
        dataset = pydicom.dcmread(good.path)
        start = 132 + 12 + dataset.file_meta.FileMetaInformationGroupLength
        meta = good.path.read_bytes()[:start]
        syntax = b"1.2.840.10008.1.2.1\0"
        assert meta.count(syntax) == 1
        deflated = meta.replace(syntax, b"1.2.840.10008.1.2.1.99")
        for field, more in ((b"\x02\0\x10\0UI", 2), (b"\x02\0\0\0UL\x04\0", 2)):
            at = deflated.index(field) + len(field)
            deflated = deflated[:at] + bytes([deflated[at] + more]) + deflated[at + 1 :]
        squeeze = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = b"".join(squeeze.compress(b"\0" * (16 << 20)) for _ in range(12)) + squeeze.flush()
        (tmp_path / "bomb.dcm").write_bytes(deflated + body)
        bomb = SourceFile(tmp_path / "bomb.dcm", "", "bomb.dcm", len(body), True)
        with Reader(cpu_s=30.0, memory_bytes=64 << 20) as reader:
            with pytest.raises(UnreadableError) as caught:
                reader.header(bomb)
            assert caught.value.kind == "memory"
            assert reader.header(good).images

    def test_depth_is_limited(self, good, tmp_path):
        item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
        sequence = b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff"
        data = good.path.read_bytes()
        start = 132 + 12 + pydicom.dcmread(good.path).file_meta.FileMetaInformationGroupLength
        (tmp_path / "deep.dcm").write_bytes(data[:start] + (sequence + item) * 50_000)
        with Reader() as reader:
            with pytest.raises(UnreadableError) as caught:
                reader.header(the_file(tmp_path / "deep.dcm"))
            assert caught.value.kind == "depth"
            assert reader.header(good).images


def test_one_reader_a_process():
    assert contained.shared_reader() is contained.shared_reader()
