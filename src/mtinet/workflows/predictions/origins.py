"""Where results of de-identified studies came from: the DICOM images again, found by the user's mapping file."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtinet.config import PHASES
from mtinet.dicom.origin import Origin
from mtinet.dicom.study import DicomStudy, read_studies
from mtinet.dicom.volumes import DicomVolume
from mtinet.errors import UnusableError, UserError
from mtinet.workflows.imports.dicom_phases import choose_phases
from mtinet.workflows.imports.writing import IMPORT_FILE


def origins_of_cohort(cohort: Path, images: Path, mapping: Path | None) -> dict[str, Origin]:
    """The instances that the studies of an imported cohort came from.

    Parameters
    ----------
    cohort : Path
        Made by ``mtinet import dicom``; its ``import.json`` tells the series of every phase.
    images : Path
        The DICOM files that were imported.
    mapping : Path or None
        The table from pseudonyms to originals that the import wrote beside the cohort; None = the ids are the
        original ones (``--keep-ids``).

    Returns
    -------
    dict
        By study of the cohort; studies whose images are not there are left out.

    Raises
    ------
    UserError
        A file is missing or is none of these, or no study is found.
    """
    told = _imported(cohort)
    imported: Mapping[str, Mapping[str, Any]] = told["studies"]
    if mapping is None and told.get("deidentified", True):
        raise UserError(
            f"the ids of {cohort} are pseudonyms: give --mapping, the table that mtinet import dicom wrote beside it"
        )
    uids = {study_id: study_id for study_id in imported} if mapping is None else _mapping(mapping)
    by_uid = {study.study_uid: study for study in read_studies(images)[0]}
    found: dict[str, Origin] = {}
    for study_id, entry in imported.items():
        study = by_uid.get(uids.get(study_id, ""))
        if study is None:
            continue
        volumes = {
            phase: volume
            for phase in PHASES
            if (one := entry.get("phases", {}).get(phase)) and (volume := _volume(study, one)) is not None
        }
        found[study_id] = Origin(volumes)
    if not found:
        raise UnusableError(
            f"no study of {cohort} was found in {images} by {mapping or 'its ids'}; give the images"
            f"{' and the mapping file' if mapping else ''} of the import that made this cohort"
        )
    return found


def origin_of_images(images: Path) -> Origin:
    """The instances of the one study in a folder or zip, its phases identified.

    Raises
    ------
    UserError
        There is no study with phases, or there are several.
    """
    studies, _ = read_studies(images)
    if len(studies) != 1:
        raise UnusableError(
            f"{images} holds {len(studies)} DICOM studies; give the one that the result is of"
        )
    chosen = choose_phases(studies[0], None).chosen
    return Origin({phase: choice.volume for phase, choice in chosen.items()})


def _mapping(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return {row["study_id"]: row["study_uid"] for row in csv.DictReader(lines)}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        raise UserError(
            f"{path} is no mapping file; give the table that mtinet import dicom wrote beside the cohort"
        ) from None


def _imported(cohort: Path) -> Mapping[str, Any]:
    path = cohort / IMPORT_FILE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {**told, "studies": dict(told["studies"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{cohort} has no usable {IMPORT_FILE}: it was not imported from DICOM, so its results cannot refer to "
            "DICOM images"
        ) from None


def _volume(study: DicomStudy, told: Mapping[str, Any]) -> DicomVolume | None:
    """The volume that an import took: by its series' UID where ids were kept, else by its number."""
    uid, number, index = str(told["series_uid"]), str(told["series"]), int(told["volume"])
    series = [s for s in study.series if s.info.series_uid == uid] or [
        s for s in study.series if s.info.series_number == number
    ]
    fitting = [s.volumes[index] for s in series if index < len(s.volumes)]
    # a number may repeat in a study: a guess could refer to the wrong images
    return fitting[0] if len(fitting) == 1 else None
