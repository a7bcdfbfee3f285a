"""``mtinet export nnunet``: a cohort as a data set of nnU-Net, with our folds."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mtinet import files
from mtinet.cohort import NO_LESION, Cohort, Study
from mtinet.config import Phase
from mtinet.data.folds import split_cohort
from mtinet.errors import UnusableError, UserError
from mtinet.imaging.resampling import resample, resample_labels
from mtinet.results import Finding
from mtinet.volume import Volume, VolumeError, grid_distance_mm, read_geometry, read_nifti
from mtinet.workflows.imports.inclusion import Inclusion, InclusionRow, write_inclusion
from mtinet.workflows.imports.nnunet import LABELS_FILE
from mtinet.workflows.imports.nnunet_dataset import LESION
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.pool import OnProgress

SAME_GRID_MM = 1e-3
"""nnU-Net wants one geometry for all files of a case: beyond this an image is resampled."""


@dataclass(frozen=True)
class ExportOutcome:
    """What was exported, what was left out, and what the user should know."""

    folder: Path
    studies: tuple[str, ...]
    inclusion: tuple[InclusionRow, ...]
    findings: tuple[Finding, ...]


def export_nnunet(
    cohort_folder: Path,
    out: Path,
    *,
    phases: Sequence[str] | None = None,
    folds: int = 5,
    on_progress: OnProgress | None = None,
) -> ExportOutcome:
    """Write ``imagesTr``, ``labelsTr``, ``dataset.json`` (version 2), ``splits_final.json``, ``labels.csv``.

    Channels are phases, on the grid of the reference phase; label values are classes.  nnU-Net wants every
    channel of every case, so studies that lack a phase or a mask are left out and counted.  The folds are
    those of ``mtinet train``: a study is held out in the same fold.

    Parameters
    ----------
    cohort_folder, out : Path
    phases : sequence of str, optional
        Some of the cohort's phases; fewer phases leave out fewer studies.
    folds : int
    on_progress : callable, optional

    Raises
    ------
    UserError
        A phase that the cohort lacks, an occupied folder, or nothing to export.
    """
    cohort = Cohort.read(cohort_folder)
    chosen = _chosen(cohort, phases)
    if (out / "dataset.json").exists():
        raise UserError(f"{out} already holds a data set; give another folder, or remove that one first")
    inclusion = Inclusion([study.study_id for study in cohort.studies], "studies in the cohort")
    values = {name: value for value, name in enumerate(cohort.classes, start=1)}
    findings: list[Finding] = []
    exported: list[Study] = []
    unknown_class = False
    for done, study in enumerate(cohort.studies, start=1):
        lacks = [phase for phase in chosen if phase not in study.images]
        if lacks:
            inclusion.leave_out(study.study_id, "phases", f"lacks {', '.join(lacks)}")
        elif study.mask is None and study.label != NO_LESION:
            inclusion.leave_out(study.study_id, "mask", "no lesion mask")
        else:
            try:
                unknown_class |= _write_case(cohort, study, chosen, values, out)
                exported.append(study)
            except VolumeError as error:
                inclusion.leave_out(study.study_id, "files", "a file cannot be read (listed by study)")
                findings.append(
                    import_finding("unreadable", "warning", str(error), "Run mtinet check.", study.study_id)
                )
        if on_progress is not None:
            on_progress(done, len(cohort))
    if not exported:
        raise UnusableError(
            "no study can be exported: "
            + "; ".join(f"{r.studies}: {r.reason}" for r in inclusion.rows()[1:-1])
        )
    labels = {"background": 0, **values} | ({LESION: len(values) + 1} if unknown_class else {})
    files.write_json(
        out / "dataset.json",
        {
            "name": cohort.name,
            "licence": cohort.licence,
            "channel_names": {str(index): phase for index, phase in enumerate(chosen)},
            "labels": labels,
            "numTraining": len(exported),
            "file_ending": ".nii.gz",
        },
    )
    findings += _write_folds(cohort, exported, out, folds)
    _write_labels(exported, cohort, out)
    write_inclusion(out, inclusion.rows())
    return ExportOutcome(out, tuple(s.study_id for s in exported), inclusion.rows(), tuple(findings))


def _chosen(cohort: Cohort, phases: Sequence[str] | None) -> tuple[Phase, ...]:
    unknown = [phase for phase in phases or () if phase not in cohort.phases]
    if unknown:
        raise UserError(f"the cohort has no phase {', '.join(unknown)}; it has {', '.join(cohort.phases)}")
    chosen = tuple(phase for phase in cohort.phases if phases is None or phase in phases)
    if not chosen:
        raise UserError(f"--phases names no phase; the cohort has {', '.join(cohort.phases)}")
    return chosen


def _write_case(
    cohort: Cohort, study: Study, phases: Sequence[Phase], values: dict[str, int], out: Path
) -> bool:
    """Write one case; whether it has a lesion of unknown class.

    The label goes last: a case that is interrupted has images without label.
    """
    read, affine = read_geometry(study.images[study.reference_phase])
    shape = (read[0], read[1], read[2])
    for index, phase in enumerate(phases):
        path = study.images[phase]
        target = out / "imagesTr" / f"{study.study_id}_{index:04d}.nii.gz"
        own_shape, own_affine = read_geometry(path)
        same = grid_distance_mm(own_shape, own_affine, shape, affine) <= SAME_GRID_MM
        if same and path.name.endswith(".nii.gz"):
            with files.atomic_path(target) as temporary:
                shutil.copyfile(path, temporary)
        else:
            volume = read_nifti(path)
            (volume if same else resample(volume, shape, affine)).write_nifti(target)
    label, unknown = _class_values(cohort, study, values, shape, affine)
    Volume(label, affine).write_nifti(out / "labelsTr" / f"{study.study_id}.nii.gz")
    return unknown


def _class_values(
    cohort: Cohort,
    study: Study,
    values: dict[str, int],
    shape: tuple[int, int, int],
    affine: np.ndarray,
) -> tuple[np.ndarray, bool]:
    """Class values on the reference grid: a lesion's class is its row's, else the study's if it is alone."""
    label = np.zeros(shape, dtype=np.uint8)
    if study.mask is None:
        return label, False
    numbers = resample_labels(read_nifti(study.mask, labels=True), shape, affine).array
    known = cohort.lesion_labels(study)
    present = [int(n) for n in np.unique(numbers) if n]
    unknown = False
    for number in present:
        name = known.get(number, "") or (study.label if len(present) == 1 else "")
        value = values.get(name, values.get(LESION))
        unknown |= value is None
        label[numbers == number] = len(values) + 1 if value is None else value
    return label, unknown


