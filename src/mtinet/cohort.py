"""Studies and cohorts: their tables on disk and the checks that need no pixels.

A cohort is a folder with ``cohort.csv`` (a row a study), ``cohort.yaml`` (what the columns mean) and
optionally ``lesions.csv``.  Ids, sites and classes are text: ``007`` and ``NO`` survive.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
import yaml

from mtinet import files
from mtinet.config import DEFAULT_PHASES, PHASES, Phase
from mtinet.errors import UnusableError
from mtinet.results import Finding, Severity

COHORT_FORMAT = 1
"""Version of the cohort's tables; readers refuse a newer one."""

NO_LESION = "none"
"""The label of a study without lesion."""

SNOMED_CT: dict[str, str] = {
    "hemangioma": "400210000",
    "hcc": "25370001",
    "fnh": "427029008",
    "metastasis": "94381002",
    "icc": "109842005",
    "cyst": "85057007",
    "abscess": "27916005",
}
"""Canonical classes with the SNOMED CT code of each."""

ACQUISITION = ("dose_mmol_kg", "field_T", "tr_ms", "te_ms", "flip_deg", "study_day")
_TEXT = (
    "study_id",
    "patient_id",
    "site",
    "label",
    "mask",
    "mask_phase",
    "liver_mask",
    "mask_2",
    "agent",
    "prior_study_id",
)


class CohortError(UnusableError):
    """A cohort cannot be used; the message lists every reason with its repair."""


@dataclass(frozen=True)
class Study:
    """One study of a patient: an image a phase, and what is known about it.

    Attributes
    ----------
    study_id, patient_id, site : str
    label : str
        Class of the dominant lesion, ``none`` for a study without lesion, empty for unknown.
    images : dict
        Path by phase; a phase that the study lacks is left out.
    mask : Path or None
        Lesion numbers 1..K; None = not segmented.
    mask_phase : str
        Phase on whose grid ``mask`` was drawn; empty = the reference phase.
    liver_mask, mask_2 : Path or None
        Liver, and the second reader's lesions.
    times_s : dict
        Seconds from the start of injection to the centre of k-space, by phase; unknown ones are left out.
    agent : str
        Contrast agent; empty = the cohort's default.
    acquisition : dict
        ``dose_mmol_kg, field_T, tr_ms, te_ms, flip_deg, study_day`` where known.
    prior_study_id : str
    """

    study_id: str
    images: dict[Phase, Path]
    patient_id: str = ""
    site: str = ""
    label: str = ""
    mask: Path | None = None
    mask_phase: str = ""
    liver_mask: Path | None = None
    mask_2: Path | None = None
    times_s: dict[Phase, float] = field(default_factory=dict)
    agent: str = ""
    acquisition: dict[str, float] = field(default_factory=dict)
    prior_study_id: str = ""

    def __post_init__(self) -> None:
        if not self.patient_id:
            object.__setattr__(self, "patient_id", self.study_id)

    @property
    def reference_phase(self) -> Phase:
        """Phase whose grid the masks and results lie on: portal venous, or the next best present."""
        order: tuple[Phase, ...] = ("portal_venous", "delayed", "arterial", "pre", *PHASES)
        for phase in order:
            if phase in self.images:
                return phase
        raise CohortError(f"study {self.study_id} has no image of any phase; add one or remove the row")

    def paths(self) -> dict[str, Path]:
        """Every file of the study by its column."""
        named: dict[str, Path | None] = {
            **{str(phase): path for phase, path in self.images.items()},
            "mask": self.mask,
            "liver_mask": self.liver_mask,
            "mask_2": self.mask_2,
        }
        return {column: path for column, path in named.items() if path is not None}

    @classmethod
    def from_folder(cls, folder: Path) -> Study:
        """A study from a folder that holds ``<phase>.nii.gz`` (or ``.nii``) files, some absent.

        ``mask``, ``liver_mask`` and ``mask_2`` are taken when they lie beside them.
        """
        if not folder.is_dir():
            raise CohortError(f"{folder} is not a folder; give a folder with <phase>.nii.gz files")

        def find(name: str) -> Path | None:
            return next((p for s in (".nii.gz", ".nii") if (p := folder / (name + s)).is_file()), None)

        images = {phase: path for phase in PHASES if (path := find(phase)) is not None}
        if not images:
            raise CohortError(
                f"{folder} holds no <phase>.nii.gz; name the images {', '.join(DEFAULT_PHASES)}"
            )
        name = folder.resolve().name
        return cls(name, images, mask=find("mask"), liver_mask=find("liver_mask"), mask_2=find("mask_2"))


