from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mtinet.data.preparation import prepare_study
from mtinet.runs import Run
from mtinet.workflows.scored_rows import reference_mask


def test_the_reference_mask_moves_with_the_phase_on_which_it_was_drawn(
    toy_run: Run, toy_maker, tmp_path: Path
):
    toy = toy_maker(3)
    study = replace(toy.write(tmp_path, "m", "hcc"), mask_phase="arterial")
    prepared = prepare_study(study, toy_run.config.phases, toy_run.config.preparation, tmp_path / "cache")
    shift = np.eye(4)
    shift[0, 3] = 2 * toy.mask.spacing_mm[0]
    moved = replace(prepared, registrations={"arterial": {"matrix": shift.tolist(), "lattice": None}})
    assert np.array_equal(reference_mask(study, prepared), toy.mask.array)
    assert np.array_equal(reference_mask(study, moved), np.roll(toy.mask.array, 2, axis=0))
