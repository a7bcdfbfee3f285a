"""Where results lie: that of one study in the output folder itself, those of several in a folder a study."""

from __future__ import annotations

import os
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtinet import files
from mtinet.errors import UserError
from mtinet.results import Finding, Result
from mtinet.volume import VolumeError, read_nifti
from mtinet.workflows.predictions.audit import AUDIT_FILE, Audit
from mtinet.workflows.predictions.formats import TABLE_FILE, TABLE_HEAD
from mtinet.workflows.predictions.sources import Source
from mtinet.workflows.predictions.stored import read_result
from mtinet.workflows.predictions.who import other_key
from mtinet.workflows.predictions.writing import DRAWN, pending


@dataclass(frozen=True)
class Places:
    """Where the results of a source go.

    Attributes
    ----------
    by_study : mapping of str to Path
    in_folders : bool
        Each study has a folder.
    moved : Moved or None
        A result of before that is in the way of this.
    """

    by_study: Mapping[str, Path]
    in_folders: bool
    moved: Moved | None = None

    @classmethod
    def of(cls, out: Path, opened: Source, audit: Audit, names: Set[str]) -> Places:
        """The places of a source's studies, for files of these names; nothing is written or moved yet.

        An output folder with a folder a study keeps them when a single study is predicted into it: the same
        study would otherwise lie there twice.

        Raises
        ------
        UserError
            A result would be mixed with something else.
        """
        in_folders = opened.several or _has_folders(out, audit)
        table = out / TABLE_FILE
        if in_folders and table.exists() and not _is_table_of(table, audit):
            raise UserError(
                f"{table} is no table of the studies in this folder, and would be overwritten; move it away, or give "
                "another folder with -o"
            )
        by_study = {job.study_id: out / job.study_id if in_folders else out for job in opened.jobs}
        for job in opened.jobs:
            refuse_place(by_study[job.study_id], job.study_id, job.folders, audit, names)
        return cls(by_study, in_folders, Moved.from_itself(out, audit) if in_folders else None)


@dataclass(frozen=True)
class Moved:
    """A result in the output folder itself, which gets a folder of its own because other studies join it."""

    study_id: str
    out: Path
    names: tuple[str, ...]

    @classmethod
    def from_itself(cls, out: Path, audit: Audit) -> Moved | None:
        """The result that lies in ``out`` itself; None without one.

        Raises
        ------
        UserError
            It is not known which files belong to it, they were corrected, or the folder for them is taken.
        """
        line = audit.holder(out)
        repair = "move it away, or give another folder with -o"
        if not line:
            held = _result(out)
            if held is not None:
                raise UserError(
                    f"{out} itself holds a result of study {held.study_id} that its audit.jsonl does not list there, "
                    f"or lists as an older one, and the studies now get a folder each; {repair}"
                )
            return None
        study_id = str(line["study_id"])
        if line.get("outcome") == "revised":
            raise UserError(
                f"{out} itself holds a result of study {study_id} that a reader corrected, and the studies now get a "
                f"folder each; {repair}"
            )
        names = _names(line)
        there = {name for name in names if (out / name).is_file()}
        target = out / study_id
        taken = {path.name for path in target.iterdir()} if target.is_dir() else set()
        # a move that was broken off has left some files here and some there
        if (taken - names) or (taken & there):
            raise UserError(
                f"the studies now get a folder each, and the result of study {study_id} in {out} itself cannot go into "
                f"{target}, which holds other files; {repair}"
            )
        # of a result that was deleted nothing is left; a lone table may be that of all studies
        gone = not taken and (not there or (there == {TABLE_FILE} and names != there))
        return None if gone else cls(study_id, out, tuple(sorted(there)))

    def do(self, audit: Audit) -> Finding:
        """Move the files, and say so; when it is broken off, it can be done again.

        Raises
        ------
        OSError
            The disk.
        """
        target = self.out / self.study_id
        target.mkdir(exist_ok=True)
        for name in self.names:
            os.replace(self.out / name, target / name)
        audit.move(self.out, target)
        return Finding(
            "result-moved",
            "predict",
            "note",
            f"its result lay in {self.out} itself, where now each study has a folder, and was moved into its own",
            "Nothing to do, unless other programs look for it at the old place.",
            self.study_id,
        )


