from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Outline
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from mtinet.dicom.decode import VolumeLoader
from mtinet.dicom.masks import MaskError, read_mask_image, read_masks
from mtinet.dicom.rtstruct import fill
from mtinet.dicom.segment import write_lesions
from mtinet.dicom.study import read_studies
from mtinet.dicom.write import write_exam
from mtinet.volume import Volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
PHASES = ("pre", "arterial", "portal_venous")
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0] @ np.diag([2.1, 1.9, 3.3])
OBLIQUE[:3, 3] = (-10.0, 22.5, 31.25)


class Studio:
    """A written study as it is read, and a mask on its portal venous phase."""

    def __init__(self, folder, exam):
        self.folder, self.exam = folder, exam
        self.written = write_exam(folder, exam)
        (self.study,) = read_studies(folder)[0]
        self.grid = exam.images["portal_venous"]
        array = np.zeros(self.grid.shape, dtype=np.uint8)
        array[2:6, 3:9, 1:3], array[10:15, 12:15, 2:4] = 1, 2
        self.mask = self.grid.with_array(array)

    @property
    def sources(self):
        return self.written["portal_venous"]

    def volume(self, found):
        (series,) = (s for s in self.study.series if s.info.series_uid == found.series_uid)
        return series.volumes[found.volume_index]


def marked(volume: Volume) -> dict[int, np.ndarray]:
    """World positions of each label's voxels, in an order that does not depend on the axes."""
    places = {}
    for n in np.unique(volume.array[volume.array > 0]):
        at = np.argwhere(volume.array == n) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        places[int(n)] = at[np.lexsort(np.round(at, 2).T)]
    return places


def assert_same_places(a: Volume, b: Volume) -> None:
    ours, theirs = marked(a), marked(b)
    assert ours.keys() == theirs.keys()
    for n, places in ours.items():
        np.testing.assert_allclose(places, theirs[n], atol=0.01)


@pytest.fixture(scope="module", params=["siemens", "ge", "philips", "enhanced"])
def studio(request, tmp_path_factory, exam_maker):
    exam = exam_maker(request.param, OBLIQUE, phases=PHASES)
    return Studio(tmp_path_factory.mktemp(request.param), exam)


@pytest.fixture(scope="module")
def siemens(tmp_path_factory, exam_maker):
    return Studio(tmp_path_factory.mktemp("one"), exam_maker("siemens", OBLIQUE, phases=PHASES))


def test_a_segmentation_lands_on_the_phase_that_it_was_drawn_on(studio, tmp_path):
    path = write_lesions(tmp_path, studio.exam, studio.sources, studio.mask, {1: "hcc", 2: "cyst"})
    found = read_masks(path, studio.study.series)
    assert_same_places(found.labels, studio.mask)
    assert found.names == {1: "lesion 1 hcc", 2: "lesion 2 cyst"}
    assert found.candidates == ((found.series_uid, found.volume_index),)
    volume = studio.volume(found)
    assert found.labels.corner_distance_mm(volume.info.load()) == 0.0
    expected = studio.exam.injection_s + studio.exam.times_s["portal_venous"]
    if studio.exam.habit == "ge":
        assert volume.info.temporal_position == 2
    else:
        assert volume.info.time_s == pytest.approx(expected)


