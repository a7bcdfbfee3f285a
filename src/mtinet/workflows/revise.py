"""``mtinet revise``: a result whose mask somebody corrected is read anew and kept as a training case."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from mtinet import files
from mtinet.cohort import NO_LESION, Cohort, Study
from mtinet.config import Phase
from mtinet.data.preparation import prepare_with_mask
from mtinet.data.prepared import PreparedStudy
from mtinet.dicom.contained import zips_closed
from mtinet.dicom.edited_masks import read_edited
from mtinet.errors import UserError
from mtinet.imaging.limits import image_limits, trusted_times
from mtinet.imaging.masks import bounding_boxes, components
from mtinet.inference.predictor import Predictor, StudyPrediction, with_findings
from mtinet.results import REVISED, Finding, Result, Severity
from mtinet.runs import Run
from mtinet.volume import Volume
from mtinet.workflows.imports.mapping import refuse_key_inside
from mtinet.workflows.predictions.audit import LOCK_FILE, Audit, alone_in
from mtinet.workflows.predictions.formats import (
    DEFAULT_FORMATS,
    LIVER_FILE,
    Format,
    Output,
    check_instances,
    names_of,
    software_of,
)
from mtinet.workflows.predictions.jobs import Case, Job
from mtinet.workflows.predictions.nifti_jobs import FolderJob
from mtinet.workflows.predictions.places import refuse_edited, refuse_place
from mtinet.workflows.predictions.priors import Prior, PriorPaths
from mtinet.workflows.predictions.sources import open_source
from mtinet.workflows.predictions.stored import read_result
from mtinet.workflows.predictions.supplied import Supplied
from mtinet.workflows.predictions.who import other_key
from mtinet.workflows.predictions.writing import written

_FILES = "revised"
"""Folder of a cohort for the files of studies that were added to it."""

_NIFTI = (".nii", ".nii.gz")

_MOST_ML = 2000.0
"""Volume of all lesions beyond which a mask is probably inverted or another organ's: a whole liver has about 1500."""

_MOST_OF_BORDER = 0.5
"""Share of the images' outer rows and columns, which show air and skin, that no mask of lesions covers."""

_GROWTH = ("growth", "volume_change", "diameter_change", "vanished_lesions")
"""Measurements against a prior study."""


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
    agent : str
        Contrast agent as it was named when a study without one was predicted.
    prior : PriorPaths or None
        The earlier study of the patient that lesions are compared with, as it was when the study was predicted.
    """

    keep: TrainingCase | None = None
    formats: tuple[Format, ...] = DEFAULT_FORMATS
    phase_names: Mapping[str, str] = field(default_factory=dict)
    key: Path | None = None
    agent: str = ""
    prior: PriorPaths | None = None


@dataclass(frozen=True)
class Revision:
    """What the corrected mask gives."""

    result: Result
    findings: tuple[Finding, ...]


@zips_closed()
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
        Result, study and model do not belong together, the mask lies on another grid, or another process predicts
        or revises into ``out``.
    """
    options = options or ReviseOptions()
    keep, supplied = options.keep, Supplied(options.agent)
    supplied.check()
    refuse_key_inside(out, options.key)
    if out.resolve() == result.resolve():
        raise UserError(f"{out} holds the result that is revised; give another folder with --out")
    old = read_result(result)
    run = Run.find(model)
    predictor = Predictor.load(run)
    _check_model(old, predictor, result, model)
    job = _job(study, old, options)
    prior = None if options.prior is None else Prior.open(options.prior, options.key)
    if prior is not None:
        prior.check((job,))
    with alone_in(out), tempfile.TemporaryDirectory(prefix="mtinet-revise-") as place:
        audit = Audit(out)
        names = names_of(options.formats, liver=(result / LIVER_FILE).is_file())
        refuse_place(out, old.study_id, job.folders, audit, names, corrected=True)
        refuse_edited(out, old.study_id, audit, edited)
        case = supplied.with_agent(_case(job, study, old, result))
        times, contradicted = trusted_times(case.study.times_s, old.study_id)
        source = replace(case.study, times_s=times)
        check_instances(options.formats, case.origin is not None)
        mask, findings = _mask_in(edited, source, old)
        if keep is not None:
            _opened(keep, source, run.classes)  # what refuses the case does so before any work
            _check_label(keep, mask)
        drawn = replace(
            source, mask=Path(place) / "mask.nii.gz", mask_phase="", mask_source="reader", label=""
        )
        assert drawn.mask is not None
        mask.write_nifti(drawn.mask)
        prepared = prepare_with_mask(drawn, predictor.config.phases, predictor.config.preparation)
        prediction = predictor.read_drawn(prepared, mask, source.agent)
        limits = (*contradicted, *image_limits(source, predictor.config.phases))
        found = with_findings(prediction, (*case.findings, *limits)).result
        said = (*found.findings, *findings, *_about_outline(mask, prepared), *_lost(old, prior))
        # a calibration is about lesions that the model found
        lesions = tuple(replace(lesion, certainty=None) for lesion in found.lesions)
        kept = replace(found, findings=said, lesions=lesions, sources=case.sources)
        if prior is not None:
            kept = prior.compared(kept, source)
        shown = replace(prediction, result=kept)
        _write(shown, case, out, options.formats, run.class_codes, audit, job, prior)
        if keep is not None:
            _without_gaps(mask).write_nifti(drawn.mask)
            label = keep.label or ("" if mask.array.any() else NO_LESION)
            # read again behind the other readers who keep cases meanwhile
            with files.in_turn(keep.cohort / LOCK_FILE):
                _grow(_opened(keep, source, run.classes), keep.cohort, replace(drawn, label=label))
    return Revision(kept, kept.findings)


