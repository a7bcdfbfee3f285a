"""ATLAS (MICCAI 2023): one contrast-enhanced volume of each of 60 patients with HCC, liver and tumour masks.

Layout of the training set: ``imagesTr/im<n>.nii.gz``, ``labelsTr/lb<n>.nii.gz`` (1 liver, 2 tumour) and
``patient_info_train.json`` with each patient's ``contrast_phase`` (atlas-challenge.u-bourgogne.fr;
doi.org/10.3390/data8050079).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from mtinet.cohort import Cohort, Study
from mtinet.config import Phase
from mtinet.errors import UnusableError
from mtinet.workflows.imports.inclusion import Inclusion
from mtinet.workflows.imports.masks import from_classes, region
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.writing import (
    ImportOptions,
    ImportOutcome,
    refuse_occupied,
    source_folder,
    study_folder,
    write_import,
)

LIVER, TUMOUR = 1, 2

PHASE_WORDS: dict[str, Phase] = {
    "arterial": "arterial",
    "portal": "portal_venous",
    "delayed": "delayed",
    "no contrast agent": "pre",
}
"""Phase by ``contrast_phase``; what else is written there (``unkown``) is not known."""


def import_atlas(src: Path, out: Path, *, options: ImportOptions | None = None) -> ImportOutcome:
    """Make a cohort of the ATLAS training set.

    A patient whose contrast phase is unknown is left out: it cannot be put into a phase without a guess.

    Parameters
    ----------
    src : Path
        Folder with ``imagesTr``, or the one above (``train``).
    out : Path
    options : ImportOptions, optional

    Raises
    ------
    UserError
        The folder is not the data set, or no patient can be used.
    """
    src = source_folder(src, "the folder of ATLAS that holds imagesTr")
    refuse_occupied(out)
    root = next((r for r in (src, src / "train") if (r / "imagesTr").is_dir()), None)
    if root is None:
        raise UnusableError(
            f"{src} holds no imagesTr; it has "
            f"{', '.join(sorted(p.name for p in src.iterdir())[:8]) or 'nothing'}"
        )
    phases = _phases(root / "patient_info_train.json")
    images = {
        match["number"]: path
        for path in sorted((root / "imagesTr").glob("*"))
        if (match := re.fullmatch(r"im(?P<number>\d+)\.nii(\.gz)?", path.name))
    }
    if not images:
        raise UnusableError(f"{root / 'imagesTr'} holds no file im<number>.nii.gz; unpack the data set again")
    inclusion = Inclusion([f"atlas_{number}" for number in images], "patients in imagesTr")
    studies, rows = [], []
    for number, path in sorted(images.items(), key=lambda item: int(item[0])):
        name, written = f"atlas_{number}", phases.get(number, "")
        phase = PHASE_WORDS.get(written.strip().lower())
        if phase is None:
            inclusion.leave_out(name, "phases", "contrast phase unknown in patient_info_train.json")
            continue
        study = Study(name, {phase: path}, site="ATLAS", label="hcc")
        label = root / "labelsTr" / path.name.replace("im", "lb", 1)
        if label.is_file():
            folder = study_folder(out, name)
            mask = from_classes(label, folder / "mask.nii.gz", {TUMOUR: "hcc"})
            liver = region(label, folder / "liver_mask.nii.gz", (LIVER, TUMOUR))
            study = Study(
                name,
                study.images,
                site=study.site,
                label=study.label,
                mask=mask.path if mask.sizes or not mask.readable else None,
                liver_mask=liver,
            )
            rows += [{"study_id": name, "lesion": str(n), "label": "hcc"} for n in mask.sizes]
        studies.append(study)
    findings = [
        import_finding(
            "one-phase",
            "warning",
            "ATLAS has one volume a patient: enhancement over time cannot be learned from it",
            "Use it for masks, or beside another cohort (mtinet import merge).",
        )
    ]
    cohort = Cohort("ATLAS", tuple(studies), ("hcc",), licence="CC BY-NC-SA 4.0", lesions=pd.DataFrame(rows))
    return write_import(out, cohort, inclusion, findings, options or ImportOptions())


def _phases(path: Path) -> dict[str, str]:
    """``contrast_phase`` by patient number (keys are written ``0`` or ``im0``)."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UnusableError(
            f"{path} does not exist; the contrast phases stand there, and without them no image has a phase"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UnusableError(f"{path} is not JSON ({error}); unpack the data set again") from None
    if not isinstance(content, dict):
        raise UnusableError(f"{path} holds no patients; unpack the data set again")
    return {
        str(key).removeprefix("im"): str(info.get("contrast_phase", ""))
        for key, info in content.items()
        if isinstance(info, dict)
    }
