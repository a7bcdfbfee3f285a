import csv

import pytest

from mtinet.workflows.imports.inclusion import Inclusion, inclusion_text, write_inclusion


def test_the_counts_add_up_and_a_study_leaves_once(tmp_path):
    flow = Inclusion(["007", "NO", "c", "d"], "patients")
    flow.leave_out("007", "phases", "no phase")
    flow.leave_out("NO", "phases", "no phase")
    flow.leave_out("NO", "mask", "no mask")
    flow.leave_out("c", "mask", "a mask, off its grid")
    assert flow.included == ("d",)
    rows = flow.rows()
    assert [(r.step, r.studies) for r in rows] == [("found", 4), ("phases", 2), ("mask", 1), ("included", 1)]
    with write_inclusion(tmp_path, rows).open(newline="") as file:
        read = list(csv.DictReader(file))
    assert read[2] == {"step": "mask", "studies": "1", "reason": "a mask, off its grid"}
    assert inclusion_text(rows).count("\n") == 3


def test_only_a_found_study_can_be_left_out():
    with pytest.raises(KeyError):
        Inclusion(["a"]).leave_out("b", "phases", "none")