def _mask_in(edited: Path, source: Study, old: Result) -> tuple[Volume, list[Finding]]:
    """The corrected mask, its lesions numbered as those of the old result, and what is odd about it."""
    highest = max((lesion.number for lesion in old.lesions), default=0)
    mask, found = read_edited(edited, source.image(source.reference_phase), highest)
    # a file may be called by the patient's name, which stands in no result
    said = [replace(f, meaning=f.meaning.removeprefix(f"{edited.name}: ")) for f in found]
    return mask, [replace(f, case=source.study_id) for f in said]


def _without_gaps(mask: Volume) -> Volume:
    """The lesions numbered 1..K, as a cohort has them."""
    numbers = np.union1d(0, mask.array)
    return mask.with_array(np.searchsorted(numbers, mask.array).astype(np.uint8))


def _check_model(old: Result, predictor: Predictor, result: Path, model: Path) -> None:
    """Refuse a model that did not make the result."""
    run, digest = old.model.get("run"), old.model.get("digest")
    if run != predictor.facts["run"]:
        raise UserError(
            f"{result} was predicted by run {run!r} and {model} is run {predictor.facts['run']!r}; give the run "
            "that predicted it"
        )
    if digest and digest != predictor.facts["digest"]:
        raise UserError(
            f"{result} was predicted by other weights or settings of run {run!r} than {model} holds now; predict "
            "the study again, and correct that mask"
        )


def _about_outline(mask: Volume, prepared: PreparedStudy) -> list[Finding]:
    """Whose outline it is, and what of it may be meant otherwise."""
    found: list[Finding] = []

    def add(id: str, severity: Severity, meaning: str, action: str) -> None:
        found.append(Finding(id, "predict", severity, meaning, action, prepared.study_id))

    add(
        REVISED,
        "note",
        "the lesions were outlined by a reader, not found by the model",
        "Read their confidence as the model's opinion of the reader's outline.",
    )
    if why := _implausible(mask):
        add(
            "implausible-mask",
            "warning",
            f"the mask is hardly one of lesions: {why}",
            "Look at it over the images. If it is inverted or of another organ, correct it and revise again, into the "
            "same --out and --keep; else nothing is to be done.",
        )
    for number, box in bounding_boxes(mask.array).items():
        parts = int(components(mask.array[box] == number).max())
        if parts > 1:
            add(
                "lesion-parts",
                "warning",
                f"lesion {number} is drawn in {parts} separate parts and measured as one",
                "If they are separate lesions, give each its own number or segment.",
            )
    if prepared.lost_lesions:
        numbers = ", ".join(map(str, prepared.lost_lesions))
        add(
            "lesion-not-measured",
            "warning",
            f"lesion {numbers} of the mask is too small for the grid on which lesions are read, or lies outside of "
            "it: the result lacks it",
            "Draw it larger, or measure it by hand.",
        )
    return found


def _implausible(mask: Volume) -> str:
    """Why a mask is hardly one of lesions; empty where nothing speaks against it."""
    drawn = mask.array > 0
    volume_ml = np.count_nonzero(drawn) * mask.voxel_mm3 / 1000.0
    if volume_ml > _MOST_ML:
        return f"it takes up {volume_ml / 1000.0:.1f} litres, and a whole liver has about 1.5"
    # the images' planes are those of the finest voxels; to their first and last one a lesion may reach
    across = int(np.argmax(mask.spacing_mm))
    edges = [np.take(drawn, place, axis).ravel() for axis in {0, 1, 2} - {across} for place in (0, -1)]
    covered = float(np.concatenate(edges).mean())
    return f"it covers {covered:.0%} of the images' border" if covered > _MOST_OF_BORDER else ""


