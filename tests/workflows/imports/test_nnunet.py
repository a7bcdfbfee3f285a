import json

import numpy as np
import pandas as pd
import pytest

from mtinet.cohort import NO_LESION, Cohort, Study
from mtinet.data.folds import split_cohort
from mtinet.errors import UserError
from mtinet.volume import read_nifti
from mtinet.workflows.export_nnunet import export_nnunet
from mtinet.workflows.imports.nnunet import import_nnunet

BOX = ((1, 4), (1, 4), (1, 3))
FAR = ((8, 12), (6, 10), (2, 5))
V2 = {
    "channel_names": {"0": "pre", "1": "arterial"},
    "labels": {"background": 0, "liver": 1, "HCC": 2, "tumour": 3},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}
V1 = {
    "name": "Old",
    "licence": "CC BY",
    "modality": {"0": "pre", "1": "arterial"},
    "labels": {"0": "background", "1": "liver", "2": "HCC", "3": "tumour"},
    "numTraining": 3,
    "training": [
        {"image": f"./imagesTr/{c}.nii.gz", "label": f"./labelsTr/{c}.nii.gz"} for c in ("007", "NO", "x")
    ],
    "test": [],
}


@pytest.fixture
def dataset(tmp_path, write_image, write_mask, write_json):
    """007: two HCC and a tumour of unknown class; NO: liver only; x: no label."""
    src = tmp_path / "Dataset501_Liver"
    for number, case in enumerate(("007", "NO", "x")):
        for channel in (0, 1):
            write_image(src / "imagesTr" / f"{case}_{channel:04d}.nii.gz", number, 150 + 90 * channel)
    liver = (1, (0, 13), (0, 11), (0, 6))
    write_mask(src / "labelsTr" / "007.nii.gz", [liver, (2, *BOX), (2, *FAR), (3, (1, 3), (8, 10), (3, 5))])
    write_mask(src / "labelsTr" / "NO.nii.gz", [liver])
    write_json(src / "dataset.json", V2)
    return src


def test_labels_about_other_cases_are_refused_before_anything_is_written(dataset, tmp_path, one):
    (tmp_path / "labels.csv").write_text("study_id,label\nnobody,hcc\n")
    with pytest.raises(UserError, match="no study_id of"):
        import_nnunet(dataset, tmp_path / "out", labels=tmp_path / "labels.csv", options=one)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("description", [V2, V1])
def test_channels_are_phases_and_values_are_classes(
    dataset, tmp_path, write_json, one, no_errors, found, counts, description
):
    write_json(dataset / "dataset.json", description)
    outcome = import_nnunet(dataset, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    cohort = Cohort.read(tmp_path / "out")
    assert cohort.phases == ("pre", "arterial")
    assert {s.study_id: s.label for s in cohort.studies} == {"007": "hcc", "NO": NO_LESION, "x": ""}
    # the two HCC are two lesions; the tumour's class stays unknown
    assert cohort.lesion_labels(cohort["007"]) == {1: "hcc", 2: "hcc"}
    mask = read_nifti(cohort["007"].mask, labels=True).array
    assert [int((mask == n).sum()) for n in (1, 2, 3)] == [48, 18, 8]
    liver = read_nifti(cohort["007"].liver_mask, labels=True).array
    assert liver[mask > 0].all()
    assert set(np.unique(liver)) == {0, 1}
    assert {"channels", "label-values"} <= found(outcome)
    assert counts(outcome) == {"found": 3, "included": 3}


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        ({"channel_names": {"0": "MRI", "1": "MRI"}}, {}, "--channel 0=pre"),
        ({"channel_names": {"0": "ap", "1": "arterial"}}, {}, "both|all stand for"),
        ({"labels": {"background": 0, "spleen": 1}}, {}, "--label 1=CLASS"),
        ({}, {"label_names": ["7=hcc"]}, "no such label"),
        ({}, {"channels": ["5=pre"]}, "there is no 5"),
        ({"labels": {"background": "zero"}}, {}, "lack numbers"),
        ({"labels": None}, {}, "lacks channel_names"),
    ],
)
def test_what_is_not_known_is_asked_for(dataset, tmp_path, write_json, one, change, options, told):
    write_json(dataset / "dataset.json", V2 | change)
    with pytest.raises(UserError, match=told):
        import_nnunet(dataset, tmp_path / "out", options=one, **options)


