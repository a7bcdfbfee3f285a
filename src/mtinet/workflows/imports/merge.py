"""Several cohorts as one: sites and patients apart, classes and agents in one language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mtinet.cohort import NO_LESION, Cohort, Study
from mtinet.config import PHASES
from mtinet.dicom.deidentify import is_pseudonym
from mtinet.errors import UserError
from mtinet.results import UNNAMED, Finding
from mtinet.workflows.imports.inclusion import Inclusion
from mtinet.workflows.imports.labels import canonical_class, classes_of
from mtinet.workflows.imports.phase_names import parse_assignments
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.writing import (
    ImportOptions,
    ImportOutcome,
    refuse_occupied,
    write_import,
)


def merge_cohorts(
    sources: Sequence[Path],
    out: Path,
    *,
    classes: Sequence[str] = (),
    name: str = "",
    options: ImportOptions | None = None,
) -> ImportOutcome:
    """Merge cohorts into one; their images stay where they are unless ``options.copy``.

    A study, patient or site whose name two cohorts share is kept apart: the cohort's name goes in front.  A
    pseudonym that two share is one patient, for only the same id under the same key gives it.
    Names of one class (``HCC`` and ``hcc``) are refused unless mapped.

    Parameters
    ----------
    sources : sequence of Path
        Two cohort folders or more.
    out : Path
    classes : sequence of str
        ``NAME=CLASS`` for classes that two cohorts call differently.
    name : str
        Name of the merged cohort; by default the names joined.
    options : ImportOptions, optional

    Raises
    ------
    UserError
        A cohort cannot be read, classes or codes contradict each other, or the same images come twice.
    """
    if len(sources) < 2:
        raise UserError("give at least two cohorts to merge")
    refuse_occupied(out)
    mapping = parse_assignments(classes, "--class")
    cohorts = [Cohort.read(folder) for folder in sources]
    names = _names(cohorts, sources)
    _refuse_unknown(mapping, cohorts)
    cohorts = [_renamed(cohort, mapping) for cohort in cohorts]
    codes = _codes(cohorts)
    found: list[Finding] = []
    study_ids = _apart(cohorts, names, "study_id", found)
    patients = _apart(cohorts, names, "patient_id", found)
    sites = _apart(cohorts, names, "site", found)
    studies: list[Study] = []
    tables = []
    for index, cohort in enumerate(cohorts):
        for study in cohort.studies:
            prior = study.prior_study_id
            studies.append(
                replace(
                    study,
                    study_id=study_ids[index, study.study_id],
                    patient_id=patients[index, study.patient_id],
                    site=sites[index, study.site],
                    prior_study_id=study_ids.get((index, prior), prior),
                )
            )
        if not cohort.lesions.empty:
            ids = [study_ids[index, study_id] for study_id in cohort.lesions["study_id"]]
            tables.append(cohort.lesions.assign(study_id=ids))
    agents = {study.agent for study in studies}
    common = agents.pop() if len(agents) == 1 else ""
    merged = Cohort(
        name or " + ".join(names),
        tuple(studies),
        classes_of([c for cohort in cohorts if not _unnamed(cohort) for c in cohort.classes]),
        phases=tuple(p for p in PHASES if any(p in cohort.phases for cohort in cohorts)),
        agent=common,
        licence="; ".join(f"{n}: {c.licence}" for n, c in zip(names, cohorts) if c.licence),
        codes=codes,
        lesions=pd.concat(tables, ignore_index=True).fillna("") if tables else pd.DataFrame(),
    )
    inclusion = Inclusion((s.study_id for s in studies), f"studies in {len(cohorts)} cohorts")
    return write_import(out, merged, inclusion, found, options or ImportOptions())


def _unnamed(cohort: Cohort) -> bool:
    """Whether the class of a cohort is there because a cohort has one, and no lesion has it."""
    labels = [study.label for study in cohort.studies]
    if not cohort.lesions.empty:
        labels += list(cohort.lesions["label"])
    return cohort.classes == UNNAMED and UNNAMED[0] not in labels


def _names(cohorts: Sequence[Cohort], sources: Sequence[Path]) -> list[str]:
    """A name for each cohort that can stand before an id; the folder's where two are called alike."""
    names = [cohort.name for cohort in cohorts]
    if len(set(names)) < len(names):
        names = [source.resolve().name for source in sources]
    if len(set(names)) < len(names):
        raise UserError(
            f"the cohorts are all called {', '.join(sorted(set(names)))}; name each in its cohort.yaml"
        )
    return ["".join("-" if c in "/\\\0" else c for c in name).lstrip(".") for name in names]


