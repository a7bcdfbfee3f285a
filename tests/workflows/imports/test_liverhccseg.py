import numpy as np
import pytest

from mtinet.cohort import Cohort
from mtinet.errors import UserError
from mtinet.volume import read_nifti
from mtinet.workflows.imports.liverhccseg import import_liverhccseg

FILES = {"pre": 150, "art": 250, "pv": 230, "del": 210, "art_pre": 151, "art_pv": 231, "art_del": 211}
PLACES = [((1, 4), (1, 4), (1, 3)), ((8, 11), (6, 8), (3, 5)), ((6, 8), (2, 4), (1, 2))]


@pytest.fixture
def source(tmp_path, write_image, write_mask):
    """A patient with three tumours, and one without; macOS leftovers beside them."""
    root = tmp_path / "nifti_and_segms"
    for number, (patient, date, tumours) in enumerate(
        (("TCGA-BC-A10Y", "02-21-2000", 3), ("TCGA-BC-4073", "01-01-2001", 0))
    ):
        exam = root / patient / date
        for name, level in FILES.items():
            write_image(exam / f"{name}.nii.gz", number, level)
        (exam / "._art.nii.gz").write_bytes(b"\0\5\26\7")
        for reader in (1, 2):
            write_mask(exam / f"rater{reader}_liver.nii.gz", [(1, (0, 13), (0, 11), (0, 6))])
            for lesion in range(tumours - reader + 1):
                write_mask(exam / f"rater{reader}_tumor{lesion + 1}.nii.gz", [(1, *PLACES[lesion])])
    return root


@pytest.mark.parametrize("registered", [True, False])
def test_phases_two_readers_and_lesions(source, tmp_path, one, no_errors, found, counts, registered):
    outcome = import_liverhccseg(source.parent, tmp_path / "out", registered=registered, options=one)
    no_errors(tmp_path / "out")
    cohort = Cohort.read(tmp_path / "out")
    study = cohort["TCGA-BC-A10Y"]
    assert cohort.phases == ("pre", "arterial", "portal_venous", "delayed")
    assert study.images["portal_venous"].name == ("art_pv.nii.gz" if registered else "pv.nii.gz")
    assert study.images["arterial"].name == "art.nii.gz"
    assert (study.label, study.mask_phase, study.liver_mask.name) == (
        "hcc",
        "arterial",
        "rater1_liver.nii.gz",
    )
    mask = read_nifti(study.mask, labels=True).array
    assert [int(mask[x[0], y[0], z[0]]) for x, y, z in PLACES] == [1, 2, 3]
    assert set(np.unique(read_nifti(study.mask_2, labels=True).array)) == {0, 1, 2}
    assert cohort.lesion_labels(study) == {1: "hcc", 2: "hcc", 3: "hcc"}
    # no tumour drawn is not a liver free of lesions
    assert (cohort["TCGA-BC-4073"].label, cohort["TCGA-BC-4073"].mask) == ("", None)
    assert "no-tumour-mask" in found(outcome)
    assert counts(outcome) == {"found": 2, "included": 2}


def test_masks_of_another_number_of_slices_are_left_out(source, tmp_path, write_mask, one, no_errors, found):
    """One examination of the release has them."""
    exam = source / "TCGA-BC-4073" / "01-01-2001"
    write_mask(exam / "rater1_liver.nii.gz", [(1, (0, 13), (0, 11), (0, 5))], shape=(14, 12, 5))
    outcome = import_liverhccseg(source, tmp_path / "out", options=one)
    no_errors(tmp_path / "out")
    assert outcome.cohort["TCGA-BC-4073"].liver_mask is None
    assert "mask-left-out" in found(outcome)


def test_another_folder_is_refused(tmp_path, one):
    (tmp_path / "src" / "patient").mkdir(parents=True)
    with pytest.raises(UserError, match="it holds patient"):
        import_liverhccseg(tmp_path / "src", tmp_path / "out", options=one)
