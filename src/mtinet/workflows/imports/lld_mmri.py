"""LLD-MMRI: 498 patients with eight MRI series each, seven classes of liver lesions, boxes.

Three layouts are read: that of the data set (``images/<patient>/<studyUID>/<seriesUID>.nii.gz`` with
``labels/Annotation.json``), the lesions already cut out (``classification_dataset``), and the release with
masks (LLD-MMRI-MedSAM2: ``images/<patient>_<category>_<phase>_0000.nii.gz``).  Sources: github.com/LMMMEng/
LLD-MMRI2023 (layouts, classes, cropping program), huggingface.co/datasets/wanglab/LLD-MMRI-MedSAM2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mtinet.cohort import REFERENCE_ORDER, Cohort, Study
from mtinet.config import Phase
from mtinet.errors import UnusableError
from mtinet.results import Finding
from mtinet.volume import Volume, VolumeError, read_geometry
from mtinet.workflows.imports import lld_medsam2
from mtinet.workflows.imports.inclusion import Inclusion
from mtinet.workflows.imports.labels import classes_of
from mtinet.workflows.imports.lld_annotation import (
    CLASSES,
    OTHER_SERIES,
    PHASE_NAMES,
    AnnotatedLesion,
    AnnotatedSeries,
    read_annotation,
)
from mtinet.workflows.imports.lld_crops import import_crops
from mtinet.workflows.imports.masks import numbered
from mtinet.workflows.imports.screening import import_finding, mask_fault
from mtinet.workflows.imports.splits import official_splits
from mtinet.workflows.imports.writing import (
    ImportOptions,
    ImportOutcome,
    refuse_occupied,
    refuse_unsafe,
    source_folder,
    study_folder,
    write_import,
)

LICENCE = "LLD-MMRI: CC BY-NC 4.0, non-commercial research only, not to be passed on"
NAME = "LLD-MMRI"


def import_lld_mmri(
    src: Path,
    out: Path,
    *,
    masks: Path | None = None,
    boxes: bool = True,
    lists: Path | None = None,
    options: ImportOptions | None = None,
) -> ImportOutcome:
    """Make a cohort of LLD-MMRI in any of its layouts.

    Parameters
    ----------
    src : Path
        Folder of the download: with ``images`` and ``labels``, ``classification_dataset``, or the MedSAM2
        release.
    out : Path
        Cohort folder to write.
    masks : Path, optional
        ``labels`` folder of the MedSAM2 release, whose masks replace boxes.
    boxes : bool
        Where there is no mask, fill the boxes as a weak one (``mask_source`` box).
    lists : Path, optional
        Folder with the list files of the official divisions; by default the one beside the annotation.
    options : ImportOptions, optional

    Raises
    ------
    UserError
        The layout is not known, or no study can be used.
    """
    options = options or ImportOptions()
    src = source_folder(src, "the folder of LLD-MMRI that holds images and labels")
    refuse_occupied(out)
    root = next((r for r in (src, src / "data") if _annotation(r) is not None), None)
    if root is not None:
        outcome = _import_official(root, out, masks, boxes, options)
        beside = root / "classification_dataset" / "labels"
    elif (found := lld_medsam2.find(src)) is not None:
        outcome = _import_medsam2(found, out, options)
        beside = src / "labels"
    elif (crops := _crops(src)) is not None:
        outcome = import_crops(crops, out, NAME, LICENCE, options)
        beside = crops / "labels"
    else:
        raise UnusableError(
            f"{src} has none of the layouts of LLD-MMRI (labels/Annotation.json with images/, "
            "classification_dataset/images/<patient>/C+A.nii.gz, or MedSAM2's images/*_0000.nii.gz); it "
            f"holds {', '.join(sorted(p.name for p in src.iterdir())[:8]) or 'nothing'}"
        )
    chosen = source_folder(lists, "the folder with train_fold1.txt, ...") if lists else beside
    splits = official_splits(chosen, outcome.cohort, out) if chosen.is_dir() else []
    return replace(outcome, findings=(*outcome.findings, *splits))


def _annotation(root: Path) -> Path | None:
    path = root / "labels" / "Annotation.json"
    return path if path.is_file() else None


def _crops(src: Path) -> Path | None:
    for root in (src, src / "classification_dataset", src / "data" / "classification_dataset"):
        if any((root / "images").glob("*/C*.nii.gz")):
            return root
    return None


# ---------------------------------------------------------------------- the data set's own layout
@dataclass(frozen=True)
class _Candidate:
    study: Study
    lesions: list[dict[str, object]]
    findings: list[Finding]


def _import_official(
    root: Path, out: Path, masks: Path | None, boxes: bool, options: ImportOptions
) -> ImportOutcome:
    annotation = read_annotation(root / "labels" / "Annotation.json")
    refuse_unsafe([*annotation.patients, *(patient for patient, _ in annotation.faults)])
    pictured = sorted(p.name for p in (root / "images").glob("*") if p.is_dir())
    damaged = [patient for patient, _ in annotation.faults]
    inclusion = Inclusion(
        [*annotation.patients, *damaged, *pictured], "patients in Annotation.json or images"
    )
    findings = [
        import_finding(
            "damaged-annotation",
            "warning",
            f"the entry of Annotation.json cannot be understood ({fault})",
            "Compare it with the original download.",
            patient,
        )
        for patient, fault in annotation.faults
    ]
    for patient in damaged:
        inclusion.leave_out(patient, "annotation", "the entry of Annotation.json cannot be understood")
    for patient in pictured:
        if patient not in annotation.patients and patient not in damaged:
            inclusion.leave_out(patient, "annotation", "not in Annotation.json")
    better = {} if masks is None else lld_medsam2.masks_in(masks)
    candidates = []
    for patient, series in annotation.patients.items():
        candidate = _candidate(root, patient, series)
        findings += candidate.findings
        if not candidate.study.images:
            inclusion.leave_out(patient, "phases", "no file of a contrast-enhanced phase")
            continue
        candidate = _with_mask(candidate, series, out, better, boxes)
        findings += candidate.findings
        candidates.append(candidate)
    findings += _other_series(annotation.patients)
    return _write(candidates, out, inclusion, findings, options)


def _candidate(root: Path, patient: str, series: tuple[AnnotatedSeries, ...]) -> _Candidate:
    images: dict[Phase, Path] = {}
    findings = []
    for one in series:
        phase = PHASE_NAMES.get(one.phase)
        if phase is None:
            continue
        path = root / "images" / patient / one.study_uid / f"{one.series_uid}.nii.gz"
        if phase in images:
            findings.append(
                import_finding(
                    "second-series",
                    "warning",
                    f"Annotation.json lists {one.phase} twice; the first series is taken",
                    "Remove the other entry if the first is not the right one.",
                    patient,
                )
            )
        elif path.is_file():
            images[phase] = path
        else:
            findings.append(
                import_finding(
                    "missing-series",
                    "warning",
                    f"{one.phase} is listed, but {path} does not exist",
                    "Complete the download and import again; until then the phase is missing.",
                    patient,
                )
            )
    label, said = _label(series, patient)
    return _Candidate(Study(patient, images, site=NAME, label=label), [], [*findings, *said])


def _label(series: tuple[AnnotatedSeries, ...], patient: str) -> tuple[str, list[Finding]]:
    """The patient's class: that of its lesions if they agree, else left to the largest box."""
    categories: dict[str, set[int]] = {}
    for one in series:
        for lesion in one.lesions:
            categories.setdefault(lesion.key, set()).add(lesion.category)
    torn = [key for key, found in categories.items() if len(found) > 1]
    if torn:
        return "", [
            import_finding(
                "torn-category",
                "warning",
                f"lesion {', '.join(torn)} has different categories in different series: no class is taken",
                "Correct Annotation.json.",
                patient,
            )
        ]
    names = {CLASSES.get(next(iter(found)), "") for found in categories.values()}
    return (names.pop() if len(names) == 1 else ""), []