def _refuse_unknown(mapping: dict[str, str], cohorts: Sequence[Cohort]) -> None:
    known = {name for cohort in cohorts for name in cohort.classes}
    for name in mapping:
        if name not in known:
            raise UserError(f"--class {name}: no cohort has this class; found: {', '.join(sorted(known))}")


def _renamed(cohort: Cohort, mapping: dict[str, str]) -> Cohort:
    """The cohort with its classes called as the user says."""
    if not mapping:
        return cohort
    lesions = cohort.lesions
    if not lesions.empty:
        lesions = lesions.assign(label=[mapping.get(label, label) for label in lesions["label"]])
    return replace(
        cohort,
        studies=tuple(replace(s, label=mapping.get(s.label, s.label)) for s in cohort.studies),
        classes=tuple(dict.fromkeys(mapping.get(c, c) for c in cohort.classes)),
        codes={mapping.get(c, c): code for c, code in cohort.codes.items()},
        lesions=lesions,
    )


def _codes(cohorts: Sequence[Cohort]) -> dict[str, str]:
    """SNOMED CT codes of all classes; classes that look like one, and codes that differ, are refused."""
    spelled: dict[str, str] = {}
    codes: dict[str, str] = {}
    for cohort in cohorts:
        for name in cohort.classes:
            if name == NO_LESION:
                raise UserError(f"{cohort.name} has a class called {NO_LESION}; rename it")
            same = canonical_class(name) or " ".join(name.lower().split())
            other = spelled.setdefault(same, name)
            if other != name:
                raise UserError(
                    f"the classes {other!r} and {name!r} look like one; say it with --class {name}={other}, "
                    "or rename one in its cohort.yaml and tables"
                )
            code = cohort.codes.get(name, "")
            if code and codes.setdefault(name, code) != code:
                raise UserError(
                    f"class {name!r} has the SNOMED CT codes {codes[name]} and {code}; correct one of them"
                )
    return codes


def _apart(
    cohorts: Sequence[Cohort], names: Sequence[str], what: str, findings: list[Finding]
) -> dict[tuple[int, str], str]:
    """A name for each cohort's ids or sites, by the cohort's index and the old name, in which all differ."""
    own = [list(dict.fromkeys(getattr(study, what) for study in cohort.studies)) for cohort in cohorts]
    count = Counter(value for values in own for value in values)
    new: dict[tuple[int, str], str] = {}
    taken = set(count)
    changed = []
    one = {v for v in count if count[v] > 1 and what == "patient_id" and is_pseudonym(v, "patient")}
    for index, values in enumerate(own):
        for value in values:
            if not value:
                new[index, value] = names[index]  # a cohort that names no site is a site
            elif count[value] == 1 or value in one:
                new[index, value] = value
            else:
                candidate = f"{names[index]}_{value}"
                while candidate in taken:
                    candidate += "_"
                taken.add(candidate)
                new[index, value] = candidate
                changed.append(candidate)
    if one:
        findings.append(
            import_finding(
                "patients-in-common",
                "note",
                f"{len(one)} patients are in more than one cohort under one pseudonym and stay one patient",
                "Nothing to do: no split divides their studies. study_day counts from the first study of each cohort.",
            )
        )
    if changed:
        repair = {
            "study_id": "Nothing to do; results carry the new names.",
            "patient_id": "If two are one person, write one patient_id for both into cohort.csv, so that "
            "no split divides them.",
            "site": "If two are one scanner, write one site for both into cohort.csv.",
        }
        findings.append(
            import_finding(
                "kept-apart",
                "note" if what != "patient_id" else "warning",
                f"{len(changed)} {what}s are in more than one cohort and now have its name in front: "
                f"{', '.join(changed[:6])}",
                repair[what],
            )
        )
    return new
