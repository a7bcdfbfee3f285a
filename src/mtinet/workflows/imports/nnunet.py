"""A data set of nnU-Net as a cohort: channels are phases, label values are classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mtinet.cohort import NO_LESION, Cohort, Study
from mtinet.errors import UserError
from mtinet.results import Finding
from mtinet.workflows.imports.inclusion import Inclusion
from mtinet.workflows.imports.labels import classes_of, read_labels, with_labels
from mtinet.workflows.imports.masks import dominant_label, from_classes, region
from mtinet.workflows.imports.nnunet_dataset import Case, Dataset, Meaning, meaning_of, read_dataset
from mtinet.workflows.imports.phase_names import parse_assignments, phases_of, said_mapping
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.writing import (
    ImportOptions,
    ImportOutcome,
    refuse_occupied,
    refuse_unsafe,
    source_folder,
    study_folder,
    write_import,
)

LABELS_FILE = "labels.csv"
"""Table beside ``dataset.json`` that the export writes and the import reads."""


def import_nnunet(
    src: Path,
    out: Path,
    *,
    channels: Sequence[str] = (),
    label_names: Sequence[str] = (),
    labels: Path | None = None,
    options: ImportOptions | None = None,
) -> ImportOutcome:
    """Make a cohort of the training cases of an nnU-Net data set (``dataset.json`` version 1 or 2).

    Connected parts of a class become separate lesions; a case whose label file holds no lesion gets the
    label ``none``.

    Parameters
    ----------
    src : Path
        Folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``.
    out : Path
        Cohort folder to write.
    channels : sequence of str
        ``NAME=PHASE`` by channel number or name; otherwise common names are known.
    label_names : sequence of str
        ``VALUE=CLASS``, also ``=lesion``, ``=liver``, ``=ignore``, by value or name.
    labels : Path, optional
        Table of what else is known (:mod:`mtinet.workflows.imports.labels`); by default ``labels.csv`` beside
        ``dataset.json``.
    options : ImportOptions, optional

    Raises
    ------
    UserError
        A channel or label is not known and not mapped, or no case can be used.
    """
    src = source_folder(src, "the folder DatasetXXX_Name with dataset.json")
    refuse_occupied(out)
    dataset = read_dataset(src)
    phases, findings = _phases(dataset, channels)
    table = labels or (path if (path := src / LABELS_FILE).is_file() else None)
    # a class that the table names needs no option
    own = {row.get("label", "") for row in read_labels(table)} if table else set()
    known = {name: name for name in dataset.labels.values() if name in own}
    meaning = meaning_of(dataset.labels, known | parse_assignments(label_names, "--label"))
    findings.append(_said_labels(dataset, meaning))
    refuse_unsafe(dataset.cases)
    inclusion = Inclusion(dataset.cases, "cases in imagesTr")
    bare = []
    for case, found in dataset.cases.items():
        images = {phases[number]: path for number, path in found.images.items() if number in phases}
        if images:
            bare.append(Study(case, images))  # type: ignore[arg-type]
        else:
            inclusion.leave_out(case, "phases", "no image of a channel that is a phase")
    labelled, _, said = with_labels(bare, table)
    # masks are written once the labels are known to fit
    studies, rows = [], []
    for study in labelled:
        masked, lesions = _with_mask(study, dataset.cases[study.study_id], meaning, out)
        studies.append(masked)
        rows += lesions
    classes = classes_of([*(s.label for s in studies), *(c for c in meaning.classes.values() if c)])
    cohort = Cohort(
        dataset.name, tuple(studies), classes, licence=dataset.licence, lesions=pd.DataFrame(rows)
    )
    return write_import(out, cohort, inclusion, [*findings, *said], options or ImportOptions())


def _phases(dataset: Dataset, given: Sequence[str]) -> tuple[dict[int, str], list[Finding]]:
    """Phase by channel number."""
    mapping = parse_assignments(given, "--channel")
    by_number = {str(number): name for number, name in dataset.channels.items()}
    named = {by_number.get(name, name): phase for name, phase in mapping.items()}
    repeated = len(set(dataset.channels.values())) < len(dataset.channels)
    if repeated:
        # channels of one name ("MRI" four times) can only be told by number
        keys = {number: str(number) for number in dataset.channels}
        phases, unknown = phases_of(keys.values(), mapping, "--channel")
    else:
        keys = dict(dataset.channels)
        phases, unknown = phases_of(keys.values(), named, "--channel")
    if not phases:
        said = ", ".join(f"{number} ({name})" for number, name in dataset.channels.items())
        raise UserError(
            f"none of the channels {said} is a known phase; say which is which: --channel 0=pre --channel "
            "1=arterial, ..."
        )
    findings = [
        import_finding(
            "channels",
            "note",
            f"channels are taken as phases: {said_mapping(phases)}",
            "If one is wrong, say it with --channel NAME=PHASE and import again.",
        )
    ]
    if unknown:
        findings.append(
            import_finding(
                "channel-set-aside",
                "warning",
                f"the channels {', '.join(unknown)} are no known phase and are left out",
                "Map each with --channel NAME=PHASE, or NAME=ignore.",
            )
        )
    return {number: phases[key] for number, key in keys.items() if key in phases}, findings


def _said_labels(dataset: Dataset, meaning: Meaning) -> Finding:
    words = [
        f"{value} ({name}) = "
        + (
            (meaning.classes[value] or "lesion of unknown class")
            if value in meaning.classes
            else ("liver" if value in meaning.liver else "ignored")
        )
        for value, name in dataset.labels.items()
    ]
    return import_finding(
        "label-values",
        "note",
        f"label values are taken as: {', '.join(words) or 'none'}; connected parts are separate lesions",
        "If one is wrong, say it with --label VALUE=CLASS and import again.",
    )


def _with_mask(study: Study, found: Case, meaning: Meaning, out: Path) -> tuple[Study, list[dict[str, str]]]:
    """The study with its masks, and the rows of its lesions; its label is theirs where no table says one."""
    if found.label is None:
        return study, []
    folder = study_folder(out, study.study_id)
    mask = from_classes(found.label, folder / "mask.nii.gz", meaning.classes)
    liver = None
    if meaning.liver:
        liver = region(found.label, folder / "liver_mask.nii.gz", (*meaning.liver, *meaning.classes))
    rows = [
        {"study_id": study.study_id, "lesion": str(number), "label": name}
        for number, name in mask.labels.items()
    ]
    label = dominant_label(mask)
    if mask.readable and not mask.sizes and meaning.classes:
        label = NO_LESION
    return replace(study, mask=mask.path, liver_mask=liver, label=study.label or label), rows
