"""LLD-MMRI in files laid out as its own description, cropping program and MedSAM2 release have them."""

import json

import numpy as np
import pytest

from mtinet.cohort import Cohort
from mtinet.data.folds import read_split
from mtinet.errors import UserError
from mtinet.volume import read_nifti
from mtinet.workflows.imports.lld_mmri import import_lld_mmri

PHASES = ("C-pre", "C+A", "C+V", "C+Delay", "T2WI", "DWI", "In Phase", "Out Phase")
LEVEL = dict(zip(PHASES, (150, 250, 230, 210, 100, 90, 120, 110)))


def box3d(x, y, z):
    return {
        f"{axis}_{end}": value
        for axis, pair in zip("xyz", (x, y, z))
        for end, value in zip(("min", "max"), pair)
    }


def box2d(index, x, y):
    return {"slice_idx": index, "area": 4, **{k: v for k, v in box3d(x, y, (0, 0)).items() if k[0] != "z"}}


def lesion(category, whole=None, slices=()):
    return {"category": category, "bbox": {"2D_box": list(slices), "3D_box": whole}}


def entry(patient, phase, lesions):
    return {
        "studyUID": f"1.2.{patient[-3:]}",
        "seriesUID": f"1.2.3.{PHASES.index(phase)}",
        "phase": phase,
        "pixel_spacing": [2.0, 2.0],
        "slice_thickness": 4.0,
        "annotation": {"num_targets": len(lesions), "lesion": {str(k): v for k, v in enumerate(lesions)}},
    }


@pytest.fixture
def patients():
    return {
        "MR-170396": [lesion(6, box3d((2, 6), (3, 5), (1, 2)))],
        "MR182018": [
            lesion(0, None, [box2d(2, (2, 5), (3, 6)), box2d(3, (1, 4), (3, 7)), box2d(4, (2, 4), (4, 5))])
        ],
        "MR27202": [lesion(-1, box3d((2, 6), (3, 5), (1, 2)))],
        "MR50724": [lesion(4, box3d((1, 9), (1, 9), (0, 4))), lesion(4, box3d((10, 13), (9, 11), (3, 5)))],
    }


@pytest.fixture
def official(tmp_path, patients, write_image, write_json):
    root = tmp_path / "lld" / "data"
    info = {}
    for number, (patient, lesions) in enumerate(patients.items()):
        info[patient] = [entry(patient, phase, lesions) for phase in PHASES]
        for item in info[patient]:
            path = root / "images" / patient / item["studyUID"] / f"{item['seriesUID']}.nii.gz"
            if item["phase"].startswith("C"):
                write_image(path, number, LEVEL[item["phase"]])
            else:
                path.touch()  # never read
    write_json(root / "labels" / "Annotation.json", {"Annotation_info": info, "Category_info": {}})
    return root


def edit(root, change):
    path = root / "labels" / "Annotation.json"
    content = json.loads(path.read_text())
    change(content["Annotation_info"])
    path.write_text(json.dumps(content))


