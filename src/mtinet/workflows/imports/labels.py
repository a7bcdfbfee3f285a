"""``labels.csv``: what a user knows of the studies that the images do not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mtinet.cohort import NO_LESION, SNOMED_CT, Study
from mtinet.cohort.findings import Findings
from mtinet.cohort.tables import read_study, read_table, unused_columns
from mtinet.config import PHASES
from mtinet.errors import UserError
from mtinet.results import Finding
from mtinet.workflows.imports.screening import import_finding

CLASS_ALIASES: dict[str, str] = {
    "hemangioma": "hemangioma",
    "haemangioma": "hemangioma",
    "hepatic hemangioma": "hemangioma",
    "hcc": "hcc",
    "hepatocellular carcinoma": "hcc",
    "fnh": "fnh",
    "focal nodular hyperplasia": "fnh",
    "metastasis": "metastasis",
    "metastases": "metastasis",
    "hepatic metastasis": "metastasis",
    "icc": "icc",
    "intrahepatic cholangiocarcinoma": "icc",
    "cyst": "cyst",
    "hepatic cyst": "cyst",
    "abscess": "abscess",
    "hepatic abscess": "abscess",
}
"""Canonical class by the name that data sets give it (lower case, blanks for underscores)."""

_KEYS = ("study_id", "patient_id")
_MASKS = ("mask", "liver_mask", "mask_2")


def canonical_class(name: str) -> str | None:
    """The canonical class that a name stands for; None where it is not one of the known names."""
    return CLASS_ALIASES.get(" ".join(name.replace("_", " ").replace("-", " ").lower().split()))


def read_labels(path: Path) -> list[dict[str, str]]:
    """The rows of a ``labels.csv``, every cell as text.

    Raises
    ------
    UserError
        The table cannot be read, names neither studies nor patients, or names one twice.
    """
    rows = label_rows(path, _KEYS)
    key = _key(rows)
    seen: set[str] = set()
    for row in rows:
        if row[key] in seen:
            raise UserError(f"{path} has more than one row for {key} {row[key]!r}; keep one")
        seen.add(row[key])
    return rows


def label_rows(path: Path, keys: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table of labels, every cell as text without blanks around it.

    Parameters
    ----------
    path : Path
    keys : sequence of str
        Columns that name a study or patient; the table has one of them at least.

    Raises
    ------
    UserError
        The table cannot be read, has no row or no such column, or a number in it is none.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; correct the path of --labels")
    problems = Findings()
    table = read_table(path, problems, required=())
    if table is None or problems:
        raise UserError("\n".join(f"{f.meaning}. {f.action}" for f in problems))
    named = [key for key in keys if key in table.columns]
    if not named:
        raise UserError(
            f"{path} has the columns {', '.join(map(str, table.columns))}; it needs {' or '.join(keys)}, and label"
        )
    rows = [{str(k): str(v) for k, v in row.items()} for row in table.to_dict("records")]
    if not rows:
        raise UserError(f"{path} has no row; write {' or '.join(keys)} and label of every study")
    for row in rows:
        case = next((row[key] for key in named if row[key]), "a row")
        read_study({**row, "study_id": case}, PHASES, path.parent, problems)
    if problems:
        raise UserError("\n".join(f"{path}, {f.case}: {f.meaning}. {f.action}" for f in problems))
    return rows


def column_findings(rows: Sequence[Mapping[str, str]], path: Path, keys: Sequence[str] = ()) -> list[Finding]:
    """What of a table of labels is not taken: columns of other names, and paths; ``keys`` are known besides."""
    findings = [
        import_finding(
            "unknown-column",
            "note",
            f"column {column!r} of {path.name} is not used",
            "Correct its name or ignore this.",
        )
        for column in unused_columns(c for c in rows[0] if c not in keys)
    ]
    if paths := [c for c in (*PHASES, *_MASKS) if any(row.get(c) for row in rows)]:
        findings.append(
            import_finding(
                "path-column",
                "note",
                f"the paths in {path.name} ({', '.join(paths)}) are not used",
                "Give masks to the import itself (--masks of DICOM, --mask of NIfTI), or ignore this.",
            )
        )
    return findings


def with_labels(
    studies: Sequence[Study], path: Path | None
) -> tuple[list[Study], tuple[str, ...], list[Finding]]:
    """Studies with what ``labels.csv`` says of them, and the classes in canonical order.

    A row is found by ``study_id``, or by ``patient_id`` where the table has no ``study_id``.  Its other
    columns are those of ``cohort.csv`` without paths (``label, site, agent, mask_phase, time_<phase>_s,
    dose_mmol_kg, ...``); empty cells say nothing.

    Parameters
    ----------
    studies : sequence of Study
    path : Path or None
        None = nothing is known.

    Returns
    -------
    studies : list of Study
    classes : tuple of str
        Labels of the studies, canonical ones first.
    findings : list of Finding

    Raises
    ------
    UserError
        The table cannot be used, or fits none of the studies.
    """
    if path is None:
        return list(studies), classes_of([s.label for s in studies]), []
    rows = read_labels(path)
    key = _key(rows)
    by_id = {row[key]: row for row in rows}
    labelled, used, findings = [], set(), column_findings(rows, path)
    for study in studies:
        given = study.study_id if key == "study_id" else study.patient_id
        row = by_id.get(given)
        if row is None:
            findings.append(
                import_finding(
                    "not-in-labels",
                    "note",
                    f"{path.name} has no row for {key} {given}",
                    "Add the row if its label is known.",
                    study.study_id,
                )
            )
            labelled.append(study)
            continue
        used.add(given)
        patient_id = row.get("patient_id") or study.patient_id
        labelled.append(replace(with_row(study, row), patient_id=patient_id))
    unused = [name for name in by_id if name not in used]
    if studies and not used:
        raise UserError(
            f"no {key} of {path} is one of the studies found: the table has {', '.join(list(by_id)[:5])}, "
            f"the images {', '.join(s.study_id if key == 'study_id' else s.patient_id for s in studies[:5])}"
        )
    if unused:
        findings.append(
            import_finding(
                "label-without-images",
                "warning",
                f"{len(unused)} row(s) of {path.name} fit no study: {', '.join(unused[:10])}",
                "Correct the ids if these studies should be there.",
            )
        )
    return labelled, classes_of([s.label for s in labelled]), findings


def classes_of(labels: Sequence[str]) -> tuple[str, ...]:
    """The classes among labels: canonical ones in their order, then others in the order of appearance."""
    named = dict.fromkeys(label for label in labels if label not in ("", NO_LESION))
    return (*(c for c in SNOMED_CT if c in named), *(c for c in named if c not in SNOMED_CT))


def _key(rows: Sequence[Mapping[str, str]]) -> str:
    return next(name for name in _KEYS if name in rows[0])


def with_row(study: Study, row: Mapping[str, str]) -> Study:
    """The study with what a row of :func:`label_rows` says: never paths or ids, empty cells nothing."""
    told = {name: value for name, value in row.items() if name not in study.images}
    said = read_study({**told, "study_id": study.study_id}, tuple(study.images), Path(), Findings())
    label = said.label if said.label == NO_LESION else canonical_class(said.label) or said.label
    return replace(
        study,
        site=said.site or study.site,
        label=label or study.label,
        mask_phase=said.mask_phase or study.mask_phase,
        mask_source=said.mask_source or study.mask_source,
        times_s={**study.times_s, **said.times_s},
        agent=said.agent or study.agent,
        acquisition={**study.acquisition, **said.acquisition},
        prior_study_id=said.prior_study_id or study.prior_study_id,
    )
