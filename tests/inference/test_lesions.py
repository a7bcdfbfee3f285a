"""Lesions from probability maps, and the signal under them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtinet.cohort import Cohort
from mtinet.config import resolve
from mtinet.data.preparation import prepare_study
from mtinet.inference.lesions import measured_signal


def test_a_phase_that_does_not_cover_a_lesion_has_no_signal_under_it(toy_cohort: Cohort, tmp_path: Path):
    """A mask that reaches out of a field of view is not measured with the zeros out there."""
    config = resolve("tiny")
    study = prepare_study(toy_cohort.studies[0], config.phases, config.preparation, tmp_path)
    labels = np.asarray(study.mask)
    whole = measured_signal(study, labels)
    number = study.lesions[0].number
    cropped = np.array(study.image)
    cropped[2][labels == number] *= np.arange(np.count_nonzero(labels == number)) % 2
    found = measured_signal(replace(study, memory={"image": cropped, "mask": labels}), labels)
    assert np.isnan(found[number][2])
    others = [0, 1, 3]
    assert found[number][others] == pytest.approx(whole[number][others])
    assert np.isfinite(whole[number]).all()
