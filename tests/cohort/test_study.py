import pytest

from mtinet.cohort import CohortError, Study


def test_a_study_from_a_folder(toy, tmp_path):
    written = toy.write(tmp_path, "s9")
    study = Study.from_folder(tmp_path / "images" / "s9")
    assert study.study_id == "s9"
    assert Study.from_folder(str(tmp_path / "images" / "s9")) == study
    assert study.images == written.images
    assert study.liver_mask == written.liver_mask
    assert study.reference_phase == "portal_venous"
    del study.images["portal_venous"]
    assert study.reference_phase == "delayed"
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match=r"holds no <phase>\.nii\.gz"):
        Study.from_folder(tmp_path / "empty")
    with pytest.raises(CohortError, match="not a folder"):
        Study.from_folder(tmp_path / "nowhere")


def test_phases_are_known_by_their_common_names(toy, tmp_path):
    for phase, name in {"pre": "native", "arterial": "Arterial", "portal_venous": "PV"}.items():
        toy.images[phase].write_nifti(tmp_path / f"{name}.nii.gz")
    study = Study.from_folder(tmp_path)
    assert {phase: path.name for phase, path in study.images.items()} == {
        "pre": "native.nii.gz", "arterial": "Arterial.nii.gz", "portal_venous": "PV.nii.gz",
    }  # fmt: skip
    assert study.unused == ()


def test_files_that_are_neither_phase_nor_mask_are_told(toy, tmp_path):
    names = (
        "pre.nii.gz",
        "pre.nii",
        "t2.nii.gz",
        "mask.nii.gz",
        "mask_arterial.nii.gz",
        "liver_mask_pre.nii",
        "pv2.nii",
    )
    for name in names:
        toy.images["pre"].write_nifti(tmp_path / name)
    (tmp_path / "._pre.nii.gz").touch()
    (tmp_path / "notes.txt").touch()
    study = Study.from_folder(tmp_path)
    assert study.images == {"pre": tmp_path / "pre.nii.gz"}
    assert [path.name for path in study.unused] == ["t2.nii.gz", "pre.nii", "pv2.nii"]
    known = Study.from_folder(tmp_path, {"portal_venous": tmp_path / "pv2.nii", "pre": None})
    assert known.images == {"portal_venous": tmp_path / "pv2.nii"}
    assert [path.name for path in known.unused] == ["pre.nii.gz", "t2.nii.gz", "pre.nii"]


def test_two_files_of_one_phase_are_refused_unless_one_is_called_as_the_phase(toy, tmp_path):
    for name in ("PV", "portal"):
        toy.images["portal_venous"].write_nifti(tmp_path / f"{name}.nii.gz")
    with pytest.raises(CohortError, match=r"PV\.nii\.gz and portal\.nii\.gz both are portal_venous"):
        Study.from_folder(tmp_path)
    told = Study.from_folder(tmp_path, {"portal_venous": tmp_path / "PV.nii.gz"})
    assert [path.name for path in told.unused] == ["portal.nii.gz"]
    toy.images["portal_venous"].write_nifti(tmp_path / "portal_venous.nii.gz")
    study = Study.from_folder(tmp_path)
    assert study.images == {"portal_venous": tmp_path / "portal_venous.nii.gz"}
    assert [path.name for path in study.unused] == ["PV.nii.gz", "portal.nii.gz"]
