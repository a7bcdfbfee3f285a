"""Imports of DICOM with what users give wrongly: said early, by name, and nothing is lost or half written."""

import json
import shutil
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from mtinet.cli import app
from mtinet.cli.ingest import _study_table
from mtinet.config import PHASES
from mtinet.dicom.exam import Exam
from mtinet.dicom.segment import write_lesions
from mtinet.dicom.times import seconds_from_midnight
from mtinet.dicom.write import write_exam
from mtinet.errors import UnusableError, UserError
from mtinet.imaging.limits import image_limits
from mtinet.volume import Volume, read_nifti
from mtinet.workflows.ingest import IngestOptions, ingest
from mtinet.workflows.phases import identify_phases
from mtinet.workflows.predictions.sources import open_source
from mtinet.workflows.qc import qc

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
TIMES_S = {"arterial": 22.0, "portal_venous": 65.0, "delayed": 180.0}


@pytest.fixture(scope="module")
def scanned(thick_toy, tmp_path_factory):
    """Two patients, the first with a SEG, and the exams by patient."""
    folder = tmp_path_factory.mktemp("scanned")
    exams = {}
    for seed, patient_id in enumerate(("Q4711", "Q0815"), start=31):
        toy = thick_toy(seed)
        images = {p: v.like_axes_of(LPS) for p, v in toy.images.items()}
        exam = exams[patient_id] = Exam(patient_id, "st", "siemens", images, TIMES_S)
        written = write_exam(folder / patient_id, exam)
        if patient_id == "Q4711":
            mask = toy.mask.like_axes_of(LPS)
            write_lesions(folder / patient_id, exam, written["portal_venous"], mask, {1: "hcc"})
    return folder, exams


@pytest.fixture(scope="module")
def imported(scanned, tmp_path_factory):
    """What an import of both made; its folder is not to be changed."""
    return bring_in(scanned[0], tmp_path_factory.mktemp("imported") / "cohort")


@pytest.fixture
def copy(imported, tmp_path):
    """A copy of the imported cohort, with its key, that a test may import into again."""
    folder = imported.cohort.folder
    shutil.copytree(folder, tmp_path / "cohort")
    shutil.copy(folder.parent / "key", tmp_path / "key")
    return tmp_path / "cohort"


def bring_in(source, out, **options):
    return ingest(source, out, IngestOptions(key=out.parent / "key", **options), workers=1)


def study_of(outcome, exams, patient_id):
    """The record of a patient's study: pseudonyms are told apart by the mapping."""
    rows = [line.split(",") for line in outcome.mapping.read_text().splitlines()]
    (study_id,) = [row[0] for row in rows if exams[patient_id].uid("study") in row]
    return next(record for record in outcome.studies if record["study_id"] == study_id)


def files_of(folder):
    return {p.relative_to(folder): (p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.rglob("*.nii.gz")}


# ---------------------------------------------------------------------- before anything is written
@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, "does not exist; correct the path of --labels"),
        ("patient,diagnosis\nQ4711,hcc\n", "patient_id or study_uid or study_id, and label"),
        ("patient_id;label\nQ4711;hcc\n", "separated by ';'"),
        ("patient_id,label\n", "has no row"),
        (
            "patient_id,label,time_delayed_s\nQ0815,hcc,60\nQ4711,hcc,soon\n",
            "Q4711: time_delayed_s is 'soon'",
        ),
        ("patient_id,label\n,hcc\n", "neither patient_id nor"),
        ("patient_id,label\nQ4711,hcc\nQ4711,fnh\n", "two different rows for Q4711"),
        ("patient_id,label\nnobody,hcc\n", "the table names nobody, the files are of patients Q"),
    ],
)
def test_labels_that_cannot_be_used_stop_the_import_before_it_writes(scanned, tmp_path, table, message):
    path = tmp_path / "labels.csv"
    if table is not None:
        path.write_text(table)
    with pytest.raises(UserError, match=message):
        bring_in(scanned[0], tmp_path / "out", labels=path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ('{"schema": 1, STUDY: {"artrial": null}}', "names artrial"),
        ('{"schema": 1, STUDY: {"arterial": {"series": "5", "volume": "first"}}}', "with a volume from 0"),
        ('{"schema": 1, STUDY: {"arterial": 5}}', "with a volume from 0"),
        ('{"schema": 1, STUDY: {"arterial": {"series": "4711"}}}', "study study-.*0 series have number 4711"),
        ("{", "not a phase file"),
    ],
)
def test_phases_that_cannot_be_meant_stop_the_import_before_it_writes(scanned, tmp_path, told, message):
    folder, exams = scanned
    path = tmp_path / "phases.json"
    path.write_text(told.replace("STUDY", f'"{exams["Q4711"].uid("study")}"'))
    with pytest.raises(UserError, match=message):
        bring_in(folder, tmp_path / "out", phases=path)
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_used_stop_the_import_before_it_writes(scanned, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="inside the cohort"):
        bring_in(scanned[0], out, mapping=out / "who.csv")
    with pytest.raises(UserError, match="give the folder that holds the masks"):
        bring_in(scanned[0], out, masks=tmp_path / "masks")
    for content in (b"patient_id,label\n1,hcc\n", b"\xff\xfe\0"):
        (tmp_path / "mine.csv").write_bytes(content)
        with pytest.raises(UserError, match="would be overwritten; give --mapping another place"):
            bring_in(scanned[0], out, mapping=tmp_path / "mine.csv")
        assert (tmp_path / "mine.csv").read_bytes() == content
    assert not out.exists()