def _with_mask(
    candidate: _Candidate,
    series: tuple[AnnotatedSeries, ...],
    out: Path,
    better: Mapping[tuple[str, Phase], Path],
    boxes: bool,
) -> _Candidate:
    """A mask from the MedSAM2 release where it fits, else from the boxes."""
    study = candidate.study
    findings: list[Finding] = []
    for phase in (p for p in REFERENCE_ORDER if p in study.images):
        path = lld_medsam2.mask_of(better, study.patient_id, phase)
        if path is None:
            continue
        fault = mask_fault(path, study.images[phase])
        if not fault:
            found = numbered(path, study_folder(out, study.study_id) / "mask.nii.gz")
            if found.sizes:
                study = replace(study, mask=found.path, mask_phase=phase, mask_source="program")
                return _Candidate(study, [], findings)
            fault = f"{path.name} is empty"
        findings.append(
            import_finding(
                "mask-left-out",
                "warning",
                f"the MedSAM2 mask of {phase} is not used: {fault}",
                "Import the MedSAM2 release by itself (mtinet import lld-mmri RELEASE OUT): its images and "
                "masks belong together.",
                study.study_id,
            )
        )
    if not boxes:
        return _Candidate(study, [], findings)
    drawn = _box_mask(study, series, out)
    return _Candidate(drawn.study, drawn.lesions, [*findings, *drawn.findings])