@dataclass(frozen=True)
class Cohort:
    """A set of studies and what holds for all of them.

    ``lesions`` is the table of ``lesions.csv`` (``study_id, lesion, label`` and, in virtual cohorts, each
    lesion's noise-free enhancement and kinetic truth); empty when there is none.
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

    def __len__(self) -> int:
        return len(self.studies)

    def __getitem__(self, study_id: str) -> Study:
        for study in self.studies:
            if study.study_id == study_id:
                return study
        raise KeyError(f"cohort {self.name} has no study {study_id!r}")

    def subset(self, study_ids: list[str]) -> Cohort:
        """The named studies only, in the order given."""
        by_id = {study.study_id: study for study in self.studies}
        return replace(self, studies=tuple(by_id[study_id] for study_id in study_ids))

    def lesion_labels(self, study: Study) -> dict[int, str]:
        """Class by lesion number, from ``lesions.csv``; empty where it has no row there."""
        if self.lesions.empty:
            return {}
        rows = self.lesions[self.lesions["study_id"] == study.study_id]
        numbered = zip(rows["lesion"].astype(str), rows["label"].astype(str), strict=True)
        return {int(number): label for number, label in numbered if number.strip().isdigit()}

    @property
    def hash(self) -> str:
        """Hash of the tables' content (ids, labels, file names, sizes); pixels and place do not count."""
        digest = hashlib.sha256()
        for study in sorted(self.studies, key=lambda s: s.study_id):
            digest.update(repr([study.study_id, study.patient_id, study.site, study.label]).encode())
            digest.update(repr([(c, p.name, _size(p)) for c, p in sorted(study.paths().items())]).encode())
        digest.update(repr([self.classes, self.phases]).encode())
        return digest.hexdigest()[:16]

    # ------------------------------------------------------------------ disk
    @classmethod
    def read(cls, folder: Path) -> Cohort:
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

    def write(self, folder: Path) -> None:
        """Write the tables; paths inside ``folder`` are stored relative to it."""
        rows = []
        for study in self.studies:
            row: dict[str, Any] = {
                "study_id": study.study_id,
                "patient_id": study.patient_id,
                "site": study.site,
                "label": study.label,
                **{phase: _stored(study.images.get(phase), folder) for phase in self.phases},
                "mask": _stored(study.mask, folder),
                "mask_phase": study.mask_phase,
                "liver_mask": _stored(study.liver_mask, folder),
                "mask_2": _stored(study.mask_2, folder),
                **{f"time_{phase}_s": study.times_s.get(phase, "") for phase in self.phases},
                "agent": study.agent,
                **{name: study.acquisition.get(name, "") for name in ACQUISITION},
                "prior_study_id": study.prior_study_id,
            }
            rows.append(row)
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


def read_with_findings(folder: Path) -> tuple[Cohort | None, list[Finding]]:
    """Read a cohort and list everything that is wrong with its tables, with the repair.

    Returns
    -------
    cohort : Cohort or None
        None when there is nothing to read.
    findings : list of Finding
    """
    findings: list[Finding] = []

    def add(id: str, severity: Severity, meaning: str, action: str, case: str = "") -> None:
        findings.append(Finding(id, "cohort", severity, meaning, action, case))

    description = _read_description(folder, add)
    table = _read_table(folder / "cohort.csv", add)
    if description is None or table is None:
        return None, findings
    phases = cast("tuple[Phase, ...]", tuple(description.get("phases") or DEFAULT_PHASES))
    for phase in set(phases) - set(PHASES):
        add(
            "unknown-phase", "error", f"cohort.yaml lists the phase {phase!r}", f"Valid: {', '.join(PHASES)}."
        )
    classes, codes = _read_classes(description.get("classes") or {}, add)

    known = {*_TEXT, *PHASES, *(f"time_{p}_s" for p in PHASES), *ACQUISITION}
    for column in [c for c in table.columns if c not in known]:
        add(
            "unknown-column",
            "note",
            f"column {column!r} of cohort.csv is not used",
            "Correct its name or ignore this.",
        )
    for phase in [p for p in PHASES if p in table.columns and p not in phases]:
        add(
            "unlisted-phase",
            "warning",
            f"column {phase!r} is not among the phases of cohort.yaml and is not read",
            "List it under phases in cohort.yaml.",
        )

    studies = tuple(_read_study(row, phases, folder, add) for row in table.to_dict("records"))
    lesions = pd.DataFrame()
    if (folder / "lesions.csv").is_file():
        read = _read_table(folder / "lesions.csv", add, required=("study_id", "lesion", "label"))
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