@pytest.mark.parametrize("content", ["nothing", "text", "damaged", "zip in a zip", "no zip"])
def test_a_source_without_a_study_says_what_it_found_instead(scanned, tmp_path, content):
    source, expected = tmp_path / "source", "give the folder, zip"
    if content == "nothing":
        source.mkdir()
    elif content == "text":
        source.write_text("hello")
    elif content == "damaged":
        source.mkdir()
        (source / "a.dcm").write_text("hello")
        expected = r"- a.dcm: it is damaged .*\. Export or copy it again"
    else:
        inner = tmp_path / "inner.zip"
        with zipfile.ZipFile(inner, "w") as packed:
            packed.write(next(scanned[0].rglob("*.dcm")), "a.dcm")
        source = tmp_path / "source.zip"
        if content == "no zip":
            source.write_bytes(inner.read_bytes()[:100])
            expected = "it is no readable zip"
        else:
            with zipfile.ZipFile(source, "w") as packed:
                packed.write(inner, "inner.zip")
            expected = "inner.zip: it is an archive .* Unpack it"
    with pytest.raises(UnusableError, match=expected) as raised:
        bring_in(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shown = CliRunner().invoke(app, ["phases", str(source)])
    assert shown.exception.exit_code == 3
    assert str(shown.exception) == str(raised.value)


# ---------------------------------------------------------------------- into a folder with an import
def test_the_mapping_keeps_the_rows_of_earlier_imports(scanned, tmp_path):
    folder, _ = scanned
    for patient in ("Q4711", "Q0815"):
        bring_in(folder / patient, tmp_path / patient, mapping=tmp_path / "who.csv")
    told = (tmp_path / "who.csv").read_text()
    assert "Q4711" in told
    assert "Q0815" in told
    assert len(told.splitlines()) == 3


def test_another_source_does_not_take_the_place_of_studies_that_are_there(scanned, copy, tmp_path):
    folder, _ = scanned
    before = files_of(copy), (copy / "cohort.csv").read_bytes()
    with pytest.raises(UserError, match="1 studies of an earlier import that this one lacks"):
        bring_in(folder / "Q0815", copy)
    # studies with and without their original ids never share a folder
    with pytest.raises(UserError, match="2 studies of an earlier import"):
        bring_in(folder, copy, keep_ids=True)
    assert (files_of(copy), (copy / "cohort.csv").read_bytes()) == before


def test_labels_and_corrections_are_not_lost_by_a_command_without_them(scanned, tmp_path):
    folder, exams = scanned
    labels, told = tmp_path / "labels.csv", tmp_path / "phases.json"
    labels.write_text("patient_id,label\nQ4711,hcc\n")
    bring_in(folder, tmp_path / "out", labels=labels, site="north")
    before = (tmp_path / "out" / "cohort.csv").read_bytes()
    told.write_text(json.dumps({exams["Q0815"].uid("study"): {"delayed": None}}))
    with pytest.raises(UserError, match="imported with --labels, --site, which this command lacks"):
        bring_in(folder, tmp_path / "out", phases=told)
    assert (tmp_path / "out" / "cohort.csv").read_bytes() == before
    again = bring_in(folder, tmp_path / "out", labels=labels, site="north", phases=told)
    assert sorted(len(study.images) for study in again.cohort.studies) == [3, 4]
    assert {study.label for study in again.cohort.studies} == {"hcc", ""}


def test_a_study_that_was_left_out_may_go(scanned, tmp_path):
    folder, exams = scanned
    told = tmp_path / "phases.json"
    missing = dict.fromkeys(TIMES_S)
    told.write_text(json.dumps({exams["Q0815"].uid("study"): missing}))
    first = bring_in(folder, tmp_path / "out", phases=told)
    assert len(first.cohort) == 1
    again = bring_in(folder / "Q4711", tmp_path / "out", phases=told)
    assert again.cohort.studies == first.cohort.studies
    left = {path.stem for path in (tmp_path / "out" / ".imported").glob("study-*.json")}
    assert left == {study.study_id for study in again.cohort.studies}


def test_a_mask_that_was_corrected_in_the_cohort_is_not_written_over(scanned, copy, tmp_path):
    folder, exams = scanned
    (path,) = copy.glob("images/*/mask.nii.gz")
    mask = read_nifti(path, labels=True)
    mask.with_array(np.roll(mask.array, 1, axis=0)).write_nifti(path)
    edited = path.read_bytes()
    # nothing changed in the source: the study stays as it is
    assert len(bring_in(folder, copy).cohort) == 2
    told = tmp_path / "phases.json"
    told.write_text(json.dumps({exams["Q4711"].uid("study"): {"delayed": None}}))
    with pytest.raises(UserError, match=r"mask\.nii\.gz was edited since the import"):
        bring_in(folder, copy, phases=told)
    assert path.read_bytes() == edited
    path.unlink()
    assert len(bring_in(folder, copy, phases=told).cohort) == 2


def test_an_import_from_a_zip_goes_on_where_it_stopped(scanned, tmp_path):
    folder, _ = scanned
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted((folder / "Q4711").rglob("*.dcm")):
            packed.write(path, f"Q4711/{path.relative_to(folder / 'Q4711')}")
    first = bring_in(archive, tmp_path / "out")
    assert first.cohort.studies[0].mask is not None
    before = files_of(tmp_path / "out")
    bring_in(archive, tmp_path / "out")
    assert files_of(tmp_path / "out") == before


@pytest.mark.parametrize("packed", [False, True])
def test_files_that_were_corrected_under_their_uids_are_imported_again(thick_toy, tmp_path, packed):
    source, private = tmp_path / "export", {}
    for seed, patient_id in enumerate(("Q4711", "Q0815"), start=31):
        images = {p: v.like_axes_of(LPS) for p, v in thick_toy(seed).images.items()}
        write_exam(source / patient_id, Exam(patient_id, "st", "philips", images, TIMES_S))
    for path in (source / "Q4711").rglob("*.dcm"):
        private[path] = path.read_bytes()
        dataset = pydicom.dcmread(path)
        dataset.remove_private_tags()
        dataset.save_as(path)

    def again():
        if not packed:
            return bring_in(source, tmp_path / "out")
        with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
            for path in sorted(source.rglob("*.dcm")):
                archive.write(path, str(path.relative_to(source)))
        return bring_in(tmp_path / "export.zip", tmp_path / "out")

    first = again()
    assert "enhancement-unverified" in {f.id for f in first.findings}
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.nii.gz")}
    for path, content in private.items():
        path.write_bytes(content)
    second = again()
    assert "enhancement-unverified" not in {f.id for f in second.findings}
    changed = {path.parent.name for path, at in written.items() if path.stat().st_mtime_ns != at}
    (corrected,) = {f.case for f in first.findings if f.id == "enhancement-unverified"}
    # the other study is complete
    assert changed == {corrected}


def test_a_mask_in_a_zip_is_named(scanned, tmp_path):
    folder, _ = scanned
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted((folder / "Q4711").rglob("*.dcm")):
            if path.parent.name != "s900":
                packed.write(path, str(path.relative_to(folder)))
        mask = pydicom.dcmread(folder / "Q4711" / "s900" / "i0001.dcm")
        del mask.SegmentSequence
        mask.save_as(tmp_path / "mask.dcm")
        packed.write(tmp_path / "mask.dcm", "Q4711/lesions/drawn.dcm")
    outcome = bring_in(archive, tmp_path / "out", keep_ids=True)
    (said,) = [f for f in outcome.findings if f.id == "mask-left-out"]
    # its folders may be called by the patient
    assert ": drawn.dcm " in said.meaning
    assert "lesions" not in said.meaning


# ---------------------------------------------------------------------- masks
def test_masks_that_belong_to_no_study_are_named(scanned, tmp_path):
    folder, exams = scanned
    masks = tmp_path / "masks"
    # only one of the two studies is imported, the other's SEG lies in the folder; so do images, which are no masks
    shutil.copytree(folder / "Q4711", masks / "seg")
    shutil.copytree(folder / "Q0815", masks / "Q0815")
    grid = exams["Q0815"].images["portal_venous"]
    grid.with_array(np.zeros(grid.shape, np.uint8)).write_nifti(masks / "nobody_mask.nii.gz")
    (masks / "notes.txt").write_text("hello")
    outcome = bring_in(folder / "Q0815", tmp_path / "out", masks=masks)
    (said,) = [f for f in outcome.findings if f.id == "mask-without-study"]
    assert said.meaning.endswith("nobody_mask.nii.gz, seg/s900/i0001.dcm")
    assert not [f for f in outcome.findings if f.id == "mask-left-out"]
    # names of files may hold ids: they are shown, not stored
    stored = json.loads((tmp_path / "out" / "import.json").read_text())["findings"]
    (kept,) = [f for f in stored if f["id"] == "mask-without-study"]
    assert kept["meaning"] == "2 mask(s) belong to no study"


def test_masks_in_a_linked_folder_are_found(scanned, tmp_path):
    folder, exams = scanned
    grid = exams["Q0815"].images["portal_venous"]
    voxels = np.zeros(grid.shape, np.uint8)
    voxels[2:4, 2:4, 1] = 1
    grid.with_array(voxels).write_nifti(tmp_path / "elsewhere" / "lesions.nii.gz")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "Q0815").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    outcome = bring_in(folder / "Q0815", tmp_path / "out", masks=tmp_path / "masks")
    assert outcome.cohort.studies[0].mask is not None