def _box_mask(study: Study, series: tuple[AnnotatedSeries, ...], out: Path) -> _Candidate:
    by_phase = {PHASE_NAMES[s.phase]: s for s in reversed(series) if s.phase in PHASE_NAMES}
    for phase in dict.fromkeys(p for p in REFERENCE_ORDER if p in study.images):
        boxed = [lesion for lesion in by_phase[phase].lesions if lesion.box is not None]
        if not boxed:
            continue
        try:
            shape, affine = read_geometry(study.images[phase])
        except VolumeError:
            continue  # screening names the damaged file
        array, inside, outside = _filled(boxed, (shape[0], shape[1], shape[2]))
        findings = [
            import_finding(
                "box-outside",
                "warning",
                f"the box of lesion {lesion.key} lies outside the {phase} image: it is left out",
                "Compare the image with the original download.",
                study.study_id,
            )
            for lesion in outside
        ]
        if not inside:
            return _Candidate(study, [], findings)
        path = study_folder(out, study.study_id) / "mask.nii.gz"
        Volume(array, affine).write_nifti(path)
        rows: list[dict[str, object]] = [
            {"study_id": study.study_id, "lesion": str(number), "label": CLASSES[lesion.category]}
            for number, lesion in enumerate(inside, start=1)
            if lesion.category in CLASSES
        ]
        sizes = np.bincount(array.ravel(), minlength=len(inside) + 1)[1:]
        largest = inside[int(sizes.argmax())]
        label = study.label or CLASSES.get(largest.category, "")
        drawn = replace(study, mask=path, mask_phase=phase, mask_source="box", label=label)
        return _Candidate(drawn, rows, findings)
    return _Candidate(study, [], [])


def _filled(
    lesions: list[AnnotatedLesion], shape: tuple[int, int, int]
) -> tuple[np.ndarray, list[AnnotatedLesion], list[AnnotatedLesion]]:
    """Boxes filled with numbers 1..K, the smaller over the larger; lesions inside and outside the image."""
    inside: list[AnnotatedLesion] = []
    outside: list[AnnotatedLesion] = []
    for lesion in lesions:
        assert lesion.box is not None
        # the data set's own program leaves out a box that reaches past the last slice
        fits = all(a < n for a, n in zip(lesion.box.low, shape)) and lesion.box.high[2] <= shape[2]
        (inside if fits else outside).append(lesion)
    array = np.zeros(shape, dtype=np.uint8)
    order = sorted(range(len(inside)), key=lambda i: -_box_voxels(inside[i]))
    for index in order:
        box = inside[index].box
        assert box is not None
        array[tuple(slice(a, b) for a, b in zip(box.low, box.high))] = index + 1
    return array, inside, outside


def _box_voxels(lesion: AnnotatedLesion) -> int:
    return 0 if lesion.box is None else lesion.box.voxels


def _other_series(patients: Mapping[str, tuple[AnnotatedSeries, ...]]) -> list[Finding]:
    names = {s.phase for series in patients.values() for s in series} - set(PHASE_NAMES)
    findings = []
    if known := sorted(names & set(OTHER_SERIES)):
        findings.append(
            import_finding(
                "series-set-aside",
                "note",
                f"{', '.join(known)} are set aside: they are no phases of the contrast-enhanced examination",
                "Nothing to do.",
            )
        )
    if strange := sorted(names - set(OTHER_SERIES)):
        findings.append(
            import_finding(
                "unknown-phase-name",
                "warning",
                f"Annotation.json has phases of other names, which are not read: {', '.join(strange)}",
                f"Correct them to one of {', '.join(PHASE_NAMES)}.",
            )
        )
    return findings


# ---------------------------------------------------------------------- the release with masks
def _import_medsam2(found: lld_medsam2.Release, out: Path, options: ImportOptions) -> ImportOutcome:
    refuse_unsafe([name for name, _ in found.studies])
    inclusion = Inclusion([name for name, _ in found.studies], "patients in images/")
    findings, candidates = [], []
    for name, files in found.studies:
        images = {phase: path for phase, path in files.images.items() if phase is not None}
        if not images:
            inclusion.leave_out(name, "phases", "no file of a contrast-enhanced phase")
            continue
        label = CLASSES.get(files.category, "")
        study = Study(name, images, patient_id=files.patient, site=NAME, label=label)
        for phase in (p for p in REFERENCE_ORDER if p in images and p in files.masks):
            mask = numbered(files.masks[phase], study_folder(out, name) / "mask.nii.gz")
            if mask.sizes or not mask.readable:
                study = replace(study, mask=mask.path, mask_phase=phase, mask_source="program")
                break
            findings.append(
                import_finding(
                    "mask-left-out", "warning", f"the mask of {phase} is empty", "Compare the download.", name
                )
            )
        candidates.append(_Candidate(study, [], []))
    findings.append(
        import_finding(
            "one-mask",
            "note",
            "of the masks, one a phase, that of the reference phase is taken; the others move against it",
            "Register the phases when the cohort is prepared (preparation.registration).",
        )
    )
    return _write(candidates, out, inclusion, findings, options)


def _write(
    candidates: list[_Candidate],
    out: Path,
    inclusion: Inclusion,
    findings: list[Finding],
    options: ImportOptions,
) -> ImportOutcome:
    rows = [row for candidate in candidates for row in candidate.lesions]
    cohort = Cohort(
        NAME,
        tuple(candidate.study for candidate in candidates),
        classes_of([c.study.label for c in candidates] + [str(row["label"]) for row in rows])
        or tuple(CLASSES.values()),
        licence=LICENCE,
        lesions=pd.DataFrame(rows),
    )
    return write_import(out, cohort, inclusion, findings, options)
