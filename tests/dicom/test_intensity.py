from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from mtinet.dicom.headers import Image
from mtinet.dicom.intensity import scaling
from mtinet.dicom.study import read_studies

PHILIPS = "Philips Medical Systems"
CREATOR = "Philips MR Imaging DD 001"

# PhilipsRescaleSlope, -Intercept, -ScaleSlope of the sidecars in the public repositories dcm_qa_philips
# (EPI_asc_CLEAR_201) and dcm_qa_philips_enh (1301_WIP_ADNI_Sag3D_MPRAGE_enh, 2101_WIP_fcMRI_cl)
SIDECARS = [(1.29035, 0.0, 0.00428404), (2.36166, 0.0, 0.00746929), (0.703785, 0.0, 0.0556675)]


def image(**values):
    return Image("1.2", -1, 1, **values)


def only_volume(folder):
    studies, findings = read_studies(folder)
    assert findings == []
    (series,) = studies[0].series
    (volume,) = series.volumes
    return volume, {finding.id for finding in studies[0].findings}


@pytest.mark.parametrize(("slope", "intercept", "scale_slope"), SIDECARS)
def test_philips_floating_point_value(slope, intercept, scale_slope):
    result = scaling(image(rescale=(slope, intercept), scale_slope=scale_slope), PHILIPS)
    for stored in (0.0, 1.0, 4095.0):
        expected = (stored * slope + intercept) / (slope * scale_slope)
        assert result.slope * stored + result.intercept == pytest.approx(expected)
    assert result.comparable


def test_philips_without_scale_slope_is_not_comparable():
    result = scaling(image(rescale=(2.0, 5.0)), PHILIPS)
    assert (result.slope, result.intercept, result.comparable) == (2.0, 5.0, False)


def test_philips_repeats_its_display_scale_as_a_real_world_value():
    """dcm_qa_philips_enh 2101_WIP_fcMRI_cl: PhilipsRWVSlope = PhilipsRescaleSlope = 0.703785."""
    values = {"rescale": (0.703785, 0.0), "real_world": (0.703785, 0.0), "real_world_unit": "1"}
    assert scaling(image(**values, scale_slope=0.0556675), PHILIPS).slope == pytest.approx(1 / 0.0556675)
    assert not scaling(image(**values), PHILIPS).comparable


@pytest.mark.parametrize(("unit", "comparable"), [("ms", True), ("1", False), ("", False)])
def test_a_real_world_value_counts_only_with_a_unit(unit, comparable):
    result = scaling(image(rescale=(2.0, 0.0), real_world=(0.5, 1.0), real_world_unit=unit), PHILIPS)
    assert result.comparable is comparable
    assert result.slope == (0.5 if comparable else 2.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, None])
def test_a_scale_slope_that_is_no_scale_counts_as_missing(bad):
    assert not scaling(image(rescale=(2.0, 0.0), scale_slope=bad), PHILIPS).comparable


def test_other_vendors_store_their_signal_with_or_without_a_rescale():
    assert scaling(image(rescale=(0.5, 3.0)), "SIEMENS").slope == 0.5
    plain = scaling(image(), "GE MEDICAL SYSTEMS")
    assert (plain.slope, plain.intercept, plain.comparable) == (1.0, 0.0, True)


@pytest.mark.parametrize("block", [0x10, 0x13])
def test_scale_slope_is_read_from_the_block_that_its_creator_reserved(series_writer, block):
    writer = series_writer(
        common={"Manufacturer": PHILIPS, "RescaleSlope": 1.29035, "RescaleIntercept": 10.0}
    )
    for place in range(3):
        path = writer.add(place, 100)
        dataset = pydicom.dcmread(path)
        dataset.add_new((0x2005, block), "LO", CREATOR)
        dataset.add_new((0x2005, block << 8 | 0x0E), "FL", 0.00428404)
        dataset.save_as(path)
    volume, findings = only_volume(writer.folder)
    assert volume.comparable
    assert findings == set()
    expected = (100 * 1.29035 + 10.0) / (1.29035 * 0.00428404)
    np.testing.assert_allclose(volume.info.load().array, expected, rtol=1e-5)


def test_scale_slope_stored_as_unknown_bytes_or_without_its_creator(series_writer):
    writer = series_writer(common={"Manufacturer": PHILIPS, "RescaleSlope": 2.0, "RescaleIntercept": 0.0})
    for place in range(2):
        path = writer.add(place, 100)
        dataset = pydicom.dcmread(path)
        dataset.add_new((0x2005, 0x100E), "UN", np.float32(0.5).tobytes())
        dataset.save_as(path)
    volume, _ = only_volume(writer.folder)
    assert volume.comparable
    np.testing.assert_allclose(volume.info.load().array, 200.0)


