"""The last step that every import shares: screen the studies, write the cohort, say what was left out."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from mtinet import files
from mtinet.cohort import Cohort, Study, structural_findings
from mtinet.config import PHASES, Phase
from mtinet.errors import UnusableError, UserError
from mtinet.imaging.checks import StudyLook, copied_images
from mtinet.results import UNNAMED, Finding
from mtinet.workflows.imports.inclusion import Inclusion, InclusionRow, write_inclusion
from mtinet.workflows.imports.screening import screen
from mtinet.workflows.pool import OnProgress, for_each

IMPORT_FILE = "import.json"
"""What an import of DICOM says about each study, in the cohort's folder."""


@dataclass(frozen=True)
class ImportOutcome:
    """What an import made.

    Attributes
    ----------
    folder : Path
    cohort : Cohort
        As it was written.
    inclusion : tuple of InclusionRow
        How many studies were left out at which step and why; also in ``inclusion.csv``.
    findings : tuple of Finding
        What was decided and what the user should know.
    """

    folder: Path
    cohort: Cohort
    inclusion: tuple[InclusionRow, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class ImportOptions:
    """How an import writes.

    Attributes
    ----------
    copy : bool
        Copy the images into the cohort; otherwise the tables point to them where they are.
    workers : int or None
        Processes that read the images.
    on_progress : callable or None
        Called with the number of studies read and their total.
    """

    copy: bool = False
    workers: int | None = None
    on_progress: OnProgress | None = None


def refuse_occupied(out: Path) -> None:
    """Refuse a folder that holds a cohort: an import never changes one that may have been edited.

    Raises
    ------
    UserError
    """
    if (out / "cohort.csv").exists():
        raise UserError(f"{out} already holds a cohort; give another folder, or remove that one first")


def source_folder(path: Path, what: str) -> Path:
    """The folder of a source, absolute, so that the cohort's paths hold from anywhere.

    Raises
    ------
    UnusableError
        There is no such folder.
    """
    if not path.is_dir():
        raise UnusableError(f"{path} is not a folder; give {what}")
    return path.resolve()


def write_import(
    out: Path,
    cohort: Cohort,
    inclusion: Inclusion,
    findings: Sequence[Finding],
    options: ImportOptions,
) -> ImportOutcome:
    """Screen a cohort's studies, compare them with each other, and write it with its inclusion table.

    Two patients with the same images stay, with a finding that is an error: who of them is right is not known here.
    Masks that the import made must already lie in ``out``.

    Parameters
    ----------
    out : Path
    cohort : Cohort
        Candidates, by ids that ``inclusion`` counts.
    inclusion : Inclusion
    findings : sequence of Finding
        What the import has found so far.
    options : ImportOptions

    Raises
    ------
    UnusableError
        No study remains; the message says why.
    """
    found = list(findings)
    kept: list[Study] = []
    looks: list[tuple[Study, StudyLook]] = []
    for study, screened in zip(
        cohort.studies, for_each(screen, cohort.studies, options.workers, options.on_progress), strict=True
    ):
        found += screened.findings
        if screened.study is None or screened.look is None:
            inclusion.leave_out(study.study_id, screened.step, screened.reason)
        else:
            kept.append(screened.study)
            looks.append((screened.study, screened.look))
    if not kept:
        reasons = "; ".join(f"{row.studies} at {row.step}: {row.reason}" for row in inclusion.rows()[1:-1])
        details = "".join(f"\n- {f.case + ': ' if f.case else ''}{f.meaning}" for f in found[:10])
        raise UnusableError(f"no study can be used ({reasons or 'none was found'}){details}")
    found += copied_images(looks)
    if options.copy:
        kept = [_copied(study, out) for study in kept]
    result = replace(
        cohort,
        studies=tuple(kept),
        classes=cohort.classes or UNNAMED,
        phases=used_phases(kept),
        lesions=_rows_of(cohort.lesions, kept),
        folder=out,
    )
    # what the tables alone show and no single study does: ids, shared files, classes
    errors = [f for f in structural_findings(result) if f.severity == "error"]
    if errors:
        lines = "".join(f"\n- {f.case + ': ' if f.case else ''}{f.meaning}. {f.action}" for f in errors)
        raise UserError(f"the import would make a cohort with errors:{lines}")
    result.write(out)
    write_inclusion(out, inclusion.rows())
    return ImportOutcome(out, result, inclusion.rows(), tuple(found))


def used_phases(studies: Sequence[Study]) -> tuple[Phase, ...]:
    """The phases that any study has, in the order of acquisition."""
    return tuple(phase for phase in PHASES if any(phase in study.images for study in studies))


def refuse_unsafe(ids: Iterable[str]) -> None:
    """Refuse ids that cannot be the name of a file: an import writes masks under them.

    Raises
    ------
    UserError
    """
    bad = [i for i in ids if not i or i.startswith(".") or any(c in i for c in "/\\\0")]
    if bad:
        raise UserError(
            f"{', '.join(map(repr, bad[:5]))} cannot be the name of a file; correct the ids in the source "
            "(no / or \\, no dot at the start)"
        )


def study_folder(out: Path, study_id: str) -> Path:
    """Where an import puts the files that it makes for a study."""
    return out / "images" / study_id


def _copied(study: Study, out: Path) -> Study:
    """The study with all its files inside ``out``."""
    folder = study_folder(out, study.study_id)

    def place(path: Path | None, name: str) -> Path | None:
        if path is None or path.resolve().is_relative_to(out.resolve()):
            return path
        target = folder / (
            name + "".join(path.suffixes[-2:] if path.name.endswith(".gz") else path.suffixes[-1:])
        )
        with files.atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)
        return target

    images = {phase: place(path, phase) or path for phase, path in study.images.items()}
    return replace(
        study,
        images=images,
        mask=place(study.mask, "mask"),
        liver_mask=place(study.liver_mask, "liver_mask"),
        mask_2=place(study.mask_2, "mask_2"),
    )


def _rows_of(lesions: pd.DataFrame, studies: Sequence[Study]) -> pd.DataFrame:
    """The rows of lesions whose mask is still there."""
    if lesions.empty:
        return lesions
    masked = {study.study_id for study in studies if study.mask is not None}
    return lesions[lesions["study_id"].isin(masked)].reset_index(drop=True)