def test_phases_classes_and_boxes(official, tmp_path, one, no_errors, found, counts):
    outcome = import_lld_mmri(official.parent, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    cohort = Cohort.read(tmp_path / "out")
    assert cohort.phases == ("pre", "arterial", "portal_venous", "delayed")
    assert {s.study_id: s.label for s in cohort.studies} == {
        "MR-170396": "hcc",
        "MR182018": "hemangioma",
        "MR27202": "",
        "MR50724": "cyst",
    }
    assert {s.mask_source for s in cohort.studies} == {"box"}
    assert {s.mask_phase for s in cohort.studies} == {"portal_venous"}
    assert "NC" in cohort.licence
    assert cohort["MR-170396"].images["portal_venous"].name == "1.2.3.2.nii.gz"
    # in the plane the maximum ends the box, along z it belongs to it
    assert np.argwhere(read_nifti(cohort["MR-170396"].mask, labels=True).array).tolist() == [
        [x, y, z] for x in range(2, 6) for y in range(3, 5) for z in (1, 2)
    ]
    assert "series-set-aside" in found(outcome)
    assert counts(outcome) == {"found": 4, "included": 4}


def test_a_null_box_is_assembled_from_its_slices(official, tmp_path, one):
    import_lld_mmri(official, tmp_path / "out", options=one)
    mask = read_nifti(Cohort.read(tmp_path / "out")["MR182018"].mask, labels=True).array
    where = np.argwhere(mask)
    assert where.min(axis=0).tolist() == [1, 3, 2]
    assert where.max(axis=0).tolist() == [4, 6, 4]
    assert len(where) == 4 * 4 * 3


def test_two_lesions_are_two_numbers_and_a_withheld_class_has_no_row(official, tmp_path, one):
    import_lld_mmri(official, tmp_path / "out", options=one)
    cohort = Cohort.read(tmp_path / "out")
    assert cohort.lesion_labels(cohort["MR50724"]) == {1: "cyst", 2: "cyst"}
    assert set(np.unique(read_nifti(cohort["MR50724"].mask, labels=True).array)) == {0, 1, 2}
    assert cohort.lesion_labels(cohort["MR27202"]) == {}
    assert cohort["MR27202"].mask is not None


def test_without_boxes_there_is_no_mask(official, tmp_path, one):
    cohort = import_lld_mmri(official, tmp_path / "out", boxes=False, options=one).cohort
    assert all(study.mask is None and study.mask_source == "" for study in cohort.studies)
    assert cohort.lesions.empty


def test_missing_series_and_patients_are_said_and_counted(
    official, tmp_path, one, no_errors, found, counts, write_image
):
    for path in (official / "images" / "MR-170396").rglob("1.2.3.2.nii.gz"):
        path.unlink()
    for path in (official / "images" / "MR50724").rglob("*.nii.gz"):
        if path.name[6] in "0123":
            path.unlink()
    write_image(official / "images" / "MR99" / "1" / "2.nii.gz")
    outcome = import_lld_mmri(official, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    study = outcome.cohort["MR-170396"]
    assert "portal_venous" not in study.images
    assert study.mask_phase == "delayed"
    assert "missing-series" in found(outcome)
    assert counts(outcome) == {"found": 5, "annotation": 1, "phases": 1, "included": 3}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda item: item.pop("annotation"),
        lambda item: item["annotation"]["lesion"]["0"].update(category="hcc"),
        lambda item: item["annotation"]["lesion"]["0"]["bbox"].update({"3D_box": {"x_min": 1}}),
        lambda item: item["annotation"]["lesion"]["0"]["bbox"].update(
            {"3D_box": box3d((9, 2), (1, 2), (1, 2))}
        ),
        lambda item: item.update(seriesUID="../../../etc/passwd"),
    ],
)
def test_a_damaged_entry_leaves_out_its_patient_only(
    official, tmp_path, one, no_errors, found, counts, spoil
):
    edit(official, lambda info: spoil(info["MR-170396"][1]))
    outcome = import_lld_mmri(official, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    assert counts(outcome) == {"found": 4, "annotation": 1, "included": 3}
    assert "damaged-annotation" in found(outcome)


def test_a_box_past_the_last_slice_is_left_out(official, tmp_path, one, no_errors, found):
    edit(
        official,
        lambda info: info["MR-170396"][2]["annotation"]["lesion"]["0"]["bbox"].update(
            {"3D_box": box3d((2, 4), (2, 4), (4, 6))}
        ),
    )
    outcome = import_lld_mmri(official, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    assert outcome.cohort["MR-170396"].mask is None
    assert "box-outside" in found(outcome)


def test_categories_that_differ_between_series_are_no_class(official, tmp_path, one, found):
    edit(official, lambda info: info["MR50724"][0]["annotation"]["lesion"]["1"].update(category=2))
    outcome = import_lld_mmri(official, tmp_path / "out", options=one)
    assert "torn-category" in found(outcome)


@pytest.mark.parametrize("text", ["{", "[]", '{"Annotation": {}}'])
def test_a_damaged_file_is_refused(official, tmp_path, one, text):
    (official / "labels" / "Annotation.json").write_text(text)
    with pytest.raises(UserError, match=r"Annotation\.json"):
        import_lld_mmri(official, tmp_path / "out", options=one)


def test_an_id_that_leads_out_of_the_cohort_is_refused(official, tmp_path, one):
    edit(official, lambda info: info.update({"../MR1": info.pop("MR27202")}))
    with pytest.raises(UserError, match="name of a file"):
        import_lld_mmri(official, tmp_path / "out", options=one)


def test_another_folder_says_what_it_holds(tmp_path, one):
    (tmp_path / "src" / "holiday").mkdir(parents=True)
    with pytest.raises(UserError, match="holiday"):
        import_lld_mmri(tmp_path / "src", tmp_path / "out", options=one)


# ---------------------------------------------------------------------- the release with masks
@pytest.fixture
def medsam2(tmp_path, write_image, write_mask, write_json):
    root = tmp_path / "LLD-MMRI-MedSAM2"
    for number, (patient, category) in enumerate((("MR-170396", 6), ("MR182018", 0))):
        for phase in PHASES:
            stem = f"{patient}_{category}_{phase.replace(' ', '')}"
            if not phase.startswith("C"):
                (root / "images" / f"{stem}_0000.nii.gz").touch()  # never read
                continue
            write_image(root / "images" / f"{stem}_0000.nii.gz", number, LEVEL[phase])
            write_mask(root / "labels" / f"{stem}.nii.gz", [(1, (3, 6), (3, 6), (1, 4))])
    write_json(root / "LLD_MMRI_Annotation.json", {"Annotation_info": {}})
    return root


def test_the_release_with_masks(medsam2, tmp_path, one, no_errors, found):
    outcome = import_lld_mmri(medsam2, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    cohort = Cohort.read(tmp_path / "out")
    assert {s.study_id: s.label for s in cohort.studies} == {"MR-170396": "hcc", "MR182018": "hemangioma"}
    study = cohort["MR182018"]
    assert study.mask == medsam2 / "labels" / "MR182018_0_C+V.nii.gz"
    assert (study.mask_source, study.mask_phase) == ("program", "portal_venous")
    assert set(study.images) == {"pre", "arterial", "portal_venous", "delayed"}
    assert "one-mask" in found(outcome)


def test_masks_replace_boxes_where_they_fit(official, medsam2, tmp_path, write_mask, one, no_errors, found):
    moved = np.diag([2.0, 2.0, 4.0, 1.0])
    moved[2, 3] = 9.0
    for path in (medsam2 / "labels").glob("MR182018_0_C*.nii.gz"):
        write_mask(path, [(1, (3, 6), (3, 6), (1, 4))], affine=moved)
    outcome = import_lld_mmri(official, tmp_path / "out", masks=medsam2 / "labels", options=one)
    no_errors(tmp_path / "out")
    sources = {s.study_id: s.mask_source for s in outcome.cohort.studies}
    assert sources == {"MR-170396": "program", "MR182018": "box", "MR27202": "box", "MR50724": "box"}
    assert "mask-left-out" in found(outcome)


# ---------------------------------------------------------------------- lesions already cut out
@pytest.fixture
def crops(tmp_path, write_image):
    root = tmp_path / "classification_dataset"
    for number, name in enumerate(("MR-170396", "MR182018", "MR182018_1", "MR27202")):
        for index, phase in enumerate(PHASES[:4]):
            # every phase is cut around its own box
            write_image(
                root / "images" / name / f"{phase}.nii.gz",
                number,
                LEVEL[phase],
                np.diag([-1.0, -1.0, 1.0, 1.0]),
                (9 + index, 10, 4),
            )
    labels = root / "labels"
    labels.mkdir()
    (labels / "labels.txt").write_text("MR170396 6\nMR182018 0\n")
    (labels / "labels_val_inaccessible.txt").write_text("MR27202 -1\n")
    (labels / "train_fold1.txt").write_text("MR182018 0\n")
    (labels / "val_fold1.txt").write_text("MR170396 6\nMR5 3\n")
    return root


def test_crops_keep_their_patients_together_and_have_no_mask(crops, tmp_path, one, no_errors, found):
    outcome = import_lld_mmri(crops, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    cohort = Cohort.read(tmp_path / "out")
    assert {s.study_id: (s.patient_id, s.label) for s in cohort.studies} == {
        "MR-170396": ("MR-170396", "hcc"),
        "MR182018": ("MR182018", "hemangioma"),
        "MR182018_1": ("MR182018", ""),
        "MR27202": ("MR27202", ""),
    }
    assert all(study.mask is None for study in cohort.studies)
    assert {"no-geometry", "withheld-label"} <= found(outcome)


def test_the_official_divisions_become_splits_that_train_takes(crops, tmp_path, one, found):
    outcome = import_lld_mmri(crops, tmp_path / "out", options=one)
    cohort = Cohort.read(tmp_path / "out")
    fold = read_split(tmp_path / "out" / "splits" / "fold_1.json", cohort)
    assert (set(fold.train), fold.test, fold.fold) == ({"MR182018", "MR182018_1"}, ("MR-170396",), 0)
    validation = read_split(tmp_path / "out" / "splits" / "validation.json", cohort)
    assert validation.test == ("MR27202",)
    assert {"splits-written", "split-without-study"} <= found(outcome)


def test_a_list_that_divides_a_patient_gives_no_split(crops, tmp_path, one):
    (crops / "labels" / "val_fold1.txt").write_text("MR182018 0\n")
    outcome = import_lld_mmri(crops, tmp_path / "out", options=one)
    assert "both sides" in next(f.meaning for f in outcome.findings if f.id == "split-left-out")
    assert [p.name for p in (tmp_path / "out" / "splits").iterdir()] == ["validation.json"]


def test_the_test_side_is_whoever_the_list_of_training_and_validation_leaves(crops, tmp_path, one):
    (crops / "labels" / "labels_trainval.txt").write_text("MR170396 6\nMR182018 0\n")
    import_lld_mmri(crops, tmp_path / "out", options=one)
    split = read_split(tmp_path / "out" / "splits" / "test.json", Cohort.read(tmp_path / "out"))
    assert split.test == ("MR27202",)


def test_a_list_of_another_form_is_named_with_its_line(crops, tmp_path, one):
    (crops / "labels" / "labels.txt").write_text("MR170396 6\nMR182018,0\n")
    with pytest.raises(UserError, match=r"labels\.txt, line 2"):
        import_lld_mmri(crops, tmp_path / "out", options=one)