@pytest.mark.parametrize(
    "common",
    [{"Manufacturer": ""}, {"Manufacturer": "ANONYMIZED"}, {"Manufacturer": PHILIPS, "Modality": ""}],
)
def test_scale_slope_counts_whatever_an_anonymiser_has_left_of_the_manufacturer(series_writer, common):
    writer = series_writer(common={"RescaleSlope": 2.0, "RescaleIntercept": 0.0, **common})
    for place in range(2):
        path = writer.add(place, 100)
        dataset = pydicom.dcmread(path)
        dataset.private_block(0x2005, CREATOR, create=True).add_new(0x0E, "FL", 0.25)
        dataset.save_as(path)
    volume, findings = only_volume(writer.folder)
    assert volume.comparable
    assert findings == set()
    np.testing.assert_allclose(volume.info.load().array, 400.0)


@pytest.mark.parametrize("modality", ["MR", ""])
def test_missing_scale_slope_is_said(series_writer, modality):
    common = {"Manufacturer": PHILIPS, "RescaleSlope": 2.0, "RescaleIntercept": 5.0, "Modality": modality}
    writer = series_writer(common=common)
    for place in range(3):
        writer.add(place, 100)
    volume, findings = only_volume(writer.folder)
    assert not volume.comparable
    assert findings == {"not-comparable"}
    np.testing.assert_allclose(volume.info.load().array, 205.0)


def test_a_rescale_may_differ_between_slices(series_writer):
    writer = series_writer(common={"Manufacturer": "SIEMENS"})
    for place in range(4):
        writer.add(place, 10, RescaleSlope=1.0 + place, RescaleIntercept=-place)
    volume, _ = only_volume(writer.folder)
    assert volume.info.load().array[0, 0].tolist() == [10 * (1 + k) - k for k in range(4)]


def test_enhanced_philips_scale_slope_lies_in_the_private_group_of_each_frame(enhanced_maker, tmp_path):
    """Two phases of a series with scales of their own: the same tissue gets the same intensity."""
    frames = [
        {
            "position": (0.0, 0.0, 2.0 * place),
            "temporal": phase + 1,
            "datetime": f"20250102101{phase}30.250000+0100",
            "rescale": (2.0 + phase, 0.0),
            "scale_slope": 0.25 * (1 + phase),
        }
        for place in range(3)
        for phase in range(2)
    ]
    stored = np.array([100 * (1 + f["temporal"] - 1) for f in frames], np.uint16)
    pixels = np.broadcast_to(stored[:, None, None], (6, 4, 5)).copy()
    dataset = enhanced_maker(frames, pixels, Manufacturer=PHILIPS, StudyDate="20250102")
    dataset.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    studies, findings = read_studies(tmp_path)
    assert findings == []
    (series,) = studies[0].series
    assert [v.comparable for v in series.volumes] == [True, True]
    assert [v.info.time_s for v in series.volumes] == [36630.25, 36690.25]
    assert [v.frame_numbers for v in series.volumes] == [(1, 3, 5), (2, 4, 6)]
    assert all(v.instance_uids == (dataset.SOPInstanceUID,) for v in series.volumes)
    for volume in series.volumes:
        np.testing.assert_allclose(volume.info.load().array, 400.0)


def test_a_philips_ct_has_its_hounsfield_units(series_writer):
    writer = series_writer(
        common={"Manufacturer": "Philips", "Modality": "CT", "RescaleSlope": 1.0, "RescaleIntercept": -1024.0}
    )
    writer.add(0, 1064)
    writer.add(1, 1064)
    volume, findings = only_volume(writer.folder)
    assert findings == set()
    np.testing.assert_allclose(volume.info.load().array, 40.0)


def test_a_display_mapping_is_no_scale(series_writer):
    item, unit = Dataset(), Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = 0.5, 0.0
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "1", "UCUM", "no units"
    item.MeasurementUnitsCodeSequence = [unit]
    writer = series_writer(
        common={"Manufacturer": PHILIPS, "RescaleSlope": 2.0, "RealWorldValueMappingSequence": [item]}
    )
    writer.add(0, 10)
    writer.add(1, 10)
    volume, findings = only_volume(writer.folder)
    assert findings == {"not-comparable"}
    np.testing.assert_allclose(volume.info.load().array, 20.0)
