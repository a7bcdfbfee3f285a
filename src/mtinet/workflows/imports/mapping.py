"""The table that tells who is who: pseudonyms beside the ids of the DICOM files, for their owner's eyes only."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mtinet import files
from mtinet.dicom.study import DicomStudy
from mtinet.errors import UserError


@dataclass(frozen=True)
class MappingRow:
    """A study in the table; the names of the attributes are its columns.

    Attributes
    ----------
    study_id, patient_id : str
        The pseudonyms.
    original_patient_id, patient_name, study_uid, study_date, accession : str
        As the files have them.
    """

    study_id: str
    patient_id: str
    original_patient_id: str
    patient_name: str
    study_uid: str
    study_date: str
    accession: str

    @classmethod
    def of(cls, study: DicomStudy, study_id: str, patient_id: str) -> MappingRow:
        """The row of a study under its pseudonyms."""
        return cls(
            study_id,
            patient_id,
            study.patient_id,
            study.patient_name,
            study.study_uid,
            study.study_date,
            study.accession,
        )


_COLUMNS = tuple(field.name for field in fields(MappingRow))


def mapping_beside(out: Path) -> Path:
    """Where the table lies by default: beside a folder, which can then be passed on without it."""
    folder = out if out.name else out.resolve()  # the folder that we are in has no name of its own
    return folder.parent / f"{folder.name}-mapping.csv"


def refuse_key_inside(out: Path, key: Path | None) -> None:
    """Refuse a key of the pseudonyms in the folder that they are to protect once it is given away.

    Raises
    ------
    UserError
    """
    if key is not None and key.resolve().is_relative_to(out.resolve()):
        raise UserError(
            f"{key} lies inside {out}, and whoever has both can try whose pseudonyms they are; give --key a place "
            "apart from it"
        )


def read_mapping(place: Path, repair: str) -> dict[str, MappingRow]:
    """The rows of a table by study; none where there is no such file.

    Parameters
    ----------
    place : Path
    repair : str
        What the user can do about a file of another kind.

    Raises
    ------
    UserError
        There is a file of another kind, which must not be written over.
    """
    if not place.exists():
        return {}
    try:
        with place.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
        # a row that is too long or cut short would be lost or changed
        whole = all(tuple(row) == _COLUMNS and None not in row.values() for row in rows)
        ours = whole and tuple(reader.fieldnames or ()) == _COLUMNS
    except (OSError, UnicodeDecodeError, csv.Error):
        ours = False
    if not ours:
        raise UserError(f"{place} is not a mapping as mtinet writes it, and would be overwritten; {repair}")
    return {row["study_id"]: MappingRow(**{k: files.from_cell(v) for k, v in row.items()}) for row in rows}


def write_mapping(place: Path, rows: Iterable[MappingRow]) -> None:
    """Write the table, for its owner only (mode 0600)."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda row: row.study_id):
        writer.writerow({k: files.as_cell(v) for k, v in asdict(row).items()})
    with files.atomic_path(place) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(text.getvalue(), encoding="utf-8")
        temporary.chmod(0o600)
