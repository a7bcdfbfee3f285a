"""Segmentation, report and page of a result as DICOM: valid, on the lesion, and of the same patient."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

import mtinet
from mtinet.dicom import codes
from mtinet.dicom.made import Software
from mtinet.dicom.masks import read_masks
from mtinet.dicom.origin import Origin, OriginError
from mtinet.dicom.pdf_out import encapsulated_pdf
from mtinet.dicom.seg_out import segmentation
from mtinet.dicom.sr_out import structured_report
from mtinet.dicom.study import read_studies
from mtinet.dicom.write import save, write_exam
from mtinet.errors import UserError
from mtinet.results import Certainty, Finding, Lesion, Measurement, Result
from mtinet.volume import Volume
from mtinet.workflows.predictions.formats import FILES
from mtinet.workflows.predictions.stored import read_result

SOFTWARE = Software("1.2.3", "ab" * 32)
PHASES = ("pre", "arterial", "portal_venous")
PDF = b"%PDF-1.7 odd length"


def drawn(shape) -> np.ndarray:
    """Two lesions without symmetry: no flip or exchange of axes leaves them as they are."""
    mask = np.zeros(shape, dtype=np.uint8)
    mask[2:5, 3:9, 1:3] = 3
    mask[2:9, 3, 1] = 3
    mask[-4, -3, -1] = 1
    return mask


def result_of(mask: Volume, findings=()) -> Result:
    certainty = Certainty(0.9, (900.0, 1200.0), ("hcc", "fnh"), {"arterial": (200.0, 300.0)}, 0.9)
    big = Lesion(
        3, 1234.5, 13.3, (1.0, 2.0, 3.0), 0.8, {"hcc": 0.7, "fnh": 0.3}, {"arterial": 250.0}, {"arterial": 50.0},
        {"arterial": 248.0},
        (Measurement("washout", finding="present"), Measurement("growth", finding="not assessable", reason="no prior")),
        certainty,
    )  # fmt: skip
    small = replace(big, number=1, certainty=None, measurements=(), probabilities={"hcc": 0.1, "fnh": 0.9})
    return Result(
        "study-1", PHASES, "portal_venous", ("hcc", "fnh"), (big, small), mask, tuple(findings), {},
        (Measurement("liver_signal", 50.0, "[arb'U]", "arterial"),),
    )  # fmt: skip


def origin_of(folder: Path, exam) -> Origin:
    """By phase the volume that holds what was written."""
    (study,) = read_studies(folder)[0]
    volumes = {}
    for phase, image in exam.images.items():
        for volume in (v for s in study.series for v in s.volumes if not v.refused):
            loaded = volume.info.load().like_axes_of(image.affine)
            if loaded.shape == image.shape and np.abs(loaded.array - image.array).max() < 1.0:
                volumes[phase] = volume
    assert set(volumes) == set(exam.images)
    return Origin(volumes)


def files_of(folder: Path, result: Result, origin: Origin) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    seg = segmentation(result, origin, SOFTWARE, {})
    made = {
        "report": structured_report(result, origin, SOFTWARE, {}, seg),
        "page": encapsulated_pdf(result, origin, SOFTWARE, PDF),
    }
    if seg is not None:
        made["segmentation"] = seg
    for name, dataset in made.items():
        save(dataset, folder / f"{name}.dcm")
    return {name: folder / f"{name}.dcm" for name in made}


@pytest.fixture
def study(tmp_path, exam_maker):
    exam = exam_maker("siemens", phases=PHASES)
    write_exam(tmp_path / "in", exam)
    grid = exam.images["portal_venous"]
    return exam, result_of(grid.with_array(drawn(grid.shape))), origin_of(tmp_path / "in", exam)


@pytest.mark.parametrize("habit", ["siemens", "ge", "philips", "enhanced"])
def test_files_are_valid_and_the_segmentation_is_read_back(habit, tmp_path, exam_maker, verify):
    exam = exam_maker(habit, phases=PHASES)
    write_exam(tmp_path / "in", exam)
    grid = exam.images["portal_venous"]
    # a result's mask may have its axes otherwise than the images
    mask = grid.with_array(drawn(grid.shape)).canonical()
    paths = files_of(tmp_path / "out", result_of(mask), origin_of(tmp_path / "in", exam))
    for name, path in paths.items():
        assert verify(path) == [], name
    (read,) = read_studies(tmp_path / "in")[0]
    back = read_masks(paths["segmentation"], read.series).labels.like_axes_of(mask.affine)
    assert back.corner_distance_mm(mask) < 1e-3
    # segments run as the result's lesions do
    assert np.array_equal(back.array == 1, mask.array == 3)
    assert np.array_equal(back.array == 2, mask.array == 1)


def test_segments_say_what_they_are_and_who_drew_them(study):
    _exam, result, origin = study
    seg = segmentation(result, origin, SOFTWARE, {})
    first = seg.SegmentSequence[0]
    assert (first.SegmentLabel, first.TrackingID) == ("Lesion 3", "Lesion 3")
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == codes.class_concept("hcc", {}).value
    assert first.AnatomicRegionSequence[0].CodeValue == codes.LIVER.value
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("mtinet", SOFTWARE.text)
    sources = {ds.SOPInstanceUID for ds in origin.instances("portal_venous")}
    referred = {
        item.ReferencedSOPInstanceUID
        for group in seg.PerFrameFunctionalGroupsSequence
        for item in group.DerivationImageSequence[0].SourceImageSequence
    }
    assert referred <= sources
    assert len(referred) == len([k for k in range(5) if result.mask.array[:, :, k].any()])
    own = segmentation(result, origin, SOFTWARE, {"hcc": "4711"})
    assert own.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "4711"
    assert own.SegmentSequence[0].TrackingUID == first.TrackingUID
    assert own.SOPInstanceUID != seg.SOPInstanceUID


def test_report_holds_measurements_with_units_classes_and_flags(study):
    _exam, result, origin = study
    flag = Finding("eight-bit", "predict", "warning", "at most 256 grey levels", "a")
    seg = segmentation(result, origin, SOFTWARE, {})
    report = structured_report(replace(result, findings=(flag,)), origin, SOFTWARE, {}, seg)
    read = hd.sr.Comprehensive3DSR.from_dataset(report)
    lesions = read.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in lesions] == ["Lesion 3", "Lesion 1"]
    assert [group.tracking_uid for group in lesions] == [s.TrackingUID for s in seg.SegmentSequence]
    values = {m.name.meaning: (m.value, m.unit.value) for m in lesions[0].get_measurements()}
    assert values["Volume"] == (1.2345, "mL")
    assert values["Certainty of Finding"] == (90.0, "%")
    assert values["Mean MR signal under the mask, arterial"] == (248.0, "[arb'U]")
    assert values["Relative enhancement, arterial"] == (50.0, "%")
    assert values["Probability of the class hcc"] == (70.0, "%")
    said = [(e.name.meaning, e.value.meaning) for e in lesions[0].get_qualitative_evaluations()]
    assert ("Predicted class of the lesion", "Hepatocellular carcinoma") in said
    assert ("Class in the conformal set", "Focal nodular hyperplasia of liver") in said
    assert ("Washout", "Present") in said
    assert ("Growth against the prior study", "Undetermined") in said
    (segment,) = [
        item.ReferencedSOPSequence[0]
        for item in lesions[1][0].ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Referenced Segment"
    ]
    assert segment.ReferencedSOPInstanceUID == seg.SOPInstanceUID
    assert segment.ReferencedSegmentNumber == 2
    (whole,) = read.content.get_image_measurement_groups()
    said = [(e.name.meaning, e.value.meaning) for e in whole.get_qualitative_evaluations()]
    assert ("Permitted use", codes.RESEARCH.meaning) in said
    assert ("Flag of the software", "at most 256 grey levels") in said
    (liver,) = whole.get_measurements()
    assert (liver.value, liver.name.meaning) == (50.0, "Mean MR signal of the liver, arterial")
    evidence = {
        item.ReferencedSOPInstanceUID
        for kind in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for of_study in report.get(kind, [])
        for series in of_study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert evidence == {*origin.instance_uids(), seg.SOPInstanceUID}


def test_what_a_reader_outlined_is_not_said_to_be_found_by_software(study, tmp_path, verify):
    _exam, result, origin = study
    reader = replace(SOFTWARE, reader="cd" * 32)
    found, drawn = (segmentation(result, origin, software, {}) for software in (SOFTWARE, reader))
    assert {s.SegmentAlgorithmType for s in drawn.SegmentSequence} == {"SEMIAUTOMATIC"}
    assert drawn.ContentDescription == "Liver lesions outlined by a reader"
    # the reader's first lesion need not be the software's
    uids = [{s.TrackingUID for s in seg.SegmentSequence} for seg in (found, drawn)]
    assert uids[0].isdisjoint(uids[1])
    report = structured_report(result, origin, reader, {}, drawn)
    groups = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_volumetric_roi_measurement_groups()
    assert {group.tracking_uid for group in groups} == uids[1]
    save(drawn, tmp_path / "segmentation.dcm")
    assert verify(tmp_path / "segmentation.dcm") == []


def test_the_report_holds_every_reason_for_doubt(study):
    _exam, result, origin = study
    told = (
        Finding("missing-phase", "predict", "note", "predicted without delayed", "a"),
        Finding("unfamiliar-study", "predict", "warning", "a third of a phase is empty", "a"),
        Finding("unfamiliar-study", "predict", "warning", "darker than before contrast", "a"),
    )
    other = Finding("duplicate-file", "import", "note", "holds 3 images twice", "a")
    report = structured_report(replace(result, findings=(*told, other)), origin, SOFTWARE, {}, None)
    whole = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_image_measurement_groups()[0]
    flags = [
        e.value.meaning for e in whole.get_qualitative_evaluations() if e.name.meaning == codes.FLAG.meaning
    ]
    assert flags == [finding.meaning for finding in told]


def test_without_lesion_there_is_a_report_and_no_segmentation(study, tmp_path, verify):
    _exam, result, origin = study
    empty = replace(result, lesions=(), mask=result.mask.with_array(np.zeros_like(result.mask.array)))
    assert segmentation(empty, origin, SOFTWARE, {}) is None
    paths = files_of(tmp_path / "out", empty, origin)
    assert verify(paths["report"]) == []
    read = hd.sr.Comprehensive3DSR.from_dataset(pydicom.dcmread(paths["report"]))
    (whole,) = read.content.get_image_measurement_groups()
    assert codes.NO_LESION.meaning in [e.value.meaning for e in whole.get_qualitative_evaluations()]


def test_no_file_of_an_earlier_result_stays_beside_one_without_lesion(study, tmp_path, monkeypatch):
    _exam, result, origin = study
    # which phases the images are is not the matter here
    monkeypatch.setattr("mtinet.workflows.save.origin_of_images", lambda _: origin)
    out, formats = tmp_path / "out", ("nifti", "json", "dicom-seg", "dicom-sr")
    mtinet.save(result, out, formats=formats, images=tmp_path / "in")
    named = {name for form in formats for name in FILES[form]}
    assert {path.name for path in out.iterdir()} == named
    (out / "notes.txt").write_text("the user's own")
    (out / "liver_mask.nii.gz").write_text("the user's own")
    empty = replace(result, lesions=(), mask=result.mask.with_array(np.zeros_like(result.mask.array)))
    mtinet.save(empty, out, formats=formats, images=tmp_path / "in")
    assert read_result(out).lesions == ()
    left = {path.name for path in out.iterdir()}
    assert left == named - {"segmentation.dcm"} | {"notes.txt", "liver_mask.nii.gz"}


def test_the_result_of_another_study_is_not_saved_over(study, tmp_path):
    _exam, result, _origin = study
    mtinet.save(result, tmp_path / "out")
    before = (tmp_path / "out" / "result.json").read_bytes()
    with pytest.raises(UserError, match="holds the result of study study-1, and this is study study-2"):
        mtinet.save(replace(result, study_id="study-2"), tmp_path / "out")
    assert (tmp_path / "out" / "result.json").read_bytes() == before


def test_that_a_reader_left_no_lesion_is_not_said_of_the_software(study, tmp_path, verify):
    _exam, result, origin = study
    report = structured_report(
        replace(result, lesions=()), origin, replace(SOFTWARE, reader="cd" * 32), {}, None
    )
    save(report, tmp_path / "report.dcm")
    assert verify(tmp_path / "report.dcm") == []
    (whole,) = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_image_measurement_groups()
    said = [e.value.meaning for e in whole.get_qualitative_evaluations()]
    assert codes.NO_LESION_OF_READER.meaning in said
    assert codes.NO_LESION.meaning not in said


def test_without_segmentation_lesions_refer_to_the_images(study, tmp_path, verify):
    _exam, result, origin = study
    report = structured_report(result, origin, SOFTWARE, {}, None)
    save(report, tmp_path / "report.dcm")
    assert verify(tmp_path / "report.dcm") == []
    groups = hd.sr.Comprehensive3DSR.from_dataset(report).content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Study", "Lesion 3", "Lesion 1"]


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        ("ISO_IR 192", "Müller"),
        ("ISO_IR 100", "Müller^Jürgen"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_identity_is_taken_over_whatever_its_letters(tmp_path, exam_maker, verify, capfd, characters, name):
    exam = exam_maker("siemens", phases=PHASES)
    write_exam(tmp_path / "in", exam)
    for path in (tmp_path / "in").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        # one component is allowed but unusual, and the sex is none of DICOM's
        dataset.SpecificCharacterSet = characters
        dataset.PatientName, dataset.PatientSex = name, "W"
        dataset.save_as(path)
    grid = exam.images["portal_venous"]
    origin = origin_of(tmp_path / "in", exam)
    paths = files_of(tmp_path / "out", result_of(grid.with_array(drawn(grid.shape))), origin)
    for path in paths.values():
        made = pydicom.dcmread(path)
        assert str(made.PatientName) == name
        assert made.StudyInstanceUID == exam.uid("study")
        assert made.PatientID == exam.patient_id
        assert verify(path) == []
    assert name.split("^")[0] not in "".join(capfd.readouterr())


def test_the_page_is_carried_whole_and_refers_to_the_images(study):
    _exam, result, origin = study
    page = encapsulated_pdf(result, origin, SOFTWARE, PDF)
    assert page.EncapsulatedDocument[: page.EncapsulatedDocumentLength] == PDF
    assert [item.ReferencedSOPInstanceUID for item in page.SourceInstanceSequence] == [
        ds.SOPInstanceUID for ds in origin.instances("portal_venous")
    ]


def test_a_mask_of_other_images_is_refused(study):
    _exam, result, origin = study
    shifted = result.mask.affine.copy()
    shifted[0, 3] += 3.0
    with pytest.raises(OriginError, match="does not lie on the grid"):
        segmentation(replace(result, mask=Volume(result.mask.array, shifted)), origin, SOFTWARE, {})
    with pytest.raises(OriginError, match="no delayed phase"):
        segmentation(replace(result, reference_phase="delayed"), origin, SOFTWARE, {})
    with pytest.raises(OriginError, match="no mask"):
        segmentation(replace(result, mask=None), origin, SOFTWARE, {})


def test_instances_that_lack_what_is_needed_are_named_by_attribute(study, tmp_path):
    _exam, result, origin = study
    for path in (tmp_path / "in").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        del dataset.FrameOfReferenceUID
        dataset.save_as(path)
    with pytest.raises(OriginError, match=r"study-1.*FrameOfReferenceUID"):
        segmentation(result, origin, SOFTWARE, {})


def test_images_that_no_file_can_refer_to_one_by_one_are_refused(tmp_path, exam_maker):
    exam = exam_maker("ge", phases=PHASES)
    write_exam(tmp_path / "in", exam)
    for path in (tmp_path / "in").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        dataset.save_as(path)
    grid = exam.images["portal_venous"]
    result = result_of(grid.with_array(drawn(grid.shape)))
    origin = origin_of(tmp_path / "in", exam)
    with pytest.raises(OriginError, match="share a SOPInstanceUID"):
        segmentation(result, origin, SOFTWARE, {})
    with pytest.raises(OriginError, match="share a SOPInstanceUID"):
        structured_report(result, origin, SOFTWARE, {}, None)


def test_a_fault_of_mtinet_is_not_told_as_one_of_the_images(study):
    _exam, result, origin = study
    # every lesion has probabilities, if only an empty table of them
    broken = replace(result, lesions=(replace(result.lesions[0], probabilities=None),))
    with pytest.raises(OriginError, match=r"study-1.*in mtinet\.[\w.]+, line \d+.*fault of mtinet.*report"):
        structured_report(broken, origin, SOFTWARE, {}, None)


@pytest.mark.slow
def test_a_pacs_stores_them_and_gives_them_back(study, tmp_path, orthanc):
    _exam, result, origin = study
    paths = files_of(tmp_path / "out", result, origin)
    orthanc.send(tmp_path / "out")
    back = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, orthanc.fetch(tmp_path / "back"))}
    assert len(back) == 3
    for path in paths.values():
        sent = pydicom.dcmread(path)
        received = back[sent.SOPInstanceUID]
        assert received.SOPClassUID == sent.SOPClassUID
        assert received == sent


def orientations() -> list[np.ndarray]:
    """The 48 ways in which three axes can run along the body's, each as a 3 x 3 matrix."""
    found = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[list(order), range(3)] = signs
            found.append(matrix)
    return found