def _write_folds(cohort: Cohort, exported: Sequence[Study], out: Path, folds: int) -> list[Finding]:
    """The cohort's folds without the studies that were left out."""
    ids = {study.study_id for study in exported}
    patients = {study.patient_id for study in cohort.studies}
    if len(patients) < folds:
        return [
            import_finding(
                "no-folds",
                "warning",
                f"{len(patients)} patients are too few for {folds} folds: splits_final.json is not written",
                "Give fewer --folds.",
            )
        ]
    splits = [split_cohort(cohort, fold, folds) for fold in range(folds)]
    files.write_json(
        out / "splits_final.json",
        [{"train": [i for i in s.train if i in ids], "val": [i for i in s.test if i in ids]} for s in splits],
    )
    return [
        import_finding(
            "copy-splits",
            "note",
            "splits_final.json holds the folds of mtinet train",
            "Copy it to nnUNet_preprocessed/<data set>/ after nnUNetv2_plan_and_preprocess, before training.",
        )
    ]


def _write_labels(exported: Sequence[Study], cohort: Cohort, out: Path) -> None:
    """What nnU-Net has no place for: ``import nnunet`` reads it back."""
    rows = [
        {
            "study_id": study.study_id,
            "patient_id": study.patient_id,
            "site": study.site,
            "label": study.label,
            "mask_source": study.mask_source,
            "agent": study.agent,
            **{f"time_{phase}_s": study.times_s.get(phase, "") for phase in cohort.phases},
            **study.acquisition,
        }
        for study in exported
    ]
    files.write_text(out / LABELS_FILE, pd.DataFrame(rows).fillna("").to_csv(index=False))
