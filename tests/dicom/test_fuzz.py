"""Hostile files: each ends as read or as a finding, within the limits, and never stops the rest."""

from __future__ import annotations

import io
import random
import resource
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from mtinet.dicom import contained
from mtinet.dicom.study import read_studies
from mtinet.errors import UserError
from mtinet.workflows.imports import dicom_masks
from mtinet.workflows.imports.dicom_masks import MaskFolder

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

REAL = [
    "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "CT_small.dcm", "rtstruct.dcm",
    "JPGLosslessP14SV1_1s_1f_8b.dcm", "emri_small_RLE.dcm",
]  # fmt: skip
PATHS = [
    "../../../etc/passwd",
    "/etc/shadow",
    "C:\\Windows\\x",
    "..\\..\\x",
    "a\x00b",
    "NUL",
    "~root",
    "$(id)",
]


def truncated(data, rng):
    return data[: rng.randrange(len(data))]


def flipped(data, rng):
    changed = bytearray(data)
    for _ in range(rng.choice([1, 4, 32, 256])):
        changed[rng.randrange(132, len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flipped_pixels(data, rng):
    """Damage where decoders read: behind the header."""
    changed = bytearray(data)
    start = max(132, data.find(b"\xe0\x7f\x10\x00"))
    for _ in range(rng.choice([1, 8, 64])):
        changed[rng.randrange(start, len(changed))] = rng.randrange(256)
    return bytes(changed)


def huge_length(data, rng):
    changed = bytearray(data)
    at = rng.randrange(140, max(141, min(len(changed) - 4, 4000)))
    changed[at : at + 4] = struct.pack("<L", rng.choice([0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x10000000]))
    return bytes(changed)


def deep(data, rng):
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    nested = (b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + item) * rng.choice([50, 2000, 60_000])
    at = 144 + int.from_bytes(data[140:144], "little") if data[128:132] == b"DICM" else 0
    return data[:at] + nested + data[at:]


def duplicated(data, rng):
    a, b = sorted(rng.randrange(132, len(data)) for _ in range(2))
    return data[:b] + data[a:b] + data[b:]


def edited(data, rng):
    """A well-formed file with hostile values."""
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    for keyword in rng.sample(sorted(HOSTILE), rng.randrange(1, 4)):
        value = rng.choice(HOSTILE[keyword])
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    out = io.BytesIO()
    try:
        dataset.save_as(out)
    except Exception:  # pydicom refuses to write it: damage the bytes instead
        return flipped(data, rng)
    return out.getvalue()


HOSTILE = {
    "Rows": [0, 1, 65535, None], "Columns": [0, 1, 65535, None],
    "NumberOfFrames": ["2147483647", "0", "-1", "7"],
    "BitsAllocated": [0, 1, 12, 64, 65535, None], "BitsStored": [0, 13, 65535, None], "HighBit": [0, 65535],
    "SamplesPerPixel": [0, 3, 65535], "PixelRepresentation": [2, 65535],
    "PixelSpacing": [["0", "0"], ["1e300", "1"]],
    "ImagePositionPatient": [["1e308", "0", "0"], ["nan", "0", "0"], ["1"]],
    "ImageOrientationPatient": [["0"] * 6, ["1", "0", "0", "1", "0", "0"], ["inf"] * 6],
    "PatientID": PATHS, "StudyInstanceUID": [*PATHS, "9" * 4000, ""], "SeriesInstanceUID": [*PATHS, ""],
    "SOPInstanceUID": [*PATHS, ""], "SOPClassUID": ["", "1.2.3"], "PatientName": ["x" * 100_000],
    "InstanceNumber": ["99999999999999999999"], "AcquisitionTime": ["999999", "x", "-1"],
    "RescaleSlope": ["0", "nan", "1e308"], "EchoTime": ["nan", "-1"],
}  # fmt: skip
MUTATIONS = [
    truncated,
    flipped,
    flipped,
    flipped_pixels,
    flipped_pixels,
    huge_length,
    deep,
    duplicated,
    edited,
    edited,
]


def zipped(data, rng):
    """The file in a zip, under a hostile name or beside a bomb, the zip itself damaged at times."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            rng.choice(["a.dcm", "../a.dcm", "/a.dcm", "x/../../a.dcm", "a\\..\\..\\b.dcm"]), data
        )
        if rng.random() < 0.2:
            archive.writestr("bomb.dcm", b"\0" * (2 << 20))
    damaged = bytearray(out.getvalue())
    for _ in range(rng.choice([0, 1, 8])):
        damaged[rng.randrange(4, len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def outcome(path):
    """``read`` or ``finding``; anything that is no ``UserError`` is raised."""
    studies, findings = read_studies(path)
    found = len(findings) + sum(len(study.findings) for study in studies)
    read = sum(len(study.masks) for study in studies)
    for volume in (v for study in studies for series in study.series for v in series.volumes):
        try:
            loaded = volume.info.load()
        except UserError as error:
            found += bool(str(error))
        else:
            assert loaded.shape == volume.info.grid.shape
            assert np.isfinite(loaded.affine).all()
            read += 1
    for finding in [*findings, *(f for study in studies for f in study.findings)]:
        assert finding.stage == "import"
        assert finding.meaning
        assert finding.action
    assert read or found, "neither read nor named"
    return "finding" if found else "read"


def bases(real_file, enhanced_maker):
    data = [real_file(name).read_bytes() for name in REAL]
    frames = [{"position": (0, 0, k % 4), "temporal": k // 4, "scale_slope": 0.5} for k in range(8)]
    out = io.BytesIO()
    enhanced_maker(frames, np.ones((8, 6, 5), np.uint16)).save_as(out, enforce_file_format=True)
    return [*data, out.getvalue()]


def run(count, seed, real_file, enhanced_maker, folder):
    assert contained.CPU_S <= 2.0
    assert contained.MEMORY_BYTES <= 1 << 30
    originals = bases(real_file, enhanced_maker)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = []
    for k in range(count):
        rng = random.Random(f"{seed}/{k}")
        data = rng.choice(MUTATIONS)(originals[k % len(originals)], rng)
        path = folder / "fuzz.dcm"
        if k % 20 == 19:
            path, data = folder / "fuzz.zip", zipped(data, rng)
        path.write_bytes(data)
        try:
            outcomes.append(outcome(path))
        except Exception as error:
            raise AssertionError(f"file {k} of seed {seed}") from error
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < 1 << 20
    return outcomes


def test_hostile_files_quick(real_file, enhanced_maker, tmp_path):
    outcomes = run(110, "quick", real_file, enhanced_maker, tmp_path)
    assert {"read", "finding"} == set(outcomes)


@pytest.mark.slow
def test_hostile_files(real_file, enhanced_maker, tmp_path):
    outcomes = run(2000, "slow", real_file, enhanced_maker, tmp_path)
    assert len(outcomes) == 2000
    assert outcomes.count("finding") > 500


def test_the_rest_is_read_beside_hostile_files(real_file, series_writer):
    writer = series_writer()
    for place in range(4):
        writer.add(place, place)
    rng = random.Random(1)
    base = real_file("MR_small_jp2klossless.dcm").read_bytes()
    for k, mutate in enumerate(MUTATIONS):
        (writer.folder / f"bad{k}.dcm").write_bytes(mutate(base, rng))
    studies, _ = read_studies(writer.folder)
    study = next(s for s in studies if s.patient_id == "007")
    assert study.series[0].volumes[0].info.load().array[0, 0].tolist() == [0, 1, 2, 3]


def deflated(path, zeros):
    """The mask as a file that is small and becomes as large as it has zeros."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.add_new((0x7FE1, 0x0010), "LO", "ZEROS")
    dataset.add_new((0x7FE1, 0x1010), "OB", bytes(zeros))
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def test_a_mask_that_grows_is_never_opened_outside_the_limits(real_file, tmp_path, monkeypatch):
    (tmp_path / "good.dcm").write_bytes(real_file("liver_1frame.dcm").read_bytes())
    (tmp_path / "MUELLER.dcm").write_bytes(deflated(real_file("liver_1frame.dcm"), 96 << 20))
    assert (tmp_path / "MUELLER.dcm").stat().st_size < 1 << 20
    ((study,), _) = read_studies(tmp_path / "good.dcm")
    with contained.Reader(memory_bytes=64 << 20) as narrow:
        monkeypatch.setattr(dicom_masks, "shared_reader", lambda: narrow)
        monkeypatch.setattr(pydicom, "dcmread", None)
        masks = MaskFolder(tmp_path)
    found = masks.of(replace(study, masks=()), "study-1", "patient-1")
    assert [mask.path.name for mask in found] == ["good.dcm"]
    (said,) = masks.findings()
    assert "memory" in said.meaning
    assert said.case == "MUELLER.dcm"


@pytest.mark.parametrize("identity", PATHS)
def test_path_like_ids_stay_text(series_writer, identity, tmp_path):
    writer = series_writer(common={"PatientID": identity, "SeriesDescription": identity})
    for place in range(2):
        writer.add(place, place)
    before = set(tmp_path.rglob("*"))
    ((study,), _) = read_studies(writer.folder)
    assert study.patient_id == "".join(c for c in identity if c.isprintable())
    assert set(tmp_path.rglob("*")) == before
