"""What is wrong with a cohort and shows without reading pixels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mtinet.cohort.findings import Findings
from mtinet.cohort.study import ALL_SITES, MASK_SOURCES, NO_LESION, Study
from mtinet.config import PHASES
from mtinet.results import Finding

if TYPE_CHECKING:
    # a cohort is checked as it is read, so its module imports this one
    from mtinet.cohort.cohort import Cohort


_NOT_IN_A_NAME = frozenset("/\\\0")
"""What no file's name can hold on every system."""


def structural_findings(cohort: Cohort) -> list[Finding]:
    """Everything wrong with a cohort that shows without reading pixels."""
    findings = Findings()
    if not cohort.studies:
        findings.add("no-studies", "error", "the cohort has no study", "Add a row a study to cohort.csv.")
    _check_ids(cohort, findings)
    users = {(path.resolve(), s.study_id) for s in cohort.studies for path in s.images.values()}
    used = Counter(path for path, _ in users)
    for study in cohort.studies:
        _check_study(study, cohort, used, findings)
    _check_mask_sources(cohort, findings)
    _check_lesions(cohort, findings)
    labelled = {*(s.label for s in cohort.studies), *cohort.lesions.get("label", ())} - {"", NO_LESION}
    if cohort.studies and len(labelled) < 2:
        findings.add(
            "one-class",
            "warning",
            f"all labelled studies and lesions are {next(iter(labelled))!r}"
            if labelled
            else "no study and no lesion is labelled with a class",
            "Classification cannot be learned; add studies of another class, "
            "or expect segmentation and enhancement only.",
        )
    return findings


def _check_ids(cohort: Cohort, findings: Findings) -> None:
    """Rows without an id, ids that no file can bear, and studies with more than one row."""
    rows: dict[str, list[Study]] = {}
    for study in cohort.studies:
        rows.setdefault(study.study_id, []).append(study)
    for study_id, same in rows.items():
        if study_id.startswith(".") or not _NOT_IN_A_NAME.isdisjoint(study_id):
            findings.add(
                "unsafe-id",
                "error",
                f"the study_id {study_id!r} cannot be the name of a file",
                "Leave out / and \\ and do not begin with a dot: results are written under the id.",
                study_id,
            )
        if not study_id:
            findings.add("empty-id", "error", "a row has no study_id", "Give every study an id of its own.")
        elif len(labels := sorted({s.label for s in same})) > 1:
            findings.add(
                "two-labels",
                "error",
                f"the study has {len(same)} rows with the labels {', '.join(map(repr, labels))}",
                "Keep one row with the label of the dominant lesion.",
                study_id,
            )
        elif len(same) > 1:
            findings.add(
                "duplicate-study",
                "error",
                f"the study has {len(same)} rows",
                "Keep one row a study.",
                study_id,
            )


def _check_study(study: Study, cohort: Cohort, used: Counter[Path], findings: Findings) -> None:
    """One row; ``used`` counts the studies that use an image file."""
    case = study.study_id
    valid = (*cohort.classes, NO_LESION)
    if study.label and study.label not in valid:
        findings.add(
            "unknown-class",
            "error",
            f"label {study.label!r} is not a class of this cohort",
            f"Valid: {', '.join(valid)}; correct the label or add the class to cohort.yaml.",
            case,
        )
    if study.site == ALL_SITES:
        findings.add(
            "reserved-site",
            "error",
            f"the site is called {ALL_SITES!r}, which tables of results call all sites together",
            "Give it another name.",
            case,
        )
    if not study.images:
        findings.add(
            "no-images", "error", "the study has no image of any phase", "Add a path or remove the row.", case
        )
        return
    _check_phases(study, cohort, findings)
    _check_files(study, used, findings)
    _check_mask_phase_and_times(study, findings)
    _check_targets(study, cohort, findings)


def _check_phases(study: Study, cohort: Cohort, findings: Findings) -> None:
    """Phases of the cohort that the study lacks."""
    case = study.study_id
    missing = [phase for phase in cohort.phases if phase not in study.images]
    if missing:
        findings.add(
            "missing-phase",
            "note",
            f"the study lacks {', '.join(missing)}",
            "Nothing to do if it was not acquired; training and prediction go on without it.",
            case,
        )
    if "pre" in cohort.phases and "pre" not in study.images:
        findings.add(
            "no-pre",
            "warning",
            "without a pre phase there is no relative enhancement",
            "Add the unenhanced images if they exist.",
            case,
        )


