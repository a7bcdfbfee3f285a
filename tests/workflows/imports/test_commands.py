"""The commands, in this process: arguments reach the importers and the answer is JSON."""

import json

import pytest
from typer.testing import CliRunner

from mtinet.cli import app


@pytest.fixture
def call():
    def run(*words, code=0):
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.stdout

    return run


def test_every_import_teaches_by_an_example(call):
    listed = call("import", "--help")
    for name in ("nifti", "nnunet", "lld-mmri", "atlas", "liverhccseg", "merge"):
        assert name in listed
        assert f"mtinet import {name}" in " ".join(call("import", name, "--help").split())


def test_from_files_to_nnunet_and_back_and_merged(tmp_path, write_image, write_mask, call):
    src = tmp_path / "src"
    for number in range(4):
        for level, phase in enumerate(("pre", "late")):
            write_image(src / f"00{number}" / f"{phase}.nii.gz", number, 150 + 80 * level)
        write_mask(src / f"00{number}" / "m.nii.gz", [(1, (1, 4), (1, 4), (1, 3))])
    (tmp_path / "labels.csv").write_text(
        "patient_id,label\n" + "".join(f"00{n},{('hcc', 'fnh')[n % 2]}\n" for n in range(4))
    )
    words = (
        "--pattern",
        "{patient}/{phase}.nii.gz",
        "--mask",
        "{patient}/m.nii.gz",
        "--phase",
        "late=delayed",
    )
    told = json.loads(
        call(
            "import",
            "nifti",
            src,
            tmp_path / "a",
            *words,
            "--labels",
            tmp_path / "labels.csv",
            "--workers",
            1,
            "--json",
        )
    )
    assert (told["studies"], told["phases"], told["classes"]) == (4, ["pre", "delayed"], ["hcc", "fnh"])
    assert told["inclusion"][0] == {"step": "found", "studies": 4, "reason": "studies by the pattern"}
    told = json.loads(call("export", "nnunet", tmp_path / "a", tmp_path / "set", "--folds", 2, "--json"))
    assert told["studies"] == ["000", "001", "002", "003"]
    call("import", "nnunet", tmp_path / "set", tmp_path / "b", "--workers", 1)
    # the two hold the same images, copied
    text = call("import", "merge", tmp_path / "a", tmp_path / "b", tmp_path / "c", "--workers", 1, code=1)
    assert text.count("hold the same voxels") == 4
    assert "8  included" in text
