"""Fixed divisions that a data set comes with, as files that ``mtinet train --split`` takes."""

from __future__ import annotations

import re
from pathlib import Path

from mtinet import files
from mtinet.cohort import Cohort
from mtinet.data.folds import Split, refuse_shared_patients
from mtinet.errors import UserError
from mtinet.results import Finding
from mtinet.workflows.imports.screening import import_finding


def read_lines(path: Path) -> list[str]:
    """Lines of a list file.

    Raises
    ------
    UserError
        It cannot be read as text.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a list of ids ({error}); get it again") from None


def read_list(path: Path) -> list[str]:
    """Ids of a list file: the first word of each line (the lists of LLD-MMRI: ``MR123456 6``)."""
    return [line.split()[0] for line in read_lines(path) if line.strip()]


def digits(name: str) -> str:
    """What of an id counts in a list: LLD-MMRI writes ``MR-123456`` and ``MR123456`` for one patient."""
    return "".join(re.findall(r"\d+", name)) or name


def write_split(out: Path, name: str, cohort: Cohort, split: Split) -> Path:
    """Write ``splits/<name>.json``.

    Raises
    ------
    SplitError
        A patient is on both sides.
    """
    refuse_shared_patients(cohort, split.train, split.test)
    path = out / "splits" / f"{name}.json"
    files.write_json(path, split.to_dict())
    return path


def official_splits(lists: Path, cohort: Cohort, out: Path) -> list[Finding]:
    """Write the divisions of LLD-MMRI that its list files give.

    ``train_fold<k>.txt`` with ``val_fold<k>.txt`` give ``splits/fold_<k>.json``; ``labels.txt`` with
    ``labels_val_inaccessible.txt`` give ``splits/validation.json``; ``labels_trainval.txt`` gives
    ``splits/test.json``, whose test side is every other study of the cohort.  A division that cannot be made
    is a finding: the cohort stands without it.
    """
    named = {f"fold_{k}": (f"train_fold{k}.txt", f"val_fold{k}.txt") for k in range(1, 6)}
    named["validation"] = ("labels.txt", "labels_val_inaccessible.txt")
    named["test"] = ("labels_trainval.txt", "")
    named = {n: pair for n, pair in named.items() if all((lists / f).is_file() for f in pair if f)}
    folds = [name for name in named if name.startswith("fold_")]
    written: list[str] = []
    unknown: set[str] = set()
    findings: list[Finding] = []
    for name, (train_file, test_file) in named.items():
        try:
            members = _by_digits(cohort)
            train = _members(lists / train_file, members, unknown)
            if test_file:
                test = _members(lists / test_file, members, unknown)
            else:
                test = [s.study_id for s in cohort.studies if s.study_id not in set(train)]
            fold = folds.index(name) if name in folds else None
            count = len(folds) if name in folds else 1
            split = Split(tuple(train), tuple(test), fold, count, cohort.hash)
            written.append(write_split(out, name, cohort, split).name)
        except UserError as error:
            findings.append(
                import_finding(
                    "split-left-out",
                    "warning",
                    f"the division {name} is not written: {error}",
                    "Correct the lists and import again, or divide by --fold.",
                )
            )
    if written:
        findings.append(
            import_finding(
                "splits-written",
                "note",
                f"the data set's own divisions are in {', '.join(f'splits/{name}' for name in written)}",
                "Use one with mtinet train --split FILE.",
            )
        )
    if unknown:
        findings.append(
            import_finding(
                "split-without-study",
                "warning",
                f"the lists name {len(unknown)} patients that the cohort lacks: "
                f"{', '.join(sorted(unknown)[:10])}",
                "Figures on these divisions are not those of the complete data set.",
            )
        )
    return findings


def _by_digits(cohort: Cohort) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    patients: dict[str, str] = {}
    for study in cohort.studies:
        key = digits(study.patient_id)
        if patients.setdefault(key, study.patient_id) != study.patient_id:
            raise UserError(
                f"patients {patients[key]} and {study.patient_id} are the same to the lists, which differ in "
                "hyphens only; rename one"
            )
        members.setdefault(key, []).append(study.study_id)
    return members


def _members(path: Path, members: dict[str, list[str]], unknown: set[str]) -> list[str]:
    ids: list[str] = []
    for name in read_list(path):
        found = members.get(digits(name))
        if found is None:
            unknown.add(name)
        else:
            ids += [study_id for study_id in found if study_id not in ids]
    return ids
