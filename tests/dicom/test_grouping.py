from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from pydicom import Dataset

from mtinet.dicom.study import read_studies
from mtinet.errors import UserError


def only_series(folder):
    studies, findings = read_studies(folder)
    assert findings == []
    (study,) = studies
    (series,) = study.series
    return series, {finding.id for finding in study.findings}


def fill(writer, plan):
    """Write images in a shuffled order; ``plan`` lists (volume, place, attributes)."""
    shuffled = list(plan)
    random.Random(3).shuffle(shuffled)
    for volume, place, attributes in shuffled:
        writer.add(place, 100 * volume + place, **attributes)


def contents(series):
    """Which volume and places each found volume holds, read back from its voxels."""
    found = []
    for volume in series.volumes:
        values = volume.info.load().array[0, 0].astype(int)
        found.append((values // 100).tolist())
        assert (values % 100).tolist() == list(range(len(values))), "slices in order along the normal"
    return found


def assert_volumes(series, n_volumes, n_slices):
    assert contents(series) == [[k] * n_slices for k in range(n_volumes)]
    assert [v.info.index for v in series.volumes] == list(range(n_volumes))


def test_ge_many_temporal_positions_one_acquisition_time(series_writer):
    writer = series_writer(common={"AcquisitionTime": "101500", "Manufacturer": "GE MEDICAL SYSTEMS"})
    plan = [(v, p, {"TemporalPositionIdentifier": v + 1}) for v in range(3) for p in range(7)]
    fill(writer, plan)
    series, findings = only_series(writer.folder)
    assert_volumes(series, 3, 7)
    assert findings == set()
    assert [v.info.temporal_position for v in series.volumes] == [1, 2, 3]


def test_philips_one_acquisition_time_per_temporal_position(series_writer):
    writer = series_writer(common={"Manufacturer": "Philips Medical Systems"})
    times = ["101500.12", "101533.5", "101610", "101800.75"]
    plan = [
        (v, p, {"TemporalPositionIdentifier": v + 1, "AcquisitionTime": times[v]})
        for v in range(4)
        for p in range(5)
    ]
    fill(writer, plan)
    series, _ = only_series(writer.folder)
    assert_volumes(series, 4, 5)
    assert [v.info.time_s for v in series.volumes] == pytest.approx([36900.12, 36933.5, 36970.0, 37080.75])


def test_acquisition_times_alone_tell_volumes_apart(series_writer):
    writer = series_writer()
    plan = [(v, p, {"AcquisitionTime": f"1015{v:02d}"}) for v in range(3) for p in range(5)]
    fill(writer, plan)
    series, findings = only_series(writer.folder)
    assert_volumes(series, 3, 5)
    assert findings == set()


def test_many_acquisition_times_within_one_volume_stay_whole(series_writer):
    writer = series_writer()
    fill(writer, [(0, p, {"AcquisitionTime": f"1015{p:02d}", "TriggerTime": 10.0 * p}) for p in range(9)])
    series, _ = only_series(writer.folder)
    assert_volumes(series, 1, 9)


def test_two_interleaved_passes_of_one_volume_stay_whole(series_writer):
    writer = series_writer()
    fill(writer, [(0, p, {"AcquisitionTime": f"1015{30 * (p % 2):02d}"}) for p in range(10)])
    series, _ = only_series(writer.folder)
    assert_volumes(series, 1, 10)


@pytest.mark.parametrize("n_volumes", [2, 4])
@pytest.mark.parametrize("halves", ["odd and even", "lower and upper"])
def test_passes_of_several_volumes_are_not_volumes(series_writer, n_volumes, halves):
    writer = series_writer()
    plan = []
    for v, p in itertools.product(range(n_volumes), range(8)):
        second = p % 2 if halves == "odd and even" else p // 4
        plan.append((v, p, {"AcquisitionTime": f"10{10 + 2 * v}{15 * second:02d}"}))
    fill(writer, plan)
    series, _ = only_series(writer.folder)
    assert_volumes(series, n_volumes, 8)


def test_a_series_that_goes_on_after_midnight_without_dates_keeps_its_order(series_writer):
    writer = series_writer()
    times = ["235920", "000005", "000200"]
    fill(writer, [(v, p, {"AcquisitionTime": times[v]}) for v in range(3) for p in range(5)])
    series, _ = only_series(writer.folder)
    assert_volumes(series, 3, 5)
    assert [v.info.time_s for v in series.volumes] == [86360.0, 86405.0, 86520.0]


def test_a_trigger_of_zero_in_all_images_does_not_hide_the_offsets(series_writer):
    writer = series_writer(common={"AcquisitionTime": "101500", "TriggerTime": 0})
    plan = [
        (v, p, {"TemporalPositionIdentifier": v + 1, "TemporalPositionTimeOffset": 60.0 * v})
        for v in range(3)
        for p in range(5)
    ]
    fill(writer, plan)
    series, _ = only_series(writer.folder)
    assert [series.info.acquired_s(v.info) for v in series.volumes] == [36900.0, 36960.0, 37020.0]


def test_volumes_whose_slices_all_have_their_own_time(series_writer):
    writer = series_writer()
    plan = [(v, p, {"AcquisitionTime": f"10{v:02d}{p:02d}.5"}) for v in range(3) for p in range(6)]
    fill(writer, plan)
    series, findings = only_series(writer.folder)
    assert_volumes(series, 3, 6)
    assert "instance-order" not in findings
    first = [v.info.time_s for v in series.volumes]
    assert first == pytest.approx([36000.5, 36060.5, 36120.5]), "a volume begins with its first slice"


def test_ge_trigger_time_of_every_slice_with_one_acquisition_time(series_writer):
    """dcm_qa_ge, fMRI_Multiphase_Des: SliceTiming 0.9, 0.4, ... in each second, one AcquisitionTime."""
    timing = [0.9, 0.4, 0.8, 0.3, 0.7, 0.2, 0.6, 0.1, 0.5, 0.0]
    writer = series_writer(common={"AcquisitionTime": "072925.000000", "Manufacturer": "GE MEDICAL SYSTEMS"})
    fill(writer, [(v, p, {"TriggerTime": 1000.0 * (v + timing[p])}) for v in range(4) for p in range(10)])
    series, findings = only_series(writer.folder)
    assert_volumes(series, 4, 10)
    assert findings == set()
    assert [v.info.trigger_time_ms for v in series.volumes] == [0.0, 1000.0, 2000.0, 3000.0]


def test_a_mosaic_is_no_slice(series_writer):
    """dcm_qa_nih, EPI_PE=AP_3: Siemens stores a whole volume as tiles of one image."""
    kind = ["ORIGINAL", "PRIMARY", "M", "ND", "ECHO", "00", "MOSAIC"]
    writer = series_writer(common={"ImageType": kind, "Manufacturer": "SIEMENS"})
    writer.add(0, 0)
    series, findings = only_series(writer.folder)
    assert findings == {"mosaic"}
    assert series.volumes[0].refused


@pytest.mark.parametrize("vary", ["TriggerTime", "EchoTime", "AcquisitionNumber", "FlipAngle"])
def test_other_attributes_divide_too(series_writer, vary):
    writer = series_writer(common={"AcquisitionTime": "101500"})
    fill(writer, [(v, p, {vary: 1 + 2 * v}) for v in range(2) for p in range(5)])
    series, _ = only_series(writer.folder)
    assert_volumes(series, 2, 5)


def test_kinds_of_image_come_apart_before_times(series_writer):
    writer = series_writer()
    kinds = ["IN_PHASE", "OUT_PHASE"]
    plan = [
        (2 * t + k, p, {"ImageType": ["DERIVED", "PRIMARY", kind], "AcquisitionTime": f"10150{t}"})
        for t in range(2)
        for k, kind in enumerate(kinds)
        for p in range(4)
    ]
    fill(writer, plan)
    series, _ = only_series(writer.folder)
    found = [set(values) for values in contents(series)]
    assert sorted(found, key=min) == [{0}, {1}, {2}, {3}]
    assert [v.info.time_s for v in series.volumes] == [36900.0 + t for t in (0, 0, 1, 1)]
    for volume, values in zip(series.volumes, found):
        assert volume.info.image_type[2] == kinds[min(values) % 2]


@pytest.mark.parametrize("by_place", [False, True])
def test_instance_order_decides_last_and_says_so(series_writer, by_place):
    """'Ax LAVA +C Multiphase': 288 images of 96 places, nothing else to tell them apart."""
    writer = series_writer()
    order = [(v, p) for v in range(3) for p in range(8)]
    if by_place:
        order = [(v, p) for p in range(8) for v in range(3)]
    for volume, place in order:
        writer.add(place, 100 * volume + place)
    series, findings = only_series(writer.folder)
    assert_volumes(series, 3, 8)
    assert findings == {"instance-order"}


def test_a_missing_slice_is_named_and_only_its_volume_is_refused(series_writer):
    writer = series_writer()
    plan = [
        (v, p, {"TemporalPositionIdentifier": v + 1}) for v in range(3) for p in range(8) if (v, p) != (1, 4)
    ]
    fill(writer, plan)
    series, findings = only_series(writer.folder)
    assert findings == {"missing-slice"}
    assert [bool(v.refused) for v in series.volumes] == [False, True, False]
    with pytest.raises(UserError, match=r"1 slice is missing.*after slice 4 of 7"):
        series.volumes[1].info.load()
    assert (series.volumes[2].info.load().array[0, 0] == 200 + np.arange(8)).all()


def test_a_slice_missing_where_two_times_meet_does_not_make_two_volumes(series_writer):
    writer = series_writer()
    fill(writer, [(0, p, {"AcquisitionTime": f"10150{p // 5}"}) for p in range(10) if p != 5])
    series, findings = only_series(writer.folder)
    assert findings == {"missing-slice"}
    assert len(series.volumes) == 1


def test_a_duplicated_slice_is_named(series_writer):
    writer = series_writer()
    fill(writer, [(0, p, {}) for p in range(6)])
    writer.add(3, 3)
    series, findings = only_series(writer.folder)
    assert "duplicated-slice" in findings
    assert [bool(v.refused) for v in series.volumes] == [True]


def test_a_file_copied_twice_counts_once(series_writer):
    writer = series_writer()
    fill(writer, [(0, p, {}) for p in range(6)])
    for path in list(writer.folder.iterdir()):
        (writer.folder / f"copy_{path.name}").write_bytes(path.read_bytes())
    series, findings = only_series(writer.folder)
    assert_volumes(series, 1, 6)
    assert findings == {"duplicate-file"}


def test_a_damaged_copy_of_a_whole_image_is_a_note_and_that_of_a_damaged_one_an_error(series_writer):
    writer = series_writer()
    fill(writer, [(0, p, {}) for p in range(6)])
    first = min(writer.folder.iterdir())
    whole, cut = first.read_bytes(), first.read_bytes()[:-20]
    for name in ("0_before.dcm", "z_after.dcm"):
        (writer.folder / name).write_bytes(cut)
    (study,) = read_studies(writer.folder)[0]
    assert [(f.id, f.severity) for f in study.findings] == [("duplicate-file", "note")]
    assert "2 damaged copies" in study.findings[0].meaning
    assert_volumes(study.series[0], 1, 6)
    first.write_bytes(whole[:-20])
    (study,) = read_studies(writer.folder)[0]
    assert ("unusable-image", "error") in {(f.id, f.severity) for f in study.findings}
    assert "duplicate-file" not in {f.id for f in study.findings}


def test_unequal_spacing_is_named(series_writer):
    writer = series_writer()
    for place in (0, 1, 2.3, 3.1, 4, 5):
        writer.add(place, int(place))
    series, findings = only_series(writer.folder)
    assert findings == {"unequal-spacing"}
    assert series.volumes[0].refused


def test_thin_slices_are_slices_and_not_one_place(series_writer):
    writer = series_writer(step_mm=0.4)
    for place in range(6):
        writer.add(place, place)
    series, findings = only_series(writer.folder)
    assert_volumes(series, 1, 6)
    assert findings == set()


@pytest.mark.parametrize(
    "orientation", [(0.5, 0, 0, 0, 1, 0), (1, 0, 0, 0, 2, 0), (0, 0, 0, 0, 1, 0), (1, 0, 0, 0.6, 0.8, 0)]
)
def test_an_orientation_that_is_none_is_named(series_writer, orientation):
    writer = series_writer(orientation=orientation)
    for place in range(3):
        writer.add(place, place)
    series, findings = only_series(writer.folder)
    assert findings == {"no-geometry"}
    assert series.volumes == ()


@pytest.mark.parametrize(
    ("lean", "finding"), [(lambda p: 1.5 * p, "shear"), (lambda p: 4.0 * (p > 2), "shifted-slices")]
)
def test_shear_and_shifts_are_named(series_writer, lean, finding):
    writer = series_writer()
    for place in range(6):
        writer.origin = (-12.5, -80.0 + lean(place), 33.0)
        writer.add(place, place)
    series, findings = only_series(writer.folder)
    assert finding in findings
    assert series.volumes[0].refused


def test_localizer_and_mixed_orientation_are_named(series_writer):
    planes = [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)]
    for name, kind, finding in (("a", "OTHER", "mixed-orientation"), ("b", "LOCALIZER", "localizer")):
        writer = series_writer(name, common={"ImageType": ["ORIGINAL", "PRIMARY", kind]})
        for plane, place in itertools.product(planes, range(3)):
            writer.orientation = plane
            writer.add(place, place)
        series, findings = only_series(writer.folder)
        assert findings == {finding}
        assert [v.info.n_slices for v in series.volumes] == [3, 3, 3]


def test_one_slice_says_for_its_volume_that_text_is_burned_in_or_the_scale_lost(series_writer):
    writer = series_writer(common={"Manufacturer": "Philips Medical Systems"})
    for volume, place in itertools.product(range(2), range(6)):
        odd = volume == 1 and place == 2
        writer.add(
            place,
            100 * volume + place,
            TemporalPositionIdentifier=volume + 1,
            BurnedInAnnotation="YES" if odd else "NO",
            RealWorldValueMappingSequence=[] if odd else [real_world()],
        )
    series, findings = only_series(writer.folder)
    assert [v.burned_in for v in series.volumes] == [False, True]
    assert [v.comparable for v in series.volumes] == [True, False]
    assert "not-comparable" in findings


def real_world():
    """A mapping to a physical unit: what it gives is comparable without Philips' private scale."""
    item, unit = Dataset(), Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "ms", "UCUM", "milliseconds"
    item.RealWorldValueSlope, item.RealWorldValueIntercept = 1.0, 0.0
    item.MeasurementUnitsCodeSequence = [unit]
    return item


def test_a_volume_of_too_many_voxels_is_named(series_writer, monkeypatch):
    monkeypatch.setattr("mtinet.dicom.volumes.MAX_VOXELS", 4 * 48)
    for name, slices, refused in (("a", 4, set()), ("b", 5, {"too-large"})):
        writer = series_writer(name)
        for place in range(slices):
            writer.add(place, place)
        series, findings = only_series(writer.folder)
        assert findings == refused
        assert bool(series.volumes[0].refused) == bool(refused)


def test_a_pixel_spacing_in_another_unit_is_named(series_writer):
    writer = series_writer(spacing=(1250.0, 1500.0))
    for place in range(4):
        writer.add(place, place)
    series, findings = only_series(writer.folder)
    assert findings == {"field-of-view"}
    assert "no part of a body" in series.volumes[0].refused
    with pytest.raises(UserError, match="PixelSpacing"):
        series.volumes[0].info.load()


def test_a_test_bolus_is_a_volume_per_time(series_writer):
    writer = series_writer()
    for k in range(12):
        writer.add(0, k, AcquisitionTime=f"1015{k:02d}", TemporalPositionIdentifier=k + 1)
    series, _ = only_series(writer.folder)
    assert [v.info.n_slices for v in series.volumes] == [1] * 12
    assert [v.info.load().array[0, 0, 0] for v in series.volumes] == list(range(12))


def rotations():
    """All 48 axis orders and flips (orthogonal matrices of 0 and 1) and some oblique ones."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            yield np.eye(3)[list(order)] * np.array(signs)[:, None]
    rng = np.random.default_rng(5)
    for _ in range(6):
        yield np.linalg.qr(rng.standard_normal((3, 3)))[0]


def test_every_voxel_lies_where_dicom_says(series_writer):
    """For all axis orders and oblique ones, within 0.01 mm.  A left-handed order reverses the slices."""
    shape, spacing, step = (5, 7), (1.25, 1.5), 3.0
    j, i = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    for number, axes in enumerate(rotations()):
        writer = series_writer(f"r{number}", orientation=(*axes[0], *axes[1]), spacing=spacing, step_mm=step)
        writer.shape = shape
        along = np.sign(np.cross(axes[0], axes[1]) @ axes[2])
        expected = {}
        for place in range(4):
            pixels = (1 + 35 * place + j * shape[1] + i).astype(np.uint16)
            writer.add(along * place, pixels)
            corner = np.array(writer.origin) + along * place * step * writer.normal()
            world = corner + i[..., None] * spacing[1] * axes[0] + j[..., None] * spacing[0] * axes[1]
            expected |= {int(v): w * (-1, -1, 1) for v, w in zip(pixels.ravel(), world.reshape(-1, 3))}
        series, findings = only_series(writer.folder)
        assert findings == set()
        volume = series.volumes[0].info.load()
        index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1).reshape(-1, 3)
        found = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        wanted = np.array([expected[int(v)] for v in volume.array.reshape(-1)])
        assert np.abs(found - wanted).max() < 0.01
        grid = series.volumes[0].info.grid
        assert grid.shape == (7, 5, 4)
        np.testing.assert_allclose(grid.spacing_mm, (1.5, 1.25, 3.0))