def structural_findings(cohort: Cohort) -> list[Finding]:
    """Everything wrong with a cohort that shows without reading pixels."""
    findings: list[Finding] = []

    def add(id: str, severity: Severity, meaning: str, action: str, case: str = "") -> None:
        findings.append(Finding(id, "cohort", severity, meaning, action, case))

    if not cohort.studies:
        add("no-studies", "error", "the cohort has no study", "Add a row a study to cohort.csv.")
    rows: dict[str, list[Study]] = {}
    for study in cohort.studies:
        rows.setdefault(study.study_id, []).append(study)
    for study_id, same in rows.items():
        if not study_id:
            add("empty-id", "error", "a row has no study_id", "Give every study an id of its own.")
        elif len(labels := sorted({s.label for s in same})) > 1:
            add(
                "two-labels",
                "error",
                f"the study has {len(same)} rows with the labels {', '.join(map(repr, labels))}",
                "Keep one row with the label of the dominant lesion.",
                study_id,
            )
        elif len(same) > 1:
            add(
                "duplicate-study",
                "error",
                f"the study has {len(same)} rows",
                "Keep one row a study.",
                study_id,
            )
    users = {(path.resolve(), s.study_id) for s in cohort.studies for path in s.images.values()}
    used = Counter(path for path, _ in users)
    for study in cohort.studies:
        _study_findings(study, cohort, used, add)
    _lesion_findings(cohort, add)
    labelled = {s.label for s in cohort.studies if s.label and s.label != NO_LESION}
    if cohort.studies and len(labelled) < 2:
        add(
            "one-class",
            "warning",
            f"the labelled studies hold {len(labelled)} class(es)",
            "Classification cannot be learned; add studies of another class, "
            "or expect segmentation and enhancement only.",
        )
    return findings


def _study_findings(study: Study, cohort: Cohort, used: Counter[Path], add: Callable[..., None]) -> None:
    case = study.study_id
    valid = (*cohort.classes, NO_LESION)
    if study.label and study.label not in valid:
        add(
            "unknown-class",
            "error",
            f"label {study.label!r} is not a class of this cohort",
            f"Valid: {', '.join(valid)}; correct the label or add the class to cohort.yaml.",
            case,
        )
    if not study.images:
        add(
            "no-images", "error", "the study has no image of any phase", "Add a path or remove the row.", case
        )
        return
    missing = [phase for phase in cohort.phases if phase not in study.images]
    if missing:
        add(
            "missing-phase",
            "note",
            f"the study lacks {', '.join(missing)}",
            "Nothing to do if it was not acquired; training and prediction go on without it.",
            case,
        )
    if "pre" in cohort.phases and "pre" not in study.images:
        add(
            "no-pre",
            "warning",
            "without a pre phase there is no relative enhancement",
            "Add the unenhanced images if they exist.",
            case,
        )
    for column, path in study.paths().items():
        if not path.is_file():
            add(
                "missing-file",
                "error",
                f"{column} points to {path}, which does not exist",
                "Correct the path, or empty the cell if the phase is missing.",
                case,
            )
    paths = Counter(path.resolve() for path in study.images.values())
    for path, count in paths.items():
        if count > 1:
            names = ", ".join(p for p, q in study.images.items() if q.resolve() == path)
            add(
                "duplicate-phase",
                "error",
                f"{names} are the same file {path.name}",
                "Give each phase its own file.",
                case,
            )
        elif used[path] > 1:
            add(
                "shared-file",
                "error",
                f"{path.name} is used by more than one study",
                "Give each study its own files.",
                case,
            )
    if study.mask_phase and study.mask_phase not in study.images:
        add(
            "mask-phase",
            "error",
            f"mask_phase {study.mask_phase!r} is not a phase of this study",
            f"Valid: {', '.join(study.images)}.",
            case,
        )
    times = [study.times_s[p] for p in PHASES if p in study.times_s]
    if times != sorted(times):
        add(
            "times-order",
            "error",
            "the phase times do not rise in the order of the phases",
            "Correct the time columns, or exchange the phases' files.",
            case,
        )
    if study.mask is None:
        add(
            "no-mask",
            "note",
            "the study has no lesion mask",
            "It trains the other tasks and is not scored on Dice.",
            case,
        )
    if not study.label:
        add(
            "no-label",
            "note",
            "the study has no label",
            "It trains the other tasks and is not scored on class.",
            case,
        )


