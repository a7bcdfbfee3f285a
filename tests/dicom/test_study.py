from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from mtinet.dicom.contrast import dose_mmol_kg
from mtinet.dicom.members import open_member
from mtinet.dicom.study import read_studies
from mtinet.dicom.times import date_and_seconds, days_between, seconds_from_midnight

# AcquisitionTime as the sidecars of public repositories print it (dcm2niix), and vendor
SIDECAR_TIMES = [
    ("090629.350000", "Philips", 9 * 3600 + 6 * 60 + 29.35),  # dcm_qa_philips EPI_asc_CLEAR_201
    ("130004.570000", "Philips", 13 * 3600 + 4.57),  # dcm_qa_philips_enh 1301_WIP_ADNI_Sag3D_MPRAGE_enh
    ("072925.000000", "GE", 7 * 3600 + 29 * 60 + 25.0),  # dcm_qa_ge fMRI_Multiphase_Des_2
    ("154143.000000", "Canon", 15 * 3600 + 41 * 60 + 43.0),  # dcm_qa_canon_61 3000_DTI_PA-ortho_enh
    ("122458.102500", "Siemens", 12 * 3600 + 24 * 60 + 58.1025),  # dcm_qa_nih EPI_PE=AP_3
]


def write_volume(writer, n=3, **attributes):
    for place in range(n):
        writer.add(place, place, **attributes)


@pytest.mark.parametrize(("text", "vendor", "seconds"), SIDECAR_TIMES)
def test_times_of_vendors(series_writer, enhanced_maker, tmp_path, text, vendor, seconds):
    """The same time from the time of day of a classic file and from the date and time of a frame."""
    writer = series_writer("classic", common={"Manufacturer": vendor, "AcquisitionTime": text})
    write_volume(writer)
    frames = [{"position": (0, 0, k), "datetime": f"20250102{text}-0500"} for k in range(3)]
    dataset = enhanced_maker(frames, np.zeros((3, 4, 5), np.uint16), Manufacturer=vendor)
    dataset.save_as(writer.folder / "enhanced.dcm", enforce_file_format=True)
    studies, _ = read_studies(writer.folder)
    assert len(studies) == 2
    for study in studies:
        assert study.series[0].volumes[0].info.time_s == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 36000.0), ("1015", 36900.0), ("101530", 36930.0), ("101530.5", 36930.5), ("10:15:30", 36930.0),
     ("", None), ("24", None), ("10x", None), ("106000", None)],
)  # fmt: skip
def test_time_of_day(text, seconds):
    assert seconds_from_midnight(text) == seconds


def test_date_and_time_keep_the_scanners_clock():
    assert date_and_seconds("20250102101530.25+0100") == ("20250102", 36930.25)
    assert date_and_seconds("20250102") == ("20250102", None)
    assert date_and_seconds("yesterday") == ("", None)
    assert days_between("20241231", "20250101") == 1
    assert days_between("", "20250101") is None


def test_a_study_may_run_past_midnight(series_writer):
    writer = series_writer(common={"StudyDate": "20241231"})
    for volume, (day, time) in enumerate([("20241231", "235950"), ("20250101", "000010")]):
        for place in range(4):
            writer.add(place, volume, AcquisitionDate=day, AcquisitionTime=time)
    studies, _ = read_studies(writer.folder)
    volumes = studies[0].series[0].volumes
    assert [v.info.time_s for v in volumes] == [86390.0, 86410.0]
    assert [v.info.load().array.max() for v in volumes] == [0, 1]


def test_what_is_known_of_a_series_and_a_study(series_writer):
    common = {
        "StudyDate": "20250102", "PatientName": "Doe^Jane", "AccessionNumber": "A1", "InstitutionName": "H",
        "SeriesDescription": "t1 vibe fs tra arteriell", "ProtocolName": "vibe", "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "Skyra", "MagneticFieldStrength": 3.0, "EchoTime": 1.35,
        "RepetitionTime": 3.35,
        "FlipAngle": 12, "ImageType": ["ORIGINAL", "PRIMARY", "M"], "ContrastBolusAgent": "Gadovist",
        "ContrastBolusStartTime": "101000.5", "ContrastBolusVolume": 7.5, "PatientWeight": 75,
        "StudyDescription": "MR Leber", "BodyPartExamined": "LIVER",
    }  # fmt: skip
    writer = series_writer(common=common)
    write_volume(writer, 4)
    ((study,), _) = read_studies(writer.folder)
    assert (study.patient_id, study.patient_name, study.study_date) == ("007", "Doe^Jane", "20250102")
    assert (study.accession, study.agent) == ("A1", "Gadovist")
    assert study.dose_mmol_kg == pytest.approx(0.1)
    info = study.series[0].info
    assert (info.study_key, info.series_uid) == (study.study_uid, writer.series_uid)
    assert (info.description, info.protocol, info.manufacturer, info.model) == (
        "t1 vibe fs tra arteriell", "vibe", "SIEMENS", "Skyra",
    )  # fmt: skip
    assert (info.series_number, info.n_images, info.field_T) == ("5", 4, 3.0)
    assert (info.agent, info.agent_start_s) == ("Gadovist", 36600.5)
    assert (info.study_description, info.body_part) == ("MR Leber", "LIVER")
    volume = info.volumes[0]
    assert (volume.echo_time_ms, volume.repetition_time_ms, volume.flip_angle_deg) == (1.35, 3.35, 12.0)
    assert volume.image_type == ("ORIGINAL", "PRIMARY", "M")
    uids = [pydicom.dcmread(p).SOPInstanceUID for p in sorted(writer.folder.iterdir())]
    assert list(study.series[0].volumes[0].instance_uids) == uids


