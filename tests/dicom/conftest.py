"""A small exam with an asymmetric content, and a real Orthanc."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mtinet.dicom.exam import Exam
from mtinet.volume import Volume

TIMES = {"arterial": 26.0, "portal_venous": 65.0, "delayed": 180.0, "hepatobiliary": 1200.0}


def make_exam(
    habit="siemens", affine=None, shape=(22, 18, 5), phases=("pre", *TIMES), seed=0, **values
) -> Exam:
    """An exam of noise about a gradient: no flip or exchange of axes leaves it as it is."""
    rng = np.random.default_rng(seed)
    if affine is None:
        affine = np.diag([-2.5, -2.0, 4.0, 1.0])
        affine[:3, 3] = (31.5, -12.25, 80.125)
    i, j, k = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    images = {
        phase: Volume(
            (100.0 * n + 3 * i + 7 * j + 11 * k + rng.integers(0, 40, shape)).astype(np.int16), affine
        )
        for n, phase in enumerate(phases, start=1)
    }
    facts = {"patient_id": "007", "study_id": "st1", "institution": "Site A", "dose_mmol_kg": 0.1, **values}
    return Exam(
        habit=habit, images=images, times_s={p: TIMES[p] for p in phases if p != "pre"}, seed=seed, **facts
    )


@pytest.fixture(scope="session")
def exam_maker():
    """``make_exam``."""
    return make_exam


def in_world(volume: Volume) -> dict[tuple[float, float, float], float]:
    """Value by world position, to 0.01 mm."""
    index = np.indices(volume.shape).reshape(3, -1)
    places = (volume.affine[:3, :3] @ index).T + volume.affine[:3, 3]
    return dict(zip(map(tuple, np.round(places, 2) + 0.0), volume.array.ravel().tolist(), strict=True))


@pytest.fixture(scope="session")
def verify():
    """Errors of ``dciodvfy`` for a file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")

    def errors(path: Path) -> list[str]:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        said = (done.stderr + done.stdout).splitlines()
        assert any(line and not line.startswith(("Error", "Warning")) for line in said), said
        return [line for line in said if line.startswith("Error")]

    return errors
