"""``audit.jsonl``: a line for every result that was written, by which an interrupted batch goes on.

A line tells which model made which result of which inputs, with which versions and when.  The instances' UIDs
identify the patient to whoever has the archive: they stand in a line only where DICOM files were written, which
name the patient anyway.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from mtinet import files, provenance
from mtinet.errors import BusyError

AUDIT_FILE = "audit.jsonl"
LOCK_FILE = ".lock"
AUDIT_FORMAT = 1
"""Version of a line; lines of a newer one are not taken into account."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold an output folder for the length of the block; made where there is none, and gone if nothing came into it.

    Audit, places and who is who are read before any work and written behind it: of two processes at once each would
    miss what the other writes meanwhile.  A folder that cannot be locked (some network shares have no locks) is
    worked in all the same; one that cannot be written to tells with the first file.

    Raises
    ------
    BusyError
        Another process holds it.
    """
    lock = folder / LOCK_FILE
    with files.leaving_none_empty(folder), ExitStack() as held:
        try:
            alone = held.enter_context(files.claimed(lock))
        except OSError:
            alone = True
        if not alone:
            raise BusyError(
                f"another mtinet predict or revise writes into {folder} at this moment; wait until it has ended, "
                "or give another folder with -o"
            )
        try:
            yield
        finally:
            # a lock on a file that is gone counts for nobody; Windows removes no open file, and it stays
            with suppress(OSError):
                lock.unlink()


class Audit:
    """The audit of an output folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / AUDIT_FILE
        self._last: dict[str, dict[str, Any]] = {}
        self._holder: dict[str, dict[str, Any]] = {}
        for line in _lines(self.path):
            if line.get("format") == AUDIT_FORMAT and isinstance(line.get("study_id"), str):
                self._remember(line)

    def _remember(self, line: dict[str, Any]) -> None:
        # a move does not undo that the study failed since
        if not ("moved" in line and self.last(line["study_id"]).get("outcome") == "failed"):
            self._last[line["study_id"]] = line
        if "folder" in line:
            if line.get("outcome") == "predicted":
                # a study has one predicted result: that of another folder was moved, or is out of date
                for folder, held in list(self._holder.items()):
                    if held["study_id"] == line["study_id"] and held.get("outcome") == "predicted":
                        del self._holder[folder]
            self._holder[str(line["folder"])] = line

    def last(self, study_id: str) -> Mapping[str, Any]:
        """The newest line about a study; empty without one."""
        return self._last.get(study_id, {})

    def holder(self, place: Path) -> Mapping[str, Any]:
        """The newest line about a result that was written into a folder; empty without one."""
        return self._holder.get(self._named(place), {})

    def results(self) -> list[tuple[Path, Mapping[str, Any]]]:
        """Every folder with a result, and the newest line about it."""
        parent = self.path.parent
        return [(parent / folder, line) for folder, line in self._holder.items()]

    def is_finished(
        self, study_id: str, decided_by: Mapping[str, Any], formats: Sequence[str], place: Path
    ) -> bool:
        """Whether a study's result is there, complete, from the same inputs, model and version."""
        line = self.last(study_id)
        return (
            line.get("outcome") == "predicted"
            and line.get("decided_by") == dict(decided_by)
            and set(formats) <= set(line.get("formats", ()))
            and self.holder(place) == line
            and all((place / name).is_file() for name in line.get("files", ()))
            and has_masks_of(place, line)
        )

    def add(self, study_id: str, outcome: str, place: Path | None = None, **facts: Any) -> None:
        """Append a line; it is on the disk when this returns.

        Parameters
        ----------
        study_id : str
        outcome : str
            ``predicted``, ``revised`` or ``failed``.
        place : Path or None
            Folder into which a result was written.
        **facts
            What else the line tells.

        Raises
        ------
        OSError
            It cannot be written.
        """
        line = {
            "format": AUDIT_FORMAT,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "study_id": study_id,
            "outcome": outcome,
            **({} if place is None else {"folder": self._named(place)}),
            **facts,
            "versions": {name: version for name, version in provenance.versions().items() if version},
        }
        self._append(line)

    def move(self, place: Path, target: Path) -> None:
        """Append the line of the result in a folder once more, as that of another folder where its files lie now.

        Raises
        ------
        OSError
            It cannot be written.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._append({**self.holder(place), "folder": self._named(target), "moved": now})

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(files.plain(line), ensure_ascii=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, end - 1))
            if stream.read(1) not in (b"", b"\n"):
                # a line that a full disk or a kill cut short stays alone
                stream.write(b"\n")
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        self._remember(line)

    def _named(self, place: Path) -> str:
        """A folder as lines name it: relative to the audit's, which may be moved with it."""
        return Path(os.path.relpath(place, self.path.parent)).as_posix()


def has_masks_of(place: Path, line: Mapping[str, Any]) -> bool:
    """Whether no mask in a folder is another one than a line tells of; the first audits have no hashes to tell by."""
    told = line.get("sha256", {}).items()
    return all(files.digest(place / name) == value for name, value in told if (place / name).is_file())


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found
