"""``mtinet simulate --format dicom``: a virtual cohort's studies as its scanners would have written them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtinet import files
from mtinet.config import SimulationSettings
from mtinet.dicom.exam import Exam, Habit
from mtinet.imaging.phases.setting_aside import FEW_IMAGES
from mtinet.results import Finding
from mtinet.volume import Volume, read_nifti

_DISPLAYED = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Scanners store axial slices with rows to the patient's left and columns to the back."""


def write_dicom(
    out: Path, settings: SimulationSettings, index: int, record: dict[str, Any]
) -> dict[str, str]:
    """Write a simulated study into ``out/dicom/<patient>/<study>/``, unless it is there already.

    It is made from the study's NIfTI files.  The folder appears when it is complete.

    Parameters
    ----------
    out : Path
    settings : SimulationSettings
    index : int
        The patient's number.
    record : dict
        What :mod:`mtinet.workflows.simulate` keeps about the study.

    Returns
    -------
    dict
        The study's row of ``labels.csv``.
    """
    from mtinet.dicom.write import write_exam

    exam = Exam(
        patient_id=record["patient_id"],
        study_id=record["study_id"],
        habit=habit_of(settings, index),
        images={},
        times_s=record["times_s"],
        seed=settings.seed,
        institution=record["site"],
        agent=record["agent"],
        **record["acquisition"],
    )
    row = {"patient_id": exam.patient_id, "study_uid": exam.uid("study"), "label": record["label"]}
    place = out / "dicom" / exam.patient_id / exam.study_id
    if place.is_dir():
        return row
    for broken_off in place.parent.glob(f".tmp-*-{place.name}"):
        # it would be imported as well: a reader looks at every file
        shutil.rmtree(broken_off)
    beside = ("mask", "liver_mask", "mask_2")
    images = {name: _image(out / path) for name, path in record["files"].items() if name not in beside}
    exam = exam.with_images(images)
    mask = _image(out / record["files"]["mask"], labels=True)
    labels = {lesion["lesion"]: lesion["label"] for lesion in record["lesions"]}
    with files.atomic_folder(place) as folder:
        written = write_exam(folder, exam)
        if mask.array.any():
            from mtinet.dicom.segment import write_lesions

            write_lesions(folder, exam, written[exam.reference_phase], mask, labels)
    return row


def write_labels(out: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write ``out/dicom/labels.csv``: the class of every study, which no image tells."""
    files.write_text(out / "dicom" / "labels.csv", pd.DataFrame(rows).to_csv(index=False))


def few_images(settings: SimulationSettings) -> list[Finding]:
    """A warning for each site whose series have so few images that mtinet itself sets them aside."""
    findings = []
    for site in settings.sites:
        slices, (x, y, z) = site.matrix[2], site.spacing_mm
        if slices < FEW_IMAGES:
            thinner = math.floor(10 * z * slices / FEW_IMAGES) / 10
            findings.append(
                Finding(
                    "few-images",
                    "simulate",
                    "warning",
                    f"its series have {slices} images; phases, import and predict set aside those with fewer than "
                    f"{FEW_IMAGES}",
                    f"Take thinner slices (--spacing {x:g},{y:g},{thinner:g}) or other sites (--sites).",
                    f"site {site.name}",
                )
            )
    return findings


def habit_of(settings: SimulationSettings, index: int) -> Habit:
    """Whose files a patient's study is written like: that of its site, every other Philips study enhanced."""
    from mtinet.phantom.patient import assign

    habits = assign(settings, index)[1].habits
    if habits == "thrive":
        earlier = sum(assign(settings, number)[1].habits == "thrive" for number in range(index))
        return "enhanced" if earlier % 2 else "philips"
    return "siemens" if habits == "vibe" else "ge"


def _image(path: Path, labels: bool = False) -> Volume:
    volume = read_nifti(path, labels=labels)
    if not labels and np.array_equal(volume.array, np.rint(volume.array)):
        # whole numbers stay as they are
        volume = volume.with_array(volume.array.astype(np.int32))
    return volume.like_axes_of(_DISPLAYED)