def _lesion_findings(cohort: Cohort, add: Callable[..., None]) -> None:
    """Rows of ``lesions.csv`` that fit no study, are not numbered, or come twice."""
    if cohort.lesions.empty:
        return
    known = {study.study_id for study in cohort.studies}
    seen: set[tuple[str, str]] = set()
    numbers = cohort.lesions["lesion"].astype(str)
    for study_id, lesion in zip(cohort.lesions["study_id"], numbers, strict=True):
        if study_id not in known:
            add(
                "unknown-study",
                "error",
                "lesions.csv has a row for a study that cohort.csv lacks",
                "Correct the study_id or remove the row.",
                study_id,
            )
        elif not lesion.strip().isdigit():
            add(
                "lesion-number",
                "error",
                f"lesions.csv calls a lesion {lesion!r}",
                "Write the lesion's number in the mask.",
                study_id,
            )
        elif (study_id, lesion) in seen:
            add(
                "duplicate-lesion",
                "error",
                f"lesions.csv has more than one row for lesion {lesion}",
                "Keep one row a lesion.",
                study_id,
            )
        seen.add((study_id, lesion))


# ---------------------------------------------------------------------- reading
def _read_description(folder: Path, add: Callable[..., None]) -> dict[str, Any] | None:
    path = folder / "cohort.yaml"
    if not path.is_file():
        add(
            "no-description",
            "error",
            f"{path} does not exist",
            "Write name, classes and phases into it (docs/cohort.md).",
        )
        return None
    try:
        # BaseLoader keeps every scalar as text: an id 007 or a class NO must survive
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506
    except yaml.YAMLError as error:
        add("bad-description", "error", f"cohort.yaml is not YAML: {error}", "Correct it.")
        return None
    if not isinstance(loaded, dict):
        add(
            "bad-description",
            "error",
            "cohort.yaml holds no names",
            "Write name, classes and phases (docs/cohort.md).",
        )
        return None
    if int(loaded.get("format") or 1) > COHORT_FORMAT:
        add(
            "newer-format",
            "error",
            f"cohort format {loaded['format']} is newer than this mtinet reads ({COHORT_FORMAT})",
            "Update mtinet.",
        )
        return None
    return loaded


def _read_classes(given: Any, add: Callable[..., None]) -> tuple[tuple[str, ...], dict[str, str]]:
    if isinstance(given, Mapping):
        codes = {str(name): str(code or "") for name, code in given.items()}
    else:
        codes = {str(name): SNOMED_CT.get(str(name), "") for name in given}
    if not codes:
        add(
            "no-classes",
            "error",
            "cohort.yaml lists no classes",
            "List them, for example classes: [hemangioma, hcc].",
        )
    for name, code in codes.items():
        if not code:
            add(
                "no-code",
                "note",
                f"class {name!r} has no SNOMED CT code",
                "Write it as 'name: code' to export DICOM.",
            )
    return tuple(codes), {name: code for name, code in codes.items() if code}


def _read_table(
    path: Path, add: Callable[..., None], required: tuple[str, ...] = ("study_id",)
) -> pd.DataFrame | None:
    if not path.is_file():
        add("no-table", "error", f"{path} does not exist", "Write a row a study into it (docs/cohort.md).")
        return None
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        add(
            "bad-table",
            "error",
            f"{path.name} is not a CSV table in UTF-8: {error}",
            "Save it again as CSV (UTF-8).",
        )
        return None
    absent = [column for column in required if column not in table.columns]
    if absent:
        add("no-column", "error", f"{path.name} lacks the column {', '.join(absent)}", "Add it.")
        return None
    return table


def _read_study(
    row: Mapping[Any, str], phases: tuple[Phase, ...], folder: Path, add: Callable[..., None]
) -> Study:
    case = row["study_id"]

    def number(column: str) -> float | None:
        text = row.get(column, "").strip()
        try:
            value = float(text) if text else None
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            add(
                "not-a-number",
                "error",
                f"{column} is {text!r}",
                "Write a number or leave the cell empty.",
                case,
            )
            return None
        return value

    def path(column: str) -> Path | None:
        text = row.get(column, "").strip()
        return folder / text if text else None

    return Study(
        study_id=case,
        patient_id=row.get("patient_id", ""),
        site=row.get("site", ""),
        label=row.get("label", ""),
        images={phase: found for phase in phases if (found := path(phase)) is not None},
        mask=path("mask"),
        mask_phase=row.get("mask_phase", ""),
        liver_mask=path("liver_mask"),
        mask_2=path("mask_2"),
        times_s={phase: value for phase in phases if (value := number(f"time_{phase}_s")) is not None},
        agent=row.get("agent", ""),
        acquisition={name: value for name in ACQUISITION if (value := number(name)) is not None},
        prior_study_id=row.get("prior_study_id", ""),
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _stored(path: Path | None, folder: Path) -> str:
    if path is None:
        return ""
    absolute, base = path.absolute(), folder.absolute()
    return absolute.relative_to(base).as_posix() if absolute.is_relative_to(base) else str(absolute)
