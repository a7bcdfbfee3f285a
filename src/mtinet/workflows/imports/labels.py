"""``labels.csv``: what a user knows of the studies that the images do not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mtinet.cohort import NO_LESION, SNOMED_CT, Study
from mtinet.cohort.findings import Findings
from mtinet.cohort.tables import read_study, read_table
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

_NOT_GIVEN = ("study_id", "patient_id")


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
    problems = Findings()
    table = read_table(path, problems, required=())
    if table is None or problems:
        raise UserError("\n".join(f"{f.meaning}. {f.action}" for f in problems))
    rows = [{str(k): str(v) for k, v in row.items()} for row in table.to_dict("records")]
    key = _key(rows, table.columns.tolist(), path)
    seen: set[str] = set()
    for row in rows:
        if row[key] in seen:
            raise UserError(f"{path} has more than one row for {key} {row[key]!r}; keep one")
        seen.add(row[key])
    return rows


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
    key = _key(rows, list(rows[0]) if rows else [], path)
    by_id = {row[key]: row for row in rows}
    labelled, used, findings = [], set(), []
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
        labelled.append(_with_row(study, row, path))
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


def _key(rows: Sequence[Mapping[str, str]], columns: Sequence[str], path: Path) -> str:
    if not rows:
        raise UserError(f"{path} has no row; write study_id (or patient_id) and label")
    key = next((name for name in _NOT_GIVEN if name in columns), None)
    if key is None:
        raise UserError(
            f"{path} has the columns {', '.join(columns)}; it needs study_id or patient_id, and label"
        )
    return key


def _with_row(study: Study, row: Mapping[str, str], path: Path) -> Study:
    """The study with a row's values; paths are never taken from it."""
    problems = Findings()
    told = {name: value for name, value in row.items() if name not in study.images}
    said = read_study(
        {**told, "study_id": study.study_id, "mask": "", "liver_mask": "", "mask_2": ""},
        tuple(study.images),
        path.parent,
        problems,
    )
    if problems:
        raise UserError("\n".join(f"{path.name}, {f.case}: {f.meaning}. {f.action}" for f in problems))
    label = said.label
    if label and label != NO_LESION:
        label = canonical_class(label) or label
    return replace(
        study,
        patient_id=row.get("patient_id", "").strip() or study.patient_id,
        site=said.site or study.site,
        label=label or study.label,
        mask_phase=said.mask_phase or study.mask_phase,
        mask_source=said.mask_source or study.mask_source,
        times_s={**study.times_s, **said.times_s},
        agent=said.agent or study.agent,
        acquisition={**study.acquisition, **said.acquisition},
        prior_study_id=said.prior_study_id or study.prior_study_id,
    )