def _lost(old: Result, prior: Prior | None) -> list[Finding]:
    """What the old result has and this one lacks: the mean of several opinions, and growth."""
    found: list[Finding] = []

    def add(id: str, meaning: str, action: str) -> None:
        found.append(Finding(id, "predict", "warning", meaning, action, old.study_id))

    asked = [name for name in ("ensemble", "flips", "dropout_samples") if old.model.get(name)]
    if asked:
        add(
            "revised-alone",
            f"the result was the mean of several opinions ({', '.join(asked)}), and the revision is that of the first "
            "run alone",
            "Compare class and enhancement with this in mind; size and signs do not depend on it.",
        )
    of_lesions = (m for lesion in old.lesions for m in lesion.measurements)
    measured = {m.name for m in (*old.measurements, *of_lesions)}
    if prior is None and not measured.isdisjoint(_GROWTH):
        add(
            "revised-without-growth",
            "the result told how lesions have changed since a prior study, and the revision does not: no prior study "
            "was given",
            "Revise again with --prior and --prior-study, as the study was predicted.",
        )
    return found


def _job(study: Path, old: Result, options: ReviseOptions) -> Job:
    """The study of a result."""
    jobs = open_source(study, options.phase_names, options.key).jobs
    job = next((one for one in jobs if one.study_id == old.study_id), None)
    if job is None and len(jobs) == 1 and isinstance(jobs[0], FolderJob):
        # a folder may have been renamed since; the grid of the mask tells whether it is the study
        job = jobs[0]
    if job is None:
        raise UserError(
            f"{study} holds no study {old.study_id}, which the result is of; give the study that was predicted"
            f"{other_key(old.study_id)}"
        )
    return job


def _case(job: Job, study: Path, old: Result, result: Path) -> Case:
    """The study of a result, read as it was for the prediction, with the liver that was drawn for it."""
    case = job.read()
    found = replace(case.study, study_id=old.study_id)
    if found.reference_phase != old.reference_phase:
        raise UserError(
            f"the result lies on the {old.reference_phase} phase and {study} has {found.reference_phase} as "
            "its reference; give the study that was predicted"
        )
    drawn = result / LIVER_FILE
    if found.liver_mask is None and drawn.is_file():
        return replace(case, study=replace(found, liver_mask=drawn), liver=drawn)
    return replace(case, study=found)


def _write(
    prediction: StudyPrediction,
    case: Case,
    out: Path,
    formats: tuple[Format, ...],
    class_codes: Mapping[str, str],
    audit: Audit,
    job: Job,
    prior: Prior | None,
) -> None:
    result = prediction.result
    assert result.mask is not None
    outline = hashlib.sha256(result.mask.array.tobytes() + result.mask.affine.tobytes()).hexdigest()
    software = software_of(result.model, outline)
    output = Output(result, software, prediction, case.origin, class_codes, case.study.agent, case.liver)
    decided_by = {
        "inputs": job.fingerprint(),
        "mask": outline,
        "model": files.plain(result.model),
        "mtinet": software.version,
        **({} if prior is None else {"prior": prior.digest}),
    }
    with written(output, out, formats, audit, same=False) as told:
        audit.add(
            result.study_id,
            "revised",
            out,
            decided_by=decided_by,
            **told,
            lesions=len(result.lesions),
            findings=[finding.id for finding in result.findings],
        )


def _check_label(case: TrainingCase, mask: Volume) -> None:
    """Refuse a class that the mask contradicts."""
    if case.label == NO_LESION and mask.array.any():
        raise UserError(
            f"--label {NO_LESION} says that there is no lesion, and the mask holds some; correct one"
        )
    if case.label not in ("", NO_LESION) and not mask.array.any():
        raise UserError(
            f"--label {case.label} names the class of a lesion, and the mask is empty; correct one"
        )


def _opened(case: TrainingCase, study: Study, classes: tuple[str, ...]) -> Cohort:
    """The cohort to grow, or an empty one where there is none yet."""
    folder = case.cohort
    if (folder / "cohort.csv").is_file():
        cohort = Cohort.read(folder)
    elif folder.is_dir() and any(path.name != LOCK_FILE for path in folder.iterdir()):
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
        image = study.loaded.get(cast("Phase", column))
        if image is not None and not (path.is_file() and path.name.lower().endswith(_NIFTI)):
            # the images of a DICOM study are in memory alone
            image.write_nifti(paths[column])
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
