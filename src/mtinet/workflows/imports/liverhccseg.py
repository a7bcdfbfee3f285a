"""LiverHccSeg: 17 patients of TCGA-LIHC in four phases, liver and HCC drawn by two radiologists.

Layout of ``nifti_and_segms.zip`` (zenodo.org/records/8179129): ``<patient>/<MM-DD-YYYY>/`` with ``pre``,
``art``, ``pv``, ``del`` as acquired, ``art_pre``, ``art_pv``, ``art_del`` registered to the arterial phase,
and ``rater<1|2>_liver`` and ``rater<1|2>_tumor<n>``, all ``.nii.gz`` and drawn on the arterial phase.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mtinet.cohort import Cohort, Study
from mtinet.config import Phase
from mtinet.errors import UnusableError
from mtinet.results import Finding
from mtinet.workflows.imports.inclusion import Inclusion
from mtinet.workflows.imports.masks import merged
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.writing import (
    ImportOptions,
    ImportOutcome,
    refuse_occupied,
    source_folder,
    study_folder,
    write_import,
)

ACQUIRED: dict[Phase, str] = {"pre": "pre", "arterial": "art", "portal_venous": "pv", "delayed": "del"}
REGISTERED: dict[Phase, str] = {**ACQUIRED, "pre": "art_pre", "portal_venous": "art_pv", "delayed": "art_del"}


def import_liverhccseg(
    src: Path, out: Path, *, registered: bool = True, options: ImportOptions | None = None
) -> ImportOutcome:
    """Make a cohort of LiverHccSeg; the second radiologist's lesions become ``mask_2``.

    Parameters
    ----------
    src : Path
        Folder ``nifti_and_segms``, or the one above.
    out : Path
    registered : bool
        Take the phases that the publishers registered to the arterial one; otherwise those as acquired.
    options : ImportOptions, optional

    Raises
    ------
    UserError
        The folder is not the data set, or no examination can be used.
    """
    src = source_folder(src, "the folder nifti_and_segms of LiverHccSeg")
    refuse_occupied(out)
    root = src / "nifti_and_segms" if (src / "nifti_and_segms").is_dir() else src
    exams = sorted(path.parent for path in root.glob("*/*/art.nii.gz"))
    if not exams:
        raise UnusableError(
            f"{root} has no <patient>/<date>/art.nii.gz; it holds "
            f"{', '.join(sorted(p.name for p in root.iterdir())[:8]) or 'nothing'}"
        )
    several = {e.parent.name for e in exams if sum(o.parent == e.parent for o in exams) > 1}
    ids = {e: f"{e.parent.name}_{e.name}" if e.parent.name in several else e.parent.name for e in exams}
    inclusion = Inclusion(ids.values(), "examinations with an arterial phase")
    names = REGISTERED if registered else ACQUIRED
    studies, rows, findings = [], [], []
    for exam, name in ids.items():
        images = {phase: p for phase, file in names.items() if (p := exam / f"{file}.nii.gz").is_file()}
        study = Study(name, images, patient_id=exam.parent.name, site="TCGA-LIHC")
        study, said = _with_masks(study, exam, out)
        findings += said
        if study.mask is not None:
            study = replace(study, label="hcc")
            rows += [{"study_id": name, "lesion": str(n), "label": "hcc"} for n in _numbers(exam)]
        studies.append(study)
    cohort = Cohort("LiverHccSeg", tuple(studies), ("hcc",), licence="CC BY 4.0", lesions=pd.DataFrame(rows))
    return write_import(out, cohort, inclusion, findings, options or ImportOptions())


def _with_masks(study: Study, exam: Path, out: Path) -> tuple[Study, list[Finding]]:
    folder = study_folder(out, study.study_id)
    tumours = {reader: _tumours(exam, reader) for reader in (1, 2)}
    liver = exam / "rater1_liver.nii.gz"
    study = replace(
        study,
        mask=merged(tumours[1], folder / "mask.nii.gz").path if tumours[1] else None,
        mask_2=merged(tumours[2], folder / "mask_2.nii.gz").path if tumours[2] else None,
        liver_mask=liver if liver.is_file() else None,
        mask_phase="arterial",
    )
    if study.mask is not None:
        return study, []
    return study, [
        import_finding(
            "no-tumour-mask",
            "note",
            "no tumour was drawn: the publishers excluded it for want of a visible or residual tumour",
            "The label is left unknown; write none into cohort.csv if you take it as free of lesions.",
            study.study_id,
        )
    ]


def _tumours(exam: Path, reader: int) -> list[Path]:
    """One file a lesion, by number (an earlier program may have left a merged one beside them)."""
    found = {
        int(match["number"]): path
        for path in exam.glob(f"rater{reader}_tumor*.nii.gz")
        if (match := re.fullmatch(r"rater\d_tumor(?P<number>\d+)\.nii\.gz", path.name))
    }
    return [found[number] for number in sorted(found)]


def _numbers(exam: Path) -> range:
    return range(1, len(_tumours(exam, 1)) + 1)
