"""A cohort: its studies, what holds for all of them, and its folder on disk.

A cohort is a folder with ``cohort.csv`` (a row a study), ``cohort.yaml`` (what the columns mean) and
optionally ``lesions.csv``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import yaml

from mtinet import files
from mtinet.cohort.checks import structural_findings
from mtinet.cohort.findings import Findings
from mtinet.cohort.study import CohortError, Study
from mtinet.cohort.tables import (
    COHORT_FORMAT,
    SNOMED_CT,
    check_columns,
    read_classes,
    read_description,
    read_phases,
    read_study,
    read_table,
    study_row,
)
from mtinet.config import DEFAULT_PHASES, Phase
from mtinet.results import Finding


@dataclass(frozen=True)
class Cohort:
    """A set of studies and what holds for all of them.

    ``lesions`` is the table of ``lesions.csv`` (``study_id, lesion, label`` and, in virtual cohorts, each
    lesion's noise-free enhancement and kinetic truth); empty when there is none.  A study that names no ``agent``
    takes the cohort's.
    """

    name: str
    studies: tuple[Study, ...]
    classes: tuple[str, ...]
    phases: tuple[Phase, ...] = DEFAULT_PHASES
    agent: str = ""
    licence: str = ""
    codes: dict[str, str] = field(default_factory=dict)
    lesions: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)
    folder: Path | None = None

    def __post_init__(self) -> None:
        told = (study if study.agent else replace(study, agent=self.agent) for study in self.studies)
        object.__setattr__(self, "studies", tuple(told))

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, study_id: str) -> Study:
        for study in self.studies:
            if study.study_id == study_id:
                return study
        raise KeyError(f"cohort {self.name} has no study {study_id!r}")

    def subset(self, study_ids: list[str]) -> Cohort:
        """The named studies only, in the order given, with their lesions."""
        by_id = {study.study_id: study for study in self.studies}
        lesions = self.lesions
        if not lesions.empty:
            lesions = lesions[lesions["study_id"].isin(study_ids)].reset_index(drop=True)
        return replace(self, studies=tuple(by_id[study_id] for study_id in study_ids), lesions=lesions)

    def lesion_labels(self, study: Study) -> dict[int, str]:
        """Class by lesion number, from ``lesions.csv``; empty where it has no row there."""
        if self.lesions.empty:
            return {}
        rows = self.lesions[self.lesions["study_id"] == study.study_id]
        numbered = zip(rows["lesion"].astype(str), rows["label"].astype(str), strict=True)
        return {int(number): label for number, label in numbered if number.strip().isdecimal()}

    @property
    def virtual(self) -> bool:
        """Whether the patients were simulated: only then is the noise-free enhancement known."""
        return any(str(name).startswith("noise_free_") for name in self.lesions.columns)

    @property
    def hash(self) -> str:
        """Hash of the tables' content (ids, labels, file names, sizes); pixels and place do not count."""
        digest = hashlib.sha256()
        for study in sorted(self.studies, key=lambda s: s.study_id):
            digest.update(repr([study.study_id, study.patient_id, study.site, study.label]).encode())
            digest.update(repr([(c, p.name, _size(p)) for c, p in sorted(study.paths().items())]).encode())
        digest.update(repr([self.classes, self.phases]).encode())
        return digest.hexdigest()[:16]

    @classmethod
    def read(cls, folder: Path | str) -> Cohort:
        """Read a cohort folder.

        Raises
        ------
        CohortError
            The tables are missing or cannot be understood; every reason is listed.
        """
        cohort, findings = read_with_findings(folder)
        errors = [f for f in findings if f.severity == "error"]
        if cohort is None or errors:
            lines = "\n".join(f"- {f.case + ': ' if f.case else ''}{f.meaning}. {f.action}" for f in errors)
            raise CohortError(f"{folder} cannot be used:\n{lines}")
        return cohort

    def write(self, folder: Path | str) -> None:
        """Write the tables; paths inside ``folder`` are stored relative to it, and the cohort's agent once."""
        folder = Path(folder)
        own = (replace(study, agent="") if study.agent == self.agent else study for study in self.studies)
        rows = [study_row(study, self.phases, folder) for study in own]
        files.write_text(folder / "cohort.csv", pd.DataFrame(rows).to_csv(index=False))
        if not self.lesions.empty:
            files.write_text(folder / "lesions.csv", self.lesions.to_csv(index=False))
        description = {
            "format": COHORT_FORMAT,
            "name": self.name,
            "classes": {name: self.codes.get(name, SNOMED_CT.get(name, "")) for name in self.classes},
            "phases": list(self.phases),
            "agent": self.agent,
            "licence": self.licence,
        }
        files.write_text(
            folder / "cohort.yaml", yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
        )


def read_with_findings(folder: Path | str) -> tuple[Cohort | None, list[Finding]]:
    """Read a cohort and list everything that is wrong with its tables, with the repair.

    Returns
    -------
    cohort : Cohort or None
        None when there is nothing to read.
    findings : list of Finding
    """
    folder, findings = Path(folder), Findings()
    description = read_description(folder, findings)
    table = read_table(folder / "cohort.csv", findings)
    if description is None or table is None:
        return None, findings
    phases = read_phases(description.get("phases") or DEFAULT_PHASES, findings)
    classes, codes = read_classes(description.get("classes") or {}, findings)
    check_columns(table, phases, findings)

    studies = tuple(read_study(row, phases, folder, findings) for row in table.to_dict("records"))
    lesions = pd.DataFrame()
    if (folder / "lesions.csv").is_file():
        read = read_table(folder / "lesions.csv", findings, required=("study_id", "lesion", "label"))
        lesions = pd.DataFrame() if read is None else read
    cohort = Cohort(
        name=str(description.get("name") or folder.resolve().name),
        studies=studies,
        classes=classes,
        phases=phases,
        agent=str(description.get("agent") or ""),
        licence=str(description.get("licence") or ""),
        codes=codes,
        lesions=lesions,
        folder=folder,
    )
    findings += structural_findings(cohort)
    return cohort, findings


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