def _check_files(study: Study, used: Counter[Path], findings: Findings) -> None:
    """Files that do not exist, and images used for two phases or by two studies."""
    case = study.study_id
    for column, path in study.paths().items():
        if not path.is_file():
            findings.add(
                "missing-file",
                "error",
                f"{column} points to {path}, which does not exist",
                "Correct the path, or empty the cell if the phase is missing.",
                case,
            )
    paths = Counter(path.resolve() for path in study.images.values())
    for path, count in paths.items():
        if count > 1:
            names = ", ".join(p for p, q in study.images.items() if q.resolve() == path)
            findings.add(
                "duplicate-phase",
                "error",
                f"{names} are the same file {path.name}",
                "Give each phase its own file.",
                case,
            )
        elif used[path] > 1:
            findings.add(
                "shared-file",
                "error",
                f"{path.name} is used by more than one study",
                "Give each study its own files.",
                case,
            )


def _check_mask_phase_and_times(study: Study, findings: Findings) -> None:
    """Mask phase and times that contradict the study's phases."""
    case = study.study_id
    if study.mask_phase and study.mask_phase not in study.images:
        findings.add(
            "mask-phase",
            "error",
            f"mask_phase {study.mask_phase!r} is not a phase of this study",
            f"Valid: {', '.join(study.images)}.",
            case,
        )
    times = [study.times_s[p] for p in PHASES if p in study.times_s]
    if times != sorted(times):
        findings.add(
            "times-order",
            "error",
            "the phase times do not rise in the order of the phases",
            "Correct the time columns, or exchange the phases' files.",
            case,
        )


def _check_targets(study: Study, cohort: Cohort, findings: Findings) -> None:
    """Training targets that the study lacks."""
    case = study.study_id
    if study.mask is None and study.label != NO_LESION:
        findings.add(
            "no-mask",
            "note",
            "the study has no lesion mask",
            "It trains the other tasks and is not scored on Dice.",
            case,
        )
    # the lesions' classes train where a mask says which lesions they are
    if not study.label and not (study.mask is not None and any(cohort.lesion_labels(study).values())):
        findings.add(
            "no-label",
            "note",
            "the study has no label, and its lesions have no classes",
            "It trains the other tasks and is not scored on class.",
            case,
        )


def _check_mask_sources(cohort: Cohort, findings: Findings) -> None:
    """Masks that no reader drew: said once for the whole cohort, because it holds for hundreds of studies."""
    for study in cohort.studies:
        if study.mask_source and study.mask_source not in MASK_SOURCES:
            findings.add(
                "mask-source",
                "error",
                f"mask_source is {study.mask_source!r}",
                f"Valid: {', '.join(MASK_SOURCES)}, or empty for a mask that a reader drew.",
                study.study_id,
            )
    masked = [study for study in cohort.studies if study.mask is not None]
    boxes = sum(study.mask_source == "box" for study in masked)
    if boxes:
        findings.add(
            "box-mask",
            "warning",
            f"{boxes} of {len(masked)} masks are filled bounding boxes (mask_source box), not outlines",
            "Use them to locate and classify; Dice, volumes and enhancement under a box include the liver "
            "around the lesion. Outlines replace them in the column mask.",
        )
    programs = sum(study.mask_source == "program" for study in masked)
    if programs:
        findings.add(
            "program-mask",
            "note",
            f"{programs} of {len(masked)} masks were made with a program (mask_source program)",
            "Say so where results on them are reported.",
        )


def _check_lesions(cohort: Cohort, findings: Findings) -> None:
    """Rows of ``lesions.csv`` that fit no study or class, are not numbered, or come twice."""
    if cohort.lesions.empty:
        return
    known = {study.study_id for study in cohort.studies}
    seen: set[tuple[str, str]] = set()
    numbers = cohort.lesions["lesion"].astype(str)
    labels = cohort.lesions["label"].astype(str)
    for study_id, lesion, label in zip(cohort.lesions["study_id"], numbers, labels, strict=True):
        if label and label not in cohort.classes:
            findings.add(
                "unknown-class",
                "error",
                f"lesions.csv calls lesion {lesion} {label!r}, which is not a class of this cohort",
                f"Valid: {', '.join(cohort.classes)}; correct it or add the class to cohort.yaml.",
                study_id,
            )
        if study_id not in known:
            findings.add(
                "unknown-study",
                "error",
                "lesions.csv has a row for a study that cohort.csv lacks",
                "Correct the study_id or remove the row.",
                study_id,
            )
        elif not lesion.strip().isdecimal():
            findings.add(
                "lesion-number",
                "error",
                f"lesions.csv calls a lesion {lesion!r}",
                "Write the lesion's number in the mask.",
                study_id,
            )
        elif (study_id, lesion) in seen:
            findings.add(
                "duplicate-lesion",
                "error",
                f"lesions.csv has more than one row for lesion {lesion}",
                "Keep one row a lesion.",
                study_id,
            )
        seen.add((study_id, lesion))
