"""``mtinet revise``: a result whose mask somebody corrected is read anew and kept as a training case."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pandas as pd

from mtinet import files, provenance
from mtinet.cohort import NO_LESION, Cohort, Study
from mtinet.config import Phase
from mtinet.data.preparation import prepare_with_mask
from mtinet.dicom.edited_masks import read_edited
from mtinet.dicom.made import Software
from mtinet.errors import UnusableError, UserError
from mtinet.inference.predictor import Predictor, StudyPrediction
from mtinet.results import Finding, Result
from mtinet.runs import Run
from mtinet.workflows.predict import with_limits
from mtinet.workflows.predictions.formats import (
    DEFAULT_FORMATS,
    Format,
    Output,
    check_instances,
    write_output,
)
from mtinet.workflows.predictions.sources import Case, FolderJob, open_source

_FILES = "revised"
"""Folder of a cohort for the files of studies that were added to it."""


@dataclass(frozen=True)
class TrainingCase:
    """Where a corrected study is kept.

    Attributes
    ----------
    cohort : Path
        Folder; made where there is none, else grown by one study (or with the study's mask replaced).
    label : str
        Class of the largest lesion as the reader knows it; empty = unknown, or ``none`` where no lesion is
        left.  The model's class is never kept.
    """

    cohort: Path
    label: str = ""


@dataclass(frozen=True)
class ReviseOptions:
    """What the user says beside the mask.

    Attributes
    ----------
    keep : TrainingCase or None
    formats : tuple of str
        What is written, as for a prediction.
    phase_names : mapping of str to str
        Phases as they were named when the study was predicted.
    key : Path or None
        Secret key of the pseudonyms of DICOM studies; None = that of the user.
    """

    keep: TrainingCase | None = None
    formats: tuple[Format, ...] = DEFAULT_FORMATS
    phase_names: Mapping[str, str] = field(default_factory=dict)
    key: Path | None = None


@dataclass(frozen=True)
class Revision:
    """What the corrected mask gives."""

    result: Result
    findings: tuple[Finding, ...]


def revise(
    result: Path,
    edited: Path,
    study: Path,
    model: Path,
    out: Path,
    options: ReviseOptions | None = None,
) -> Revision:
    """Read enhancement, class and measurements under a corrected mask, with the model of the result.

    Parameters
    ----------
    result : Path
        Folder that ``mtinet predict`` wrote.
    edited : Path
        The corrected mask: NIfTI, NRRD or DICOM SEG on the grid of the result's mask, or a part of it.
    study : Path
        The study that was predicted, DICOM or NIfTI: its folder or zip, one of several that holds it, or the
        cohort.
    model : Path
        The run folder that predicted it.
    out : Path
        Folder for the new result; not that of the old one.
    options : ReviseOptions, optional

    Raises
    ------
    UserError
        Result, study and model do not belong together, or the mask lies on another grid.
    """
    options = options or ReviseOptions()
    keep = options.keep
    if out.resolve() == result.resolve():
        raise UserError(f"{out} holds the result that is revised; give another folder with --out")
    old = _read(result)
    run = Run.find(model)
    predictor = Predictor.load(run)
    if old.model.get("run") != predictor.facts["run"]:
        raise UserError(
            f"{result} was predicted by run {old.model.get('run')!r} and {model} is run "
            f"{predictor.facts['run']!r}; give the run that predicted it"
        )
    case = _case(study, old, options)
    source = case.study
    check_instances(options.formats, case.origin is not None)
    cohort = None if keep is None else _opened(keep, source, predictor.classes)
    grid = source.image(source.reference_phase)
    mask, findings = read_edited(edited, grid)
    mask.write_nifti(out / "mask.nii.gz")
    drawn = replace(source, mask=out / "mask.nii.gz", mask_phase="", mask_source="reader", label="")
    prepared = prepare_with_mask(drawn, predictor.config.phases, predictor.config.preparation)
    prediction = predictor.read_drawn(prepared, mask, source.agent)
    note = Finding(
        "revised-mask",
        "predict",
        "note",
        f"the lesions were outlined by a reader ({edited.name}), not found by the model",
        "Read their confidence as the model's opinion of the reader's outline.",
        source.study_id,
    )
    kept = with_limits(prediction, case).result
    kept = replace(kept, findings=(*kept.findings, *findings, note))
    _write(replace(prediction, result=kept), case, out, options.formats, run.class_codes)
    if keep is not None and cohort is not None:
        label = keep.label or ("" if mask.array.any() else NO_LESION)
        _grow(cohort, keep.cohort, replace(drawn, label=label))
    return Revision(kept, kept.findings)


def _read(folder: Path) -> Result:
    path = folder / "result.json"
    if not path.is_file():
        raise UnusableError(f"{folder} holds no result.json; give a folder that mtinet predict wrote")
    return Result.from_dict(json.loads(path.read_text(encoding="utf-8")))


def _case(study: Path, old: Result, options: ReviseOptions) -> Case:
    """The study of a result, read as it was for the prediction."""
    jobs = open_source(study, options.phase_names, options.key).jobs
    job = next((one for one in jobs if one.study_id == old.study_id), None)
    if job is None and len(jobs) == 1 and isinstance(jobs[0], FolderJob):
        # a folder may have been renamed since; the grid of the mask tells whether it is the study
        job = jobs[0]
    if job is None:
        raise UserError(f"{study} holds no study {old.study_id}, which the result is of")
    case = job.read()
    found = replace(case.study, study_id=old.study_id)
    if found.reference_phase != old.reference_phase:
        raise UserError(
            f"the result lies on the {old.reference_phase} phase and {study} has {found.reference_phase} as "
            "its reference; give the study that was predicted"
        )
    return replace(case, study=found)


def _write(
    prediction: StudyPrediction,
    case: Case,
    out: Path,
    formats: tuple[Format, ...],
    class_codes: Mapping[str, str],
) -> None:
    result = prediction.result
    software = Software(provenance.versions()["mtinet"], str(result.model.get("digest", "")))
    output = Output(result, software, prediction, case.origin, class_codes, case.study.agent)
    with files.atomic_files(out) as temporary:
        write_output(output, temporary, formats)


def _opened(case: TrainingCase, study: Study, classes: tuple[str, ...]) -> Cohort:
    """The cohort to grow, or an empty one where there is none yet."""
    folder = case.cohort
    if (folder / "cohort.csv").is_file():
        cohort = Cohort.read(folder)
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} holds something other than a cohort; give another folder with --keep")
    else:
        cohort = Cohort(folder.resolve().name, (), classes, tuple(study.images))
    if case.label and case.label not in (*cohort.classes, NO_LESION):
        raise UserError(
            f"{case.label!r} is no class of {folder}; valid: {', '.join((*cohort.classes, NO_LESION))}"
        )
    return cohort


def _grow(cohort: Cohort, folder: Path, study: Study) -> None:
    """Add a study to a cohort, or give it another mask there; its files are copied.

    The study may lie where it will be removed, and its mask where it will be predicted anew.
    """
    place = folder / _FILES / study.study_id
    place.mkdir(parents=True, exist_ok=True)
    paths = {column: place / f"{column}{_suffix(path)}" for column, path in study.paths().items()}
    for column, path in study.paths().items():
        if not path.is_file():
            # the images of a DICOM study are in memory alone
            study.loaded[cast("Phase", column)].write_nifti(paths[column])
        elif path.resolve() != paths[column].resolve():
            with files.atomic_path(paths[column]) as temporary:
                shutil.copyfile(path, temporary)
    kept = replace(
        study,
        images={phase: paths[phase] for phase in study.images},
        loaded={},
        mask=paths["mask"],
        liver_mask=paths.get("liver_mask"),
        mask_2=paths.get("mask_2"),
    )
    others = tuple(one for one in cohort.studies if one.study_id != study.study_id)
    phases = (*cohort.phases, *(phase for phase in study.images if phase not in cohort.phases))
    lesions = cohort.lesions
    if not lesions.empty:
        # lesion numbers are those of the old mask
        lesions = pd.DataFrame(lesions[lesions["study_id"] != study.study_id])
    replace(cohort, studies=(*others, kept), phases=phases, lesions=lesions).write(folder)


def _suffix(path: Path) -> str:
    return ".nii" if path.suffix == ".nii" else ".nii.gz"
