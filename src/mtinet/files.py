"""Files that are never half written (a temporary name in the same folder, then a rename), and those of a folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

_BROKEN_OFF = re.compile(r"\.tmp-[0-9a-f]{8}")

_COMPUTED = re.compile(r"'*(?:[=@]|[+-](?![\d.,]*$))")
"""How a cell begins that a spreadsheet computes: names and ids come from outside, and a formula could send the table
away.  With an apostrophe before it, it is text there; numbers with a sign are none."""


def as_cell(text: str) -> str:
    """A text as a cell of a CSV that no spreadsheet computes: with an apostrophe before it where one would."""
    return f"'{text}" if _COMPUTED.match(text) else text


def from_cell(cell: str) -> str:
    """The reverse of :func:`as_cell`."""
    return cell[1:] if cell.startswith("'") and _COMPUTED.match(cell) else cell


def try_writing(folder: Path) -> None:
    """Make a file in a folder and remove it again, with the folders that were made for it.

    Raises
    ------
    OSError
        Nothing can be written there.
    """
    with leaving_none_empty(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def leaving_none_empty(folder: Path) -> Iterator[None]:
    """Remove behind the block a folder, and what it lies in, that the block made and left empty."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    finally:
        for place in made:
            with suppress(OSError):
                place.rmdir()


def walk(folder: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Every file in a folder and in all folders in it, in a stable order.

    Links to folders are followed, to each place once: not to what lies in ``folder`` itself, nor to what it lies in.

    Parameters
    ----------
    folder : Path
    on_error : callable, optional
        Called with what a folder that cannot be listed raises; None = such a folder is passed over.
    """
    root = folder.resolve()
    seen: set[Path] = set()

    def leads_on(path: Path) -> bool:
        place = path.resolve()
        round_about = place.is_relative_to(root) or root.is_relative_to(place)
        if place in seen or (path.is_symlink() and round_about):
            return False
        seen.add(place)
        return True

    for place, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        folders[:] = [name for name in sorted(folders) if leads_on(Path(place) / name)]
        for name in sorted(names):
            yield Path(place) / name


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process alone has a lock file for the length of the block.

    The lock is the system's: it goes with its owner, however that ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Wait until no other process has a lock file, and have it for the length of the block; it is removed behind it.

    Where nothing can be locked (some network shares have no locks) nobody waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    with suppress(OSError):
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            path.unlink()
        lock.release()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; it takes the place of ``path`` when the block ends well.

    The temporary name keeps the suffixes of ``path``, because image writers choose the format by them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` that becomes ``path`` when the block ends well.

    Where another process has put ``path`` there meanwhile, that one stays and ours is thrown away: both hold
    the same content by construction of their key.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}")
    temporary.mkdir()
    try:
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_files(folder: Path) -> Iterator[Path]:
    """Give a temporary folder in ``folder``; its files move into ``folder`` together when the block ends well.

    They move in the order of their names; other files of ``folder`` stay.  Moving needs no room on the disk: either
    all files were written whole, or ``folder`` is as before.
    """
    with leaving_none_empty(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".tmp-{uuid.uuid4().hex[:8]}"
        try:
            temporary.mkdir()
            yield temporary
            for path in sorted(temporary.iterdir()):
                os.replace(path, folder / path.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sweep(folder: Path) -> None:
    """Remove what :func:`atomic_files` left in a folder when it was killed, and nothing that only looks like it."""
    for path in folder.glob(".tmp-*"):
        if _BROKEN_OFF.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(readable(text), encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinity, which JSON lacks, become null."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def readable(text: str) -> str:
    """Text that UTF-8 can hold: what a file's name has beside it (a name of Latin-1) becomes an escape."""
    return text.encode(errors="backslashreplace").decode()


def plain(value: Any) -> Any:
    """``value`` in JSON's own types: NumPy scalars and arrays unpacked, paths as text, non-finite as None."""
    if isinstance(value, dict):
        return {readable(str(k)): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        value = str(value)
    return readable(value) if isinstance(value, str) else value
