"""``mtinet simulate``: write a cohort of virtual patients."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from mtinet import files
from mtinet.cohort import Cohort, Study
from mtinet.config import SimulationSettings, difference, to_yaml, validate
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
    dicom: bool = False,
) -> Cohort:
    """Simulate a cohort of virtual patients and write it; studies that are there already are kept.

    Beside the cohort's tables and images it writes ``settings.yaml``, ``patients.csv`` (a row a study: what
    was drawn about the patient), the lesions and the liver as they lie in each phase (``mask_<phase>.nii.gz`` and
    ``liver_mask_<phase>.nii.gz`` beside the images) and, where the settings ask for it, ``truth/<study>/``
    (:mod:`mtinet.workflows.truth`).

    Parameters
    ----------
    out : Path
        New or empty folder, or one in which a simulation with the same settings was broken off.
    settings : SimulationSettings
    workers : int, optional
        Processes; None = from the machine.  Their number does not change a voxel.
    on_progress : callable, optional
        Called with the number of studies done and their total.
    dicom : bool
        Also write the studies as DICOM (:mod:`mtinet.workflows.simulate_dicom`).

    Returns
    -------
    Cohort
        As read back from ``out``.

    Raises
    ------
    SimulationError
        ``out`` holds something else, or a cohort of another version.
    LesionClassError
        A class that cannot be simulated.
    """
    from mtinet.phantom.agents import phases_of
    from mtinet.phantom.lesions import check_classes

    check_classes(settings.classes)
    _claim(out, settings)
    records = for_each(
        partial(_simulate_study, out, settings, dicom), range(settings.subjects), workers, on_progress
    )
    cohort = Cohort(
        name=f"{settings.name}-{settings.seed}",
        studies=tuple(_study(out, record) for record in records),
        classes=settings.classes,
        phases=phases_of(settings),
        agent=settings.agent,
        licence="CC0-1.0 (virtual patients)",
        lesions=pd.DataFrame([lesion for record in records for lesion in record["lesions"]]),
        folder=out,
    )
    patients = pd.DataFrame([record["patient"] for record in records])
    files.write_text(out / "patients.csv", patients.to_csv(index=False))
    if dicom:
        from mtinet.workflows.simulate_dicom import write_labels

        write_labels(out, [record["dicom"] for record in records])
    cohort.write(out)
    return Cohort.read(out)


def _claim(out: Path, settings: SimulationSettings) -> None:
    """Make the folder ours, or refuse it."""
    if out.exists() and not out.is_dir():
        raise SimulationError(f"{out} is a file; choose a folder")
    described = out / "settings.yaml"
    if described.is_file():
        started = any((out / _DONE).glob("*.json"))
        changed = difference(_settings_in(described), settings) if started else {}
        if changed:
            listed = ", ".join(f"{name} {old!r} -> {new!r}" for name, (old, new) in changed.items())
            raise SimulationError(
                f"{out} holds a cohort with other settings ({listed}); choose another folder or remove it"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise SimulationError(f"{out} is not empty; choose a new folder")
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(described, to_yaml(settings))


def _settings_in(described: Path) -> SimulationSettings:
    """Settings of the cohort that lies there already, refused if its patients are drawn otherwise today."""
    try:
        values = yaml.safe_load(described.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SimulationError(f"{described} is not YAML ({error}); choose another folder") from None
    # the first version did not write its number
    version = values.get("phantom", 1) if isinstance(values, dict) else None
    ours = SimulationSettings.model_fields["phantom"].default
    if version != ours:
        raise SimulationError(
            f"{described.parent} holds virtual patients of version {version}, and this mtinet draws version "
            f"{ours}: they would not be of one kind; choose another folder or remove it"
        )
    return validate(SimulationSettings, values)


def _simulate_study(out: Path, settings: SimulationSettings, dicom: bool, index: int) -> dict[str, Any]:
    """One study's record, from disk where the study is complete."""
    record = _complete(out, index)
    if record is None:
        # imported here: a cohort that is complete needs no phantom
        from mtinet.phantom.patient import simulate_patient

        record = _write(out, settings, simulate_patient(settings, index))
        files.write_json(_record_path(out, index), record)
    if dicom:
        from mtinet.workflows.simulate_dicom import write_dicom

        record = {**record, "dicom": write_dicom(out, settings, index, record)}
    return record


def _record_path(out: Path, index: int) -> Path:
    return out / _DONE / f"{index:05d}.json"


def _complete(out: Path, index: int) -> dict[str, Any] | None:
    """The record of a study all of whose files are there."""
    done = _record_path(out, index)
    if not done.is_file():
        return None
    record = dict(json.loads(done.read_text(encoding="utf-8")))
    present = all((out / path).is_file() for path in [*record["files"].values(), *record["beside"]])
    return record if present else None


def _write(out: Path, settings: SimulationSettings, patient: VirtualPatient) -> dict[str, Any]:
    """Write a patient's volumes; give back everything that the tables say about it."""
    from mtinet.phantom.agents import dose_of

    columns: dict[str, Volume] = {"mask": patient.mask, "liver_mask": patient.liver}
    if patient.mask_2 is not None:
        columns["mask_2"] = patient.mask_2
    columns.update((str(phase), volume) for phase, volume in patient.images.items())
    masks = {f"mask_{phase}": volume for phase, volume in patient.masks.items()}
    masks |= {f"liver_mask_{phase}": volume for phase, volume in patient.livers.items()}
    paths = {name: f"images/{patient.study_id}/{name}.nii.gz" for name in (*columns, *masks)}
    for name, volume in {**columns, **masks}.items():
        volume.write_nifti(out / paths[name])
    beside = [paths[name] for name in masks]
    if patient.truth is not None:
        from mtinet.workflows.truth import write_truth

        written = write_truth(out / "truth" / patient.study_id, patient.truth)
        beside += [path.relative_to(out).as_posix() for path in written]
    site = patient.site
    return {
        "study_id": patient.study_id,
        "patient_id": patient.patient_id,
        "site": site.name,
        "label": patient.label,
        "files": {name: paths[name] for name in columns},
        "beside": beside,
        "patient": {
            "study_id": patient.study_id,
            "site": patient.site.name,
            "label": patient.label,
            **patient.parameters,
            **_moved(patient),
        },
        "agent": settings.agent,
        "times_s": dict(patient.times_s),
        "acquisition": {
            "dose_mmol_kg": dose_of(settings),
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


def _moved(patient: VirtualPatient) -> dict[str, float]:
    """Mean displacement of the liver against the reference phase, along the grid's axes."""
    return {
        f"moved_{phase}_{axis}_mm": value
        for phase, moved in patient.displacement_mm.items()
        for axis, value in zip("xyz", moved, strict=True)
    }


def _study(out: Path, record: dict[str, Any]) -> Study:
    paths = {name: out / path for name, path in record["files"].items()}
    mask, liver_mask, mask_2 = paths.pop("mask"), paths.pop("liver_mask"), paths.pop("mask_2", None)
    return Study(
        study_id=record["study_id"],
        patient_id=record["patient_id"],
        site=record["site"],
        label=record["label"],
        images=paths,
        mask=mask,
        liver_mask=liver_mask,
        mask_2=mask_2,
        times_s=record["times_s"],
        agent=record["agent"],
        acquisition=record["acquisition"],
    )