@pytest.mark.slow
def test_an_independent_reader_finds_the_lesions_in_all_orientations(tmp_path, exam_maker):
    """dcmqi (by ITK and dcmtk, no code shared) puts every segment where the mask was drawn."""
    import SimpleITK as sitk

    program = shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("dcmqi is not installed (pip install dcmqi)")
    for index, matrix in enumerate(orientations()):
        affine = np.eye(4)
        affine[:3, :3] = matrix * (2.5, 2.0, 4.0)
        affine[:3, 3] = (31.5, -12.25, 80.125)
        exam = exam_maker("siemens", affine=affine, shape=(12, 10, 5), phases=("portal_venous",))
        place = tmp_path / str(index)
        write_exam(place / "in", exam)
        mask = exam.images["portal_venous"].with_array(drawn((12, 10, 5)))
        seg = segmentation(result_of(mask), origin_of(place / "in", exam), SOFTWARE, {})
        (place / "out").mkdir()
        save(seg, place / "seg.dcm")
        words = [program, "--inputDICOM", place / "seg.dcm", "--outputDirectory", place / "out", "-t", "nii"]
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for place_in_file, number in ((1, 3), (2, 1)):
            image = sitk.ReadImage(str(place / "out" / f"{place_in_file}.nii.gz"))
            array = sitk.GetArrayFromImage(image)
            found = {
                tuple(np.round(image.TransformIndexToPhysicalPoint([int(v) for v in at[::-1]]), 2) + 0.0)
                for at in np.argwhere(array > 0)
            }
            at = np.argwhere(mask.array == number)
            lps = (affine @ np.c_[at, np.ones(len(at))].T)[:3].T * (-1.0, -1.0, 1.0)
            assert found == {tuple(p) for p in np.round(lps, 2) + 0.0}, (index, matrix)