def test_masks_that_lie_in_the_source_and_in_the_folder_are_read_once(scanned, imported, tmp_path):
    folder, exams = scanned
    outcome = bring_in(folder, tmp_path / "out", masks=folder)
    lesions = [
        read_nifti(one.cohort.folder / study_of(one, exams, "Q4711")["files"]["mask"], labels=True).array
        for one in (imported, outcome)
    ]
    np.testing.assert_array_equal(*lesions)
    assert "masks-overlap" not in {f.id for f in outcome.findings}


def test_two_masks_of_one_lesion_are_said(scanned, tmp_path):
    folder, _ = scanned
    masks = tmp_path / "masks"
    masks.mkdir()
    first = bring_in(folder / "Q4711", tmp_path / "out")
    drawn = read_nifti(first.cohort.studies[0].mask, labels=True)
    larger = drawn.array.copy()
    larger[0] = 1
    drawn.with_array(larger).write_nifti(masks / "Q4711.nii.gz")
    again = bring_in(folder / "Q4711", tmp_path / "out", masks=masks)
    (said,) = [f for f in again.findings if f.id == "masks-overlap"]
    assert said.meaning.startswith(f"{int((drawn.array > 0).sum())} voxels of ")
    assert "Q4711" not in said.meaning
    now = read_nifti(again.cohort.studies[0].mask, labels=True).array
    np.testing.assert_array_equal(now > 0, larger > 0)
    np.testing.assert_array_equal(now == 1, drawn.array == 1)


