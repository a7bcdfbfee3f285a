"""Whose results those of DICOM studies are: told in the table beside them, and nowhere among them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mtinet.dicom.deidentify import is_pseudonym
from mtinet.errors import UserError
from mtinet.workflows.imports.mapping import MappingRow, mapping_beside, read_mapping, write_mapping
from mtinet.workflows.imports.scrubbing import REMOVED, Scrubber
from mtinet.workflows.predictions.dicom_jobs import DicomJob, RefusedJob
from mtinet.workflows.predictions.jobs import Job
from mtinet.workflows.predictions.nifti_jobs import NiftiJob

_PATH = re.compile(r"""'[^']*[/\\][^']*'|"[^"]*[/\\][^"]*"|\S*[/\\]\S*""")


@dataclass(frozen=True)
class WhoIsWho:
    """The table beside a folder of results; rows of earlier predictions into that folder stay."""

    place: Path
    rows: tuple[MappingRow, ...]

    def write(self) -> None:
        """Write it."""
        write_mapping(self.place, self.rows)


def who_is_who(out: Path, jobs: Iterable[Job]) -> WhoIsWho | None:
    """The table for the studies that are predicted into ``out``; None where none of them is of DICOM.

    Raises
    ------
    UserError
        There is a file of another kind, or the studies went by other pseudonyms before: each would lie there
        twice.
    """
    told = [row for job in jobs for row in _rows(job)]
    if not told:
        return None
    place = mapping_beside(out)
    rows = read_mapping(place, f"move it away, or give another folder than {out} with -o")
    before = {(row.study_uid, row.original_patient_id): row.study_id for row in rows.values()}
    for row in told:
        named = before.get((row.study_uid, row.original_patient_id), row.study_id)
        if named != row.study_id:
            raise UserError(
                f"{place} calls a study {named} that is {row.study_id} now: the key of the pseudonyms is another one, "
                f"and {out} would hold the study twice; give the key file of before with --key, or another folder "
                "with -o"
            )
    return WhoIsWho(place, tuple({**rows, **{row.study_id: row for row in told}}.values()))


def other_key(*study_ids: str) -> str:
    """What an error about studies adds where they may be one under two keys; empty where an id is no pseudonym."""
    if not all(map(is_pseudonym, study_ids)):
        return ""
    return ". If it is the same study, the key of its pseudonym is another one: give the key file of before with --key"


def without_identity(job: Job, text: str) -> str:
    """A text about a study as it may be stored: of DICOM without names, ids, dates and paths, which may hold them."""
    if isinstance(job, NiftiJob) and job.origin is not None:
        # the DICOM files of a cohort's study are at hand, what scrubs their words is not: the error's type alone
        return text.partition(":")[0]
    if not isinstance(job, DicomJob):
        return text
    scrub = Scrubber.of(job.study, job.study_id, job.patient_id, job.series_ids, job.others)
    return scrub.text(_PATH.sub(REMOVED, text))


def _rows(job: Job) -> list[MappingRow]:
    if isinstance(job, DicomJob):
        return [MappingRow.of(job.study, job.study_id, job.patient_id)]
    if isinstance(job, RefusedJob) and job.studies:
        # the study that is filed under several patients has no pseudonym of one, and is to be found again
        row = MappingRow.of(job.studies[0], job.study_id, "")
        ids, names = ({getattr(s, n): None for s in job.studies} for n in ("patient_id", "patient_name"))
        return [replace(row, original_patient_id="; ".join(ids), patient_name="; ".join(names))]
    return []