def segmentation(studio, kind, arrays_, fractional=None, sources=None) -> Dataset:
    """A file by highdicom of arrays (slices, rows, columns), one a segment."""
    describe = [
        hd.seg.SegmentDescription(
            n,
            f"S{n}",
            hd.sr.CodedConcept("49755003", "SCT", "Morphologically abnormal structure"),
            hd.sr.CodedConcept("52988006", "SCT", "Lesion"),
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for n in range(1, len(arrays_) + 1)
    ]
    return hd.seg.Segmentation(
        source_images=studio.sources if sources is None else sources,
        pixel_array=np.stack(arrays_, axis=-1),
        segmentation_type=kind,
        segment_descriptions=describe,
        series_instance_uid=hd.UID(),
        series_number=9,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        **({"fractional_type": fractional} if fractional else {}),
    )


def frames(volume: Volume) -> np.ndarray:
    """Slices, rows, columns."""
    return volume.array.transpose(2, 1, 0)


def test_fractions_count_from_one_half_on(siemens, tmp_path):
    share = np.zeros(siemens.grid.shape, dtype=np.float32)
    share[3, 3, 1], share[4, 3, 1], share[5, 3, 1] = 0.49, 0.51, 1.0
    dataset = segmentation(siemens, "FRACTIONAL", [frames(siemens.grid.with_array(share))], "PROBABILITY")
    dataset.save_as(tmp_path / "seg.dcm")
    found = read_masks(tmp_path / "seg.dcm", siemens.study.series)
    assert_same_places(found.labels, siemens.grid.with_array((share >= 0.5).astype(np.uint8)))


def test_a_label_map_gives_its_segments(siemens, tmp_path):
    parts = [frames(siemens.mask.with_array(siemens.mask.array == n)).astype(np.uint8) for n in (1, 2)]
    segmentation(siemens, "LABELMAP", parts).save_as(tmp_path / "seg.dcm")
    found = read_masks(tmp_path / "seg.dcm", siemens.study.series)
    assert_same_places(found.labels, siemens.mask)
    assert found.names == {1: "S1 (Lesion)", 2: "S2 (Lesion)"}


@pytest.mark.parametrize(("label", "code"), [("Liver", "Tissue"), ("Segment_1", "Liver")])
def test_a_liver_is_known_by_its_label_or_by_its_code(siemens, tmp_path, label, code):
    dataset = segmentation(siemens, "BINARY", [frames(siemens.mask.with_array(siemens.mask.array > 0))])
    item = dataset.SegmentSequence[0]
    item.SegmentLabel, item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning = label, code
    dataset.save_as(tmp_path / "seg.dcm")
    found = read_masks(tmp_path / "seg.dcm", siemens.study.series)
    assert found.names == {}
    assert_same_places(found.liver, siemens.mask.with_array((siemens.mask.array > 0).astype(np.uint8)))


def test_overlapping_segments_are_named_and_the_smaller_is_not_lost(siemens, tmp_path):
    large, small = np.zeros((2, *siemens.grid.shape), dtype=np.uint8)
    large[2:12, 2:12, 1:4] = 1
    small[3:5, 3:5, 2] = 1
    parts = [frames(siemens.grid.with_array(part)) for part in (small, large, np.zeros_like(small))]
    segmentation(siemens, "BINARY", parts).save_as(tmp_path / "seg.dcm")
    found = read_masks(tmp_path / "seg.dcm", siemens.study.series)
    assert_same_places(found.labels, siemens.grid.with_array(np.where(small, 1, 2 * large).astype(np.uint8)))
    said = {finding.id: finding.meaning for finding in found.findings}
    assert "'S1 (Lesion)' and 'S2 (Lesion)' share 4 voxels" in said["overlapping-segments"]
    assert "'S3 (Lesion)' is empty" in said["empty-segment"]


def test_frames_without_reference_leave_the_choice_open_and_say_so(tmp_path, exam_maker):
    studio = Studio(tmp_path / "study", exam_maker("enhanced", OBLIQUE, phases=PHASES))
    path = write_lesions(tmp_path / "seg", studio.exam, studio.sources, studio.mask, {})
    dataset = pydicom.dcmread(path)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    dataset.save_as(path)
    found = read_masks(path, studio.study.series)
    assert_same_places(found.labels, studio.mask)
    assert len(found.candidates) == 3
    assert [finding.id for finding in found.findings] == ["mask-volume"]


def test_masks_of_another_study_or_grid_and_files_that_are_none_are_refused(siemens, tmp_path, exam_maker):
    other = Studio(tmp_path / "other", exam_maker("siemens", OBLIQUE, phases=PHASES, study_id="st2"))
    path = write_lesions(tmp_path / "seg", siemens.exam, siemens.sources, siemens.mask, {})
    with pytest.raises(MaskError, match=r"i0001.dcm refers to images that are not among.*import it together"):
        read_masks(path, other.study.series)
    dataset = pydicom.dcmread(path)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [float(step) * 1.1 for step in measures.PixelSpacing]
    dataset.save_as(tmp_path / "stretched.dcm")
    with pytest.raises(MaskError, match=r"another grid.*export it on that volume's grid"):
        read_masks(tmp_path / "stretched.dcm", siemens.study.series)
    content = path.read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.dcm").write_text("a mask")
    for name, said in (("cut", "export"), ("text", "cannot be read as DICOM"), ("none", "does not exist")):
        with pytest.raises(MaskError, match=f"{name}.dcm.*{said}"):
            read_masks(tmp_path / f"{name}.dcm", siemens.study.series)
    with pytest.raises(MaskError, match="neither a DICOM segmentation nor"):
        read_masks(next(siemens.folder.rglob("i0001.dcm")), siemens.study.series)


# --- RTSTRUCT -------------------------------------------------------------------------------------------------


def structure_set(path, studio, contours, refer=True) -> None:
    """An RTSTRUCT file; ``contours``: by name, a list of (slice, corners in voxels)."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", "2.25.77"
    ds.StudyInstanceUID = studio.study.study_uid
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    frame = Dataset()
    frame.FrameOfReferenceUID = studio.sources[0].FrameOfReferenceUID
    ds.ReferencedFrameOfReferenceSequence = [frame]
    to_lps = LPS @ studio.grid.affine
    for number, (name, drawn) in enumerate(contours.items(), start=1):
        roi, owner = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        owner.ReferencedROINumber, owner.ContourSequence = number, []
        for k, corners in drawn:
            contour, image = Dataset(), Dataset()
            points = np.column_stack([corners, np.full(len(corners), k), np.ones(len(corners))]) @ to_lps.T
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.NumberOfContourPoints = len(corners)
            contour.ContourData = [f"{value:.6f}" for value in points[:, :3].ravel()]
            image.ReferencedSOPClassUID = studio.sources[k].SOPClassUID
            image.ReferencedSOPInstanceUID = studio.sources[k].SOPInstanceUID
            if refer:
                contour.ContourImageSequence = [image]
            owner.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(owner)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, "2.25.77"
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)


def square(low: float, high: float) -> np.ndarray:
    return np.array([(low, low), (high, low), (high, high), (low, high)])


def test_inner_contours_and_keyholes_are_holes(siemens, tmp_path):
    outer, inner = square(2.5, 12.5), square(5.5, 8.5)
    # the outer contour, in to the inner one, around it the other way, and back
    keyhole = np.concatenate([outer, outer[:1], inner[:1], inner[::-1], outer[:1]])
    structure_set(
        tmp_path / "rt.dcm", siemens, {"ring": [(1, outer), (1, inner)], "keyhole": [(3, keyhole)], "dot": []}
    )
    found = read_masks(tmp_path / "rt.dcm", siemens.study.series)
    ring = np.zeros(siemens.grid.shape[:2], dtype=bool)
    ring[3:13, 3:13] = True
    ring[6:9, 6:9] = False
    expected = np.zeros(siemens.grid.shape, dtype=np.uint8)
    expected[:, :, 1], expected[:, :, 3] = ring, 2 * ring
    assert_same_places(found.labels, siemens.grid.with_array(expected))
    assert found.names == {1: "ring", 2: "keyhole"}
    assert [finding.id for finding in found.findings] == ["empty-segment"]
    assert siemens.volume(found).info.time_s == pytest.approx(siemens.exam.injection_s + 65.0)


def test_a_structure_without_reference_goes_by_frame_of_reference_and_geometry(siemens, tmp_path):
    structure_set(tmp_path / "rt.dcm", siemens, {"a": [(1, square(2.5, 6.5))]}, refer=False)
    found = read_masks(tmp_path / "rt.dcm", siemens.study.series)
    assert len(marked(found.labels)[1]) == 16
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    dataset.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "2.25.5"
    dataset.save_as(tmp_path / "rt.dcm")
    with pytest.raises(MaskError, match="another frame of reference"):
        read_masks(tmp_path / "rt.dcm", siemens.study.series)


def test_the_liver_stays_whole_beside_lesions_and_other_organs_are_none(siemens, tmp_path):
    drawn = {"GTV": square(4.5, 7.5), "Liver": square(1.5, 12.5), "Spleen": square(13.5, 16.5)}
    structure_set(tmp_path / "rt.dcm", siemens, {name: [(1, corners)] for name, corners in drawn.items()})
    found = read_masks(tmp_path / "rt.dcm", siemens.study.series)
    assert found.names == {1: "GTV"}
    assert int(found.labels.array.sum()) == 9
    assert int(found.liver.array.sum()) == 121
    assert found.kinds == {"GTV": "lesion", "Liver": "liver", "Spleen": "other"}
    assert found.findings == ()


@pytest.mark.parametrize(("lesion", "taken"), [("HCC", ["HCC"]), ("Segment_1", ["Segment_1", "trapezius"])])
def test_names_that_tell_nothing_are_lesions_where_no_other_is_called_one(siemens, tmp_path, lesion, taken):
    drawn = {lesion: square(4.5, 7.5), "trapezius": square(10.5, 16.5)}
    structure_set(tmp_path / "rt.dcm", siemens, {name: [(1, corners)] for name, corners in drawn.items()})
    found = read_masks(tmp_path / "rt.dcm", siemens.study.series)
    assert list(found.names.values()) == taken
    assert int(found.labels.array.max()) == len(taken)
    assert found.kinds["trapezius"] == ("unknown" if len(taken) > 1 else "passed over")


def test_to_know_a_masks_volume_no_voxels_of_the_images_are_read(siemens, tmp_path, monkeypatch):
    structure_set(tmp_path / "rt.dcm", siemens, {"GTV": [(1, square(4.5, 7.5))]})
    siemens.mask.write_nifti(tmp_path / "mask.nii.gz")
    volumes = [volume for series in siemens.study.series for volume in series.volumes]
    monkeypatch.setattr(VolumeLoader, "__call__", None)
    assert int(read_masks(tmp_path / "rt.dcm", siemens.study.series).labels.array.sum()) == 9
    assert_same_places(read_mask_image(tmp_path / "mask.nii.gz", volumes).labels, siemens.mask)


def test_contours_of_another_slice_spacing_are_refused_and_never_cancel_each_other(siemens, tmp_path):
    # two contours for each slice, which parity would make nothing of
    structure_set(tmp_path / "rt.dcm", siemens, {"a": [(1, square(2.5, 6.5))] * 2})
    with pytest.raises(MaskError, match=r"enclose no voxel.*draw them again"):
        read_masks(tmp_path / "rt.dcm", siemens.study.series)
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    along = (LPS @ siemens.grid.affine)[:3, 2]
    for contour, step in zip(dataset.ROIContourSequence[0].ContourSequence, (-0.25, 0.25), strict=True):
        points = np.reshape(np.asarray(contour.ContourData, float), (-1, 3)) + step * along
        contour.ContourData = [f"{value:.6f}" for value in points.ravel()]
    dataset.save_as(tmp_path / "rt.dcm")
    with pytest.raises(MaskError, match="drawn on another slice spacing"):
        read_masks(tmp_path / "rt.dcm", siemens.study.series)


CORNERS = arrays(np.float64, st.tuples(st.integers(3, 9), st.just(2)), elements=st.floats(-3.0, 22.0))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(CORNERS)
def test_polygons_are_filled_by_the_even_odd_rule(corners):
    # away from lattice points, where inside and outside are a matter of rounding
    corners = np.round(corners, 1) + 0.0371
    shape = (20, 18)
    i, j = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    # crossings of a ray to the right: odd = inside
    inside = np.zeros(shape, dtype=bool)
    near = np.zeros(shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0)):
        length = max(np.hypot(x1 - x0, y1 - y0), 1e-12)
        along = np.clip(((i - x0) * (x1 - x0) + (j - y0) * (y1 - y0)) / length**2, 0, 1)
        near |= np.hypot(i - x0 - along * (x1 - x0), j - y0 - along * (y1 - y0)) < 1e-6
        if y0 != y1:
            crosses = ((y0 > j) != (y1 > j)) & (i < x0 + (j - y0) * (x1 - x0) / (y1 - y0))
            inside ^= crosses
    np.testing.assert_array_equal(fill(corners, shape)[~near], inside[~near])


def test_convex_polygons_agree_with_matplotlib():
    angles = np.linspace(0, 2 * np.pi, 17)[:-1]
    corners = np.column_stack([9.3 + 6.1 * np.cos(angles), 8.2 + 5.3 * np.sin(angles)])
    points = np.stack(np.meshgrid(np.arange(20), np.arange(18), indexing="ij"), axis=-1).reshape(-1, 2)
    expected = Outline(corners).contains_points(points).reshape(20, 18)
    np.testing.assert_array_equal(fill(corners, (20, 18)), expected)


# --- NIfTI and NRRD -------------------------------------------------------------------------------------------


def test_images_land_on_the_volume_of_their_grid_whatever_their_axes(siemens, tmp_path):
    volumes = [volume for series in siemens.study.series for volume in series.volumes]
    turned = siemens.mask.like_axes_of(np.diag([1.0, 1.0, -1.0, 1.0]))
    assert not np.array_equal(turned.affine, siemens.mask.affine)
    turned.write_nifti(tmp_path / "m.nii.gz")
    image = SimpleITK.GetImageFromArray(siemens.mask.array.transpose(2, 1, 0))
    affine = LPS @ siemens.mask.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(tmp_path / "m.nrrd"))
    for name, kind in (("m.nii.gz", "NIfTI"), ("m.nrrd", "NRRD")):
        found = read_mask_image(tmp_path / name, volumes)
        assert_same_places(found.labels, siemens.mask)
        assert found.source == kind
        assert found.labels.corner_distance_mm(volumes[found.volume_index].info.load()) == 0.0
    moved = Volume(siemens.mask.array, siemens.mask.affine + np.eye(4, k=3) * 5)
    moved.write_nifti(tmp_path / "moved.nii.gz")
    with pytest.raises(MaskError, match="none of the study's volumes"):
        read_mask_image(tmp_path / "moved.nii.gz", volumes)


def test_segments_of_3d_slicer_keep_their_names_and_layers(siemens, tmp_path):
    volumes = [volume for series in siemens.study.series for volume in series.volumes]
    layers = np.zeros((*siemens.grid.shape[::-1], 2), dtype=np.uint8)
    layers[1, 2:6, 2:6, 0], layers[2, 2:6, 2:6, 1] = 1, 1
    image = SimpleITK.GetImageFromArray(layers, isVector=True)
    affine = LPS @ siemens.grid.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    for n, (name, layer) in enumerate((("left", 0), ("right", 1))):
        image.SetMetaData(f"Segment{n}_Name", name)
        image.SetMetaData(f"Segment{n}_Layer", str(layer))
        image.SetMetaData(f"Segment{n}_LabelValue", "1")
    SimpleITK.WriteImage(image, str(tmp_path / "m.seg.nrrd"))
    found = read_mask_image(tmp_path / "m.seg.nrrd", volumes)
    assert found.names == {1: "left", 2: "right"}
    assert [int((found.labels.array == n).sum()) for n in (1, 2)] == [16, 16]


@pytest.mark.parametrize(("layer", "value"), [("2", "1"), ("x", "1"), ("-1", "1"), ("0", "")])
def test_segments_of_3d_slicer_that_the_file_does_not_hold_are_refused(layer, value, tmp_path):
    image = SimpleITK.GetImageFromArray(np.ones((2, 2, 2, 2), dtype=np.uint8), isVector=True)
    image.SetMetaData("Segment0_Name", "left")
    image.SetMetaData("Segment0_Layer", layer)
    image.SetMetaData("Segment0_LabelValue", value)
    path = tmp_path / "m.seg.nrrd"
    SimpleITK.WriteImage(image, str(path))
    if not value:  # an empty value is not written: the header is edited
        path.write_bytes(path.read_bytes().replace(b"Segment0_LabelValue:=", b"Segment0_LabelValue:=one", 1))
    with pytest.raises(
        MaskError, match=r"m\.seg\.nrrd says of its segment left .*save it again in 3D Slicer"
    ):
        read_mask_image(path, [])


def test_a_mask_that_would_take_the_machine_is_refused_before_its_voxels(tmp_path):
    path = tmp_path / "m.nrrd"
    path.write_text(
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4096 4096 4096\nencoding: gzip\nspace: left-posterior-superior\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    )
    with pytest.raises(MaskError, match=r"m\.nrrd states 4096 x 4096 x 4096 voxels and is not read"):
        read_mask_image(path, [])
