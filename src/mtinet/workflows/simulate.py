"""``mtinet simulate``: write a cohort of virtual patients."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mtinet import files
from mtinet.cohort import Cohort, Study
from mtinet.config import SimulationSettings, difference, from_yaml, to_yaml
from mtinet.errors import UserError
from mtinet.volume import Volume
from mtinet.workflows.pool import OnProgress, for_each

if TYPE_CHECKING:
    from mtinet.phantom.patient import VirtualPatient

_DONE = ".simulated"
"""One JSON file a finished study lies here, written after its images: a broken-off simulation goes on."""


class SimulationError(UserError):
    """The output folder cannot be used; the message says why and what to do."""


def simulate(
    out: Path,
    settings: SimulationSettings,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> Cohort:
    """Simulate a cohort of virtual patients and write it; studies that are there already are kept.

    Parameters
    ----------
    out : Path
        New or empty folder, or one in which a simulation with the same settings was broken off.
    settings : SimulationSettings
    workers : int, optional
        Processes; None = from the machine.  Their number does not change a voxel.
    on_progress : callable, optional
        Called with the number of studies done and their total.

    Returns
    -------
    Cohort
        As read back from ``out``.

    Raises
    ------
    SimulationError
        ``out`` holds something else.
    """
    _claim(out, settings)
    records = for_each(
        partial(_simulate_study, out, settings), range(settings.subjects), workers, on_progress
    )
    lesions = pd.DataFrame([lesion for record in records for lesion in record["lesions"]])
    cohort = Cohort(
        name=f"{settings.name}-{settings.seed}",
        studies=tuple(_study(out, record) for record in records),
        classes=settings.classes,
        phases=settings.phases,
        agent=settings.agent,
        licence="CC0-1.0 (virtual patients)",
        lesions=lesions,
        folder=out,
    )
    cohort.write(out)
    return Cohort.read(out)


def _claim(out: Path, settings: SimulationSettings) -> None:
    """Make the folder ours, or refuse it."""
    if out.exists() and not out.is_dir():
        raise SimulationError(f"{out} is a file; choose a folder")
    described = out / "settings.yaml"
    if described.is_file():
        changed = difference(from_yaml(SimulationSettings, described.read_text(encoding="utf-8")), settings)
        if changed:
            listed = ", ".join(f"{name} {old!r} -> {new!r}" for name, (old, new) in changed.items())
            raise SimulationError(
                f"{out} holds a cohort with other settings ({listed}); choose another folder or remove it"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise SimulationError(f"{out} is not empty; choose a new folder")
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(described, to_yaml(settings))


def _simulate_study(out: Path, settings: SimulationSettings, index: int) -> dict[str, Any]:
    """One study's record, from disk where the study is complete."""
    done = out / _DONE / f"{index:05d}.json"
    if done.is_file():
        record = dict(json.loads(done.read_text(encoding="utf-8")))
        if all((out / path).is_file() for path in record["files"].values()):
            return record
    # imported here: a cohort that is complete needs no phantom
    from mtinet.phantom.patient import simulate_patient

    record = _write(out, settings, simulate_patient(settings, index))
    files.write_json(done, record)
    return record


def _write(out: Path, settings: SimulationSettings, patient: VirtualPatient) -> dict[str, Any]:
    """Write a patient's volumes; give back everything that the tables say about it."""
    volumes: dict[str, Volume] = {"mask": patient.mask, "liver_mask": patient.liver}
    volumes.update((str(phase), volume) for phase, volume in patient.images.items())
    paths = {name: f"images/{patient.study_id}/{name}.nii.gz" for name in volumes}
    for name, volume in volumes.items():
        volume.write_nifti(out / paths[name])
    site = patient.site
    return {
        "study_id": patient.study_id,
        "patient_id": patient.patient_id,
        "site": site.name,
        "label": patient.label,
        "files": paths,
        "times_s": dict(patient.times_s),
        "acquisition": {
            "dose_mmol_kg": settings.dose_mmol_kg,
            "field_T": site.field_T,
            "tr_ms": site.tr_ms,
            "te_ms": site.te_ms,
            "flip_deg": site.flip_deg,
        },
        "lesions": [
            {
                "study_id": patient.study_id,
                "lesion": lesion.number,
                "label": lesion.label,
                "subtype": lesion.subtype,
                "diameter_mm": lesion.diameter_mm,
                **{f"noise_free_{phase}": value for phase, value in lesion.enhancement.items()},
                **lesion.kinetics,
            }
            for lesion in patient.lesions
        ],
    }


def _study(out: Path, record: dict[str, Any]) -> Study:
    paths = {name: out / path for name, path in record["files"].items()}
    mask, liver_mask = paths.pop("mask"), paths.pop("liver_mask")
    return Study(
        study_id=record["study_id"],
        patient_id=record["patient_id"],
        site=record["site"],
        label=record["label"],
        images=paths,
        mask=mask,
        liver_mask=liver_mask,
        times_s=record["times_s"],
        acquisition=record["acquisition"],
    )