def test_channels_and_labels_by_number_or_name(dataset, tmp_path, write_json, one):
    write_json(
        dataset / "dataset.json",
        V2 | {"channel_names": {"0": "MRI", "1": "MRI"}, "labels": {"a": 1, "b": 2, "c": 3}},
    )
    import_nnunet(
        dataset,
        tmp_path / "out",
        channels=["0=arterial", "1=hepatobiliary"],
        label_names=["a=ignore", "2=NO", "c=icc"],
        options=one,
    )
    cohort = Cohort.read(tmp_path / "out")
    assert cohort.phases == ("arterial", "hepatobiliary")
    assert cohort.classes == ("icc", "NO")
    assert set(cohort.lesion_labels(cohort["007"]).values()) == {"NO", "icc"}


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_damaged_description(dataset, tmp_path, one, text):
    (dataset / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=r"dataset\.json"):
        import_nnunet(dataset, tmp_path / "out", options=one)


def test_a_listed_case_without_images_is_counted(dataset, tmp_path, one, counts):
    for path in (dataset / "imagesTr").glob("x_*"):
        path.unlink()
    (dataset / "dataset.json").write_text(json.dumps(V1))
    assert counts(import_nnunet(dataset, tmp_path / "out", options=one)) == {
        "found": 3,
        "phases": 1,
        "included": 2,
    }


def test_paths_of_a_version_2_list(dataset, tmp_path, write_json, one):
    listed = {
        "a": {"images": [f"imagesTr/007_{c:04d}.nii.gz" for c in (0, 1)], "label": "labelsTr/007.nii.gz"}
    }
    write_json(dataset / "dataset.json", V2 | {"dataset": listed})
    assert [s.study_id for s in import_nnunet(dataset, tmp_path / "out", options=one).cohort.studies] == ["a"]


# ---------------------------------------------------------------------- export
@pytest.fixture
def cohort(tmp_path, write_image, write_mask):
    """Ten studies: s0 on two grids, s8 without arterial phase, s9 without mask, s7 without lesion."""
    folder = tmp_path / "cohort"
    studies, rows = [], []
    for number in range(10):
        name = ("007", "NO", *(f"s{n}" for n in range(2, 10)))[number]
        place = folder / "images" / name
        coarse = np.diag([2.0, 2.0, 6.0, 1.0])
        images = {
            "pre": write_image(place / "pre.nii.gz", number, 150),
            "arterial": write_image(
                place / "arterial.nii.gz",
                number,
                250,
                **({"affine": coarse, "shape": (14, 12, 4)} if number == 0 else {}),
            ),
        }
        if number == 8:
            del images["arterial"]
        mask = None if number in (7, 9) else write_mask(place / "mask.nii.gz", [(1, *FAR), (2, *BOX)])
        label = NO_LESION if number == 7 else ("hcc", "NO")[number % 2]
        if mask is not None:
            rows.append({"study_id": name, "lesion": "1", "label": label})
            rows.append({"study_id": name, "lesion": "2", "label": "cyst" if number == 2 else ""})
        studies.append(
            Study(
                name,
                images,
                patient_id=f"p{number}",
                site="A",
                label=label,
                mask=mask,
                mask_phase="pre" if mask else "",
                times_s={"arterial": 20.0},
            )
        )
    lesions = pd.DataFrame(rows)
    Cohort(
        "ten",
        tuple(studies),
        ("hcc", "NO", "cyst"),
        phases=("pre", "arterial"),
        agent="gadobutrol",
        lesions=lesions,
    ).write(folder)
    return Cohort.read(folder)