def refuse_place(
    place: Path, study_id: str, folders: Set[Path], audit: Audit, names: Set[str], *, corrected: bool = False
) -> None:
    """Refuse a folder in which a study's result would be mixed with something else, or replace it.

    Parameters
    ----------
    place : Path
        Where the result goes.
    study_id : str
    folders : set of Path
        Where the study's own files lie.
    audit : Audit
        Of the folder that holds the results; that of the place itself and of the folder around it are asked too.
    names : set of str
        Of the files that may be written.
    corrected : bool
        The result is of a mask that a reader corrected, and may replace another one of that kind alone.

    Raises
    ------
    UserError
        The study's own files lie there (a mask would replace the reader's), a result of another study, or a file of
        these names that mtinet did not write; for a prediction a result that a reader corrected, for a correction any
        other, and results in folders.
    """
    if place.resolve() in folders:
        raise UserError(
            f"{place} holds the images of study {study_id}, and a result beside them would be taken for a "
            "reader's mask or replace it; give another folder with -o"
        )
    refuse_other_study(place, study_id, audit)
    result, lines = _result(place), _lines(place, audit)
    kinds = {line.get("outcome") == "revised" for line in lines}
    if result is not None:
        kinds.add(result.outlined_by_reader)
    if not corrected and True in kinds:
        raise UserError(
            f"{place} holds a result of study {study_id} that a reader corrected; move it away, or give another folder "
            "with -o"
        )
    if corrected and False in kinds:
        raise UserError(
            f"{place} holds a result of study {study_id} that mtinet predict wrote, and a corrected one in its place "
            "would be taken for the model's; give another folder with -o"
        )
    if corrected and _has_folders(place, audit):
        raise UserError(
            f"{place} holds results with a folder each, among which a corrected one would be in the way of the next "
            "prediction and replace the table of all; give another folder with -o"
        )
    known = {name for line in _written(place, study_id, audit) for name in _names(line)}
    foreign = sorted(
        name
        for name in names - known
        if (place / name).exists() and not (name == TABLE_FILE and _is_table_of(place / name, audit))
    )
    if foreign:
        raise UserError(
            f"{place} holds {', '.join(foreign)}, which {AUDIT_FILE} does not list as written by mtinet and which "
            "would be overwritten; move what is there away, or give another folder with -o"
        )


def refuse_other_study(place: Path, study_id: str, audit: Audit) -> None:
    """Refuse a folder that holds the result of another study, by its ``result.json`` or by an audit.

    Raises
    ------
    UserError
    """
    result = _result(place)
    held = [
        *(str(line["study_id"]) for line in _lines(place, audit)),
        *([] if result is None else [result.study_id]),
    ]
    other = next((name for name in held if name != study_id), "")
    if other:
        raise UserError(
            f"{place} holds the result of study {other}, and this is study {study_id}; give another folder"
            f"{other_key(other, study_id)}"
        )


def refuse_edited(place: Path, study_id: str, audit: Audit, edited: Path | None = None) -> None:
    """Refuse to write over a mask that somebody has corrected where mtinet wrote it, or to take it for the model's.

    Parameters
    ----------
    place : Path
        Where a result goes, or lies.
    study_id : str
    audit : Audit
    edited : Path, optional
        The correction that is being read, and so is not lost.

    Raises
    ------
    UserError
    """
    lines = _written(place, study_id, audit)
    for path in (place / name for name in DRAWN):
        told = [line.get("sha256", {}).get(path.name) for line in lines if path.name in _names(line)]
        # the first audits have no hashes, and then nothing can be compared
        known = bool(told) and None not in told
        if not known or not path.is_file() or (edited is not None and edited.resolve() == path.resolve()):
            continue
        if files.digest(path) not in told and _is_readable(path):
            raise UserError(
                f"{path} was edited since mtinet wrote it, and would be overwritten or taken for the model's; read it "
                "with mtinet revise into another folder, and then move it away from here"
            )


def _is_readable(mask: Path) -> bool:
    """Whether a mask is whole: a disk may have damaged it."""
    try:
        read_nifti(mask)
    except VolumeError:
        return False
    return True


def _lines(place: Path, audit: Audit) -> list[Mapping[str, Any]]:
    """What audits say about a result that lies in a folder: the given one, the folder's own and that of a batch."""
    here = place.resolve()
    known = audit.path.parent.resolve()
    others = [folder for folder in (here, here.parent) if folder.resolve() != known]
    found = [audit.holder(place), *(Audit(folder).holder(here) for folder in others)]
    return [line for line in found if line and _lies_there(place, line)]


def _written(place: Path, study_id: str, audit: Audit) -> list[Mapping[str, Any]]:
    """All that tells which files in a folder mtinet wrote, of a study that goes there."""
    # a move into the place may have been broken off, and the first audits named no folder
    itself, last = audit.holder(audit.path.parent), audit.last(study_id)
    moved = [itself] if itself.get("study_id") == study_id else []
    unplaced = [last] if "folder" not in last else []
    return [*_lines(place, audit), *moved, *unplaced, pending(place)]


def _has_folders(out: Path, audit: Audit) -> bool:
    """Whether studies have a folder each in an output folder."""
    return any(place != out and _lies_there(place, line) for place, line in audit.results())


def _lies_there(place: Path, line: Mapping[str, Any]) -> bool:
    """Whether something of a result lies where its line in the audit says."""
    return any((place / name).is_file() for name in _names(line))


def _is_table_of(table: Path, audit: Audit) -> bool:
    """Whether a file is a table that was made here: that of all studies stands in no line of an audit."""
    try:
        with table.open(encoding="utf-8") as lines:
            ours = lines.readline().rstrip("\n") == ",".join(TABLE_HEAD)
    except (OSError, UnicodeDecodeError):
        ours = False
    return ours and audit.path.is_file()


def _names(line: Mapping[str, Any]) -> set[str]:
    """Files of a result by its line in the audit."""
    listed = line.get("files", ())
    return {Path(str(name)).name for name in listed} if isinstance(listed, (list, tuple)) else set()


def _result(place: Path) -> Result | None:
    """The result in a folder, whatever audits say; None where there is none that can be read."""
    try:
        return read_result(place)
    except UserError:
        return None