@pytest.mark.parametrize(
    ("agent", "ml", "kg", "dose"),
    [
        ("GADAVIST 7.5 ml", 7.5, 75.0, 0.1),
        ("Eovist", 10.0, 100.0, 0.025),
        ("11 ml Omniscan", 11.0, 55.0, 0.1),
        ("Gadovist", 0.0, 75.0, None),  # scanners write 0 where nobody typed it
        ("Gadovist", 7.5, 1.0, None),
        ("Gadovist", 75.0, 75.0, None),
        ("contrast", 7.5, 75.0, None),
        ("Gadovist", None, 75.0, None),
    ],
)
def test_dose_only_where_it_is_known(agent, ml, kg, dose):
    found = dose_mmol_kg(agent, ml, kg)
    assert found == (None if dose is None else pytest.approx(dose))


def test_patients_and_studies_come_apart_and_progress_is_told(series_writer):
    for patient, study in itertools.product(("007", "NO"), ("1.2.3", "1.2.4")):
        writer = series_writer(common={"PatientID": patient}, study_uid=f"{study}.{len(patient)}")
        write_volume(writer)
    told = []
    studies, _ = read_studies(writer.folder, lambda done, total: told.append((done, total)))
    assert [s.patient_id for s in studies] == ["007", "007", "NO", "NO"]
    assert told == [(k + 1, 12) for k in range(12)]


def rewrite(folder, change):
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path, enforce_file_format=False)


def test_images_that_an_anonymiser_gave_one_uid_are_all_kept_and_said(series_writer):
    writer = series_writer()
    for position in range(2):
        for place in range(4):
            writer.add(place, 10 * position + place, TemporalPositionIdentifier=position + 1)
    rewrite(writer.folder, lambda ds: setattr(ds, "SOPInstanceUID", "1.2.3.4"))
    first = min(writer.folder.iterdir())
    (writer.folder / "copy.dcm").write_bytes(first.read_bytes())
    ((study,), _) = read_studies(writer.folder)
    arrays = [v.info.load().array[0, 0].tolist() for v in study.series[0].volumes]
    assert arrays == [[0, 1, 2, 3], [10, 11, 12, 13]]
    said = {f.id: f for f in study.findings}
    assert said["shared-uid"].severity == "warning"
    assert "7 images" in said["shared-uid"].meaning
    assert "1 image twice" in said["duplicate-file"].meaning


def test_the_uid_of_the_files_meta_information_stands_for_one_that_is_missing(series_writer):
    writer = series_writer()
    write_volume(writer, 4)
    uids = tuple(str(pydicom.dcmread(path).SOPInstanceUID) for path in sorted(writer.folder.iterdir()))
    rewrite(writer.folder, lambda ds: setattr(ds, "SOPInstanceUID", ""))
    ((study,), _) = read_studies(writer.folder)
    (volume,) = study.series[0].volumes
    assert volume.instance_uids == uids
    assert study.findings == ()


def test_one_study_under_two_patients_is_named(series_writer):
    for patient in ("A", "B"):
        write_volume(series_writer(common={"PatientID": patient}))
    writer = series_writer()
    studies, _ = read_studies(writer.folder)
    assert len(studies) == 2
    assert all({f.id for f in s.findings} == {"two-patients"} for s in studies)


def test_series_numbers_repeat_and_series_stay_apart(series_writer):
    for _ in range(2):
        writer = series_writer()
        write_volume(writer)
    studies, _ = read_studies(writer.folder)
    assert [s.info.series_number for s in studies[0].series] == ["5", "5"]
    assert len({s.info.series_uid for s in studies[0].series}) == 2


def test_everybody_whom_any_of_its_files_names_is_known(series_writer):
    writer = series_writer(common={"PatientName": "Doe^Jane", "PatientBirthDate": "19600503"})
    write_volume(writer, 2, PatientBirthName="Roe^Jane", OperatorsName=["Lind^Ute", "ub"], StudyID="ST-1")
    write_volume(
        writer, 2, PatientName="Doe^J", OtherPatientIDs="X-9", StationName="MR7", SeriesDate="20240201"
    )
    ((study,), _) = read_studies(writer.folder)
    assert set(study.identity.names) == {"Doe^Jane", "Doe^J", "Roe^Jane"}
    assert set(study.identity.staff) == {"Lind^Ute", "ub"}
    assert set(study.identity.ids) == {"ST-1", "X-9", "MR7"}
    assert set(study.identity.dates) == {"19600503", "20240201"}


