import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from mtinet.imaging.liver import (
    LiverCommandError,
    body_region,
    liver_region,
    run_liver_command,
    without_unusable_liver,
)
from mtinet.volume import Volume, read_nifti

SEGMENT = """
import sys, nibabel as nib, numpy as np
image = nib.load(sys.argv[1])
mask = (np.asarray(image.dataobj) > {threshold}).astype(np.uint8)
nib.save(nib.Nifti1Image(mask[:, :, {slices}], image.affine), sys.argv[2])
"""


@pytest.fixture
def image(toy, tmp_path):
    path = tmp_path / "with blank" / "image.nii.gz"
    toy.images["portal_venous"].write_nifti(path)
    return path


def command(tmp_path, text):
    script = tmp_path / "segment.py"
    script.write_text(text)
    return f"'{sys.executable}' '{script}' {{image}} {{out}}"


def test_the_mask_of_a_program_is_taken(toy, image, tmp_path):
    out = tmp_path / "liver.nii.gz"
    told = command(tmp_path, SEGMENT.format(threshold=500, slices=":"))
    assert run_liver_command(told, image, out) == out
    np.testing.assert_array_equal(read_nifti(out).array, toy.images["portal_venous"].array > 500)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "without writing"),
        ("import sys; sys.exit('no model')", r"exit code 1\): no model"),
        (SEGMENT.format(threshold=500, slices=":2"), "does not lie on the grid"),
        (SEGMENT.format(threshold=1e6, slices=":"), "is empty"),
        ("import sys; open(sys.argv[2], 'w').write('x')", "cannot be used"),
    ],
)
def test_what_a_program_leaves_wrong_is_named_and_not_kept(image, tmp_path, text, said):
    out = tmp_path / "out" / "liver.nii.gz"
    with pytest.raises(LiverCommandError, match=said):
        run_liver_command(command(tmp_path, text), image, out)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("wrong", ["shifted", "smaller", "empty", "damaged"])
def test_a_liver_that_is_none_of_the_study_is_left_out_and_said(toy, tmp_path, wrong):
    study = toy.write(tmp_path, "s0")
    assert without_unusable_liver(study) == (study, ())
    none = replace(study, liver_mask=None)
    assert without_unusable_liver(none) == (none, ())
    liver = toy.liver
    moved = np.array(liver.affine)
    moved[0, 3] += 3.0
    volumes = {
        "shifted": Volume(liver.array, moved),
        "smaller": Volume(liver.array[:, :, :3], liver.affine),
        "empty": liver.with_array(np.zeros_like(liver.array)),
    }
    if wrong == "damaged":
        study.liver_mask.write_bytes(study.liver_mask.read_bytes()[:60])
    else:
        volumes[wrong].write_nifti(study.liver_mask)
    left, (found,) = without_unusable_liver(study)
    assert left == none
    assert (found.id, found.severity, found.case) == ("liver-not-used", "warning", "s0")
    assert "liver_mask.nii.gz" in found.meaning
    assert str(tmp_path) not in found.meaning
    assert "portal_venous" in found.action


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("segment {image}", r"does not hold \{out\}"),
        ("segment '{image} {out}", "close the quotes"),
        ("no-such-segmenter {image} {out}", "no program no-such-segmenter"),
    ],
)
def test_a_command_that_cannot_run_is_named(image, tmp_path, told, said):
    with pytest.raises(LiverCommandError, match=said):
        run_liver_command(told, image, tmp_path / "liver.nii.gz")


def test_no_shell_sees_the_command(image, tmp_path):
    told = command(tmp_path, "import sys; sys.exit(sys.argv[3])") + f" '; touch {tmp_path / 'made'}'"
    with pytest.raises(LiverCommandError, match="; touch"):
        run_liver_command(told, image, tmp_path / "liver.nii.gz")
    assert not (tmp_path / "made").exists()


def test_a_program_that_hangs_is_stopped_with_what_it_started(image, tmp_path):
    mark = tmp_path / "alive"
    child = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    text = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(LiverCommandError, match="was stopped after 1 s"):
        run_liver_command(command(tmp_path, text), image, tmp_path / "liver.nii.gz", timeout_s=1.0)
    time.sleep(3.0)
    assert not mark.exists()


def test_regions_hold_what_they_are_named_after(toy):
    reference = toy.images["portal_venous"]
    around, body = liver_region(toy.liver, reference), body_region(reference)
    assert (around.around, body.around) == ("liver", "body")
    assert around.volume.array[toy.liver.array > 0].all()
    assert around.volume.array.sum() > toy.liver.array.sum()
    assert body.volume.array[toy.liver.array > 0].all()
    assert not body.volume.array[0, 0].any()
    assert liver_region(toy.liver.with_array(np.zeros_like(toy.liver.array)), reference) is None
    assert body_region(reference.with_array(np.ones_like(reference.array))) is None
