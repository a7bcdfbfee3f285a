"""LLD-MMRI's lesions already cut out (``classification_dataset``): small volumes without geometry."""

from __future__ import annotations

import re
from pathlib import Path

from mtinet.cohort import Cohort, Study
from mtinet.config import Phase
from mtinet.errors import UserError
from mtinet.workflows.imports.inclusion import Inclusion
from mtinet.workflows.imports.labels import classes_of
from mtinet.workflows.imports.lld_annotation import CLASSES, PHASE_NAMES
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.splits import digits, read_lines
from mtinet.workflows.imports.writing import ImportOptions, ImportOutcome, write_import

LISTS = ("labels.txt", "labels_trainval.txt", "labels_val_inaccessible.txt")


def import_crops(root: Path, out: Path, name: str, licence: str, options: ImportOptions) -> ImportOutcome:
    """Make a cohort of ``images/<patient>/<phase>.nii.gz`` and ``labels/labels.txt``.

    A folder ``<patient>_<k>`` is a further lesion of that patient: a study of its own, of the same patient.
    The crops have no voxel size and each is cut around its own box, so there is no mask: they serve to
    classify.
    """
    categories = _categories(root / "labels")
    folders = sorted(p for p in (root / "images").iterdir() if p.is_dir() and not p.name.startswith("."))
    inclusion = Inclusion([folder.name for folder in folders], "lesions in images/")
    studies = []
    for folder in folders:
        images: dict[Phase, Path] = {
            phase: folder / f"{written}.nii.gz"
            for written, phase in PHASE_NAMES.items()
            if (folder / f"{written}.nii.gz").is_file()
        }
        if not images:
            inclusion.leave_out(folder.name, "phases", "no file of a contrast-enhanced phase")
            continue
        match = re.fullmatch(r"(?P<patient>.*\d)_(?P<lesion>\d+)", folder.name)
        patient = match["patient"] if match else folder.name
        category = categories.get(folder.name, categories.get(digits(folder.name)) if not match else None)
        label = CLASSES.get(category, "") if category is not None else ""
        studies.append(Study(folder.name, images, patient_id=patient, site=name, label=label))
    unlabelled = sum(not study.label for study in studies)
    findings = [
        import_finding(
            "no-geometry",
            "warning",
            "the crops carry no voxel size and each phase is cut around its own box: lengths and volumes in "
            "mm mean nothing, and phases agree only roughly",
            "Import the whole volumes (images/ with labels/Annotation.json) for masks and enhancement.",
        )
    ]
    if unlabelled:
        findings.append(
            import_finding(
                "withheld-label",
                "note",
                f"{unlabelled} lesions have no class in the lists (withheld, -1, or not named)",
                "They are not scored on class.",
            )
        )
    cohort = Cohort(
        f"{name} crops",
        tuple(studies),
        classes_of([study.label for study in studies]) or tuple(CLASSES.values()),
        licence=licence,
    )
    return write_import(out, cohort, inclusion, findings, options)


def _categories(folder: Path) -> dict[str, int]:
    """Category by id of the list files, by the id as written and by its digits; -1 gives way to a class."""
    found: dict[str, int] = {}
    for path in (folder / name for name in LISTS):
        if not path.is_file():
            continue
        for number, line in enumerate(read_lines(path), start=1):
            words = line.split()
            if not words:
                continue
            try:
                patient, category = words[0], int(words[1])
            except (IndexError, ValueError):
                raise UserError(
                    f"{path}, line {number}: {line!r} is not an id and a category from -1 to 6"
                ) from None
            for key in (patient, digits(patient)):
                if category != -1 or key not in found:
                    found[key] = category
    return found