def test_a_mask_on_the_grid_of_all_phases_counts_for_the_reference_phase(scanned, tmp_path):
    # where phases are registered, a mask of the wrong one would move with that
    folder, _ = scanned
    first = bring_in(folder / "Q4711", tmp_path / "out")
    (tmp_path / "masks").mkdir()
    shutil.copy(first.cohort.studies[0].mask, tmp_path / "masks" / "Q0815.nii.gz")
    (study,) = bring_in(folder / "Q0815", tmp_path / "other", masks=tmp_path / "masks").cohort.studies
    assert study.mask_phase == "portal_venous"


def test_an_image_among_the_masks_is_refused_without_reading_each_value_as_a_lesion(scanned, tmp_path):
    folder, exams = scanned
    grid = exams["Q0815"].images["portal_venous"]
    (tmp_path / "masks").mkdir()
    Volume(np.arange(np.prod(grid.shape), dtype=np.int32).reshape(grid.shape), grid.affine).write_nifti(
        tmp_path / "masks" / "Q0815.nii.gz"
    )
    outcome = bring_in(folder / "Q0815", tmp_path / "out", masks=tmp_path / "masks")
    (said,) = [f for f in outcome.findings if f.id == "mask-left-out"]
    assert "different numbers: it is an image, not a mask" in said.meaning


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("HCC_liver", "mask"),
        ("tumor_liver", "mask"),
        ("liver", "liver_mask"),
        ("spleen", None),
        ("spot", "mask"),
    ],
)
def test_a_mask_image_is_what_its_name_says(scanned, tmp_path, name, kept):
    folder, exams = scanned
    grid = exams["Q0815"].images["portal_venous"]
    box = np.zeros(grid.shape, np.uint8)
    box[5:9, 5:9, 5:9] = 1
    grid.with_array(box).write_nifti(tmp_path / "masks" / "Q0815" / f"Q0815_{name}.nii.gz")
    outcome = bring_in(folder / "Q0815", tmp_path / "out", masks=tmp_path / "masks")
    (record,) = outcome.studies
    assert [what for what in ("mask", "liver_mask") if what in record["files"]] == ([kept] if kept else [])
    said = [(f.severity, f.meaning.split(": ", 1)[1]) for f in outcome.findings if f.id == "mask-structures"]
    expected = {
        "liver": [("note", "'liver': liver")],
        "spleen": [("note", "'spleen': neither")],
        "spot": [("warning", "'spot': lesion (its name tells nothing)")],
    }
    assert said == expected.get(name, [])


