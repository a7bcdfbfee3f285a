"""``labels.csv`` beside DICOM files: rows found by the ids that the files bear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mtinet.cohort import NO_LESION, Study
from mtinet.cohort.findings import Findings
from mtinet.cohort.tables import check_columns, read_study, read_table
from mtinet.dicom.study import DicomStudy
from mtinet.errors import UserError
from mtinet.results import Finding
from mtinet.workflows.imports.labels import canonical_class
from mtinet.workflows.imports.screening import import_finding

_KEYS = ("study_uid", "patient_id")
_PATHS = ("mask", "liver_mask", "mask_2")

Row = Mapping[str, str]


class LabelTable:
    """The rows of a ``labels.csv`` and which of them were used.

    A row with a ``study_uid`` is about that study; one with a ``patient_id`` alone about every study of that
    patient that has no row of its own.

    Raises
    ------
    UserError
        The table cannot be read, names neither patients nor studies, or contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        problems = Findings()
        table = read_table(path, problems, required=())
        if table is None or problems:
            raise UserError("\n".join(f"{f.meaning}. {f.action}" for f in problems))
        if not any(key in table.columns for key in _KEYS):
            raise UserError(
                f"{path} has the columns {', '.join(map(str, table.columns))}; it needs patient_id or study_uid "
                "(as the DICOM files bear them), and label"
            )
        known = Findings()
        check_columns(table.drop(columns=[k for k in ("study_uid",) if k in table.columns]), (), known)
        self.path = path
        self.findings = [replace(f, stage="import") for f in known if f.id == "unknown-column"]
        self._by_study: dict[str, Row] = {}
        self._by_patient: dict[str, Row] = {}
        for row in table.to_dict("records"):
            cells = {str(k): str(v).strip() for k, v in row.items()}
            uid, patient = cells.get("study_uid", ""), cells.get("patient_id", "")
            place, key = (self._by_study, uid) if uid else (self._by_patient, patient)
            if not key:
                raise UserError(
                    f"{path} has a row with neither patient_id nor study_uid; complete or remove it"
                )
            if key in place and place[key] != cells:
                raise UserError(f"{path} has two different rows for {key}; keep one")
            place[key] = cells
        self._used: set[str] = set()

    def row(self, study: DicomStudy, study_id: str, patient_id: str) -> Row | None:
        """What the table says of a study, by the ids of the files or by those of the cohort."""
        for place, keys in (
            (self._by_study, (study.study_uid, study_id)),
            (self._by_patient, (study.patient_id, patient_id)),
        ):
            for key in keys:
                if key in place:
                    self._used.add(key)
                    return place[key]
        return None

    def unmatched(self) -> list[str]:
        """Ids of the rows that fitted no study."""
        return [key for key in (*self._by_study, *self._by_patient) if key not in self._used]


def with_row(study: Study, row: Row, path: Path) -> Study:
    """The study with a row's values: label, site, times, agent and numbers; never paths or ids.

    Raises
    ------
    UserError
        A number that is none.
    """
    problems = Findings()
    told = {name: value for name, value in row.items() if name not in study.images}
    cells = {**told, "study_id": study.study_id, **dict.fromkeys(_PATHS, "")}
    said = read_study(cells, tuple(study.images), path.parent, problems)
    if problems:
        raise UserError("\n".join(f"{path.name}: {f.meaning}. {f.action}" for f in problems))
    label = said.label
    if label and label != NO_LESION:
        label = canonical_class(label) or label
    return replace(
        study,
        site=said.site or study.site,
        label=label or study.label,
        mask_phase=said.mask_phase or study.mask_phase,
        times_s={**study.times_s, **said.times_s},
        agent=said.agent or study.agent,
        acquisition={**study.acquisition, **said.acquisition},
    )


def label_findings(table: LabelTable, without: Sequence[str], shown: bool) -> list[Finding]:
    """Rows that fit no study and studies without row.

    Parameters
    ----------
    table : LabelTable
    without : sequence of str
        Ids (of the cohort) of the studies that no row is about.
    shown : bool
        Whether ids of the table may be named.
    """
    findings = list(table.findings)
    unmatched = table.unmatched()
    if unmatched:
        which = f": {', '.join(unmatched[:10])}{', ...' if len(unmatched) > 10 else ''}" if shown else ""
        findings.append(
            import_finding(
                "label-without-images",
                "warning",
                f"{len(unmatched)} row(s) of {table.path.name} fit no study{which}",
                "Compare patient_id and study_uid with those in the DICOM files (the mapping file lists them).",
            )
        )
    findings += [
        import_finding(
            "not-in-labels",
            "note",
            f"{table.path.name} has no row for this study",
            "Add a row with its patient_id or study_uid if its label is known.",
            study_id,
        )
        for study_id in without
    ]
    return findings