def test_an_exported_data_set_is_as_nnunet_wants_it(cohort, tmp_path, counts):
    outcome = export_nnunet(cohort.folder, tmp_path / "Dataset501_Ten", folds=3)
    assert counts(outcome) == {"found": 10, "phases": 1, "mask": 1, "included": 8}
    root = tmp_path / "Dataset501_Ten"
    description = json.loads((root / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "pre", "1": "arterial"}
    assert description["labels"] == {"background": 0, "hcc": 1, "NO": 2, "cyst": 3, "lesion": 4}
    assert description["numTraining"] == len(list((root / "labelsTr").iterdir())) == 8
    for case in outcome.studies:
        files = [root / "imagesTr" / f"{case}_{c:04d}.nii.gz" for c in (0, 1)]
        volumes = [read_nifti(p) for p in [*files, root / "labelsTr" / f"{case}.nii.gz"]]
        assert all(volumes[0].corner_distance_mm(v) < 1e-3 for v in volumes)
    values = read_nifti(root / "labelsTr" / "s2.nii.gz", labels=True).array
    assert (values[9, 7, 3], values[2, 2, 1]) == (1, 3)
    assert not read_nifti(root / "labelsTr" / "s7.nii.gz", labels=True).array.any()


def test_exported_folds_are_those_of_train(cohort, tmp_path):
    outcome = export_nnunet(cohort.folder, tmp_path / "set", folds=3)
    splits = json.loads((tmp_path / "set" / "splits_final.json").read_text())
    assert len(splits) == 3
    for fold, split in enumerate(splits):
        ours = split_cohort(cohort, fold, 3)
        assert set(split["val"]) == set(ours.test) & set(outcome.studies)
        assert set(split["train"]) == set(ours.train) & set(outcome.studies)


def test_a_cohort_survives_the_way_through_nnunet(cohort, tmp_path, one, no_errors):
    outcome = export_nnunet(cohort.folder, tmp_path / "set", folds=3)
    import_nnunet(tmp_path / "set", tmp_path / "back", options=one)
    no_errors(tmp_path / "back")
    back = Cohort.read(tmp_path / "back")
    assert {s.study_id for s in back.studies} == set(outcome.studies)
    assert (set(back.classes), back.phases) == ({"hcc", "NO", "cyst"}, ("pre", "arterial"))
    for study in back.studies:
        old = cohort[study.study_id]
        assert (study.patient_id, study.site, study.label) == (old.patient_id, old.site, old.label)
        assert (study.times_s, study.agent) == (old.times_s, "gadobutrol")
        if old.mask is None:
            continue
        assert {n: c for n, c in cohort.lesion_labels(old).items() if c} == back.lesion_labels(study)
        if study.study_id != "007":  # its arterial phase, on which the masks go, has a coarser grid
            np.testing.assert_array_equal(
                read_nifti(study.mask, labels=True).array, read_nifti(old.mask, labels=True).array
            )
        for phase, path in study.images.items():
            if study.study_id != "007":
                np.testing.assert_array_equal(read_nifti(path).array, read_nifti(old.images[phase]).array)


def test_fewer_phases_leave_out_fewer_studies(cohort, tmp_path):
    assert "s8" in export_nnunet(cohort.folder, tmp_path / "set", phases=["pre"]).studies
    with pytest.raises(UserError, match="already holds"):
        export_nnunet(cohort.folder, tmp_path / "set")
    with pytest.raises(UserError, match="no phase delayed"):
        export_nnunet(cohort.folder, tmp_path / "other", phases=["delayed"])
    with pytest.raises(UserError, match="names no phase"):
        export_nnunet(cohort.folder, tmp_path / "none", phases=())


def test_too_few_patients_for_the_folds_are_said(cohort, tmp_path, found):
    outcome = export_nnunet(cohort.folder, tmp_path / "set", folds=11)
    assert "no-folds" in found(outcome)
    assert not (tmp_path / "set" / "splits_final.json").exists()


def test_without_any_class_there_is_one(dataset, tmp_path, write_json, one, no_errors):
    write_json(
        dataset / "dataset.json", V2 | {"labels": {"background": 0, "liver": 1, "lesion": 2, "mass": 3}}
    )
    import_nnunet(dataset, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    assert Cohort.read(tmp_path / "out").classes == ("lesion",)
    export_nnunet(tmp_path / "out", tmp_path / "set", folds=2)
    labels = json.loads((tmp_path / "set" / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "lesion": 1}
    assert set(np.unique(read_nifti(tmp_path / "set" / "labelsTr" / "007.nii.gz").array)) == {0, 1}