def test_files_that_a_patient_is_called_by_are_counted_not_named(scanned, tmp_path):
    folder, _ = scanned
    place = tmp_path / "source" / "Mueller_Joerg_19600503"
    shutil.copytree(folder / "Q4711", place)
    for path in place.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Müller^Jörg"
        dataset.PatientBirthDate = "19600503"
        if "SeriesDescription" in dataset:
            dataset.SeriesDescription += " Müller 03.05.1960"
        dataset.save_as(path)
    cut = sorted(place.glob("s001/*.dcm"))[:2]
    for path in cut:
        path.write_bytes(path.read_bytes()[:-500])
    outcome = bring_in(tmp_path / "source", tmp_path / "out")
    (said,) = [f for f in outcome.findings if f.id == "unusable-image"]
    assert "2 images that cannot be used: each has fewer pixels" in said.meaning
    assert "series" in outcome.studies[0]["phases"]["arterial"]
    for path in (tmp_path / "out").rglob("*"):
        text = path.read_bytes().decode(errors="ignore").lower() if path.is_file() else ""
        # pseudonyms are digits by chance, a year among them
        named = ("mueller", "müller", "m\\u00fcller", "05.1960", "19600503")
        assert not any(name in text for name in named), path


# ---------------------------------------------------------------------- labels and phases
def test_phases_that_are_corrected_in_different_ways_are_said(scanned, imported, tmp_path):
    assert "mixed-reconstructions" not in {f.id for f in imported.findings}
    shutil.copytree(scanned[0] / "Q0815", tmp_path / "source")
    for path in (tmp_path / "source").glob("s006/*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        dataset.save_as(path)
    outcome = bring_in(tmp_path / "source", tmp_path / "out")
    (said,) = [f for f in outcome.findings if f.id == "mixed-reconstructions"]
    assert "arterial ND, portal_venous ND NORM" in said.meaning


def test_phases_come_from_one_of_two_reconstructions_of_one_image_type(scanned, imported, tmp_path):
    folder, exams = scanned
    shutil.copytree(folder / "Q0815", tmp_path / "source")
    for path in sorted((tmp_path / "source").rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        if not dataset.get("SeriesDescription", "").startswith("t1_vibe"):
            continue
        dataset.SeriesDescription = "PU:" + dataset.SeriesDescription
        dataset.SeriesNumber += 100
        dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[dataset.SeriesInstanceUID])
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[dataset.SOPInstanceUID])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        brighter = dataset.pixel_array * np.linspace(1.1, 1.5, dataset.Columns)
        dataset.PixelData = brighter.astype(dataset.pixel_array.dtype).tobytes()
        path = path.with_name(f"again-{path.name}")
        dataset.save_as(path)
    outcome = bring_in(tmp_path / "source", tmp_path / "out")
    alone = study_of(imported, exams, "Q0815")["phases"]
    taken = study_of(outcome, exams, "Q0815")["phases"]
    for phase in ("pre", *TIMES_S):
        assert taken[phase]["series"] == alone[phase]["series"]


