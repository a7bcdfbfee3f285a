"""``labels.csv`` beside DICOM files: rows found by the ids that the files bear."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from mtinet.dicom.study import DicomStudy
from mtinet.errors import UserError
from mtinet.results import Finding
from mtinet.workflows.imports.dicom_loading import StudyJob
from mtinet.workflows.imports.labels import column_findings, label_rows
from mtinet.workflows.imports.screening import import_finding

_KEYS = ("patient_id", "study_uid", "study_id")

Row = Mapping[str, str]


class LabelTable:
    """The rows of a ``labels.csv`` and which of them were used.

    A row with a ``study_uid`` or ``study_id`` is about that study, and its ``patient_id`` says whose it is; one
    with a ``patient_id`` alone is about every study of that patient that has no row of its own.

    Raises
    ------
    UserError
        The table cannot be read, names neither patients nor studies, or contradicts itself.
    """

    def __init__(self, path: Path) -> None:
        rows = label_rows(path, _KEYS)
        self.path = path
        self.findings = column_findings(rows, path, _KEYS)
        self._by_study: dict[str, Row] = {}
        self._by_patient: dict[str, Row] = {}
        for cells in rows:
            study = cells.get("study_uid") or cells.get("study_id", "")
            patient = cells.get("patient_id", "")
            place, key = (self._by_study, study) if study else (self._by_patient, patient)
            if not key:
                raise UserError(f"{path} has a row with neither {' nor '.join(_KEYS)}; complete or remove it")
            if key in place and place[key] != cells:
                raise UserError(f"{path} has two different rows for {key}; keep one")
            place[key] = cells
        self._used: set[str] = set()
        self._given: list[str] = []

    def other_patient(self, key: str, study_id: str, known: Collection[str]) -> str:
        """The patient id that a study's own row gives where it is none of those known; else empty."""
        row = self._by_study.get(key) or self._by_study.get(study_id) or {}
        told = row.get("patient_id", "")
        if not told or told in known:
            return ""
        self._given.append(study_id)
        return told

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

    def refuse_foreign(self, jobs: Sequence[StudyJob]) -> None:
        """Refuse a table that is about none of the studies.

        Raises
        ------
        UserError
        """
        if not any(self.row(job.study, job.study_id, job.patient_id) for job in jobs):
            raise UserError(
                f"no row of {self.path} is about a study that was found: the table names "
                f"{_some(key for key in (*self._by_study, *self._by_patient))}, the files are of patients "
                f"{_some(job.study.patient_id for job in jobs)} (or their pseudonyms); correct the ids in the table"
            )

    def unmatched(self) -> list[str]:
        """Ids of the rows that fitted no study."""
        return [key for key in (*self._by_study, *self._by_patient) if key not in self._used]

    def patient_findings(self) -> list[Finding]:
        """Studies whose patient id is the table's."""
        if not self._given:
            return []
        return [
            import_finding(
                "patient-from-labels",
                "note",
                f"{len(self._given)} studies count to the patient that {self.path.name} gives, who is another than in "
                f"their files: {_some(self._given)}",
                "Nothing to do, or correct patient_id in the rows of these studies.",
            )
        ]


def _some(names: Iterable[str]) -> str:
    """The first few of some names."""
    each = list(dict.fromkeys(names))
    return ", ".join(each[:5]) + (", ..." if len(each) > 5 else "")


def label_findings(table: LabelTable, without: Sequence[str]) -> list[Finding]:
    """Columns that are not used, rows that fit no study and studies without row.

    Parameters
    ----------
    table : LabelTable
    without : sequence of str
        Ids (of the cohort) of the studies that no row is about.
    """
    findings = [*table.findings, *table.patient_findings()]
    unmatched = table.unmatched()
    if unmatched:
        findings.append(
            import_finding(
                "label-without-images",
                "warning",
                f"{len(unmatched)} row(s) of {table.path.name} fit no study: {_some(unmatched)}",
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
