"""Whether a patient id is one person's: what the studies under it say of the person, compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import combinations

from mtinet.dicom.study import DicomStudy
from mtinet.results import Finding
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.scrubbing import spellings

_NAMED = 10
"""Studies that a finding names at most."""

_NOBODY = frozenset(
    ("anonym", "anonymized", "anonymised", "anonymous", "none", "noname", "removed", "unknown")
)
"""What stands in place of a name that was taken out."""


_WHERE = "PatientID in the files (an import also takes patient_id beside study_uid in labels.csv) and read them again"


def person_findings(studies: Sequence[tuple[DicomStudy, str, str]]) -> list[Finding]:
    """Patients who may be several persons, and studies without a patient id, which may be one person's.

    Parameters
    ----------
    studies : sequence of (DicomStudy, str, str)
        Each with the ids by which it and its patient are called in what is written: findings hold no others.

    Returns
    -------
    list of Finding
    """
    by_patient: dict[str, list[tuple[DicomStudy, str]]] = {}
    for study, study_id, patient_id in studies:
        by_patient.setdefault(patient_id, []).append((study, study_id))
    # a patient without an id is called by the study
    unknown = [
        study_id
        for study, study_id, patient_id in studies
        if patient_id == study_id and not study.patient_id.strip()
    ]
    findings = [
        import_finding(
            "patient-of-several-persons",
            "warning",
            f"{len(members)} studies are filed under one patient id ({patient_id}), and differ in the "
            f"patient's {' and '.join(differing)}: {_some([study_id for _, study_id in members])}",
            f"Find out whose they are. If they are of several persons, correct {_WHERE}: now all count as one patient.",
        )
        for patient_id, members in by_patient.items()
        if (differing := _differences([study for study, _ in members]))
    ]
    if unknown and len(studies) > 1:
        findings.append(
            import_finding(
                "no-patient-id",
                "warning",
                f"{len(unknown)} of {len(studies)} studies have no patient id, and each counts as a patient of its "
                f"own: {_some(unknown)}",
                f"Where some are of one person, give {_WHERE}: otherwise models may be trained and tested on the same "
                "person.",
            )
        )
    return findings


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")


def _differences(studies: Sequence[DicomStudy]) -> list[str]:
    """Of what two studies of one id say something else; only what cannot be a matter of writing."""
    born = {day for s in studies if re.fullmatch(r"\d{8}", day := s.birth_date.replace(".", ""))}
    sexes = {sex for s in studies if (sex := s.sex.strip().upper()) in ("F", "M")}
    names = dict.fromkeys(s.patient_name for s in studies)
    told = {
        "name": any(_are_apart(one, other) for one, other in combinations(names, 2)),
        "date of birth": len(born) > 1,
        "sex": len(sexes) > 1,
    }
    return [what for what, differs in told.items() if differs]


def _are_apart(one: str, other: str) -> bool:
    """Whether no piece of either family name is in the other name, in a script in which both are written."""
    families = _pieces(one, family=True), _pieces(other, family=True)
    whole = _pieces(one), _pieces(other)
    if not any(families[0].get(script) and families[1].get(script) for script in families[0]):
        return False
    # names are compared with all parts of each other, for some are written the other way round
    alike = [*_pairs(families[0], whole[1]), *_pairs(whole[0], families[1])]
    return not any(mine & theirs for mine, theirs in alike)


def _pairs(one: dict[str, set[str]], other: dict[str, set[str]]) -> list[tuple[set[str], set[str]]]:
    return [(pieces, other[script]) for script, pieces in one.items() if script in other]


def _pieces(name: str, family: bool = False) -> dict[str, set[str]]:
    """The pieces of a DICOM name in every spelling, by the script that they are written in."""
    found: dict[str, set[str]] = {}
    for representation in name.split("="):
        text = representation.split("^")[0] if family else representation
        for piece in re.split(r"[\W\d_]+", unicodedata.normalize("NFC", text)):
            if piece and piece.lower() not in _NOBODY:
                script = unicodedata.name(piece[0], "").split(" ")[0]
                found.setdefault(script, set()).update(spellings(piece))
    return found