@pytest.mark.parametrize("habit", ["siemens", "ge", "philips"])
def test_times_of_a_study_that_goes_on_after_midnight(thick_toy, tmp_path, habit):
    images = {p: v.like_axes_of(LPS) for p, v in thick_toy(31).images.items()}
    exam = Exam("Q4711", "st", habit, images, TIMES_S)
    write_exam(tmp_path / "source", exam)
    for path in (tmp_path / "source").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for keyword in ("AcquisitionTime", "ContrastBolusStartTime"):
            if dataset.get(keyword):
                # the injection is at five seconds to midnight, and no date tells the day
                seconds = (
                    seconds_from_midnight(str(dataset[keyword].value)) - exam.injection_s - 5.0
                ) % 86400.0
                hours, rest = divmod(seconds, 3600.0)
                setattr(dataset, keyword, f"{int(hours):02d}{int(rest // 60):02d}{rest % 60:09.6f}")
        for keyword in ("AcquisitionDate", "AcquisitionDateTime"):
            if keyword in dataset:
                del dataset[keyword]
        dataset.save_as(path)
    (study,) = bring_in(tmp_path / "source", tmp_path / "out").cohort.studies
    assert {p: study.times_s[p] for p in TIMES_S} == pytest.approx(TIMES_S, abs=0.1)


@pytest.mark.parametrize("habit", ["siemens", "ge", "philips"])
def test_times_after_injection_are_read_from_every_vendors_files(thick_toy, tmp_path, habit):
    images = {p: v.like_axes_of(LPS) for p, v in thick_toy(31).images.items()}
    write_exam(tmp_path / "source", Exam("Q4711", "st", habit, images, TIMES_S))
    outcome = bring_in(tmp_path / "source", tmp_path / "out")
    (study,) = outcome.cohort.studies
    assert {p: study.times_s[p] for p in TIMES_S} == pytest.approx(TIMES_S, abs=0.1)
    assert "time-unknown" not in {f.id for f in outcome.findings}


def test_a_volume_that_the_user_gives_another_phase_leaves_the_one_it_was_taken_for(
    scanned, imported, tmp_path
):
    folder, exams = scanned
    uid = exams["Q0815"].uid("study")
    entry = study_of(imported, exams, "Q0815")["phases"]["delayed"]
    taken = {"series": entry["series"], "volume": entry["volume"]}
    told = tmp_path / "phases.json"
    told.write_text(json.dumps({uid: {"transitional": taken}}))
    outcome = bring_in(folder / "Q0815", tmp_path / "out", phases=told)
    (study,) = outcome.cohort.studies
    assert set(study.images) == {"pre", "arterial", "portal_venous", "transitional"}
    (record,) = outcome.studies
    assert {"phase": "delayed", "reason": "the user says that its volume is transitional"} in record[
        "missing"
    ]
    told.write_text(json.dumps({uid: {"transitional": taken, "delayed": taken}}))
    with pytest.raises(UserError, match="transitional and delayed are said to be one volume"):
        bring_in(folder / "Q0815", tmp_path / "other", phases=told)


def test_the_cohorts_own_table_may_be_the_labels_of_the_next_import(scanned, copy):
    table = copy.parent / "labels.csv"
    header, *rows = (copy / "cohort.csv").read_text().splitlines()
    columns = header.split(",")
    cells = [dict(zip(columns, row.split(","), strict=True)) for row in rows]
    cells[0] |= {"label": "HCC", "prior_study_id": cells[1]["study_id"]}
    table.write_text("\n".join([header, *(",".join(c.values()) for c in cells)]))
    outcome = bring_in(scanned[0], copy, labels=table)
    study = outcome.cohort[cells[0]["study_id"]]
    assert (study.label, study.prior_study_id) == ("hcc", cells[1]["study_id"])
    said = {f.id: f.meaning for f in outcome.findings}
    assert "pre, arterial, portal_venous, delayed, mask" in said["path-column"]
    assert said.keys().isdisjoint({"unknown-column", "label-without-images", "not-in-labels"})


