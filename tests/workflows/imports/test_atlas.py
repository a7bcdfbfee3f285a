import json

import numpy as np
import pytest

from mtinet.cohort import Cohort
from mtinet.errors import UserError
from mtinet.volume import read_nifti
from mtinet.workflows.imports.atlas import import_atlas

# the words that the data set writes, its misspelling included
WORDS = ("arterial", "portal", "delayed", "no contrast agent", "unkown")


@pytest.fixture
def train(tmp_path, write_image, write_mask, write_json):
    root = tmp_path / "atlas" / "train"
    for number in range(len(WORDS)):
        write_image(root / "imagesTr" / f"im{number}.nii.gz", number)
        tumours = [(2, (1, 4), (1, 4), (1, 3)), (2, (8, 11), (6, 8), (3, 5))]
        write_mask(root / "labelsTr" / f"lb{number}.nii.gz", [(1, (0, 13), (0, 11), (0, 6)), *tumours])
    info = {
        str(n): {"machine": "x", "sequence": "y", "contrast_phase": word, "date": "z"}
        for n, word in enumerate(WORDS)
    }
    write_json(root / "patient_info_train.json", info)
    return root


def test_each_patient_has_the_phase_that_the_data_set_names(train, tmp_path, one, no_errors, found, counts):
    outcome = import_atlas(train.parent, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    cohort = Cohort.read(tmp_path / "out")
    assert {s.study_id: tuple(s.images) for s in cohort.studies} == {
        "atlas_0": ("arterial",),
        "atlas_1": ("portal_venous",),
        "atlas_2": ("delayed",),
        "atlas_3": ("pre",),
    }
    mask = read_nifti(cohort["atlas_1"].mask, labels=True).array
    assert (mask[2, 2, 1], mask[9, 7, 3], mask[5, 5, 5]) == (1, 2, 0)
    liver = read_nifti(cohort["atlas_1"].liver_mask, labels=True).array
    assert liver[5, 5, 5] == 1
    assert liver[mask > 0].all()
    assert cohort.lesion_labels(cohort["atlas_1"]) == {1: "hcc", 2: "hcc"}
    assert counts(outcome) == {"found": 5, "phases": 1, "included": 4}
    assert "one-phase" in found(outcome)


def test_keys_with_the_prefix_are_the_same_patients(train, tmp_path, one):
    path = train / "patient_info_train.json"
    path.write_text(json.dumps({f"im{k}": v for k, v in json.loads(path.read_text()).items()}))
    assert len(import_atlas(train, tmp_path / "out", options=one).cohort) == 4


def test_a_label_file_off_its_grid_is_no_mask(train, tmp_path, write_mask, one, no_errors, found):
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    affine[1, 3] = 5.0
    write_mask(train / "labelsTr" / "lb0.nii.gz", [(2, (1, 4), (1, 4), (1, 3))], affine=affine)
    outcome = import_atlas(train, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    assert outcome.cohort["atlas_0"].mask is None
    assert "mask-left-out" in found(outcome)


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_without_the_table_no_phase_is_guessed(train, tmp_path, one, text):
    path = train / "patient_info_train.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match="patient_info_train"):
        import_atlas(train, tmp_path / "out", options=one)
