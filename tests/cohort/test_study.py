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