def test_a_prior_study_by_its_uid_gets_its_pseudonym_and_an_unknown_one_none(scanned, tmp_path):
    folder, exams = scanned
    uid = exams["Q0815"].uid("study")
    labels = tmp_path / "labels.csv"
    labels.write_text(
        f"patient_id,label,prior_study_id,diagnosis\nQ4711,hcc,{uid},x\nQ0815,fnh,1.2.826.0.1.4711,y\n"
    )
    outcome = bring_in(folder, tmp_path / "out", labels=labels)
    now, before = (study_of(outcome, exams, name)["study_id"] for name in ("Q4711", "Q0815"))
    assert outcome.cohort[now].prior_study_id == before
    assert outcome.cohort[before].prior_study_id == ""
    said = {f.id: f for f in outcome.findings}
    assert said["prior-unknown"].case == before
    assert said["unknown-column"].meaning == "column 'diagnosis' of labels.csv is not used"
    written = "".join(p.read_text() for p in (tmp_path / "out").glob("*.*") if p.suffix in (".csv", ".json"))
    assert uid not in written
    assert "1.2.826.0.1.4711" not in written


def test_a_study_without_phases_says_what_was_set_aside(scanned, tmp_path, monkeypatch):
    folder, _ = scanned
    source = tmp_path / "source"
    shutil.copytree(folder / "Q4711", source / "whole")
    thin = source / "thin"
    shutil.copytree(folder / "Q0815", thin)
    for path in thin.rglob("*.dcm"):
        if pydicom.dcmread(path, stop_before_pixels=True).InstanceNumber > 3:
            path.unlink()
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = CliRunner().invoke(app, ["import", "dicom", str(source), str(tmp_path / "out"), "--workers", "1"])
    assert "left out, fewer than 2 phases identified" in shown.stdout
    assert "only 3 images" in shown.stdout


def test_a_series_without_a_usable_image_is_set_aside_and_stops_nothing(scanned, tmp_path):
    folder, exams = scanned
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    cut = list((source / "Q4711").glob("s006/*.dcm"))
    assert len(cut) == exams["Q4711"].images["arterial"].shape[2]
    for path in cut:
        path.write_bytes(path.read_bytes()[:-500])
    outcome = bring_in(source, tmp_path / "out")
    assert len(outcome.cohort) == 2
    record = study_of(outcome, exams, "Q4711")
    assert record["phases"]["arterial"] is None
    assert "no usable image" in {item["reason"] for item in record["excluded"]}
    answers = {s.study_key: s.identification for s in identify_phases(source)[0]}
    assert answers[exams["Q4711"].uid("study")].phases["arterial"] is None
    assert answers[exams["Q0815"].uid("study")].phases["arterial"] is not None


# ---------------------------------------------------------------------- persons
def rewritten(source, out, **attributes):
    """A copy of a folder of DICOM files with other attributes."""
    shutil.copytree(source, out)
    for path in out.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    return out


def test_two_persons_under_one_patient_id_are_told_by_import_and_prediction(scanned, tmp_path):
    folder, _ = scanned
    source = tmp_path / "export"
    rewritten(folder / "Q4711", source / "a", PatientName="Kowalska^Anna", PatientBirthDate="19560312")
    name = {"PatientName": "Nowak^Piotr", "PatientID": "Q4711", "PatientBirthDate": "19640707"}
    rewritten(folder / "Q0815", source / "b", **name)
    outcome = bring_in(source, tmp_path / "cohort")
    jobs = open_source(source, key=tmp_path / "key")
    stored = json.loads((tmp_path / "cohort" / "import.json").read_text())["findings"]
    said = {"import": outcome.findings, "predict": jobs.findings}
    for stage, findings in said.items():
        (found,) = [f for f in findings if f.id == "patient-of-several-persons"]
        assert found.stage == stage
        assert "name and date of birth" in found.meaning
        assert all(study.study_id in found.meaning for study in outcome.cohort.studies)
        assert "Kowalska" not in str(found)
    assert [f["meaning"] for f in stored if f["id"] == "patient-of-several-persons"] == [found.meaning]