def test_masks_are_listed_with_their_study_also_from_a_zip(real_file, tmp_path, monkeypatch):
    import tempfile
    import zipfile

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for name in ("liver_1frame.dcm", "rtstruct.dcm"):
        path = real_file(name)
        ((study,), findings) = read_studies(path)
        assert ([mask.path for mask in study.masks], findings) == ([path], [])
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
            archive.write(path, name)
        ((study,), findings) = read_studies(tmp_path / "x.zip")
        (mask,) = study.masks
        assert open_member(mask.path, mask.member).read() == Path(path).read_bytes()
    # a copy would bear the patient's name, and stay after a kill
    assert not [*(tmp_path / "temporary").iterdir()]


def test_reports_are_counted_not_lost(real_file, series_writer):
    import shutil

    writer = series_writer()
    write_volume(writer)
    shutil.copy(real_file("reportsi.dcm"), writer.folder)
    studies, findings = read_studies(writer.folder)
    assert len(studies) == 1
    assert [f.id for f in findings] == ["not-an-image"]


def test_an_enhanced_volume_may_be_spread_over_files(enhanced_maker, tmp_path):
    """One file a phase, as several vendors export a dynamic series."""
    series_uid = "1.2.3.4"
    uids = []
    for phase in range(2):
        frames = [{"position": (0, 0, 2.5 * k), "temporal": phase + 1} for k in range(3)]
        pixels = np.full((3, 4, 5), 10 + phase, np.uint16)
        dataset = enhanced_maker(frames, pixels, SeriesInstanceUID=series_uid)
        dataset.save_as(tmp_path / f"{phase}", enforce_file_format=True)
        uids.append(dataset.SOPInstanceUID)
    ((study,), _) = read_studies(tmp_path)
    (series,) = study.series
    assert [v.instance_uids for v in series.volumes] == [(uids[0],), (uids[1],)]
    assert [v.frame_numbers for v in series.volumes] == [(1, 2, 3)] * 2
    for k, volume in enumerate(series.volumes):
        loaded = volume.info.load()
        assert (loaded.array == 10 + k).all()
        np.testing.assert_allclose(loaded.spacing_mm, (1.5, 1.25, 2.5))


@pytest.mark.parametrize("reverse", [False, True])
def test_files_of_a_volume_each_go_by_their_numbers_where_nothing_else_tells(
    enhanced_maker, tmp_path, reverse
):
    for phase in range(4):
        # the frames of the second file run the other way
        places = range(3)[::-1] if phase == 1 else range(3)
        pixels = np.array([np.full((4, 5), 10 * phase + k) for k in places], np.uint16)
        frames = [{"position": (0, 0, 2.5 * k)} for k in places]
        dataset = enhanced_maker(frames, pixels, SeriesInstanceUID="1.2.3.4", InstanceNumber=phase + 1)
        dataset.save_as(tmp_path / f"{9 - phase if reverse else phase}", enforce_file_format=True)
    ((study,), _) = read_studies(tmp_path)
    (series,) = study.series
    loaded = [volume.info.load().array[0, 0].tolist() for volume in series.volumes]
    assert loaded == [[10 * phase + k for k in range(3)] for phase in range(4)]
    assert "instance-order" in {finding.id for finding in study.findings}


def test_agent_of_an_enhanced_file(enhanced_maker, tmp_path):
    agent = Dataset()
    agent.CodeMeaning = "Gadoxetate"
    frames = [{"position": (0, 0, k)} for k in range(2)]
    dataset = enhanced_maker(frames, np.zeros((2, 3, 3), np.uint16), ContrastBolusAgentSequence=[agent])
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    ((study,), _) = read_studies(tmp_path)
    assert study.agent == "Gadoxetate"


def test_real_series_of_pydicom(real_file):
    """The three-plane pilots and the axial CT of pydicom's DICOMDIR tree, 16 x 16 pixels each."""
    root = real_file("MR_small.dcm").parent / "dicomdirtests"
    studies, _ = read_studies(root / "98892003")
    first = next(s for s in studies if len(s.series) == 3)
    assert [len(s.volumes) for s in first.series] == [1, 3, 7]
    assert {f.id for f in first.findings} == {"mixed-orientation", "not-comparable"}
    studies, _ = read_studies(root / "98892001")
    gated = next(s for study in studies for s in study.series if s.info.n_images == 5)
    volume = gated.volumes[0].info.load()
    assert volume.shape == (16, 16, 5)
    folder = root / "98892001" / "CT5N"
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        index = np.linalg.solve(volume.affine, [-x, -y, z, 1])[:3]
        np.testing.assert_allclose(index[:2], 0, atol=1e-6)
        expected = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        np.testing.assert_allclose(volume.array[:, :, round(index[2])], expected.T)