def test_labels_say_whose_a_study_is_where_its_files_do_not(scanned, imported, tmp_path):
    folder, exams = scanned
    source, labels = tmp_path / "export", tmp_path / "labels.csv"
    shutil.copytree(folder / "Q4711", source / "a")
    rewritten(folder / "Q0815", source / "b", PatientID="")
    uids = [exams[name].uid("study") for name in ("Q4711", "Q0815")]
    labels.write_text(f"study_uid,patient_id,label\n{uids[0]},Q4711,hcc\n{uids[1]},Q4711,fnh\n")
    shutil.copy(imported.cohort.folder.parent / "key", tmp_path / "key")
    outcome = bring_in(source, tmp_path / "cohort", labels=labels)
    of_study = {study.study_id: study.patient_id for study in imported.cohort.studies}
    one, other = (study_of(outcome, exams, name)["study_id"] for name in ("Q4711", "Q0815"))
    assert {study.patient_id for study in outcome.cohort.studies} == {of_study[one]}
    assert {study.label for study in outcome.cohort.studies} == {"hcc", "fnh"}
    assert "no-patient-id" not in {f.id for f in outcome.findings}
    (told,) = [f for f in outcome.findings if f.id == "patient-from-labels"]
    assert told.meaning.endswith(f": {other}")
    # by a pseudonym too, as the tables of another cohort have it
    labels.write_text(f"study_id,patient_id\n{one},{of_study[other]}\n{other},{of_study[other]}\n")
    again = bring_in(source, tmp_path / "cohort", labels=labels)
    assert {study.patient_id for study in again.cohort.studies} == {of_study[other]}


def test_the_name_of_another_patient_in_a_description_is_in_nothing_that_is_written(scanned, tmp_path):
    folder, _ = scanned
    source = tmp_path / "export"
    rewritten(folder / "Q4711", source / "a", PatientName="Nowak^Piotr")
    rewritten(folder / "Q0815", source / "b", PatientName="Kowalska^Anna")
    for path in (source / "a").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.SeriesDescription = f"{dataset.SeriesDescription} Kowalska"
        dataset.save_as(path)
    out = tmp_path / "cohort"
    outcome = bring_in(source, out)
    assert "[removed]" in (out / "import.json").read_text()
    written = [p.read_text() for p in out.rglob("*") if p.suffix in (".json", ".csv", ".yaml", ".html")]
    assert not any(
        "kowalska" in text.lower() for text in (*written, str(outcome.findings), str(outcome.studies))
    )
    cases = [job.read() for job in open_source(source, key=tmp_path / "key").jobs]
    told = str([(case.sources, case.findings) for case in cases])
    assert "[removed]" in told
    assert "kowalska" not in told.lower()


def test_a_series_without_number_is_called_by_what_names_its_phase(scanned, tmp_path):
    folder, _ = scanned
    source = rewritten(folder / "Q4711", tmp_path / "export", SeriesNumber=None)
    key = tmp_path / "key"
    (job,) = open_source(source, key=key).jobs
    found = job.read().sources
    handle = found["portal_venous"].name
    assert handle.startswith("2.25.")
    assert len({source.name for source in found.values()}) == len(found)
    (uid,) = [uid for uid, pseudonym in job.series_ids.items() if pseudonym == handle]
    for called in (handle, uid):
        (again,) = open_source(source, {"delayed": called, "portal_venous": ""}, key=key).jobs
        told = again.read().sources
        assert (told["delayed"].name, told["delayed"].confidence) == (handle, 1.0)
        assert "portal_venous" not in told
    outcome = bring_in(source, tmp_path / "cohort")
    (record,) = outcome.studies
    assert record["phases"]["portal_venous"]["series_uid"] == handle
    assert f"portal_venous  {handle}" in _study_table(record)
    assert f">{handle}<" in qc(tmp_path / "cohort", workers=1)[0].read_text()


def test_a_folder_that_cannot_be_written_is_told_before_the_files_are_read(scanned, tmp_path):
    (tmp_path / "file").write_text("")
    read = []
    for out, place in ((tmp_path / "file" / "out", None), (tmp_path / "out", tmp_path / "file" / "who.csv")):
        options = IngestOptions(key=tmp_path / "key", mapping=place)
        with pytest.raises(UserError, match=r"nothing can be written into .*file"):
            ingest(scanned[0], out, options, workers=1, on_read=lambda done, total: read.append(done))
    assert read == []
    assert not (tmp_path / "out").exists()


def test_times_that_are_unknown_are_told_once_where_the_command_reads_them(scanned, tmp_path):
    source = rewritten(scanned[0] / "Q4711", tmp_path / "export", ContrastBolusStartTime=None)
    (told,) = [f for f in bring_in(source, tmp_path / "cohort").findings if f.id == "time-unknown"]
    assert "labels.csv" in told.action
    (job,) = open_source(source, key=tmp_path / "key").jobs
    case = job.read()
    assert "time-unknown" not in {f.id for f in case.findings}
    (told,) = [f for f in image_limits(case.study, PHASES) if f.id == "no-times"]
    assert "labels.csv" not in told.action
